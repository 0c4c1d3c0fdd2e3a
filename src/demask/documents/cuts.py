"""Which documents are cut where no sentence ends, and where.

for found in find_cuts(documents, iter_passages(again, ...)):
    found.lines, found.words, found.describe()
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from demask.documents.coverage import side_by_side
from demask.documents.sentences import Span, find_sentences
from demask.documents.stretches import CLAUSE_END
from demask.documents.text_files import shown
from demask.records import Document, Passage

# Characters on each side of the first cut, to find it by.
_BESIDE = 20
_CLAUSE_WINDOW = 8  # characters; longer than a stop with the quotes and brackets that close after it


class DocumentCuts(NamedTuple):
    """How often one document is cut where no sentence ends, by what ends there."""

    place: str  # of the document
    lines: int
    clauses: int
    words: int
    characters: int  # cuts within a word
    first: str  # what stands before and after the first of them

    def describe(self) -> str:
        """One line for people."""
        kinds = {"lines": self.lines, "clauses": self.clauses, "words": self.words}
        counts = [f"{count} at ends of {kind}" for kind, count in kinds.items() if count]
        counts += [f"{self.characters} within words"] if self.characters else []
        return (
            f"{self.place}: sentences longer than a passage are cut {', '.join(counts)}; "
            f"the first at {shown(self.first)}"
        )


def find_cuts(documents: Iterable[Document], passages: Iterable[Passage]) -> Iterator[DocumentCuts]:
    """The documents whose passages do not all end with a sentence.

    Args:
        documents: read once, side by side with the passages.
        passages: of these documents, in their order; a document may have none.

    Raises:
        ValueError: passages are in another order.
    """
    for document, texts in side_by_side(documents, passages):
        if len(texts) > 1:
            ends = {span.end for span in find_sentences(document.text)}
            spans = pairwise(_find_passages(document.text, texts))
            cuts = [(before.end, after.start) for before, after in spans if before.end not in ends]
            if cuts:
                yield _describe_cuts(document, cuts)


def _describe_cuts(document: Document, cuts: Sequence[tuple[int, int]]) -> DocumentCuts:
    """The cuts, each as the end of a passage and the start of the next, by kind."""
    text, (end, start) = document.text, cuts[0]
    kinds = Counter(_name_kind(text, *cut) for cut in cuts)
    return DocumentCuts(
        document.source or f"document {shown(document.id)}",
        kinds["lines"],
        kinds["clauses"],
        kinds["words"],
        kinds["characters"],
        f"{text[max(0, end - _BESIDE) : end]}|{text[start : start + _BESIDE]}",
    )


def _find_passages(text: str, parts: Sequence[str]) -> Iterator[Span]:
    position = 0
    for part in parts:
        start = text.find(part, position)
        if start >= 0:
            position = start + len(part)
            yield Span(start, position)


def _name_kind(text: str, end: int, start: int) -> str:
    """What ends between one passage and the next."""
    if "\n" in text[end:start]:
        return "lines"
    first = max(0, end - _CLAUSE_WINDOW)
    if any(found.end() == end for found in CLAUSE_END.finditer(text, first, start + 1)):
        return "clauses"
    return "words" if start > end else "characters"
