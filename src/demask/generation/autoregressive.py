"""Ask a causal language model: greedy or sampled, in batches of like length, until the end of turn.

    texts = generate_texts(loaded, prompts, max_new_tokens=128, batch_size=40)

Greedy decoding is deterministic: the same weights and prompts give the same words. With `Sampling` tokens
are drawn, each prompt with a generator of its own. A row that has ended leaves its batch, and what prompts
begin with together is read once, as questions that come with the same document do. B rows, T positions, V
vocabulary.
"""

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from demask.generation.texts import Generated, align_prompts, draw_tokens, finish_text, stop_ids
from demask.models.load import LoadedModel

if TYPE_CHECKING:
    from transformers import Cache, GenerationConfig


# Prompts that begin alike, so that what they share is read once


class Group(NamedTuple):
    """Prompts by number, and how many tokens they all begin with; less than any of them has."""

    shared: int
    members: tuple[int, ...]


def group_prompts(prompts: Sequence[Sequence[int]], *, least: int, most: int) -> list[Group]:
    """Put each prompt into one group.

    A prompt joins the group before it (in the order of their ids) when that leaves more than half of what
    the group shared.

    Args:
        prompts: token ids, none of them empty.
        least: shared tokens from which on a group is worth its while.
        most: prompts in a group.
    """
    order = sorted(range(len(prompts)), key=lambda index: tuple(prompts[index]))
    groups: list[Group] = []
    for index in order:
        if groups and len(groups[-1].members) < most:
            shared, members = groups[-1]
            common = _count_common(prompts[members[0]], prompts[index], shared)
            if common >= least and (len(members) == 1 or 2 * common > shared):
                groups[-1] = Group(common, (*members, index))
                continue
        groups.append(Group(len(prompts[index]) - 1, (index,)))
    return groups


def _count_common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    limit = min(most, len(other) - 1)
    return next((place for place in range(limit) if one[place] != other[place]), limit)


def fill_batches(
    groups: Sequence[Group], prompts: Sequence[Sequence[int]], *, size: int
) -> list[list[Group]]:
    """Whole groups, the longest prompts first, at most `size` prompts together."""
    batches: list[list[Group]] = []
    room = 0
    for group in sorted(groups, key=lambda group: -max(len(prompts[member]) for member in group.members)):
        if len(group.members) > room:
            batches.append([])
            room = size
        batches[-1].append(group)
        room -= len(group.members)
    return batches


# Decoding


@dataclass(frozen=True)
class Sampling:
    """Draw tokens in place of taking the likeliest.

    Attributes:
        temperature: above 0; at 1 the model's own probabilities, of which nothing is cut off.
        seed: of the draws.
    """

    temperature: float
    seed: int


# Tokens that prompts must share for reading them once to be worth a pass of its own.
_SHARED_TOKENS = 16


def generate_texts(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    sampling: Sampling | None = None,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Generated]:
    """Continue every prompt, in the order given.

    Args:
        loaded: the model with its tokenizer.
        prompts: token ids, the template's own tokens included.
        max_new_tokens: after which a text is cut short.
        batch_size: prompts decoded together, longest first, so that memory runs out at once or never.
        sampling: None: greedy.
        on_done: told how many prompts a finished batch had.
    """
    decode = _choose_decoder(loaded, many=len(prompts) > batch_size and sampling is None)
    size = len(prompts) if decode is _generate_continuously else batch_size
    groups = group_prompts(prompts, least=_SHARED_TOKENS, most=size)
    done: dict[int, Generated] = {}
    for batch in fill_batches(groups, prompts, size=size):
        begun = time.monotonic()
        rows = decode(loaded, prompts, batch, max_new_tokens, sampling)
        share = (time.monotonic() - begun) / len(rows)
        done |= {index: finish_text(loaded, ids, share) for index, ids in rows.items()}
        on_done(len(rows))
    return [done[index] for index in range(len(prompts))]


# From the model, all prompts, and those of one batch to new ids by number of prompt; what follows the
# end of turn may be among them.
_Decoder = Callable[
    [LoadedModel, Sequence[Sequence[int]], Sequence[Group], int, Sampling | None], Mapping[int, list[int]]
]


