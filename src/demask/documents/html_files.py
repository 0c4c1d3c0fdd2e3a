"""The text of a web page, without what is on every page of its site.

    parsed = parse_html(Path("page.html"))
    parsed.text, parsed.title, parsed.metadata["date"]
    parsed.left_out  # navigation, footers, forms: by reason

Works on the tree that lxml makes; dates are found by htmldate. Navigation is told by its HTML element or
role, by words of its class and id, and lists by being links almost only.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from demask.documents.parsed import Block, Parsed, count_characters, join_blocks, one_line, sum_up, write_rows
from demask.documents.text_files import read_bytes
from demask.errors import DataError
from demask.text_encoding import choose_page_encoding

# Its tree takes about ten times as much memory as the page.
MAX_BYTES = 20_000_000

_UNSEEN = frozenset("script style noscript template svg iframe object head".split())
_LEFT_OUT = {
    "nav": "navigation",
    "footer": "page footer",
    "aside": "aside",
    "button": "form",
    "select": "form",
    "textarea": "form",
    "dialog": "dialog",
}
_ROLES = {
    "navigation": "navigation",
    "menu": "navigation",
    "menubar": "navigation",
    "search": "form",
    "banner": "page header",
    "contentinfo": "page footer",
    "complementary": "aside",
    "dialog": "dialog",
    "alertdialog": "dialog",
}
_SITE_WORDS = frozenset(
    "nav navbar navigation menu sidebar breadcrumb breadcrumbs footer cookie cookies share sharing social"
    " related newsletter advert ads promo toc pagination banner editsection comments".split()
)
_NOT_A_WORD = re.compile(r"[^a-z]+")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_CHARSET = re.compile(
    rb"""<(?:meta|\?xml)[^>]{0,500}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)
_BLOCKS = frozenset(
    "address article blockquote body caption center dd details div dl dt fieldset figcaption figure form h1"
    " h2 h3 h4 h5 h6 header hr li main ol p pre section summary table tbody td tfoot th thead tr ul".split()
)
_HEADINGS = frozenset("h1 h2 h3 h4 h5 h6".split())
# A part of the page with more of its text than this is no navigation, whatever it is called.
_LARGEST_SHARE = 1 / 3
_LINK_SHARE = 0.8
_FEWEST_LINKS = 3
# Characters from the start of the page among which its date is looked for.
_DATED = 200_000


class _Found(NamedTuple):
    blocks: list[Block]
    kept: list[int]  # characters, piece by piece
    left_out: list[tuple[str, str]]  # reason and text


def parse_html(path: Path) -> Parsed:
    """Read one page.

    Raises:
        DataError: it is too large, in no known encoding, nested too deep, or without text.
    """
    from lxml import etree

    text = decode_page(read_bytes(path, max_bytes=MAX_BYTES), str(path))
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, remove_pis=True, remove_comments=True)
    try:
        root = etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError:
        root = None
    if any("xcessive depth" in str(entry.message) for entry in parser.error_log):
        raise DataError(f"{path}: elements are nested too deep to be read; save the text alone")
    if root is None:
        raise DataError(f"{path}: no HTML; save the page again or leave the file out")
    found = _walk(root)
    text = join_blocks(found.blocks)
    if not text:
        raise DataError(f"{path}: no text in this page but navigation; save the article as text")
    metadata = _read_metadata(root)
    title = metadata.pop("title", "") or next((b.text for b in found.blocks if b.kind == "heading"), "")
    return Parsed(text, str(title), metadata, sum(found.kept), sum_up(found.left_out))


def decode_page(data: bytes, place: str) -> str:
    """The page as text; see `choose_page_encoding`.

    Raises:
        DataError: it is in none of the encodings that it may be in.
    """
    found = _CHARSET.search(data[:4096])
    declared = found[1].decode("ascii", "replace") if found else ""
    encoding = choose_page_encoding(data, declared)
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
    return text


def _walk(root: Any) -> _Found:
    """Blocks of text in the order of the page, and what is left out of them."""
    from lxml import etree

    found = _Found([], [], [])
    inline: list[str] = []
    largest = _LARGEST_SHARE * sum(map(count_characters, _texts(root)))
    inside = root  # the last block element that began or ended
    walker = etree.iterwalk(root, events=("start", "end"))
    for event, element in walker:
        tag = element.tag
        if event == "start":
            reason = _why_left_out(element, largest)
            if tag in _BLOCKS or reason:
                _flush(inline, found, inside)
                inside = element
            if tag in _UNSEEN or reason or _is_data_table(element):
                _take_whole(element, reason, found)
                walker.skip_subtree()
            elif element.text:
                inline.append(element.text)
            continue
        if tag in _BLOCKS:
            _flush(inline, found, element)
            inside = element.getparent() if element.getparent() is not None else element
        inline.append("\n" if tag == "br" else "")
        inline.append(element.tail or "")
    _flush(inline, found, inside)
    return found


