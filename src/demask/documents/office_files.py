"""The text of slides (.pptx), sheets (.xlsx) and rich text (.rtf), by python-pptx, openpyxl and striprtf.

parse_slides(Path("talk.pptx")).metadata["sections"]   # one a slide
parse_sheets(Path("parts.xlsx")).text                  # "Part: Axle bolt; Torque: 45 Nm."
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demask.documents.archives import open_package
from demask.documents.parsed import (
    Block,
    Parsed,
    count_characters,
    join_blocks,
    list_sections,
    one_line,
    sum_up,
    write_rows,
)
from demask.documents.text_files import open_file, read_bytes
from demask.errors import DataError

_RTF = b"{\\rtf"


def _check_size(path: Path) -> None:
    """Expand a package once within its limit, as a library would expand it without one."""
    with open_package(path) as package:
        for name in package.names:
            package.read(name)


def parse_slides(path: Path) -> Parsed:
    """Read the slides of one talk; the speaker's notes are left out.

    Raises:
        DataError: it is no .pptx, is damaged, or holds no text.
    """
    import pptx
    from lxml import etree
    from pptx.exc import PackageNotFoundError

    _check_size(path)
    blocks: list[Block] = []
    notes: list[tuple[str, str]] = []
    kept = 0
    with open_file(path) as file:
        try:
            slides = list(pptx.Presentation(file).slides)
        except (
            PackageNotFoundError,
            KeyError,
            ValueError,
            AttributeError,
            zipfile.BadZipFile,
            etree.XMLSyntaxError,
        ) as error:
            raise DataError(
                f"{path}: a damaged .pptx ({one_line(str(error))[:100]}); save it again"
            ) from error
        for slide in slides:
            for block, characters in _read_shapes(slide.shapes, slide.shapes.title):
                blocks.append(block)
                kept += characters
            if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
                notes.append(("notes of the speaker", slide.notes_slide.notes_text_frame.text))
    return _finish(path, blocks, kept, notes)


def _read_shapes(shapes: Any, title: Any) -> Iterator[tuple[Block, int]]:
    """Blocks with their visible characters in the file."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _read_shapes(shape.shapes, title)
        elif getattr(shape, "has_table", False):
            rows = [[one_line(cell.text) for cell in row.cells] for row in shape.table.rows]
            characters = sum(count_characters(cell) for row in rows for cell in row)
            for block in write_rows(rows, header=bool(shape.table.first_row)):
                yield block, characters
                characters = 0
        elif getattr(shape, "has_text_frame", False):
            yield from _read_words(shape, heading=title is not None and shape.shape_id == title.shape_id)


def _read_words(shape: Any, *, heading: bool) -> Iterator[tuple[Block, int]]:
    for paragraph in [shape.text_frame] if heading else shape.text_frame.paragraphs:
        text = one_line(paragraph.text)
        if text:
            yield Block(text, "heading") if heading else Block(f"- {text}", "item"), count_characters(text)


def parse_sheets(path: Path) -> Parsed:
    """Read the sheets of one workbook: a line for each row, which names the columns after the first one.

    Raises:
        DataError: it is no .xlsx, is damaged, or holds no text.
    """
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    _check_size(path)
    blocks: list[Block] = []
    kept = 0
    with open_file(path) as file:
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheets = [(one_line(sheet.title), _read_rows(sheet)) for sheet in book.worksheets]
        except (
            InvalidFileException,
            KeyError,
            ValueError,
            TypeError,
            zipfile.BadZipFile,
            SyntaxError,
        ) as error:
            raise DataError(
                f"{path}: a damaged .xlsx ({one_line(str(error))[:100]}); save it again"
            ) from error
    for title, rows in sheets:
        if rows:
            blocks.append(Block(title, "heading"))
            blocks += write_rows(rows, header=len(rows) > 1 and all(rows[0]))
            kept += sum(count_characters(cell) for row in rows for cell in row)
    return _finish(path, blocks, kept, [])


def _read_rows(sheet: Any) -> list[list[str]]:
    """The rows of a sheet that hold something."""
    rows = [[_write_cell(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
    return [row for row in rows if any(row)]


def _write_cell(value: object) -> str:
    """A value as a person would write it: no time where it is midnight, no fraction where it is none."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return one_line(str(value).removesuffix(" 00:00:00"))


def parse_rich_text(path: Path) -> Parsed:
    """Read one .rtf.

    Raises:
        DataError: it is none, or holds no text.
    """
    from striprtf.striprtf import rtf_to_text

    data = read_bytes(path)
    if not data.lstrip().startswith(_RTF):
        raise DataError(f"{path}: no rich text, expected it to begin with {{\\rtf; save it again")
    try:
        text = rtf_to_text(data.decode("latin-1"), errors="replace")  # type: ignore[no-untyped-call]
    except (ValueError, IndexError, LookupError, KeyError) as error:
        raise DataError(f"{path}: a damaged .rtf ({one_line(str(error))[:100]}); save it again") from error
    blocks = [Block(one) for line in text.split("\n") if (one := one_line(line))]
    return _finish(path, blocks, sum(count_characters(block.text) for block in blocks), [])


def _finish(path: Path, blocks: list[Block], kept: int, left_out: list[tuple[str, str]]) -> Parsed:
    text = join_blocks(blocks)
    if not text:
        raise DataError(f"{path}: no text in this file; leave it out")
    sections = list_sections(blocks)
    metadata: dict[str, object] = {"sections": sections} if sections else {}
    return Parsed(text, str(sections[0][2]) if sections else "", metadata, kept, sum_up(left_out))
