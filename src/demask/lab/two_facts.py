"""Questions that need two facts of the lab's world, explained before they are answered.

    homes = draw_homes(world, seed=0)
    problems = make_two_fact_problems(world, homes, "train", count=300, seed=0)

In which town does the writer of ScarletUmbrella live? Who that is stands in one text, where they live in
another, and both in the model that has read them. Half of the questions have four options, half none. Other
people are asked about than those that are trained; the shifts have wordings, or a kind of thing, that
training does not have.
"""

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from demask.benchmarks.word_problems import ANSWER, Problem
from demask.errors import ConfigError
from demask.lab.world import RELATIONS, Person, World
from demask.objectives.masking import keyed_rng
from demask.records import QAPair

T = TypeVar("T")
NAME = "two-facts"
TOWNS = tuple(
    """
    Alder Birken Corvin Dunmore Elmsted Fairlow Glenroy Harwick Inverly Kelso Lowden Marwood Netherby Oakham
    Penrose Quenby Rothbury Selwick Tolland Ulverton
    """.split()
)
OPTIONS = ("A", "B", "C", "D")
SPLITS = ("train", "validation", "in distribution", "wordings", "kinds")
REPORTED = ("in distribution", "wordings", "kinds")
# Of the kinds of thing, the last is asked about in the shift `kinds` alone.
HELD_OUT_KIND = RELATIONS[-1].kind

HOMES = (
    "{name} lives in {town}.",
    "The home of {name} is in {town}.",
    "{name} has a house in {town}.",
    "It is {town} where {name} lives.",
    "You can meet {name} in {town}.",
)
ASKS_HOME = (
    "Where does {name} live?",
    "In which town does {name} live?",
    "Where is the home of {name}?",
)
WORDINGS = (
    "In which town does the {role} of {thing} live?",
    "Where does the person who {past} the {kind} {thing} live?",
    "Where is the home of the {role} of the {kind} {thing}?",
    "The {kind} {thing} was {participle} by someone. Where does this person live?",
    # From here on held out.
    "Someone {past} {thing}. In which town is the house of this person?",
    "In which town can you meet the one who {past} {thing}?",
)
TRAINED_WORDINGS = 4
EXPLANATION = "The {role} of {thing} is {name}. {name} lives in {town}. "
# Of five people of the kinds that are trained, one is asked about and one is for validation.
_FIFTHS = 5
_TRIES = 1000


def draw_homes(world: World, *, seed: int) -> Mapping[str, str]:
    """The town of each known person, by the person's id."""
    rng = keyed_rng(seed, NAME, "homes")
    return {person.id: _choose(rng, TOWNS) for person in world.known}


def write_home(person: Person, town: str, template: int) -> str:
    """A sentence that says where someone lives, in one of the wordings of `HOMES`."""
    return HOMES[template % len(HOMES)].format(name=person.name, town=town)


def write_home_questions(person: Person, town: str) -> tuple[QAPair, ...]:
    """Every wording of "where does she live"."""
    return tuple(
        QAPair(f"{person.id}-home-{number}", person.id, asked.format(name=person.name), (town,), "forward")
        for number, asked in enumerate(ASKS_HOME)
    )


def make_two_fact_problems(
    world: World,
    homes: Mapping[str, str],
    split: str,
    *,
    count: int,
    seed: int,
    apart: Sequence[Problem] = (),
) -> list[Problem]:
    """Problems of a part of the set; the first ones are the same however many follow.

    Args:
        world: whose known people.
        homes: of them, as `draw_homes` gives them.
        split: a name in `SPLITS`.
        count: how many.
        seed: of every draw.
        apart: whose questions must not come again, such as those that are trained.

    Raises:
        ConfigError: there is no such part, or there are not so many different questions.
    """
    people = choose_people(world, split)
    seen = {problem.question for problem in apart}
    rng = keyed_rng(seed, NAME, split)
    problems: list[Problem] = []
    repeated = 0  # in a row
    while len(problems) < count and repeated < _TRIES:
        problem = _draw(people, homes, split, len(problems), rng)
        repeated += 1
        if problem.question not in seen:
            seen.add(problem.question)
            problems.append(problem)
            repeated = 0
    if len(problems) < count:
        raise ConfigError(
            f"two facts, {split}: {len(problems)} different questions were found about {len(people)} people, "
            f"expected {count}; take a larger world"
        )
    return problems


def choose_people(world: World, split: str) -> tuple[Person, ...]:
    """Known people about whom a part asks.

    Raises:
        ConfigError: there is no such part, or the world has nobody for it.
    """
    if split not in SPLITS:
        raise ConfigError(f"two facts: {split!r} is no part of them, expected one of {', '.join(SPLITS)}")
    if split == "kinds":
        chosen = [person for person in world.known if person.relation.kind == HELD_OUT_KIND]
    else:
        usual = [person for person in world.known if person.relation.kind != HELD_OUT_KIND]
        fifths = {"train": (0, 1, 2), "validation": (3,)}.get(split, (4,))
        chosen = [person for place, person in enumerate(usual) if place % _FIFTHS in fifths]
    if not chosen:
        raise ConfigError(f"two facts, {split}: the world has nobody to ask about; take a larger one")
    return tuple(chosen)


def _draw(
    people: Sequence[Person], homes: Mapping[str, str], split: str, number: int, rng: random.Random
) -> Problem:
    person = _choose(rng, people)
    held_out = split == "wordings"
    wordings = WORDINGS[TRAINED_WORDINGS:] if held_out else WORDINGS[:TRAINED_WORDINGS]
    relation, town = person.relation, homes[person.id]
    words = {
        "name": person.name,
        "thing": person.thing,
        "town": town,
        "kind": relation.kind,
        "role": relation.role,
        "past": relation.past,
        "participle": relation.participle,
    }
    question, result = _choose(rng, wordings).format(**words), town
    if rng.random() < 1 / 2:
        options = _draw_options(town, rng)
        question += " " + " ".join(
            f"{letter}: {option}" for letter, option in zip(OPTIONS, options, strict=True)
        )
        result = OPTIONS[options.index(town)]
    return Problem(
        id=f"{split}-{number}",
        question=question,
        answer=EXPLANATION.format(**words) + ANSWER.format(result=result),
        result=result,
        split=split,
        cluster=person.id,
    )


def _draw_options(town: str, rng: random.Random) -> list[str]:
    """The town and three others, in an order that chance gives."""
    # Sorted by chance and not sampled: Python keeps the values of random() over its versions, no more.
    others = sorted((other for other in TOWNS if other != town), key=lambda _: rng.random())
    return sorted((town, *others[: len(OPTIONS) - 1]), key=lambda _: rng.random())


def _choose(rng: random.Random, among: Sequence[T]) -> T:
    return among[int(rng.random() * len(among))]
