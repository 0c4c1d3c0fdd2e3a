"""What is logged of a step: sums of its micro-batches, averaged when someone reads them.

sums = [sum_micro_batch(terms, parts, batch, bins=5), ...]      # parts of `losses.terms.apply_terms`
losses = average(terms, sums, reduce=partial(accelerator.reduce, reduction="sum"))
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from demask.losses.cross_entropy import sum_loss
from demask.losses.terms import Term, TermNats, TokenLoss
from demask.objectives.batches import Batch
from demask.records import SOURCES


@dataclass(frozen=True)
class StepMetrics:
    """What is logged of a step; losses in nats per token, None where no such token was scored.

    Attributes:
        step: the last one of those that it is about.
        steps: since the line before.
        seconds: of training, since this process began.
        tokens: since this process began, padding aside.
        loss: what is minimised, all terms together; in diffusion weighted, and over all tokens that might
            have been masked: an estimate of a bound on -log p per token where `Diffusion.loss_is_bound` says
            so, else none.
        loss_masked: of masked tokens, unweighted.
        loss_copied: of the tokens that the prompt shows.
        learning_rate: of the step.
        gradient_norm: before clipping.
        loss_by_ratio: of masked tokens, unweighted, by the share of their example that is masked, in
            fifths; diffusion only.
        terms: mean of each term of the loss by name, before its weight; None where there is one alone.
    """

    step: int
    steps: int
    seconds: float
    tokens: int
    loss: float
    loss_masked: float | None
    loss_copied: float | None
    learning_rate: float
    gradient_norm: float
    loss_by_ratio: tuple[float | None, ...] | None = None
    terms: Mapping[str, float | None] | None = None


class MicroBatchSums(NamedTuple):
    """What a micro-batch adds to the log."""

    terms: tuple[TokenLoss, ...]  # of the loss
    losses: tuple[TokenLoss, ...]  # of documents: masked, copied, and by ratio
    tokens: torch.Tensor


def sum_micro_batch(
    terms: Sequence[Term], parts: Sequence[TermNats], batch: Batch, *, bins: int
) -> MicroBatchSums:
    """Sums of one micro-batch.

    Args:
        terms: of the loss; the first one is about documents.
        parts: what each says of the micro-batch.
        batch: itself.
        bins: into how many the tokens are sorted by the share of their example that is masked.
    """
    nats_N, scored = parts[0].nats_N.detach(), parts[0].tokens
    bin_N = (scored.shares_N * bins).long().clamp(max=bins - 1)
    return MicroBatchSums(
        terms=tuple(  # for all tokens that their examples stand for
            TokenLoss(part.weighted.detach(), batch["stands_for"][SOURCES.index(term.on)])
            for term, part in zip(terms, parts, strict=True)
        ),
        losses=(
            sum_loss(nats_N, scored.masked_N),
            sum_loss(nats_N, ~scored.masked_N),
            *(sum_loss(nats_N, scored.masked_N & (bin_N == number)) for number in range(bins)),
        ),
        tokens=batch["lengths"].sum(),
    )


def average(
    terms: Sequence[Term], sums: Sequence[MicroBatchSums], *, reduce: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, Any]:
    """The losses of `StepMetrics`, and the tokens read, over micro-batches and processes.

    Args:
        terms: of the loss.
        sums: of this process, at least one micro-batch.
        reduce: adds a tensor up over the processes, each of which calls it.
    """
    totals = [0.0] * (2 * (len(terms) + len(sums[0].losses)) + 1)
    for part in sums:
        numbers = [float(value) for loss in (*part.terms, *part.losses) for value in loss]
        totals = [
            total + number for total, number in zip(totals, [*numbers, float(part.tokens)], strict=True)
        ]
    *totals, read = reduce(torch.tensor(totals, dtype=torch.float64)).tolist()
    means = [
        nats / tokens if tokens else None for nats, tokens in zip(totals[::2], totals[1::2], strict=True)
    ]
    masked, copied, *by_ratio = means[len(terms) :]
    of_terms = list(zip(terms, means, strict=False))
    return {
        "tokens": int(read),
        "loss": sum(term.weight * (mean or 0.0) for term, mean in of_terms),
        "loss_masked": masked,
        "loss_copied": copied,
        "loss_by_ratio": tuple(by_ratio) or None,
        "terms": {term.name: mean for term, mean in of_terms} if len(terms) > 1 else None,
    }
