"""A batch is its examples, padded on the right, and nothing else."""

import pytest
import torch

from demask.objectives.batches import collate, move_batch
from demask.records import IGNORE_INDEX, Example

LONG = Example("long", (1, 2, 3, 4), (IGNORE_INDEX, IGNORE_INDEX, 3, 4), (False, False, True, False))
SHORT = Example("short", (5, 6), (IGNORE_INDEX, 6), (False, True))
PAD = 99


def test_padding_stands_on_the_right_and_carries_no_label_and_no_mask():
    batch = collate([LONG, SHORT], pad_id=PAD)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [5, 6, PAD, PAD]]
    assert batch["labels"].tolist() == [
        [IGNORE_INDEX, IGNORE_INDEX, 3, 4],
        [IGNORE_INDEX, 6, IGNORE_INDEX, IGNORE_INDEX],
    ]
    assert batch["masked"].tolist() == [[False, False, True, False], [False, True, False, False]]


def test_types_are_those_that_models_take():
    batch = collate([SHORT], pad_id=PAD)
    assert batch["input_ids"].dtype == batch["labels"].dtype == batch["lengths"].dtype == torch.int64
    assert batch["masked"].dtype == torch.bool


def test_lengths_do_not_count_padding():
    assert collate([LONG, SHORT], pad_id=PAD)["lengths"].tolist() == [4, 2]


def test_a_batch_of_one_has_no_padding():
    assert PAD not in collate([LONG], pad_id=PAD)["input_ids"]


def test_pad_id_inside_an_example_keeps_its_label():
    example = Example("ends-with-pad", (5, PAD), (IGNORE_INDEX, PAD), (False, False))
    assert collate([example, LONG], pad_id=PAD)["labels"][0].tolist() == [
        IGNORE_INDEX,
        PAD,
        IGNORE_INDEX,
        IGNORE_INDEX,
    ]


def test_order_of_examples_is_kept():
    one, other = (collate(pair, pad_id=PAD)["input_ids"] for pair in ([LONG, SHORT], [SHORT, LONG]))
    assert torch.equal(one, other.flip(0))


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match="no examples"):
        collate([], pad_id=PAD)


def test_an_example_without_loss_is_refused_by_name():
    silent = Example("silent", (1, 2), (IGNORE_INDEX, IGNORE_INDEX), (False, False))
    with pytest.raises(ValueError, match="example silent has no token that carries loss"):
        collate([LONG, silent], pad_id=PAD)


def test_a_moved_batch_is_the_same_batch():
    batch = collate([LONG, SHORT], pad_id=PAD)
    moved = move_batch(batch, torch.device("cpu"))
    assert moved.keys() == batch.keys()
    assert all(torch.equal(moved[key], batch[key]) for key in batch)
