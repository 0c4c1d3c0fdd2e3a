"""Files in, documents out; what cannot be used is named with its file and line.

    loaded = load_documents(["facts/", "manuals/**/*.pdf", "hf://owner/name?split=train"])
    loaded.documents[0].id, loaded.documents[0].source
    loaded.skipped, loaded.reports  # files of other kinds; what of each file became documents

A text, a page, a book, a mail or an office document is one document; .jsonl, .csv, .parquet and data sets
hold one a line or row. Plain text is kept as it is, but for white space at both ends and Windows line ends.
`DocumentReader` gives one document after another without holding them.

A document whose file gives no id is named by its file: `facts/orlin` for facts/orlin.txt and .md,
`facts/orlin.pdf` for what is parsed, `facts-12` for line 12 of facts.jsonl. Where that
is taken, the later file has its suffix in it, or the folder that was given.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from demask.documents.account import NOT_CHOSEN
from demask.documents.chosen import choose_sections, list_parts
from demask.documents.copies import COPY, Copy, SeenTexts
from demask.documents.markdown import find_markdown_sections
from demask.documents.parsed import SAMPLE_CHARACTERS, FileReport, LeftOut, count_characters, one_line
from demask.documents.parsing import ParserProcess
from demask.documents.passages import SeenIds
from demask.documents.paths import (
    ARCHIVE,
    SUFFIXES,
    TABLE_KINDS,
    TEXT_SUFFIXES,
    Source,
    find_sources,
    other_names,
    suggest,
)
from demask.documents.tables import make_document, parse_address, read_rows
from demask.documents.text_files import find_file_encoding, read_any_text, shown
from demask.documents.unpacking import Part, UnpackingError, unpack
from demask.errors import DataError
from demask.records import Document
from demask.text_encoding import Encoding

# What is done with a file that says what files of other formats have said.
Duplicates: TypeAlias = Literal["keep-first", "keep-all"]

NO_TEXT = "no text in this page but navigation; save the article as text"
_MOST_TITLES = 8  # that a message names

# A document, and what became of its file up to there.
_Read: TypeAlias = tuple[Document | None, FileReport]

__all__ = ["SUFFIXES", "DocumentReader", "Duplicates", "LoadedDocuments", "load_documents", "page_of"]


class LoadedDocuments(NamedTuple):
    """What the given files and folders hold."""

    documents: tuple[Document, ...]  # at least one, with unique ids, in the order of the paths
    skipped: tuple[str, ...]  # files of unknown kind and linked folders, met within given folders
    reports: tuple[FileReport, ...] = ()  # one for each file


def load_documents(
    paths: str | Path | Sequence[str | Path],
    *,
    text_column: str = "text",
    keep_going: bool = False,
    duplicates: Duplicates = "keep-first",
    only: Sequence[str] = (),
) -> LoadedDocuments:
    """Load all documents of some files and folders.

    Args:
        paths: as of `DocumentReader`, like all others.
        text_column: the column, or JSON key, that holds the text.
        keep_going: go on without files that cannot be read.
        duplicates: what is done with copies in other formats.
        only: texts of headings that are read alone.
    """
    reader = DocumentReader(
        paths, text_column=text_column, keep_going=keep_going, duplicates=duplicates, only=only
    )
    documents = tuple(reader)
    return LoadedDocuments(documents, reader.skipped, tuple(reader.reports))


class DocumentReader:
    """The documents of some paths, read one after another while they are iterated.

    Args:
        paths: files; folders, which are searched recursively, in sorted order; patterns such as
            `docs/**/*.pdf`; data sets as `hf://OWNER/NAME?config=X&split=train&column=text`. Hidden files
            and folders (`.git`) are left out. Each readable file in a .zip is read as one in a folder.
        text_column: the column, or JSON key, that holds the text. `id` and `title` are
            optional; all others become metadata.
        keep_going: note a file that cannot be read, or read to its end, as `problem` in its report, and
            go on with the next.
        duplicates: `keep-first` leaves out a file whose text earlier files of other formats hold nearly all
            of, and names it in its report; `keep-all` reads it.
        only: texts of headings; of each document only the sections below them are read. Empty: all.

    Attributes:
        reports: one for each file that was read so far, also of those in archives; a live list.
        skipped: files of unknown kind and linked folders, met within given folders and, once they were read,
            within archives.

    Raises:
        DataError: a path stands for nothing; while reading also: a file, a line or an id is not usable, or
            no file at all is.
        RunError: while reading: the library for a kind of file is not installed.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        text_column: str = "text",
        keep_going: bool = False,
        duplicates: Duplicates = "keep-first",
        only: Sequence[str] = (),
    ) -> None:
        self._only = only
        self._titles: list[str] = []  # of chapters that were met and not chosen
        self._sources, self._skipped = find_sources(paths)
        self.skipped = self._skipped
        self._text_column = text_column
        self._keep_going = keep_going
        formats = {source.kind for source in self._sources}
        # Of one format there is nothing to compare.
        self._compares = duplicates == "keep-first" and (len(formats) > 1 or ARCHIVE in formats)
        self.reports: list[FileReport] = []

    def __iter__(self) -> Iterator[Document]:
        """Read all files anew."""
        self.reports.clear()
        self._titles.clear()
        self.skipped = self._skipped
        seen, texts = SeenIds(), SeenTexts()
        with ParserProcess() as parser:
            for source in self._sources:
                yield from self._read_source(source, parser, seen, texts)
        if not any(report.documents for report in self.reports):
            if self._titles:
                wanted, there = " or ".join(map(repr, self._only)), self._titles[:_MOST_TITLES]
                raise DataError(
                    f"no heading holds {wanted}, expected one of these documents, as "
                    f"{', '.join(map(shown, there))}; 'demask data read' writes all"
                )
            first = self.reports[0]
            problem = first.problem or f"{first.path}: {NO_TEXT}"
            raise DataError(f"no document could be read from {len(self.reports)} files; the first: {problem}")

    def _read_source(
        self, source: Source, parser: ParserProcess, seen: SeenIds, texts: SeenTexts
    ) -> Iterator[Document]:
        """The documents of a file, or of each file that an archive holds."""
        try:
            with unpack(source, parser) as unpacked:
                self.skipped += unpacked.skipped
                for part in unpacked.parts:
                    yield from self._read_file(part, parser, seen, texts)
                if not unpacked.parts:
                    problem = f"{source.path}: holds no file that is read, {suggest('')}"
                    self.reports.append(FileReport(source.path, source.kind, 0, 0, 0, problem=problem))
        except UnpackingError as error:
            if not self._keep_going:
                raise
            self.reports.append(FileReport(source.path, source.kind, 0, 0, 0, problem=str(error)))

    def _read_file(
        self, part: Part, parser: ParserProcess, seen: SeenIds, texts: SeenTexts
    ) -> Iterator[Document]:
        report = FileReport(part.shown, part.source.kind, 0, 0, 0)
        try:
            for document, so_far in part.name_errors(self._read_part(part, parser, texts)):
                report = so_far
                if document is not None:
                    yield self._name(document, part.source, seen)
        except DataError as error:
            if not self._keep_going:
                raise
            report = replace(report, problem=str(error))
        self.reports.append(report)

    def _read_part(self, part: Part, parser: ParserProcess, texts: SeenTexts) -> Iterator[_Read]:
        if part.source.kind in TABLE_KINDS:
            yield from self._read_table(part)
        else:
            yield self._read_one(part, parser, texts)

    def _read_one(self, part: Part, parser: ParserProcess, texts: SeenTexts) -> _Read:
        """A file that is one document, or none since it is a copy."""
        document, report = _read_whole(part, parser)
        if not document.text:
            return None, report
        if self._only:
            chosen = choose_sections(document, self._only)
            if chosen is None:
                self._titles += [found.title for found in list_parts(document)] or [
                    document.title or part.shown
                ]
                return None, _note_unchosen(report, "", document)
            document, report = chosen, _note_unchosen(report, chosen.text, document)
        if self._compares:
            copy = texts.find_copy(document.text, part.form)
            if copy is not None:
                return None, _note_copy(report, document, copy)
            texts.add(document.text, part.form, part.shown)
        return document, report

    def _read_table(self, part: Part) -> Iterator[_Read]:
        """The rows of a table, each with the report of all up to it."""
        encoding = _find_table_encoding(part.source)
        guessed = encoding.title if encoding is not None and encoding.guessed else ""
        report = FileReport(part.shown, part.source.kind, 0, 0, 0, guessed=guessed)
        rows = 0
        for row in map(part.rename, _read_rows(part.source, self._text_column, encoding)):
            rows += 1
            document = choose_sections(row, self._only) if self._only else row
            if document is None:
                self._titles += [row.title] if row.title else []
                continue
            report = _add_row(report, document)
            yield document, report
        if not rows:
            raise DataError(f"{part.shown}: holds no documents; write some or leave the file out")
        if not report.documents:
            yield None, report

    def _name(self, document: Document, source: Source, seen: SeenIds) -> Document:
        """The document under an id that is not taken; only those that come from a file's name may change."""
        if seen.add(document.id):
            return document
        first = self._find_other(document)
        if first is None:
            return document
        whole = source.kind not in TABLE_KINDS
        for name in other_names(source) if whole else ():
            if seen.add(name):
                return replace(document, id=name)
        remedy = "rename one of them" if whole else "give each document its own id"
        raise DataError(f"{document.source}: id {shown(document.id)} is taken by {first.source}; {remedy}")

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
        with suppress(DataError), unpack(source, parser) as unpacked:
            for part in unpacked.parts:
                yield from self._read_part_again(part, parser)

    def _read_part_again(self, part: Part, parser: ParserProcess) -> Iterator[Document]:
        with suppress(DataError):
            if part.source.kind in TABLE_KINDS:
                encoding = _find_table_encoding(part.source)
                yield from map(part.rename, _read_rows(part.source, self._text_column, encoding))
            else:
                yield _read_whole(part, parser)[0]


