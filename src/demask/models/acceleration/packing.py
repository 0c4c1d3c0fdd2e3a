"""Several examples in one row, none of which sees another, and no padding between them.

    with using_attention(model, PACKED):
        logits = model(**packed_inputs(batch), use_cache=False).logits

On a GPU in bf16 one kernel attends within all examples at once (`torch.nn.attention.varlen`); elsewhere each
example is attended on its own, a short one in bf16 on a CPU by products of whole matrices (`attend_short`).
PyTorch's kernel for CPUs goes block by block, and backward in bfloat16 spends its time between blocks: 15 ms
forward and backward for five sequences of 70 tokens (9 heads of 64 over 3, two cores with AVX-512), where
these products take 4.4; with three of 220 tokens 19 and 11 ms, with one of 512 they are even.
B sequences, H heads of queries, G of keys and values, T positions, D width of a head.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface

from demask.objectives.batches import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LONGEST = 256
# Name of ours among the attentions of transformers. No mask is registered for it, so none is made.
PACKED = "demask_packed"
# What an attention may be asked for besides; one that does not do it would be quietly wrong.
_NOT_DONE = ("softcap", "s_aux", "position_bias")


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


class _Bounds(NamedTuple):
    """What a query may see."""

    ends: Tensor  # int32; where the examples end, 0 first
    longest: int
    causal: bool
    window: int | None  # keys that a query sees, itself included; if not causal, how far it sees
    scaling: float | None
    dropout: float


def can_pack(model: "type[PreTrainedModel] | PreTrainedModel") -> bool:
    """Whether an architecture lets its attention be replaced; whether it is exact, a trial must tell."""
    return bool(getattr(model, "_supports_attention_backend", False))


@contextmanager
def using_attention(model: "PreTrainedModel", name: str) -> Iterator[None]:
    """Have a model attend by another of transformers' attentions for a while.

    `PACKED` takes packed batches and nothing else. Gradient checkpointing attends once more while going
    backward, so it must last until then.
    """
    usual = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def packed_inputs(batch: Batch, *, causal: bool = True) -> dict[str, Any]:
    """The arguments of a model for a packed batch, by the names of transformers' flash attention."""
    ends = torch.nn.functional.pad(batch["lengths"].cumsum(0), (1, 0)).to(torch.int32)
    return {
        "input_ids": batch["input_ids"],
        "position_ids": batch["position_ids"],
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": batch["longest"],
        "max_length_k": batch["longest"],
        # Attention layers call themselves causal whatever the configuration says.
        **({} if causal else {"is_causal": False}),
    }


@torch.compiler.disable  # type: ignore[untyped-decorator]  # boundaries are data; what stands around the attention is compiled
def _attend(
    module: torch.nn.Module,
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    **settings: Any,
) -> tuple[Tensor, None]:
    """An attention of transformers; see its `AttentionInterface`. Gives (B, T, H, D)."""
    undone = [name for name in _NOT_DONE if settings.get(name) is not None]
    if undone or attention_mask is not None or "cu_seq_lens_q" not in settings:
        raise ValueError(f"packed attention without boundaries, or with {undone or 'a mask'}")
    # Under autocast the rotary embedding leaves float32 queries and keys beside bfloat16 values.
    query_BHTD, key_BHTD = query_BHTD.to(value_BHTD.dtype), key_BHTD.to(value_BHTD.dtype)
    causal = settings.get("is_causal")
    at_once = value_BHTD.is_cuda and value_BHTD.dtype.itemsize == 2 and not dropout
    attend = _attend_at_once if at_once else _attend_in_turn
    bounds = _Bounds(
        ends=settings["cu_seq_lens_q"],
        longest=settings["max_length_q"],
        causal=getattr(module, "is_causal", True) if causal is None else causal,
        window=settings.get("sliding_window"),
        scaling=settings.get("scaling"),
        dropout=dropout,
    )
    return attend(query_BHTD, key_BHTD, value_BHTD, bounds), None


AttentionInterface.register(PACKED, _attend)


def _attend_in_turn(query_BHTD: Tensor, key_BHTD: Tensor, value_BHTD: Tensor, bounds: _Bounds) -> Tensor:
    lengths = bounds.ends.diff().tolist()
    grouped = query_BHTD.shape[1] != key_BHTD.shape[1]
    parts = []
    for query, key, value in zip(
        *(x.split(lengths, dim=2) for x in (query_BHTD, key_BHTD, value_BHTD)), strict=True
    ):
        length = query.shape[2]
        reach = bounds.window or length
        if is_short(query) and length <= reach and not bounds.dropout:
            parts.append(attend_short(query, key, value, causal=bounds.causal, scale=bounds.scaling))
            continue
        near = _window_mask(length, bounds, query.device) if length > reach else None
        parts.append(
            torch.nn.functional.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=near,
                dropout_p=bounds.dropout,
                is_causal=bounds.causal and near is None,
                scale=bounds.scaling,
                enable_gqa=grouped,
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2)


def _window_mask(length: int, bounds: _Bounds, device: torch.device) -> Tensor:
    """(T, T) bool: the keys that each query sees."""
    window = bounds.window or length
    places = torch.arange(length, device=device)
    back = places[:, None] - places[None, :]
    # As transformers: to either side the window counts what is apart, behind it the query itself, too.
    return (back >= 0) & (back < window) if bounds.causal else back.abs() <= window


def _attend_at_once(query_BHTD: Tensor, key_BHTD: Tensor, value_BHTD: Tensor, bounds: _Bounds) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (x[0].transpose(0, 1) for x in (query_BHTD, key_BHTD, value_BHTD))
    known = _varlen_settings()
    settings: dict[str, Any] = {"scale": bounds.scaling}
    if "enable_gqa" in known:
        settings["enable_gqa"] = True
    elif query.shape[1] != key.shape[1]:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    if "window_size" in known:
        reach = -1 if bounds.window is None else bounds.window - bounds.causal
        settings["window_size"] = (reach, 0 if bounds.causal else reach)
    elif bounds.longest <= (bounds.window or bounds.longest):
        settings["is_causal"] = bounds.causal
    else:
        raise ValueError(f"this version of PyTorch has no window of {bounds.window} in its attention")
    out: Any = varlen_attn(
        query, key, value, bounds.ends, bounds.ends, bounds.longest, bounds.longest, **settings
    )
    return torch.as_tensor(out)[None]


@cache
def _varlen_settings() -> frozenset[str]:
    """Its keywords differ between versions of PyTorch: 2.11 came before some of them."""
    from torch.nn.attention.varlen import varlen_attn

    return frozenset(inspect.signature(varlen_attn).parameters)
