"""Write with a masked-diffusion model: all tokens of a block at once or a few at a time, block by block.

    texts = generate_diffusion(loaded, prompts, max_new_tokens=128, batch_size=40, settings=Decoding())

Semi-autoregressive decoding with low-confidence remasking (Nie et al. 2025, Large Language Diffusion
Models, arXiv 2502.09992, algorithm 5): behind the prompt stand `max_new_tokens` masks; blocks are
written from left to right, and what is written stays. Settings move scores by ten points, so they belong
in the record of a run. B rows of a batch, R of them that have masks in the block, T columns, L columns of
the block, N places, V vocabulary. Prompts have their padding on the left, so that a block stands in the
same columns of all rows.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from demask.errors import ConfigError, ModelError
from demask.generation.texts import Generated, align_prompts, draw_tokens, finish_text, stop_ids
from demask.losses.cross_entropy import silence
from demask.models.acceleration.target_logits import predict_at
from demask.models.diffusion import DiffusionForm, get_diffusion_form, predict_masked
from demask.models.load import LoadedModel
from demask.objectives.masking import keyed_rng

if TYPE_CHECKING:
    from transformers import Cache

Transfer = Literal["low-confidence", "random", "threshold"]


@dataclass(frozen=True)
class Decoding:
    """How masked tokens are written.

    Attributes:
        block_length: tokens written together; the last block of a text is shorter when it does not divide.
        steps: forward passes for `max_new_tokens`, shared by the blocks; None: one token a step.
        transfer: which tokens of a step are kept: the surest, any, or those sure enough and never fewer than
            the steps ask for.
        threshold: the probability that is sure enough; for `transfer="threshold"` alone.
        temperature: 0 takes the likeliest token. At 1, with `transfer="random"`, one token a step and one
            block, texts are drawn from the model's joint distribution; with the surest kept they are not.
        seed: of order and tokens.
        prefix_cache: read what stands before a block at the block's first step only. Approximate: the keys
            and values that later steps use do not know what the block has become (prefix cache of Wu et
            al. 2025, Fast-dLLM, arXiv 2505.22618).

    Raises:
        ConfigError: a number is out of its range.
    """

    block_length: int = 32
    steps: int | None = None
    transfer: Transfer = "low-confidence"
    threshold: float = 0.9
    temperature: float = 0.0
    seed: int = 0
    prefix_cache: bool = False

    def __post_init__(self) -> None:
        if self.block_length < 1 or (self.steps is not None and self.steps < 1):
            raise ConfigError(
                f"block_length {self.block_length}, steps {self.steps}: expected at least 1 of each"
            )
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold: {self.threshold}, expected a probability above 0")
        if self.temperature < 0:
            raise ConfigError(f"temperature: {self.temperature}, expected 0 or more")


def generate_diffusion(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    settings: Decoding,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Generated]:
    """Continue every prompt, in the order given.

    The text of a prompt does not depend on those beside it, randomness included.

    Args:
        loaded: a masked-diffusion model with its tokenizer.
        prompts: token ids, the template's own tokens included.
        max_new_tokens: masks behind each prompt; a text that has no end among them is cut short.
        batch_size: prompts decoded together, longest first.
        settings: how masks become tokens.
        on_done: told how many prompts a finished batch had.

    Raises:
        ModelError: the model is autoregressive, or would have to read before the beginning of a prompt.
        ConfigError: fewer steps than blocks.
    """
    form = get_diffusion_form(loaded.model)
    if form.alignment and not all(prompts):
        raise ModelError(
            f"prompt {[len(prompt) for prompt in prompts].index(0)}: is empty, expected a token at least; "
            f"{loaded.name} reads the first new token one place before it (alignment 1)"
        )
    plan_blocks(max_new_tokens, settings)  # refuses too few steps now, not in the first batch
    stops_S = torch.tensor(stop_ids(loaded), device=loaded.device)
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    done: dict[int, Generated] = {}
    for start in range(0, len(order), batch_size):
        numbers, begun = order[start : start + batch_size], time.monotonic()
        canvas = _prepare(loaded, [prompts[n] for n in numbers], max_new_tokens, form.mask_token_id)
        generators = [_make_generator(loaded.device, settings.seed, number) for number in numbers]
        fill_masks(canvas, _choose_reader(loaded.model, form, settings), settings, generators, stops_S)
        share = (time.monotonic() - begun) / len(numbers)
        new_BG = canvas.ids_BT[:, canvas.first :].tolist()
        done |= {n: finish_text(loaded, ids, share) for n, ids in zip(numbers, new_BG, strict=True)}
        on_done(len(numbers))
    return [done[number] for number in range(len(prompts))]


class Canvas(NamedTuple):
    """Rows that are written together."""

    ids_BT: Tensor  # noqa: N815 (axes as a suffix); int64, changed in place; the mask token where one is to be written
    real_BT: Tensor  # noqa: N815 (the same); int64; 0 where a prompt has padding
    first: int  # column in which the new tokens of all rows begin
    mask_id: int


# The batch's rows that have masks in the block: their ids, where these are real, flat places of the tokens
# to predict, and the rows' numbers in the batch; to the logits (N, V), with the mask token's at -inf.
Denoise = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _prepare(loaded: LoadedModel, prompts: Sequence[Sequence[int]], new: int, mask_id: int) -> Canvas:
    ids_BT, real_BT = align_prompts([[*prompt, *[mask_id] * new] for prompt in prompts], loaded)
    return Canvas(ids_BT, real_BT, ids_BT.shape[1] - new, mask_id)


def _make_generator(device: torch.device, seed: int, number: int) -> torch.Generator:
    """Of one prompt: its text is the same in any batch."""
    return torch.Generator(device).manual_seed(keyed_rng(seed, "decoding", number).getrandbits(63))


class Block(NamedTuple):
    """Columns that are written together, counted from the first new token."""

    start: int
    end: int
    steps: int


def plan_blocks(new: int, settings: Decoding) -> list[Block]:
    """The blocks of `new` tokens, from left to right, with the steps divided by their lengths.

    Raises:
        ConfigError: a block would have no step.
    """
    edges = [*range(0, new, settings.block_length), new]
    steps = new if settings.steps is None else min(settings.steps, new)
    if steps < len(edges) - 1:
        raise ConfigError(
            f"steps: {steps} for {new} tokens in blocks of {settings.block_length}, "
            f"expected {len(edges) - 1} at least, one a block"
        )
    return [Block(start, end, steps * end // new - steps * start // new) for start, end in pairwise(edges)]


def share_out(masks: int, steps: int) -> list[int]:
    """Tokens written in each step of a block: as even as possible, the larger numbers first."""
    return [masks // steps + (step < masks % steps) for step in range(steps)]


@torch.inference_mode()
def fill_masks(
    canvas: Canvas,
    start_block: Callable[[int], Denoise],
    settings: Decoding,
    generators: Sequence[torch.Generator],
    stops_S: Tensor,
) -> None:
    """Write the new tokens of each row, up to the end of the block in which its text ends.

    A row whose text is decided (an end, and everything before it is written) is not computed any more.

    Args:
        canvas: masks in the columns of new tokens; changed in place.
        start_block: for the column in which a block begins, what predicts at its steps.
        settings: how masks become tokens.
        generators: one for each row.
        stops_S: tokens that end a text.
    """
    ids_BT, _, first, mask_id = canvas
    for block in plan_blocks(ids_BT.shape[1] - first, settings):
        columns = slice(first + block.start, first + block.end)
        denoise = start_block(columns.start)
        for count in share_out(block.end - block.start, block.steps):
            open_BL = (ids_BT[:, columns] == mask_id) & ~_is_decided(canvas, stops_S)[:, None]
            rows_R = open_BL.any(dim=1).nonzero()[:, 0]
            if not len(rows_R):
                break
            chosen = [generators[row] for row in rows_R.tolist()]
            step = _Step(columns, rows_R, open_BL[rows_R], count, chosen)
            ids_BT[rows_R, columns] = _write(canvas, step, denoise, settings)


def _is_decided(canvas: Canvas, stops_S: Tensor) -> Tensor:
    """Of each row, whether it has an end with no mask before it."""
    new_BG = canvas.ids_BT[:, canvas.first :]
    written_BG = (new_BG == canvas.mask_id).cumsum(dim=1) == 0
    return (torch.isin(new_BG, stops_S) & written_BG).any(dim=1)


class _Step(NamedTuple):
    columns: slice
    rows_R: Tensor  # noqa: N815 (axes as a suffix)
    open_RL: Tensor  # noqa: N815 (the same); where masks are
    least: int  # masks of each row that become tokens
    generators: list[torch.Generator]


def _write(canvas: Canvas, step: _Step, denoise: Denoise, settings: Decoding) -> Tensor:
    """The block's tokens after one step, (R, L)."""
    ids_RT, wanted_RL = canvas.ids_BT[step.rows_R], step.open_RL
    at_random = settings.transfer == "random"
    if at_random:  # chosen before they are known, so that no others are predicted
        draws = [_draw_order(generator, wanted_RL.shape[1]) for generator in step.generators]
        wanted_RL = choose_places(torch.stack(draws), wanted_RL, step.least)
    row_N, column_N = wanted_RL.nonzero(as_tuple=True)
    places_N = row_N * ids_RT.shape[1] + step.columns.start + column_N
    logits_NV = denoise(ids_RT, canvas.real_BT[step.rows_R], places_N, step.rows_R)
    counts = wanted_RL.sum(dim=1).tolist()
    tokens_N, chance_N = pick_tokens(logits_NV, counts, step.generators, settings.temperature)
    before_RL = ids_RT[:, step.columns]
    after_RL = before_RL.masked_scatter(wanted_RL, tokens_N)
    if at_random:
        return after_RL
    chance_RL = torch.zeros_like(before_RL, dtype=chance_N.dtype).masked_scatter(wanted_RL, chance_N)
    enough = settings.threshold if settings.transfer == "threshold" else None
    return torch.where(choose_places(chance_RL, wanted_RL, step.least, enough), after_RL, before_RL)


