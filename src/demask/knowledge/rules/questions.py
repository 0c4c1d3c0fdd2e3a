"""Write questions about one clause: a question word for one of its parts, then the rest in good order.

for candidate in ask_about(clause, date="6 January 2025"):
    candidate.question, candidate.answers, candidate.kind, candidate.direction
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from demask.knowledge.rules.candidates import DAY_ANCHORS, FEWEST_ANCHORS, Candidate, is_sound, wordings
from demask.knowledge.rules.clauses import Clause, Part, write
from demask.knowledge.rules.definitions import ask_by_definition
from demask.knowledge.rules.phrases import (
    count_anchors,
    find_apposed_name,
    find_kind,
    is_answer,
    is_name,
    is_year,
    leans,
    name_alone,
    trails,
)
from demask.knowledge.rules.words import FRONTED, MONTHS, PEOPLE, TITLES, past_tense, third_person

if TYPE_CHECKING:
    from spacy.tokens import Token

# Longer questions put the day first, where it cannot be taken for a part of the last phrase.
LONG_FOR_DAY_LAST = 14  # words

LONGEST_SUBJECT = 9  # words between auxiliary and verb

_NAMING = frozenset({"call", "dub", "entitle", "name", "nickname", "rename", "title"})
_DROPPED = frozenset("after at before by during for in on through throughout within".split())
_PLACES = frozenset({"GPE", "LOC", "FAC"})
_BE_PAST = {"am": "was", "is": "was", "are": "were"}


@dataclass(frozen=True)
class _Told:
    """A clause and the day it is headed with, empty when there is none or the clause says when itself."""

    clause: Clause
    date: str
    to_past: bool  # "6 January 2025: Indonesia becomes ..." tells the past in the present


def ask_about(clause: Clause, *, date: str) -> Iterator[Candidate]:
    """All questions about a clause that say enough and do not give their answer away.

    Args:
        clause: from `find_clauses`.
        date: the day that the text is headed with, empty when there is none.
    """
    everything = [token for part in (*clause.before, *clause.parts) for token in part.tokens]
    timed = any(is_year(token) or token.text in MONTHS for token in everything)
    told = _Told(lighten(clause), "" if timed else date, bool(date) and _is_simple_present(clause))
    makers: tuple[Callable[[_Told], Iterator[Candidate]], ...] = (
        _ask_for_subject,
        lambda told: ask_by_definition(told.clause),
        _ask_for_objects,
        _ask_for_circumstances,
        _ask_for_numbers,
        _ask_for_day,
    )
    for make in makers:
        yield from filter(is_sound, make(told))


def lighten(clause: Clause) -> Clause:
    """Without places and times that lean on other sentences, where the verb has an object that stays."""
    if not any(part.role in ("dobj", "attr", "oprd") for part in clause.parts):
        return clause
    kept = [
        part
        for part in clause.parts
        if part.head.lower_ not in _DROPPED
        or part.role != "prep"
        or not leans(part.tokens, owner=clause.subject)
    ]
    return replace(clause, parts=tuple(kept))


def _is_simple_present(clause: Clause) -> bool:
    finite = clause.auxiliaries[0] if clause.auxiliaries else clause.verb
    return finite.tag_ in ("VBZ", "VBP") and (not clause.auxiliaries or finite.lemma_ == "be")


def _ask(told: _Told, start: str, *, left_out: Part | None, subject: bool) -> tuple[str, float] | None:
    """The question that starts so and goes on with all parts but one, and how well it is anchored.

    None where it would lean on other sentences, is not anchored, or trails off.
    """
    clause = told.clause
    rest = [part for part in clause.parts if part != left_out]
    fronts = [part for part in clause.before if part != left_out]
    used = [token for part in (*fronts, *rest) for token in part.tokens] + list(clause.verbs)
    if any(map(trails, (*rest, *fronts))) or leans(used, owner=clause.subject):
        return None
    if subject:
        named = find_apposed_name(clause.subject) or clause.subject
        if not _is_firm(named):
            return None
        used += named.tokens
    anchors = count_anchors(used) + (DAY_ANCHORS if told.date else 0.0)
    if anchors < FEWEST_ANCHORS or not any(is_name(token) or is_year(token) for token in used):
        return None
    long_fronts = [write(part.tokens) for part in fronts if len(part.tokens) > 4]
    short_fronts = [write(part.tokens) for part in fronts if len(part.tokens) <= 4]
    body = " ".join([start, *(write(part.tokens) for part in rest), *short_fronts])
    if told.date and (len(body.split()) > LONG_FOR_DAY_LAST or long_fronts):
        if long_fronts:
            return None
        long_fronts = [f"on {told.date}"]
    elif told.date:
        body += f" on {told.date}"
    question = re.sub(r"\s+", " ", ", ".join([*long_fronts, body])) + "?"
    return question[:1].upper() + question[1:], anchors


def _is_firm(subject: Part) -> bool:
    """A subject that a question can name in full."""
    if subject.head.pos_ not in ("NOUN", "PROPN") or len(subject.tokens) > LONGEST_SUBJECT or trails(subject):
        return False
    return any(is_name(token) for token in subject.tokens) and not leans(subject.tokens, owner=None)


def _ask_for_subject(told: _Told) -> Iterator[Candidate]:
    clause = told.clause
    apposed = find_apposed_name(clause.subject)
    part = apposed or clause.subject
    active = not any(token.dep_ == "auxpass" for token in clause.auxiliaries)
    word = _apposed_kind(clause.subject) if apposed else find_kind(part, clause.verb, active=active)
    word = _copula_kind(clause, word) if clause.verb.lemma_ == "be" else word
    alone = name_alone(part) if word == "who" else ()
    answer = part.tokens if is_answer(part.tokens) else alone if len(alone) >= 2 else ()
    if word is None or not clause.parts or not answer:
        return
    if not is_answer(answer) or not any(map(is_name, answer)):
        return
    asked = _ask(told, f"{word} {_finite_verbs(told, word)}", left_out=None, subject=False)
    if asked:
        yield Candidate(
            asked[0], _with_name(wordings(answer), alone), word.split()[0], "backward", asked[1] + 1
        )


def _with_name(answers: tuple[str, ...], alone: Sequence[Token]) -> tuple[str, ...]:
    """With the bare name as a further wording, if it is more than a surname."""
    bare = write(alone)
    return (*answers, bare) if len(alone) >= 2 and bare not in answers else answers


def _copula_kind(clause: Clause, word: str | None) -> str | None:
    """Only "Who is the king of ...": "Who is a singer?" has many answers, so has "What is a city?"."""
    complements = [part for part in clause.parts if part.role == "attr"]
    if not complements:
        return word
    complement = complements[0]
    if complement.tokens[0].lower_ != "the" or complement.head.tag_ in ("NNS", "NNPS"):
        return None
    human = complement.head.lemma_.lower() in PEOPLE | TITLES
    return "who" if human else "what" if word != "who" else None


def _apposed_kind(part: Part) -> str | None:
    """As "which heavy-lift launch vehicle" of "its heavy-lift launch vehicle, New Glenn,"."""
    if part.head.lemma_.lower() in PEOPLE | TITLES:
        return "who"
    lefts = [
        token
        for token in part.tokens
        if token.i <= part.head.i and token.tag_ not in ("DT", "PRP$") and token.ent_type_ != "ORDINAL"
    ]
    if part.head.pos_ != "NOUN" or part.head.nbor().text != ",":
        return None
    return f"which {write(lefts)}" if len(lefts) <= 6 and not leans(lefts, owner=None) else None


def _finite_verbs(told: _Told, word: str) -> str:
    """The verbs as they follow "who" or "which country"."""
    clause = told.clause
    finite = clause.auxiliaries[0] if clause.auxiliaries else clause.verb
    single = " " not in word
    new = finite.lower_
    if told.to_past:
        new = _BE_PAST.get(new, "was") if finite.lemma_ == "be" else past_tense(finite.lemma_)
    elif single and finite.tag_ == "VBP":
        new = third_person(finite.lemma_)
    if single and new == "were":
        new = "was"
    tokens = sorted({*clause.auxiliaries, *clause.verbs}, key=lambda token: token.i)
    return " ".join(new if token == finite else token.text for token in tokens)


def _inverted(told: _Told) -> str:
    """Auxiliary, subject and verbs: "did Orlin acquire"."""
    clause = told.clause
    subject = write((find_apposed_name(clause.subject) or clause.subject).tokens)
    finite = clause.auxiliaries[0] if clause.auxiliaries else clause.verb
    others = sorted({*clause.auxiliaries, *clause.verbs}, key=lambda token: token.i)
    if clause.auxiliaries or clause.verb.lemma_ == "be":
        helper = _BE_PAST.get(finite.lower_, finite.lower_) if told.to_past else finite.lower_
        return " ".join([helper, subject, *(token.text for token in others if token != finite)])
    past = told.to_past or finite.tag_ == "VBD"
    helper = "did" if past else "does" if finite.tag_ == "VBZ" else "do"
    return " ".join(
        [helper, subject, *(finite.lemma_ if token == finite else token.text for token in others)]
    )


def _ask_for_objects(told: _Told) -> Iterator[Candidate]:
    """What follows the verb directly: object, complement of "become", a name that is given."""
    clause = told.clause
    for part in clause.parts:
        naming = part.role == "oprd" and clause.verb.lemma_ in _NAMING
        becoming = part.role == "attr" and clause.verb.lemma_ == "become"
        counted = part.head.tag_ == "NNS" and any(child.dep_ == "nummod" for child in part.head.lefts)
        if not (part.role == "dobj" or naming or becoming) or counted:
            continue
        apposed = find_apposed_name(part)
        answer = apposed or part
        word = _apposed_kind(part) if apposed else find_kind(part, clause.last_verb, active=False)
        word = "what" if naming or becoming else word
        if word is None or not is_answer(answer.tokens) or clause.last_verb.lemma_ in ("have", "be"):
            continue
        asked = _ask(told, f"{word} {_inverted(told)}", left_out=part, subject=True)
        if asked:
            yield Candidate(asked[0], wordings(answer.tokens), word.split()[0], "forward", asked[1])


def _ask_for_circumstances(told: _Told) -> Iterator[Candidate]:
    """Places, times and agents, and what other prepositions bring in where its kind is certain."""
    clause = told.clause
    if clause.verb.lemma_ == "be":
        return
    for part in (*clause.before, *clause.parts):
        objects = [child for child in part.head.children if child.dep_ == "pobj"]
        if part.role not in ("prep", "agent") or len(objects) != 1:
            continue
        inner = Part("pobj", objects[0], tuple(token for token in part.tokens if token.i > part.head.i))
        word = _circumstance_word(part, inner, clause.last_verb) if is_answer(inner.tokens) else None
        if word == "when" and _has_any_object(clause):
            continue
        plain = told if not word or not word.startswith("when") else replace(told, date="")
        asked = word and _ask(plain, f"{word} {_inverted(plain)}", left_out=part, subject=True)
        if asked and word:
            late = part.head.i > clause.verb.i
            yield Candidate(
                asked[0],
                wordings(inner.tokens),
                "by whom" if word == "by whom" else re.sub(r"^(?:\w+ )?(wh\w+).*", r"\1", word),
                "forward" if late else "backward",
                asked[1] - 0.5,
            )


def _has_any_object(clause: Clause) -> bool:
    """Whether it is about "an article": such things happen often, so that "when" has many answers."""
    objects = [part for part in clause.parts if part.role == "dobj"]
    return any(
        part.tokens[0].lower_ in ("a", "an")
        and not any(is_name(t) for t in part.tokens if t.i <= part.head.i)
        for part in objects
    )


def _circumstance_word(part: Part, inner: Part, verb: Token) -> str | None:
    preposition = part.head.lower_
    if inner.head.ent_type_ in ("DATE", "TIME") or is_year(inner.head):
        plain = all(
            is_year(token) or token.text in MONTHS or token.shape_ in ("d", "dd") or token.text == ","
            for token in inner.tokens
        )
        return "when" if preposition in ("in", "on") and plain and any(map(is_year, inner.tokens)) else None
    if not any(map(is_name, inner.tokens)):
        return None
    kind = find_kind(inner, verb, active=part.role == "agent")
    if preposition in ("in", "at") and is_name(inner.head):
        if kind == "which country":
            return "in which country"
        return "where" if inner.head.ent_type_ in _PLACES else None
    if preposition not in FRONTED or kind is None:
        return None
    return f"{preposition} {'whom' if kind == 'who' else kind}"


def _ask_for_numbers(told: _Told) -> Iterator[Candidate]:
    """How many of what the verb has as object."""
    clause = told.clause
    for part in clause.parts:
        numbers = [child for child in part.head.lefts if child.dep_ == "nummod"]
        if part.role != "dobj" or len(numbers) != 1 or part.head.tag_ != "NNS":
            continue
        number = [token for token in part.tokens if token.i <= numbers[0].i]
        rest = [token for token in part.tokens if token.i > numbers[0].i]
        if any(token.pos_ != "NUM" for token in number) or leans(rest, owner=clause.subject) or trails(part):
            continue
        asked = _ask(told, f"how many {write(rest)} {_inverted(told)}", left_out=part, subject=True)
        if asked:
            yield Candidate(asked[0], (write(number),), "how many", "forward", asked[1])


def _ask_for_day(told: _Told) -> Iterator[Candidate]:
    """When it was, where the text is headed with a day."""
    if told.date:
        asked = _ask(replace(told, date=""), f"when {_inverted(told)}", left_out=None, subject=True)
        if asked:
            yield Candidate(asked[0], (told.date,), "when", "backward", asked[1] - 2)
