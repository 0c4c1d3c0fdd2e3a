"""What the log says of the micro-batches since its last line, kept as sums until someone reads it.

tally = [count(terms, parts, batch, bins=5), ...]          # parts of `losses.terms.apply_terms`
losses = add_up(tally, over_all=accelerator.reduce)
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from demask.losses.cross_entropy import sum_loss
from demask.losses.terms import Term, TermNats, TokenLoss
from demask.objectives.batches import Batch
from demask.records import SOURCES


class Tally(NamedTuple):
    """What a micro-batch adds to the log."""

    terms: tuple[TokenLoss, ...]  # of the loss
    losses: tuple[TokenLoss, ...]  # of documents: masked, copied, and by ratio
    tokens: torch.Tensor


class Losses(NamedTuple):
    """Nats per token, None where no such token was scored, and tokens read.

    Those of `terms` are weighted token by token; in diffusion the first one bounds -log p per token where
    `Diffusion.loss_is_bound` says so.
    """

    terms: tuple[float | None, ...]
    masked: float | None
    copied: float | None
    by_ratio: tuple[float | None, ...]
    tokens: int


def count(terms: Sequence[Term], parts: Sequence[TermNats], batch: Batch, *, bins: int) -> Tally:
    """Sums of one micro-batch.

    Args:
        terms: of the loss; the first one is about documents.
        parts: what each says of the micro-batch.
        batch: itself.
        bins: into how many the tokens are sorted by the share of their example that is masked.
    """
    nats_N, scored = parts[0].nats_N.detach(), parts[0].tokens
    bin_N = (scored.shares_N * bins).long().clamp(max=bins - 1)
    return Tally(
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


def add_up(tally: Sequence[Tally], *, over_all: Callable[[list[float]], list[float]]) -> Losses:
    """Means over micro-batches and processes.

    Args:
        tally: of this process, at least one micro-batch.
        over_all: adds numbers up over the processes, each of which calls it.
    """
    terms = len(tally[0].terms)
    sums = [0.0] * (2 * (terms + len(tally[0].losses)) + 1)
    for part in tally:
        pairs = (*part.terms, *part.losses)
        numbers = [float(value) for loss in pairs for value in loss] + [float(part.tokens)]
        sums = [total + number for total, number in zip(sums, numbers, strict=True)]
    *sums, read = over_all(sums)
    means = [nats / tokens if tokens else None for nats, tokens in zip(sums[::2], sums[1::2], strict=True)]
    masked, copied, *by_ratio = means[terms:]
    return Losses(tuple(means[:terms]), masked, copied, tuple(by_ratio), int(read))
