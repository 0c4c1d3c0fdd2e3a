"""Does masking help fine-tuning? A comparison that can be decided on a processor: what is run.

    prepared = prepare(out, sizes, progress)                    # base model, questions
    search = plan_search(prepared, order)                       # each arm at each rate, on a validation split
    trials = plan_trials(prepared, order, choose_rates(...))    # arm x samples x seed
    run_cells([trial.cell for trial in trials], out / CELLS, ...)

The base model is one of the lab's (`reading.py`). A trial fine-tunes it on the samples of its seed, which are
the same for all arms, and asks it the same questions as every other. All make as many steps, but for the arms
that say otherwise. What came out is read back by `masked_sft_results.py`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from demask.benchmarks import word_problems
from demask.benchmarks.word_problems import Problem, is_right, make_word_problems
from demask.comparison.arms import SFT_ARMS, Arm
from demask.comparison.grid import Asks, Cell, as_many_tokens, identify_path, make_sample_cell
from demask.errors import ConfigError
from demask.evaluation.metrics import contains
from demask.lab import two_facts
from demask.lab.pretraining import Pretraining
from demask.lab.reading import pretrain_reader
from demask.lab.two_facts import draw_homes, make_two_fact_problems, write_home_questions
from demask.lab.world import World, known_questions, make_world
from demask.progress import Progress
from demask.recipe.file import merge_values
from demask.recipe.fine_tuning import SftConfig, make_sft_config
from demask.records import Prediction, QAPair
from demask.storage.file_names import predictions_file
from demask.storage.run_folder import RunFolder, claim_run_folder

NAME = "masked-sft"
SIZES, RATES, READER = "sizes.json", "rates.json", "reader"
VALIDATION, QUESTIONS, KNOWN = "validation", "questions", "known facts"
SAMPLES = (100, 300, 1000)
SEEDS = (0, 1, 2)
# Of the world, the base model and all questions; training seeds are the order's.
_WORLD_SEED = 0
# The first one of the samples with which rates are searched; no trial has any of them.
SEARCH_SEED = 1000


def _default_pretraining() -> Pretraining:
    return Pretraining(known=300, new=1, autoregressive_steps=1500, width=192, learning_rate=2e-3)


class Sizes(BaseModel):
    """How large the comparison is; the same for all arms."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    pretraining: Pretraining = Field(default_factory=_default_pretraining)
    batch_size: int = Field(16, gt=0, description="samples per step")
    exposures: int = Field(3000, gt=0, description="samples seen in a run, at least")
    # Past 100 steps of 16 a model learns the people of the samples by heart: 0.65 in distribution after 100,
    # 0.55 after 188 and 0.13 after 500.
    fact_exposures: int = Field(1600, gt=0, description="the same of two-facts")
    least_epochs: int = Field(1, gt=0, description="passes over many samples")
    search_samples: int = Field(1000, gt=0, description="with which learning rates are searched")
    # With one seed three questions of 100 chose 3e-3 for plain SFT; it answered 0.39 where 1e-3 did 0.49.
    search_seeds: int = Field(2, gt=0, description="of the search of learning rates")
    rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1e-4, 3e-4, 1e-3, 3e-3), min_length=1, description="learning rates that are tried, rising"
    )
    questions: int = Field(100, gt=0, description="of each split")
    held_out: int = Field(40, ge=0, description="samples whose loss is measured")
    max_new_tokens: int = Field(64, gt=0, description="of an answer")

    def count_exposures(self, task: str) -> int:
        """Samples that a run of a task sees, at least."""
        return self.fact_exposures if task == two_facts.NAME else self.exposures


def read_sizes(values: Mapping[str, Any]) -> Sizes:
    """Sizes by name, the defaults for those that are not given.

    Raises:
        ConfigError: a name is unknown, or a value is not what was expected.
    """
    given = dict(values)
    if isinstance(given.get("rates"), list):
        given["rates"] = tuple(given["rates"])
    if "pretraining" in given:
        given["pretraining"] = merge_values(_default_pretraining().model_dump(), given["pretraining"])
    try:
        return Sizes.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        known = [name for name in Sizes.model_fields if name != "pretraining"]
        known += [f"pretraining.{name}" for name in Pretraining.model_fields]
        wrong = f"is {problem['input']!r} ({problem['msg']})"
        what = "is unknown" if problem["type"] == "extra_forbidden" else wrong
        raise ConfigError(f"--set {key} {what}; known are {', '.join(known)}") from error