def _choose_decoder(loaded: LoadedModel, *, many: bool) -> _Decoder:
    """Ours where the model keeps keys and values alone; else transformers', which knows every cache.

    On a GPU, more prompts than fit a batch go through its continuous batching.
    """
    if not _keeps_keys(loaded):
        return _generate
    return _generate_continuously if many and loaded.device.type == "cuda" else _decode


def _keeps_keys(loaded: LoadedModel) -> bool:
    """Whether what a model remembers of a text are keys and values, a column for each token."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    network = _network(loaded)
    layers = DynamicCache(config=network.config).layers
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    known = inspect.signature(network.forward).parameters.keys()
    return plain and known >= {"position_ids", "past_key_values", "logits_to_keep"}


def can_forget(loaded: LoadedModel) -> bool:
    """Whether tokens that a model has read can be taken back, see `Rows.forget`."""
    return _keeps_keys(loaded) and not _has_window(_network(loaded))


def _network(loaded: LoadedModel) -> Any:
    """The model itself; adapters stay inside it."""
    model: Any = loaded.model
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@dataclass
class Rows:
    """What has been read of each row; the columns of all rows end together, and some are padding."""

    cache: "Cache"
    seen_BT: Tensor  # noqa: N815 (axes as a suffix); int64; 0 where a column of the cache is padding
    logits_BV: Tensor  # noqa: N815 (the same); of the token that comes next

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may stand there several times."""
        self.cache.batch_select_indices(rows)
        self.seen_BT, self.logits_BV = self.seen_BT[rows], self.logits_BV[rows]

    def forget(self, row: int, *, keep: int) -> None:
        """Take back what a row has read after its first tokens; its columns are padding then."""
        self.seen_BT[row, self.seen_BT[row].nonzero()[keep:, 0]] = 0

    def drop_columns(self, *, more_than: int) -> None:
        """Move what was read to the right, where so many columns are padding in every row."""
        longest = int(self.seen_BT.sum(dim=1).max())
        if self.seen_BT.shape[1] - longest <= more_than:
            return
        places_BT = self.seen_BT.argsort(dim=1, stable=True)[:, -longest:]
        self.seen_BT = self.seen_BT.gather(1, places_BT)

        def move(kept_BHTD: Tensor) -> Tensor:
            shape = (-1, kept_BHTD.shape[1], -1, kept_BHTD.shape[3])
            return kept_BHTD.gather(2, places_BT[:, None, :, None].expand(shape))

        for layer in _layers(self.cache):
            layer.keys, layer.values = move(layer.keys), move(layer.values)

    def put_below(self, other: "Rows") -> None:
        """Add rows that the same model has read elsewhere, which are given up."""
        width = max(self.seen_BT.shape[1], other.seen_BT.shape[1])

        def join(mine: Tensor, theirs: Tensor, after: tuple[int, ...]) -> Tensor:
            dim = -1 - len(after) // 2
            padded = (
                torch.nn.functional.pad(one, (*after, width - one.shape[dim], 0)) for one in (mine, theirs)
            )
            return torch.cat(list(padded))

        self.seen_BT = join(self.seen_BT, other.seen_BT, ())
        self.logits_BV = torch.cat([self.logits_BV, other.logits_BV])
        for layer, added in zip(_layers(self.cache), _layers(other.cache), strict=True):
            layer.keys = join(layer.keys, added.keys, (0, 0))
            layer.values = join(layer.values, added.values, (0, 0))

    def read_next(self, loaded: LoadedModel, ids: Sequence[int]) -> None:
        """Read one more token of each row."""
        ids_B1 = torch.tensor(ids, device=loaded.device)[:, None]
        self.read(_network(loaded), ids_B1, torch.ones_like(ids_B1))

    def read(self, network: Any, ids_BT: Tensor, real_BT: Tensor) -> None:
        """Read some more tokens of each row."""
        before_B1 = self.seen_BT.sum(dim=1, keepdim=True)
        self.seen_BT = torch.cat([self.seen_BT, real_BT], dim=1)
        self.logits_BV = network(
            input_ids=ids_BT,
            attention_mask=self.seen_BT,
            position_ids=(before_B1 + real_BT.cumsum(dim=1) - 1).clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]


def _layers(cache: "Cache") -> list[Any]:
    """Those of a `DynamicCache`, each with its keys and values."""
    return cast("list[Any]", cache.layers)


