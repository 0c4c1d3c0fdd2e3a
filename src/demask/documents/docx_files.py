"""The text of a Word document (.docx): paragraphs, lists and tables in their order.

    parsed = parse_docx(Path("manual.docx"))
    parsed.text, parsed.title, parsed.metadata["date"]
    parsed.left_out  # headers, footers, notes, comments, deleted text

python-docx opens the package; the text is taken from its XML, as python-docx passes over content controls,
tracked insertions and text boxes.
"""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

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
from demask.documents.text_files import open_file
from demask.errors import DataError

# Of all files in the package together, expanded: pictures are most of a large manual.
MAX_EXPANDED = 256 * 2**20
_READ = 2**20
_OLD_WORD = bytes.fromhex("d0cf11e0a1b11ae1")  # also begins a .docx that is locked by a password

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_SPACES = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
# Endings of the names of parts, in the order of the report.
_OTHER_PARTS = {
    "header": "page header",
    "footer": "page footer",
    "footnotes": "footnotes",
    "endnotes": "endnotes",
    "comments": "comments",
}


class _Found(NamedTuple):
    blocks: list[Block]
    kept: list[int]
    left_out: list[tuple[str, str]]


def parse_docx(path: Path) -> Parsed:
    """Read one document.

    Raises:
        DataError: it is no .docx, is damaged, expands to too much, or holds no text.
    """
    import docx
    from lxml import etree

    with open_file(path) as file:
        _check_package(path, file)
        file.seek(0)
        try:
            document = docx.Document(file)
            parts = list(document.part.package.iter_parts())
        except (KeyError, ValueError, AttributeError, zipfile.BadZipFile, etree.XMLSyntaxError) as error:
            raise DataError(f"{path}: a damaged .docx ({one_line(str(error))}); save it again") from error
        found = _Found([], [], [])
        _read_body(document.element.body, found, _heading_styles(document))
        for part in parts:
            _read_other_part(str(part.partname), part.blob, found)
        text = join_blocks(found.blocks)
        if not text:
            raise DataError(f"{path}: no text in this document; leave it out")
        properties = document.core_properties
        day = properties.modified or properties.created
        title = properties.title or next((b.text for b in found.blocks if b.kind == "heading"), "")
        metadata: dict[str, object] = {"date": day.date().isoformat()} if day else {}
        if sections := list_sections(found.blocks):
            metadata["sections"] = sections
        if properties.author:
            metadata["author"] = properties.author
        return Parsed(text, one_line(title), metadata, sum(found.kept), sum_up(found.left_out))


def _check_package(path: Path, file: BinaryIO) -> None:
    """See whether the file is a ZIP of a .docx, and expand it once without keeping anything."""
    if file.read(len(_OLD_WORD)) == _OLD_WORD:
        raise DataError(f"{path}: an old .doc or locked by a password; open it in Word and save it as .docx")
    try:
        with zipfile.ZipFile(file) as package:
            if "[Content_Types].xml" not in package.namelist():
                raise DataError(f"{path}: a ZIP archive but no .docx; unpack it and give its files")
            if sum(part.file_size for part in package.infolist()) > MAX_EXPANDED:
                raise _too_large(path)
            _expand(path, package)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise DataError(f"{path}: no readable .docx ({one_line(str(error))}); save it again") from error
    except RuntimeError as error:  # what zipfile raises for an encrypted member
        raise DataError(f"{path}: locked by a password; save it without one") from error


def _expand(path: Path, package: zipfile.ZipFile) -> None:
    """Read what the parts really expand to, as the sizes that an archive declares may be wrong."""
    left = MAX_EXPANDED
    for part in package.infolist():
        with package.open(part) as expanded:
            while data := expanded.read(_READ):
                left -= len(data)
        if left < 0:
            raise _too_large(path)


def _too_large(path: Path) -> DataError:
    return DataError(
        f"{path}: expands to more than {MAX_EXPANDED:,} bytes; is it a .docx? "
        "save it without pictures, or as text"
    )


def _heading_styles(document: Any) -> dict[str, int]:
    """Ids of the styles of titles and headings, with their levels; ids, unlike names, are translated."""
    levels = {}
    for style in document.styles:
        name = str(style.name).lower()
        if name.startswith(("heading", "title", "subtitle")):
            number = name.removeprefix("heading").strip()
            levels[str(style.style_id)] = int(number) + 1 if number.isdecimal() else 1
    return levels


