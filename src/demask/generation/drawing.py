"""Draw texts that go on from each other, so many side by side that the batch is always full.

    def talk():                                       # a script: it asks for texts, one after another
        question = yield Wanted(begun, tokens=40, temperature=0.8)
        answer = yield Wanted(prompt_of(question.text), tokens=40, targets=True)
        talks.append(answer)

    draw_scripts(loaded, [talk() for _ in range(1000)], seed=0, rows=128, on_drawn=progress.advance)

What a script asks for mostly begins as what it has read, so only the rest is read: keys and values of what
both share stay. A row that is done makes place for the next script. Each script has a generator of its own,
and a token takes one number of it.

B rows, T positions, V vocabulary, C chunks of it, W tokens in a chunk, K targets.
"""

import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from demask.generation.autoregressive import (
    Rows,
    Sampling,
    can_forget,
    generate_texts,
    read_prompts,
)
from demask.generation.conversations import TOP_K, Conversation, add_targets, top_targets
from demask.generation.texts import Generated, finish_text, stop_ids
from demask.losses.kl_to_base import TopTargets
from demask.models.load import LoadedModel

# Tokens whose probabilities are added up together, so that a drawn number is looked up in two short lists.
_CHUNK = 128
# A share of the rows that must be free before others take their place, as all rows are copied then.
_FREE = 0.125
# Columns that no row has any more before they are dropped, likewise.
_EMPTY_COLUMNS = 32


@dataclass(frozen=True)
class Wanted:
    """A text to draw.

    Attributes:
        prompt: token ids that it goes on from.
        tokens: after which it is cut short.
        temperature: at 1 the model's own probabilities.
        targets: also keep the model's likeliest tokens at every place.
    """

    prompt: tuple[int, ...]
    tokens: int
    temperature: float = 1.0
    targets: bool = False


class Drawn(NamedTuple):
    """A text that was drawn.

    Attributes:
        said: the text.
        targets: at each of its tokens, where they were wanted.
    """

    said: Generated
    targets: TopTargets | None


# Gives back nothing: what it made it has put where it belongs.
Script: TypeAlias = Generator[Wanted, Drawn, None]


def draw_scripts(
    loaded: LoadedModel,
    scripts: Iterable[Script],
    *,
    seed: int,
    rows: int,
    on_drawn: Callable[[int], None] = lambda count: None,
) -> None:
    """Run scripts to their ends, or to where a text does not fit into the model's context.

    Args:
        loaded: the model; not a masked-diffusion one.
        scripts: begun in this order.
        seed: of the draws.
        rows: texts that are drawn side by side.
        on_drawn: told of tokens as they are drawn, and of those that a text did not need.
    """
    scripts = (_while_it_fits(script, loaded.context) for script in scripts)
    if not can_forget(loaded):
        _draw_in_rounds(loaded, list(scripts), seed, rows, on_drawn)
        return
    batch = _Batch(loaded, rows)
    begun = (
        _Row(script, wanted, random.Random(f"{seed} {number}"))
        for number, script in enumerate(scripts)
        if (wanted := next(script, None)) is not None
    )
    while batch.admit(list(islice(begun, batch.free))):
        while not batch.has_room:
            on_drawn(batch.step())


def expect_rows(lengths: Iterable[int], *, rows: int) -> Iterator[int]:
    """How many rows each step of `draw_scripts` has, those among them that are done and not yet replaced.

    Args:
        lengths: of the scripts in their order, in tokens that are drawn or read on the way.
        rows: texts that are drawn side by side.
    """
    waiting, left = deque(lengths), list[int]()
    while True:
        left = [tokens for tokens in left if tokens > 0]
        left += [waiting.popleft() for _ in range(min(rows - len(left), len(waiting)))]
        if not left:
            return
        while sum(tokens <= 0 for tokens in left) < _least_free(len(left)):
            yield len(left)
            left = [tokens - 1 for tokens in left]


def _least_free(rows: int) -> int:
    """Of so many rows that must be done before others are let in."""
    return max(1, round(_FREE * rows))


def _while_it_fits(script: Script, context: int) -> Script:
    wanted = next(script, None)
    while wanted is not None and len(wanted.prompt) + wanted.tokens <= context:
        wanted = _send(script, (yield wanted))