@torch.inference_mode()
def _decode(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    batch: Sequence[Group],
    max_new_tokens: int,
    sampling: Sampling | None,
) -> dict[int, list[int]]:
    """Read the prompts, then take a token of every row that has not ended, again and again."""
    network, stops = _network(loaded), torch.tensor(stop_ids(loaded), device=loaded.device)
    rows = _read_prompts(loaded, network, prompts, batch)
    numbers = [member for group in batch for member in group.members]
    said: dict[int, list[int]] = {number: [] for number in numbers}
    generators = _make_generators(loaded, numbers, sampling)
    for last in [False] * (max_new_tokens - 1) + [True]:
        tokens_B = _choose_tokens(rows.logits_BV, sampling, [generators.get(number) for number in numbers])
        for number, token in zip(numbers, tokens_B.tolist(), strict=True):
            said[number].append(token)
        going = torch.isin(tokens_B, stops, invert=True)
        if not bool(going.all()):
            kept = going.nonzero()[:, 0]
            numbers = [numbers[row] for row in kept.tolist()]
            rows.select(kept)
            tokens_B = tokens_B[kept]
        if last or not numbers:
            break
        rows.read(network, tokens_B[:, None], torch.ones_like(tokens_B)[:, None])
    return said


def _make_generators(
    loaded: LoadedModel, numbers: Sequence[int], sampling: Sampling | None
) -> dict[int, torch.Generator]:
    """One for each prompt, so that what is drawn does not depend on the others; none for greedy decoding."""
    if sampling is None:
        return {}
    return {
        number: torch.Generator(loaded.device).manual_seed(sampling.seed * 1_000_003 + number)
        for number in numbers
    }


def _choose_tokens(
    logits_BV: Tensor, sampling: Sampling | None, generators: Sequence[torch.Generator | None]
) -> Tensor:
    """The next token of every row."""
    if sampling is None:
        return logits_BV.float().argmax(dim=-1)
    drawn = [
        draw_tokens(row_V[None], sampling.temperature, generator)
        for row_V, generator in zip(logits_BV, generators, strict=True)
        if generator is not None
    ]
    return torch.cat(drawn)


def _read_prompts(
    loaded: LoadedModel, network: Any, prompts: Sequence[Sequence[int]], batch: Sequence[Group]
) -> Rows:
    """What the members of a group share is read in one row, which they then go on from."""
    from transformers import DynamicCache

    # Without the configuration, layers with a window keep all positions too, and attend to the window.
    cache, device = DynamicCache(), loaded.device
    alone = all(len(group.members) == 1 for group in batch) or _has_window(network)
    members = [member for group in batch for member in group.members]
    parts = [prompts[member] for member in members]
    count = len(parts) if alone else len(batch)
    nothing = torch.ones(count, 0, dtype=torch.int64, device=device)
    rows = Rows(cache, nothing, nothing)
    if not alone:
        rows.read(
            network, *align_prompts([prompts[group.members[0]][: group.shared] for group in batch], loaded)
        )
        copies = [row for row, group in enumerate(batch) for _ in group.members]
        rows.select(torch.tensor(copies, device=device))
        parts = [prompts[member][group.shared :] for group in batch for member in group.members]
    rows.read(network, *align_prompts(parts, loaded))
    return rows


def read_prompts(loaded: LoadedModel, prompts: Sequence[Sequence[int]]) -> tuple[list[int], Rows]:
    """The numbers of the prompts in the order of the rows, and what was read of them."""
    groups = group_prompts(prompts, least=_SHARED_TOKENS, most=len(prompts))
    numbers = [member for group in groups for member in group.members]
    return numbers, _read_prompts(loaded, _network(loaded), prompts, groups)


def _has_window(network: Any) -> bool:
    """Whether it counts columns to see how far back a token may look: then no padding may lie between."""
    return getattr(network.config.get_text_config(), "sliding_window", None) is not None


