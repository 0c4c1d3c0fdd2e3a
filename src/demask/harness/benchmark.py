"""Models on the field's own benchmarks: lm-evaluation-harness, one line of Python.

    found = run_benchmark(["embedded", "runs/first"], ["gsm8k", "svamp", "arc_easy"], out=Path("benchmark"))
    found.results, found.differences

The first model is the baseline that the others are compared with, question by question. The harness computes
likelihoods and writes answers with its own code (`HFLM`), on the weights and the chat template that demask
loads; so figures are those of its command, `lm_eval --tasks`, for the same folder.
"""

import gc
import hashlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demask.environment import describe_environment
from demask.errors import ConfigError, ModelError, RunError
from demask.harness.results import (
    Benchmarked,
    Difference,
    ResultStore,
    TaskResult,
    collect_results,
    compare_results,
    correct_differences,
)
from demask.harness.tasks import Asking, Given, PlannedTask, ReadyTask, load_task, plan_task, set_seeds
from demask.models.load import choose_device, load_architecture, load_model, locate_model
from demask.progress import Progress, Silent
from demask.storage.locks import holding
from demask.storage.run_folder import trained_model

if TYPE_CHECKING:
    from demask.models.load import LoadedModel

# For metrics that are no means; of means the harness computes the standard error in closed form.
BOOTSTRAPS = 1_000
_METHODS = ("loglikelihood", "loglikelihood_rolling", "generate_until")


@dataclass(frozen=True)
class AskedModel:
    """A model as demask loads it and as the harness asks it."""

    loaded: "LoadedModel"
    harness: Any  # lm_eval's HFLM


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
    folder = Path(locate_model(source))
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


class _Ticks:
    """What the harness tells of every answer, for its cache; here only counted.

    A batch is told at its end, answer by answer; told on one by one, the first would seem to have taken as
    long as all of them.
    """

    def __init__(self, advance: Callable[[int], None], batch_size: int) -> None:
        self._advance, self._batch_size, self._waiting = advance, batch_size, 0

    def add_partial(self, method: str, request: object, answer: object) -> None:
        """One more answer is there."""
        self._waiting += 1
        if self._waiting >= self._batch_size:
            self.tell()

    def tell(self) -> None:
        """Report what has not been reported."""
        self._advance(self._waiting)
        self._waiting = 0


def open_model(name: str, asking: Asking) -> AskedModel:
    """A model for the harness.

    On a GPU the weights stay in the dtype that they are stored in, as with the harness' command; on
    a processor they are float32.

    Raises:
        ModelError: it cannot be loaded, or is a masked-diffusion model.
        RunError: the run of this name has no trained model.
    """
    import torch

    dtype = None if choose_device(asking.device).type == "cuda" else torch.float32
    loaded = load_model(trained_model(name), device=asking.device, dtype=dtype)
    if loaded.diffusion is not None:
        raise ModelError(
            f"{name}: a masked-diffusion model, and the harness asks next-token models; use 'demask evaluate'"
        )
    with hushed():
        from lm_eval.models.huggingface import HFLM

        harness = HFLM(
            pretrained=loaded.model,
            tokenizer=loaded.tokenizer,
            max_length=loaded.context,
            batch_size=asking.batch_size,
        )
    return AskedModel(loaded, harness)


def ask_task(asked: AskedModel, ready: ReadyTask, asking: Asking, progress: Progress) -> Mapping[str, Any]:
    """Ask a model the questions of a task; sets the seeds of all random generators.

    Returns:
        What `lm_eval.evaluate` returns, with `samples`.

    Raises:
        ConfigError: answers may be as long as the model's context.
    """
    import lm_eval

    set_seeds(asking.seed)
    tasks = ready.loaded["tasks"]
    for name, task in tasks.items():
        _set_generation(name, task, asking, asked.loaded.context)
        task.set_fewshot_seed(seed=1234 if asking.seed is None else asking.seed)
        if asking.shots is not None:
            task.set_config(key="num_fewshot", value=asking.shots)
    names = f"{asked.loaded.name}: {ready.planned.name}"
    restore = [_tell(asked.harness, method, names, progress) for method in _METHODS]
    try:
        with hushed():
            found: Mapping[str, Any] = lm_eval.evaluate(
                lm=asked.harness,
                task_dict=ready.loaded,
                limit=asking.limit,
                bootstrap_iters=BOOTSTRAPS,
                apply_chat_template=not asking.raw,
                fewshot_as_multiturn=not asking.raw,
            )
    finally:
        for undo in restore:
            undo()
    return found


def count_cut(asked: AskedModel, samples: list[Mapping[str, Any]]) -> int:
    """Questions whose prompt did not fit the model's context: the harness cuts its beginning off."""
    cut = set()
    for sample in samples:
        if sample["doc_id"] not in cut and any(_is_cut(asked.harness, each) for each in sample["arguments"]):
            cut.add(sample["doc_id"])
    return len(cut)


def _is_cut(harness: Any, arguments: tuple[Any, ...]) -> bool:
    if len(arguments) < 2:  # running text, which is read in windows
        return False
    prompt, rest = arguments[:2]
    if isinstance(rest, str):
        # The last token is only predicted.
        return len(harness.tok_encode(prompt + rest)) > int(harness.max_length) + 1
    room = int(rest.get("max_gen_toks", harness.max_gen_toks))
    return len(harness.tok_encode(prompt)) > int(harness.max_length) - room


def _set_generation(name: str, task: Any, asking: Asking, context: int) -> None:
    if task.get_config("output_type") != "generate_until":
        return
    if asking.max_new_tokens is not None:
        task.set_config(key="generation_kwargs", value={"max_gen_toks": asking.max_new_tokens}, update=True)
    room = int((task.get_config("generation_kwargs") or {}).get("max_gen_toks", 256))  # HFLM's own default
    if room >= context:
        raise ConfigError(
            f"{name}: answers may have {room} tokens, and the model was made for {context}, prompt included; "
            "set a smaller --max-new-tokens"
        )


def _tell(harness: Any, method: str, names: str, progress: Progress) -> Callable[[], None]:
    """Have a method of the harness report to our progress in place of its own bars."""
    own = getattr(harness, method)

    def told(requests: list[Any]) -> Any:
        progress.begin(names, len(requests))
        ticks = _Ticks(progress.advance, harness.batch_size)
        harness.set_cache_hook(ticks)
        answers = own(requests, disable_tqdm=True)
        ticks.tell()
        return answers

    setattr(harness, method, told)
    return lambda: setattr(harness, method, own)


@contextmanager
def hushed() -> Iterator[None]:
    """Nothing printed, logged or drawn by the harness and `datasets`; its warnings quote questions."""
    import datasets
    import lm_eval.api.task

    log, bars = logging.getLogger("lm_eval"), datasets.is_progress_bar_enabled()
    level, tqdm = log.level, lm_eval.api.task.tqdm
    log.setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    lm_eval.api.task.tqdm = lambda rows, **_: rows
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        lm_eval.api.task.tqdm = tqdm
        log.setLevel(level)
        if bars:
            datasets.enable_progress_bars()