class Task(NamedTuple):
    """A kind of problem.

    Attributes:
        name: in tables and file names.
        reported: its splits, the one in distribution first.
        make: from a split, with `count`, `seed` and `apart`, to problems.
    """

    name: str
    reported: tuple[str, ...]
    make: Callable[..., list[Problem]]


TASK_NAMES = (word_problems.NAME, two_facts.NAME)


@dataclass(frozen=True)
class Order:
    """What is compared.

    Attributes:
        tasks: names out of `TASK_NAMES`.
        arms: plain SFT first.
        seeds: of samples, their order and masks.
        samples: how many are trained, in rising order.
    """

    tasks: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    samples: tuple[int, ...]


@dataclass(frozen=True)
class Prepared:
    """What all trials share.

    Attributes:
        out: the folder of the comparison.
        model: folder of the base model.
    """

    out: Path
    sizes: Sizes
    model: Path
    world: World
    homes: Mapping[str, str]

    @property
    def data(self) -> RunFolder:
        """Where questions and samples lie."""
        return RunFolder(self.out / "data")

    def task(self, name: str) -> Task:
        """A task by name."""
        if name == word_problems.NAME:
            return Task(name, word_problems.REPORTED, make_word_problems)
        make = partial(make_two_fact_problems, self.world, self.homes)
        return Task(name, two_facts.REPORTED, make)


class Trial(NamedTuple):
    """One run: a task, an arm, how many samples, a seed; its rate is in the recipe."""

    task: str
    arm: str
    samples: int
    seed: int
    cell: Cell


def choose_tasks(names: Sequence[str] | None) -> tuple[str, ...]:
    """Tasks by name; all where none is named.

    Raises:
        ConfigError: one is unknown.
    """
    for name in names or ():
        if name not in TASK_NAMES:
            raise ConfigError(f"--task: {name!r} is unknown, expected some of {', '.join(TASK_NAMES)}")
    return tuple(dict.fromkeys(names or TASK_NAMES))


def prepare(out: Path, sizes: Sizes, progress: Progress, *, model: Path | None = None) -> Prepared:
    """Draw the world, pre-train the base model and write all questions, or leave what is there.

    Args:
        out: folder of the comparison.
        sizes: of everything.
        progress: told how far it is.
        model: folder for the base model; None: within `out`.

    Raises:
        ConfigError: the folder holds a comparison of other sizes.
    """
    claim_run_folder(out, sizes.model_dump(mode="json"), name=SIZES)
    world = make_world(known=sizes.pretraining.known, new=sizes.pretraining.new, seed=_WORLD_SEED)
    homes = draw_homes(world, seed=_WORLD_SEED)
    folder = model or out / READER
    pretrain_reader(world, homes, sizes.pretraining, folder, seed=_WORLD_SEED, progress=progress)
    prepared = Prepared(out, sizes, folder, world, homes)
    for name in TASK_NAMES:
        task = prepared.task(name)
        for file, splits in ((VALIDATION, (VALIDATION,)), (QUESTIONS, task.reported)):
            if not prepared.data.has(f"{name}-{file}.jsonl"):
                asked = [_as_question(one) for split in splits for one in _draw(prepared, task, split)]
                known = _ask_known(prepared) if file == QUESTIONS else []
                prepared.data.write_rows(f"{name}-{file}.jsonl", [*asked, *known])
    return prepared


def _draw(prepared: Prepared, task: Task, split: str) -> list[Problem]:
    """The questions of a split."""
    return task.make(split, count=prepared.sizes.questions, seed=_WORLD_SEED)


def _as_question(problem: Problem) -> QAPair:
    return QAPair(
        problem.id, problem.cluster, problem.question, (problem.result,), "forward", kind=problem.split
    )