def _texts(element: Any) -> Iterator[str]:
    """All text that a reader could see in an element."""
    from lxml import etree

    walker = etree.iterwalk(element, events=("start", "end"))
    for event, inner in walker:
        if event == "start" and inner.tag in _UNSEEN:
            walker.skip_subtree()
        elif event == "start":
            yield inner.text or ""
        elif inner is not element:
            yield " " if inner.tag in _BLOCKS or inner.tag == "br" else ""
            yield inner.tail or ""


def _text(element: Any) -> str:
    return one_line("".join(_texts(element)))


def _flush(inline: list[str], found: _Found, element: Any) -> None:
    """Make a block of the text since the last one."""
    text = "".join(inline)
    inline.clear()
    # Only a line break of the page itself ends a line; those of its source are spaces.
    lines = text.split("\n") if element.tag == "pre" else [one_line(text)]
    text = "\n".join(line.rstrip() for line in lines).strip()
    if not text:
        return
    found.kept.append(count_characters(text))
    if element.tag in _HEADINGS:
        found.blocks.append(Block(text, "heading"))
    elif _begins_item(element):
        found.blocks.append(Block(f"- {text}", "item"))
    else:
        found.blocks.append(Block(text))


def _begins_item(element: Any) -> bool:
    parent = element.getparent()
    return element.tag == "li" or (parent is not None and parent.tag == "li" and parent[0] is element)


def _take_whole(element: Any, reason: str, found: _Found) -> None:
    """Read an element that is not entered: one to leave out, a table, or a script."""
    if element.tag in _UNSEEN:
        return
    if reason:
        found.left_out.append((reason, _text(element)))
        return
    caption = element.find("caption")
    if caption is not None and _text(caption):
        found.blocks.append(Block(_text(caption), "paragraph"))
    lines = [[cell for cell in row if cell.tag in ("td", "th")] for row in element.iter("tr")]
    rows = [[_text(cell) for cell in line] for line in lines if line]
    header = bool(lines) and all(cell.tag == "th" for cell in lines[0])
    found.blocks.extend(write_rows(rows, header=header))
    found.kept.append(count_characters(_text(element)))


def _is_data_table(element: Any) -> bool:
    """Rather than a table that only places parts of the page."""
    if element.tag != "table" or element.get("role") == "presentation":
        return False
    return next(element.iter("td", "th"), None) is not None and not any(
        inner is not element for inner in element.iter("table", "h1", "h2", "nav", "article", "main", "form")
    )


def _why_left_out(element: Any, largest: float) -> str:
    """The reason to leave an element out, empty when there is none."""
    tag = element.tag
    if tag in _UNSEEN or tag in ("html", "body", "main", "article"):
        return ""
    if element.get("hidden") is not None or _HIDDEN.search(element.get("style", "")):
        return "hidden"
    reason = _LEFT_OUT.get(tag) or _ROLES.get(element.get("role", ""))
    if reason:
        return reason
    words = _NOT_A_WORD.split(f"{element.get('class', '')} {element.get('id', '')}".lower())
    if tag == "header" and not any(parent.tag in ("main", "article") for parent in element.iterancestors()):
        guess = "page header"
    elif not _SITE_WORDS.isdisjoint(words):
        guess = "navigation"
    else:
        guess = "list of links" if tag in ("ul", "ol") and _is_links(element) else ""
    return guess if guess and count_characters(_text(element)) <= largest else ""


def _is_links(element: Any) -> bool:
    links = list(element.iter("a"))
    if len(links) < _FEWEST_LINKS:
        return False
    linked = sum(count_characters(_text(link)) for link in links)
    return linked >= _LINK_SHARE * count_characters(_text(element))


def _read_metadata(root: Any) -> dict[str, object]:
    """Title, date and author where the page says them."""
    from lxml import etree

    said = {
        str(meta.get("property") or meta.get("name") or "").lower(): one_line(meta.get("content") or "")
        for meta in root.iter("meta")
    }
    titles = [one_line(" ".join(title.itertext())) for title in root.iter("title")]
    heads = [_text(heading) for heading in root.iter("h1")]
    title = said.get("og:title") or (heads[0] if len(heads) == 1 else "") or (titles or [""])[0]
    metadata = {
        "title": title,
        "date": _find_date(etree.tostring(root, encoding="unicode", method="html")[:_DATED]),
        "author": said.get("author") or said.get("article:author") or "",
        "site": said.get("og:site_name", ""),
    }
    return {key: value for key, value in metadata.items() if value}


def _find_date(page: str) -> str:
    """The ISO day on which the page says it was published, empty when it does not."""
    from htmldate import find_date

    return find_date(page, extensive_search=False, original_date=True) or ""
