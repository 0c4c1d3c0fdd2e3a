"""The grid of a comparison: model x arm x seed, each cell an ordinary recipe with a folder of its own.

    grids = plan_grids(order, benchmark, data, out, arms=None, ablations=["ratio"])    # writes matrix.json
    plan_cells(grids[0].cells, out / CELLS)                                            # what it will take

The folder of a cell is named by its recipe and by what the files hold that it reads: texts, questions and
the folder of a model. So a changed recipe, changed data or a model that was trained again never meets an old
run, and cells that several grids share are run once.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from demask.benchmarks.benchmark import PARAPHRASE_FILES, Benchmark
from demask.comparison.arms import ABLATIONS, Arm, choose_ablation, choose_arms
from demask.documents.paths import find_sources
from demask.errors import ConfigError, DemaskError
from demask.progress import Progress, Silent
from demask.recipe.file import merge_values
from demask.recipe.fine_tuning import SftConfig, TaskConfig
from demask.recipe.launch import ALONE
from demask.recipe.sections import NO_QUESTIONS, RunConfig, make_config
from demask.storage.file_names import (
    APART,
    DOCUMENTS,
    QA_PAIRS,
    REPORT_HTML,
    SUMMARY,
    predictions_file,
)
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.stages.training import Stream
    from demask.training.stream import ExposureStream

Budget = Literal["steps", "tokens"]
# Tokens per second of training with a recipe; None where no step could be timed.
Rate = Callable[[TaskConfig], float | None]

CELLS = "cells"
DATA = "data"
GRID_FILE = "matrix.json"
ALL = "all"


@dataclass(frozen=True)
class Order:
    """What is to be compared.

    Attributes:
        models: names or folders.
        seeds: of order and masks.
        exposures: of each text, which with the batch give the steps of every arm; None: by preset.
        budget: of every arm: `steps`, as many optimizer steps; `tokens`, as many tokens as the first takes.
        preset: of demasking, where an arm says nothing else.
        settings: put over every cell's recipe, but under its arm's.
    """

    models: tuple[str, ...]
    seeds: tuple[int, ...]
    exposures: float | None = None
    budget: Budget = "steps"
    preset: str = "paper"
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Asks:
    """Questions for the trained model of a run of fine-tuning, whose recipe has none.

    Attributes:
        file: JSON Lines of QA pairs.
        max_new_tokens: of an answer.
        batch_size: questions decoded together.
    """

    file: str
    max_new_tokens: int
    batch_size: int


@dataclass(frozen=True)
class Cell:
    """One run that is to be made.

    Attributes:
        folder: of the run, relative to the folder of all cells.
        problem: why it cannot be run; empty when it can.
        asks: what the trained model is asked besides; None: what the recipe says.
    """

    model: str
    arm: str
    seed: int
    config: TaskConfig
    folder: str
    problem: str = ""
    asks: Asks | None = None

    def is_done(self, folder: Path) -> bool:
        """Whether the run has left all that tables ask for."""
        run = RunFolder(folder / self.folder)
        asked = self.asks is None or run.has(predictions_file("after"))
        return asked and run.has(SUMMARY) and run.has(REPORT_HTML)


@dataclass(frozen=True)
class PlannedGrid:
    """The cells of all models, for the arms or for one ablation; `folder` holds its `matrix.json`."""

    folder: Path
    cells: tuple[Cell, ...]


def plan_grids(
    order: Order,
    benchmark: Benchmark,
    data: Path,
    out: Path,
    *,
    arms: Sequence[str] | None,
    ablations: Sequence[str] | None,
) -> list[PlannedGrid]:
    """Plan every cell, and write which run stands behind each number.

    Args:
        order: what is compared.
        benchmark: what is taught.
        data: folder with its files; its name tells sets apart.
        out: gets a folder for each grid.
        arms: names; None: all that train this kind of model.
        ablations: names, or `all`; None: the arms are compared.

    Raises:
        ConfigError: a name is unknown, or arms and ablations are both given.
    """
    planned = []
    for ablation in _choose_comparisons(arms, ablations):
        chosen = {model: _choose_arms(model, ablation, arms) for model in order.models}
        cells = make_cells(order, chosen, benchmark, data)
        folder = out / (f"{data.name}-{ablation}" if ablation else data.name)
        _write_grid(cells, folder, benchmark, ablation, order.budget)
        planned.append(PlannedGrid(folder, cells))
    return planned


def check_order(
    order: Order, *, arms: Sequence[str] | None, ablations: Sequence[str] | None
) -> Literal["auto", "cpu", "cuda"]:
    """See whether every arm makes a recipe, where what is taught takes a while to make.

    Args:
        order: what is compared.
        arms: names; None: all that train this kind of model.
        ablations: names, or `all`; None: the arms are compared.

    Returns:
        The device of the first recipe.

    Raises:
        ConfigError: a name, or a value of a recipe, is not what it should be.
    """
    configs = [
        make_recipe(
            arm,
            merge_values({"model": model, "documents": ["-"], "preset": order.preset}, order.settings or {}),
        )
        for ablation in _choose_comparisons(arms, ablations)
        for model in order.models
        for arm in _choose_arms(model, ablation, arms)
    ]
    return configs[0].device


def _choose_comparisons(arms: Sequence[str] | None, ablations: Sequence[str] | None) -> Sequence[str | None]:
    """The ablations; None stands for the comparison of the arms."""
    if arms and ablations:
        raise ConfigError("--arm and --ablation are both given, expected one of them")
    names = list(ABLATIONS) if ablations and ALL in ablations else ablations
    return list(dict.fromkeys(names)) if names else [None]


def _choose_arms(model: str, ablation: str | None, arms: Sequence[str] | None) -> tuple[Arm, ...]:
    return choose_ablation(ablation) if ablation else _arms_for(model, arms)


def find_grids(folders: Sequence[Path]) -> list[Path]:
    """Those folders that hold a grid, and the ones in folders that `demask reproduce` has made."""
    return [
        found
        for folder in folders
        for found in (
            [folder]
            if (folder / GRID_FILE).is_file()
            else sorted(file.parent for file in folder.glob(f"*/{GRID_FILE}"))
        )
    ]


def distinct_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Each run once, by the name of the first grid that has it."""
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.folder, cell)
    return list(first.values())


