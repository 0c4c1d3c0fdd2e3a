"""Examples side by side, as tensors.

    batch = pack(examples)                   # one row, nothing between the examples
    batch = pad(examples, pad_id=0)          # a row each, filled up on the right

A packed batch has no padding to compute; it needs an attention that keeps its examples apart
(`models.packing`). In a padded one a causal model never looks right, so no attention mask is needed.
"""

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import NotRequired, TypedDict, cast

import torch
from torch import Tensor

from demask.records import IGNORE_INDEX, Example


class Batch(TypedDict):
    """What the trainer gets; B rows of T positions, of a packed batch one row of all N tokens."""

    input_ids: Tensor  # (B, T) or (1, N) int64
    labels: Tensor  # the same; IGNORE_INDEX where there is no loss
    masked: Tensor  # the same, bool: scored and not shown in the prompt
    lengths: Tensor  # one per example, int64: tokens, padding aside
    # Flat places, int64, that predict a scored token: the one at the next place. Known here and not on the
    # device, so that no step has to wait for a GPU to count them.
    predicting: Tensor
    position_ids: NotRequired[Tensor]  # (1, N) int64, packed only: counted anew in each example
    longest: NotRequired[int]  # packed only: tokens of the longest example


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """The same batch on another device."""
    moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    return cast("Batch", moved)


def pad(examples: Sequence[Example], *, pad_id: int) -> Batch:
    """Fill up each example to the longest, on the right.

    Raises:
        ValueError: no example, or one without a scored token, whose loss would be the mean of nothing.
    """
    _refuse_silence(examples)
    length = max(len(example.token_ids) for example in examples)

    def rows(values: list[Sequence[int]], filling: int, dtype: torch.dtype) -> Tensor:
        return torch.tensor([[*row, *[filling] * (length - len(row))] for row in values], dtype=dtype)

    return Batch(
        input_ids=rows([e.token_ids for e in examples], pad_id, torch.int64),
        labels=rows([e.labels for e in examples], IGNORE_INDEX, torch.int64),
        masked=rows([e.masked for e in examples], 0, torch.bool),
        lengths=torch.tensor([len(e.token_ids) for e in examples]),
        predicting=_find_predicting(examples, [length * row for row in range(len(examples))]),
    )


def pack(examples: Sequence[Example]) -> Batch:
    """Put the examples one after another in one row; no label stands where an example begins.

    Raises:
        ValueError: no example, or one without a scored token, whose loss would be the mean of nothing.
    """
    _refuse_silence(examples)
    lengths = [len(example.token_ids) for example in examples]

    def row(values: list[Sequence[int]], dtype: torch.dtype) -> Tensor:
        return torch.tensor([list(chain.from_iterable(values))], dtype=dtype)

    return Batch(
        input_ids=row([e.token_ids for e in examples], torch.int64),
        # The first token of an example would be predicted by the last of the one before it.
        labels=row([(IGNORE_INDEX, *e.labels[1:]) for e in examples], torch.int64),
        masked=row([e.masked for e in examples], torch.bool),
        lengths=torch.tensor(lengths),
        predicting=_find_predicting(examples, [0, *accumulate(lengths)]),
        position_ids=row([range(length) for length in lengths], torch.int64),
        longest=max(lengths),
    )


def _find_predicting(examples: Sequence[Example], starts: Sequence[int]) -> Tensor:
    """Where each example starts is given; its first token is predicted by nothing."""
    places = [
        start + place
        for start, example in zip(starts, examples, strict=False)
        for place, label in enumerate(example.labels[1:])
        if label != IGNORE_INDEX
    ]
    return torch.tensor(places, dtype=torch.int64)


def _refuse_silence(examples: Sequence[Example]) -> None:
    if not examples:
        raise ValueError("a batch of no examples")
    for example in examples:
        if all(label == IGNORE_INDEX for label in example.labels):
            raise ValueError(f"example {example.id} has no token that carries loss")
