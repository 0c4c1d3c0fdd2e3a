"""Paragraphs, list items and table rows as plain text, for the formats that have such things.

text = join_blocks([Block("Orlin", "heading"), Block("- one", "item"), Block("- two", "item")])
parsed = Parsed(text, "Orlin", {"date": "2025-03-04"}, kept=11, left_out=())
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from demask.documents.file_reports import LeftOut


class Block(NamedTuple):
    """A paragraph or what else stands on lines of its own."""

    text: str
    kind: Literal["paragraph", "heading", "item", "row"] = "paragraph"


class Parsed(NamedTuple):
    """What a parser found in one file."""

    text: str
    title: str
    metadata: dict[str, object]
    kept: int  # visible characters of the file that stand in the text
    left_out: tuple[LeftOut, ...]


def join_blocks(blocks: Iterable[Block]) -> str:
    """Blank lines between blocks, none between items of one list and rows of one table."""
    parts: list[str] = []
    before = ""
    for text, kind in blocks:
        if parts:
            parts.append("\n" if kind == before and kind in ("item", "row") else "\n\n")
        parts.append(text)
        before = kind
    return "".join(parts)


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
            line = "; ".join(cells)
            lines.append(Block(line if line.endswith((".", "!", "?")) else f"{line}.", "row"))
    return lines