def draw_by_inversion(logits_BV: Tensor, temperatures_B: Tensor, uniforms_B: Tensor) -> Tensor:
    """One token of each row: the first whose cumulative probability is above a number in [0, 1).

    Args:
        logits_BV: of the next token.
        temperatures_B: float32, above 0.
        uniforms_B: float64, as sums are, so that the tail of rare tokens is drawn, too.
    """
    scaled_BV = logits_BV.float() / temperatures_B[:, None]
    weights_BV = (scaled_BV - scaled_BV.amax(dim=1, keepdim=True)).exp_()
    missing = -weights_BV.shape[1] % _CHUNK
    weights_BCW = torch.nn.functional.pad(weights_BV, (0, missing)).unflatten(1, (-1, _CHUNK))
    upto_BC = weights_BCW.sum(dim=2, dtype=torch.float64).cumsum(dim=1)
    aim_B1 = uniforms_B[:, None] * upto_BC[:, -1:]
    chunk_B1 = torch.searchsorted(upto_BC, aim_B1, right=True).clamp(max=upto_BC.shape[1] - 1)
    before_B1 = torch.nn.functional.pad(upto_BC, (1, 0)).gather(1, chunk_B1)
    inside_BW = (
        weights_BCW.gather(1, chunk_B1[:, :, None].expand(-1, -1, _CHUNK))[:, 0].double().cumsum(dim=1)
    )
    # Sums in another order may end a little lower; a token without weight is never drawn.
    rest_B1 = torch.minimum(aim_B1 - before_B1, inside_BW[:, -1:].nextafter(torch.zeros_like(aim_B1)))
    return (chunk_B1 * _CHUNK + torch.searchsorted(inside_BW, rest_B1, right=True))[:, 0]


@dataclass
class _Row:
    """A script at work.

    Attributes:
        read: tokens that the model has read.
        pending: those that it reads next, before anything is drawn.
        drawn: of what is wanted.
        kept: targets of each.
    """

    script: Script
    wanted: Wanted
    rng: random.Random
    read: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    drawn: list[int] = field(default_factory=list)
    kept: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)


class _Batch:
    """Rows side by side, of which some may be done."""

    def __init__(self, loaded: LoadedModel, size: int) -> None:
        self._loaded, self._size = loaded, size
        self._stops = frozenset(stop_ids(loaded))
        self._rows: list[_Row | None] = []
        self._read: Rows | None = None

    @property
    def free(self) -> int:
        """Rows that others can take."""
        return self._size - len(self._at_work())

    @property
    def has_room(self) -> bool:
        """Whether so many rows are done that it is worth while to let others in."""
        done = len(self._rows) - len(self._at_work())
        return done >= _least_free(len(self._rows))

    @torch.inference_mode()
    def admit(self, rows: Sequence[_Row]) -> bool:
        """Let go of rows that are done and begin others; False where nothing is left to do."""
        going = self._at_work()
        if self._read is not None and going:
            self._read.select(torch.tensor(going, device=self._loaded.device))
            self._read.drop_columns(more_than=_EMPTY_COLUMNS)
        self._rows = [self._rows[place] for place in going]
        if rows:
            numbers, read = read_prompts(self._loaded, [row.wanted.prompt for row in rows])
            for row in (rows[number] for number in numbers):
                row.read = list(row.wanted.prompt)
                self._rows.append(row)
            if going and self._read is not None:
                self._read.put_below(read)
            else:
                self._read = read
        return bool(self._rows)

    @torch.inference_mode()
    def step(self) -> int:
        """A token of every row; how many were drawn, with those that a text did not need."""
        assert self._read is not None
        drawing = [place for place in self._at_work() if not self._row(place).pending]
        counted = 0
        if drawing:
            counted = sum(
                self._take(place, token, targets)
                for place, token, targets in zip(drawing, *self._draw(drawing), strict=True)
            )
        if not self._at_work():
            return counted
        self._read.read_next(self._loaded, [_next_of(row) for row in self._rows])
        return counted

    def _at_work(self) -> list[int]:
        return [place for place, row in enumerate(self._rows) if row is not None]

    def _row(self, place: int) -> _Row:
        row = self._rows[place]
        assert row is not None
        return row

    def _draw(self, places: Sequence[int]) -> tuple[list[int], list[tuple[Tensor, Tensor, Tensor] | None]]:
        """The next token of some rows, and their targets where they are wanted."""
        assert self._read is not None
        rows, device = [self._row(place) for place in places], self._loaded.device
        logits_BV = self._read.logits_BV[torch.tensor(places, device=device)]
        temperatures_B = torch.tensor([row.wanted.temperature for row in rows], device=device)
        uniforms_B = torch.tensor([row.rng.random() for row in rows], dtype=torch.float64, device=device)
        tokens_B = draw_by_inversion(logits_BV, temperatures_B, uniforms_B)
        kept: list[tuple[Tensor, Tensor, Tensor] | None] = [None] * len(rows)
        wanting = [number for number, row in enumerate(rows) if row.wanted.targets]
        if wanting:
            chosen = torch.tensor(wanting, device=device)
            logits_NV, tokens_N = logits_BV[chosen].float(), tokens_B[chosen]
            sums_N1 = logits_NV.logsumexp(dim=1, keepdim=True)
            top = logits_NV.topk(min(TOP_K, logits_NV.shape[1]), dim=1)
            drawn_N = (logits_NV.gather(1, tokens_N[:, None]) - sums_N1)[:, 0]
            parts = (top.indices.int().cpu(), (top.values - sums_N1).cpu(), drawn_N.cpu())
            for number, ids_K, logp_K, logp in zip(wanting, *parts, strict=True):
                kept[number] = (ids_K, logp_K, logp)
        return tokens_B.tolist(), kept

    def _take(self, place: int, token: int, targets: tuple[Tensor, Tensor, Tensor] | None) -> int:
        """Give a row its token; what that counts of the tokens it may draw."""
        row = self._row(place)
        row.drawn.append(token)
        if targets is not None:
            row.kept.append(targets)
        if token not in self._stops and len(row.drawn) < row.wanted.tokens:
            return 1
        counted = 1 + row.wanted.tokens - len(row.drawn)
        kept = TopTargets(*map(torch.stack, zip(*row.kept, strict=True))) if row.kept else None
        told = Drawn(finish_text(self._loaded, row.drawn, 0.0), kept)
        try:
            row.wanted = row.script.send(told)
        except StopIteration:
            self._rows[place] = None
            return counted
        row.drawn, row.kept = [], []
        self._go_on(place, row)
        return counted

    def _go_on(self, place: int, row: _Row) -> None:
        """From what a row has read to its next prompt: what both begin with stays."""
        assert self._read is not None
        prompt = row.wanted.prompt
        shared = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(row.read, prompt, strict=False))
        )
        shared = min(shared, len(prompt) - 1)
        self._read.forget(place, keep=shared)
        row.read, row.pending = row.read[:shared], list(prompt[shared:])


