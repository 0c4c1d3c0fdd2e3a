"""What of a web page is no text of it: navigation, lists of links, headers and footers of the site.

    page = survey(root)                      # one pass: how much text and how many links each element has
    why_left_out(element, page, number)      # "navigation", ..., empty for text

Elements and roles that HTML has for it are believed as far as what they hold agrees; for all others structure
and the share of linked text decide. Classes and ids are never looked at: a manual's section on "sharing" has
that word as its id.
"""

import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

from demask.documents.parsed import count_characters, one_line

UNSEEN = frozenset("script style noscript template svg iframe object head".split())
BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption"
    " figure footer form h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre section summary table tbody td"
    " tfoot th thead tr ul".split()
)
HEADINGS = frozenset("h1 h2 h3 h4 h5 h6".split())
_FORM_PARTS = frozenset("button select textarea".split())
_LISTS = frozenset("ul ol dl table".split())
# What an element or a role claims to be.
_CLAIMS = {
    "nav": "navigation",
    "header": "page header",
    "footer": "page footer",
    "aside": "aside",
    "dialog": "dialog",
    "navigation": "navigation",
    "menu": "navigation",
    "menubar": "navigation",
    "search": "form",
    "banner": "page header",
    "contentinfo": "page footer",
    "complementary": "aside",
    "alertdialog": "dialog",
}
# Linked letters of all letters: from the first on a list is one of links, from the second on an aside or a
# header is the site's, from the third on what claims to be navigation is.
_LINK_LIST = 0.8
_LINK_DENSE = 0.5
_NAVIGATION_TEXT = 0.3
_FEWEST_LINKS = 3
_LABEL = 40  # letters that a list of links may have beside them: "Table of Contents"
_LABELLED_LINKS = 30  # of a list that only a label stands before: more of them are a table of contents
_BAR = 500  # characters of a prev/next bar; 264 in the longest of PostgreSQL's
_SLOGAN = 200
_LAST = 1500  # characters before the end of a page, among which its footer begins
_MAIN_SHARE = 0.5
_DIRECTIONS = frozenset(
    "prev previous next up home top back index contents start toc zurück weiter précédent suivant".split()
)
_RELATIONS = frozenset("prev previous next up start home contents index top first last toc".split())
_DIRECTION_KEYS = frozenset("pnuhi")
_LONGEST_DIRECTION, _DIRECTION_WORDS = 60, 2
_OUTER = re.compile(r"(?:[a-z]+:)?//|mailto:", re.IGNORECASE)
_NOT_A_LETTER = re.compile(r"[\W\d_]+")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
# Not the stop of a number: "Chapter 3. Shared libraries of Debian".
_SENTENCE_END = re.compile(r"(?<![\dA-Z])[.!](?:\s*\Z|\s+\S+\s+\S+\s+\S+)")
_FOOTER = re.compile(
    r"(?:copyright|last (?:updated|modified)|created (?:using|with|by)|(?:page )?generated (?:by|with|on)"
    r"|powered by|built with|all rights reserved)\b|©|\(c\)",
    re.IGNORECASE,
)
_EDIT_LINK = re.compile(r"\[[^\[\]]{1,40}\]")


class Measure(NamedTuple):
    """What one element holds, itself included; elements are numbered in the order in which they begin."""

    size: int  # elements
    before: int  # visible characters of the page before it
    characters: int  # visible ones
    letters: int
    linked: int  # letters in links
    links: int
    outer: int  # of them, to another site
    directions: int  # of them, to the previous or next page, the contents, the index
    headings: int
    lists: int


class Page(NamedTuple):
    """The elements of a page, and where its main part is."""

    measures: dict[int, Measure]
    characters: int
    headings: int
    main: range  # numbers of the elements of its main part; empty when it marks none


@dataclass
class _Sums:
    """What was met of a page so far: the fields of `Measure`, but `before`."""

    elements: int = 0
    characters: int = 0
    letters: int = 0
    linked: int = 0
    links: int = 0
    outer: int = 0
    directions: int = 0
    headings: int = 0
    lists: int = 0

    def count_text(self, text: str | None, *, linked: bool) -> None:
        if text and not text.isspace():
            letters = len(_NOT_A_LETTER.sub("", text))
            self.characters += count_characters(text)
            self.letters += letters
            self.linked += letters if linked else 0

    def count_element(self, element: Any) -> None:
        self.elements += 1
        self.headings += element.tag in HEADINGS
        self.lists += element.tag in _LISTS
        if _is_link(element):
            self.links += 1
            self.outer += _OUTER.match(element.get("href")) is not None
            self.directions += _is_direction(element)

    def since(self, before: tuple[int, ...]) -> Measure:
        size, *others = (now - then for now, then in zip(astuple(self), before, strict=True))
        return Measure(size, before[1], *others)