def _draw_order(generator: torch.Generator, length: int) -> Tensor:
    return torch.rand(length, generator=generator, device=generator.device, dtype=torch.float64)


def choose_places(value_RL: Tensor, open_RL: Tensor, count: int, enough: float | None = None) -> Tensor:
    """The `count` open places of each row with the highest values (of equal ones the left), (R, L) bool.

    Args:
        value_RL: what they are chosen by.
        open_RL: which may be chosen.
        count: all that are open when there are fewer.
        enough: places of this value and above are chosen too.
    """
    order_RL = value_RL.masked_fill(~open_RL, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank_RL = order_RL.argsort(dim=1)
    chosen_RL = rank_RL < count
    if enough is not None:
        chosen_RL |= value_RL >= enough
    return chosen_RL & open_RL


class Picked(NamedTuple):
    """Tokens for masks, and how sure the model is of them."""

    tokens_N: Tensor  # noqa: N815 (axes as a suffix); int64
    chance_N: Tensor  # noqa: N815 (the same); probability at temperature 1


def pick_tokens(
    logits_NV: Tensor, counts: Sequence[int], generators: Sequence[torch.Generator], temperature: float
) -> Picked:
    """The likeliest token of each place; above temperature 0, a drawn one.

    Args:
        logits_NV: of the places, row by row.
        counts: places of each row.
        generators: one for each row.
        temperature: 0 draws nothing.
    """
    if temperature == 0:
        tokens_N = logits_NV.argmax(dim=1)
    else:
        rows = zip(logits_NV.split(list(counts)), generators, strict=True)
        tokens_N = torch.cat([draw_tokens(part_NV, temperature, generator) for part_NV, generator in rows])
    nats_N = logits_NV.logsumexp(dim=1) - logits_NV.gather(1, tokens_N[:, None])[:, 0]
    return Picked(tokens_N, (-nats_N).exp())


def _choose_reader(model: Any, form: DiffusionForm, settings: Decoding) -> Callable[[int], Denoise]:
    def read_all(ids_RT: Tensor, real_RT: Tensor, places_N: Tensor, rows_R: Tensor) -> Tensor:
        return predict_masked(model, ids_RT, real_RT, places_N)

    def start_block(column: int) -> Denoise:
        kept = column - form.alignment  # what predicts the block's first token is read anew
        return _PrefixReader(model, form, kept) if settings.prefix_cache and kept > 0 else read_all

    return start_block


class _PrefixReader:
    """Reads all columns at the first step of a block, and from then on those behind its prefix."""

    def __init__(self, model: Any, form: DiffusionForm, kept: int) -> None:
        self.model, self.form, self.kept = model, form, kept
        self.cache: Cache | None = None
        self.rows_R = torch.empty(0)

    def __call__(self, ids_RT: Tensor, real_RT: Tensor, places_N: Tensor, rows_R: Tensor) -> Tensor:
        from transformers import DynamicCache

        columns = ids_RT.shape[1]
        if self.cache is None:
            # Without the configuration, layers with a window keep all columns too.
            self.cache, known = DynamicCache(), 0
        else:
            known = self.kept
            if len(rows_R) < len(self.rows_R):
                self.cache.batch_select_indices(torch.isin(self.rows_R, rows_R).nonzero()[:, 0])
        self.rows_R = rows_R
        inputs = {
            "input_ids": ids_RT[:, known:],
            "attention_mask": real_RT,
            "position_ids": (real_RT.cumsum(dim=1) - 1).clamp(min=0)[:, known:],
            "past_key_values": self.cache,
        }
        unread_N = (places_N // columns + 1) * known  # of the rows up to each place
        read_N = places_N - unread_N - self.form.alignment
        logits_NV = predict_at(self.model, inputs, read_N, head_of=self.model).float()
        self.cache.crop(self.kept - columns)
        return silence(logits_NV, self.form.mask_token_id)