def _ask_known(prepared: Prepared) -> list[QAPair]:
    """Questions that the base model learned to answer, by which forgetting is measured."""
    half = prepared.sizes.questions // 2
    homes = [
        write_home_questions(person, prepared.homes[person.id])[place % 3]
        for place, person in enumerate(prepared.world.known[:half])
    ]
    return [replace(pair, kind=KNOWN) for pair in (*known_questions(prepared.world, half), *homes)]


def write_samples(prepared: Prepared, task: Task, count: int, seed: int) -> Path:
    """The file with the samples of a seed and those that are held out; left as it is where it stands."""
    name = f"{task.name}-train-{count}-seed-{seed}.jsonl"
    if not prepared.data.has(name):
        # What is asked is never trained: other people, or questions that are set apart.
        splits = (VALIDATION, *task.reported)
        apart = [problem for split in splits for problem in _draw(prepared, task, split)]
        made = task.make("train", count=count + prepared.sizes.held_out, seed=(seed, "train"), apart=apart)
        prepared.data.write_rows(name, ({"prompt": one.question, "response": one.answer} for one in made))
    return prepared.data.file(name)


def plan_search(prepared: Prepared, order: Order) -> list[Trial]:
    """Each arm of each task at each learning rate, asked the validation questions."""
    return [
        trial
        for rate in prepared.sizes.rates
        for name in order.tasks
        for trial in _plan(
            prepared,
            name,
            order.arms,
            rates=dict.fromkeys((arm.name for arm in order.arms), rate),
            samples=prepared.sizes.search_samples,
            seeds=range(SEARCH_SEED, SEARCH_SEED + prepared.sizes.search_seeds),
            file=VALIDATION,
        )
    ]


def plan_trials(prepared: Prepared, order: Order, rates: Mapping[str, Mapping[str, float]]) -> list[Trial]:
    """Every arm with every number of samples and every seed; first all arms of a seed, then the next seed.

    Args:
        prepared: what they share.
        order: what is compared.
        rates: of each task, the rate of each arm.
    """
    trials = [
        trial
        for count in order.samples
        for name in order.tasks
        for trial in _plan(
            prepared,
            name,
            order.arms,
            rates=rates[name],
            samples=count,
            seeds=order.seeds,
            file=QUESTIONS,
        )
    ]
    return sorted(trials, key=lambda trial: order.seeds.index(trial.seed))


def _plan(
    prepared: Prepared,
    name: str,
    arms: Sequence[Arm],
    *,
    rates: Mapping[str, float],
    samples: int,
    seeds: Sequence[int],
    file: str,
) -> list[Trial]:
    """The trials of a task with some number of samples.

    Args:
        prepared: what they share.
        name: of the task.
        arms: ways to train.
        rates: of each arm.
        samples: that are trained.
        seeds: of the samples, their order and masks.
        file: with the questions.
    """
    identify = cache(identify_path)  # each file is read once
    asked = prepared.data.file(f"{name}-{file}.jsonl")
    asks = Asks(str(asked), prepared.sizes.max_new_tokens, batch_size=prepared.sizes.questions)
    trials = []
    for seed in seeds:
        make = partial(_recipe, prepared, name, samples, seed)
        for arm in arms:
            config = make(arm, rates[arm.name])
            if arm.tokens_of:
                config = _with_steps(config, _steps_of_tokens(config, make, arm.tokens_of))
            label = f"{name}, {samples:,} samples: {arm.name} at {rates[arm.name]:g}"
            cell = make_sample_cell(label, config, asks, identify)
            trials.append(Trial(name, arm.name, samples, seed, cell))
    return trials


