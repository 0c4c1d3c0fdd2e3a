"""Attention within one short sequence in bfloat16 on a CPU: products of whole matrices.

    if is_short(query_1HTD):
        out_1HTD = attend_short(query_1HTD, key_1GTD, value_1GTD, causal=True, scale=0.125)

PyTorch's kernel for CPUs goes block by block, and backward in bfloat16 spends its time between blocks: 15 ms
forward and backward for five sequences of 70 tokens (9 heads of 64 over 3, two cores with AVX-512), where
these products take 4.4; with three of 220 tokens 19 and 11 ms, with one of 512 they are even.
H heads of queries, G of keys and values, T positions, D width of a head.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LONGEST = 256


def is_short(query_1HTD: Tensor) -> bool:
    """Whether `attend_short` is the quicker way, and exact for this dtype."""
    on_cpu = query_1HTD.device.type == "cpu"
    return on_cpu and query_1HTD.dtype == torch.bfloat16 and query_1HTD.shape[2] <= _LONGEST


def attend_short(
    query_1HTD: Tensor, key_1GTD: Tensor, value_1GTD: Tensor, *, causal: bool, scale: float | None
) -> Tensor:
    """Softmax attention, (1, H, T, D); scores are rounded to bfloat16, their softmax is taken in float32.

    Args:
        query_1HTD: heads that share one of keys and values stand beside each other.
        key_1GTD: H is a multiple of G.
        value_1GTD: its D may be another.
        causal: no position sees a later one; else each sees all.
        scale: of the scores; None: one over the root of D.
    """
    _, heads, length, width = query_1HTD.shape
    groups = key_1GTD.shape[1]
    bias_ST = _bias(length, heads // groups, causal)
    # The heads that share keys are rows of one matrix: S = T H / G.
    query_GSD = query_1HTD.reshape(groups, -1, width)
    with torch.autocast("cpu", enabled=False):
        out_GSD: Any = _Attention.apply(
            query_GSD, key_1GTD[0], value_1GTD[0], bias_ST, width**-0.5 if scale is None else scale
        )
    return torch.as_tensor(out_GSD).reshape(1, heads, length, -1)


@lru_cache(maxsize=64)
def _bias(length: int, repeats: int, causal: bool) -> Tensor:
    """What is added to the scores: minus infinity where a position must not look; (repeats T, T)."""
    shape = (length, length)
    bias = torch.full(shape, -torch.inf).triu(1) if causal else torch.zeros(shape)
    return bias.to(torch.bfloat16).repeat(repeats, 1)


def _weigh(query_GSD: Tensor, key_GTD: Tensor, bias_ST: Tensor, scale: float) -> Tensor:
    return torch.softmax(torch.baddbmm(bias_ST, query_GSD, key_GTD.mT, alpha=scale), dim=-1)


class _Attention(torch.autograd.Function):
    """The weights of attention are computed once more going backward: holding them would cost memory."""

    @staticmethod
    def forward(
        ctx: Any, query_GSD: Tensor, key_GTD: Tensor, value_GTD: Tensor, bias_ST: Tensor, scale: float
    ) -> Tensor:
        ctx.save_for_backward(query_GSD, key_GTD, value_GTD)
        ctx.bias_ST, ctx.scale = bias_ST, scale
        return torch.bmm(_weigh(query_GSD, key_GTD, bias_ST, scale), value_GTD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_GSD: Tensor) -> tuple[Tensor | None, ...]:
        query_GSD, key_GTD, value_GTD = ctx.saved_tensors
        weights_GST = _weigh(query_GSD, key_GTD, ctx.bias_ST, ctx.scale)
        value_gradient = torch.bmm(weights_GST.mT, gradient_GSD)
        upstream_GST = torch.bmm(gradient_GSD, value_GTD.mT)
        scores_GST = torch._softmax_backward_data(upstream_GST, weights_GST, -1, weights_GST.dtype)
        query_gradient = torch.bmm(scores_GST, key_GTD).mul_(ctx.scale)
        key_gradient = torch.bmm(scores_GST.mT, query_GSD).mul_(ctx.scale)
        return query_gradient, key_gradient, value_gradient, None, None