def _next_of(row: _Row | None) -> int:
    """The token that a row reads next; any, where it is done."""
    if row is None:
        return 0
    token = row.pending.pop(0) if row.pending else row.drawn[-1]
    row.read.append(token)
    return token


def _draw_in_rounds(
    loaded: LoadedModel, scripts: list[Script], seed: int, rows: int, on_drawn: Callable[[int], None]
) -> None:
    """For models whose memory is of another kind: every prompt is read anew, all scripts go on together."""
    at_work = [(script, wanted) for script in scripts if (wanted := next(script, None)) is not None]
    turn = 0
    while at_work:
        told: dict[int, Drawn] = {}
        kinds = dict.fromkeys((wanted.tokens, wanted.temperature) for _, wanted in at_work)
        for tokens, temperature in kinds:
            places = [
                place
                for place, (_, wanted) in enumerate(at_work)
                if (wanted.tokens, wanted.temperature) == (tokens, temperature)
            ]
            turn += 1
            said = generate_texts(
                loaded,
                [at_work[place][1].prompt for place in places],
                max_new_tokens=tokens,
                batch_size=rows,
                sampling=Sampling(temperature, seed * 1_009 + turn),
                on_done=lambda count, tokens=tokens: on_drawn(count * tokens),  # type: ignore[misc]
            )
            told |= {place: Drawn(one, None) for place, one in zip(places, said, strict=True)}
        wanting = [place for place, (_, wanted) in enumerate(at_work) if wanted.targets]
        talks = [Conversation(str(p), at_work[p][1].prompt, told[p].said.ids) for p in wanting]
        for place, talk in zip(wanting, add_targets(loaded, talks), strict=True):
            told[place] = Drawn(told[place].said, top_targets(talk))
        at_work = [
            (script, wanted)
            for place, (script, _) in enumerate(at_work)
            if (wanted := _send(script, told[place])) is not None
        ]


def _send(script: Script, drawn: Drawn) -> Wanted | None:
    """What a script wants next; None at its end."""
    try:
        return script.send(drawn)
    except StopIteration:
        return None
