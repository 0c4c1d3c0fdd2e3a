"""CSV as spreadsheets and programs write it, read as a stream.

    records = read_csv(Path("facts.csv"))
    header = next(records)
    for record in records:
        record.line, dict(zip(header.fields, record.fields))

Columns are separated by commas, semicolons, tabs or bars, whichever fits the header and the rows below it;
a first line `sep=;`, as Excel writes it, decides. Text that has separators or line ends stands in double
quotes.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from demask.documents.text_files import read_lines
from demask.errors import DataError

# Characters of one field: an unclosed quote would otherwise fill the memory with all that follows.
MAX_FIELD = 2**25
# With their names in messages; of several that fit equally the first one is taken.
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
# Characters at the start of a file by which its delimiter is found.
_LOOKED_AT = 2**14
_GIVEN = re.compile(r"\"?sep=(?P<delimiter>[^\w\"\r\n])\"?\s*", re.IGNORECASE)


class CsvRecord(NamedTuple):
    """The header, or a row below it."""

    line: int  # where it starts, as quoted text may run over several lines
    fields: tuple[str, ...]  # of a row as many as of the header


class CsvForm(NamedTuple):
    """How a file is written."""

    delimiter: str
    first: int  # line of the header, or of blank ones before it


class _Start(NamedTuple):
    """What is read of a file to find its delimiter."""

    lines: list[str]
    first: int  # number of the first of them
    delimiter: str


def read_csv(path: Path) -> Iterator[CsvRecord]:
    """The header of a CSV file, its names stripped, and then its rows in order; blank rows are skipped.

    Fields without text behind the last named column, which spreadsheets write, are no part of a row.

    Raises:
        DataError: the file cannot be read, its quotes are not closed, or a row has more or fewer fields than
            the header.
    """
    # The standard limit of 131,072 characters a field is less than a long document.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
    lines = _read_csv_lines(path)
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


def find_csv_form(path: Path) -> CsvForm:
    """What another reader of CSV must be told of a file.

    Raises:
        DataError: the file cannot be read.
    """
    start = _read_start(_read_csv_lines(path))
    return CsvForm(start.delimiter, start.first)


def _read_csv_lines(path: Path) -> Iterator[str]:
    for line in read_lines(path):
        if "\r" in line:  # ends a line of old spreadsheets
            yield from io.StringIO(line, newline="")
        else:
            yield line


def _read_start(lines: Iterator[str]) -> _Start:
    first = next(lines, "")
    given = _GIVEN.fullmatch(first)
    taken, characters = ([] if given else [first]), len(first)
    while characters < _LOOKED_AT and (line := next(lines, "")):
        taken.append(line)
        characters += len(line)
    if given:
        return _Start(taken, 2, given["delimiter"])
    return _Start(taken, 1, max(DELIMITERS, key=lambda delimiter: _measure_fit(taken, delimiter)))


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
