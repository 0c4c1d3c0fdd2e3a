"""Files in, documents out; what cannot be used is named with its file and line.

    loaded = load_documents(["facts/", "manuals/**/*.pdf", "hf://owner/name?split=train"])
    loaded.documents[0].id, loaded.documents[0].source
    loaded.skipped, loaded.reports  # files of other kinds; what of each file became documents

A text, a page, a book, a mail or an office document is one document; .jsonl, .csv, .parquet and data sets
hold one a line or row. Plain text is kept as it is, but for white space at both ends and Windows line ends.
`DocumentReader` gives one document after another without holding them.

A document whose file gives no id is named by its file: `facts/orlin` for facts/orlin.txt and .md,
`facts/orlin.pdf` for what is parsed, `facts-12` for line 12 of facts.jsonl.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from demask.documents.markdown import find_markdown_sections
from demask.documents.parsed import FileReport, count_characters
from demask.documents.parsing import ParserProcess
from demask.documents.passages import SeenIds
from demask.documents.paths import PARSED_SUFFIXES, SUFFIXES, TEXT_SUFFIXES, Source, find_sources
from demask.documents.tables import make_document, parse_address, read_rows
from demask.documents.text_files import read_text, shown
from demask.errors import DataError
from demask.records import Document

__all__ = ["SUFFIXES", "DocumentReader", "LoadedDocuments", "load_documents", "page_of"]


class LoadedDocuments(NamedTuple):
    """What the given files and folders hold."""

    documents: tuple[Document, ...]  # at least one, with unique ids, in the order of the paths
    skipped: tuple[str, ...]  # files of unknown kind and linked folders, met within given folders
    reports: tuple[FileReport, ...] = ()  # one for each file


def load_documents(
    paths: str | Path | Sequence[str | Path], *, text_column: str = "text", keep_going: bool = False
) -> LoadedDocuments:
    """Load all documents of some files and folders; see `DocumentReader`."""
    reader = DocumentReader(paths, text_column=text_column, keep_going=keep_going)
    documents = tuple(reader)
    return LoadedDocuments(documents, reader.skipped, tuple(reader.reports))


class DocumentReader:
    """The documents of some paths, read one after another while they are iterated.

    Args:
        paths: files; folders, which are searched recursively, in sorted order; patterns such as
            `docs/**/*.pdf`; data sets as `hf://OWNER/NAME?config=X&split=train&column=text`. Hidden files
            and folders (`.git`) are left out.
        text_column: the column, or JSON key, that holds the text. `id` and `title` are
            optional; all others become metadata.
        keep_going: note a file that cannot be read, or read to its end, as `problem` in its report, and
            go on with the next.

    Attributes:
        reports: one for each file that was read so far; a live list.
        skipped: files of unknown kind and linked folders, met within given folders.

    Raises:
        DataError: a path stands for nothing; while reading also: a file, a line or an id is not usable, or
            no file at all is.
        RunError: while reading: the library for a kind of file is not installed.
    """

    def __init__(
        self, paths: str | Path | Sequence[str | Path], *, text_column: str = "text", keep_going: bool = False
    ) -> None:
        self._sources, self.skipped = find_sources(paths)
        self._text_column = text_column
        self._keep_going = keep_going
        self.reports: list[FileReport] = []

    def __iter__(self) -> Iterator[Document]:
        """Read all files anew."""
        self.reports.clear()
        seen = SeenIds()
        with ParserProcess() as parser:
            for source in self._sources:
                yield from self._read_file(source, parser, seen)
        if not any(report.documents for report in self.reports):
            problem = self.reports[0].problem
            raise DataError(f"no document could be read from {len(self.reports)} files; the first: {problem}")

    def _read_file(self, source: Source, parser: ParserProcess, seen: SeenIds) -> Iterator[Document]:
        report = FileReport(source.path, source.kind, 0, 0, 0)
        count = characters = 0
        try:
            if f".{source.kind}" in PARSED_SUFFIXES:
                document, report = _parse(source, parser)
                self._refuse_known_id(document, seen)
                yield document
            else:
                for document in _read_plain(source, self._text_column):
                    self._refuse_known_id(document, seen)
                    count += 1
                    characters += count_characters(document.text)
                    yield document
                report = replace(report, documents=count, characters=characters, kept=characters)
                if not count:
                    raise DataError(f"{source.path}: holds no documents; write some or leave the file out")
        except DataError as error:
            if not self._keep_going:
                raise
            report = FileReport(source.path, source.kind, count, characters, characters, problem=str(error))
        self.reports.append(report)

    def _refuse_known_id(self, document: Document, seen: SeenIds) -> None:
        if not seen.add(document.id):
            first = self._find_other(document)
            if first is not None:
                raise DataError(
                    f"{document.source}: id {shown(document.id)} is taken by {first.source}; "
                    "give each document its own id"
                )

    def _find_other(self, document: Document) -> Document | None:
        """The document that has this id already, by reading again; None when only the hashes are equal."""
        with ParserProcess() as parser:
            others = (other for source in self._sources for other in self._read_again(source, parser))
            for other in others:
                if other.id == document.id or other.source == document.source:
                    return other if other.source != document.source else None
        return None

    def _read_again(self, source: Source, parser: ParserProcess) -> Iterator[Document]:
        """The documents of a file up to its first fault, which has been dealt with."""
        with suppress(DataError):
            if f".{source.kind}" in PARSED_SUFFIXES:
                yield _parse(source, parser)[0]
            else:
                yield from _read_plain(source, self._text_column)


def _read_plain(source: Source, text_column: str) -> Iterator[Document]:
    """The documents of a file that needs no parser."""
    if f".{source.kind}" in TEXT_SUFFIXES:
        yield _read_text_document(source)
        return
    if source.kind == "dataset":
        text_column = parse_address(source.path).column or text_column
    for row in read_rows(source, text_column):
        yield make_document(row, text_column)


def _parse(source: Source, parser: ParserProcess) -> tuple[Document, FileReport]:
    parsed = parser.parse(Path(source.path))
    document = Document(source.name, parsed.text, parsed.title, source.path, parsed.metadata)
    characters = parsed.kept + sum(part.characters for part in parsed.left_out)
    report = FileReport(source.path, source.kind, 1, characters, parsed.kept, parsed.left_out)
    return document, report


def _read_text_document(source: Source) -> Document:
    text = read_text(Path(source.path)).strip()
    if not text:
        raise DataError(f"{source.path}: the document is empty; write its text or leave the file out")
    sections = find_markdown_sections(text) if source.kind == "md" else []
    title = str(sections[0][2]) if sections else ""
    metadata: dict[str, object] = {"sections": sections} if sections else {}
    return Document(source.name, text, title, source.path, metadata)


def page_of(document: Document, offset: int) -> int | None:
    """The number, from 1, of the page that holds a character of a document's text; None without pages.

    Args:
        document: its metadata has `pages` when it was read from a PDF: where each page begins in the text.
        offset: of the character, from 0.

    Raises:
        ValueError: the text has no such character.
    """
    if not 0 <= offset < len(document.text):
        raise ValueError(f"offset is {offset}, expected 0 to {len(document.text) - 1}")
    starts = document.metadata.get("pages")
    if not isinstance(starts, list | tuple) or not starts:
        return None
    return max(1, bisect_right(starts, offset))
