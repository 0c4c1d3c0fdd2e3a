"""The sections of a document: where headings stand, and how a text is cut at them before it is cut elsewhere.

    outline = read_outline(document)            # of what its parser found; empty without headings
    outline.path_at(1200)                       # ("Shell parameters", "Arrays")
    for start, end in cut_at_headings(text, outline, fits): ...

Parsers put `sections` into a document's metadata: a list of [offset in the text, level from 1, title].
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from demask.documents.parsed import one_line
from demask.records import Document
from demask.words import Span

SEPARATOR = " > "
# Characters of a heading that may stand around its title in the text: "###  ###", "- ", "12.3.4 ".
_AROUND = 16


class Section(NamedTuple):
    """One heading."""

    offset: int  # in the document's text, from 0
    level: int  # from 1, the highest
    title: str


@dataclass(frozen=True)
class Outline:
    """All headings of a document, in order."""

    sections: Sequence[Section]
    paths: Sequence[tuple[str, ...]]  # of each, the titles of those that it stands under, and its own

    def path_at(self, offset: int) -> tuple[str, ...]:
        """The titles of the sections that a place is in, the highest first; empty before all headings."""
        number = self._number_at(offset)
        return self.paths[number] if number >= 0 else ()

    def path_before(self, offset: int) -> tuple[str, ...]:
        """The same without the heading that begins at the place itself."""
        number = self._number_at(offset)
        path = self.path_at(offset)
        return path[:-1] if number >= 0 and self.sections[number].offset == offset else path

    def _number_at(self, offset: int) -> int:
        return bisect_right(self.sections, offset, key=lambda section: section.offset) - 1


def make_outline(sections: Iterable[Section]) -> Outline:
    """Sections in the order of the text, with their paths."""
    sections = tuple(sections)
    open_sections: list[Section] = []
    paths = []
    for section in sections:
        while open_sections and open_sections[-1].level >= section.level:
            open_sections.pop()
        open_sections.append(section)
        paths.append(tuple(one.title for one in open_sections))
    return Outline(sections, paths)


def read_outline(document: Document) -> Outline:
    """The outline that a document's parser found; empty where `sections` is something else of the user's."""
    said = document.metadata.get("sections")
    sections: list[Section] = []
    for one in said if isinstance(said, list | tuple) else ():
        match one:
            case [int(offset), int(level), str(title)] if 0 <= offset < len(document.text) and title.strip():
                sections.append(Section(offset, level, one_line(title)))
            case _:
                return make_outline(())
    rising = all(first.offset < second.offset for first, second in pairwise(sections))
    return make_outline(sections if rising else ())


def cut_at_headings(text: str, outline: Outline, fits: Callable[[Span], bool]) -> list[Span]:
    """Parts that begin at headings, as large as fit: whole sections, and neighbours that fit together.

    Args:
        text: of the document.
        outline: its headings.
        fits: whether a part is short enough.

    Returns:
        Parts in order that make up the text. One that does not fit has no heading within.
    """
    return _cut(text, outline.sections, Span(0, len(text)), fits)


def _cut(text: str, sections: Sequence[Section], span: Span, fits: Callable[[Span], bool]) -> list[Span]:
    inner = [one for one in sections if span.start < one.offset < span.end]
    if not inner or fits(span):
        return [span]
    highest = min(one.level for one in inner)
    cuts = [one.offset for one in inner if one.level == highest]
    if len(text[span.start : cuts[0]].strip()) <= _longest_heading(sections, span.start):
        cuts = cuts[1:]  # a heading stays with what stands under it
        if not cuts:
            return _cut_lower(text, inner, span, fits)
    parts: list[Span] = []
    whole = False  # whether the last part is one that may grow
    for start, end in pairwise([span.start, *cuts, span.end]):
        pieces = _cut(text, inner, Span(start, end), fits)
        if whole and len(pieces) == 1 and fits(joined := Span(parts[-1].start, pieces[0].end)):
            parts[-1] = joined
        else:
            parts += pieces
        whole = len(pieces) == 1
    return parts


def _cut_lower(text: str, inner: Sequence[Section], span: Span, fits: Callable[[Span], bool]) -> list[Span]:
    """Cut a part whose only section at the highest level begins where it does."""
    lower = [one for one in inner if one.level > min(other.level for other in inner)]
    return _cut(text, lower, span, fits) if lower else [span]


def _longest_heading(sections: Sequence[Section], offset: int) -> int:
    title = next((one.title for one in sections if one.offset == offset), "")
    return len(title) + _AROUND if title else 0
