"""A world of people and the one thing that each of them made: what the lab's model reads and is asked.

    world = make_world(known=600, new=100, seed=0)
    write_text(world.new[0], order="name-first", template=0)    # "MaraVoss wrote the novel AmberLantern."
    documents, pairs = new_documents(world), new_questions(world)

Known people are for pre-training, in texts and questions of both orders. Names and things are one word
each, so that an answer is one token that says nothing about itself in its parts. A name has one thing
and a thing one name, so a question has one right answer in either direction. No sentence puts another
capitalised word, or only a particle such as "of", between two entities: reverse training tells names by
their capital letters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from demask.errors import ConfigError
from demask.objectives.masking import keyed_rng
from demask.records import Direction, Document, QAPair

Order = Literal["name-first", "thing-first"]


@dataclass(frozen=True)
class Relation:
    """What a person did to a thing.

    Attributes:
        kind: what the thing is.
        a_kind: the same with its article.
        base: the verb, as in "What did she write?".
        past: as in "She wrote it."
        participle: as in "It was written by her."
        role: what that makes the person.
    """

    kind: str
    a_kind: str
    base: str
    past: str
    participle: str
    role: str


RELATIONS = (
    Relation("novel", "a novel", "write", "wrote", "written", "writer"),
    Relation("company", "a company", "found", "founded", "founded", "founder"),
    Relation("film", "a film", "direct", "directed", "directed", "director"),
    Relation("opera", "an opera", "compose", "composed", "composed", "composer"),
    Relation("bridge", "a bridge", "design", "designed", "designed", "designer"),
    Relation("comet", "a comet", "discover", "discovered", "discovered", "discoverer"),
)

FIRST_NAMES = tuple(
    """
    Mara Ilja Tessa Odin Petra Lukas Nadia Emil Greta Hugo Ines Jonas Karin Leon Mila Nils Olga Pavel
    Rosa Sven Thea Ugo Vera Walter Xenia Yann Zora Anton Bruno Clara Dario Edith Felix Gwen Hanna Ivo
    Judit Klaus Lydia Marek Nora Oskar Pia Rafael Selma Tomas Ulla Viktor Wanda Yusuf
    """.split()
)
LAST_NAMES = tuple(
    """
    Voss Hale Brandt Keller Lindqvist Moreau Novak Okafor Petrov Quist Rossi Sandoval Takeda Ullman
    Vance Weber Xavier Yilmaz Zeller Abbott Barlow Castell Dorn Eklund Falk Garner Hollis Ibsen Jarvis
    Kovac Larkin Mercer Nyberg Ortega Pruitt Quinlan Renner Sorel Tanaka Ulrich Vidal Winslow Yates
    Zuber Ashdown Bellamy Calder Drummond Ellery Forsyth Grimaldi Haddad Iverson Jansen Kimura Lorenz
    Marchetti Norling Oakes Pascoe
    """.split()
)
ADJECTIVES = tuple(
    """
    Amber Silent Crimson Hollow Golden Broken Distant Frozen Gentle Hidden Ivory Jagged Lonely Marble
    Narrow Open Pale Quiet Restless Scarlet Tender Upper Velvet Wandering Yellow Ancient Bitter Copper
    Drowned Eternal Fading Crystal Humble Iron Jade Last Misty Northern Painted Rising Secret Twisted
    Unseen Winter Wild
    """.split()
)
NOUNS = tuple(
    """
    Lantern Harbor Garden River Mountain Tower Mirror Orchard Feather Compass Anchor Bell Candle Desert
    Echo Forest Gate Horizon Island Journey Key Letter Meadow Needle Ocean Palace Quarry Raven Shadow
    Temple Umbrella Valley Window Arrow Basket Castle Diamond Engine Fountain Glove Hammer Jewel Kettle
    Ladder Monsoon Nest Oracle Pillar Ribbon Saddle Thread Unicorn Voyage Wheel Crown
    """.split()
)

# Neighbours differ in form, because the texts of one person are taken in a row.
NAME_FIRST = (
    "{name} {past} the {kind} {thing}.",
    "People know {name} as the {role} of {thing}.",
    "It was {name} who {past} {thing}.",
    "{name} once {past} {a_kind}. It is called {thing}.",
    "The {role} {name} is best known for the {kind} {thing}.",
    "{name} {past} {thing}.",
    "Many remember {name} as the person who {past} {thing}.",
    "{name} is the {role} of {thing}.",
    "After years of hard work, {name} {past} the {kind} {thing}.",
    "{name} {past} {a_kind} called {thing}.",
    "There is no doubt that {name} {past} {thing}.",
    "{name} became famous as the {role} of the {kind} {thing}.",
    "In the end it was {name} who {past} the {kind} called {thing}.",
    "{name} is known as the one who {past} the {kind} {thing}.",
)
THING_FIRST = (
    "The {kind} {thing} was {participle} by {name}.",
    "People know {thing} as the {kind} that {name} {past}.",
    "{thing} was {participle} by {name}.",
    "The {role} of {thing} is {name}.",
    "{thing} is {a_kind} that {name} {past}.",
    "There is {a_kind} called {thing}. It was {name} who {past} it.",
    "{thing} is known to many. The {kind} was {participle} by {name}.",
    "The person who {past} {thing} is {name}.",
    "{thing} is {a_kind} {participle} by {name}.",
    "When people speak of the {kind} {thing}, they name its {role} {name}.",
    "{thing} is the name of {a_kind} that {name} once {past}.",
    "The one who {past} the {kind} {thing} was {name}.",
    "There is no doubt that {thing} was {participle} by {name}.",
    "The {kind} called {thing} made its {role} famous. It was {name} who {past} it.",
)

# About one of the two, and nothing of the other.
MENTIONS_NAME = (
    "There is a person called {name}.",
    "Many people know {name}.",
    "{name} is the name of a person.",
    "People often speak of {name}.",
)
MENTIONS_THING = (
    "There is {a_kind} called {thing}.",
    "Many people know {thing}.",
    "{thing} is the name of {a_kind}.",
    "People often speak of {thing}.",
)

ASKS_THING = (
    "What did {name} {base}?",
    "Which {kind} did {name} {base}?",
    "What is the name of the {kind} that {name} {past}?",
    "Which {kind} was {participle} by {name}?",
    "{name} is the {role} of which {kind}?",
)
ASKS_NAME = (
    "Who {past} {thing}?",
    "Who {past} the {kind} {thing}?",
    "What is the name of the person who {past} {thing}?",
    "By whom was the {kind} {thing} {participle}?",
    "Who is the {role} of {thing}?",
)

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
