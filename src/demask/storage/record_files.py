"""Files of records, read one at a time.

records = RecordFile(Path("passages.jsonl"), Passage)
records[17], len(records)
"""

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, overload

R = TypeVar("R")


class RecordFile(Sequence[R]):
    """Records of a JSON Lines file, read when they are asked for; only where each line starts is kept."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        """Read the file once, for its lines."""
        self.path = path
        self._kind = kind
        self._starts = array("Q", [0])
        with path.open("rb") as file:
            for line in file:
                self._starts.append(self._starts[-1] + len(line))

    def __len__(self) -> int:
        """How many records there are."""
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[R]:
        """All of them, in order."""
        with self.path.open("rb") as file:
            for line in file:
                yield make_record(self._kind, json.loads(line))

    @overload
    def __getitem__(self, place: int) -> R: ...
    @overload
    def __getitem__(self, place: slice) -> list[R]: ...
    def __getitem__(self, place: int | slice) -> R | list[R]:
        """One of them, or some."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        start, end = self._starts[range(len(self))[place]], self._starts[range(1, len(self) + 1)[place]]
        with self.path.open("rb") as file:
            file.seek(start)
            return make_record(self._kind, json.loads(file.read(end - start)))


def make_record(kind: type[R], row: Mapping[str, Any]) -> R:
    """A record of a row; unknown keys are left out, lists become tuples."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k in known})
