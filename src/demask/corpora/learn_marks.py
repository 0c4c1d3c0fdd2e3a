"""Marks in data that say whether an answer is to be learned: `weight` (OpenAI), `train` (axolotl) and others.

read_learn({"role": "assistant", "content": "A draft.", "weight": 0}, "f.jsonl line 3: turn 2")  # False
"""

from collections.abc import Mapping

from demask.documents.text_files import shown
from demask.errors import DataError

# Of a turn: OpenAI, Mistral; axolotl (two names); ms-swift; others.
MARKS = ("weight", "train", "training", "loss", "loss_mask")
# Of a row; `loss` is there a measured number.
ROW_MARKS = ("weight", "train", "training", "loss_mask")
# Of a row, whether its answer is a wanted one (TRL's and LLaMA-Factory's KTO).
LABELS = ("label", "kto_tag")
# Which parts of an answer are learned, by its characters (axolotl).
PARTS = ("train_detail", "training_detail")
_WORDS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def read_learn(message: Mapping[str, object], place: str) -> bool:
    """Whether a turn is to be learned, as its marks say; without marks it is.

    Raises:
        DataError: a mark is neither yes nor no, such as a weight of 0.5, or is about parts of the turn.
    """
    learn = True
    for key in MARKS:
        value = message.get(key)
        if value is None or value == "":
            continue
        mark = _read_mark(value)
        if mark is None:
            raise DataError(
                f"{place}: {key} is {shown(value)}, expected 0 or 1, as a turn is learned or not; mend it"
            )
        learn = learn and mark
    for key in PARTS:
        if message.get(key):
            raise DataError(
                f"{place} has {key!r}, but a turn is learned as a whole or not; set 'train' to true or false"
            )
    return learn


def refuse_unlearned_row(values: Mapping[str, object], source: str) -> None:
    """Raise DataError when the marks of a row say that nothing of it is to be learned."""
    for key in ROW_MARKS:
        value = values.get(key)
        if isinstance(value, list | dict) and value:
            raise DataError(
                f"{source}: {key} is {shown(value)}, expected 0 or 1; set it in each message, or leave it "
                f"out with columns.ignore=[{key}]"
            )
        if _read_mark(value) is False:
            raise _unlearned(key, value, source)
    for key in LABELS:
        value = values.get(key)
        if value is False or (isinstance(value, str) and value.strip().lower() == "false"):
            raise _unlearned(key, value, source)


def is_partial_weight(key: str, value: object) -> bool:
    """Whether a row's mark asks for something between yes and no, which is not done."""
    return key in ROW_MARKS and value not in (None, "") and _read_mark(value) is None


def _unlearned(key: str, value: object, source: str) -> DataError:
    return DataError(
        f"{source}: {key} is {shown(value)}, so its answer is not to be learned; leave the row out, or the "
        f"key with columns.ignore=[{key}]"
    )


def _read_mark(value: object) -> bool | None:
    """A mark as yes or no; None when it is neither."""
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None
