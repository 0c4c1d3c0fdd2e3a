"""What parsers give: blocks of text, what was left out of them, and what became of one file.

    text = join_blocks([Block("Orlin", "heading"), Block("- one", "item"), Block("- two", "item")])
    parsed = Parsed(text, "Orlin", {"date": "2025-03-04"}, kept=11, left_out=())
    report = FileReport("page.html", "html", 1, 900, 700, (LeftOut("navigation", 200, "Home News"),))
    assert report.characters == report.kept + sum(part.characters for part in report.left_out)

Characters are visible ones: white space is never counted, as formats and readers set it freely.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

# Enough to recognise a menu or a footer by.
SAMPLE_CHARACTERS = 60
# What `str.split` takes for white space, as far as it is ASCII.
_WHITE = bytes(code for code in range(128) if chr(code).isspace())


@dataclass(frozen=True)
class LeftOut:
    """Text of a file that no document holds.

    Attributes:
        reason: what it is, such as `navigation` or `page 3: no text layer`.
        characters: visible ones; 0 where the text is not known, as on a scanned page.
        sample: how it begins, on one line.
        expected: of them, those that no text was lost with, by their form: links and short bars of a page's
            site. They are named, and no reason for a warning.
    """

    reason: str
    characters: int
    sample: str = ""
    expected: int = 0

    @property
    def doubtful(self) -> int:
        """Characters that may be text."""
        return self.characters - self.expected


@dataclass(frozen=True)
class FileReport:
    """What became of one file, or of one data set of the hub.

    Attributes:
        path: as it was given or found.
        kind: its suffix without the dot, such as `pdf`, or `dataset`.
        documents: how many were made of it.
        characters: visible ones in the file; of a table, those in its text column.
        kept: those of them that stand in documents.
        left_out: the others, by reason: `characters == kept + sum(part.characters for part in left_out)`.
        problem: the line that says why reading ended early; empty when all went well.
        guessed: the encoding that it was read in, where it does not say it.
    """

    path: str
    kind: str
    documents: int
    characters: int
    kept: int
    left_out: tuple[LeftOut, ...] = ()
    problem: str = ""
    guessed: str = ""


def count_characters(text: str) -> int:
    """Visible characters: all but white space."""
    if text.isascii():
        return len(text.encode().translate(None, _WHITE))
    return sum(map(len, text.split()))


def sum_up(parts: Iterable[tuple[str, str]]) -> tuple[LeftOut, ...]:
    """Texts that were left out, given as reason and text, as one entry a reason, in order."""
    counts: dict[str, int] = {}
    samples: dict[str, str] = {}
    for reason, text in parts:
        counts[reason] = counts.get(reason, 0) + count_characters(text)
        if len(samples.setdefault(reason, "")) < SAMPLE_CHARACTERS:
            begin = " ".join(text[: 4 * SAMPLE_CHARACTERS].split())
            samples[reason] = f"{samples[reason]} {begin}".strip()[:SAMPLE_CHARACTERS]
    return tuple(LeftOut(reason, count, samples[reason]) for reason, count in counts.items() if count)


def add_up(parts: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """What was left out of several texts as one entry a reason, in order; the sample is the first one's."""
    sums: dict[str, LeftOut] = {}
    for part in parts:
        before = sums.get(part.reason, LeftOut(part.reason, 0, part.sample))
        characters, expected = before.characters + part.characters, before.expected + part.expected
        sums[part.reason] = LeftOut(part.reason, characters, before.sample, expected)
    return tuple(sums.values())


class Block(NamedTuple):
    """A paragraph or what else stands on lines of its own."""

    text: str
    kind: Literal["paragraph", "heading", "item", "row"] = "paragraph"
    level: int = 1  # of a heading, 1 the highest


class Parsed(NamedTuple):
    """What a parser found in one file."""

    text: str
    title: str
    metadata: dict[str, object]
    kept: int  # visible characters of the file that stand in the text
    left_out: tuple[LeftOut, ...]
    guessed: str = ""  # encoding of the file, where it does not say it


def join_blocks(blocks: Iterable[Block]) -> str:
    """Blank lines between blocks, none between items of one list and rows of one table."""
    return "".join(f"{between}{block.text}" for between, block in _with_separators(blocks))


def list_sections(blocks: Iterable[Block]) -> list[list[object]]:
    """Where the headings of joined blocks stand, as a document's metadata has it: [offset, level, title]."""
    offset = 0
    found: list[list[object]] = []
    for between, block in _with_separators(blocks):
        offset += len(between)
        if block.kind == "heading":
            found.append([offset, block.level, one_line(block.text)])
        offset += len(block.text)
    return found


def _with_separators(blocks: Iterable[Block]) -> Iterator[tuple[str, Block]]:
    before = ""
    for block in blocks:
        close = block.kind == before and block.kind in ("item", "row")
        yield ("\n" if close else "\n\n") if before else "", block
        before = block.kind


def one_line(text: str) -> str:
    """Without line ends and repeated white space."""
    return " ".join(text.split())


def write_rows(rows: Sequence[Sequence[str]], *, header: bool) -> list[Block]:
    """A table as one line a row, such as `Name: Orlin bridge; Height: 5 m.`, each ended by a stop.

    Args:
        rows: the cells' texts.
        header: whether the first row names the columns. It then has no line of its own, unless it is all
            there is.
    """
    names = rows[0] if header and len(rows) > 1 else ()
    lines = []
    for row in rows[1:] if names else rows:
        labels = [*names, *[""] * len(row)][: len(row)]
        cells = [
            f"{label}: {cell}" if label and label != cell else cell
            for label, cell in zip(labels, row, strict=True)
            if cell
        ]
        if cells:
            # A cell with a colon names what stands beside it.
            line = (
                "".join(f"{cell} " if cell.endswith(":") else f"{cell}; " for cell in cells[:-1]) + cells[-1]
            )
            lines.append(Block(line if line.endswith((".", "!", "?")) else f"{line}.", "row"))
    return lines