def make_recipe(arm: Arm, shared: Mapping[str, Any]) -> RunConfig:
    """An arm's own keys put over those that all cells share.

    Raises:
        ConfigError: that makes no recipe.
    """
    return make_config(merge_values(shared, arm.recipe), source=f"arm {arm.name}")


def make_cells(
    order: Order, arms: Mapping[str, Sequence[Arm]], benchmark: Benchmark, data: Path
) -> tuple[Cell, ...]:
    """Every cell with its recipe.

    Args:
        order: what is compared.
        arms: ways to train, by model.
        benchmark: what is taught.
        data: folder that `write_benchmark` has filled with it.

    Raises:
        ConfigError: a recipe is not what it should be.
    """
    identify = cache(_identify_files)  # each file is read once
    cells: list[Cell] = []
    for model in order.models:
        held = _identify_model(model)
        first: RunConfig | None = None
        for arm in arms[model]:
            config = _recipe(order, arm, benchmark, data, model)
            problem = ""
            if arm.paraphrases and not (data / PARAPHRASE_FILES[arm.paraphrases]).exists():
                problem = f"{benchmark.name} has no paraphrases ({PARAPHRASE_FILES[arm.paraphrases]})"
            elif order.budget == "tokens" and first is not None:
                config = _with_train(config, steps=as_many_tokens(config, first))
            first = first or config
            cells += [
                Cell(model, arm.name, seed, made, _folder_name(made, held, identify), problem)
                for seed in order.seeds
                for made in [config.model_copy(update={"seed": seed})]
            ]
    return tuple(cells)


def tokens_per_step(config: TaskConfig) -> float:
    """Mean over one pass through all texts; prompts and what is replayed included."""
    from demask.training.stream import learned_part

    with _reading(config) as stream:
        learned: ExposureStream[Any] = learned_part(stream)
        a_pass = len(learned.lengths) * stream.batch_size // learned.batch_size
        looked = min(len(stream), max(a_pass, stream.batch_size))
        tokens = sum(len(stream[place].token_ids) for place in range(looked))
        per_step: float = tokens * stream.batch_size / looked
    return per_step


def time_steps(config: TaskConfig, progress: Progress) -> float | None:
    """Tokens per second of a few real steps, which are thrown away; None where the model does not fit."""
    from demask.tasks.step_costs import measure_cost

    with _reading(config) as stream:
        cost = measure_cost(config, stream, launch=ALONE, progress=progress)
    return cost.tokens_per_second if cost.steps else None


@dataclass(frozen=True)
class PlannedArm:
    """What the seeds of an arm will take.

    Attributes:
        cells: how many there are, and of them `done`.
        steps: of each.
        tokens: of each, prompts included.
        seconds: training of each; questions and drawing what is replayed come on top. None: not timed.
        problem: why it cannot be run.
    """

    model: str
    arm: str
    cells: int
    done: int
    steps: int
    tokens: int
    seconds: float | None
    problem: str = ""

    @property
    def seconds_left(self) -> float | None:
        """Of all seeds that are not done; None where they were not timed."""
        left = 0 if self.problem else self.cells - self.done
        return 0.0 if not left else None if self.seconds is None else self.seconds * left


