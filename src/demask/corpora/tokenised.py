"""Samples on disk, read through the memory map: any number of them in little memory.

    write_samples(placed_samples, folder, vocabulary=49152, about={}, left_out=LeftOut())
    samples = SampleFile(folder)
    samples[7].answer, samples.answer_lengths, samples.left_out.count

A folder holds `samples.arrow` (Arrow IPC; record batches of equally many rows, so that a row is found by
division), `lengths.npy` (tokens of prompts and answers) and `about.json`. It is made under another name and
renamed when it is whole, so a folder of this name is never a part, and of two writers the first one wins.
"""

import json
import os
import shutil
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from demask.corpora.samples import LeftOut, Placed
from demask.corpora.unused import UnusedKeys
from demask.errors import RunError
from demask.records import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 2
SAMPLES = "samples.arrow"
LENGTHS = "lengths.npy"
ABOUT = "about.json"
# Of a record batch, all of which but the last have as many.
ROWS = 1024
# Seconds after which a half-written folder is surely that of a process that was killed.
_FORGOTTEN = 24 * 3600


class _Rows(NamedTuple):
    """The memory of one record batch."""

    ids: Any  # an Arrow array of strings
    prompts: "NDArray[Any]"
    prompt_starts: "NDArray[np.int32]"
    answers: "NDArray[Any]"
    answer_starts: "NDArray[np.int32]"


class SampleFile(Sequence[Sample]):
    """Samples in a folder that `write_samples` made; each is read when it is asked for.

    Attributes:
        folder: where they stand.
        about: what the writer said of them.
        left_out: what was too long.
        unused: characters of text under keys of rows that are not trained, by key.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about: Mapping[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        left_out = self.about["left_out"]
        self.left_out = LeftOut(left_out["count"], tuple(left_out["first"]))
        self.unused: Mapping[str, int] = self.about["unused"]
        self._rows: dict[int, _Rows] = {}

    def __reduce__(self) -> tuple[type["SampleFile"], tuple[Path]]:
        """A worker process maps the file anew."""
        return SampleFile, (self.folder,)

    def __len__(self) -> int:
        """How many samples there are."""
        return int(self._lengths.shape[1])

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        """One of them, or some."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number, row = divmod(range(len(self))[place], ROWS)
        rows = self._rows.get(number) or self._map(number)
        low, high = rows.prompt_starts[row], rows.prompt_starts[row + 1]
        first, last = rows.answer_starts[row], rows.answer_starts[row + 1]
        return Sample(
            rows.ids[row].as_py(),
            tuple(rows.prompts[low:high].tolist()),
            tuple(rows.answers[first:last].tolist()),
        )

    @property
    def prompt_lengths(self) -> "NDArray[np.int32]":
        """Tokens of each prompt."""
        prompts: NDArray[np.int32] = self._lengths[0]
        return prompts

    @property
    def answer_lengths(self) -> "NDArray[np.int32]":
        """Tokens of each answer."""
        answers: NDArray[np.int32] = self._lengths[1]
        return answers

    @cached_property
    def _lengths(self) -> "NDArray[np.int32]":
        lengths: NDArray[np.int32] = np.load(self.folder / LENGTHS, allow_pickle=False)
        return lengths

    @cached_property
    def _reader(self) -> Any:
        import pyarrow
        from pyarrow import ipc

        return ipc.open_file(pyarrow.memory_map(str(self.folder / SAMPLES)))

    def _map(self, number: int) -> _Rows:
        batch = self._reader.get_batch(number)
        ids, prompts, answers = batch.column(0), batch.column(1), batch.column(2)
        return self._rows.setdefault(
            number,
            _Rows(
                ids,
                prompts.values.to_numpy(),
                prompts.offsets.to_numpy(),
                answers.values.to_numpy(),
                answers.offsets.to_numpy(),
            ),
        )


def open_samples(folder: Path) -> SampleFile | None:
    """The samples in a folder; None when there are none, or a file of theirs is gone or of another size."""
    try:
        samples = SampleFile(folder)
        sizes = {name: (folder / name).stat().st_size for name in (SAMPLES, LENGTHS)}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return samples if samples.about.get("sizes") == sizes else None


