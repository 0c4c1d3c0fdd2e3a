"""A world of people and the one thing that each of them made: what the lab's model reads and is asked.

    world = make_world(known=600, new=100, seed=0)
    write_text(world.new[0], order="name-first", template=0)    # "Mara Voss wrote the novel Amber Lantern."
    documents, pairs = new_documents(world), new_questions(world)

Known people are for pre-training, in texts and questions of both orders. New people are combinations
of words that known people have, so that a new fact is a new link and never a new word. A name has
one thing and a thing one name, so a question has one right answer in either direction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeVar

from demask.errors import ConfigError
from demask.lab.words import (
    ADJECTIVES,
    ASKS_CITY,
    ASKS_INSTRUMENT,
    ASKS_NAME,
    ASKS_PERSON,
    ASKS_THING,
    CITIES,
    FIRST_NAMES,
    INSTRUMENTS,
    LAST_NAMES,
    NAME_FIRST,
    NOUNS,
    PORTRAITS,
    RELATIONS,
    THING_FIRST,
    Relation,
)
from demask.objectives.masking import keyed_rng
from demask.records import Direction, Document, QAPair

Order = Literal["name-first", "thing-first"]

# How many wordings there are; for texts, in each order.
TEXT_TEMPLATES = min(len(NAME_FIRST), len(THING_FIRST))
PORTRAIT_TEMPLATES = len(PORTRAITS)

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Person:
    """Someone, what they made, and what else is known of them.

    Attributes:
        id: unique in the world.
        first_name: shared with others; the full name is not.
        last_name: the same.
        relation: what this person did to the thing.
        thing: two capitalised words; nobody else's.
        city: where the person was born.
        instrument: which the person plays.
    """

    id: str
    first_name: str
    last_name: str
    relation: Relation
    thing: str
    city: str
    instrument: str

    @property
    def name(self) -> str:
        """First and last name."""
        return f"{self.first_name} {self.last_name}"


@dataclass(frozen=True)
class World:
    """Who the model knows from pre-training, and who it is to learn about later."""

    known: tuple[Person, ...]
    new: tuple[Person, ...]


def make_world(*, known: int, new: int, seed: int) -> World:
    """Draw people. With the same seed and `known`, the first new ones are the same however many follow.

    Args:
        known: people to pre-train on.
        new: people to inject; made of words of the known ones.
        seed: of every draw.

    Raises:
        ConfigError: a number is below 1, or there are not enough combinations of words.
    """
    if known < 1 or new < 1:
        raise ConfigError(f"a world of {known} known and {new} new people: expected at least 1 of each")
    names = _draw_pairs(FIRST_NAMES, LAST_NAMES, known=known, new=new, key=(seed, "names"))
    titles = _draw_pairs(ADJECTIVES, NOUNS, known=known, new=new, key=(seed, "things"))
    people: list[Person] = []
    relations: tuple[Relation, ...] = RELATIONS
    cities, instruments = CITIES, INSTRUMENTS
    for place, (name, title) in enumerate(zip(names, titles, strict=True)):
        if place == known:
            relations = _seen(RELATIONS, [person.relation for person in people])
            cities = _seen(CITIES, [person.city for person in people])
            instruments = _seen(INSTRUMENTS, [person.instrument for person in people])
        person = Person(
            f"p{place}",
            *name,
            relation=_draw(relations, seed, "relation", place),
            thing=" ".join(title),
            city=_draw(cities, seed, "city", place),
            instrument=_draw(instruments, seed, "instrument", place),
        )
        people.append(person)
    return World(tuple(people[:known]), tuple(people[known:]))


def write_text(person: Person, *, order: Order, template: int) -> str:
    """One or two sentences that say who made the thing, and nothing else.

    Args:
        person: whom it is about.
        order: what is mentioned first; name and thing are each mentioned once.
        template: which wording; after the last of the `TEXT_TEMPLATES` comes the first again.
    """
    templates = NAME_FIRST if order == "name-first" else THING_FIRST
    return _fill(templates[template % TEXT_TEMPLATES], person)


def write_portrait(person: Person, template: int) -> str:
    """A text about city and instrument; after the last of the `PORTRAIT_TEMPLATES` comes the first again."""
    return _fill(PORTRAITS[template % PORTRAIT_TEMPLATES], person)


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


def write_portrait_questions(person: Person, *, known: Sequence[Person] = ()) -> tuple[QAPair, ...]:
    """Questions about city and instrument from the name (`forward`), and the other way round (`backward`).

    Args:
        person: whom they are about.
        known: everyone whose portrait is read. Who has this city and instrument is asked only
            when it is one of them, and so not at all without them.
    """
    same = sum((other.city, other.instrument) == (person.city, person.instrument) for other in known)
    backward = ASKS_PERSON if same == 1 else ()
    return (
        *_ask(person, ASKS_CITY, kind="city", answer=person.city, direction="forward"),
        *_ask(person, ASKS_INSTRUMENT, kind="instrument", answer=person.instrument, direction="forward"),
        *_ask(person, backward, kind="person", answer=person.name, direction="backward"),
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
            # Half the place: each order then goes through all of its wordings.
            write_text(person, order=choose_order(place), template=place // 2 + number),
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
    left: Sequence[str], right: Sequence[str], *, known: int, new: int, key: tuple[object, ...]
) -> list[tuple[str, str]]:
    """Unique pairs, first those of the known and then those of the new people, of the same words."""
    random = keyed_rng(*key).random
    # Sorted by chance and not shuffled: Python keeps the values of random() over its versions, no more.
    pairs = sorted(product(left, right), key=lambda _: random())
    taken, rest = pairs[:known], pairs[known:]
    lefts, rights = {pair[0] for pair in taken}, {pair[1] for pair in taken}
    fit = [pair for pair in rest if pair[0] in lefts and pair[1] in rights]
    if len(taken) < known or len(fit) < new:
        raise ConfigError(
            f"a world of {known} known and {new} new people: with {len(taken)} known there are "
            f"{len(fit)} new combinations of their words; ask for other numbers, in all at most {len(pairs)}"
        )
    return [*taken, *fit[:new]]


def _draw(items: Sequence[_Item], *key: object) -> _Item:
    return items[int(keyed_rng(*key).random() * len(items))]


def _seen(items: Sequence[_Item], used: Sequence[_Item]) -> tuple[_Item, ...]:
    return tuple(item for item in items if item in used)


def _directions(order: Order) -> tuple[Direction, Direction]:
    return ("forward", "backward") if order == "name-first" else ("backward", "forward")


def _fill(template: str, person: Person) -> str:
    relation = person.relation
    return template.format(
        name=person.name,
        thing=person.thing,
        city=person.city,
        instrument=person.instrument,
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
