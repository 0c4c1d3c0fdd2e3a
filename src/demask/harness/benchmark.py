"""Models on the field's own benchmarks: lm-evaluation-harness, one line of Python.

    found = run_benchmark(["embedded", "runs/first"], ["gsm8k", "svamp", "arc_easy"], out=Path("benchmark"))
    found.results, found.differences

The first model is the baseline that the others are compared with, question by question.
"""

import gc
import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from demask.environment import describe_environment
from demask.errors import ConfigError, RunError
from demask.harness.asking import AskedModel, Asking, ask_task, count_cut, hushed, open_model
from demask.harness.local_data import Given
from demask.harness.results import (
    Difference,
    TaskResult,
    collect_results,
    compare_results,
    correct_differences,
)
from demask.harness.stored import ResultStore
from demask.harness.tasks import PlannedTask, ReadyTask, load_task, plan_task
from demask.models.embedded import EMBEDDED, fetch_embedded_model
from demask.models.load import load_architecture
from demask.progress import Progress, Silent
from demask.storage.locks import holding
from demask.storage.run_folder import trained_model


@dataclass(frozen=True)
class Benchmarked:
    """What models scored.

    Attributes:
        results: by model and task, in the order they were given.
        differences: of every model from the first one.
        asking: how they were asked.
        environment: versions and machine.
    """

    results: tuple[TaskResult, ...]
    differences: tuple[Difference, ...]
    asking: Asking
    environment: Mapping[str, Any]


def run_benchmark(
    models: Sequence[str],
    tasks: Sequence[str],
    *,
    data: Given | None = None,
    asking: Asking | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Benchmarked:
    """Ask models the questions of lm-evaluation-harness; sets the seeds of all random generators.

    Args:
        models: run folders, model folders, hub names or `embedded`; the baseline first.
        tasks: the harness' own names, or `svamp`.
        data: files in place of the hub's, by task and split.
        asking: how.
        out: folder for figures and answers; what stands there with the same settings is not asked again.
        progress: told how far it is.

    Raises:
        ConfigError: a name stands twice or is unknown, or a setting does not fit.
        DataError: the questions of a task cannot be had.
        ModelError: a model cannot be loaded.
        RunError: a package is missing, the folder cannot be written, or another process works in it.
    """
    progress, asking = progress or Silent(), asking or Asking()
    _require_harness()
    for option, names in (("MODEL", models), ("--tasks", tasks)):
        _refuse_repeated(option, names)
    states = {model: _model_state(model) for model in models}
    with ExitStack() as stack:
        stack.enter_context(hushed())
        if out is not None and not out.is_file():  # which the store refuses
            stack.enter_context(holding(out))
        planned = [plan_task(name, (data or {}).get(name, {})) for name in tasks]
        settings = {
            (model, task.name): _settings(states[model], task, asking) for model in models for task in planned
        }
        store = ResultStore(out)
        found = {key: store.find(*key, value) for key, value in settings.items()}
        for model, task in (key for key in found if not found[key]):
            if store.other_settings(model, task):
                progress.say(f"{model}, {task}: stands in {out} with other settings; asked anew")
        wanted = [task for task in planned if any(not found[model, task.name] for model in models)]
        ready = {task.name: _load(task, asking, stack) for task in wanted}
        environment = _describe()
        for model in models:
            todo = [task for name, task in ready.items() if not found[model, name]]
            for task, results in _ask_model(model, todo, asking, settings, progress):
                store.keep(results, environment)
                found[model, task] = results
        differences = _compare(models, tasks, found)
        store.conclude(differences, environment)
    results = [result for model in models for task in tasks for result in found[model, task]]
    return Benchmarked(tuple(results), tuple(differences), asking, environment)


def _require_harness() -> None:
    try:
        import datasets  # noqa: F401
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise RunError(
            f"lm-evaluation-harness is not installed ({error}); pip install 'demask[lm-eval]'"
        ) from error


def _refuse_repeated(option: str, names: Sequence[str]) -> None:
    if not names:
        raise ConfigError(f"{option}: none is given, expected one or more")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{option}: {name!r} stands twice, expected once")


def _model_state(name: str) -> str:
    """What tells a folder from the same folder trained anew; a hub name is taken to stay what it is."""
    source = trained_model(name)
    load_architecture(source)  # a wrong name is found before the first model has been asked for an hour
    folder = fetch_embedded_model() if source == EMBEDDED else Path(source)
    if not folder.is_dir():
        return name
    files = sorted(path for path in folder.iterdir() if path.is_file())
    states = [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256("\n".join(states).encode()).hexdigest()


def _settings(state: str, task: PlannedTask, asking: Asking) -> dict[str, Any]:
    """All that a result depends on but for rounding."""
    return {
        "model": state,
        "data": dict(task.data) or "hub",
        "limit": asking.limit,
        "seed": asking.seed,
        "max_new_tokens": asking.max_new_tokens,
        "chat_template": not asking.raw,
        "shots": asking.shots,
        "lm_eval": metadata.version("lm_eval"),
    }


def _load(task: PlannedTask, asking: Asking, stack: ExitStack) -> ReadyTask:
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="demask-benchmark-"))
    return load_task(task, seed=asking.seed, scratch=Path(scratch))


def _ask_model(
    model: str,
    tasks: Sequence[ReadyTask],
    asking: Asking,
    settings: Mapping[tuple[str, str], Mapping[str, Any]],
    progress: Progress,
) -> Iterator[tuple[str, list[TaskResult]]]:
    """The name and the results of one task after the other; the model is loaded only when there is one."""
    asked: AskedModel | None = None
    for ready in tasks:
        asked = asked or open_model(model, asking)
        name = ready.planned.name
        raw = ask_task(asked, ready, asking, progress)
        cut = {task: count_cut(asked, samples) for task, samples in raw["samples"].items()}
        yield name, collect_results(model, ready.planned, raw, settings[model, name], cut)
    if asked is not None:
        _free(asked)


def _free(asked: AskedModel) -> None:
    """Give the memory back before the next model is loaded; other references to this one are gone."""
    import torch

    weights: torch.nn.Module = asked.loaded.model
    weights.to("meta")
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _describe() -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in ("lm_eval", "datasets")}
    return describe_environment(harness=versions)


def _compare(
    models: Sequence[str], tasks: Sequence[str], found: Mapping[tuple[str, str], Sequence[TaskResult]]
) -> list[Difference]:
    """Every model but the first with the first, task by task."""
    return correct_differences(
        [
            difference
            for task in tasks
            for model in models[1:]
            for baseline, other in zip(found[models[0], task], found[model, task], strict=True)
            for difference in compare_results(baseline, other)
        ]
    )
