"""A batch is its examples, padded on the right, and nothing else."""

from typing import Any

import pytest
import torch

from demask.objectives.batches import move_batch, pack, pad
from demask.records import IGNORE_INDEX, Example

LONG = Example("long", (1, 2, 3, 4), (IGNORE_INDEX, IGNORE_INDEX, 3, 4), (False, False, True, False))
SHORT = Example("short", (5, 6), (IGNORE_INDEX, 6), (False, True))
PAD = 99


def test_padding_stands_on_the_right_and_carries_no_label_and_no_mask():
    batch = pad([LONG, SHORT], pad_id=PAD)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [5, 6, PAD, PAD]]
    assert batch["labels"].tolist() == [
        [IGNORE_INDEX, IGNORE_INDEX, 3, 4],
        [IGNORE_INDEX, 6, IGNORE_INDEX, IGNORE_INDEX],
    ]
    assert batch["masked"].tolist() == [[False, False, True, False], [False, True, False, False]]


def test_types_are_those_that_models_take():
    batch = pad([SHORT], pad_id=PAD)
    assert batch["input_ids"].dtype == batch["labels"].dtype == batch["lengths"].dtype == torch.int64
    assert batch["masked"].dtype == torch.bool


def test_lengths_do_not_count_padding():
    assert pad([LONG, SHORT], pad_id=PAD)["lengths"].tolist() == [4, 2]


def test_a_batch_of_one_has_no_padding():
    assert PAD not in pad([LONG], pad_id=PAD)["input_ids"]


def test_pad_id_inside_an_example_keeps_its_label():
    example = Example("ends-with-pad", (5, PAD), (IGNORE_INDEX, PAD), (False, False))
    assert pad([example, LONG], pad_id=PAD)["labels"][0].tolist() == [
        IGNORE_INDEX,
        PAD,
        IGNORE_INDEX,
        IGNORE_INDEX,
    ]


def test_order_of_examples_is_kept():
    one, other = (pad(pair, pad_id=PAD)["input_ids"] for pair in ([LONG, SHORT], [SHORT, LONG]))
    assert torch.equal(one, other.flip(0))


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match="no examples"):
        pad([], pad_id=PAD)


def test_an_example_without_loss_is_refused_by_name():
    silent = Example("silent", (1, 2), (IGNORE_INDEX, IGNORE_INDEX), (False, False))
    with pytest.raises(ValueError, match="example silent has no token that carries loss"):
        pad([LONG, silent], pad_id=PAD)


def test_a_moved_batch_is_the_same_batch():
    batch = pad([LONG, SHORT], pad_id=PAD)
    moved = move_batch(batch, torch.device("cpu"))
    assert moved.keys() == batch.keys()
    assert moved["present"] == batch["present"] == {"document"}
    tensors: dict[str, Any] = {key: value for key, value in moved.items() if key != "present"}
    before = dict[str, Any](batch)
    assert all(torch.equal(value, before[key]) for key, value in tensors.items())


def test_packed_examples_stand_one_after_another_in_one_row():
    batch = pack([LONG, SHORT])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1]]
    assert batch["masked"].tolist() == [[False, False, True, False, False, True]]
    assert (batch["lengths"].tolist(), batch["longest"]) == ([4, 2], 4)


def test_no_label_of_a_packed_example_is_predicted_by_the_example_before_it():
    raw = Example("raw", (7, 8, 9), (7, 8, 9), (False, False, False))
    batch = pack([raw, raw])
    assert batch["scored"].tolist() == [1, 2, 4, 5]
    assert batch["predicting"].tolist() == [0, 1, 3, 4]
    assert batch["supervised"].tolist() == [2, 2]


def test_without_a_shift_each_token_is_predicted_at_its_own_place():
    raw = Example("raw", (7, 8, 9), (7, IGNORE_INDEX, 9), (True, False, True), weight=2.5, supervised=3)
    for batch in (pack([raw, SHORT], shift=0), pad([raw, SHORT], pad_id=PAD, shift=0)):
        assert batch["predicting"].tolist() == batch["scored"].tolist() == [0, 2, 4]
        assert batch["weights"].tolist() == [2.5, 2.5, 1]
        assert batch["supervised"].tolist() == [3, 1]
        assert batch["shares"].tolist() == pytest.approx([2 / 3, 2 / 3, 1])


@pytest.mark.parametrize("examples", [[], [Example("silent", (1,), (IGNORE_INDEX,), (False,))]])
def test_what_cannot_be_padded_cannot_be_packed(examples):
    with pytest.raises(ValueError, match=r"no examples|no token that carries loss"):
        pack(examples)


def test_a_moved_packed_batch_is_the_same_batch():
    batch = pack([LONG, SHORT])
    moved = move_batch(batch, torch.device("cpu"))
    assert moved.keys() == batch.keys()
    assert moved["longest"] == 4


RAW = Example("raw", (7, 8, 9), (7, 8, 9), (False, False, False))  # a label at its very beginning


@pytest.mark.parametrize("layout", [pack, lambda examples: pad(examples, pad_id=PAD)])
def test_the_places_that_predict_are_those_before_labels_of_the_same_example(layout):
    batch = layout([RAW, SHORT, LONG, RAW])
    tokens, labels = batch["input_ids"].flatten(), batch["labels"].flatten()
    places = batch["predicting"]
    assert labels[places + 1].tolist() == [8, 9, 6, 3, 4, 8, 9]
    assert tokens[places].tolist() == [7, 8, 5, 2, 3, 7, 8]
