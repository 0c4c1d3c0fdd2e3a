"""The cross-entropy of chosen tokens, kept as sums.

    nats_N = token_nats(logits_NV, labels_N)
    loss = sum_loss(nats_N, masked_N)

N scored tokens, V vocabulary.
"""

import torch
from torch import Tensor

from demask.losses.terms import ScoredTokens, TokenFunction, TokenLoss


def cross_entropy(*, never: int | None = None) -> TokenFunction:
    """The term of every objective: cross-entropy of each token.

    Args:
        never: a token that the model cannot write; its logit counts as -inf.
    """

    def function(scored: ScoredTokens) -> Tensor:
        return token_nats(scored.logits_NV, scored.labels_N, never=never)

    return function


def token_nats(logits_NV: Tensor, labels_N: Tensor, *, never: int | None = None) -> Tensor:
    """Cross-entropy of each token in nats, float32 of shape (N,).

    In float32, because the mean over many tokens hides what bfloat16 rounds away in each.

    Args:
        logits_NV: of the vocabulary.
        labels_N: the tokens that are scored.
        never: a token that the model cannot write; its logit counts as -inf.
    """
    if never is not None:
        logits_NV = silence(logits_NV, never)
    return torch.nn.functional.cross_entropy(logits_NV.float(), labels_N, reduction="none")


def silence(logits_NV: Tensor, token_id: int) -> Tensor:
    """The same logits with one token impossible."""
    return logits_NV.index_fill(1, torch.tensor([token_id], device=logits_NV.device), -torch.inf)


def sum_loss(nats_N: Tensor, chosen_N: Tensor) -> TokenLoss:
    """Sum and count of the chosen tokens."""
    return TokenLoss(torch.where(chosen_N, nats_N, 0.0).sum(), chosen_N.sum())