def survey(root: Any) -> Page:
    """Measure all elements that may be left out, in one pass."""
    from lxml import etree

    sums = _Sums()
    measures: dict[int, Measure] = {}
    opened: list[tuple[int, ...]] = []  # the sums when each open element began
    mains: list[int] = []
    articles: list[int] = []
    links = 0  # that are open
    walker = etree.iterwalk(root, events=("start", "end"))
    for event, element in walker:
        link = _is_link(element)
        if event == "start":
            if element.tag == "main" or element.get("role") == "main":
                mains.append(sums.elements)
            elif element.tag == "article":
                articles.append(sums.elements)
            opened.append(astuple(sums))
            sums.count_element(element)
            links += link
            if element.tag in UNSEEN:
                walker.skip_subtree()
            else:
                sums.count_text(element.text, linked=links > 0)
            continue
        links -= link
        before = opened.pop()
        if _may_be_left_out(element):
            measures[before[0]] = sums.since(before)
        if opened:
            sums.count_text(element.tail, linked=links > 0)
    main = _find_main(measures, mains or articles, sums)
    return Page(measures, sums.characters, sums.headings, main)


def _is_link(element: Any) -> bool:
    return element.tag == "a" and element.get("href") is not None


def _may_be_left_out(element: Any) -> bool:
    return element.tag in BLOCKS or element.tag in _FORM_PARTS or element.get("role") is not None


def _is_direction(link: Any) -> bool:
    """Whether a link leads to the previous or next page, the contents or the index."""
    if link.get("accesskey", "").lower() in _DIRECTION_KEYS:
        return True
    if not _RELATIONS.isdisjoint(link.get("rel", "").lower().split()):
        return True
    pictures = " ".join(picture.get("alt") or "" for picture in link.iter("img"))
    text = f"{''.join(link.itertext())[:_LONGEST_DIRECTION]} {pictures}"
    words = [word for word in _NOT_A_LETTER.split(text.lower()) if word]
    return 0 < len(words) <= _DIRECTION_WORDS and not _DIRECTIONS.isdisjoint(words)


def _find_main(measures: dict[int, Measure], candidates: list[int], sums: _Sums) -> range:
    """The elements of the one part that is marked as the main one and holds most of the text."""
    if len(candidates) == 1:
        first = candidates[0]
        found = measures[first]
        plain = found.letters - found.linked >= _MAIN_SHARE * (sums.letters - sums.linked)
        if plain or found.letters >= _MAIN_SHARE * sums.letters:
            return range(first, first + found.size)
    return range(-1, -1)


def why_left_out(element: Any, page: Page, number: int) -> str:
    """The reason to leave an element out, empty when there is none.

    Args:
        element: of the page.
        page: where it stands.
        number: of the element.
    """
    tag = element.tag
    if tag in UNSEEN or tag in ("html", "body", "main", "article"):
        return ""
    if element.get("hidden") is not None or _HIDDEN.search(element.get("style", "")):
        return "hidden"
    if tag in _FORM_PARTS:
        return "form"
    if tag == "a":
        return _why_sign(element)
    found = page.measures.get(number)
    if found is None:
        return "edit link" if _is_edit_link(element) else ""
    claim = _CLAIMS.get(element.get("role", "")) or _CLAIMS.get(tag)
    if claim and _agrees(claim, element, found, page):
        return claim
    if tag not in BLOCKS or not found.characters or page.main.start in range(number, number + found.size):
        return ""
    if _is_bar(element, found):
        return "navigation"
    if _is_link_list(element, found):
        return "list of links"
    return _why_outside(element, found, page, number)


def _why_sign(link: Any) -> str:
    """A link at a heading that is a mere sign: ¶, #."""
    text = "".join(link.itertext()).strip()
    sign = 0 < len(text) <= 2 and not any(map(str.isalnum, text))
    return "heading mark" if sign and link.get("href", "").startswith("#") else ""


def _is_edit_link(element: Any) -> bool:
    """Within a heading: "[edit]"."""
    parent = element.getparent()
    if parent is None or parent.tag not in HEADINGS or next(element.iter("a"), None) is None:
        return False
    return _EDIT_LINK.fullmatch(one_line("".join(element.itertext()))) is not None


