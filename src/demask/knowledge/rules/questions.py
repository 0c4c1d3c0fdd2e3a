"""Write questions about one clause: who, what, which, where or when, then the rest in good order.

for question in ask_about(clause, date="6 January 2025"):
    question.text, question.answers, question.direction
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from demask.knowledge.directions import is_same_word
from demask.knowledge.rules.clauses import Clause, Part, write
from demask.knowledge.rules.phrases import (
    ARTICLES,
    count_anchors,
    find_person,
    find_question_word,
    is_answer,
    is_bare,
    is_date,
    is_name,
    is_year,
    leans,
)
from demask.records import Direction

if TYPE_CHECKING:
    from spacy.tokens import Token

# Fewest anchors (see `count_anchors`) that a question must have; fewer fit too many facts.
FEWEST_ANCHORS = 2.5
# What the day adds that a text is headed with.
DAY_ANCHORS = 1.5
LONGEST_QUESTION = 36  # words
LONGEST_SUBJECT = 9  # words between auxiliary and verb

_PLACES = frozenset({"GPE", "LOC", "FAC"})
_AGENTS = frozenset({"ORG", "GPE"})
# What people and organisations do on purpose. The parser takes storms, clubs and places for people, so "who"
# is asked of nothing else.
_ACTS = frozenset(
    """accuse acquire adopt agree air announce appoint approve arrest award ban bear build buy capture choose
    command complete compose conquer construct convict create defeat design develop discover donate draw edit
    elect endorse establish execute film fire found fund give govern hire import inaugurate inherit invent
    issue kill launch lead license manufacture marry name nominate open order organise organize paint
    patent praise produce publish purchase reject release rename resign restore run sack sell send sign
    sponsor steal sue teach train translate win write""".split()
)


class Question(NamedTuple):
    """A question that the rules can write."""

    text: str
    answers: tuple[str, ...]
    direction: Direction


class _Told(NamedTuple):
    clause: Clause
    date: str  # that heads the text; "" when there is none or the clause says when itself
    to_past: bool  # "6 January 2025: Indonesia becomes ..." tells the past in the present


def ask_about(clause: Clause, *, date: str) -> Iterator[Question]:
    """The questions about a clause that say enough and do not give their answer away, the best first.

    Args:
        clause: from `find_clause`.
        date: the day that the text is headed with, empty when there is none.
    """
    timed = any(is_year(token) for part in (*clause.before, *clause.parts) for token in part.tokens)
    told = _Told(clause, "" if timed else date, bool(date) and clause.finite.tag_ != "VBD")
    for ask in (_ask_for_subject, _ask_for_agent, _ask_for_objects, _ask_for_circumstances, _ask_for_day):
        yield from filter(is_sound, ask(told))


def is_sound(question: Question) -> bool:
    """Whether a question is short enough and has neither its answer in it nor the answer's longest word.

    That word may not stand there in another form either: "Lebanese" gives "Lebanon" away.
    """
    text = question.text.lower()
    words = re.findall(r"\w+", text)
    for answer in question.answers:
        longest = max(re.findall(r"\w+", answer.lower()), key=len, default="")
        if any(is_same_word(longest, word) for word in words) or answer.lower() in text:
            return False
    return len(text.split()) <= LONGEST_QUESTION


def inflect(lemma: str, tag: str) -> str:
    """A verb in the form of a Penn Treebank tag: "became" for become and VBD."""
    from lemminflect import getInflection

    return str(getInflection(lemma, tag=tag)[0])


def _ask_for_subject(told: _Told) -> Iterator[Question]:
    clause, subject = told.clause, told.clause.subject
    word = find_question_word(subject)
    answer = find_person(subject) or subject.tokens
    if clause.verb.lemma_ not in _ACTS or not (_is_past(told) or (word == "who" and clause.auxiliaries)):
        return  # what goes on may go on elsewhere, too, and "Bash reads" is no person
    if word in (None, "what"):
        if subject.role == "nsubj" and _is_agent(subject):
            word = "who"
        elif not word or subject.role == "nsubj" or subject.tokens[0].lower_ not in ARTICLES:
            return  # a name without article may be a person that the parser does not know
    if clause.parts and is_answer(answer):
        yield from _finish(told, f"{word} {_write_verbs(told)}", None, answer, "backward")


def _is_past(told: _Told) -> bool:
    return told.to_past or told.clause.finite.tag_ == "VBD"


def _is_agent(part: Part) -> bool:
    """A company or a country that does something."""
    return part.head.ent_type_ in _AGENTS and all(map(is_name, _without_article(part.tokens)))


def _write_verbs(told: _Told) -> str:
    """The verbs as they follow "who" or "which rocket"."""
    clause = told.clause
    words = sorted({*clause.auxiliaries, *clause.verbs}, key=lambda token: token.i)
    return " ".join(_tense(told) if token == clause.finite else token.text for token in words)


def _tense(told: _Told) -> str:
    finite = told.clause.finite
    if not told.to_past:
        return finite.lower_
    plural = finite.lower_ == "are"
    return ("were" if plural else "was") if finite.lemma_ == "be" else inflect(finite.lemma_, "VBD")


def _ask_for_agent(told: _Told) -> Iterator[Question]:
    """Who did it, of a passive: "Who designed the theatre?" of "The theatre was designed by Mara Voss"."""
    clause, finite = told.clause, told.clause.finite
    for part in clause.parts:
        inner = _find_object(part)
        act = clause.verb.lemma_ in _ACTS and clause.auxiliaries == (finite,)
        if part.role != "agent" or inner is None or not act:
            continue
        answer = find_person(inner) or (inner.tokens if _is_agent(inner) else ())
        if answer and is_answer(answer):
            form = inflect(clause.verb.lemma_, "VBD" if _is_past(told) else "VBZ")
            verbs = [form if token == clause.verb else token.text for token in clause.verbs]
            start = f"who {' '.join(verbs)} {write(clause.subject.tokens)}"
            yield from _finish(told, start, part, answer, "forward")


def _ask_for_objects(told: _Told) -> Iterator[Question]:
    """What follows the verb directly, where more follows."""
    clause = told.clause
    if not (_is_past(told) or clause.auxiliaries):
        return
    for part in clause.parts:
        word = find_question_word(part) if part.role == "dobj" else None
        if word and is_answer(part.tokens) and (len(clause.parts) > 1 or clause.before):
            start = f"{'whom' if word == 'who' else word} {_invert(told)}"
            yield from _finish(told, start, part, find_person(part) or part.tokens, "forward")


def _ask_for_circumstances(told: _Told) -> Iterator[Question]:
    """Where and when."""
    clause = told.clause
    if clause.verb.lemma_ == "be" or not (_is_past(told) or clause.auxiliaries):
        return
    vague = any(part.role == "dobj" and part.tokens[0].lower_ in ("a", "an") for part in clause.parts)
    for part in (*clause.before, *clause.parts):
        inner = _find_object(part)
        if part.role != "prep" or inner is None or not is_answer(inner.tokens):
            continue
        preposition = part.head.lower_
        direction: Direction = "forward" if part.head.i > clause.verb.i else "backward"
        if is_date(inner.tokens) and preposition in ("in", "on") and not vague:
            plain = told._replace(date="")
            yield from _finish(plain, f"when {_invert(plain)}", part, inner.tokens, direction)
        elif preposition in ("in", "at") and is_name(inner.head) and inner.head.ent_type_ in _PLACES:
            yield from _finish(told, f"where {_invert(told)}", part, inner.tokens, direction)


def _find_object(part: Part) -> Part | None:
    """What a preposition stands before."""
    objects = [child for child in part.head.children if child.dep_ == "pobj"]
    inner = tuple(token for token in part.tokens if token.i > part.head.i)
    return Part("pobj", objects[0], inner) if len(objects) == 1 else None


def _ask_for_day(told: _Told) -> Iterator[Question]:
    """When it was, where the text is headed with a day."""
    if told.date:
        plain = told._replace(date="")
        yield from _finish(plain, f"when {_invert(plain)}", None, told.date, "backward")


def _invert(told: _Told) -> str:
    """Auxiliary, subject and verbs: "did Orlin acquire"."""
    clause, finite = told.clause, told.clause.finite
    verbs = [token.text for token in (*clause.auxiliaries[1:], *clause.verbs) if token != finite]
    if clause.auxiliaries or finite.lemma_ == "be":
        helper = _tense(told)
    else:
        helper = "did" if _is_past(told) else "does" if finite.tag_ == "VBZ" else "do"
        verbs = [finite.lemma_ if token == finite else token.text for token in clause.verbs]
    return " ".join([helper, write(clause.subject.tokens), *verbs])


def _finish(
    told: _Told, start: str, asked: Part | None, answer: "str | Sequence[Token]", direction: Direction
) -> Iterator[Question]:
    """The question that starts so and goes on with all parts but one; nothing where it would not be clear.

    Args:
        told: the clause.
        start: question word and verbs, with the subject unless that is asked for.
        asked: the part that is asked for; None: none of them is.
        answer: as it stands in the text.
        direction: where it stands there.
    """
    clause, subject = told.clause, told.clause.subject
    rest = [part for part in (*clause.parts, *clause.before) if part is not asked]
    used = [*clause.verbs, *(token for part in rest for token in part.tokens)]
    if leans(used, owner=subject):
        return
    if asked is not None or isinstance(answer, str):
        used += subject.tokens
        if (
            is_bare(subject.tokens)
            or len(subject.tokens) > LONGEST_SUBJECT
            or leans(subject.tokens, owner=None)
            or not any(map(is_name, subject.tokens))
        ):
            return
    anchors = count_anchors(used) + (DAY_ANCHORS if told.date else 0.0)
    if anchors < FEWEST_ANCHORS or not any(is_name(token) or is_year(token) for token in used):
        return
    body = " ".join([f"on {told.date}, {start}" if told.date else start, *(write(p.tokens) for p in rest)])
    answers = (answer,) if isinstance(answer, str) else _wordings(answer)
    yield Question(body[:1].upper() + body[1:] + "?", answers, direction)


def _wordings(tokens: "Sequence[Token]") -> tuple[str, ...]:
    """An answer as in the text, and without its article."""
    texts = (tokens[0].doc[part[0].i : part[-1].i + 1].text for part in (tokens, _without_article(tokens)))
    return tuple(dict.fromkeys(texts))


def _without_article(tokens: "Sequence[Token]") -> "Sequence[Token]":
    return tokens[1:] if tokens[0].lower_ in ARTICLES and len(tokens) > 1 else tokens
