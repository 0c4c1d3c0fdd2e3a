"""Of documents that contradict each other the newest is kept: what is left out of the others.

    decided = keep_newest(contradictions, documents, pairs)
    decided.removed["old"]                      # [Span(120, 151)]: sentences of document "old"
    decided.pairs, decided.lines                # the questions that are left; one line for each contradiction
    remove_spans(document, decided.removed["old"])

A sentence is left out, not its document, and with it the questions about it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from demask.documents.dates import ORIGINS, Dated, find_date, is_newer
from demask.errors import DataError
from demask.knowledge.audit import find_fact
from demask.knowledge.audit_rules import ask, group_by_document, quote, read_words
from demask.knowledge.contradictions import Contradiction, Side
from demask.records import Document, QAPair
from demask.words import Span


class Decided(NamedTuple):
    """What `keep_newest` leaves out.

    Attributes:
        removed: sentences, by document id, in order; documents without any are not named.
        pairs: the questions that are left.
        lines: what was decided by which date, a line for each contradiction.
    """

    removed: dict[str, list[Span]]
    pairs: tuple[QAPair, ...]
    lines: tuple[str, ...]


def keep_newest(
    contradictions: Sequence[Contradiction], documents: Sequence[Document], pairs: Sequence[QAPair]
) -> Decided:
    """Leave out what an older document says otherwise than the newest one.

    Args:
        contradictions: those that are certain.
        documents: all of them.
        pairs: the questions about them.

    Raises:
        DataError: the dates of two documents do not tell which is newer, or a date cannot be read.
    """
    wanted = {side.document_id for one in contradictions for side in one.sides}
    known = {document.id: document for document in documents if document.id in wanted}
    dates = {id: find_date(document) for id, document in known.items()}
    removed: dict[str, set[Span]] = defaultdict(set)
    dropped: set[str] = set()
    lines = []
    for one in contradictions:
        newest = _find_newest(one, dates)
        older = [side for side in one.sides if side.value.casefold() != newest.value.casefold()]
        for side in older:
            dropped.update(side.pair_ids)
            if side.span is not None:
                removed[side.document_id].add(side.span)
        lines.append(_tell(one, newest, older, dates))
    dropped |= _ask_about(removed, known, pairs)
    return Decided(
        {id: sorted(spans) for id, spans in removed.items()},
        tuple(pair for pair in pairs if pair.id not in dropped),
        tuple(lines),
    )


def _find_newest(one: Contradiction, dates: dict[str, Dated | None]) -> Side:
    for side in one.sides:
        others = [other for other in one.sides if other.value.casefold() != side.value.casefold()]
        if all(is_newer(dates[side.document_id], dates[other.document_id]) for other in others):
            return side
    told = ", ".join(f"{side.place}: {_tell_date(dates[side.document_id])}" for side in one.sides)
    raise DataError(
        f"prefer is newest, but dates do not tell which is newer ({told}) of {one.describe()}; give the "
        "documents a field date, or mend one of them"
    )


def _tell_date(dated: Dated | None) -> str:
    return "no date" if dated is None else f"{dated}, {ORIGINS[dated.origin]}"


def _tell(one: Contradiction, newest: Side, older: Sequence[Side], dates: dict[str, Dated | None]) -> str:
    left = ", ".join(
        f"{quote(side.value)} in {side.place} ({_tell_date(dates[side.document_id])})" for side in older
    )
    kept = f"{quote(newest.value)} in {newest.place} ({_tell_date(dates[newest.document_id])})"
    return f"newest kept: {quote(one.about)}: {kept}; left out: {left}"


def _ask_about(
    removed: dict[str, set[Span]], known: dict[str, Document], pairs: Sequence[QAPair]
) -> set[str]:
    """Ids of the questions whose fact stands in a sentence that is left out."""
    found = set()
    for id, asked in group_by_document(ask(pair) for pair in pairs if pair.document_id in removed).items():
        text = read_words(known[id])
        for one in asked:
            fact = find_fact(text, one)
            if fact is not None and text.sentences[fact].span in removed[id]:
                found.add(one.pair.id)
    return found


def remove_spans(document: Document, spans: Sequence[Span]) -> Document:
    """A document without some sentences; its sections and pages begin where they then do.

    Args:
        document: as it was read.
        spans: of sentences, in order, none of which overlap.
    """
    text = document.text
    cuts = []
    for start, end in spans:
        after = end + len(text[end:]) - len(text[end:].lstrip(" "))
        cuts.append(Span(start, after))
    kept = "".join(
        text[before:after]
        for before, after in zip(
            [0, *(cut.end for cut in cuts)], [*(cut.start for cut in cuts), len(text)], strict=True
        )
    )
    blank = len(kept) - len(kept.lstrip())

    def moved(offset: int) -> int:
        gone = sum(min(offset, cut.end) - cut.start for cut in cuts if cut.start < offset)
        return max(0, offset - gone - blank)

    metadata = dict(document.metadata)
    sections, pages = metadata.get("sections"), metadata.get("pages")
    if isinstance(sections, list | tuple):
        metadata["sections"] = [[moved(offset), *rest] for offset, *rest in sections]
    if isinstance(pages, list | tuple):
        metadata["pages"] = [moved(offset) for offset in pages]
    return replace(document, text=kept.strip(), metadata=metadata)
