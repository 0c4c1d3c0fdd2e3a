"""The lines of a PDF's page, from the places of its glyphs.

    lines = read_lines(pdf[0])               # in the order of the file
    lines = arrange(lines)                   # columns one after the other, tables as rows

pdfium finds lines and guesses spaces; where it guesses wrong (groff sets justified text word by word) the gap
between two glyphs decides. Places are in points from the lower left corner of the page; gaps are shares of
the height of a line.
"""

import ctypes
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import mean
from typing import Any, Literal, NamedTuple

from demask.documents.parsed import write_rows

HYPHEN = "\ufffe"  # pdfium's sign for a hyphen at the end of a line, which takes the line end's place
# Between letters of a word at most 0.03, between words at least 0.19 (groff, TeX, FOP, fpdf2).
_SPACE = 0.12
_NO_SPACE = 0.05  # a space that pdfium guessed though the glyphs touch
_GUTTER = 1.5  # between columns or cells; justified text has up to 1.2 between words
_FEWEST_ROWS = 3
_COLUMN_WORDS = 4  # of a line of a column, on average; cells have fewer
_ALIGNED = 3.0  # points
FIXED_PITCH = re.compile(
    r"mono(?!prop)|courier|typewriter|consol|fixed|code|inconsolata|nimbusmon|lettergothic"
    r"|cm(?:sl|it)?tt|sf(?:tt|st|it)\d",
    re.IGNORECASE,
)
_NAME_BYTES = 64
_LOOKED_AT, _FIXED_SHARE = 20, 0.75  # characters of a line, and how many of them have a fixed pitch
_NUMBER = re.compile(r"\d")
# Marks of footnotes are 0.7 as high as what they stand at and raised by 0.42 to 0.48 of it (TeX).
_MARK_HEIGHT, _MARK_RAISE = 0.85, 0.25
_MARK_BEGIN, _MARK_END = "\ufdd0", "\ufdd1"  # stand around raised numbers until it is known what they are
_RAISED = re.compile(f"{_MARK_BEGIN}(\\d+){_MARK_END}")


class Cell(NamedTuple):
    """A stretch of a line without a wide gap."""

    text: str
    left: float
    right: float


@dataclass(frozen=True)
class Line:
    """A line on a page.

    Attributes:
        text: its words.
        left, right, bottom, top: where it stands.
        cells: its stretches between wide gaps; one or none where there is no such gap.
        kind: `code` when it is set in a fixed pitch, `row` when it is a row of a table, `item` when it begins
            an entry of a list, whose `left` is then that of the lines that go on with it.
    """

    text: str
    left: float = 0.0
    right: float = 0.0
    bottom: float = 0.0
    top: float = 0.0
    cells: tuple[Cell, ...] = ()
    kind: Literal["text", "code", "row", "item"] = "text"

    @property
    def height(self) -> float:
        """Of its letters."""
        return self.top - self.bottom


class _Glyph(NamedTuple):
    text: str
    left: float
    right: float
    bottom: float
    top: float


def read_lines(page: Any) -> list[Line]:
    """The lines of a page in the order of the file, without empty ones."""
    import pypdfium2.raw as raw

    text_page = page.get_textpage()
    text = text_page.get_text_range()
    # Places go by characters of UTF-16 in pdfium, by whole ones here; without places where these differ.
    placed = text_page.count_chars() == len(text)
    box = raw.FS_RECTF()
    lines = []
    for found in re.finditer(rf"[^\r\n{HYPHEN}]+{HYPHEN}?", text):
        words = found[0].replace("\0", "")
        if not words.strip():
            continue
        if not placed:
            lines.append(Line(words.strip().replace(HYPHEN, "-")))
            continue
        glyphs = []
        for place, character in enumerate(found[0], start=found.start()):
            if character not in " \t\0" and (character == HYPHEN or not character.isspace()):
                raw.FPDFText_GetLooseCharBox(text_page.raw, place, box)
                ends = (min(box.bottom, box.top), max(box.bottom, box.top))
                spaced = place > found.start() and text[place - 1] in " \t\u00a0"
                glyphs.append((_Glyph(character, box.left, box.right, *ends), spaced))
        fixed = _is_fixed(
            raw,
            text_page,
            [
                place
                for place, sign in enumerate(found[0], found.start())
                if sign != "\0" and not sign.isspace()
            ],
        )
        lines.append(_make_line(glyphs, fixed=fixed))
    text_page.close()
    page.close()
    return write_marks(_join_marks(lines))


