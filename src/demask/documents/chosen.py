"""Parts of documents that are chosen by their headings: a chapter of a manual.

part = choose_sections(document, ["Chapter 3"])     # the document with these sections alone; None without any
list_parts(document)                                # its chapters, with the characters of each
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from demask.documents.parsed import count_characters
from demask.records import Document

_CHAPTER = re.compile(r"(?:chapter|section|part|kapitel|chapitre)\s+([\d.]*\d)", re.IGNORECASE)
_LONGEST_HEADING = 120  # characters
_BETWEEN = "\n\n"


class DocumentPart(NamedTuple):
    """A section of the highest level that has several."""

    title: str
    characters: int  # visible ones


class _Section(NamedTuple):
    start: int
    end: int  # where the next one of its level, or of a higher one, begins
    level: int
    title: str


def choose_sections(document: Document, wanted: Sequence[str]) -> Document | None:
    """A document with the sections alone whose headings hold one of some texts; None where it has none.

    A text must stand as whole words, in any case: "Chapter 3" does not choose "Chapter 30", but a heading
    that begins with "3 " or "3. ", as many manuals number them. A document whose title holds it is kept
    whole.

    Args:
        document: with `sections` in its metadata, where it has headings.
        wanted: the texts.
    """
    pattern = re.compile("|".join(_write_pattern(text.strip()) for text in wanted), re.IGNORECASE)
    if pattern.search(document.title):
        return document
    sections = _find_sections(document)
    chosen: list[_Section] = []
    for section in sections:
        # Bookmarks of PDFs lack the numbers that headings have.
        line = document.text[section.start : section.end].partition("\n")[0].lstrip("# ")
        named = pattern.search(section.title) or pattern.search(line[:_LONGEST_HEADING])
        if named and not (chosen and section.start < chosen[-1].end):
            chosen.append(section)
    if not chosen:
        return None
    parts: list[str] = []
    kept: list[list[object]] = []
    length = 0
    for part in chosen:
        text = document.text[part.start : part.end].rstrip()
        kept += [
            [length + inner.start - part.start, inner.level, inner.title]
            for inner in sections
            if part.start <= inner.start < part.end
        ]
        parts.append(text)
        length += len(text) + len(_BETWEEN)
    # Pages are counted over the whole document, of which their places are no longer true.
    metadata = {key: value for key, value in document.metadata.items() if key != "pages"}
    return replace(document, text=_BETWEEN.join(parts), metadata=metadata | {"sections": kept})


def _write_pattern(text: str) -> str:
    numbered = _CHAPTER.fullmatch(text)
    start = rf"|\A{re.escape(numbered[1])}[.:)]?\s" if numbered else ""
    return rf"(?<!\w){re.escape(text)}(?!\w){start}"


def list_parts(document: Document) -> list[DocumentPart]:
    """The chapters of a document, in order; empty where it has fewer than two."""
    sections = _find_sections(document)
    for level in sorted({section.level for section in sections}):
        parts = [section for section in sections if section.level == level]
        if len(parts) > 1:
            return [
                DocumentPart(part.title, count_characters(document.text[part.start : part.end]))
                for part in parts
            ]
    return []


def _find_sections(document: Document) -> list[_Section]:
    said = document.metadata.get("sections")
    heads = (
        [(int(start), int(level), str(title)) for start, level, title in said]
        if isinstance(said, list)
        else []
    )
    found = []
    for number, (start, level, title) in enumerate(heads):
        later = (other for other, its_level, _ in heads[number + 1 :] if its_level <= level)
        found.append(_Section(start, next(later, len(document.text)), level, title))
    return found
