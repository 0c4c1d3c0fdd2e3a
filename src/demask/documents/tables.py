"""Tables, of which every row is a document: JSON Lines, CSV, Parquet, data sets; all are read as streams.

    for row in read_rows(source, text_column="text"):
        document = make_document(row, "text")
        document.source                               # facts.csv line 12

Columns of CSV are separated by commas, semicolons, tabs or bars, whichever fits the header and the rows below
it; a first line `sep=;`, as Excel writes it, decides. Text that has separators or line ends stands in double
quotes.

Data sets are named as hf://OWNER/NAME?config=X&split=train&column=text; a NAME that begins with `/` or `.`,
or that exists, is a file or folder here. No code of a data set is run.
"""

import csv
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from demask.documents.parsed import one_line
from demask.documents.paths import HUB, Source
from demask.documents.text_files import did_you_mean, open_file, read_id, read_json_lines, read_lines, shown
from demask.errors import DataError, RunError
from demask.records import Document
from demask.text_encoding import Encoding

# Rows of a Parquet file that are Python objects at one time.
_BATCH = 256
# Characters of one field: an unclosed quote would otherwise fill the memory with all that follows.
MAX_FIELD = 2**25
# With their names in messages; of several that fit equally the first one is taken.
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
# Characters at the start of a file by which its delimiter is found.
_LOOKED_AT = 2**14
_GIVEN = re.compile(r"\"?sep=(?P<delimiter>[^\w\"\r\n])\"?\s*", re.IGNORECASE)
_KEYS = ("config", "split", "column")
# How `datasets` calls the readers of single files.
_READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}


class Row(NamedTuple):
    """One row of a table."""

    source: str
    default_id: str
    values: dict[str, object]


def read_rows(source: Source, text_column: str | None, *, encoding: Encoding | None = None) -> Iterator[Row]:
    """The rows of a .jsonl, .csv or .parquet file, or of a data set, in order.

    Args:
        source: the file or data set.
        text_column: a column that .csv and .parquet files must have; None: any will do.
        encoding: of a .csv file; None: that of its mark, UTF-8 without one.

    Raises:
        DataError: it does not exist, cannot be read or reached, or a row is not usable.
        RunError: a library for it is missing.
    """
    match source.kind:
        case "jsonl":
            return _json_rows(source)
        case "csv":
            return _csv_rows(source, text_column, encoding)
        case "dataset":
            return _dataset_rows(source)
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


def _csv_rows(source: Source, text_column: str | None, encoding: Encoding | None) -> Iterator[Row]:
    records = read_csv(Path(source.path), encoding)
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
        raise _missing(source.path, "pyarrow") from error
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


class CsvRecord(NamedTuple):
    """The header, or a row below it."""

    line: int  # where it starts, as quoted text may run over several lines
    fields: tuple[str, ...]  # of a row as many as of the header


class CsvStart(NamedTuple):
    """What is read of a file to find its delimiter."""

    lines: list[str]
    first: int  # number of the first of them
    delimiter: str


def read_csv(path: Path, encoding: Encoding | None = None) -> Iterator[CsvRecord]:
    """The header of a CSV file, its names stripped, and then its rows in order; blank rows are skipped.

    Fields without text behind the last named column, which spreadsheets write, are no part of a row.

    Args:
        path: of the file.
        encoding: it is in; None: that of its mark, UTF-8 without one.

    Raises:
        DataError: the file cannot be read, its quotes are not closed, or a row has more or fewer fields than
            the header.
    """
    # The standard limit of 131,072 characters a field is less than a long document.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
    lines = _read_csv_lines(path, encoding)
    start = _read_start(lines)
    reader = csv.reader(chain(start.lines, lines), delimiter=start.delimiter, strict=True)
    header: tuple[str, ...] = ()
    next_line = start.first
    try:
        for fields in reader:
            line, next_line = next_line, start.first + reader.line_num
            if not any(field.strip() for field in fields):
                continue
            if not header:
                header = _name_columns(fields)
                yield CsvRecord(line, header)
                continue
            yield CsvRecord(line, _fit(fields, header, f"{path} line {line}", start.delimiter))
    except csv.Error as error:
        raise DataError(
            f"{path} line {next_line}: not CSV ({error}); check the quotes of this row"
        ) from error


def _read_csv_lines(path: Path, encoding: Encoding | None = None) -> Iterator[str]:
    for line in read_lines(path, encoding):
        if "\r" in line:  # ends a line of old spreadsheets
            yield from io.StringIO(line, newline="")
        else:
            yield line


def _read_start(lines: Iterator[str]) -> CsvStart:
    first = next(lines, "")
    given = _GIVEN.fullmatch(first)
    taken, characters = ([] if given else [first]), len(first)
    while characters < _LOOKED_AT and (line := next(lines, "")):
        taken.append(line)
        characters += len(line)
    if given:
        return CsvStart(taken, 2, given["delimiter"])
    return CsvStart(taken, 1, max(DELIMITERS, key=lambda delimiter: _measure_fit(taken, delimiter)))


def _measure_fit(lines: Sequence[str], delimiter: str) -> tuple[float, int]:
    """How well a delimiter fits; a larger pair fits better.

    The first number is the share of rows that have as many fields as the header, -1 where the header has one
    field; the second counts down the names that begin with a space, as after the comma of a phrase.
    `csv.Sniffer` does not look at the header, and finds no delimiter in prose.
    """
    header: tuple[str, ...] = ()
    rows = fitting = 0
    try:
        for fields in csv.reader(lines, delimiter=delimiter, strict=True):
            filled = _strip_end(fields)
            if not header:
                header = filled
                continue
            rows += len(filled) > 0
            fitting += 0 < len(filled) <= len(header) <= len(fields)
    except csv.Error:  # also where the lines end within quotes
        rows += 1
    share = -1 if len(header) < 2 else fitting / max(rows, 1)
    return share, -sum(name.startswith(" ") for name in header)