def _read_body(body: Any, found: _Found, headings: Mapping[str, int]) -> None:
    """All paragraphs and tables, those in content controls and text boxes too."""
    from lxml import etree

    walker = etree.iterwalk(body, events=("start",), tag=(f"{_W}p", f"{_W}tbl", _FALLBACK))
    for _, element in walker:
        if element.tag == _FALLBACK:  # says again what stands beside it
            walker.skip_subtree()
        elif element.tag == f"{_W}tbl":
            rows = _table_rows(element, found)
            found.blocks.extend(write_rows(rows, header=_has_header(element)))
            walker.skip_subtree()
        else:
            _read_paragraph(element, found, headings)


def _read_paragraph(paragraph: Any, found: _Found, headings: Mapping[str, int]) -> None:
    text = "".join(_runs(paragraph, found, own=True)).strip()
    if not text:
        return
    found.kept.append(count_characters(text))
    style = paragraph.find(f"{_W}pPr/{_W}pStyle")
    name = "" if style is None else style.get(f"{_W}val", "")
    if name in headings:
        found.blocks.append(Block(one_line(text), "heading", headings[name]))
    elif name.startswith("List") or paragraph.find(f"{_W}pPr/{_W}numPr") is not None:
        found.blocks.append(Block(f"- {text}", "item"))
    else:
        found.blocks.append(Block(text))


def _runs(element: Any, found: _Found, *, own: bool) -> Iterator[str]:
    """The pieces of text of an element in order; deleted ones go to what is left out.

    Args:
        element: a paragraph or more.
        found: where deleted text goes.
        own: without the paragraphs of text boxes in it, which the walk over the body meets.
    """
    from lxml import etree

    walker = etree.iterwalk(element, events=("start",))
    for _, inner in walker:
        if inner is element or not isinstance(inner.tag, str):
            continue
        if inner.tag == _FALLBACK or (own and inner.tag == f"{_W}p"):
            walker.skip_subtree()
        elif inner.tag == f"{_W}delText":
            found.left_out.append(("deleted text of tracked changes", inner.text or ""))
        elif inner.tag == f"{_W}t":
            yield inner.text or ""
        elif inner.tag == f"{_W}p":
            yield "\n"
        elif inner.tag in _SPACES and inner.getparent().tag == f"{_W}r":
            yield _SPACES[inner.tag]


def _table_rows(table: Any, found: _Found) -> list[list[str]]:
    """The cells' texts; a table in a cell is part of the cell's text."""
    nested = set(table.iter(f"{_W}tbl")) - {table}
    inner_rows = {row for inner in nested for row in inner.iter(f"{_W}tr")}
    rows = []
    for row in table.iter(f"{_W}tr"):
        if row in inner_rows:
            continue
        cells = [cell for cell in row.iter(f"{_W}tc") if next(cell.iterancestors(f"{_W}tr")) is row]
        rows.append([one_line("".join(_runs(cell, found, own=False))) for cell in cells])
    found.kept.append(sum(count_characters(cell) for row in rows for cell in row))
    return rows


def _has_header(table: Any) -> bool:
    """Whether the first row names the columns: it is marked so, or the table's look sets it apart."""
    first = table.find(f"{_W}tr")
    if first is not None and first.find(f"{_W}trPr/{_W}tblHeader") is not None:
        return True
    look = table.find(f"{_W}tblPr/{_W}tblLook")
    if look is None:
        return False
    first_row = 0x0020  # bit of the older way to say it
    return look.get(f"{_W}firstRow") == "1" or bool(int(look.get(f"{_W}val") or "0", 16) & first_row)


def _read_other_part(name: str, blob: bytes, found: _Found) -> None:
    """Note the text of headers, footers, notes and comments as left out."""
    from lxml import etree

    stem = name.rpartition("/")[2].removesuffix(".xml").rstrip("0123456789")
    if stem not in _OTHER_PARTS or not name.endswith(".xml"):
        return
    root = etree.fromstring(blob, etree.XMLParser(resolve_entities=False, no_network=True))
    text = "".join(_runs(root, _Found([], [], []), own=False))
    found.left_out.append((_OTHER_PARTS[stem], text))
