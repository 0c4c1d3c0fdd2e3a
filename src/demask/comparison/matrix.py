"""The cells of a comparison: model x arm x seed, each an ordinary recipe with a folder of its own.

    matrix = make_cells(order, arms, data)
    write_matrix(matrix, out)                  # matrix.json, which tables are made from

The folder of a cell is named by its recipe and by what the files hold that it reads: texts, questions and
the folder of a model. So a changed recipe, changed data or a model that was trained again never meets an old
run, and cells that several comparisons share are run once.
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
from demask.comparison.arms import Arm
from demask.documents.paths import find_sources
from demask.errors import DemaskError
from demask.progress import Progress
from demask.recipe.file import merge_values
from demask.recipe.launch import ALONE
from demask.recipe.sections import DEFAULT_EPOCHS, NO_QUESTIONS, RunConfig, make_config
from demask.storage.file_names import DOCUMENTS, QA_PAIRS
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.records import Sample
    from demask.training.stream import ExposureStream

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
class Contents:
    """What the files behind a recipe hold, each of them read once.

    Attributes:
        model: what is trained: a digest of its files, or a name.
        digests: by path, those that have been asked for; files that a set does not have are `none`.
    """

    model: str
    digests: dict[str, str]

    def identify(self, path: str) -> str:
        """A digest of the files that a path stands for; the path itself where there are none."""
        if path not in self.digests:
            self.digests[path] = _identify_files(path)
        return self.digests[path]


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
    digests = {str(data / name): "none" for name in PARAPHRASE_FILES.values() if not (data / name).exists()}
    cells: list[PlannedCell] = []
    for model in order.models:
        contents = Contents(_identify_model(model), digests)
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
        # A cell's own tables are of accuracy; `--set measure=brief` adds the rest to each cell's report.
        "measure": "none",
    }
    if arm.paraphrases:
        shared["paraphrases"] = str(data / PARAPHRASE_FILES[arm.paraphrases])
    values = merge_values(merge_values(shared, order.settings or {}), arm.recipe)
    config = make_config(values, source=f"arm {arm.name}")
    if config.train.steps is None:
        texts = len(benchmark.documents)
        exposures = order.exposures or config.train.epochs or DEFAULT_EPOCHS
        copies = config.objective.together
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
        config.train,
        parameters=count_parameters(config.model),
        batch_size=batch_size,
        rate_share=config.objective.rate_share,
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


def time_steps(config: RunConfig, progress: Progress) -> float | None:
    """Tokens per second of a few real steps, which are thrown away; None where the model does not fit."""
    from demask.stages.measuring import measure_cost

    with _reading(config) as stream:
        cost = measure_cost(config, stream, launch=ALONE, progress=progress)
    return cost.tokens_per_second if cost.steps else None


@contextmanager
def _reading(config: RunConfig) -> "Iterator[ExposureStream[Sample]]":
    """Every exposure of a run, as long as the block lasts."""
    from tempfile import TemporaryDirectory

    from demask.progress import Silent
    from demask.stages.planning import read_setting

    with TemporaryDirectory(prefix="demask-") as folder:
        yield read_setting(config, RunFolder(Path(folder)), Silent()).stream


def _folder_name(config: RunConfig, contents: Contents) -> str:
    """Who is trained how, for people, and a digest of the recipe in which files stand for what they hold."""
    recipe = config.model_dump(mode="json")
    recipe["model"] = contents.model
    recipe["documents"] = [contents.identify(path) for path in recipe["documents"]]
    for key in ("qa", "paraphrases"):
        if isinstance(recipe[key], str) and recipe[key] != NO_QUESTIONS:
            recipe[key] = contents.identify(recipe[key])
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:8]
    return f"{slug(config.model)}-{config.objective.name}-seed-{config.seed}-{digest}"


def slug(model: str) -> str:
    """A model's name as part of a folder's."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", Path(model).name).strip("-.") or "model"


def _identify_model(name: str) -> str:
    """What the name of a model stands for; the name itself where that is one model for good, or unknown."""
    from demask.models.embedded import EMBEDDED
    from demask.models.fingerprints import fingerprint_model
    from demask.models.load import load_architecture

    if name == EMBEDDED:  # its weights are checked against one sha256
        return name
    if Path(name).is_dir():
        return fingerprint_model(name) or name
    try:
        commit = getattr(load_architecture(name), "_commit_hash", None)
    except DemaskError:  # which the cells will say
        return name
    return fingerprint_model(name, commit) or name


def _identify_files(path: str) -> str:
    """What the files of a path hold; the path itself where there are none, as of a data set on the hub."""
    from demask.models.fingerprints import digest_file

    try:
        if Path(path).is_file():
            return digest_file(Path(path))
        sources = find_sources(path).sources
        held = [[source.name, source.kind, digest_file(Path(source.path))] for source in sources]
    except (DemaskError, OSError):  # which the cells will say
        return path
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()
