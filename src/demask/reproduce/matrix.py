"""The cells of a comparison: model x arm x seed, each an ordinary recipe with a folder of its own.

    matrix = make_cells(order, arms, data)
    write_matrix(matrix, out)                  # matrix.json, which tables are made from

The folder of a cell is named by its recipe and by what the files hold that it reads. So a changed recipe or
changed data never meets an old run, and cells that several comparisons share are run once.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from demask.benchmarks.benchmark import PARAPHRASE_FILES, Benchmark
from demask.config import DEFAULT_EPOCHS, Demasking, RunConfig, make_config
from demask.errors import DemaskError
from demask.recipe_file import merge_values
from demask.reproduce.arms import Arm
from demask.rundir import DOCUMENTS, QA_PAIRS, RunFolder

if TYPE_CHECKING:
    from demask.records import Passage
    from demask.training.sampler import ExposureStream

Budget = Literal["steps", "tokens"]

CELLS = "cells"
DATA = "data"


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
class PlannedCell:
    """One run that is to be made.

    Attributes:
        folder: of the run, relative to the folder of all cells.
        problem: why it cannot be run; empty when it can.
    """

    model: str
    arm: str
    seed: int
    config: RunConfig
    folder: str
    problem: str = ""


def make_cells(
    order: Order, arms: Sequence[Arm], benchmark: Benchmark, data: Path
) -> tuple[PlannedCell, ...]:
    """Every cell with its recipe.

    Args:
        order: what is compared.
        arms: ways to train.
        benchmark: what is taught.
        data: folder that `write_benchmark` has filled with it.

    Raises:
        ConfigError: a recipe is not what it should be.
    """
    contents = {str(file): _digest(file) for file in sorted(data.glob("*.jsonl"))}
    contents |= {str(data / name): "none" for name in PARAPHRASE_FILES.values() if not (data / name).exists()}
    cells: list[PlannedCell] = []
    for model in order.models:
        first: RunConfig | None = None
        for arm in arms:
            config = _recipe(order, arm, benchmark, data, model)
            problem = ""
            if arm.paraphrases and not (data / PARAPHRASE_FILES[arm.paraphrases]).exists():
                problem = f"{benchmark.name} has no paraphrases ({PARAPHRASE_FILES[arm.paraphrases]})"
            elif order.budget == "tokens" and first is not None:
                config = _with_train(config, steps=_as_many_tokens(config, first))
            first = first or config
            cells += [
                PlannedCell(model, arm.name, seed, made, _folder_name(made, contents), problem)
                for seed in order.seeds
                for made in [config.model_copy(update={"seed": seed})]
            ]
    return tuple(cells)


def write_matrix(
    cells: Sequence[PlannedCell],
    folder: Path,
    *,
    benchmark: Benchmark,
    ablation: str | None,
    budget: Budget,
    cells_folder: str,
) -> None:
    """Say which run stands behind each number.

    Args:
        cells: of the comparison.
        folder: gets `matrix.json`.
        benchmark: what is taught.
        ablation: its name, None for the comparison of arms.
        budget: what all arms have as much of.
        cells_folder: of all runs, relative to `folder`.
    """
    RunFolder(folder).write_json(
        "matrix.json",
        {
            "benchmark": benchmark.name,
            "facts": len(benchmark.documents),
            "ablation": ablation,
            "budget": budget,
            "cells": [
                {
                    "model": cell.model,
                    "arm": cell.arm,
                    "seed": cell.seed,
                    "folder": f"{cells_folder}/{cell.folder}",
                }
                for cell in cells
            ],
        },
    )


def _recipe(order: Order, arm: Arm, benchmark: Benchmark, data: Path, model: str) -> RunConfig:
    """Of all seeds of an arm."""
    shared: dict[str, Any] = {
        "model": model,
        "documents": [str(data / DOCUMENTS)],
        "qa": str(data / QA_PAIRS),
        "preset": order.preset,
        "train": {"evaluate_every": "doubling"},
        "evaluate": {"shots": 2},
    }
    if arm.paraphrases:
        shared["paraphrases"] = str(data / PARAPHRASE_FILES[arm.paraphrases])
    values = merge_values(merge_values(shared, order.settings or {}), arm.recipe)
    config = make_config(values, source=f"arm {arm.name}")
    if config.train.steps is None:
        texts = len(benchmark.documents)
        exposures = order.exposures or config.train.epochs or DEFAULT_EPOCHS
        copies = config.objective.copies if isinstance(config.objective, Demasking) else 1
        batch = min(config.train.batch_size, texts * copies)
        config = _with_train(
            config, batch_size=batch, epochs=None, steps=math.ceil(exposures * texts / batch)
        )
    if arm.rate != 1.0:
        rate = arm.rate * _default_rate(config)
        config = _with_train(config, learning_rate=rate)
    return config


def _with_train(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def _default_rate(config: RunConfig) -> float:
    from demask.models.load import count_parameters
    from demask.training.plan import choose_learning_rate

    with _reading(config) as stream:  # which may have fewer examples in a step than the recipe asks for
        batch_size = stream.batch_size
    return choose_learning_rate(
        config.train, parameters=count_parameters(config.model), batch_size=batch_size
    )


def _as_many_tokens(config: RunConfig, first: RunConfig) -> int:
    """Steps in which an arm trains on as many tokens as the first arm does; its own where it cannot train."""
    steps = config.train.steps or 1
    try:
        wanted = (first.train.steps or 1) * tokens_per_step(first)
        return max(1, round(wanted / tokens_per_step(config)))
    except DemaskError:  # which the arm's cells will say
        return steps


def tokens_per_step(config: RunConfig) -> float:
    """Mean over one pass through all texts; prompts included."""
    with _reading(config) as stream:
        looked = min(len(stream), max(len(stream.lengths), stream.batch_size))
        return sum(len(stream[place].token_ids) for place in range(looked)) / looked * stream.batch_size


@contextmanager
def _reading(config: RunConfig) -> "Iterator[ExposureStream[Passage]]":
    """Every exposure of a run, as long as the block lasts."""
    from tempfile import TemporaryDirectory

    from demask.progress import Silent
    from demask.stages.planning import read_setting

    with TemporaryDirectory(prefix="demask-") as folder:
        yield read_setting(config, RunFolder(Path(folder)), Silent()).stream


def _folder_name(config: RunConfig, contents: Mapping[str, str]) -> str:
    """Who is trained how, for people, and a digest of the recipe in which files stand for what they hold."""
    recipe = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    for file, digest in contents.items():
        recipe = recipe.replace(json.dumps(file), json.dumps(digest))
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:8]
    return f"{slug(config.model)}-{config.objective.name}-seed-{config.seed}-{digest}"


def slug(model: str) -> str:
    """A model's name as part of a folder's."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", Path(model).name).strip("-.") or "model"


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
