"""Rows of tables: JSON Lines, CSV, Parquet; each is a document, and all are read as streams.

for row in read_rows(source, text_column="text"):
document = make_document(row, "text")
document.source  # facts.csv line 12
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from demask.documents.blocks import one_line
from demask.documents.csv_files import read_csv
from demask.documents.paths import Source
from demask.documents.text_files import did_you_mean, open_file, read_id, read_json_lines, shown
from demask.errors import DataError, RunError
from demask.records import Document

# Rows of a Parquet file that are Python objects at one time.
_BATCH = 256


class Row(NamedTuple):
    """One row of a table."""

    source: str
    default_id: str
    values: dict[str, object]


def read_rows(source: Source, text_column: str | None) -> Iterator[Row]:
    """The rows of a .jsonl, .csv or .parquet file.

    Args:
        source: the file.
        text_column: a column that .csv and .parquet files must have; None: any will do.

    Raises:
        DataError: the file or a row of it is not usable.
        RunError: pyarrow is missing.
    """
    match source.kind:
        case "jsonl":
            return _json_rows(source)
        case "csv":
            return _csv_rows(source, text_column)
        case _:
            return _parquet_rows(source, text_column)


def make_document(row: Row, text_column: str) -> Document:
    """The document of a row; its values but for id, title and text become metadata.

    Raises:
        DataError: there is no text, or id or title are not what they should be.
    """
    values = row.values
    if text_column not in values:
        keys = ", ".join(map(repr, values)) or "none"
        raise DataError(
            f"{row.source}: no key {text_column!r}, keys are {keys}; add it or set text_column"
            f"{did_you_mean(text_column, values)}"
        )
    text = values.pop(text_column)
    if not isinstance(text, str):
        raise DataError(f"{row.source}: {text_column} is {shown(text)}, expected a string")
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise DataError(f"{row.source}: {text_column} is empty; write the text or leave the document out")
    title = values.pop("title", None)
    title = "" if title is None else title
    if not isinstance(title, str):
        raise DataError(f"{row.source}: title is {shown(title)}, expected a string")
    given_id = read_id(values.pop("id", None), key="id", place=row.source)
    return Document(given_id or row.default_id, text, title.strip(), row.source, values)


def _json_rows(source: Source) -> Iterator[Row]:
    for line in read_json_lines(Path(source.path)):
        yield Row(line.place, f"{source.name}-{line.number}", line.values)


def _csv_rows(source: Source, text_column: str | None) -> Iterator[Row]:
    records = read_csv(Path(source.path))
    header = next(records, None)
    if header is None:
        return
    check_columns(header.fields, text_column, f"{source.path} line {header.line}")
    for line, fields in records:
        values: dict[str, object] = dict(zip(header.fields, fields, strict=True))
        yield Row(f"{source.path} line {line}", f"{source.name}-{line}", values)


def _parquet_rows(source: Source, text_column: str | None) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise RunError(f"{source.path}: reading it needs pyarrow: pip install 'demask[documents]'") from error
    with open_file(Path(source.path)) as file:
        try:
            # From a file that is open, as pyarrow would make columns of folder names such as `year=2026`.
            table = parquet.ParquetFile(file)
            check_columns(table.schema_arrow.names, text_column, source.path)
            batches = table.iter_batches(batch_size=_BATCH)
            rows = (values for batch in batches for values in batch.to_pylist())
            for number, values in enumerate(rows, start=1):
                plain = {key: make_plain(value) for key, value in values.items()}
                yield Row(f"{source.path} row {number}", f"{source.name}-{number}", plain)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = one_line(str(error))
            raise DataError(
                f"{source.path}: not a readable Parquet file ({reason}); write it again"
            ) from error


def make_plain(value: object) -> object:
    """A value that JSON can hold; dates, decimals and bytes are spelt out."""
    if isinstance(value, list):
        return [make_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {str(key): make_plain(inner) for key, inner in value.items()}
    return value if value is None or isinstance(value, str | int | float) else str(value)


def check_columns(columns: Sequence[str], text_column: str | None, place: str) -> None:
    """See whether a table has each column once, and the column of texts where one is named.

    Raises:
        DataError: it has not.
    """
    repeated = next((name for name in columns if columns.count(name) > 1), None)
    if repeated is not None:
        raise DataError(f"{place}: column {shown(repeated)} stands twice; rename one")
    if text_column is not None and text_column not in columns:
        there = ", ".join(map(repr, columns))
        raise DataError(
            f"{place}: no column {text_column!r}, columns are {there}; rename one or set text_column"
            f"{did_you_mean(text_column, columns)}"
        )
