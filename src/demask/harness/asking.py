"""One model asked the questions of one task by lm-evaluation-harness.

    asked = open_model("runs/first", Asking(limit=100))
    found = ask_task(asked, ready, Asking(limit=100), progress)       # lm_eval's EvalResults

The harness computes likelihoods and writes answers with its own code (`HFLM`), on the weights and the chat
template that demask loads; so figures are those of its command, `lm_eval --tasks`, for the same folder.
"""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from demask.errors import ConfigError, ModelError
from demask.harness.tasks import ReadyTask, set_seeds
from demask.models.load import choose_device, load_model
from demask.progress import Progress
from demask.storage.run_folder import trained_model

if TYPE_CHECKING:
    from demask.models.load import LoadedModel

# For metrics that are no means; of means the harness computes the standard error in closed form.
BOOTSTRAPS = 1_000
_METHODS = ("loglikelihood", "loglikelihood_rolling", "generate_until")


@dataclass(frozen=True)
class Asking:
    """How models are asked.

    Attributes:
        limit: how many questions of each task, the first ones; None: all.
        seed: of examples that prompts show and of what tasks draw; None: the harness' own.
        batch_size: questions at a time.
        max_new_tokens: after which an answer is cut short; None: as each task has it.
        raw: without the chat template, for models that have not learned one.
        shots: few-shot examples in each prompt; None: as many as the task has.
        device: `auto`, `cpu` or `cuda`.
    """

    limit: int | None = None
    seed: int | None = None
    batch_size: int = 8
    max_new_tokens: int | None = None
    raw: bool = False
    shots: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class AskedModel:
    """A model as demask loads it and as the harness asks it."""

    loaded: "LoadedModel"
    harness: Any  # lm_eval's HFLM


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
