"""Examples side by side, as tensors.

    batch = pack(examples)                   # one row, nothing between the examples
    batch = pad(examples, pad_id=0)          # a row each, filled up on the right

A packed batch has no padding to compute; it needs an attention that keeps its examples apart
(`models.packing`). In a padded one a causal model never looks right, so no attention mask is needed.
A token is predicted by the hidden state one place before it, or, with `shift=0`, by its own.
"""

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import NotRequired, TypedDict, cast

import torch
from torch import Tensor

from demask.records import IGNORE_INDEX, SOURCES, Example, Source


class Batch(TypedDict):
    """What the trainer gets; B rows of T positions, of a packed batch one row of all positions.

    The N scored tokens are found here and not on the device, so that no step has to wait for a GPU to
    count them.
    """

    input_ids: Tensor  # (B, T) int64
    labels: Tensor  # the same; IGNORE_INDEX where there is no loss
    masked: Tensor  # the same, bool: scored and not shown to the model
    lengths: Tensor  # one per example, int64: tokens, padding aside
    supervised: Tensor  # one per example, int64: tokens that its loss stands for
    scored: Tensor  # (N,) int64; places in the flattened batch
    predicting: Tensor  # (N,) int64; places of the hidden states that predict them
    weights: Tensor  # (N,) float32; of their losses
    shares: Tensor  # (N,) float32; of the tokens of their example that are masked
    sources: Tensor  # (N,) int64; places in `SOURCES`
    rows: Tensor  # (N,) int64; of a reference model's targets, -1 without
    stands_for: Tensor  # one per source, int64: tokens that its losses stand for
    present: frozenset[Source]  # sources that it has tokens of
    position_ids: NotRequired[Tensor]  # (1, T) int64, packed only: counted anew in each example
    longest: NotRequired[int]  # packed only: tokens of the longest example


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """The same batch on another device."""
    moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    return cast("Batch", moved)


def pad(examples: Sequence[Example], *, pad_id: int, shift: int = 1) -> Batch:
    """Fill up each example to the longest, on the right.

    Raises:
        ValueError: no example, or one that stands for no token, whose loss would be the mean of nothing.
    """
    _refuse_silence(examples)
    length = max(len(example.token_ids) for example in examples)

    def rows(values: list[Sequence[int]], filling: int, dtype: torch.dtype) -> Tensor:
        return torch.tensor([[*row, *[filling] * (length - len(row))] for row in values], dtype=dtype)

    batch = {
        "input_ids": rows([e.token_ids for e in examples], pad_id, torch.int64),
        "labels": rows([e.labels for e in examples], IGNORE_INDEX, torch.int64),
        "masked": rows([e.masked for e in examples], 0, torch.bool),
        **_describe(examples, [length * row for row in range(len(examples))], shift),
    }
    return cast("Batch", batch)


def pack(examples: Sequence[Example], *, shift: int = 1) -> Batch:
    """Put the examples one after another in one row.

    Raises:
        ValueError: no example, or one that stands for no token, whose loss would be the mean of nothing.
    """
    _refuse_silence(examples)
    lengths = [len(example.token_ids) for example in examples]

    def row(values: list[Sequence[int]], dtype: torch.dtype) -> Tensor:
        return torch.tensor([list(chain.from_iterable(values))], dtype=dtype)

    batch = {
        "input_ids": row([e.token_ids for e in examples], torch.int64),
        "labels": row([e.labels for e in examples], torch.int64),
        "masked": row([e.masked for e in examples], torch.bool),
        "position_ids": row([range(length) for length in lengths], torch.int64),
        "longest": max(lengths),
        **_describe(examples, [0, *accumulate(lengths)], shift),
    }
    return cast("Batch", batch)


def _describe(examples: Sequence[Example], starts: Sequence[int], shift: int) -> dict[str, object]:
    """What is scored; each example's start is given, and no token before it predicts one of its own."""
    places: list[int] = []
    weights: list[float] = []
    shares: list[float] = []
    sources: list[int] = []
    rows: list[int] = []
    stands_for = [0] * len(SOURCES)
    for start, example in zip(starts, examples, strict=False):
        mine = [start + p for p, label in enumerate(example.labels) if label != IGNORE_INDEX and p >= shift]
        places += mine
        weights += [example.weight] * len(mine)
        shares += [sum(example.masked) / count_supervised(example)] * len(mine)
        source = SOURCES.index(example.source)
        sources += [source] * len(mine)
        rows += [-1] * len(mine) if example.row is None else range(example.row, example.row + len(mine))
        stands_for[source] += count_supervised(example)
    scored = torch.tensor(places, dtype=torch.int64)
    return {
        "lengths": torch.tensor([len(example.token_ids) for example in examples]),
        "supervised": torch.tensor([count_supervised(example) for example in examples]),
        "scored": scored,
        "predicting": scored - shift,
        "weights": torch.tensor(weights, dtype=torch.float32),
        "shares": torch.tensor(shares, dtype=torch.float32),
        "sources": torch.tensor(sources, dtype=torch.int64),
        "rows": torch.tensor(rows, dtype=torch.int64),
        "stands_for": torch.tensor(stands_for),
        "present": frozenset(example.source for example in examples),
    }


def count_supervised(example: Example) -> int:
    """Tokens that the loss of an example stands for."""
    if example.supervised is not None:
        return example.supervised
    return sum(label != IGNORE_INDEX for label in example.labels[1:])


def _refuse_silence(examples: Sequence[Example]) -> None:
    if not examples:
        raise ValueError("a batch of no examples")
    for example in examples:
        if not count_supervised(example):
            raise ValueError(f"example {example.id} has no token that carries loss")
