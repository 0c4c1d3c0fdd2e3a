"""Data tokenised once: the same data, tokenizer, template and limits are found again on disk.

    samples = prepare_samples(
        ConversationData(("train.jsonl",)),
        tokenizer=tokenizer, chat=chat, limit=limit, cache=folder, progress=progress,
    )
    blocks = prepare_blocks(TextData(("books/",)), tokenizer=tokenizer, cache=folder, progress=progress)
    samples[7].answer, samples.answer_lengths, samples.left_out.count

The key is a digest of all that decides the ids: the content of the files (of a data set on the hub, its
commit), their names, columns, turns, limits, tokenizer and template. Samples that are found are opened and
not read. The readers give the same samples without a disk, for streams.

Samples on disk are read through the memory map: any number of them in little memory. A folder holds
`samples.arrow` (Arrow IPC; record batches of equally many rows, so that a row is found by division),
`lengths.npy` (tokens of prompts and answers) and `about.json`. It is made under another name and renamed when
it is complete, so a folder of this name is never a part, and of two writers the first one wins.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

import numpy as np

from demask.data.conversations import Columns, Conversation, UnusedKeys, describe_unused, read_conversations
from demask.data.samples import (
    LeftOut,
    Limit,
    Placed,
    Turns,
    find_end_of_text,
    keep_fitting,
    make_blocks,
    make_samples,
    pass_over,
    template_cutter,
)
from demask.data.sources import FileWatch, find_tables
from demask.documents.load import DocumentReader
from demask.documents.paths import Source, Sources, find_sources
from demask.errors import DataError, RunError
from demask.objectives.prompts import ChatFormat
from demask.progress import Progress, Silent
from demask.records import Sample
from demask.storage.atomic import flush_to_disk

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

VERSION = 2
SAMPLES = "samples.arrow"
LENGTHS = "lengths.npy"
ABOUT = "about.json"
# Of a record batch, all of which but the last have as many.
ROWS = 1024
# Seconds after which a half-written folder is surely that of a process that was killed.
_FORGOTTEN = 24 * 3600
R = TypeVar("R")
SampleReader = Callable[[int], Iterator[Sample | None]]
# Rows after which a bar moves; to move it takes longer than to read a row.
_TOLD = 500


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
            flush_to_disk(path)
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
    flush_to_disk(folder.parent)


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


@dataclass(frozen=True)
class ConversationData:
    """Prompts with responses, or messages.

    Attributes:
        paths: files, folders, patterns, hf:// addresses.
        columns: which columns hold what.
        turns: whether the last turn of the assistant is learned, or all of them.
    """

    paths: tuple[str, ...]
    columns: Columns = field(default_factory=Columns)
    turns: Turns = "last"


@dataclass(frozen=True)
class TextData:
    """Running text.

    Attributes:
        paths: as for documents.
        text_column: of tables.
        block_length: tokens of a block.
    """

    paths: tuple[str, ...]
    text_column: str = "text"
    block_length: int = 512


def prepare_samples(
    data: ConversationData,
    *,
    tokenizer: "PreTrainedTokenizerBase",
    chat: ChatFormat,
    limit: Limit,
    cache: Path,
    progress: Progress,
) -> SampleFile:
    """Tokenise conversations, or open what was tokenised before.

    Args:
        data: what is read.
        tokenizer: of the model that is trained.
        chat: its chat format.
        limit: what is too long.
        cache: has a folder for each key.
        progress: told of the rows.

    Raises:
        DataError: the data are not usable, change meanwhile, or nothing is left of them.
        ModelError: the chat template is not usable.
        RunError: the cache cannot be written, or a library is missing.
    """
    found = find_tables(data.paths)
    about = {
        "kind": "samples",
        "columns": asdict(data.columns),
        "turns": data.turns,
        "limit": [limit.name, limit.too_long],
        "template": str(tokenizer.chat_template),
        # Of a template that writes today's date, too.
        "chat": asdict(chat),
    }

    def make(left_out: LeftOut, unused: UnusedKeys) -> Iterator[Placed]:
        conversations = _told(read_conversations(found.sources, data.columns, unused), progress)
        cut = template_cutter(tokenizer, chat)
        samples = make_samples(conversations, turns=data.turns, tokenizer=tokenizer, cut=cut)
        return keep_fitting(samples, limit, left_out)

    return _find_or_write(found, about, make, tokenizer=tokenizer, cache=cache, progress=progress)


def prepare_blocks(
    data: TextData,
    *,
    tokenizer: "PreTrainedTokenizerBase",
    cache: Path,
    progress: Progress,
) -> SampleFile:
    """Tokenise running text in blocks, or open what was tokenised before.

    Args:
        data: what is read.
        tokenizer: of the model that is trained.
        cache: has a folder for each key.
        progress: told of the documents.

    Raises:
        DataError: the data are not usable or change meanwhile.
        ModelError: the tokenizer has no token that ends a text.
        RunError: the cache cannot be written, or a library is missing.
    """
    found, end = find_sources(data.paths), find_end_of_text(tokenizer)
    about = {
        "kind": "blocks",
        "text_column": data.text_column,
        "block_length": data.block_length,
        "end": end,
    }

    def make(left_out: LeftOut, unused: UnusedKeys) -> Iterator[Placed]:
        documents = _told(
            DocumentReader(data.paths, text_column=data.text_column, duplicates="keep-all"), progress
        )
        return make_blocks(documents, tokenizer=tokenizer, end=end, length=data.block_length)

    return _find_or_write(found, about, make, tokenizer=tokenizer, cache=cache, progress=progress)


def sample_reader(
    data: ConversationData,
    *,
    tokenizer: "PreTrainedTokenizerBase",
    chat: ChatFormat,
    limit: Limit,
    progress: Progress | None = None,
) -> SampleReader:
    """What `StreamedSamples` reads: from a count to the samples in order, None for the first so many.

    These are not tokenised, unless samples are left out that are too long, which only their tokens tell.
    `progress` is told what is not read or left out.

    Raises:
        DataError: a path stands for nothing.
    """
    progress = progress or Silent()
    sources, skipped = find_tables(data.paths)
    _tell_skipped(skipped, progress)
    cut = template_cutter(tokenizer, chat)
    unused = UnusedKeys()

    def read(skip: int) -> Iterator[Sample | None]:
        conversations = _tell_unused(sources, data.columns, unused, progress)
        passed = 0
        if limit.too_long == "error" and skip:
            passed, conversations = pass_over(conversations, data.turns, skip)
            yield from repeat(None, passed)
        samples = make_samples(conversations, turns=data.turns, tokenizer=tokenizer, cut=cut)
        left_out = LeftOut()
        fitting = _tell_left_out(keep_fitting(samples, limit, left_out), left_out, progress)
        yield from _hide_first(fitting, skip - passed)

    return read


def block_reader(data: TextData, *, tokenizer: "PreTrainedTokenizerBase") -> SampleReader:
    """The same of running text, all of which must be tokenised to know where a block begins.

    Raises:
        DataError: a path stands for nothing.
        ModelError: the tokenizer has no token that ends a text.
    """
    find_sources(data.paths)
    end = find_end_of_text(tokenizer)

    def read(skip: int) -> Iterator[Sample | None]:
        documents = DocumentReader(data.paths, text_column=data.text_column, duplicates="keep-all")
        blocks = make_blocks(documents, tokenizer=tokenizer, end=end, length=data.block_length)
        yield from _hide_first(blocks, skip)

    return read


def _tell_left_out(samples: Iterable[Placed], left_out: LeftOut, progress: Progress) -> Iterator[Placed]:
    """The samples; the first that is left out is told at once, and at the end how many are."""
    told = False
    for placed in samples:
        if left_out.count and not told:
            progress.say(f"too long and left out: {left_out.first[0]}; others are counted")
            told = True
        yield placed
    if left_out.count:
        progress.say(f"{left_out.count} samples were too long and left out")


def _tell_unused(
    sources: Sequence[Source], columns: Columns, unused: UnusedKeys, progress: Progress
) -> Iterator[Conversation]:
    """The conversations of a stream; keys that are not trained are told with the first row that has them."""
    for conversation in read_conversations(sources, columns, row := UnusedKeys()):
        new = {key: count for key, count in row.characters.items() if key not in unused.characters}
        if new:
            progress.say(f"{conversation.source}: {describe_unused(new)}")
            unused.characters.update(new)
        row.characters.clear()
        yield conversation


def _hide_first(samples: Iterator[Placed], count: int) -> Iterator[Sample | None]:
    yield from (None for _ in islice(samples, count))
    yield from (placed.sample for placed in samples)


def describe_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The sha256 of all that decides the ids of a text.

    Truncation and padding, which a fast tokenizer writes down too, are no part of it: they are whatever the
    last call wanted.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        state: object = [type(tokenizer).__name__, tokenizer.get_vocab(), str(tokenizer.init_kwargs)]
    else:
        state = {k: v for k, v in json.loads(backend.to_str()).items() if k not in ("truncation", "padding")}
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _find_or_write(
    found: Sources,
    about: Mapping[str, object],
    make: Callable[[LeftOut, UnusedKeys], Iterable[Placed]],
    *,
    tokenizer: "PreTrainedTokenizerBase",
    cache: Path,
    progress: Progress,
) -> SampleFile:
    """The samples that were made of these files in this way, made now where they are not there.

    Args:
        found: the files.
        about: all else that decides the ids.
        make: the samples; fills what it is given.
        tokenizer: decides them, too.
        cache: has a folder for each key.
        progress: told of the rows, and what they hold besides.
    """
    _tell_skipped(found.skipped, progress)
    watch = FileWatch(found.sources)
    # Samples, and so their masks, are named by the names.
    files = [[source.name, digest] for source, digest in zip(found.sources, watch.digests, strict=True)]
    about = {**about, "files": files, "tokenizer": describe_tokenizer(tokenizer)}
    key = hashlib.sha256(json.dumps([VERSION, about], sort_keys=True).encode()).hexdigest()
    folder = cache / key[:32]
    file = open_samples(folder)
    if file is None:
        progress.begin("Tokenising", watch.rows, unit="rows")
        left_out, unused = LeftOut(), UnusedKeys()
        samples = _check_end(make(left_out, unused), left_out, watch)
        file = write_samples(
            samples, folder, vocabulary=len(tokenizer), about=about, left_out=left_out, unused=unused
        )
    if file.unused:
        progress.say(describe_unused(file.unused))
    return file


def _check_end(samples: Iterable[Placed], left_out: LeftOut, watch: FileWatch) -> Iterator[Placed]:
    """The samples; at their end a look whether there was one and whether the files are as they were."""
    empty = True
    for placed in samples:
        empty = False
        yield placed
    if empty:
        first = ", ".join(left_out.first[:1])
        raise DataError(
            f"all {left_out.count} samples are too long, such as {first}; raise max_tokens or shorten them"
        )
    watch.refuse_changes()


def _told(records: Iterable[R], progress: Progress) -> Iterator[R]:
    """The records as they come; progress hears of many at once."""
    waiting = 0
    for record in records:
        yield record
        waiting += 1
        if waiting == _TOLD:
            progress.advance(waiting)
            waiting = 0
    progress.advance(waiting)


def _tell_skipped(skipped: Sequence[str], progress: Progress) -> None:
    if skipped:
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        progress.say(f"not read, as they are no data: {', '.join(skipped[:3])}{more}")
