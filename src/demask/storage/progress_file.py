"""How far a run is, as a file in its folder, so that other programs can show it.

    with recording(progress, Path("runs/first")) as told:
        told.begin("Training", 120, unit="steps")
    read_progress(text_of_the_file)      # Recorded, or None

The file is there while the run works, and goes with it. Numbers in it are at most a second old.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from demask.progress import Progress, Status
from demask.storage.file_names import CONFIG, PROGRESS

# Between two writes: a page that is looked at needs no more.
_SECONDS = 1.0


@dataclass(frozen=True)
class Recorded:
    """Where a run is.

    Attributes:
        phase: its name.
        unit: of its parts.
        total: of its parts.
        done: parts that are done.
        before: parts of these that an earlier process had done.
        seconds: since the phase began.
        values: the latest of what is measured in this phase, by name.
    """

    phase: str
    unit: str = ""
    total: int = 0
    done: int = 0
    before: int = 0
    seconds: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float | None:
        """Of the phase, at the rate so far; None before its first part is done."""
        here = self.done - self.before
        return self.seconds / here * (self.total - self.done) if here > 0 else None


class _Recording:
    """A progress that is also written to a file."""

    def __init__(self, progress: Progress, folder: Path) -> None:
        self._progress, self._folder = progress, folder
        self._status = Status()
        self._begun = self._written = 0.0

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        """See `Progress`."""
        self._progress.begin(phase, total, done=done, unit=unit)
        self._status.begin(phase, total, done=done, unit=unit)
        self._begun = time.monotonic()
        self._write()

    def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Progress`."""
        self._progress.advance(parts, values)
        self._status.advance(parts, values)
        if time.monotonic() - self._written >= _SECONDS:
            self._write()

    def say(self, text: str) -> None:
        """See `Progress`."""
        self._progress.say(text)

    def _write(self) -> None:
        """Without waiting for the disk: what a crash takes is of no use any more."""
        self._written = time.monotonic()
        if not (self._folder / CONFIG).exists():  # the folder is not yet known to be this run's
            return
        row = {**asdict(self._status), "seconds": self._written - self._begun}
        part = self._folder / f".{PROGRESS}.{os.getpid() % 10**8:08}"
        with suppress(OSError):  # a full disk stops what must be kept, and says so
            part.write_text(json.dumps(row) + "\n", encoding="utf-8")
            os.replace(part, self._folder / PROGRESS)


@contextmanager
def recording(progress: Progress, folder: Path) -> Iterator[Progress]:
    """Have the progress of a block also stand in a file of the folder.

    Args:
        progress: told all the same.
        folder: of the run; nothing is written before it has a recipe.
    """
    try:
        yield _Recording(progress, folder)
    finally:
        with suppress(OSError):
            (folder / PROGRESS).unlink(missing_ok=True)


def read_progress(text: str) -> Recorded | None:
    """Of what stands in the file; None: it is none of ours."""
    try:
        row = json.loads(text)
        return Recorded(
            phase=str(row["phase"]),
            unit=str(row["unit"]),
            total=int(row["total"]),
            done=int(row["done"]),
            before=int(row["before"]),
            seconds=float(row["seconds"]),
            values={str(name): float(value) for name, value in row["values"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
