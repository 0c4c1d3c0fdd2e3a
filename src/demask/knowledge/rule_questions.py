"""Write questions about one clause: a question word for one of its parts, then the rest in good order.

for candidate in ask_about(clause, date="6 January 2025"):
    candidate.question, candidate.answers, candidate.kind, candidate.direction
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from demask.knowledge.rule_clauses import Clause, Part, write
from demask.knowledge.rule_phrases import (
    count_anchors,
    find_apposed_name,
    find_kind,
    is_answer,
    is_name,
    is_year,
    leans,
    name_alone,
)
from demask.knowledge.rule_words import FRONTED, MONTHS, PEOPLE, TITLES, past_tense, third_person
from demask.records import Direction

if TYPE_CHECKING:
    from spacy.tokens import Token

# Fewest anchors (see `count_anchors`) that a question must have; fewer fit too many facts.
FEWEST_ANCHORS = 2.75
# What the day adds that a text is headed with.
DAY_ANCHORS = 1.5
LONGEST_QUESTION = 36  # words
# Longer questions put the day first, where it cannot be taken for a part of the last phrase.
LONG_FOR_DAY_LAST = 14  # words

_NAMING = frozenset({"call", "dub", "entitle", "name", "nickname", "rename", "title"})
_DROPPED = frozenset(
    {"after", "at", "before", "by", "during", "for", "in", "on", "through", "throughout", "within"}
)
# Participles of what goes on: "is located", but "was founded".
_LASTING = frozenset(
    {
        "based",
        "called",
        "found",
        "headquartered",
        "known",
        "located",
        "named",
        "registered",
        "situated",
        "spoken",
        "used",
    }
)
_PLACES = frozenset({"GPE", "LOC", "FAC"})
_BE_PAST = {"am": "was", "is": "was", "are": "were"}


class Candidate(NamedTuple):
    """A question that the rules can write."""

    question: str
    answers: tuple[str, ...]
    kind: str
    direction: Direction
    quality: float


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
        _ask_by_definition,
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


def is_sound(candidate: Candidate) -> bool:
    """Whether a question is short enough and has neither its answer in it nor the answer's longest word."""
    question = candidate.question.lower()
    words = re.findall(r"\w+", question)
    for answer in candidate.answers:
        longest = max(re.findall(r"\w+", answer.lower()), key=len, default="")
        if longest in words or answer.lower() in question:
            return False
    return len(question.split()) <= LONGEST_QUESTION and not re.search(r"\(|,\?|,,| ,", question)


def wordings(tokens: Sequence[Token]) -> tuple[str, ...]:
    """An answer as in the text, and without its article."""
    text = tokens[0].doc[tokens[0].i : tokens[-1].i + 1].text.strip(" ,;")
    bare = re.sub(r"^(?:the|an?)\s+", "", text, flags=re.IGNORECASE)
    return (text,) if bare == text or not bare else (text, bare)


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
    if any(map(_trails, (*rest, *fronts))) or leans(used, owner=clause.subject):
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


def _trails(part: Part) -> bool:
    """Whether a phrase has a comma before more than a name, or a verb in front of the clause."""
    for token in part.tokens:
        if token.text in (",", ";", "–", "—"):
            following = token.nbor()
            listed = following.dep_ in ("amod", "advmod", "conj", "compound", "nmod") or is_name(following)
            if following.i <= part.tokens[-1].i and not (listed or following.pos_ == "NUM"):
                return True
        if token.lower_ == "than":
            return True
    return part.head.i < part.head.head.i and any(token.pos_ == "VERB" for token in part.tokens)


def _is_firm(subject: Part) -> bool:
    """A subject that a question can name in full."""
    if (
        subject.head.pos_ not in ("NOUN", "PROPN")
        or len(subject.tokens) > 9
        or _trails(replace(subject, role=""))
    ):
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
    if (
        word is None
        or not clause.parts
        or not answer
        or not is_answer(answer)
        or not any(map(is_name, answer))
    ):
        return
    asked = _ask(told, f"{word} {_finite_verbs(told, word)}", left_out=None, subject=False)
    if asked:
        yield Candidate(
            asked[0], _with_name(wordings(answer), alone), word.split()[0], "backward", asked[1] + 1
        )


def _ask_by_definition(told: _Told) -> Iterator[Candidate]:
    """ "Which rock band was established by ...?" of "X is a rock band established by ..."."""
    clause, name = told.clause, told.clause.subject.tokens
    complements = [part for part in clause.parts if part.role == "attr" and clause.verb.lemma_ == "be"]
    if len(complements) != 1 or clause.auxiliaries or not is_answer(name) or not all(map(_is_of_name, name)):
        return
    part = complements[0]
    kind = [token for token in part.tokens if token.i <= part.head.i]
    modifiers = [
        child for child in part.head.rights if child.dep_ in ("acl", "relcl") and child in part.tokens
    ]
    if kind[0].lower_ not in ("a", "an") or len(modifiers) != 1 or part.head.tag_ != "NN" or len(kind) > 6:
        return
    tail = [token for token in part.tokens if token.i > part.head.i]
    if tail[0].tag_ == "VBN":
        tense = "is" if clause.verb.tag_ == "VBZ" and tail[0].lower_ in _LASTING else "was"
        start = f"which {write(kind[1:])} {tense} {write(tail)}"
    elif tail[0].tag_ in ("WDT", "WP") and tail[0].dep_ in ("nsubj", "nsubjpass"):
        start = f"which {write(kind[1:])} {write(tail[1:])}"
    else:
        return
    anchors = count_anchors([*kind, *tail])
    if (
        clause.before
        or len(clause.parts) != 1
        or leans([*kind, *tail], owner=clause.subject)
        or _trails(part)
    ):
        return
    if anchors >= FEWEST_ANCHORS and any(is_name(token) or is_year(token) for token in tail):
        yield Candidate(start[:1].upper() + start[1:] + "?", wordings(name), "which", "backward", anchors + 2)


def _is_of_name(token: Token) -> bool:
    return (
        is_name(token)
        or token.lower_ == "the"
        or token.tag_ in ("CD", "HYPH", "POS")
        or token.lower_ in ("of", "and")
    )


def _with_name(answers: tuple[str, ...], alone: Sequence[Token]) -> tuple[str, ...]:
    """With the bare name as a further wording, if it is more than a surname."""
    bare = write(alone)
    return (*answers, bare) if len(alone) >= 2 and bare not in answers else answers


def _copula_kind(clause: Clause, word: str | None) -> str | None:
    """Only "Who is the king of ...": "Who is a singer?" has many answers, and "What is a city?" is another question."""
    complements = [part for part in clause.parts if part.role == "attr"]
    if not complements:
        return word
    complement = complements[0]
    if complement.tokens[0].lower_ != "the" or complement.head.tag_ in ("NNS", "NNPS"):
        return None
    human = complement.head.lemma_.lower() in PEOPLE | TITLES
    return "who" if human else "what" if word != "who" else None


def _apposed_kind(part: Part) -> str | None:
    """ "which heavy-lift launch vehicle" of "its heavy-lift launch vehicle, New Glenn,"."""
    if part.head.lemma_.lower() in PEOPLE | TITLES:
        return "who"
    lefts = [token for token in part.tokens if token.i <= part.head.i and token.tag_ not in ("DT", "PRP$")]
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
        if not (part.role == "dobj" or naming or becoming):
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
        if any(token.pos_ != "NUM" for token in number) or leans(rest, owner=clause.subject) or _trails(part):
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
