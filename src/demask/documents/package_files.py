"""The text of books and office documents that are ZIP packages of XML: EPUB and OpenDocument (.odt).

    parse_epub(Path("manual.epub")).metadata["sections"]
    parse_odt(Path("letter.odt")).left_out         # footnotes, comments

EbookLib (AGPL) and odfpy (no release since 2020) were weighed: what is needed of either format is the order
of its parts and a walk over one tree.
"""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from demask.documents.archives import Package, open_package
from demask.documents.html_files import parse_page
from demask.documents.parsed import (
    SAMPLE_CHARACTERS,
    Block,
    LeftOut,
    Parsed,
    add_up,
    count_characters,
    join_blocks,
    list_sections,
    one_line,
    sum_up,
    write_rows,
)
from demask.errors import DataError

_DC = "{http://purl.org/dc/elements/1.1/}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_SPACES = {f"{_TEXT}tab": "\t", f"{_TEXT}line-break": "\n"}
_LEFT_OUT = {
    f"{_TEXT}note": "footnotes",
    f"{_OFFICE}annotation": "comments",
    f"{_TEXT}tracked-changes": "deleted text of tracked changes",
    f"{_TEXT}table-of-content": "table of contents",
    f"{_TEXT}alphabetical-index": "index",
}
_BETWEEN = "\n\n"  # two pages of a book
_MOST_REPEATED = 1000  # spaces or cells that one element may stand for


def parse_epub(path: Path) -> Parsed:
    """Read one book: the pages of its spine, in order.

    Raises:
        DataError: it is no EPUB, is damaged or encrypted, or holds no text.
    """
    with open_package(path) as package:
        container = _parse_xml(package, "META-INF/container.xml")
        name = next((one.get("full-path") for one in container.iter("{*}rootfile")), None)
        if name is None:
            raise DataError(f"{path}: an EPUB without contents; get it again")
        book = _parse_xml(package, name)
        pages = list(_read_pages(package, _spine(book, name)))
        if not any(page.text for page in pages):
            raise DataError(f"{path}: no text in this book, or one that is locked; save it as text")
    sections: list[list[object]] = []
    length = 0
    for page in filter(lambda page: page.text, pages):
        for offset, level, title in page.metadata.get("sections", []):  # type: ignore[attr-defined]
            sections.append([offset + length, level, title])
        length += len(page.text) + len(_BETWEEN)
    metadata: dict[str, object] = {"sections": sections} if sections else {}
    metadata |= {key: said for key in ("date", "creator") if (said := _say(book, key))}
    left_out = add_up([part for page in pages for part in page.left_out])
    text = _BETWEEN.join(page.text for page in pages if page.text)
    return Parsed(text, _say(book, "title"), metadata, sum(page.kept for page in pages), left_out)


def _read_pages(package: Package, pages: Iterator[tuple[str, bool]]) -> Iterator[Parsed]:
    """The pages; the table of contents, and one that cannot be read, is left out and named."""
    for name, is_contents in pages:
        data = package.read(name)
        try:
            page = parse_page(data, name)
        except DataError as error:
            characters = count_characters(data.decode(errors="replace"))
            yield Parsed("", "", {}, 0, (LeftOut("pages that cannot be read", characters, str(error)),))
            continue
        yield _leave_out_contents(page) if is_contents else page


def _leave_out_contents(page: Parsed) -> Parsed:
    characters = page.kept + sum(part.characters for part in page.left_out)
    contents = LeftOut("table of contents", characters, one_line(page.text)[:SAMPLE_CHARACTERS], characters)
    return Parsed("", "", {}, 0, (contents,) if characters else ())


def _spine(book: Any, name: str) -> Iterator[tuple[str, bool]]:
    """Names of the pages in the order of reading, and whether one is the table of contents."""
    items = {item.get("id"): item for item in book.iter("{*}item")}
    for reference in book.iter("{*}itemref"):
        item = items.get(reference.get("idref"))
        if item is not None:
            page = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(item.get("href", ""))))
            yield page, "nav" in (item.get("properties") or "").split()


