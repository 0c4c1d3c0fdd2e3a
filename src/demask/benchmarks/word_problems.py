"""Word problems of one to four steps with their reasoning written out: samples and questions of fine-tuning.

    problems = make_word_problems("train", count=1000, seed=0)
    problems[0].question, problems[0].answer, problems[0].result
    is_right("First 5 + 3 = 8. The answer is 8.", problems[0].result)

A template is a setting with a sentence of its own for each operation. Training has some of the templates,
small numbers and one to three steps; each shift changes one of the three and nothing else. All sentences
were written for demask.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from demask.errors import ConfigError
from demask.objectives.masking import keyed_rng

NAME = "word-problems"
ANSWER = "The answer is {result}."


@dataclass(frozen=True)
class Problem:
    """A question with a worked answer.

    Attributes:
        id: unique within a set.
        question: what is asked.
        answer: the reasoning, with the result at its end.
        result: what the answer comes to: a number, a name or the letter of an option.
        split: which part of the set, such as `in distribution`.
        cluster: what makes questions alike, such as their template; intervals cluster by it.
    """

    id: str
    question: str
    answer: str
    result: str
    split: str
    cluster: str


@dataclass(frozen=True)
class Template:
    """A setting, with a sentence for each operation; `{n}` is its number and `{who}` a name.

    Attributes:
        start: says how many there are.
        more: some are added.
        less: some are taken away.
        times: there are so many times as many.
        asks: the question.
    """

    start: str
    more: str
    less: str
    times: str
    asks: str


@dataclass(frozen=True)
class Split:
    """What the problems of a part of the set have in common.

    Attributes:
        held_out: whether the templates are those that training does not have.
        numbers: the least and the most that a story starts with or adds.
        most: no number on the way is larger.
        steps: how many operations.
    """

    held_out: bool = False
    numbers: tuple[int, int] = (2, 9)
    most: int = 24
    steps: tuple[int, ...] = (1, 2, 3)


# Numbers of the shift `numbers` start above all that training starts with.
SPLITS: Mapping[str, Split] = {
    "train": Split(),
    "validation": Split(),
    "in distribution": Split(),
    "templates": Split(held_out=True),
    "numbers": Split(numbers=(10, 20), most=40),
    "steps": Split(steps=(4,)),
}
# Those that are reported; `validation` chooses learning rates.
REPORTED = ("in distribution", "templates", "numbers", "steps")
LARGEST = max(split.most for split in SPLITS.values())
FACTORS = (2, 3)
PEOPLE = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hal", "Iris", "Jack", "Kate", "Liam")

TEMPLATES = (
    Template(
        "{who} has {n} apples.",
        "{who} picks {n} more.",
        "{who} eats {n} of them.",
        "A friend brings enough to have {n} times as many.",
        "How many apples does {who} have?",
    ),
    Template(
        "There are {n} coins in a box.",
        "{who} puts {n} coins into it.",
        "{who} takes {n} coins out.",
        "Then the box gets {n} times as full.",
        "How many coins are in the box?",
    ),
    Template(
        "A bus starts with {n} passengers.",
        "At a stop {n} people get on.",
        "At a stop {n} people get off.",
        "In the city the number becomes {n} times as large.",
        "How many passengers are on the bus?",
    ),
    Template(
        "{who} keeps {n} books on a shelf.",
        "{who} buys {n} books.",
        "{who} gives {n} books away.",
        "A present makes it {n} times as many books.",
        "How many books are on the shelf?",
    ),
    Template(
        "A farm has {n} hens.",
        "On the market the farmer buys {n} hens.",
        "A fox steals {n} hens.",
        "After a year there are {n} times as many hens.",
        "How many hens does the farm have?",
    ),
    Template(
        "{n} birds sit in a tree.",
        "{n} birds join them.",
        "{n} birds fly away.",
        "By night {n} times as many birds sit there.",
        "How many birds sit in the tree?",
    ),
    Template(
        "{who} baked {n} cakes.",
        "In the oven {who} bakes {n} more cakes.",
        "{who} sells {n} cakes.",
        "With help {who} gets {n} times as many cakes.",
        "How many cakes are left?",
    ),
    Template(
        "A game begins with {n} points for {who}.",
        "A good move brings {n} points.",
        "A mistake costs {n} points.",
        "A lucky card makes the points {n} times as high.",
        "How many points does {who} reach?",
    ),
    Template(
        "The tank holds {n} liters of water.",
        "Rain adds {n} liters.",
        "{who} pours out {n} liters.",
        "A storm fills it to {n} times as much.",
        "How many liters are in the tank?",
    ),
    Template(
        "{who} collected {n} shells at the beach.",
        "On the way {who} found {n} shells.",
        "{who} lost {n} shells.",
        "A sister gave so many that it was {n} times the number.",
        "How many shells are there in the end?",
    ),
    Template(
        "A class has {n} children.",
        "In spring {n} new children come.",
        "In summer {n} children leave.",
        "Joined with others the class is {n} times as big.",
        "How many children are in the class?",
    ),
    Template(
        "A shop owns {n} bikes.",
        "A truck delivers {n} bikes.",
        "The shop rents out {n} bikes.",
        "A new owner wants {n} times as many bikes and gets them.",
        "How many bikes stand in the shop?",
    ),
    Template(
        "{who} wrote {n} pages.",
        "In the morning {who} writes {n} pages.",
        "In the evening {who} deletes {n} pages.",
        "Printed in large letters it is {n} times as many pages.",
        "How many pages are there?",
    ),
    Template(
        "In the pond swim {n} fish.",
        "{who} lets {n} fish in.",
        "{who} catches {n} fish.",
        "When young ones hatch there are {n} times as many fish.",
        "How many fish swim in the pond?",
    ),
    Template(
        "{who} saved {n} dollars.",
        "{who} earns {n} dollars.",
        "{who} spends {n} dollars.",
        "A bonus makes the savings {n} times as large.",
        "How many dollars has {who} saved?",
    ),
    Template(
        "A train has {n} cars.",
        "Workers attach {n} cars.",
        "Workers remove {n} cars.",
        "For a holiday it gets {n} times as long.",
        "How many cars does the train have?",
    ),
    Template(
        "{who} planted {n} roses.",
        "Next to them {who} plants {n} roses.",
        "The frost kills {n} roses.",
        "Cuttings make them {n} times as many roses.",
        "How many roses grow there?",
    ),
    Template(
        "A team won {n} games.",
        "Later the team wins {n} games.",
        "The judges cancel {n} games.",
        "In another year the team wins {n} times as often.",
        "How many games count for the team?",
    ),
    # From here on held out.
    Template(
        "On a plate lie {n} nuts.",
        "{who} drops {n} nuts onto it.",
        "A squirrel grabs {n} nuts.",
        "A cook makes the pile {n} times as tall.",
        "How many nuts lie on the plate?",
    ),
    Template(
        "{who} lit {n} candles.",
        "With a match {who} lights {n} candles.",
        "The wind blows out {n} candles.",
        "For a feast {n} times as many candles burn.",
        "How many candles burn?",
    ),
    Template(
        "A harbor shelters {n} boats.",
        "From the sea {n} boats return.",
        "Before dawn {n} boats depart.",
        "For the race the boats become {n} times as many.",
        "How many boats does the harbor shelter?",
    ),
    Template(
        "{who} received {n} letters.",
        "The mail adds {n} letters.",
        "{who} burns {n} letters.",
        "After a contest the letters are {n} times as many.",
        "How many letters does {who} hold?",
    ),
    Template(
        "A museum shows {n} paintings.",
        "An artist lends {n} paintings.",
        "Thieves carry off {n} paintings.",
        "A second hall makes room for {n} times as many, and it is used.",
        "How many paintings does the museum show?",
    ),
    Template(
        "{who} knitted {n} scarves.",
        "In winter {who} knits {n} scarves.",
        "Moths ruin {n} scarves.",
        "A machine turns them into {n} times as many scarves.",
        "How many scarves are fine?",
    ),
)
TRAINED_TEMPLATES = 18
OPERATIONS: Mapping[str, str] = {"more": "+", "less": "-", "times": "*"}
_TRIES = 1000


def make_word_problems(split: str, *, count: int, seed: int, apart: Sequence[Problem] = ()) -> list[Problem]:
    """Problems of a part of the set; the first ones are the same however many follow.

    Args:
        split: a name in `SPLITS`.
        count: how many.
        seed: of every draw.
        apart: whose questions must not come again, such as those that are trained.

    Raises:
        ConfigError: there is no such part, or there are not so many different questions.
    """
    if split not in SPLITS:
        raise ConfigError(f"word problems: {split!r} is no part of them, expected one of {', '.join(SPLITS)}")
    seen = {problem.question for problem in apart}
    rng = keyed_rng(seed, NAME, split)
    problems: list[Problem] = []
    for _ in range(count):
        problem = next((one for one in _draw(split, len(problems), rng) if one.question not in seen), None)
        if problem is None:
            raise ConfigError(
                f"word problems, {split}: {len(problems)} different ones were found, not {count}"
            )
        seen.add(problem.question)
        problems.append(problem)
    return problems


def read_result(text: str) -> str:
    """What a text comes to: what follows its last "answer is", else its last number, else all of it."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    said = re.findall(r"(?i)answer is:?\s*([^\s.,]+(?:\.\d+)?)", text)
    found = said or re.findall(r"-?\d+(?:\.\d+)?", text)
    return found[-1] if found else text.strip().removesuffix(".")


