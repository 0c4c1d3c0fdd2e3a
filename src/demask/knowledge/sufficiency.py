"""Which made questions are no use, and when there are too few of them.

kept, rejects = set_aside_own_matter(pairs, documents)
warning = warn_of_few(12, 270)      # "12 questions for 270 passages: ...", empty when there are enough
"""

import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

from demask.documents.sentences import find_sentences
from demask.knowledge.directions import find_answers
from demask.records import Document, QAPair

# A run with fewer passages has as few questions as facts; from here on it is a sign that most are not tested.
_FEWEST_PASSAGES = 20
# Questions that there should be for each passage at least: one fact of every second one, either way round.
_SHARE = 0.5
_LICENCE = re.compile(
    r"\blicen[cs](?:e|es|ed|ing)\b|\bcopyright\b|©|\ball rights reserved\b|\bISBN\b|\bwarrant(?:y|ies)\b"
    r"|\bredistribut\w+|\btrademarks?\b|\b(?:GPL|LGPL|GFDL|FDL)\b",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"\b(?:which|what) (?:page|chapter|section|figure|appendix|footnote|edition)\b"
    r"|\b(?:page|section) (?:number|\d)|\bth(?:is|e) (?:manual|document|handbook|book|page|text|passage)\b",
    re.IGNORECASE,
)
# A file that holds the licence of those beside it, by its name and by what such texts say; a text about
# driving licences says none of it.
_LICENCE_FILE = re.compile(r"(?:^|[-_. /])(?:licen[cs]e|copying|copyright)s?(?:\.\w+)?$", re.IGNORECASE)
_TERMS = re.compile(r"\bcopyright\b|\bwarrant(?:y|ies)\b|\bredistribut\w+", re.IGNORECASE)
# Of a document's sentences; with more of them licences are what it is about.
_SUBJECT = 0.1
# One licence notice has some sentences of that kind.
_FEWEST_LEGAL = 5


class Sifted(NamedTuple):
    """Questions about what a document says, and rows of a rejects file for those about the document."""

    kept: list[QAPair]
    rejects: list[dict[str, Any]]


def set_aside_own_matter(pairs: Iterable[QAPair], documents: Iterable[Document]) -> Sifted:
    """Set questions aside that ask for page numbers, sections, licences and the document itself.

    Questions about licences stay where a tenth of the document's sentences are about them, unless it is the
    licence of the others: named as such files are (COPYING, LICENSE.txt) and not alone.

    Args:
        pairs: that were made, never those that a person gave.
        documents: all that they are about; read once.
    """
    made = list(pairs)
    asked: dict[str, list[QAPair]] = {}
    for pair in made:
        asked.setdefault(pair.document_id, []).append(pair)
    reasons: dict[str, str] = {}
    alone = len(asked) == 1
    for document in documents:  # one at a time, as they may not fit into memory together
        of_one = asked.get(document.id, [])
        if of_one and not alone and _LICENCE_FILE.search(document.id) and _TERMS.search(document.text):
            reasons |= {pair.id: "it asks about a licence that lies beside the documents" for pair in of_one}
            continue
        legal = bool(of_one) and _licence_share(document.text) > _SUBJECT
        reasons |= {pair.id: _why(pair, document.text, licences=legal) for pair in of_one}
    sifted = Sifted([], [])
    for pair in made:
        if reason := reasons.get(pair.id, ""):
            sifted.rejects.append({**asdict(pair), "reasons": [reason]})
        else:
            sifted.kept.append(pair)
    return sifted


def _why(pair: QAPair, text: str, *, licences: bool) -> str:
    if _PLACE.search(pair.question):
        return "it asks about the document itself, such as its pages or sections"
    words = " ".join([pair.question, *pair.answers])
    if licences:
        return ""
    found = _LICENCE.search(words) or _LICENCE.search(_sentence_of(pair, text))
    return "it asks about the document's licence or copyright" if found else ""


def _sentence_of(pair: QAPair, text: str) -> str:
    """The sentence that the answer stands in; empty when it stands in several places."""
    places = find_answers(text, pair.answers)
    if len(places) != 1:
        return ""
    start = max(text.rfind(end, 0, places[0].start) for end in (". ", ".\n", "\n\n"))
    return text[max(0, start) : places[0].end + 1]


def _licence_share(text: str) -> float:
    sentences = find_sentences(text)
    found = sum(_LICENCE.search(text[span.start : span.end]) is not None for span in sentences)
    return found / len(sentences) if found >= _FEWEST_LEGAL else 0.0


def warn_of_few(questions: int, passages: int) -> str:
    """What to know where questions are too few for a text; empty when they are not.

    Args:
        questions: that are asked.
        passages: that are trained, or that questions were made of.
    """
    if passages < _FEWEST_PASSAGES or questions >= _SHARE * passages or not questions:
        return ""
    return (
        f"{questions:,} questions for {passages:,} passages: most of the text is not tested, so their score "
        "says little about it; have a language model write more (--server, --writer), or write some by hand"
    )
