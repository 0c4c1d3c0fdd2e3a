"""Several examples in one row, none of which sees another, and no padding between them.

    with using_attention(model, PACKED):
        logits = model(**packed_inputs(batch), use_cache=False).logits

On a GPU in bf16 one kernel attends within all examples at once (`torch.nn.attention.varlen`);
elsewhere each example is attended on its own, a short one in bf16 by products (`short_attention`).
B sequences, H heads, T positions, D width of a head.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface

from demask.models.acceleration.short_attention import attend_short, is_short
from demask.objectives.batches import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Name of ours among the attentions of transformers. No mask is registered for it, so none is made.
PACKED = "demask_packed"
# What an attention may be asked for besides; one that does not do it would be quietly wrong.
_NOT_DONE = ("softcap", "s_aux", "position_bias")


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
