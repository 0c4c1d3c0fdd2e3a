"""One run, one folder: every stage leaves a file that can be read, skipped or replaced by hand.

    run = claim_run_folder("runs/first", config)     # refuses the folder of another recipe
    run.write_rows("qa_pairs.jsonl", pairs)
    pairs = run.read_records("qa_pairs.jsonl", QAPair)
    passages = run.open_records("passages.jsonl", Passage)
    passages[17], len(passages)                      # read when asked for

Files are written atomically.
"""

import json
import shutil
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, TextIO, TypeVar, overload

from demask.errors import ConfigError, RunError
from demask.storage.atomic import TEMPORARY, unwritable, write_lines, write_text
from demask.storage.file_names import (
    CONFIG,
    DATA,
    LINEAGE,
    METRICS,
    MODEL,
    PASSAGES,
    SUMMARY,
    TRAINING,
    predictions_file,
)
from demask.storage.locks import LOCK, find_holder, holding

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


def as_line(record: object) -> str:
    """A record (a dataclass or a mapping) as a line of a JSON Lines file."""
    row = asdict(record) if is_dataclass(record) and not isinstance(record, type) else record
    return json.dumps(row, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, by name."""

    path: Path

    def file(self, name: str) -> Path:
        """Where a file of this run stands."""
        return self.path / name

    def has(self, name: str) -> bool:
        """Whether a stage has already left this file."""
        return self.file(name).exists()

    def remove(self, *names: str) -> None:
        """Delete files and folders of this run, those that are there."""
        for path in map(self.file, names):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def write_json(self, name: str, value: object) -> None:
        """Write one object, indented for people."""
        write_text(self.file(name), json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Read one object.

        Raises:
            RunError: the file is missing or is not JSON.
        """
        try:
            return json.loads(self._read(name))
        except json.JSONDecodeError as error:
            raise RunError(
                f"{self.file(name)}: not JSON ({error}); delete it to have it made again"
            ) from error

    def write_rows(self, name: str, records: Iterable[object]) -> None:
        """Write records (dataclasses or mappings) as JSON Lines."""
        write_lines(self.file(name), map(as_line, records))

    def holds_rows(self, name: str, records: Iterable[object]) -> bool:
        """Whether a file holds these very records; neither is read as a whole."""
        for row, record in zip_longest(self.iter_rows(name), records):
            if row is None or record is None or row != json.loads(as_line(record)):
                return False
        return True

    def append_row(self, name: str, row: Mapping[str, object]) -> None:
        """Add one line to a log.

        Raises:
            RunError: the disk is full or the folder cannot be written.
        """
        try:
            with self.file(name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as error:
            raise unwritable(self.file(name), error) from error

    def keep_rows(self, name: str, *, until_step: int) -> list[dict[str, Any]]:
        """Drop the lines of a log after a step, and one that a crash cut short; returns the others."""
        if not self.has(name):
            return []
        rows = []
        for line in self._read(name).split("\n"):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            if row["step"] <= until_step:
                rows.append(row)
        self.write_rows(name, rows)
        return rows

    def read_rows(self, name: str) -> list[dict[str, Any]]:
        """Read JSON Lines.

        Raises:
            RunError: the file is missing, or a line is not a JSON object.
        """
        return list(self.iter_rows(name))

    def iter_rows(self, name: str) -> Iterator[dict[str, Any]]:
        """As `read_rows`, line by line."""
        with self._open(name) as file:
            for number, line in enumerate(file, start=1):
                if line == "\n":
                    continue
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise RunError(f"{self.file(name)} line {number}: not JSON ({error})") from error

    def read_records(self, name: str, kind: type[R]) -> list[R]:
        """Read JSON Lines as records of one kind; unknown keys are left out, lists become tuples."""
        return [make_record(kind, row) for row in self.iter_rows(name)]

    def open_records(self, name: str, kind: type[R]) -> RecordFile[R]:
        """The same without holding them, for files that may be larger than memory."""
        self._open(name).close()
        return RecordFile(self.file(name), kind)

    def _read(self, name: str) -> str:
        with self._open(name) as file:
            return file.read()

    def _open(self, name: str) -> TextIO:
        try:
            # Lines end at line feeds alone, as they are written: a text may hold U+2028 or a carriage return.
            return self.file(name).open(encoding="utf-8", newline="\n")
        except FileNotFoundError:
            raise RunError(
                f"{self.file(name)}: no such file; is {self.path} a run folder made by 'demask inject'?"
            ) from None
        except OSError as error:
            raise RunError(f"{self.file(name)}: cannot be read ({error.strerror})") from error


def open_run_folder(path: str | Path) -> RunFolder:
    """An existing run folder of `demask inject`.

    Raises:
        RunError: there is none at this place.
    """
    run = RunFolder(Path(path))
    kind = _kind_of_run(path)
    if kind == "data":
        raise RunError(
            f"{path}: a run of 'demask sft', expected one of 'demask inject'; what it did stands in {SUMMARY}"
        )
    if kind is None:
        raise RunError(f"{path}: not a run folder; expected one made by 'demask inject'")
    return run


def open_finished_run(path: str | Path) -> RunFolder:
    """A run of `demask inject` with a report and its model.

    Raises:
        RunError: there is none at this place.
    """
    run = open_run_folder(path)
    if not run.has(SUMMARY):
        raise RunError(f"{path}: this run is not finished: {describe_unfinished(run)}")
    if not run.has(MODEL):
        raise RunError(
            f"{path}: its {MODEL}/ was removed; start its command again to train it anew, or have it given "
            "back by 'demask undo' of a run that went on from it"
        )
    return run


def is_run_folder(path: str | Path) -> bool:
    """Whether a run of `demask inject` stands there; a model's `config.json` has other keys."""
    return _kind_of_run(path) == "documents"


def _kind_of_run(path: str | Path) -> Literal["documents", "data"] | None:
    """What a run learns: documents (`demask inject`) or data (`demask sft`); None: this is no run."""
    run = RunFolder(Path(path))
    if not run.has(CONFIG):
        return None
    config = run.read_json(CONFIG)
    if not isinstance(config, dict) or not {"model", "objective"} <= set(config):
        return None
    return "documents" if "documents" in config else "data" if "data" in config else None


def trained_model(name: str) -> str:
    """The model folder of a run; any other name stays as it is.

    Raises:
        RunError: the run has not finished training.
    """
    kind = _kind_of_run(name)
    if kind is None:
        return name
    run = RunFolder(Path(name))
    if run.has(MODEL):
        return str(run.file(MODEL))
    if run.has(SUMMARY):
        raise RunError(
            f"{name}: this run is finished, and its {MODEL}/ was removed (as 'demask reproduce' does without "
            "--keep-models); start its command again to train it anew"
        )
    raise RunError(f"{name}: this run has no trained model yet: {describe_unfinished(run)}")


def describe_unfinished(run: RunFolder) -> str:
    """What an unfinished run is, how far it came, and how to go on; for the end of a line."""
    config, holder = run.read_json(CONFIG), find_holder(run.path)
    command = "inject" if "documents" in config else "sft"
    command = "update" if run.has(LINEAGE) else command
    what = f"'demask {command}' of {config['objective']['name']} on {config['model']}"
    if holder is not None:
        return f"{what} is still running ({holder}), {_how_far(run)}; wait until it has ended"
    return f"{what} came as far as this: {_how_far(run)}; start the same command again to go on"


def _how_far(run: RunFolder) -> str:
    """The last stage that has left something."""
    if run.has(TRAINING) and run.has(MODEL):
        return "trained, but not all questions are answered and judged"
    last: dict[str, Any] = {}
    for line in run.file(METRICS).read_text(encoding="utf-8").splitlines() if run.has(METRICS) else ():
        with suppress(json.JSONDecodeError):  # cut short by a crash
            last = json.loads(line)
    if last:
        planned = f" of {last['planned_steps']}" if "planned_steps" in last else ""
        return f"training, step {last['step']}{planned}"
    if run.has(predictions_file("before")):
        return "questions asked before training, nothing trained"
    if run.has(PASSAGES) or run.has(DATA):
        return (
            "documents read, nothing asked or trained" if run.has(PASSAGES) else "data read, nothing trained"
        )
    return "begun, nothing read"


def claim_run_folder(path: str | Path, config: Mapping[str, object], *, name: str = CONFIG) -> RunFolder:
    """A new run folder, or the one that this very recipe has begun.

    Args:
        path: of the folder.
        config: what must be the same for going on.
        name: of the file that holds it.

    Raises:
        ConfigError: the folder holds the run of another recipe, or other files.
        RunError: the folder cannot be written.
    """
    run = RunFolder(Path(path))
    refuse_other_folder(path, name=name)
    wanted = json.loads(json.dumps(config))
    if _is_begun(run, name):
        changed = _first_difference(run.read_json(name), wanted)
        if changed:
            raise ConfigError(
                f"{path}: holds the run of another recipe ({changed}); choose another --out or delete it"
            )
        _sweep(run)
        return run
    run.write_json(name, wanted)
    return run


def _first_difference(there: object, here: object, key: str = "") -> str:
    """Names the first setting that differs, empty when none does."""
    if isinstance(there, dict) and isinstance(here, dict):
        # What kind of thing it is says more than its options.
        for name in sorted({*there, *here}, key=lambda name: (name != "name", name)):
            inner = _first_difference(there.get(name), here.get(name), f"{key}.{name}".lstrip("."))
            if inner:
                return inner
        return ""
    return "" if there == here else f"{key} is {there!r} there and {here!r} here"


@contextmanager
def locked_run_folder(path: str | Path, *, name: str = CONFIG) -> Iterator[None]:
    """Keep other processes out of a run folder, which need not be there yet, for a block.

    Raises:
        ConfigError: something else stands there.
        RunError: another process is in it.
    """
    refuse_other_folder(path, name=name)
    with holding(Path(path)):
        yield


def refuse_other_folder(path: str | Path, *, name: str = CONFIG) -> None:
    """See that a run may be there: in a new folder, an empty one, or that of a run.

    Args:
        path: of the folder.
        name: of the file that makes it the folder of a run.

    Raises:
        ConfigError: it may not.
    """
    run = RunFolder(Path(path))
    if not run.path.exists():
        return
    if not run.path.is_dir():
        raise ConfigError(f"{path}: a file stands there, expected a folder; choose another --out")
    if not _is_begun(run, name) and any(file.name != LOCK for file in run.path.iterdir()):
        raise ConfigError(f"{path}: not empty and not a run folder; choose another --out")


def _is_begun(run: RunFolder, name: str) -> bool:
    return _kind_of_run(run.path) is not None if name == CONFIG else run.has(name)


def _sweep(run: RunFolder) -> None:
    """Remove what a killed process had not yet renamed, see `write_text`."""
    for path in run.path.glob(".*"):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
