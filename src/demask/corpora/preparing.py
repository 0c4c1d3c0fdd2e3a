"""Data tokenised once: the same data, tokenizer, template and limits are found again on disk.

    samples = prepare_samples(
        ConversationData(("train.jsonl",)),
        tokenizer=tokenizer, chat=chat, limit=limit, cache=folder, progress=progress,
    )
    blocks = prepare_blocks(TextData(("books/",)), tokenizer=tokenizer, cache=folder, progress=progress)

The key is a digest of all that decides the ids: the content of the files (of a data set on the hub, its
commit), their names, columns, turns, limits, tokenizer and template. Samples that are found are opened and
not read. The readers give the same samples without a disk, for streams.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from demask.corpora.blocks import find_end_of_text, make_blocks
from demask.corpora.conversations import read_conversations
from demask.corpora.samples import (
    LeftOut,
    Limit,
    Placed,
    Turns,
    keep_fitting,
    make_samples,
    pass_over,
    template_cutter,
)
from demask.corpora.tables import FileWatch, find_tables
from demask.corpora.tokenised import VERSION, SampleFile, open_samples, write_samples
from demask.corpora.turns import Columns, Conversation
from demask.corpora.unused import UnusedKeys, describe_unused
from demask.documents.load import read_documents
from demask.documents.paths import Source, find_sources
from demask.errors import DataError
from demask.objectives.prompts import ChatFormat
from demask.progress import Progress, Silent
from demask.records import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

R = TypeVar("R")
SampleReader = Callable[[int], Iterator[Sample | None]]
# Rows after which a bar moves; to move it takes longer than to read a row.
_TOLD = 500


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
    sources, skipped = find_tables(data.paths)
    _tell_skipped(skipped, progress)
    work = _Work(cache, progress, FileWatch(sources), len(tokenizer))
    about = {
        "kind": "samples",
        "files": work.describe(sources),
        "columns": asdict(data.columns),
        "turns": data.turns,
        "limit": [limit.name, limit.too_long],
        "tokenizer": describe_tokenizer(tokenizer),
        "template": str(tokenizer.chat_template),
        # Of a template that writes today's date, too.
        "chat": asdict(chat),
    }

    def make(left_out: LeftOut, unused: UnusedKeys) -> Iterator[Placed]:
        conversations = _told(read_conversations(sources, data.columns, unused), progress)
        cut = template_cutter(tokenizer, chat)
        samples = make_samples(conversations, turns=data.turns, tokenizer=tokenizer, cut=cut)
        return keep_fitting(samples, limit, left_out)

    return work.find_or_write(about, make)


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
    sources, skipped = find_sources(data.paths)
    _tell_skipped(skipped, progress)
    end = find_end_of_text(tokenizer)
    work = _Work(cache, progress, FileWatch(sources), len(tokenizer))
    about = {
        "kind": "blocks",
        "files": work.describe(sources),
        "text_column": data.text_column,
        "block_length": data.block_length,
        "end": end,
        "tokenizer": describe_tokenizer(tokenizer),
    }

    def make(left_out: LeftOut, unused: UnusedKeys) -> Iterator[Placed]:
        documents = _told(read_documents(data.paths, text_column=data.text_column), progress)
        return make_blocks(documents, tokenizer=tokenizer, end=end, length=data.block_length)

    return work.find_or_write(about, make)


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
        documents = read_documents(data.paths, text_column=data.text_column)
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


@dataclass(frozen=True)
class _Work:
    """Where samples are kept, who is told, which files they are made of, and what bounds their ids."""

    cache: Path
    progress: Progress
    watch: FileWatch
    vocabulary: int

    def describe(self, sources: Sequence[Source]) -> list[list[str]]:
        """Name and digest of each file; samples, and so their masks, are named by the names."""
        return [[source.name, digest] for source, digest in zip(sources, self.watch.digests, strict=True)]

    def find_or_write(
        self, about: Mapping[str, object], make: Callable[[LeftOut, UnusedKeys], Iterable[Placed]]
    ) -> SampleFile:
        """The samples that `about` describes; what their rows hold besides is told."""
        file = self._find_or_write(about, make)
        if file.unused:
            self.progress.say(describe_unused(file.unused))
        return file

    def _find_or_write(
        self, about: Mapping[str, object], make: Callable[[LeftOut, UnusedKeys], Iterable[Placed]]
    ) -> SampleFile:
        key = hashlib.sha256(json.dumps([VERSION, about], sort_keys=True).encode()).hexdigest()
        folder = self.cache / key[:32]
        known = open_samples(folder)
        if known is not None:
            return known
        self.progress.begin("Tokenising", self.watch.rows)
        left_out, unused = LeftOut(), UnusedKeys()
        samples = self._check_end(make(left_out, unused), left_out)
        return write_samples(
            samples,
            folder,
            vocabulary=self.vocabulary,
            about=about,
            left_out=left_out,
            unused=unused,
        )

    def _check_end(self, samples: Iterable[Placed], left_out: LeftOut) -> Iterator[Placed]:
        """The samples; at their end a look whether there was one and whether the files are as they were."""
        empty = True
        for placed in samples:
            empty = False
            yield placed
        if empty:
            first = ", ".join(left_out.first[:1])
            raise DataError(
                f"all {left_out.count} samples are too long, such as {first}; "
                "raise max_tokens or shorten them"
            )
        self.watch.refuse_changes()


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
