"""Files in, documents out; what cannot be used is named with its file and line.

    loaded = load_documents(["facts/", "more.jsonl"])
    loaded.documents[0].id, loaded.documents[0].source
    loaded.skipped  # files of other kinds in the folders, to be shown to the user

A .txt or .md file is one document; .jsonl, .csv and .parquet hold one document a line or row.
Text is kept as it is, but for white space at both ends and for Windows line ends.
"""

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from demask.documents.text_files import did_you_mean, read_bytes, read_id, read_json_lines, read_text, shown
from demask.errors import DataError, RunError
from demask.records import Document

SUFFIXES = (".txt", ".md", ".jsonl", ".csv", ".parquet")

_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(?P<title>.*?)(?:[ \t]+#+)?[ \t]*")
_FENCE = re.compile(r" {0,3}(?:```|~~~)")


class LoadedDocuments(NamedTuple):
    """What the given files and folders hold."""

    documents: tuple[Document, ...]  # at least one, with unique ids, in the order of the paths
    skipped: tuple[str, ...]  # files of unknown kind and linked folders, met within given folders


class _File(NamedTuple):
    path: Path
    name: str  # relative to the given folder, without suffix; ids are made of it


class _Row(NamedTuple):
    source: str
    default_id: str
    values: Mapping[str, object]


def load_documents(paths: str | Path | Sequence[str | Path], *, text_column: str = "text") -> LoadedDocuments:
    """Load all documents of some files and folders.

    Args:
        paths: files, and folders that are searched recursively, in sorted order. Hidden
            files and folders (`.git`) are left out.
        text_column: the column, or JSON key, that holds the text. `id` and `title` are
            optional; all others become metadata.

    Raises:
        DataError: a path, a file, a line or an id is not usable.
        RunError: a .parquet file is met and pyarrow is not installed.
    """
    files: list[_File] = []
    skipped: list[str] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        _find_files(Path(path), files, skipped)
    if not files:
        raise DataError("no documents are given, expected at least one file or folder")
    _refuse_files_given_twice(files)
    documents = [document for file in files for document in _read_file(file, text_column)]
    _refuse_duplicate_ids(documents)
    return LoadedDocuments(tuple(documents), tuple(skipped))


def _find_files(path: Path, files: list[_File], skipped: list[str]) -> None:
    """Append what a given path stands for to `files`, and what is left out to `skipped`."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the path")
    if not path.is_dir():
        if not _is_usable(path):
            raise DataError(f"{path}: this kind of file is not known, expected one of {', '.join(SUFFIXES)}")
        files.append(_File(path, path.stem))
        return
    inside = sorted(_walk(path))
    usable = [
        _File(file, file.relative_to(path).with_suffix("").as_posix()) for file in inside if _is_usable(file)
    ]
    if not usable:
        raise DataError(f"{path}: no documents in this folder, expected files in {', '.join(SUFFIXES)}")
    files += usable
    skipped += [str(file) for file in inside if not _is_usable(file)]


def _is_usable(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _walk(folder: Path) -> Iterator[Path]:
    """The visible files below a folder, and linked folders, which are not entered (they may form loops)."""
    for parent, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked = [name for name in folders if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in [*names, *linked] if not name.startswith("."))


def _refuse_folder(error: OSError) -> None:
    raise DataError(
        f"{error.filename}: the folder cannot be read ({error.strerror}); check its permissions"
    ) from error


def _refuse_files_given_twice(files: Iterable[_File]) -> None:
    seen: dict[Path, Path] = {}
    for file in files:
        first = seen.setdefault(file.path.resolve(), file.path)
        if first is not file.path:
            raise DataError(f"{file.path}: given twice (the first time as {first}); give each file once")


def _refuse_duplicate_ids(documents: Iterable[Document]) -> None:
    sources: dict[str, str] = {}
    for document in documents:
        if document.id in sources:
            raise DataError(
                f"{document.source}: id {shown(document.id)} is taken by {sources[document.id]}; "
                "give each document its own id"
            )
        sources[document.id] = document.source


def _read_file(file: _File, text_column: str) -> list[Document]:
    match file.path.suffix.lower():
        case ".jsonl":
            rows = _json_rows(file)
        case ".csv":
            rows = _csv_rows(file, text_column)
        case ".parquet":
            rows = _parquet_rows(file, text_column)
        case _:
            return [_read_whole_file(file)]
    documents = [_make_document(row, text_column) for row in rows]
    if not documents:
        raise DataError(f"{file.path}: holds no documents; write some or leave the file out")
    return documents


def _read_whole_file(file: _File) -> Document:
    text = read_text(file.path).strip()
    if not text:
        raise DataError(f"{file.path}: the document is empty; write its text or leave the file out")
    title = _find_heading(text) if file.path.suffix.lower() == ".md" else ""
    return Document(file.name, text, title, str(file.path))


def _find_heading(text: str) -> str:
    """The first Markdown heading that is not a comment in a block of code, empty when there is none."""
    in_code = False
    for line in text.split("\n"):
        if _FENCE.match(line):
            in_code = not in_code
        heading = None if in_code else _HEADING.fullmatch(line)
        if heading and heading["title"]:
            return heading["title"]
    return ""


def _json_rows(file: _File) -> Iterator[_Row]:
    for line in read_json_lines(file.path):
        yield _Row(line.place, f"{file.name}-{line.number}", line.values)


def _csv_rows(file: _File, text_column: str) -> Iterator[_Row]:
    """One row each; a row's line is where it starts, as quoted text may run over several lines."""
    text = read_text(file.path)
    # The standard limit of 131,072 characters a field is less than a long document.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    start = 1
    try:
        for fields in lines:
            place, line, start = f"{file.path} line {start}", start, lines.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            if not columns:
                columns = [field.strip() for field in fields]
                _check_columns(columns, text_column, place)
                continue
            if len(fields) != len(columns):
                raise DataError(
                    f"{place}: fields are {len(fields)}, expected {len(columns)} ({', '.join(columns)}); "
                    'put text that has commas in "quotes"'
                )
            yield _Row(place, f"{file.name}-{line}", dict(zip(columns, fields, strict=True)))
    except csv.Error as error:
        raise DataError(
            f"{file.path} line {start}: not CSV ({error}); check the quotes of this row"
        ) from error


def _parquet_rows(file: _File, text_column: str) -> Iterator[_Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise RunError(f"{file.path}: reading it needs pyarrow: pip install 'demask[documents]'") from error
    data = read_bytes(file.path)
    try:
        # From memory, as pyarrow would make columns of folder names such as `year=2026`.
        table = parquet.ParquetFile(pyarrow.BufferReader(data)).read()
        _check_columns(table.column_names, text_column, str(file.path))
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{file.path}: not a readable Parquet file ({reason}); write it again") from error
    for number, values in enumerate(rows, start=1):
        plain = {key: _plain(value) for key, value in values.items()}
        yield _Row(f"{file.path} row {number}", f"{file.name}-{number}", plain)


def _plain(value: object) -> object:
    """A value that JSON can hold; dates, decimals and bytes are spelt out."""
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _check_columns(columns: Sequence[str], text_column: str, place: str) -> None:
    repeated = next((name for name in columns if columns.count(name) > 1), None)
    if repeated is not None:
        raise DataError(f"{place}: column {shown(repeated)} stands twice; rename one")
    if text_column not in columns:
        there = ", ".join(map(repr, columns))
        raise DataError(
            f"{place}: no column {text_column!r}, columns are {there}; rename one or set text_column"
            f"{did_you_mean(text_column, columns)}"
        )


def _make_document(row: _Row, text_column: str) -> Document:
    values = dict(row.values)
    if text_column not in values:
        keys = ", ".join(map(repr, values)) or "none"
        raise DataError(
            f"{row.source}: no key {text_column!r}, keys are {keys}; add it or set text_column"
            f"{did_you_mean(text_column, values)}"
        )
    text = values.pop(text_column)
    if not isinstance(text, str):
        raise DataError(f"{row.source}: {text_column} is {shown(text)}, expected a string")
    if not text.strip():
        raise DataError(f"{row.source}: {text_column} is empty; write the text or leave the document out")
    title = values.pop("title", None)
    if not isinstance(title, str | None):
        raise DataError(f"{row.source}: title is {shown(title)}, expected a string")
    given_id = read_id(values.pop("id", None), key="id", place=row.source)
    return Document(
        id=given_id or row.default_id,
        text=text.replace("\r\n", "\n").strip(),
        title=(title or "").strip(),
        source=row.source,
        metadata=values,
    )