def _join_marks(lines: Sequence[Line]) -> list[Line]:
    """Lines with the mark that stands before them, raised, and that pdfium took for a line of its own."""
    joined: list[Line] = []
    for line in lines:
        before = joined[-1] if joined else None
        if before is None or not _is_lone_mark(before, line):
            joined.append(line)
            continue
        text = f"{_MARK_BEGIN}{before.text}{_MARK_END} {line.text}"
        joined[-1] = replace(line, text=text, left=before.left, cells=())
    return joined


def _is_lone_mark(mark: Line, line: Line) -> bool:
    small = 0 < mark.height <= _MARK_HEIGHT * line.height
    raised = line.bottom + _MARK_RAISE * line.height <= mark.bottom < line.top
    return mark.text.isdecimal() and small and raised and 0 <= line.left - mark.right < line.height


def write_marks(lines: Sequence[Line]) -> list[Line]:
    """Raised numbers that a note on the page begins with as [1], all others (exponents) as they are."""
    begun = [_RAISED.match(line.text) for line in lines]
    notes = {found[1] for found in begun if found}

    def write(text: str) -> str:
        return _RAISED.sub(lambda found: f"[{found[1]}]" if found[1] in notes else found[1], text)

    return [
        replace(
            line,
            text=write(line.text),
            cells=tuple(cell._replace(text=write(cell.text)) for cell in line.cells),
        )
        if _MARK_BEGIN in line.text
        else line
        for line in lines
    ]