def _agrees(claim: str, element: Any, found: Measure, page: Page) -> bool:
    """Whether what an element holds is what it claims to be."""
    share = found.linked / found.letters if found.letters else 1.0
    match claim:
        case "navigation":
            return share >= _NAVIGATION_TEXT or found.characters <= _SLOGAN
        case "aside":
            return share >= _LINK_DENSE and found.links >= _FEWEST_LINKS
        case "page header" | "page footer":
            parents = {parent.tag for parent in element.iterancestors()}
            if not parents.isdisjoint(("main", "article", "section", "blockquote")):
                return share >= _LINK_DENSE and not found.headings
            if claim == "page footer":
                return True
            other = page.main or not found.headings
            return bool(other) and (found.characters <= _SLOGAN or share >= _LINK_DENSE)
        case _:
            return True


def _is_bar(element: Any, found: Measure) -> bool:
    """Links to the previous and the next page, with their titles."""
    if found.characters > _BAR or found.headings or not found.directions or element.tag == "pre":
        return False
    if found.directions < 2 and found.directions < found.links:
        return False
    return _SENTENCE_END.search(text_of(element)) is None


def _is_link_list(element: Any, found: Measure) -> bool:
    """A list, or what has one, that is links almost only and that no paragraph introduces."""
    if found.links < _FEWEST_LINKS or element.tag in ("td", "th", "li", "dd", "dt", "tr"):
        return False
    if not found.lists and not _is_contents(element):
        return False
    dense = found.linked >= _LINK_LIST * found.letters
    if not (dense if element.tag in _LISTS else found.letters - found.linked <= _LABEL):
        return False
    if found.headings > 1 or (found.headings and found.outer):
        return False
    return not _is_introduced(element, found)


def _is_contents(element: Any) -> bool:
    """Whether each block is one link to a heading of the same page, as in contents without a list."""
    inner = list(element)
    return len(inner) >= _FEWEST_LINKS and all(map(_is_entry, inner))


def _is_entry(block: Any) -> bool:
    links = list(block.iter("a"))
    if block.tag not in BLOCKS or len(links) != 1 or not links[0].get("href", "").startswith("#"):
        return False
    return text_of(block) == text_of(links[0])


def _is_introduced(element: Any, found: Measure) -> bool:
    """Whether a paragraph stands before a list that is more than a label such as "Contents"."""
    while element is not None:
        before = element.getprevious()
        if before is not None and (before.tag in ("p", "dt") or (before.tail or "").strip()):
            text = text_of(before) + (before.tail or "").strip()
            label = len(_NOT_A_LETTER.sub("", text)) <= _LABEL
            return not label or (text.endswith(":") and found.links <= _LABELLED_LINKS)
        parent = element.getparent()
        if before is not None and (parent is None or parent.tag != "li"):
            return False
        element = parent
    return False


def _why_outside(element: Any, found: Measure, page: Page, number: int) -> str:
    """What stands around the main part, and notices at the end of a page."""
    if found.headings:
        return ""
    if page.main and number not in page.main:
        return "page header" if number < page.main.start else "page footer"
    if not found.before and found.linked == found.letters and page.headings:
        return "page header"
    last = page.characters - found.before <= min(_LAST, page.characters / 2)
    return "page footer" if last and _FOOTER.match(text_of(element)) else ""


def count_expected(element: Any, text: str) -> int:
    """Of an element that is left out, the characters that are surely no text.

    Args:
        element: its links are, and all of it where little more than links and labels stands in it.
        text: of it.
    """
    linked = sum(count_characters(text_of(link)) for link in element.iter("a") if _is_link(link))
    characters = count_characters(text)
    return characters if characters - linked <= _SLOGAN and not _SENTENCE_END.search(text) else linked


def count_elements(element: Any) -> int:
    """How many elements `survey` counts in one, itself included: what nobody sees is not entered."""
    from lxml import etree

    count = 0
    walker = etree.iterwalk(element, events=("start",))
    for _, inner in walker:
        count += 1
        if inner.tag in UNSEEN:
            walker.skip_subtree()
    return count


def seen_texts(element: Any) -> Iterator[str]:
    """All text that a reader could see in an element, without signs at headings."""
    from lxml import etree

    walker = etree.iterwalk(element, events=("start", "end"))
    for event, inner in walker:
        if event == "start" and (inner.tag in UNSEEN or (inner.tag == "a" and _why_sign(inner))):
            walker.skip_subtree()
        elif event == "start":
            yield inner.text or ""
        if event == "end" and inner is not element:
            yield " " if inner.tag in BLOCKS or inner.tag == "br" else ""
            yield inner.tail or ""


def text_of(element: Any) -> str:
    """The text of an element on one line."""
    return one_line("".join(seen_texts(element)))
