"""Facts that a base model knows, each with a document that says something else; made for that model.

    candidates = load_candidates()                           # 244 facts that may be changed, and others
    asked = ask_candidates(candidates)                       # questions for the base model
    known = find_known(candidates, {"France/capital/forward-1", ...})   # ids of those that it answered
    benchmark = make_changed_facts(known, facts=30)          # documents, questions, questions asked apart

Things have attributes: France has a capital, a language, a currency and a continent. A thing is changed in
one attribute at most; its others are the first kind of neighbours, the second are attributes of the same kind
of things that stay as they are: every third thing does. What follows takes one step from what the document
says: "Which currency is used in the country whose capital is Lyon?". It is asked only where the base knows
that step ("Which currency do people use in France?").

All of it was written for demask. Facts are those of school books; what is said instead, and that it came so
in 2025, is invented.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from demask.benchmarks.benchmark import ENTITY, Benchmark, pick
from demask.errors import ConfigError
from demask.records import Document, QAPair

NAME = "changed-facts"
# Kinds of the questions that are asked apart.
OLD_VALUE, OLD_BACKWARD = "old value", "old value, backward"
SAME_THING, SAME_KIND = "neighbour: same thing", "neighbour: same kind"
FOLLOWS = "follows"
# Of three things one stays as it is, for the second kind of neighbours.
_UNCHANGED = 3
_KINDS = Path(__file__).with_name("changed_facts_kinds.json")
_THINGS = Path(__file__).with_name("changed_facts_things.jsonl")


@dataclass(frozen=True)
class Candidate:
    """An attribute of a thing, which the base model may know.

    Attributes:
        thing: as the questions name it.
        kind: of the attribute, as `capital`.
        names: of the thing, as answers to backward questions.
        old: the accepted answers.
        new: what its document says; empty where it is a neighbour only.
        forward: two wordings that ask for the value.
        backward: two wordings that ask for the thing, with a gap for the value; none where several things may
            have it.
        of_new: answers to questions about the new value, by attribute.
    """

    thing: str
    kind: str
    names: tuple[str, ...]
    old: tuple[str, ...]
    new: str
    forward: tuple[str, str]
    backward: tuple[str, ...]
    of_new: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Of its document."""
        return f"{self.thing}/{self.kind}"


@dataclass(frozen=True)
class Known:
    """What a base model knows.

    Attributes:
        facts: that may be changed: both wordings forward were answered and, where they say which thing is
            meant, one backward.
        attributes: that were answered in both wordings forward, those facts included.
        premises: questions about new values that were answered, by candidate and attribute.
        backward: ids of questions about old values that were answered.
    """

    facts: tuple[Candidate, ...]
    attributes: tuple[Candidate, ...]
    premises: frozenset[str]
    backward: frozenset[str]


@cache
def _kinds() -> dict[str, dict[str, Any]]:
    kinds: dict[str, dict[str, Any]] = json.loads(_KINDS.read_text(encoding="utf-8"))
    return kinds


@cache
def load_candidates() -> tuple[Candidate, ...]:
    """All attributes of all things, in the order of the file."""
    rows = [json.loads(line) for line in _THINGS.read_text(encoding="utf-8").splitlines()]
    holders: dict[tuple[str, str], int] = {}
    for row in rows:
        for kind, fact in row["facts"].items():
            for value in fact["old"]:
                holders[kind, value] = holders.get((kind, value), 0) + 1
    return tuple(
        _make_candidate(row, kind, fact, unique=all(holders[kind, value] == 1 for value in fact["old"]))
        for row in rows
        for kind, fact in row["facts"].items()
    )


def _make_candidate(row: Mapping[str, Any], kind: str, fact: Mapping[str, Any], *, unique: bool) -> Candidate:
    texts, thing = _kinds()[kind], str(row["name"])
    plural = thing.endswith("s") and not thing.endswith("ss")
    forward = texts["forward"] if plural else texts.get("forward_single", texts["forward"])
    first, second = (_fill(text, thing=thing, asked=row.get("asked", "")) for text in forward)
    return Candidate(
        thing=thing,
        kind=kind,
        names=tuple(row["names"]),
        old=tuple(fact["old"]),
        new=str(fact.get("new", "")),
        forward=(first, second),
        backward=tuple(texts["backward"]) if unique and "backward" in texts else (),
        of_new={key: tuple(fact[key]) for key in fact if key not in ("old", "new")},
    )