def _is_fixed(raw: Any, text_page: Any, places: Sequence[int]) -> bool:
    """Whether a line is of a font with a fixed pitch: at both ends, and nearly all of what is looked at."""
    name, flags = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_int()

    def is_fixed_at(place: int) -> bool:
        raw.FPDFText_GetFontInfo(text_page.raw, place, name, _NAME_BYTES, flags)
        return bool(flags.value & 1) or FIXED_PITCH.search(name.value.decode("latin-1")) is not None

    if not (is_fixed_at(places[0]) and is_fixed_at(places[-1])):
        return False
    # Prose may begin and end with a name in such a font; a listing has some signs of others.
    between = places[1:-1][:: max(1, len(places) // _LOOKED_AT)]
    return sum(map(is_fixed_at, between)) >= _FIXED_SHARE * len(between)


def _make_line(glyphs: Sequence[tuple[_Glyph, bool]], *, fixed: bool) -> Line:
    """A line of glyphs, each with whether pdfium saw a space before it."""
    cells: list[list[str]] = [[]]
    ends: list[list[float]] = [[glyphs[0][0].left, glyphs[0][0].right]]
    before: _Glyph | None = None
    for glyph, spaced in _sign_raised(glyphs):
        height = max(1.0, glyph.top - glyph.bottom)
        gap = (glyph.left - before.right) / height if before else 0.0
        if glyph.text == HYPHEN:  # has no place of its own
            gap, glyph = 0.0, before._replace(text="-") if before else glyph._replace(text="-")
        if fixed and before and gap > _SPACE:
            cells[-1].append(
                " " * max(1, round((glyph.left - before.right) / (glyph.right - glyph.left or 1.0)))
            )
        elif gap > _GUTTER and before:
            cells.append([])
            ends.append([glyph.left, glyph.right])
        elif before and (gap > _SPACE or (spaced and not 0 > gap - _NO_SPACE > -1)):
            cells[-1].append(" ")
        cells[-1].append(glyph.text)
        ends[-1][1] = glyph.right
        before = glyph
    found = tuple(
        Cell("".join(parts).strip(), left, right) for parts, (left, right) in zip(cells, ends, strict=True)
    )
    first, last = glyphs[0][0], glyphs[-1][0]
    bottom = min(first.bottom, last.bottom) if last.text != HYPHEN else first.bottom
    top = max(first.top, last.top) if last.text != HYPHEN else first.top
    text = " ".join(cell.text for cell in found)
    right = found[-1].right
    return Line(text, first.left, right, bottom, top, found, "code" if fixed else "text")


def _sign_raised(glyphs: Sequence[tuple[_Glyph, bool]]) -> Iterator[tuple[_Glyph, bool]]:
    """The glyphs, with signs around each number that is smaller and higher than what it stands at."""
    last = 0
    for number, group in groupby(glyphs, key=lambda pair: pair[0].text.isdecimal()):
        run = list(group)
        first, last = last, last + len(run)
        beside = glyphs[first - 1][0] if first else glyphs[last][0] if last < len(glyphs) else None
        if number and beside is not None and all(_is_raised(glyph, beside) for glyph, _ in run):
            run[0] = (run[0][0]._replace(text=_MARK_BEGIN + run[0][0].text), run[0][1])
            run[-1] = (run[-1][0]._replace(text=run[-1][0].text + _MARK_END), run[-1][1])
        yield from run


def _is_raised(glyph: _Glyph, beside: _Glyph) -> bool:
    height = beside.top - beside.bottom
    small = glyph.top - glyph.bottom <= _MARK_HEIGHT * height
    return small and glyph.bottom >= beside.bottom + _MARK_RAISE * height


def arrange(lines: Sequence[Line]) -> list[Line]:
    """Lines in the order of reading: columns one after the other, tables as rows, code with its indents."""
    arranged: list[Line] = []
    lines = _sign_items(lines)
    for wide, group in groupby(lines, key=lambda line: len(line.cells) > 1 and line.kind == "text"):
        block = list(group)
        if not wide:
            arranged += block
            continue
        for rows in _aligned(block):
            arranged += _arrange_rows(rows)
    return [
        line
        for kind, group in groupby(arranged, key=lambda line: line.kind)
        for line in (_indent(list(group)) if kind == "code" else group)
    ]


def _sign_items(lines: Sequence[Line]) -> list[Line]:
    """Lines with those signed that are a term and the beginning of what is said of it.

    They are known by a line below one of them that goes on under the second part.
    """
    hanging = [
        line.cells
        for line, below in pairwise(lines)
        if line.kind == "text" and len(line.cells) == 2 and len(below.cells) < 2
        if abs(below.left - line.cells[1].left) < _ALIGNED
        and 0 < line.bottom - below.bottom < 2 * line.height
    ]
    return [
        _make_item(line)
        if line.kind == "text" and any(_is_aligned(line.cells, cells) for cells in hanging)
        else line
        for line in lines
    ]


def _make_item(line: Line) -> Line:
    return replace(line, left=line.cells[1].left, cells=(), kind="item")


def _is_aligned(first: Sequence[Cell], second: Sequence[Cell]) -> bool:
    return len(first) == len(second) and all(
        abs(one.left - other.left) < _ALIGNED for one, other in zip(first, second, strict=True)
    )


def _aligned(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Runs of lines whose cells begin at the same places."""
    run = [lines[0]]
    for before, line in pairwise(lines):
        if not _is_aligned(before.cells, line.cells):
            yield run
            run = []
        run.append(line)
    yield run


def _arrange_rows(lines: Sequence[Line]) -> Sequence[Line]:
    """Columns of running text, or the rows of a table; too few lines stay as they are."""
    if len(lines) < _FEWEST_ROWS:
        return lines
    columns = list(zip(*(line.cells for line in lines), strict=True))
    running = [mean(len(cell.text.split()) for cell in column) >= _COLUMN_WORDS for column in columns]
    if all(running):
        return [
            replace(line, text=cell.text, left=cell.left, right=cell.right, cells=(cell,))
            for column in columns
            for line, cell in zip(lines, column, strict=True)
        ]
    texts = [[cell.text for cell in line.cells] for line in lines]
    header = _has_header(texts)
    if running == [False, True] and not header:
        return [_make_item(line) for line in lines]
    rows = write_rows(texts, header=header)
    return [
        replace(line, text=row.text, cells=(), kind="row")
        for line, row in zip(lines[len(lines) - len(rows) :], rows, strict=True)
    ]


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row has no number where all others have one."""
    return any(
        not _NUMBER.search(column[0]) and all(_NUMBER.search(text) for text in column[1:])
        for column in zip(*rows, strict=True)
    ) and not any(_NUMBER.search(text) for text in rows[0])


def _indent(lines: Sequence[Line]) -> Iterator[Line]:
    """Code with the spaces that its lines begin with."""
    first = min(line.left for line in lines)
    for line in lines:
        pitch = (line.right - line.left) / max(1, len(line.text))
        spaces = round((line.left - first) / pitch) if pitch > 0 else 0
        yield replace(line, text=" " * spaces + line.text)
