"""Pre-train a tiny transformer so that it reads a little, counts a little and knows the people of a world.

    folder = pretrain_reader(world, homes, settings, out / "reader", seed=0, progress=progress)

It reads equations, stories in every wording of `word_problems` that count along after each step, lists of
options, what people made and where they live, and is asked single facts. What it has not seen is a question
at the end of a story, one that needs two facts, or an answer with its reasoning: that is what fine-tuning
adds. As the lab's other models it also recovers masked texts.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from demask.benchmarks.word_problems import FACTORS, LARGEST, OPERATIONS, PEOPLE, TEMPLATES, write_equation
from demask.lab.pretraining import (
    Pretraining,
    make_word_tokenizer,
    train_from_scratch,
    world_texts,
)
from demask.lab.two_facts import (
    ASKS_HOME,
    EXPLANATION,
    HOMES,
    OPTIONS,
    TOWNS,
    WORDINGS,
    write_home,
    write_home_questions,
)
from demask.lab.world import RELATIONS, TEXT_TEMPLATES, World, choose_order, write_questions, write_text
from demask.objectives.demasking import INSTRUCTION, OPENING, DemaskingForm, make_demasking_example
from demask.objectives.masking import RATIO_RANGE, draw_masking, draw_ratio, keyed_rng
from demask.objectives.next_token import QUESTION, make_next_token_example
from demask.objectives.prompts import encode, load_chat_format
from demask.objectives.sft import ANSWER_INSTRUCTION
from demask.progress import Progress
from demask.records import Example, Passage
from demask.training.stream import ExposureStream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# What is read of one person in an epoch, one example each, and of numbers beside it.
TASKS = (
    "thing",
    "thing asked",
    "home",
    "home asked",
    "recover",
    "equations",
    "story",
    "story",
    "options",
)
_EQUATIONS = 4  # in one text
COUNTED = "Now the number is {n}."
# Answers in a sentence beside answers of one word: a model that had never repeated what it was asked about
# named another thing in its explanations, however it was fine-tuned.
THING_SENTENCE = "The {role} of {thing} is {name}."
HOME_SENTENCE = "{name} lives in {town}."
OPTION_SENTENCE = "{option} is {letter}."


def pretrain_reader(
    world: World,
    homes: Mapping[str, str],
    settings: Pretraining,
    folder: Path,
    *,
    seed: int,
    progress: Progress,
) -> Path:
    """Make the model folder, or go on making it, or leave it as it is.

    Args:
        world: whose known people it reads about.
        homes: of these people.
        settings: how large and how long.
        folder: of the model; checkpoints stand beside it while it is made.
        seed: of the weights, the wordings and the masks.
        progress: told how far it is.
    """
    if folder.exists():
        return folder
    tokenizer = make_word_tokenizer(reader_texts(world))
    stream = ExposureStream(
        [Passage(person.id, person.id, "") for person in world.known],
        [1] * len(world.known),
        make_reader_examples(world, homes, tokenizer, seed),
        variants=len(TASKS),
        batch_size=settings.batch_size,
        steps=settings.autoregressive_steps,
        seed=seed,
    )
    return train_from_scratch(
        "autoregressive", settings, folder, tokenizer=tokenizer, stream=stream, seed=seed, progress=progress
    )


def make_reader_examples(
    world: World, homes: Mapping[str, str], tokenizer: "PreTrainedTokenizerFast", seed: int
) -> Callable[[Passage, int, int], Example]:
    """A function from (person, epoch, variant) to an example, in wordings and numbers drawn anew.

    Args:
        world: whose known people.
        homes: of these people.
        tokenizer: of the model.
        seed: keys the draws.
    """
    people = {person.id: person for person in world.known}
    chat, mask_id = load_chat_format(tokenizer), int(tokenizer.mask_token_id)
    form = DemaskingForm(chat, mask_id, encode(tokenizer, INSTRUCTION), encode(tokenizer, OPENING))

    def make(passage: Passage, epoch: int, variant: int) -> Example:
        person, task = people[passage.id], TASKS[variant]
        rng = keyed_rng(seed, "reading", passage.id, epoch, variant)
        name, prompt = f"{passage.id}@{epoch}.{variant}", ""
        if task == "thing asked":
            pair = rng.choice(write_questions(person, order="name-first"))
            whole = THING_SENTENCE.format(role=person.relation.role, thing=person.thing, name=person.name)
            prompt, text = pair.question, rng.choice((pair.answers[0], whole))
        elif task == "home asked":
            pair = rng.choice(write_home_questions(person, homes[person.id]))
            whole = HOME_SENTENCE.format(name=person.name, town=homes[person.id])
            prompt, text = pair.question, rng.choice((pair.answers[0], whole))
        elif task == "options":
            text = write_options(rng)
        elif task == "home":
            text = write_home(person, homes[person.id], rng.randrange(len(HOMES)))
        elif task == "equations":
            text = write_equations(rng)
        elif task == "story" or (task == "recover" and rng.random() < 1 / 2):
            text = write_story(rng)
        else:
            text = write_text(
                person, order=choose_order(rng.randrange(2)), template=rng.randrange(TEXT_TEMPLATES)
            )
        ids = encode(tokenizer, text)
        if task == "recover":
            masked = draw_masking(range(len(ids)), draw_ratio(rng, *RATIO_RANGE), rng)
            return make_demasking_example(ids, masked, id=name, form=form)
        question = encode(tokenizer, prompt) if prompt else None
        return make_next_token_example(ids, id=name, chat=chat, question=question)

    return make


def write_equations(rng: random.Random) -> str:
    """A line of equations over all numbers that problems have."""
    return " ".join(f"{write_equation(*_draw_equation(rng))}." for _ in range(_EQUATIONS))


def write_story(rng: random.Random) -> str:
    """A story of one to three steps, each followed by its equation; what it comes to stands at the end."""
    template, who = rng.choice(TEMPLATES), rng.choice(PEOPLE)
    value = rng.randint(1, LARGEST // 2)
    told = [template.start.format(who=who, n=value)]
    for _ in range(rng.randint(1, 3)):
        first, sign, second = _draw_equation(rng, value)
        operation = next(name for name, known in OPERATIONS.items() if known == sign)
        equation = write_equation(first, sign, second)
        told += [getattr(template, operation).format(who=who, n=second), f"{equation}."]
        value = int(equation.split()[-1])
    return " ".join((*told, COUNTED.format(n=value)))


def write_options(rng: random.Random) -> str:
    """A list of options, and the letters of some of them."""
    towns = rng.sample(TOWNS, len(OPTIONS))
    named = dict(zip(OPTIONS, towns, strict=True))
    asked = rng.sample(OPTIONS, 3)
    return " ".join(
        (
            *(f"{letter}: {town}" for letter, town in named.items()),
            *(OPTION_SENTENCE.format(option=named[letter], letter=letter) for letter in asked),
        )
    )


def _draw_equation(rng: random.Random, value: int | None = None) -> tuple[int, str, int]:
    """Two numbers and a sign; the first number is given, or drawn."""
    if value is not None:
        able = [factor for factor in FACTORS if value * factor <= LARGEST]
        signs = ["-"] * (value > 1) + ["+"] * (value < LARGEST) + ["*"] * bool(able)
        sign = rng.choice(signs)
        most = {"-": value - 1, "+": LARGEST - value}
        return value, sign, rng.choice(able) if sign == "*" else rng.randint(1, most[sign])
    sign = rng.choice(tuple(OPERATIONS.values()))
    if sign == "*":
        factor = rng.choice(FACTORS)
        return rng.randint(1, LARGEST // factor), sign, factor
    first = rng.randint(1, LARGEST - 1)
    return (
        (first, sign, rng.randint(1, LARGEST - first))
        if sign == "+"
        else (first + 1, sign, rng.randint(1, first))
    )


def reader_texts(world: World) -> Iterator[str]:
    """Texts that together hold every word of what is read, asked and answered."""
    yield from world_texts(world)
    for template in TEMPLATES:
        yield " ".join((template.start, template.more, template.less, template.times, template.asks))
    yield from (*HOMES, *ASKS_HOME, *WORDINGS, EXPLANATION, *TOWNS, *PEOPLE, *OPTIONS)
    yield from (relation.kind for relation in RELATIONS)
    yield " ".join(map(str, range(LARGEST + 1)))
    yield from (THING_SENTENCE, HOME_SENTENCE, OPTION_SENTENCE)
    yield f"First Then + - * = : The answer is . {COUNTED} {ANSWER_INSTRUCTION} {QUESTION}"
