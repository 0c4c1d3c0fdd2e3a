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
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from demask.documents.parsed import LeftOut, Parsed, count_characters, one_line, sum_up
from demask.documents.text_files import MAX_BYTES, read_bytes
from demask.errors import DataError

# FPDF_ERR_PASSWORD and FPDF_ERR_SECURITY of pdfium.
_LOCKED = (4, 5)
_NO_ERROR = 0  # with which pdfium refuses a sound document without pages
_EDGE_LINES = 2  # at the top and the bottom of a page, among which running headers and footers are
_FEWEST_PAGES = 3  # on which something must be the same to be one
_WIDE_GAP = 1.35  # between two paragraphs, in usual distances of lines
_SHORT_LINE = 0.85  # the last line of a paragraph, as a share of the width of its text
_OTHER_SIZE = 1.15  # a heading's letters against the text's
_HYPHEN = "\ufffe"  # pdfium's sign for a hyphen at the end of a line, which takes the line end's place
_JOINED = ""  # between the two lines of a broken word
_SOFT_ENDS = ("-", "\u00ad", "\u2010")
_STOP = re.compile(r"[.!?:;…。！？][\"'”’»)\]]*\Z")  # noqa: RUF001
_WORD_END = re.compile(r"\w+\Z")
_WORD_START = re.compile(r"\w+")
_DATE = re.compile(r"D?:?(\d{4})-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])")


class Line(NamedTuple):
    """A line on a page; places in points from the lower left corner."""

    text: str
    left: float = 0.0
    right: float = 0.0
    bottom: float = 0.0
    top: float = 0.0


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
            pages = [_read_lines(pdf[number]) for number in range(len(pdf))]
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
    running = find_running_lines(pages)
    joined = join_pages(
        [[line for line in page if line not in running[number]] for number, page in enumerate(pages)]
    )
    dropped = [("running header or footer", line.text) for page in running for line in page]
    left_out = [*sum_up(dropped), *_scanned(pages)]
    if joined.hyphens:
        left_out.append(LeftOut("hyphens at the ends of lines, words joined", joined.hyphens))
    characters = sum(count_characters(line.text) for page in pages for line in page)
    kept = characters - sum(part.characters for part in left_out)
    metadata: dict[str, object] = {"pages": list(joined.starts)}
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


def _read_lines(page: Any) -> list[Line]:
    """The lines of a page in the order of the file, without empty ones."""
    text_page = page.get_textpage()
    text = text_page.get_text_range()
    # Places go by characters of UTF-16 in pdfium, by whole ones here; without places where these differ.
    placed = text_page.count_chars() == len(text)
    lines = []
    for found in re.finditer(rf"[^\r\n{_HYPHEN}]+{_HYPHEN}?", text):
        words = found[0].replace("\0", "")
        if not words.strip():
            continue
        first = found.start() + len(found[0]) - len(found[0].lstrip())
        last = found.start() + len(found[0].rstrip(f" \t{_HYPHEN}")) - 1
        place = _place(text_page, first, last) if placed else ()
        lines.append(Line(words.strip().replace(_HYPHEN, "-"), *place))
    text_page.close()
    page.close()
    return lines


def _place(text_page: Any, first: int, last: int) -> tuple[float, float, float, float]:
    """Left, right, bottom and top, from the first and the last character of a line."""
    start, end = text_page.get_charbox(first, loose=True), text_page.get_charbox(last, loose=True)
    return start[0], end[2], min(start[1], end[1]), max(start[3], end[3])


def find_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Of each page, the lines at its edges that most pages have too, but for their numbers."""
    edges = [_edges(page) for page in pages]
    counts = Counter(key for page in edges for key in {_without_numbers(line.text) for line in page})
    needed = max(_FEWEST_PAGES, len([page for page in pages if page]) // 2 + 1)
    return [[line for line in page if counts[_without_numbers(line.text)] >= needed] for page in edges]


def _edges(page: Sequence[Line]) -> list[Line]:
    """The first and the last lines from top to bottom, which need not be so in the file."""
    ordered = sorted(page, key=lambda line: -line.top)
    return ordered if len(ordered) <= 2 * _EDGE_LINES else [*ordered[:_EDGE_LINES], *ordered[-_EDGE_LINES:]]


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+|\b[ivxlc]+\b", "#", one_line(text).lower())


def join_pages(pages: Sequence[Sequence[Line]]) -> Joined:
    """Join lines into paragraphs, and pages into one text."""
    written = " ".join(line.text.lower() for page in pages for line in page)
    words = Counter(re.findall(r"[\w-]+", written))
    parts: list[str] = []
    starts: list[int] = []
    length = hyphens = 0
    before: Line | None = None
    for page in pages:
        pitch, width = _measure(page)
        starts.append(length)
        for number, line in enumerate(page):
            between = "" if before is None else _between(before, line, pitch, width, turned=number == 0)
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


def _between(before: Line, line: Line, pitch: float, width: float, *, turned: bool) -> str:
    """What stands between two lines: a space within a paragraph, nothing in a word, else a blank line."""
    stopped = _STOP.search(before.text) is not None
    if before.text.endswith(_SOFT_ENDS) and line.text[:1].islower():
        return _JOINED
    gap = before.bottom - line.bottom
    if turned or gap < 0 or not pitch:  # another page or column, or no places
        return "\n\n" if stopped or _is_heading(before, line) else " "
    size, next_size = before.top - before.bottom, line.top - line.bottom
    sizes_differ = min(size, next_size) > 0 and max(size, next_size) / min(size, next_size) > _OTHER_SIZE
    ended = stopped and before.right < before.left + _SHORT_LINE * (width - before.left)
    indented = stopped and line.left > before.left + pitch / 2
    return "\n\n" if gap > _WIDE_GAP * pitch or sizes_differ or ended or indented else " "


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