def write_samples(
    samples: Iterable[Placed],
    folder: Path,
    *,
    vocabulary: int,
    about: Mapping[str, object],
    left_out: LeftOut,
    unused: UnusedKeys | None = None,
) -> SampleFile:
    """Write samples as they come; they are never all in memory.

    Args:
        samples: in order.
        folder: to be made. What stands there already and is whole is kept, as another process has made it
            meanwhile.
        vocabulary: ids are below this; it decides their width.
        about: what else is to be known of them.
        left_out: filled while the samples are read.
        unused: the same.

    Raises:
        RunError: the disk is full, the folder cannot be written, or pyarrow is missing. What `samples` raises
            goes on.
    """
    with _unfinished(folder) as unfinished:
        lengths = _write_table(samples, unfinished / SAMPLES, vocabulary)
        with (unfinished / LENGTHS).open("wb") as file:
            np.save(file, lengths, allow_pickle=False)
        sizes = {name: (unfinished / name).stat().st_size for name in (SAMPLES, LENGTHS)}
        tokens = {"prompts": int(lengths[0].sum()), "answers": int(lengths[1].sum())}
        out = {"count": left_out.count, "first": left_out.first}
        more = {"version": VERSION, "samples": lengths.shape[1], "tokens": tokens, "left_out": out}
        more["unused"] = unused.characters if unused else {}
        text = json.dumps({**about, **more, "sizes": sizes}, indent=2, ensure_ascii=False)
        (unfinished / ABOUT).write_text(text, encoding="utf-8")
        for path in (*(unfinished / name for name in (SAMPLES, LENGTHS, ABOUT)), unfinished):
            _flush(path)
        _put_in_place(unfinished, folder)
    return SampleFile(folder)


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A folder beside, gone at the end unless it was renamed."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_forgotten(folder)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield unfinished
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> RunError:
    return RunError(
        f"{folder}: cannot be written ({error.strerror or error}); free some space, or set DEMASK_CACHE to "
        "another folder"
    )


def _remove_forgotten(folder: Path) -> None:
    """Drop what killed processes left of this folder."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        with suppress(FileNotFoundError):  # of a process that ends at this moment
            newest = max(path.stat().st_mtime for path in (left, *left.glob("*")))
            if time.time() - newest > _FORGOTTEN:
                shutil.rmtree(left, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(unfinished: Path, folder: Path) -> None:
    """Rename, unless another process was faster; what is there and not whole makes way."""
    if folder.exists() and open_samples(folder) is None:
        damaged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        with suppress(FileNotFoundError):  # another process was faster
            os.rename(folder, damaged / "damaged")
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        os.rename(unfinished, folder)
    except OSError:
        # A folder that is not empty cannot be renamed over.
        if open_samples(folder) is None:
            raise
    _flush(folder.parent)


class _Ids:
    """Lists of token ids, one after another, as Arrow keeps them."""

    def __init__(self, letter: str) -> None:
        self.values = array(letter)
        self.starts = array("i", [0])

    def add(self, ids: tuple[int, ...]) -> None:
        """One list more."""
        self.values.extend(ids)
        self.starts.append(len(self.values))

    def to_arrow(self) -> Any:
        """The lists as an Arrow array."""
        import pyarrow

        values = pyarrow.array(np.array(self.values))
        return pyarrow.ListArray.from_arrays(pyarrow.array(np.array(self.starts)), values)


def _write_table(samples: Iterable[Placed], path: Path, vocabulary: int) -> "NDArray[np.int32]":
    """Write the table, and return the tokens of prompts and answers."""
    try:
        import pyarrow
        from pyarrow import ipc
    except ImportError as error:
        raise RunError("samples on disk need pyarrow: pip install 'demask[documents]'") from error
    letter, width = ("H", pyarrow.uint16()) if vocabulary <= 2**16 else ("I", pyarrow.uint32())
    ids = pyarrow.list_(width)
    schema = pyarrow.schema([("id", pyarrow.string()), ("prompt", ids), ("answer", ids)])
    lengths = (array("i"), array("i"))
    with pyarrow.OSFile(str(path), "wb") as sink, ipc.new_file(sink, schema) as table:
        write: Callable[[Any], None] = table.write_batch
        names: list[str] = []
        prompts, answers = _Ids(letter), _Ids(letter)
        for sample, _ in samples:
            names.append(sample.id)
            prompts.add(sample.prompt)
            answers.add(sample.answer)
            lengths[0].append(len(sample.prompt))
            lengths[1].append(len(sample.answer))
            if len(names) == ROWS:
                write(_make_batch(schema, names, prompts, answers))
                names, prompts, answers = [], _Ids(letter), _Ids(letter)
        if names:
            write(_make_batch(schema, names, prompts, answers))
    return np.array(lengths, dtype=np.int32)


def _make_batch(schema: Any, names: list[str], prompts: _Ids, answers: _Ids) -> Any:
    import pyarrow

    columns = [pyarrow.array(names), prompts.to_arrow(), answers.to_arrow()]
    return pyarrow.RecordBatch.from_arrays(columns, schema=schema)
