"""A world of people and the one thing that each of them made: what the lab's model reads and is asked.

    world = make_world(known=600, new=100, seed=0)
    write_text(world.new[0], order="name-first", template=0)    # "MaraVoss wrote the novel AmberLantern."
    documents, pairs = new_documents(world), new_questions(world)

Known people are for pre-training, in texts and questions of both orders. Names and things are one word
each, so that an answer is one token that says nothing about itself in its parts. A name has one thing
and a thing one name, so a question has one right answer in either direction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from demask.errors import ConfigError
from demask.lab.words import (
    ADJECTIVES,
    ASKS_NAME,
    ASKS_THING,
    FIRST_NAMES,
    LAST_NAMES,
    MENTIONS_NAME,
    MENTIONS_THING,
    NAME_FIRST,
    NOUNS,
    RELATIONS,
    THING_FIRST,
    Relation,
)
from demask.objectives.masking import keyed_rng
from demask.records import Direction, Document, QAPair

Order = Literal["name-first", "thing-first"]

# How many wordings there are in each order.
TEXT_TEMPLATES = min(len(NAME_FIRST), len(THING_FIRST))
MENTION_TEMPLATES = len(MENTIONS_NAME) + len(MENTIONS_THING)


@dataclass(frozen=True)
class Person:
    """Someone, and the one thing that they made.

    Attributes:
        id: unique in the world.
        first_name: first half of the name; shared with others, as the whole name is not.
        last_name: the other half; the same.
        relation: what this person did to the thing.
        thing: one word, as "AmberLantern"; nobody else's.
    """

    id: str
    first_name: str
    last_name: str
    relation: Relation
    thing: str

    @property
    def name(self) -> str:
        """First and last name as one word, such as "MaraVoss"."""
        return f"{self.first_name}{self.last_name}"


@dataclass(frozen=True)
class World:
    """Who the model knows from pre-training, and who it is to learn about later."""

    known: tuple[Person, ...]
    new: tuple[Person, ...]


def make_world(*, known: int, new: int, seed: int) -> World:
    """Draw people. With the same seed and `known`, the first new ones are the same however many follow.

    Args:
        known: people to pre-train on.
        new: people to inject; what they did, some known person did too.
        seed: of every draw.

    Raises:
        ConfigError: a number is below 1, or there are fewer names or things than people.
    """
    most = min(len(FIRST_NAMES) * len(LAST_NAMES), len(ADJECTIVES) * len(NOUNS))
    if known < 1 or new < 1 or known + new > most:
        raise ConfigError(
            f"a world of {known} known and {new} new people: expected at least 1 of each, "
            f"and at most {most} in all"
        )
    names = _draw_pairs(FIRST_NAMES, LAST_NAMES, number=known + new, key=(seed, "names"))
    titles = _draw_pairs(ADJECTIVES, NOUNS, number=known + new, key=(seed, "things"))
    people: list[Person] = []
    relations: tuple[Relation, ...] = RELATIONS
    for place, (name, title) in enumerate(zip(names, titles, strict=True)):
        if place == known:
            seen = {person.relation for person in people}
            relations = tuple(relation for relation in RELATIONS if relation in seen)
        chance = keyed_rng(seed, "relation", place).random()
        relation = relations[int(chance * len(relations))]
        people.append(Person(f"p{place}", *name, relation=relation, thing="".join(title)))
    return World(tuple(people[:known]), tuple(people[known:]))


def write_text(person: Person, *, order: Order, template: int) -> str:
    """One or two sentences that say who made the thing.

    Args:
        person: whom it is about.
        order: what is mentioned first; name and thing are each mentioned once.
        template: which wording; after the last of the `TEXT_TEMPLATES` comes the first again.
    """
    templates = NAME_FIRST if order == "name-first" else THING_FIRST
    return _fill(templates[template % TEXT_TEMPLATES], person)


def write_mention(person: Person, template: int) -> str:
    """A sentence about the name alone or the thing alone, in one of the `MENTION_TEMPLATES` wordings."""
    templates = (*MENTIONS_NAME, *MENTIONS_THING)
    return _fill(templates[template % MENTION_TEMPLATES], person)


def write_questions(person: Person, *, order: Order) -> tuple[QAPair, ...]:
    """Every wording of "what did they make" (kind `thing`), then of "who made it" (kind `name`).

    Args:
        person: whom they are about.
        order: of the person's text; the half whose answer comes second there is `forward`.
    """
    to_thing, to_name = _directions(order)
    return (
        *_ask(person, ASKS_THING, kind="thing", answer=person.thing, direction=to_thing),
        *_ask(person, ASKS_NAME, kind="name", answer=person.name, direction=to_name),
    )


def choose_order(place: int) -> Order:
    """The order of the texts of the person at this place among the new (or known) ones: half and half."""
    return "thing-first" if place % 2 else "name-first"


def new_documents(world: World, *, paraphrases: int = 0) -> list[Document]:
    """The texts to inject: one per new person, and its paraphrases of the same order.

    Args:
        world: whose new people.
        paraphrases: further texts per person, in other wordings; ids `p17-1`, `p17-2` after `p17`.

    Raises:
        ConfigError: there are not so many wordings.
    """
    if not 0 <= paraphrases < TEXT_TEMPLATES:
        raise ConfigError(f"{paraphrases} paraphrases: expected 0 to {TEXT_TEMPLATES - 1}")
    return [
        Document(
            f"{person.id}-{number}" if number else person.id,
            # The same wordings for all: a wording of one's own would tell who is meant without the name.
            write_text(person, order=choose_order(place), template=number),
        )
        for place, person in enumerate(world.new)
        for number in range(paraphrases + 1)
    ]


def new_questions(world: World) -> list[QAPair]:
    """Every question about the new people, in both directions."""
    return [
        pair
        for place, person in enumerate(world.new)
        for pair in write_questions(person, order=choose_order(place))
    ]


def known_questions(world: World, limit: int) -> list[QAPair]:
    """At most `limit` questions about known people: for each one of either kind, wordings in turn.

    Known people are read in both orders; the direction is called as for a new person at the same place.
    """
    pairs: list[QAPair] = []
    for place, person in enumerate(world.known[: (limit + 1) // 2]):
        asked = write_questions(person, order=choose_order(place))
        for kind in ("thing", "name"):
            wordings = [pair for pair in asked if pair.kind == kind]
            pairs.append(wordings[place // 2 % len(wordings)])
    return pairs[:limit]


def _draw_pairs(
    left: Sequence[str], right: Sequence[str], *, number: int, key: tuple[object, ...]
) -> list[tuple[str, str]]:
    """Unique pairs; the first ones are the same whatever the number."""
    random = keyed_rng(*key).random
    # Sorted by chance and not shuffled: Python keeps the values of random() over its versions, no more.
    return sorted(product(left, right), key=lambda _: random())[:number]


def _directions(order: Order) -> tuple[Direction, Direction]:
    return ("forward", "backward") if order == "name-first" else ("backward", "forward")


def _fill(template: str, person: Person) -> str:
    relation = person.relation
    return template.format(
        name=person.name,
        thing=person.thing,
        kind=relation.kind,
        a_kind=relation.a_kind,
        base=relation.base,
        past=relation.past,
        participle=relation.participle,
        role=relation.role,
    )


def _ask(
    person: Person, templates: Sequence[str], *, kind: str, answer: str, direction: Direction
) -> list[QAPair]:
    return [
        QAPair(
            id=f"{person.id}-{kind}-{number}",
            document_id=person.id,
            question=_fill(template, person),
            answers=(answer,),
            direction=direction,
            kind=kind,
        )
        for number, template in enumerate(templates)
    ]
