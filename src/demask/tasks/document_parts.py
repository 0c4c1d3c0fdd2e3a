"""Chapters of documents for a plan: how much of the text each is, and what it would take alone.

describe_parts(documents, seconds)     # 'only "Arrays": 12% of the text, about 21 min; --only "Arrays"'
"""

import re
from collections.abc import Iterable

from demask.documents.chosen import list_parts
from demask.documents.parsed import count_characters
from demask.records import Document

_MOST_NAMED = 5
# Nobody would learn these alone.
_NOT_TAUGHT = re.compile(
    r"\b(?:licen[cs]e|copyright|index|contents|bibliography|changelog|acknowledge?ments)\b", re.IGNORECASE
)


def count_pages(document: Document) -> int:
    """Of the PDF that a document was read from; 0 of any other."""
    pages = document.metadata.get("pages")
    return len(pages) if isinstance(pages, list | tuple) else 0


def describe_parts(documents: Iterable[Document], seconds: float | None) -> tuple[str, ...]:
    """A line for each of the largest chapters, in the order of their size.

    Args:
        documents: all that are trained on.
        seconds: of training on all of them; None: it does not depend on how much there is.
    """
    parts: list[tuple[int, str]] = []
    whole = 0
    for document in documents:
        whole += count_characters(document.text)
        parts += [
            (part.characters, part.title)
            for part in list_parts(document)
            if not _NOT_TAUGHT.search(part.title)
        ]
    lines = []
    for characters, title in sorted(parts, key=lambda part: -part[0])[:_MOST_NAMED]:
        share = characters / whole
        time = "" if seconds is None else f", about {_describe_time(share * seconds)}"
        lines.append(f'one part: --only "{title}" is {share:.0%} of the text{time}')
    return tuple(lines)


def _describe_time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{max(1, round(seconds / 60))} min"
