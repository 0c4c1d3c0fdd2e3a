"""The text of a PDF: lines joined into paragraphs, running headers and footers dropped.

    parsed = parse_pdf(Path("manual.pdf"))
    parsed.text, parsed.title, parsed.metadata["pages"]  # where each page begins in the text
    parsed.left_out

A PDF knows glyphs and their places only. Paragraphs are guessed from the space between lines, from
indents, sizes and short last lines; pages without any text are named, as they probably are scans.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from demask.documents.parsed import LeftOut, Parsed, count_characters, one_line, sum_up
from demask.documents.pdf_furniture import count_expected, drop_furniture
from demask.documents.pdf_lines import Line, arrange, read_lines
from demask.documents.text_files import MAX_BYTES, read_bytes
from demask.errors import DataError

# FPDF_ERR_PASSWORD and FPDF_ERR_SECURITY of pdfium.
_LOCKED = (4, 5)
_NO_ERROR = 0  # with which pdfium refuses a sound document without pages
_WIDE_GAP = 1.35  # between two paragraphs, in usual distances of lines
_SHORT_LINE = 0.85  # the last line of a paragraph, as a share of the width of its text
_OTHER_SIZE = 1.15  # a heading's letters against the text's
_BEFORE_TITLE = r"(?:(?:chapter|appendix)\s+)?(?:[\dA-Z.]+\s+)?"
_BULLET = re.compile(r"[•◦▪‣●○■□] ?\S")
_MARK = re.compile(r"[•◦▪‣●○■□–*-] |\(?(?:\d{1,3}|[a-zA-Z])[.)] ")
_HANGING = 1.5  # lines of an entry of a list begin by less to the right of its first, in distances of lines
_DEEPEST = 15  # level of a bookmark
_JOINED = ""  # between the two lines of a broken word
_SOFT_ENDS = ("-", "\u00ad", "\u2010")
_STOP = re.compile(r"[.!?:;…。！？](?:[\"'”’»)\]]|\[\d+\])*\Z")  # noqa: RUF001
_NOTE = re.compile(r"\[\d+\] ?\S")
_WORD_END = re.compile(r"\w+\Z")
_WORD_START = re.compile(r"\w+")
_DATE = re.compile(r"D?:?(\d{4})-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])")


class Joined(NamedTuple):
    """Pages made into one text."""

    text: str
    starts: tuple[int, ...]  # where each page begins
    hyphens: int  # that were dropped


def parse_pdf(path: Path) -> Parsed:
    """Read one document.

    Raises:
        DataError: it is damaged, is locked by a password, has no pages, or has no text.
    """
    import pypdfium2

    data = read_bytes(path, max_bytes=MAX_BYTES)
    if not data:
        raise DataError(f"{path}: the file is empty; leave it out")
    try:
        with pypdfium2.PdfDocument(data) as pdf:
            pages = [read_lines(pdf[number]) for number in range(len(pdf))]
            outline = _read_outline(pdf)
            said = pdf.get_metadata_dict()
    except pypdfium2.PdfiumError as error:
        if error.err_code == _NO_ERROR:
            raise DataError(f"{path}: a PDF without pages; get it again") from error
        if error.err_code in _LOCKED:
            raise DataError(f"{path}: locked by a password; save it without one") from error
        raise DataError(
            f"{path}: a damaged or truncated PDF ({one_line(str(error))}); get it again"
        ) from error
    _refuse_no_text(path, pages)
    kept_pages, dropped = drop_furniture(pages)
    joined = join_pages([arrange(page) for page in kept_pages])
    if not joined.text.strip():
        raise DataError(f"{path}: nothing but running heads and contents in this PDF; leave it out")
    expected = count_expected(dropped)
    left_out = [replace(part, expected=expected[part.reason]) for part in sum_up(dropped)]
    left_out += _scanned(pages)
    if joined.hyphens:
        left_out.append(LeftOut("hyphens at the ends of lines, words joined", joined.hyphens))
    characters = sum(count_characters(line.text) for page in pages for line in page)
    kept = characters - sum(part.characters for part in left_out)
    metadata: dict[str, object] = {"pages": list(joined.starts)}
    if sections := place_outline(outline, joined):
        metadata["sections"] = sections
    day = _DATE.match(said.get("CreationDate", "")) or _DATE.match(said.get("ModDate", ""))
    if day:
        metadata["date"] = "-".join(day.groups())
    if said.get("Author", "").strip():
        metadata["author"] = one_line(said["Author"])
    title = one_line(said.get("Title", "")) or find_title(pages[0])
    return Parsed(joined.text, title, metadata, kept, tuple(left_out))


def _refuse_no_text(path: Path, pages: Sequence[Sequence[Line]]) -> None:
    if not any(pages):
        raise DataError(
            f"{path}: no text layer on any of {len(pages)} pages, probably scans; "
            "recognise their text first, for example with ocrmypdf"
        )


def _scanned(pages: Sequence[Sequence[Line]]) -> Iterator[LeftOut]:
    for number, page in enumerate(pages, start=1):
        if not page:
            yield LeftOut(f"page {number}: no text layer", 0)


def _read_outline(pdf: Any) -> list[tuple[int, int, str]]:
    """The bookmarks: page from 0, level from 1, title."""
    found = []
    for mark in pdf.get_toc(max_depth=_DEEPEST):
        target = mark.get_dest()
        title = one_line(mark.get_title() or "")
        if target is not None and title and target.get_index() is not None:
            found.append((target.get_index(), mark.level + 1, title))
    return found


def place_outline(marks: Sequence[tuple[int, int, str]], joined: Joined) -> list[list[object]]:
    """Where the headings of bookmarks stand in the text; those that are not found there are left out.

    Args:
        marks: page from 0, level from 1, title.
        joined: the text, and where its pages begin.
    """
    found: list[list[object]] = []
    position = 0
    for page, level, title in marks:
        if page >= len(joined.starts):
            continue
        end = joined.starts[page + 1] if page + 1 < len(joined.starts) else len(joined.text)
        # A heading begins a paragraph; its number may stand in the text and not in the bookmark.
        words = r"\s+".join(map(re.escape, title.split()))
        pattern = re.compile(
            rf"(?:\A|(?<=\n\n))(?:(?:chapter|appendix)\s+)?(?:[\dA-Z.]+\s+)?{words}", re.IGNORECASE
        )
        heading = pattern.search(joined.text, max(position, joined.starts[page]), end)
        if heading is not None:
            found.append([heading.start(), level, title])
            position = heading.end()
    return found


def join_pages(pages: Sequence[Sequence[Line]]) -> Joined:
    """Join lines into paragraphs, and pages into one text."""
    written = " ".join(line.text.lower() for page in pages for line in page)
    words = Counter(re.findall(r"[\w-]+", written))
    parts: list[str] = []
    starts: list[int] = []
    length = hyphens = 0
    before: Line | None = None
    entry: Line | None = None  # of a list, which the line before belongs to
    for page in pages:
        pitch, width = _measure(page)
        starts.append(length)
        for number, line in enumerate(page):
            turned = number == 0
            between = "" if before is None else _between(before, line, pitch, width, entry, turned=turned)
            if _is_marked(line):
                entry = line
            elif between.startswith("\n"):
                entry = None
            if before is not None and between == _JOINED and _is_broken_word(before.text, line.text, words):
                parts[-1] = parts[-1][:-1]
                length, hyphens = length - 1, hyphens + 1
            if number == 0:
                starts[-1] = length + len(between)
            parts += [between, line.text]
            length += len(between) + len(line.text)
            before = line
    return Joined("".join(parts), tuple(starts), hyphens)


def _measure(page: Sequence[Line]) -> tuple[float, float]:
    """The usual distance of lines, and the right edge of the text; 0 where they are not known."""
    gaps = [above.bottom - below.bottom for above, below in pairwise(page)]
    falling = [gap for gap in gaps if gap > 1]
    return (median(falling) if falling else 0.0), max((line.right for line in page), default=0.0)


def _is_marked(line: Line) -> bool:
    """Whether a line may begin an entry of a list."""
    return _BULLET.match(line.text) is not None or _MARK.match(line.text) is not None


def _between(
    before: Line, line: Line, pitch: float, width: float, entry: Line | None, *, turned: bool
) -> str:
    """What stands between two lines: a space within a paragraph, nothing in a word, else a blank line.

    Args:
        before: the line above.
        line: below it.
        pitch: the usual distance of lines.
        width: the right edge of the text.
        entry: the first line of the entry of a list that `before` belongs to.
        turned: a page begins between them.
    """
    if "row" in (before.kind, line.kind) or before.kind == line.kind == "code":
        return "\n" if before.kind == line.kind else "\n\n"
    stopped = _STOP.search(before.text) is not None
    if _NOTE.match(line.text):  # a footnote, maybe in the middle of a sentence that goes on overleaf
        return "\n\n"
    if before.text.endswith(_SOFT_ENDS) and line.text[:1].islower():
        return _JOINED
    gap = before.bottom - line.bottom
    beside = abs(gap) < before.top - before.bottom and line.left >= before.right
    marked = _is_marked(before)
    hanging = marked and 0 < line.left - before.left < _HANGING * pitch
    shifted = not beside and not hanging and abs(line.left - before.left) > pitch / 2 > 0
    if line.kind == "item":
        return "\n" if not shifted and before.kind == "item" and 0 < gap <= _WIDE_GAP * pitch else "\n\n"
    if shifted and (before.kind == "item" or "code" in (before.kind, line.kind)):
        return "\n\n"
    if _BULLET.match(line.text) or (_is_marked(line) and (shifted or marked or stopped)):
        return "\n\n"
    if entry is not None and not turned and _is_past(entry, before, line, pitch):
        return "\n\n"
    if turned or gap < 0 or not pitch:  # another page or column, or no places
        return "\n\n" if stopped or _is_heading(before, line) else " "
    size, next_size = before.top - before.bottom, line.top - line.bottom
    sizes_differ = min(size, next_size) > 0 and max(size, next_size) / min(size, next_size) > _OTHER_SIZE
    ended = stopped and before.right < before.left + _SHORT_LINE * (width - before.left)
    indented = stopped and shifted and line.left > before.left
    return "\n\n" if gap > _WIDE_GAP * pitch or sizes_differ or ended or indented else " "


def _is_past(entry: Line, before: Line, line: Line, pitch: float) -> bool:
    """Whether a line stands too far to the left to go on with an entry of a list."""
    if before is entry:
        return line.left < entry.left - pitch / 2 < entry.left
    return line.left < entry.left + pitch / 4 and before.left > entry.left + pitch / 2 > entry.left


def _is_heading(before: Line, line: Line) -> bool:
    """At the turn of a page, where no space between lines tells it: a new start after a full stop only."""
    return bool(before.top - before.bottom > _OTHER_SIZE * (line.top - line.bottom) > 0)


def find_title(page: Sequence[Line]) -> str:
    """The first line of a page when its letters are larger than most, else empty."""
    if len(page) < 2:
        return ""
    usual = median(line.top - line.bottom for line in page)
    return page[0].text if page[0].top - page[0].bottom > _OTHER_SIZE * usual > 0 else ""


def _is_broken_word(before: str, after: str, words: Counter[str]) -> bool:
    """Whether a hyphen only breaks a word, and is none that the document writes within lines, too."""
    start, end = _WORD_END.search(before[:-1]), _WORD_START.match(after)
    if start is None or end is None or not end[0][:1].islower():
        return False
    whole, with_hyphen = start[0] + end[0], f"{start[0]}-{end[0]}"
    return words[whole.lower()] >= words[with_hyphen.lower()]
