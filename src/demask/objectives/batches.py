"""Examples of different lengths as one batch of tensors.

    batch = collate(examples, pad_id=0)

B examples, T positions. Padding stands on the right and carries no label. A causal model never
looks right, so no attention mask is needed, and attention keeps its fast path.
"""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from demask.records import IGNORE_INDEX, Example


class Batch(TypedDict):
    """What the trainer gets."""

    input_ids: Tensor  # (B, T) int64
    labels: Tensor  # (B, T) int64, IGNORE_INDEX where there is no loss
    masked: Tensor  # (B, T) bool, scored and not shown in the prompt
    lengths: Tensor  # (B,) int64, tokens of each example, padding aside


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """The same batch on another device."""
    return Batch(
        input_ids=batch["input_ids"].to(device),
        labels=batch["labels"].to(device),
        masked=batch["masked"].to(device),
        lengths=batch["lengths"].to(device),
    )


def collate(examples: Sequence[Example], *, pad_id: int) -> Batch:
    """Pad to the longest example.

    Raises:
        ValueError: no example, or one without a scored token, whose loss would be the mean of nothing.
    """
    if not examples:
        raise ValueError("a batch of no examples")
    for example in examples:
        if all(label == IGNORE_INDEX for label in example.labels):
            raise ValueError(f"example {example.id} has no token that carries loss")
    length = max(len(example.token_ids) for example in examples)

    def pad(rows: list[Sequence[int]], value: int, dtype: torch.dtype) -> Tensor:
        return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows], dtype=dtype)

    return Batch(
        input_ids=pad([e.token_ids for e in examples], pad_id, torch.int64),
        labels=pad([e.labels for e in examples], IGNORE_INDEX, torch.int64),
        masked=pad([e.masked for e in examples], 0, torch.bool),
        lengths=torch.tensor([len(e.token_ids) for e in examples]),
    )