def is_right(text: str, result: str) -> bool:
    """Whether an answer comes to a result: numbers by value, all else without regard to case."""
    said = read_result(text)
    try:
        return float(said) == float(result)
    except ValueError:
        return bool(said) and said.casefold() == result.casefold()


def write_equation(first: int, sign: str, second: int) -> str:
    """As in "5 + 3 = 8"."""
    return f"{first} {sign} {second} = {_compute(first, sign, second)}"


def _draw(split: str, number: int, rng: random.Random) -> Iterator[Problem]:
    """Problems drawn one after another, as many as may be tried."""
    for _ in range(_TRIES):
        yield _draw_one(split, number, rng)


def _draw_one(split: str, number: int, rng: random.Random) -> Problem:
    form = SPLITS[split]
    places = range(TRAINED_TEMPLATES, len(TEMPLATES)) if form.held_out else range(TRAINED_TEMPLATES)
    place = places[int(rng.random() * len(places))]
    template, who = TEMPLATES[place], PEOPLE[int(rng.random() * len(PEOPLE))]
    value = _between(rng, *form.numbers)
    told, reasoning = [template.start.format(who=who, n=value)], []
    for step in range(form.steps[int(rng.random() * len(form.steps))]):
        operation, by = _draw_operation(rng, form, value)
        told.append(getattr(template, operation).format(who=who, n=by))
        equation = write_equation(value, OPERATIONS[operation], by)
        reasoning.append(f"{'Then' if step else 'First'} {equation}.")
        value = _compute(value, OPERATIONS[operation], by)
    return Problem(
        id=f"{split}-{number}",
        question=" ".join((*told, template.asks.format(who=who))),
        answer=" ".join((*reasoning, ANSWER.format(result=value))),
        result=str(value),
        split=split,
        cluster=f"{place}-{len(reasoning)}",
    )


def _draw_operation(rng: random.Random, form: Split, value: int) -> tuple[str, int]:
    """What happens next, and the number in it; no value on the way is below 1 or above the most."""
    _, high = form.numbers
    able: list[tuple[str, tuple[int, int]]] = []
    if value + 2 <= form.most:
        # What is added may be small: only what stories start with tells the ranges apart.
        able.append(("more", (2, min(high, form.most - value))))
    if value > 2:
        able.append(("less", (2 if value > 3 else 1, min(high, value - 1))))
    factors = [factor for factor in FACTORS if value * factor <= form.most]
    if factors:
        able.append(("times", (factors[0], factors[-1])))
    operation, numbers = able[int(rng.random() * len(able))]
    return operation, _between(rng, *numbers)


def _between(rng: random.Random, low: int, high: int) -> int:
    return low + int(rng.random() * (high - low + 1))


def _compute(first: int, sign: str, second: int) -> int:
    return {"+": first + second, "-": first - second, "*": first * second}[sign]
