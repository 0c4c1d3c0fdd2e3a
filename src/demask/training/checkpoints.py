"""Which checkpoint a killed run goes on from.

checkpoint = find_checkpoint(folder)
"""

import shutil
from pathlib import Path

# Written last into a checkpoint: one without it was cut short by a crash.
COMPLETE = "complete"
# What it says where training ended before its last step.
_THE_END = "enough"


def mark_complete(checkpoint: Path, *, the_end: bool) -> None:
    """Say that a checkpoint is whole, and whether training ended with it."""
    (checkpoint / COMPLETE).write_text(_THE_END if the_end else "")


def is_the_end(checkpoint: Path) -> bool:
    """Whether training ended with this checkpoint, before its last step."""
    return (checkpoint / COMPLETE).read_text() == _THE_END


def find_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; those that a crash cut short are removed."""
    complete = {}
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).exists():
            complete[int(path.name.rpartition("-")[2])] = path
        else:
            shutil.rmtree(path)
    return complete[max(complete)] if complete else None


def checkpoint_step(folder: Path) -> int:
    """The step after which training goes on; 0 when there is no complete checkpoint."""
    checkpoint = find_checkpoint(folder)
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