def _say(book: Any, key: str) -> str:
    return one_line(next((one.text or "" for one in book.iter(f"{_DC}{key}")), ""))


def _parse_xml(package: Package, name: str) -> Any:
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        return etree.fromstring(package.read(name), parser)
    except etree.XMLSyntaxError as error:
        raise DataError(
            f"{package.path}: {name} is damaged ({one_line(str(error))[:100]}); save it again"
        ) from error


def parse_odt(path: Path) -> Parsed:
    """Read one text document of LibreOffice.

    Raises:
        DataError: it is no .odt, is damaged or locked, or holds no text.
    """
    with open_package(path) as package:
        root = _parse_xml(package, "content.xml")
        body = root.find(f"{_OFFICE}body/{_OFFICE}text")
        if body is None:
            raise DataError(
                f"{path}: no text document, or one that is locked; save it as .odt without a password"
            )
        meta = _parse_xml(package, "meta.xml") if "meta.xml" in package.names else root
    blocks: list[Block] = []
    left_out: list[tuple[str, str]] = []
    kept = _read_body(body, blocks, left_out)
    text = join_blocks(blocks)
    if not text:
        raise DataError(f"{path}: no text in this document; leave it out")
    metadata: dict[str, object] = {"date": day[:10]} if (day := _say(meta, "date")) else {}
    if sections := list_sections(blocks):
        metadata["sections"] = sections
    title = _say(meta, "title") or next((one_line(one.text) for one in blocks if one.kind == "heading"), "")
    return Parsed(text, title, metadata, kept, sum_up(left_out))


def _read_body(body: Any, blocks: list[Block], left_out: list[tuple[str, str]]) -> int:
    """Append paragraphs, headings, items and tables; the visible characters that they have in the file."""
    from lxml import etree

    kept = 0
    walker = etree.iterwalk(body, events=("start",))
    for _, element in walker:
        tag = element.tag
        if tag in _LEFT_OUT:
            left_out.append((_LEFT_OUT[tag], " ".join(element.itertext())))
            walker.skip_subtree()
        elif tag == f"{_TABLE}table":
            rows = [
                [one_line(" ".join(_words(cell, left_out))) for cell in row.iter(f"{_TABLE}table-cell")]
                for row in element.iter(f"{_TABLE}table-row")
            ]
            kept += sum(count_characters(cell) for row in rows for cell in row)
            blocks += write_rows(rows, header=element.find(f"{_TABLE}table-header-rows") is not None)
            walker.skip_subtree()
        elif tag in (f"{_TEXT}h", f"{_TEXT}p"):
            text = "".join(_words(element, left_out)).strip()
            walker.skip_subtree()
            kept += count_characters(text)
            if text:
                blocks.append(_make_block(element, text))
    return kept


def _make_block(element: Any, text: str) -> Block:
    if element.tag == f"{_TEXT}h":
        level = element.get(f"{_TEXT}outline-level", "1")
        return Block(one_line(text), "heading", int(level) if level.isdecimal() else 1)
    return (
        Block(f"- {text}", "item")
        if next(element.iterancestors(f"{_TEXT}list"), None) is not None
        else Block(text)
    )


def _words(element: Any, left_out: list[tuple[str, str]]) -> Iterator[str]:
    """The pieces of text of an element in order; notes and comments go to what is left out."""
    if element.tag in _LEFT_OUT:
        left_out.append((_LEFT_OUT[element.tag], " ".join(element.itertext())))
        return
    if element.tag == f"{_TEXT}s":
        count = element.get(f"{_TEXT}c", "1")
        yield " " * min(int(count) if count.isdecimal() else 1, _MOST_REPEATED)
    yield _SPACES.get(element.tag, "") if isinstance(element.tag, str) else ""
    yield element.text or "" if isinstance(element.tag, str) else ""
    for inner in element:
        yield from _words(inner, left_out)
        yield inner.tail or ""