def _find_table_encoding(source: Source) -> Encoding | None:
    """That of a .csv file; None of other tables, which say it or are always UTF-8."""
    return find_file_encoding(Path(source.path)) if source.kind == "csv" else None


def _read_rows(source: Source, text_column: str, encoding: Encoding | None) -> Iterator[Document]:
    """The documents of a table or a data set."""
    if source.kind == "dataset":
        text_column = parse_address(source.path).column or text_column
    for row in read_rows(source, text_column, encoding=encoding):
        yield make_document(row, text_column)


def _add_row(report: FileReport, document: Document) -> FileReport:
    count = count_characters(document.text)
    return replace(
        report,
        documents=report.documents + 1,
        characters=report.characters + count,
        kept=report.kept + count,
    )


def _read_whole(part: Part, parser: ParserProcess) -> tuple[Document, FileReport]:
    """A file that is one document; without text where a page that nobody has named is navigation alone."""
    source = part.source
    if f".{source.kind}" in TEXT_SUFFIXES:
        text, guessed = read_any_text(Path(source.path))
        document = part.rename(_make_text_document(source, text.strip()))
        count = count_characters(document.text)
        return document, FileReport(part.shown, source.kind, 1, count, count, guessed=guessed)
    parsed = parser.parse(Path(source.path))
    if not parsed.text and not (source.found and parsed.left_out):
        raise DataError(f"{part.shown}: {NO_TEXT}")
    document = Document(source.name, parsed.text, parsed.title, part.shown, parsed.metadata)
    characters = parsed.kept + sum(part.characters for part in parsed.left_out)
    documents = int(bool(parsed.text))
    report = FileReport(part.shown, source.kind, documents, characters, parsed.kept, parsed.left_out)
    return document, replace(report, guessed=parsed.guessed)


def _note_unchosen(report: FileReport, chosen: str, document: Document) -> FileReport:
    """The report of a file of which a part is read, or none."""
    share = count_characters(chosen) / max(1, count_characters(document.text))
    kept = round(share * report.kept)
    rest = LeftOut(NOT_CHOSEN, report.kept - kept, expected=report.kept - kept)
    left_out = (*report.left_out, rest) if rest.characters else report.left_out
    return replace(report, documents=1 if chosen else 0, kept=kept, left_out=left_out)


def _note_copy(report: FileReport, document: Document, copy: Copy) -> FileReport:
    """The report of a file that is left out."""
    sample = one_line(document.text[: 4 * SAMPLE_CHARACTERS])[:SAMPLE_CHARACTERS]
    lost = LeftOut(f"{COPY}{copy.path}", report.kept, sample)
    return replace(report, documents=0, kept=0, left_out=(*report.left_out, lost))


def _make_text_document(source: Source, text: str) -> Document:
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
