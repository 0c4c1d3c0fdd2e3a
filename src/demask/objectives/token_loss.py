"""The cross-entropy of chosen tokens, kept as sums.

    loss = token_loss(logits_NV, labels_N)
    mean = (a + b).nats / (a + b).tokens

N scored tokens, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class TokenLoss(NamedTuple):
    """A loss kept as sum and count, so that parts add up exactly.

    Means of batches with different numbers of tokens do not average to the mean of all
    tokens. Add the sums and the counts over micro-batches and ranks, then divide once.
    """

    nats: Tensor  # () float32
    tokens: Tensor  # () int64; the tokens that `nats` stands for


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