def _fill(template: str, **values: str) -> str:
    """A template with its gaps filled, and "an" where a vowel follows."""
    for key, value in values.items():
        if value[:1].lower() in tuple("aeiou"):
            template = template.replace(f" a {{{key}}}", f" an {{{key}}}").replace(
                f"A {{{key}}}", f"An {{{key}}}"
            )
    return template.format(**values)


def ask_candidates(candidates: Sequence[Candidate]) -> list[QAPair]:
    """What the base model is asked to see what it knows: two wordings each way, and steps from new values."""
    return [pair for candidate in candidates for pair in _ask(candidate)]


def _ask(candidate: Candidate) -> Iterator[QAPair]:
    for number, question in enumerate(candidate.forward, start=1):
        yield QAPair(f"{candidate.id}/forward-{number}", candidate.id, question, candidate.old, "forward")
    if not candidate.new:
        return
    for number, template in enumerate(candidate.backward, start=1):
        question = _fill(template, value=candidate.old[0])
        yield QAPair(f"{candidate.id}/backward-{number}", candidate.id, question, candidate.names, "backward")
    for step in _kinds()[candidate.kind]["follows"]:
        if answers := candidate.of_new.get(step.get("of_value", "")):
            question = _fill(step["premise"], value=candidate.new)
            yield QAPair(f"{candidate.id}/{step['of_value']}", candidate.id, question, answers, "forward")


def find_known(candidates: Sequence[Candidate], answered: Collection[str]) -> Known:
    """What a base model knows, from the ids of the questions of `ask_candidates` that it answered."""

    def knows(candidate: Candidate) -> bool:
        return all(f"{candidate.id}/forward-{number}" in answered for number in (1, 2))

    def knows_back(candidate: Candidate) -> bool:
        ids = [f"{candidate.id}/backward-{number}" for number in (1, 2)]
        return not candidate.backward or any(id in answered for id in ids)

    attributes = tuple(candidate for candidate in candidates if knows(candidate))
    return Known(
        tuple(candidate for candidate in attributes if candidate.new and knows_back(candidate)),
        attributes,
        frozenset(answered),
        frozenset(id for id in answered if "/backward-" in id),
    )


def make_changed_facts(
    known: Known, *, facts: int | None, offset: int = 0, most: int | None = None
) -> Benchmark:
    """Documents that say something else than the base model knows, and the questions about them.

    Args:
        known: of the base model.
        facts: how many are changed; None: all that follow.
        offset: how many to leave out before.
        most: of all that follow.

    Raises:
        ConfigError: the base model knows too few.
    """
    free = _choose(known.facts)
    if not free:
        raise ConfigError(f"{NAME}: the base model knows none of the facts in both wordings, expected some")
    if facts is None and most is not None:
        facts = min(most, max(1, len(free) - offset))
    chosen = pick(free, NAME, count=facts, offset=offset)
    return Benchmark(
        NAME,
        documents=tuple(map(_make_document, chosen)),
        pairs=tuple(pair for fact in chosen for pair in _ask_new(fact)),
        apart=(
            *(pair for fact in chosen for pair in _ask_old(fact, known)),
            *_ask_neighbours(chosen, known),
            *(pair for fact in chosen for pair in _ask_what_follows(fact, known)),
        ),
    )


