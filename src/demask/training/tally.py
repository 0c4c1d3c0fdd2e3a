"""What the log says of the micro-batches since its last line, kept as sums until someone reads it.

tally = [count(scored, batch, weighted, bins=5), ...]
losses = add_up(tally, over_all=accelerator.reduce)
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from demask.models.acceleration.target_logits import TargetNats
from demask.objectives.batches import Batch
from demask.objectives.token_loss import TokenLoss, sum_loss


class Tally(NamedTuple):
    """What a micro-batch adds to the log."""

    losses: tuple[TokenLoss, ...]  # whole, masked, copied, and by ratio
    tokens: torch.Tensor


class Losses(NamedTuple):
    """Nats per token, None where no such token was scored, and tokens read.

    `whole` is weighted; in diffusion it bounds -log p per token where `Diffusion.loss_is_bound` says so.
    """

    whole: float | None
    masked: float | None
    copied: float | None
    by_ratio: tuple[float | None, ...]
    tokens: int


def count(scored: TargetNats, batch: Batch, weighted: torch.Tensor, *, bins: int) -> Tally:
    """Sums of one micro-batch.

    Args:
        scored: its tokens.
        batch: itself.
        weighted: the sum of their weighted nats.
        bins: into how many the tokens are sorted by the share of their example that is masked.
    """
    nats_N = scored.nats_N.detach()
    bin_N = (batch["shares"] * bins).long().clamp(max=bins - 1)
    return Tally(
        losses=(
            TokenLoss(weighted.detach(), batch["supervised"].sum()),  # for all tokens that it stands for
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
    sums = [0.0] * (2 * len(tally[0].losses) + 1)
    for part in tally:
        numbers = [float(value) for loss in part.losses for value in loss] + [float(part.tokens)]
        sums = [total + number for total, number in zip(sums, numbers, strict=True)]
    *sums, read = over_all(sums)
    pairs = zip(sums[::2], sums[1::2], strict=True)
    whole, masked, copied, *by_ratio = (nats / tokens if tokens else None for nats, tokens in pairs)
    return Losses(whole, masked, copied, tuple(by_ratio), int(read))
