"""Cloze questions, for sentences of which no question word can be put: a sentence with a gap.

for candidate in make_gaps(sentence, clauses, date="6 January 2025"):
    candidate.question  # Which words fill the gap? "6 January 2025: Indonesia becomes ... to join ____."
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from demask.knowledge.rules.candidates import DAY_ANCHORS, FEWEST_ANCHORS, Candidate, is_sound, wordings
from demask.knowledge.rules.clauses import GAP, Clause, Part, find_subject, write
from demask.knowledge.rules.phrases import count_anchors, is_answer, is_name, is_year, leans
from demask.knowledge.rules.questions import lighten
from demask.knowledge.rules.words import LOOSE_ADVERBS, ONE_OF_A_KIND
from demask.records import Direction

if TYPE_CHECKING:
    from spacy.tokens import Span, Token

LONGEST_SENTENCE = 30  # words; more is tiring to read, so longer ones are cut to their main clause
# So far are cloze questions behind any with a question word.
BEHIND = 100.0

_LABELS = frozenset(
    {
        "PERSON",
        "ORG",
        "GPE",
        "LOC",
        "FAC",
        "EVENT",
        "PRODUCT",
        "WORK_OF_ART",
        "LAW",
        "DATE",
        "CARDINAL",
        "MONEY",
    }
)


def make_gaps(sentence: Span, clauses: Sequence[Clause], *, date: str) -> Iterator[Candidate]:
    """Cloze questions whose gap is the subject, or a name, year or number behind the verb.

    Args:
        sentence: parsed.
        clauses: what `find_clauses` gives for it; the first stands for the sentence
            where that is too long
            or leans on others.
        date: the day that the text is headed with, empty when there is none.
    """
    subject = clauses[0].subject if clauses else find_subject(sentence.root)
    if subject is None:
        return
    tokens = next((kept for kept in _ways_to_tell(sentence, clauses) if not leans(kept, owner=subject)), None)
    for gap in _find_gaps(sentence, subject) if tokens else ():
        early, late = _is_of_subject(gap, subject), gap[0].i > sentence.root.i
        rest = [token for token in tokens or () if token not in gap]
        anchors = count_anchors(rest) + (DAY_ANCHORS if date else 0.0)
        if not set(gap) <= set(tokens or ()) or early == late or anchors < FEWEST_ANCHORS:
            continue
        candidate = _make_gap(tokens or [], gap, date=date, late=late, quality=anchors - BEHIND)
        if is_sound(candidate) and (date or any(map(is_name, rest))):
            yield candidate


def _is_of_subject(gap: Sequence[Token], subject: Part) -> bool:
    """Whether the gap is the subject, or whose it is."""
    return any(
        token == subject.head or (token.head == subject.head and token.dep_ == "poss") for token in gap
    )


def _ways_to_tell(sentence: Span, clauses: Sequence[Clause]) -> Iterator[list[Token]]:
    """The whole sentence, and its first main clause alone, unless too long."""
    whole = [token for token in sentence if token.lower_ not in LOOSE_ADVERBS]
    if len(whole) <= LONGEST_SENTENCE:
        yield whole
    for clause in map(lighten, clauses[:1]):
        parts = (*clause.before, clause.subject, *clause.parts)
        kept = {*clause.auxiliaries, *clause.verbs, *(token for part in parts for token in part.tokens)}
        places = {token.i for token in kept}
        commas = [t for t in sentence if t.text == "," and {t.i - 1, t.i + 1} <= places]
        if len(kept) <= LONGEST_SENTENCE:
            yield sorted({*kept, *commas}, key=lambda token: token.i)


def _find_gaps(sentence: Span, subject: Part) -> Iterator[list[Token]]:
    """Names, years and numbers that are all of their phrase."""
    gaps = [_trim(list(entity)) for entity in sentence.ents if entity.label_ in _LABELS]
    named = _trim(list(subject.tokens))
    if named and all(map(is_name, named)) and named not in gaps:
        gaps.append(named)
    return (gap for gap in gaps if gap and _is_whole(gap) and is_answer(gap))


def _trim(gap: list[Token]) -> list[Token]:
    """Without the article before a name and without the 's behind it."""
    while gap and (gap[0].text in ("the", "a", "an") or (gap[0].is_sent_start and gap[0].lower_ == "the")):
        del gap[0]
    while gap and gap[-1].tag_ in ("POS", "_SP"):
        del gap[-1]
    return gap


def _is_whole(gap: Sequence[Token]) -> bool:
    """Whether a name is all of its phrase, and one that no list could hold another of."""
    label, last, doc = gap[-1].ent_type_, gap[-1], gap[-1].doc
    if label == "DATE" and not any(map(is_year, gap)):
        return False
    if label == "CARDINAL" and (len(gap) > 2 or not any(token.text[:1].isdigit() for token in gap)):
        return False
    if gap[0].pos_ == "ADP" or any(
        t.dep_ in ("conj", "cc") or any(c.dep_ == "conj" for c in t.children) for t in gap
    ):
        return False
    if all(token.lower_ in ONE_OF_A_KIND for token in gap):
        return False
    if _is_cut_before(gap[0]) or (gap[-1].dep_ == "appos" and gap[-1].head.ent_type_ == "GPE"):
        return False
    after = doc[last.i + 1] if last.i + 1 < len(doc) else None
    if after is None or label == "CARDINAL":
        return True
    if after.tag_ == "POS":
        return after.i + 1 < len(doc) and not is_name(doc[after.i + 1])
    return (
        after.text not in ("-", "–", "/", "&", "of", "(")
        and after.pos_ not in ("NOUN", "NUM")
        and not is_name(after)
    )


def _is_cut_before(first: Token) -> bool:
    """Whether the words before a gap belong to its name: "William of", "the 2023", "the 1893 World's"."""
    if not first.i:
        return False
    before = first.nbor(-1)
    owner = first.nbor(-2) if first.i > 1 else None
    of_person = before.lower_ == "of" and owner is not None and owner.ent_type_ == "PERSON"
    numbered = before.pos_ == "NUM" or before.ent_type_ == "ORDINAL" or before.tag_ == "POS"
    return (
        is_name(before) or of_person or before.text in "-–/$£€" or (numbered and first.ent_type_ != "PERSON")
    )


def _make_gap(
    tokens: Sequence[Token], gap: Sequence[Token], *, date: str, late: bool, quality: float
) -> Candidate:
    text = write(tokens, gap=gap, keep_case=True).rstrip(".")
    text = f"{date}: {text}" if date else text[:1].upper() + text[1:]
    end = "" if text.endswith(GAP + ".") else "."
    direction: Direction = "forward" if late else "backward"
    return Candidate(f'Which words fill the gap? "{text}{end}"', wordings(gap), "cloze", direction, quality)