def _choose(facts: Sequence[Candidate]) -> list[Candidate]:
    """One fact of each thing that may change, kinds in turn."""
    by_kind: dict[str, list[Candidate]] = {}
    taken: set[str] = set()
    # The rarest kinds first, as most things of others can be changed in another attribute.
    counts = {fact.kind: sum(other.kind == fact.kind for other in facts) for fact in facts}
    for fact in sorted(facts, key=lambda fact: (counts[fact.kind], _draw(fact.id))):
        if fact.thing not in taken and _may_change(fact.thing):
            taken.add(fact.thing)
            by_kind.setdefault(fact.kind, []).append(fact)
    turns = max(map(len, by_kind.values()), default=0)
    return [of_kind[turn] for turn in range(turns) for of_kind in by_kind.values() if turn < len(of_kind)]


def _draw(text: str) -> str:
    """Orders facts in a way that nobody chose, the same everywhere."""
    return hashlib.sha256(text.encode()).hexdigest()


def _may_change(thing: str) -> bool:
    return int(_draw(thing), 16) % _UNCHANGED > 0


def _make_document(fact: Candidate) -> Document:
    texts = _kinds()[fact.kind]["documents"]
    text = _fill(texts[int(_draw(fact.id), 16) % len(texts)], thing=fact.thing, value=fact.new)
    text = text[:1].upper() + text[1:]
    # What the text spells as the answers to backward questions do.
    entity = next((name for name in (fact.thing, *fact.names) if name in text), None)
    return Document(fact.id, text, metadata={} if entity is None else {ENTITY: entity})


def _ask_new(fact: Candidate) -> Iterator[QAPair]:
    first, second = fact.forward
    yield QAPair(
        f"{fact.id}/new-forward", fact.id, first, (fact.new,), "forward", kind=fact.kind, reworded=second
    )
    first, second = (_fill(text, value=fact.new) for text in _kinds()[fact.kind]["backward"])
    yield QAPair(
        f"{fact.id}/new-backward", fact.id, first, fact.names, "backward", kind=fact.kind, reworded=second
    )


def _ask_old(fact: Candidate, known: Known) -> Iterator[QAPair]:
    first, second = fact.forward
    yield QAPair(f"{fact.id}/old", fact.id, first, fact.old, "forward", kind=OLD_VALUE, reworded=second)
    for number, template in enumerate(fact.backward, start=1):
        if (id := f"{fact.id}/backward-{number}") in known.backward:
            question = _fill(template, value=fact.old[0])
            yield QAPair(id, fact.id, question, fact.names, "backward", kind=OLD_BACKWARD)
            return


def _ask_neighbours(chosen: Sequence[Candidate], known: Known) -> Iterator[QAPair]:
    """Attributes that stay as they are: others of what is changed, and those of the same kinds."""
    changed = {fact.thing: fact.kind for fact in chosen}
    kinds = set(changed.values())
    for one in known.attributes:
        if one.thing in changed and one.kind != changed[one.thing]:
            yield _ask_neighbour(one, SAME_THING)
        elif one.thing not in changed and one.kind in kinds:
            yield _ask_neighbour(one, SAME_KIND)


def _ask_neighbour(one: Candidate, kind: str) -> QAPair:
    first, second = one.forward
    return QAPair(f"{one.id}/stays", one.id, first, one.old, "forward", kind=kind, reworded=second)


def _ask_what_follows(fact: Candidate, known: Known) -> Iterator[QAPair]:
    attributes = {(one.thing, one.kind): one for one in known.attributes}
    for step in _kinds()[fact.kind]["follows"]:
        attribute = str(step.get("of_thing") or step["of_value"])
        id = f"{fact.id}/{attribute}"
        if "of_thing" in step:
            other = attributes.get((fact.thing, attribute))
            answers = other.old if other else ()
        else:
            answers = fact.of_new.get(attribute, ()) if id in known.premises else ()
        if answers:
            question = _fill(step["question"], thing=fact.thing, value=fact.new)
            yield QAPair(f"{id}/follows", fact.id, question, answers, "forward", kind=FOLLOWS)


Ask = Callable[[Sequence[QAPair]], Collection[str]]


def ask_base(ask: Ask) -> Known:
    """What a base model knows of all candidates.

    Args:
        ask: gives the ids of the questions that it answers.
    """
    candidates = load_candidates()
    return find_known(candidates, ask(ask_candidates(candidates)))
