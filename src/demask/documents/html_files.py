"""The text of a web page, without what is on every page of its site.

    parsed = parse_html(Path("page.html"))
    parsed.text, parsed.title, parsed.metadata["date"]
    parsed.left_out  # navigation, footers, forms: by reason

Works on the tree that lxml makes; htmldate finds the date, `furniture` what is no text of the page.
"""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from demask.documents.furniture import (
    BLOCKS,
    HEADINGS,
    UNSEEN,
    count_elements,
    count_expected,
    survey,
    text_of,
    why_left_out,
)
from demask.documents.guessing import LOOKED_AT, guess_encoding, is_utf8
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
from demask.documents.text_files import GuessedText, read_bytes
from demask.errors import DataError
from demask.text_encoding import Encoding, choose_page_encoding

# Its tree takes about ten times as much memory as the page.
MAX_BYTES = 20_000_000

_CHARSET = re.compile(
    rb"""<(?:meta|\?xml)[^>]{0,500}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)
# Characters from the start of the page among which its date is looked for.
_DATED = 200_000


class _Found(NamedTuple):
    blocks: list[Block]
    kept: list[int]  # characters, piece by piece
    left_out: list[tuple[str, str]]  # reason and text
    expected: Counter[str]  # characters of them that are surely no text, by reason


def parse_html(path: Path) -> Parsed:
    """Read one page.

    Raises:
        DataError: it is too large, in no known encoding, nested too deep, or without text.
    """
    return parse_page(read_bytes(path, max_bytes=MAX_BYTES), str(path))


def parse_page(data: bytes, place: str, *, converted: bool = False) -> Parsed:
    """Read one page that stands somewhere, such as in a book; its text is empty where it is navigation alone.

    Args:
        data: the page.
        place: where it stands, for messages.
        converted: from another format, so that all of it is text and no site stands around it.

    Raises:
        DataError: as for `parse_html`.
    """
    from lxml import etree

    text, guessed = decode_page(data, place)
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, remove_pis=True, remove_comments=True)
    try:
        root = etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError:
        root = None
    if any("xcessive depth" in str(entry.message) for entry in parser.error_log):
        raise DataError(f"{place}: elements are nested too deep to be read; save the text alone")
    if root is None:
        raise DataError(f"{place}: no HTML; save the page again or leave the file out")
    found = _walk(root, converted=converted)
    text = join_blocks(found.blocks)
    metadata = _read_metadata(root, dated=not converted)
    if sections := list_sections(found.blocks):
        metadata["sections"] = sections
    left_out = tuple(
        replace(part, expected=min(part.characters, found.expected[part.reason]))
        for part in sum_up(found.left_out)
    )
    title = metadata.pop("title", "") or next((b.text for b in found.blocks if b.kind == "heading"), "")
    return Parsed(text, str(title), metadata, sum(found.kept), left_out, guessed)


def decode_page(data: bytes, place: str) -> GuessedText:
    """The page as text; see `choose_page_encoding`. What it does not declare is guessed.

    Raises:
        DataError: it is in none of the encodings that it may be in.
    """
    found = _CHARSET.search(data[:4096])
    declared = found[1].decode("ascii", "replace") if found else ""
    encoding = choose_page_encoding(data, declared)
    guess = None if declared or encoding.mark_bytes or is_utf8(data) else guess_encoding(data[:LOOKED_AT])
    if guess:
        encoding = Encoding(guess.replace("_", "-"), guessed=True)
    try:
        text = data[encoding.mark_bytes :].decode(encoding.name)
    except LookupError:
        raise DataError(
            f"{place}: declares the unknown encoding {encoding.name!r}; save the page as UTF-8"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{place} line {line}: byte 0x{error.object[error.start]:02x} is not {encoding.name}"
            f"{', which the page declares' if declared else ''}; save the page as UTF-8"
        ) from error
    if "\0" in text:
        raise DataError(f"{place}: a NUL byte, so the file is not a page; expected HTML")
    return GuessedText(text, encoding.title if encoding.guessed else "")


def _walk(root: Any, *, converted: bool) -> _Found:
    """Blocks of text in the order of the page, and what is left out of them."""
    from lxml import etree

    found = _Found([], [], [], Counter())
    inline: list[str] = []
    page = survey(root)
    inside = root  # the last block element that began or ended
    number = 0  # of the element
    walker = etree.iterwalk(root, events=("start", "end"))
    for event, element in walker:
        tag = element.tag
        if event == "start":
            reason = "" if converted else why_left_out(element, page, number)
            if tag in BLOCKS:
                _flush(inline, found, inside)
                inside = element
            if tag in UNSEEN or reason or _is_data_table(element):
                _take_whole(element, reason, found)
                walker.skip_subtree()
                number += count_elements(element)
                continue
            number += 1
            inline.append(element.text or "")
            continue
        if tag in BLOCKS:
            _flush(inline, found, element)
            inside = element.getparent() if element.getparent() is not None else element
        inline.append("\n" if tag == "br" else "")
        inline.append(element.tail or "")
    _flush(inline, found, inside)
    return found


def _flush(inline: list[str], found: _Found, element: Any) -> None:
    """Make a block of the text since the last one."""
    text = "".join(inline)
    inline.clear()
    # Only a line break of the page itself ends a line; those of its source are spaces.
    lines = text.split("\n") if element.tag == "pre" else [one_line(text)]
    text = "\n".join(line.rstrip() for line in lines).strip("\n")
    if not text:
        return
    found.kept.append(count_characters(text))
    if element.tag in HEADINGS:
        found.blocks.append(Block(text, "heading", int(element.tag[1])))
    elif item := _begun_item(element):
        found.blocks.append(Block(f"{item} {text}", "item"))
    else:
        found.blocks.append(Block(text))


def _begun_item(element: Any) -> str:
    """The mark of the list item that an element begins, empty when it begins none."""
    parent = element.getparent()
    item = element if element.tag == "li" else parent
    if item is None or item.tag != "li" or (item is parent and parent[0] is not element):
        return ""
    around = item.getparent()
    if around is None or around.tag != "ol":
        return "-"
    start, value = around.get("start", ""), item.get("value", "")
    before = sum(1 for _ in item.itersiblings("li", preceding=True))
    return f"{value if value.isdecimal() else before + (int(start) if start.isdecimal() else 1)}."


def _take_whole(element: Any, reason: str, found: _Found) -> None:
    """Read an element that is not entered: one to leave out, a table, or a script."""
    if element.tag == "svg":  # its words are labels, in the order in which they were drawn
        labels = [one_line("".join(text.itertext())) for text in element.iter("text")]
        found.left_out.append(("drawing", " ".join(filter(None, labels))))
        return
    if element.tag in UNSEEN:
        return
    if reason:
        text = text_of(element)
        found.left_out.append((reason, text))
        found.expected[reason] += count_expected(element, text)
        return
    caption = element.find("caption")
    if caption is not None and text_of(caption):
        found.blocks.append(Block(text_of(caption), "paragraph"))
    lines = [[cell for cell in row if cell.tag in ("td", "th")] for row in element.iter("tr")]
    rows = [[text_of(cell) for cell in line] for line in lines if line]
    header = bool(lines) and all(cell.tag == "th" for cell in lines[0])
    found.blocks.extend(write_rows(rows, header=header))
    found.kept.append(count_characters(text_of(element)))


def _is_data_table(element: Any) -> bool:
    """Rather than a table that only places parts of the page."""
    if element.tag != "table" or element.get("role") == "presentation":
        return False
    return next(element.iter("td", "th"), None) is not None and not any(
        inner is not element for inner in element.iter("table", "h1", "h2", "nav", "article", "main", "form")
    )


def _read_metadata(root: Any, *, dated: bool) -> dict[str, object]:
    """Title, date and author where the page says them."""
    from lxml import etree

    said = {
        str(meta.get("property") or meta.get("name") or "").lower(): one_line(meta.get("content") or "")
        for meta in root.iter("meta")
    }
    titles = [one_line(" ".join(title.itertext())) for title in root.iter("title")]
    heads = [text_of(heading) for heading in root.iter("h1")]
    title = said.get("og:title") or (heads[0] if len(heads) == 1 else "") or (titles or [""])[0]
    metadata = {
        "title": title,
        "date": _find_date(etree.tostring(root, encoding="unicode", method="html")[:_DATED]) if dated else "",
        "author": said.get("author") or said.get("article:author") or "",
        "site": said.get("og:site_name", ""),
    }
    return {key: value for key, value in metadata.items() if value}


def _find_date(page: str) -> str:
    """The ISO day on which the page says it was published, empty when it does not."""
    from htmldate import find_date

    return find_date(page, extensive_search=False, original_date=True) or ""
