"""How likely a masked-diffusion model holds an answer, as a bound from below.

    found = estimate_log_likelihood(loaded, requests, draws=128, batch_tokens=16384, seed=0)
    best = rank_options(found)[0]

Of an answer's L tokens, l are masked, l uniform over 1..L and the set M uniform among those of its size;
then the mean of -(L / l) * (cross-entropy of M in nats) is at most log p(answer | context), and equal to
it for a model whose predictions fit together (Nie et al. 2025, arXiv 2502.09992, equation 6; the same
bound as the mean over all orders of the chain rule: Ou et al. 2024, arXiv 2406.03736). B rows, T columns, N
masked tokens, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from demask.errors import DataError
from demask.models.diffusion import DiffusionForm, get_diffusion_form, predict_masked
from demask.models.load import LoadedModel
from demask.objectives.masking import keyed_rng


class Request(NamedTuple):
    """Token ids: what the model is shown, the answer, and what it is shown behind it (cloze)."""

    before: Sequence[int]
    answer: Sequence[int]
    after: Sequence[int] = ()


@dataclass(frozen=True)
class LogLikelihood:
    """A bound of an answer's log-likelihood.

    Attributes:
        nats: the estimate, of a number that is not above log p(answer | context).
        error: standard error of the estimate; 0 where nothing was drawn.
        tokens: of the answer.
    """

    nats: float
    error: float
    tokens: int


class MaskSet(NamedTuple):
    """Masks of an answer. The bound is minus the sum of weight times cross-entropy over them."""

    masks: tuple[tuple[int, ...], ...]  # places in the answer, never none
    weights: tuple[float, ...]
    drawn: bool  # False: these are all that there are


# Ids, where these are real (None: everywhere), flat places of the tokens to predict; to the logits (N, V),
# with the mask token's at -inf. With alignment 1, no place is the first of a row.
Denoise = Callable[[Tensor, Tensor | None, Tensor], Tensor]


class Masker(NamedTuple):
    """What predicts, and how rows are made for it."""

    denoise: Denoise
    mask_id: int
    pad_id: int
    device: torch.device


def estimate_log_likelihood(
    loaded: LoadedModel,
    requests: Sequence[Request],
    *,
    draws: int,
    batch_tokens: int,
    seed: int,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[LogLikelihood]:
    """Bound the log-likelihood of every answer, in the order given.

    Answers of equal length share their masks, whatever else differs: options of a question are compared on
    common random numbers. So their errors are not independent of each other. Answers so short that `draws`
    covers all masks are computed without a draw.

    Args:
        loaded: a masked-diffusion model.
        requests: contexts and answers.
        draws: masks of an answer, at least 2.
        batch_tokens: in a forward pass, padding included; a single longer row goes alone.
        seed: of the masks.
        on_done: told how many requests a batch has finished.

    Raises:
        ModelError: the model is autoregressive.
        DataError: an answer is empty or has masks, or nothing stands before one and alignment is 1.
    """
    form = get_diffusion_form(loaded.model)
    for number, request in enumerate(requests):
        _check_request(request, form, f"request {number}")
    masker = Masker(partial(predict_masked, loaded.model), form.mask_token_id, loaded.pad_id, loaded.device)
    return measure_bounds(
        masker, requests, draws=draws, batch_tokens=batch_tokens, seed=seed, on_done=on_done
    )


def _check_request(request: Request, form: DiffusionForm, name: str) -> None:
    if not request.answer:
        raise DataError(f"{name}: has no answer, expected a token at least")
    if form.alignment and not request.before:
        raise DataError(
            f"{name}: nothing stands before its answer, expected a token at least, such as BOS; "
            "the model reads a token one place before it (alignment 1)"
        )
    if form.mask_token_id in request.answer:
        raise DataError(f"{name}: the mask token {form.mask_token_id} is in its answer, expected words")


def rank_options(options: Sequence[LogLikelihood], *, per_token: bool = False) -> list[int]:
    """Numbers of the options, the likeliest first; of equal ones the first.

    Args:
        options: answers to one question.
        per_token: compare nats per token, so that long answers are not held back by their length alone.
    """

    def value(number: int) -> float:
        option = options[number]
        return option.nats / option.tokens if per_token else option.nats

    return sorted(range(len(options)), key=value, reverse=True)


def draw_mask_set(length: int, draws: int, seed: int) -> MaskSet:
    """Masks for answers of `length` tokens: all of them where `draws` suffices, else `draws` of them.

    Numbers of masked tokens are spread evenly over 1..length from a drawn start, in whole numbers, so that
    each number is exactly as likely as any other in every draw.

    Args:
        length: at least 1.
        draws: at least 2.
        seed: the same masks come out for the same seed and length.
    """
    if 2**length - 1 <= draws or length == 1:
        sizes = range(1, length + 1)
        every = [mask for size in sizes for mask in combinations(range(length), size)]
        return MaskSet(tuple(every), tuple(1 / (len(m) * math.comb(length, len(m))) for m in every), False)
    start = keyed_rng(seed, "likelihood", length).randrange(length)
    masks = tuple(
        tuple(sorted(keyed_rng(seed, "likelihood", length, draw).sample(range(length), size)))
        for draw, size in enumerate(spread_sizes(length, draws, start))
    )
    return MaskSet(masks, tuple(length / (len(mask) * draws) for mask in masks), True)


def spread_sizes(length: int, draws: int, start: int) -> list[int]:
    """How many tokens each draw masks, for a start in 0..length-1."""
    return [1 + (start + draw * length // draws) % length for draw in range(draws)]


def combine_draws(nats: Sequence[float], mask_set: MaskSet, length: int) -> LogLikelihood:
    """The bound and its error from the cross-entropy of each mask.

    Neighbouring draws mask about as many tokens, so the error comes from their differences: half their mean
    square over the number of draws (Wolter 2007, Introduction to Variance Estimation, chapter 8). The circle
    is closed: the last draw is a neighbour of the first, and this difference of few masks to many
    makes up for what differences of neighbours do not see. The estimate of the variance is too large on
    average where cross-entropy rises or falls with the number of masks, and right where it does neither.
    """
    parts = [-weight * part for weight, part in zip(mask_set.weights, nats, strict=True)]
    total = math.fsum(parts)
    if not mask_set.drawn:
        return LogLikelihood(total, 0.0, length)
    squares = math.fsum((part - parts[place - 1]) ** 2 for place, part in enumerate(parts))
    return LogLikelihood(total, math.sqrt(squares / 2), length)


@torch.inference_mode()
def measure_bounds(
    masker: Masker,
    requests: Sequence[Request],
    *,
    draws: int,
    batch_tokens: int,
    seed: int,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[LogLikelihood]:
    """`estimate_log_likelihood` of anything that predicts.

    Raises:
        ValueError: less than 2 draws, which have no error.
    """
    if draws < 2:
        raise ValueError(f"draws is {draws}, expected at least 2: one alone says nothing about its error")
    mask_sets = {length: draw_mask_set(length, draws, seed) for length in {len(r.answer) for r in requests}}
    nats: list[list[float]] = [[] for _ in requests]
    found: dict[int, LogLikelihood] = {}
    for batch in _fill_batches(requests, mask_sets, batch_tokens):
        sums = _measure_batch(masker, [(requests[number], mask) for number, mask in batch])
        for (number, _), part in zip(batch, sums, strict=True):
            nats[number].append(part)
        finished = 0
        for number in dict.fromkeys(number for number, _ in batch):
            length = len(requests[number].answer)
            if len(nats[number]) == len(mask_sets[length].masks):
                found[number] = combine_draws(nats[number], mask_sets[length], length)
                finished += 1
        on_done(finished)
    return [found[number] for number in range(len(requests))]


# The number of a request, and places of its answer that are masked.
_Row = tuple[int, tuple[int, ...]]


def _fill_batches(
    requests: Sequence[Request], mask_sets: dict[int, MaskSet], batch_tokens: int
) -> Iterator[list[_Row]]:
    """The longest rows first, so that memory runs out at once or never."""
    lengths = [sum(map(len, request)) for request in requests]
    batch: list[_Row] = []
    longest = 0
    for number in sorted(range(len(requests)), key=lambda number: -lengths[number]):
        for mask in mask_sets[len(requests[number].answer)].masks:
            if batch and (len(batch) + 1) * longest > batch_tokens:
                yield batch
                batch = []
            longest = longest if batch else lengths[number]  # the first is the longest
            batch.append((number, mask))
    if batch:
        yield batch


def _measure_batch(masker: Masker, rows: Sequence[tuple[Request, tuple[int, ...]]]) -> list[float]:
    """Cross-entropy of the masked tokens, summed for each row."""
    longest = max(sum(map(len, request)) for request, _ in rows)
    ids, real, places, labels, owners = [], [], [], [], []
    for row, (request, mask) in enumerate(rows):
        tokens = [*request.before, *request.answer, *request.after]
        masked = [len(request.before) + place for place in mask]
        labels += [tokens[place] for place in masked]
        places += [row * longest + place for place in masked]
        owners += [row] * len(masked)
        for place in masked:
            tokens[place] = masker.mask_id
        padding = longest - len(tokens)
        real.append([*[1] * len(tokens), *[0] * padding])
        ids.append([*tokens, *[masker.pad_id] * padding])

    def tensor(values: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(values, device=masker.device)

    padded = any(row[-1] == 0 for row in real)
    logits_NV = masker.denoise(tensor(ids), tensor(real) if padded else None, tensor(places))
    chosen_N = logits_NV.gather(1, tensor(labels)[:, None])[:, 0]
    nats_N = (logits_NV.logsumexp(dim=1) - chosen_N).double()
    sums: list[float] = nats_N.new_zeros(len(rows)).index_add_(0, tensor(owners), nats_N).tolist()
    return sums