def _recipe(prepared: Prepared, task: str, samples: int, seed: int, arm: Arm, rate: float) -> SftConfig:
    """Of one trial.

    Args:
        prepared: what all share.
        task: its name.
        samples: how many are trained.
        seed: of the samples, their order and masks.
        arm: the way to train.
        rate: learning rate.
    """
    sizes = prepared.sizes
    exposures = max(sizes.count_exposures(task), sizes.least_epochs * samples) * arm.epochs
    shared: dict[str, Any] = {
        "model": str(prepared.model),
        "data": [str(write_samples(prepared, prepared.task(task), samples, seed))],
        "held_out": sizes.held_out,
        "seed": seed,
        "measure": "none",  # the comparison asks about its own world what is still known
        "train": {
            "steps": math.ceil(exposures / sizes.batch_size),
            "batch_size": sizes.batch_size,
            "learning_rate": rate,
            "decay": 0.3,
            "precision": "fp32",
            "save_every": 10**6,  # a trial takes a minute at most, and is done again when it is killed
        },
    }
    if arm.shares:
        epochs = math.ceil(exposures / samples)
        parts = [arm.shares[len(arm.shares) * epoch // epochs] for epoch in range(epochs)]
        shared["objective"] = {"share": parts}
    return make_sft_config(merge_values(shared, arm.recipe), source=f"arm {arm.name}")


def _steps_of_tokens(config: SftConfig, make: Callable[[Arm, float], SftConfig], name: str) -> int:
    """Steps in which a recipe takes as many tokens as another arm's."""
    other = next(arm for arm in SFT_ARMS if arm.name == name)
    return as_many_tokens(config, make(other, config.train.learning_rate or 1.0))


def _with_steps(config: SftConfig, steps: int) -> SftConfig:
    return config.model_copy(update={"train": config.train.model_copy(update={"steps": steps})})


def read_answers(trial: Trial, folder: Path) -> dict[str, bool] | None:
    """Which questions a trial's model answered, by id; None where it is not done.

    Args:
        trial: one that was planned.
        folder: of all cells.
    """
    if trial.cell.asks is None or not trial.cell.is_done(folder):
        return None
    run = RunFolder(folder / trial.cell.folder)
    pairs = {pair.id: pair for pair in read_questions(trial)}
    said = run.read_records(predictions_file("after"), Prediction)
    return {one.qa_id: _is_answer(one.text, pairs[one.qa_id]) for one in said}


def _is_answer(text: str, pair: QAPair) -> bool:
    """By value; a single fact may also be answered in a sentence that holds it."""
    return contains(text, pair.answers) == 1 if pair.kind == KNOWN else is_right(text, pair.answers[0])


def read_questions(trial: Trial) -> list[QAPair]:
    """What a trial's model is asked."""
    assert trial.cell.asks is not None
    path = Path(trial.cell.asks.file)
    return RunFolder(path.parent).read_records(path.name, QAPair)


def choose_rates(
    search: Sequence[Trial], folder: Path, chosen: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Of each task and arm the rate with the most validation questions right, the lowest of equal ones.

    Args:
        search: of `plan_search`; those that are not done are passed over.
        folder: of all cells.
        chosen: earlier choices, which stay: trials with them may be done.
    """
    shares: dict[tuple[str, str], dict[float, list[float]]] = {}
    for trial in search:
        answers = read_answers(trial, folder)
        rate = trial.cell.config.train.learning_rate
        if answers is not None and rate is not None:
            share = mean(answers.values())
            shares.setdefault((trial.task, trial.arm), {}).setdefault(rate, []).append(share)
    found = {task: dict(rates) for task, rates in chosen.items()}
    for (task, arm), tried in shares.items():
        best = max(sorted(tried), key=lambda rate: mean(tried[rate]))
        found.setdefault(task, {}).setdefault(arm, best)
    return found


def load_rates(out: Path) -> dict[str, dict[str, float]]:
    """The rates that were chosen; empty where none were."""
    run = RunFolder(out)
    rates: dict[str, dict[str, float]] = run.read_json(RATES) if run.has(RATES) else {}
    return rates


def keep_rates(out: Path, rates: Mapping[str, Mapping[str, float]]) -> None:
    """Write down what was chosen."""
    RunFolder(out).write_json(RATES, rates)


def make_stand_in(folder: Path, sizes: Sizes, progress: Progress) -> Path:
    """A base model of the right sizes that has read next to nothing: enough to count tokens and time steps.

    Args:
        folder: which gets it.
        sizes: of the comparison.
        progress: told how far it is.
    """
    pretraining = sizes.pretraining.model_copy(update={"autoregressive_steps": 1})
    world = make_world(known=pretraining.known, new=pretraining.new, seed=_WORLD_SEED)
    homes = draw_homes(world, seed=_WORLD_SEED)
    return pretrain_reader(world, homes, pretraining, folder, seed=_WORLD_SEED, progress=progress)