def plan_cells(cells: Sequence[Cell], folder: Path, *, rate: Rate | None = None) -> tuple[PlannedArm, ...]:
    """One row for each model and arm, in order.

    Args:
        cells: of all models, arms and seeds.
        folder: with the runs that are done.
        rate: how fast a recipe is trained; None: rows have no times.
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.arm), []).append(cell)
    return tuple(_plan_arm(group, folder, rate) for group in groups.values())


def time_models(progress: Progress) -> Rate:
    """Times a few real steps of each model, once for all arms that train it the same way.

    The rate is that of the first arm: tokens of the others cost nearly as much.
    """
    known: dict[tuple[str, str, str], float | None] = {}

    def rate(config: TaskConfig) -> float | None:
        key = (config.model, config.train.method, config.train.precision)
        if key not in known:
            known[key] = time_steps(config, progress)
        return known[key]

    return rate


def seconds_left(planned: Sequence[PlannedArm], slots: Sequence[int | None]) -> float | None:
    """Training that is not done, on all places; those on one processor or GPU share its speed.

    None where an arm was not timed.

    Args:
        planned: of `plan_cells`.
        slots: the GPU of each place, None for the processor.
    """
    left = [row.seconds_left for row in planned]
    known = [seconds for seconds in left if seconds is not None]
    return sum(known) / len(set(slots)) if len(known) == len(left) else None


def _plan_arm(group: Sequence[Cell], folder: Path, rate: Rate | None) -> PlannedArm:
    cell, steps = group[0], group[0].config.train.steps or 0
    tokens, seconds, problem = 0, None, cell.problem
    done = sum(one.is_done(folder) for one in group)
    try:
        tokens = 0 if problem else round(steps * tokens_per_step(cell.config))
        if rate and not problem and done < len(group):
            per_second = rate(cell.config)
            seconds = tokens / per_second if per_second else None
    except DemaskError as error:  # of this arm alone; its cells will say so, too
        problem = str(error)
    return PlannedArm(cell.model, cell.arm, len(group), done, steps, tokens, seconds, problem)


def _arms_for(model: str, names: Sequence[str] | None) -> tuple[Arm, ...]:
    from demask.models.diffusion import diffusion_form
    from demask.models.load import load_architecture

    return choose_arms(names, diffusion=diffusion_form(load_architecture(model)) is not None)


def _write_grid(
    cells: Sequence[Cell], folder: Path, benchmark: Benchmark, ablation: str | None, budget: Budget
) -> None:
    rows = [
        {
            "model": cell.model,
            "arm": cell.arm,
            "seed": cell.seed,
            "folder": f"../{CELLS}/{cell.folder}",
        }
        for cell in cells
    ]
    about = {"benchmark": benchmark.name, "facts": len(benchmark.documents), "ablation": ablation}
    RunFolder(folder).write_json(GRID_FILE, {**about, "budget": budget, "cells": rows})


def _recipe(order: Order, arm: Arm, benchmark: Benchmark, data: Path, model: str) -> RunConfig:
    """Of all seeds of an arm."""
    shared: dict[str, Any] = {
        "model": model,
        "documents": [str(data / DOCUMENTS)],
        "qa": str(data / QA_PAIRS),
        "preset": order.preset,
        "train": {"evaluate_every": "doubling"},
        "evaluate": {"shots": 2},
        # A cell's own tables are of accuracy; `--set measure=brief` adds the rest to each cell's report.
        "measure": "none",
    }
    if (data / APART).exists():
        shared["evaluate"]["apart"] = str(data / APART)
    if arm.paraphrases:
        shared["paraphrases"] = str(data / PARAPHRASE_FILES[arm.paraphrases])
    config = make_recipe(arm, merge_values(shared, order.settings or {}))
    if config.train.steps is None:
        texts = len(benchmark.documents)
        exposures = order.exposures or config.train.epochs or config.length.epochs
        copies = config.objective.together
        batch = min(config.train.batch_size, texts * copies)
        steps = math.ceil(exposures * texts / batch)
        config = _with_train(config, batch_size=batch, epochs=None, steps=steps)
    return config if arm.rate == 1.0 else _with_train(config, learning_rate=arm.rate * _default_rate(config))


def _with_train(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def _default_rate(config: RunConfig) -> float:
    from demask.models.load import count_parameters
    from demask.training.plan import choose_learning_rate
    from demask.training.stream import learned_part

    with _reading(config) as stream:  # which may have fewer examples in a step than the recipe asks for
        batch_size = learned_part(stream).batch_size
    return choose_learning_rate(
        config.train,
        parameters=count_parameters(config.model),
        batch_size=batch_size,
        rate_share=config.rate_share,
    )


def as_many_tokens(config: TaskConfig, first: TaskConfig) -> int:
    """Steps in which an arm trains on as many tokens as the first arm does; its own where it cannot train."""
    steps = config.train.steps or 1
    try:
        wanted = (first.train.steps or 1) * tokens_per_step(first)
        return max(1, round(wanted / tokens_per_step(config)))
    except DemaskError:  # which the arm's cells will say
        return steps


@contextmanager
def _reading(config: TaskConfig) -> "Iterator[Stream]":
    """Every exposure of a run, as long as the block lasts; stand-ins where it replays."""
    from demask.models.load import choose_device
    from demask.tasks.planning import open_setting
    from demask.tasks.replay_costs import stand_in_stream

    with open_setting(config, Silent()) as setting:
        yield stand_in_stream(config, setting.stream, setting.context, choose_device(config.device))


def make_sample_cell(arm: str, config: SftConfig, asks: Asks, identify: Callable[[str], str]) -> Cell:
    """A cell of fine-tuning; its folder is named by recipe, data, model and questions.

    Args:
        arm: as tables and the terminal call it.
        config: its recipe, with the seed.
        asks: what the trained model is asked.
        identify: gives what a file, or the folder of a model, holds.
    """
    recipe = config.model_dump(mode="json")
    recipe["model"] = identify(config.model)
    recipe["data"] = [identify(path) for path in recipe["data"]]
    asked = {**asdict(asks), "file": identify(asks.file)}
    return Cell(
        config.model, arm, config.seed, config, _name_run(config, {**recipe, "asks": asked}), asks=asks
    )


def identify_path(path: str) -> str:
    """What a model or a file holds, by which runs are told apart."""
    return _identify_model(path) if Path(path).is_dir() else _identify_files(path)


def _folder_name(config: RunConfig, model: str, identify: Callable[[str], str]) -> str:
    """Who is trained how, for people, and a digest of the recipe in which files stand for what they hold.

    Args:
        config: the recipe.
        model: what its model holds.
        identify: gives what the files of a path hold.
    """
    recipe = config.model_dump(mode="json")
    recipe["model"] = model
    recipe["documents"] = [identify(path) for path in recipe["documents"]]
    for key in ("qa", "paraphrases"):
        if isinstance(recipe[key], str) and recipe[key] != NO_QUESTIONS:
            recipe[key] = identify(recipe[key])
    if recipe["evaluate"]["apart"] is not None:
        recipe["evaluate"]["apart"] = identify(recipe["evaluate"]["apart"])
    if recipe["retain"]["data"] is not None:
        recipe["retain"]["data"] = identify(recipe["retain"]["data"])
    return _name_run(config, recipe)


def _name_run(config: TaskConfig, recipe: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9.]+", "-", Path(config.model).name).strip("-.") or "model"
    return f"{name}-{config.objective.name}-seed-{config.seed}-{digest}"


def _identify_model(name: str) -> str:
    """What the name of a model stands for; the name itself where that is one model for good, or unknown."""
    from demask.models.embedded import EMBEDDED
    from demask.models.fingerprints import fingerprint_model
    from demask.models.formats import OLLAMA, find_ollama
    from demask.models.load import load_architecture

    if name == EMBEDDED:  # its weights are checked against one sha256
        return name
    if Path(name).exists():
        return fingerprint_model(name) or name
    try:
        if name.startswith(OLLAMA):
            return fingerprint_model(str(find_ollama(name))) or name
        commit = getattr(load_architecture(name), "_commit_hash", None)
    except DemaskError:  # which the cells will say
        return name
    return fingerprint_model(name, commit) or name


def _identify_files(path: str) -> str:
    """What the files of a path hold; the path itself where there are none, as of a data set on the hub."""
    from demask.models.fingerprints import digest_file

    if Path(path).name in PARAPHRASE_FILES.values() and not Path(path).exists():
        return "none"  # wherever the set lies that has none
    try:
        if Path(path).is_file():
            return digest_file(Path(path))
        sources = find_sources(path).sources
        held = [[source.name, source.kind, digest_file(Path(source.path))] for source in sources]
    except (DemaskError, OSError):  # which the cells will say
        return path
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()
