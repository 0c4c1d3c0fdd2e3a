"""The words and sentences that the lab's world is made of; all of them ours.

    NAME_FIRST[0].format(name="MaraVoss", thing="AmberLantern", kind="novel", past="wrote", ...)
    -> "MaraVoss wrote the novel AmberLantern."

A name joins a first and a last name, a thing an adjective and a noun: one word each, and no two ways
of joining give the same one. No sentence puts another capitalised word, or only a particle such as
"of", between two entities: reverse training tells names by their capital letters.
"""

from dataclasses import dataclass


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