def _strip_end(fields: Sequence[str]) -> tuple[str, ...]:
    """The fields up to the last that has text."""
    filled = [place for place, field in enumerate(fields, start=1) if field.strip()]
    return tuple(fields[: filled[-1]]) if filled else ()


def _name_columns(fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(field.strip() for field in _strip_end(fields))


def _fit(fields: Sequence[str], header: Sequence[str], place: str, delimiter: str) -> tuple[str, ...]:
    if len(fields) < len(header) or len(_strip_end(fields)) > len(header):
        separators = DELIMITERS.get(delimiter, repr(delimiter))
        raise DataError(
            f"{place}: fields are {len(fields)}, expected {len(header)} ({', '.join(header)}); "
            f'put text that has {separators} in "quotes"'
        )
    return tuple(fields[: len(header)])


class DatasetAddress(NamedTuple):
    """What `hf://NAME?config=X&split=train&column=text` says."""

    name: str
    config: str | None = None
    split: str | None = None
    column: str | None = None


def parse_address(address: str) -> DatasetAddress:
    """Take the address of a data set apart.

    Raises:
        DataError: the name is missing, or a key is unknown or given twice.
    """
    name, _, query = address.removeprefix(HUB).partition("?")
    values: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in _KEYS or key in values or not value:
            raise DataError(
                f"{address}: {key!r} is unknown, empty or given twice, expected {', '.join(_KEYS)} once each"
                f"{did_you_mean(key, _KEYS) if key not in _KEYS else ''}"
            )
        values[key] = value
    if not name:
        raise DataError(f"{address}: no name, expected {HUB}OWNER/NAME?split=train&column=text")
    return DatasetAddress(name, **values)


def _dataset_rows(source: Source) -> Iterator[Row]:
    address, number = parse_address(source.path), 0
    failures = _dataset_failures(source.path)
    try:
        for number, values in enumerate(_open(source.path, address), start=1):
            plain = {str(key): make_plain(value) for key, value in values.items()}
            yield Row(f"{source.path} row {number}", f"{source.name}-{number}", plain)
    except DataError:
        raise
    except failures as error:
        raise DataError(
            f"{source.path}{f' after row {number}' if number else ''}: {_explain(error)}"
        ) from error


def _dataset_failures(place: str) -> tuple[type[Exception], ...]:
    """What `datasets` raises where a data set cannot be read; RunError when the library is missing."""
    try:
        import datasets
    except ImportError as error:
        raise _missing(place, "datasets") from error
    # Its warnings about tries that failed; the last failure is an error of ours.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError, TypeError, KeyError)


def _missing(place: str, library: str) -> RunError:
    return RunError(f"{place}: reading it needs {library}: pip install 'demask[documents]'")


def list_dataset_files(place: str, address: DatasetAddress) -> list[str]:
    """The files of a data set as `datasets` finds them; those on the hub are addresses with the commit.

    Raises:
        DataError: the data set cannot be found.
        RunError: `datasets` is missing.
    """
    failures = _dataset_failures(place)
    import datasets

    try:
        builder = datasets.load_dataset_builder(address.name, address.config)
    except failures as error:
        # Reading it says what is wrong, in one line.
        next(_dataset_rows(Source(place, address.name, "dataset")), None)
        raise DataError(f"{place}: cannot be read ({error}); check name, config and split") from error
    files = builder.config.data_files
    return sorted(file for split in (files or {}).values() for file in split) or [str(builder.hash)]


def _open(place: str, address: DatasetAddress) -> Any:
    """The rows of one split, as a stream."""
    import datasets

    path = Path(address.name)
    if path.is_file():
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            raise DataError(f"{place}: a file of unknown kind, expected one of {', '.join(_READERS)}")
        start = _read_start(_read_csv_lines(path)) if reader == "csv" else None
        options = {"sep": start.delimiter, "skiprows": start.first - 1} if start else {}
        splits = datasets.load_dataset(reader, data_files=str(path), streaming=True, **options)
    elif address.name.startswith(("/", ".")) and not path.exists():
        raise DataError(f"{place}: no such file or folder here; check the path")
    else:
        splits = datasets.load_dataset(address.name, address.config, streaming=True)
    return _choose_split(place, address, splits)


def _choose_split(place: str, address: DatasetAddress, splits: Mapping[str, Any]) -> Any:
    if address.split is None and len(splits) == 1:
        return next(iter(splits.values()))
    if address.split is None or address.split not in splits:
        wanted = "no split is named" if address.split is None else f"no split {address.split!r}"
        raise DataError(
            f"{place}: {wanted}, splits are {', '.join(map(repr, splits))}; add or mend split=..."
            f"{did_you_mean(address.split or '', splits)}"
        )
    return splits[address.split]


def _explain(error: BaseException) -> str:
    """One line of what `datasets` or the hub say, with what to do."""
    names = {kind.__name__ for kind in type(error).__mro__}
    reason = one_line(str(error))[:300]
    if names & {
        "ConnectionError",
        "OfflineModeIsEnabled",
        "ConnectTimeout",
        "TransportError",
        "TimeoutError",
    }:
        return f"the hub cannot be reached ({reason}); check the network, or give a local folder as name"
    return f"cannot be read ({type(error).__name__}: {reason}); check name, config and split"