@torch.inference_mode()
def _generate(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    batch: Sequence[Group],
    max_new_tokens: int,
    sampling: Sampling | None,
) -> dict[int, list[int]]:
    """By `generate` of transformers."""
    members = [member for group in batch for member in group.members]
    ids, real = align_prompts([prompts[member] for member in members], loaded)
    model: Any = loaded.model
    with without_habits(model), torch.random.fork_rng(enabled=sampling is not None):
        if sampling is not None:
            torch.manual_seed(sampling.seed * 1_000_003 + members[0])
        out = model.generate(
            input_ids=ids, attention_mask=real, generation_config=_settings(loaded, max_new_tokens, sampling)
        )
    return {member: list(map(int, row)) for member, row in zip(members, out[:, ids.shape[1] :], strict=True)}


def _generate_continuously(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    batch: Sequence[Group],
    max_new_tokens: int,
    sampling: Sampling | None,
) -> dict[int, list[int]]:
    """By continuous batching of transformers: a new prompt takes the place of one that has ended; greedy."""
    members = [member for group in batch for member in group.members]
    with without_habits(loaded.model):
        out = _network(loaded).generate_batch(
            [list(prompts[member]) for member in members],
            generation_config=_settings(loaded, max_new_tokens, sampling),
        )
    # Requests are called req_0, req_1 ... as they come in.
    return {
        members[int(name.rpartition("_")[2])]: list(found.generated_tokens) for name, found in out.items()
    }


class Streamer:
    """What `generate` hands its tokens to, one after another: tells the new characters of the text.

    Attributes:
        ids: the tokens so far.
    """

    def __init__(self, loaded: LoadedModel, on_text: Callable[[str], None]) -> None:
        """For one reply of a model; `on_text` is told each new piece."""
        self.ids: list[int] = []
        self._loaded, self._on_text, self._told, self._prompt = loaded, on_text, "", True

    def put(self, ids: Tensor) -> None:
        """The prompt first, then each token."""
        if self._prompt:
            self._prompt = False
            return
        self.ids += ids.flatten().tolist()
        text = str(self._loaded.tokenizer.decode(self.ids, skip_special_tokens=True)).lstrip()
        # A character of several tokens is not whole before its last one; white space may be the end's.
        self._tell(text.rstrip().removesuffix("\ufffd"))

    def end(self) -> None:
        """Nothing more comes."""
        self._tell(finish_text(self._loaded, self.ids, 0.0).text)

    def _tell(self, text: str) -> None:
        if len(text) > len(self._told) and text.startswith(self._told):
            self._on_text(text[len(self._told) :])
            self._told = text


@torch.inference_mode()
def stream_text(
    loaded: LoadedModel, prompt: Sequence[int], *, max_new_tokens: int, on_text: Callable[[str], None]
) -> Generated:
    """Continue one prompt, greedily, and tell of the text while it is written.

    Args:
        loaded: the model with its tokenizer.
        prompt: token ids, the template's own tokens included.
        max_new_tokens: after which the text is cut short.
        on_text: told each new piece; together they are the text.
    """
    began, streamer = time.monotonic(), Streamer(loaded, on_text)
    ids, real = align_prompts([prompt], loaded)
    model: Any = loaded.model
    with without_habits(model):
        model.generate(
            input_ids=ids,
            attention_mask=real,
            generation_config=_settings(loaded, max_new_tokens),
            streamer=streamer,
        )
    return finish_text(loaded, streamer.ids, time.monotonic() - began)


def _settings(
    loaded: LoadedModel, max_new_tokens: int, sampling: Sampling | None = None
) -> "GenerationConfig":
    from transformers import GenerationConfig

    drawn = {} if sampling is None else {"temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
    return GenerationConfig(
        do_sample=sampling is not None,
        **drawn,
        max_new_tokens=max_new_tokens,
        eos_token_id=stop_ids(loaded),
        pad_token_id=loaded.pad_id,
    )


@contextmanager
def without_habits(model: torch.nn.Module) -> Iterator[None]:
    """Put the checkpoint's own decoding settings aside.

    `generate` fills what its settings leave open from them, and they may punish the repetition of
    facts (Qwen2.5: `repetition_penalty`). An adapter's model has them inside.
    """
    from transformers import GenerationConfig

    parts: list[Any] = [part for part in model.modules() if "generation_config" in vars(part)]
    habits = [part.generation_config for part in parts]
    for part in parts:
        part.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for part, own in zip(parts, habits, strict=True):
            part.generation_config = own
