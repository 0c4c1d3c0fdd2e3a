"""When a document was written: its field `date`, else the latest date in its text, else the time of its file.

    written = find_date(document)                 # Dated(2025-03-01, 2025-03-31, "text")
    find_dates("Since March 2025, not 3 May 2024")
    is_newer(written, other)                      # None: neither can be told to be the newer one

A day, a month or a year is a stretch of days. A year alone is read in the field only: in a text it hardly
ever says when the text was written. The time of a file says when it was copied, so it is compared with the
time of another file and with nothing else.
"""

import re
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from demask.documents.places import file_of
from demask.documents.text_files import shown
from demask.errors import DataError
from demask.records import Document
from demask.words import Span

Origin = Literal["field", "text", "file"]
# What a date's origin is called in messages.
ORIGINS: dict[Origin, str] = {
    "field": "its date",
    "text": "a date in its text",
    "file": "the time of its file",
}

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_MONTH = (
    r"(?P<{0}>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_YEAR = r"(?P<{0}>[12][0-9]{{3}})(?![0-9])"
_DAY = r"(?P<{0}>[0-3]?[0-9])"
_DATE = re.compile(
    rf"""(?<![\w.-])(?:
      {_YEAR.format("year1")}-(?P<month1>[01][0-9])(?:-{_DAY.format("day1")}(?![0-9]))?
    | {_DAY.format("day2")}\.(?P<month2>[01]?[0-9])\.{_YEAR.format("year2")}
    | {_DAY.format("day3")}(?:st|nd|rd|th)?\ (?:of\ )?{_MONTH.format("month3")},?\ {_YEAR.format("year3")}
    | {_MONTH.format("month4")}\ (?:{_DAY.format("day4")}(?:st|nd|rd|th)?,?\ )?{_YEAR.format("year4")}
    )(?!\.?[0-9])""",
    re.VERBOSE | re.IGNORECASE,
)
_YEAR_ALONE = re.compile(r"[12][0-9]{3}")


class Stretch(NamedTuple):
    """From the first day to the last, both included."""

    first: date
    last: date


class Found(NamedTuple):
    """A date and where it stands in a text."""

    span: Span
    stretch: Stretch


class Dated(NamedTuple):
    """When a document was written, and how that is known."""

    first: date
    last: date
    origin: Origin

    def __str__(self) -> str:
        """The date as precisely as it is known: `2025-03`."""
        if self.first == self.last:
            return self.first.isoformat()
        return f"{self.first:%Y-%m}" if self.first.month == self.last.month else f"{self.first:%Y}"


def find_dates(text: str) -> Iterator[Found]:
    """The days and months with their year that a text names; a date that no calendar has is none."""
    for found in _DATE.finditer(text):
        values = {key.rstrip("1234"): value for key, value in found.groupdict().items() if value}
        word = values["month"]
        month = int(word) if word.isdigit() else 1 + _MONTHS.index(word[:3].lower())
        stretch = _stretch(int(values["year"]), month, int(values["day"]) if "day" in values else None)
        if stretch is not None:
            yield Found(Span(*found.span()), stretch)


def _stretch(year: int, month: int, day: int | None) -> Stretch | None:
    if not 1 <= month <= 12:
        return None
    last = monthrange(year, month)[1]
    if day is None:
        return Stretch(date(year, month, 1), date(year, month, last))
    return Stretch(date(year, month, day), date(year, month, day)) if 1 <= day <= last else None


def find_date(document: Document) -> Dated | None:
    """When a document was written; None where nothing says so.

    Raises:
        DataError: its field `date` cannot be read.
    """
    field = document.metadata.get("date")
    if field not in (None, ""):
        return Dated(*_read_field(str(field).strip(), document), "field")
    if dates := [found.stretch for found in find_dates(document.text)]:
        return Dated(*max(dates), "text")
    try:
        seconds = Path(file_of(document)).stat().st_mtime
    except (OSError, ValueError):  # a data set of the hub, or a file that is gone
        return None
    day = datetime.fromtimestamp(seconds, tz=UTC).date()
    return Dated(day, day, "file")


def _read_field(value: str, document: Document) -> Stretch:
    if _YEAR_ALONE.fullmatch(value):
        return Stretch(date(int(value), 1, 1), date(int(value), 12, 31))
    found = next(find_dates(value), None)
    if found is None:
        raise DataError(
            f"{document.source}: date is {shown(value)}, expected one as 2025-03-31, 2025-03 or 31 March 2025"
        )
    return found.stretch


def is_newer(one: Dated | None, other: Dated | None) -> bool | None:
    """Whether one document is newer than another; None where their dates do not tell."""
    if one is None or other is None or (one.origin == "file") != (other.origin == "file"):
        return None
    if one.first > other.last:
        return True
    return False if one.last < other.first else None
