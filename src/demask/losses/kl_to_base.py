"""KL(base || model) on tokens that the base drew, from its likeliest tokens alone.

    targets = TopTargets(top_ids_MK, top_logp_MK, drawn_logp_M)         # of the base, kept in a file
    term = Term("kl-to-base", kl_to_base(targets), on="replay")

Only the base's K likeliest tokens are kept, not the base. For what they leave out there are two estimates.

`divergence` measures: each drawn token that is none of the likeliest stands for its kind in proportion, so
the estimate has no bias over draws.

`lumped_divergence` is minimised: all other tokens count as one. That is a lower bound, 12% too low on the
embedded model, but it depends on no draw. Training sees the same draws again and again, and learning them by
heart lowers the log-ratio of a drawn token without end: on the embedded model the unbiased estimate fell to
-0.16 nats on what was replayed while it stayed at 0.20 on other conversations.

M kept rows, N scored tokens, K targets, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from demask.losses.terms import ScoredTokens, TokenFunction


class TopTargets(NamedTuple):
    """What is kept of the base model; a row for each token that it drew.

    Attributes:
        ids_MK: int64, its likeliest tokens.
        logp_MK: float32, their log-probabilities.
        drawn_M: float32, the log-probability of the token that was drawn.
    """

    ids_MK: Tensor
    logp_MK: Tensor
    drawn_M: Tensor

    def to(self, device: torch.device) -> "TopTargets":
        """The same on another device."""
        return TopTargets(*(values.to(device) for values in self))

    def at(self, rows_N: Tensor) -> "TopTargets":
        """Some rows."""
        return TopTargets(*(values[rows_N] for values in self))


def kl_to_base(targets: TopTargets) -> TokenFunction:
    """The term that holds a model to its base, on tokens with rows in `targets`."""

    def function(scored: ScoredTokens) -> Tensor:
        logp_NV = scored.logits_NV.float().log_softmax(dim=1)
        return lumped_divergence(logp_NV, targets.at(scored.rows_N))

    return function


# Keeps the logarithm of the rest finite where the likeliest tokens have all of the probability.
_LEAST = 1e-6


def lumped_divergence(logp_NV: Tensor, targets: TopTargets) -> Tensor:
    """A lower bound of KL(base || model) at every place, in nats, (N,); never below 0 but for rounding.

    Args:
        logp_NV: the model's log-probabilities.
        targets: of the base, at the same places.
    """
    q_NK = logp_NV.gather(1, targets.ids_MK)
    p_NK = targets.logp_MK.exp()
    rest_p_N, rest_q_N = ((1 - share.sum(dim=1)).clamp_min(_LEAST) for share in (p_NK, q_NK.exp()))
    likeliest_N = (p_NK * (targets.logp_MK - q_NK)).sum(dim=1)
    return likeliest_N + rest_p_N * (rest_p_N / rest_q_N).log()


def divergence(logp_NV: Tensor, drawn_N: Tensor, targets: TopTargets) -> Tensor:
    """An estimate of KL(base || model) at every place, in nats, (N,).

    The sum over the base's K likeliest tokens, and, where the drawn token is none of them, its log-ratio.
    The mean over draws is the divergence; with K = V it is exact.

    Args:
        logp_NV: the model's log-probabilities.
        drawn_N: int64, the tokens that the base drew.
        targets: of the base, at the same places.
    """
    q_NK = logp_NV.gather(1, targets.ids_MK)
    likeliest_N = (targets.logp_MK.exp() * (targets.logp_MK - q_NK)).sum(dim=1)
    rare_N = (targets.ids_MK != drawn_N[:, None]).all(dim=1)
    ratio_N = targets.drawn_M - logp_NV.gather(1, drawn_N[:, None])[:, 0]
    return likeliest_N + ratio_N * rare_N
