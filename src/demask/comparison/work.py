"""What a process of its own does: one cell, or the questions to the base model.

It talks to the process that started it through a pipe, and ends when that one is gone.
"""

import os
import shutil
import sys
import threading
from collections.abc import Mapping
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from demask.errors import DemaskError
from demask.openmp import share_cores
from demask.progress import Progress
from demask.recipe.sections import RunConfig, make_config
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.models.load import LoadedModel

# Its weights are removed when a cell is done, unless they are wanted: 0.5 GB at 135M, for every cell.
_HEAVY = (file_names.MODEL, file_names.ADAPTER)


class Job(NamedTuple):
    """What to do.

    Attributes:
        config: of the run, as in a recipe.
        folder: of the run; None: only ask the base model, whose answers every cell then finds.
        log: gets what is printed.
        device: number of the GPU, None where there is none.
        keep_models: whether trained weights stay.
    """

    config: Mapping[str, Any]
    folder: Path | None
    log: Path
    device: int | None
    keep_models: bool


class Told(NamedTuple):
    """What the parent hears: how far a stage is."""

    stage: str
    done: int
    total: int
    note: str


def do(job: Job, link: "Connection[Any, Any]") -> None:
    """Do a job in this process; exits with 1, the reason last in the log, when it cannot be done."""
    threading.Thread(target=_end_with_parent, args=(link,), daemon=True).start()
    share_cores()  # a forked process has none of its parent's threads
    with job.log.open("a", encoding="utf-8", buffering=1) as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        if job.device is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = name_gpu(job.device, os.environ.get("CUDA_VISIBLE_DEVICES"))
        try:
            _work(job, _Reporter(link))
        except DemaskError as error:
            sys.stderr.write(f"{error}\n")
            sys.exit(1)


def name_gpu(number: int, visible: str | None) -> str:
    """What CUDA calls a GPU, by its number among those that are visible here."""
    return visible.split(",")[number].strip() if visible else str(number)


def _work(job: Job, progress: Progress) -> None:
    from demask.pipeline import run_recipe

    config = make_config(job.config, source="cell")
    if job.folder is None:
        ask_untouched(config, progress)
        return
    run_recipe(config, job.folder, progress=progress)
    for name in () if job.keep_models else _HEAVY:
        shutil.rmtree(job.folder / name, ignore_errors=True)


def ask_untouched(config: RunConfig, progress: Progress) -> None:
    """Ask floor and ceiling once; every run with this model finds the answers."""
    from demask.models.load import load_model
    from demask.stages.asking import ask_base
    from demask.stages.inputs import split_stage
    from demask.stages.questions import question_stage
    from demask.stages.reading import keep_knowledge, read_knowledge

    @cache
    def load() -> "LoadedModel":
        return load_model(config.model, device=config.device)

    with TemporaryDirectory(prefix="demask-") as folder:
        run = RunFolder(Path(folder))
        knowledge = keep_knowledge(run, read_knowledge(config, run))
        pairs = question_stage(config, run, knowledge, progress)
        passages = split_stage(config, run, knowledge, load, progress)
        ask_base(config, run, pairs, knowledge.documents, passages, load, progress)


def _end_with_parent(link: "Connection[Any, Any]") -> None:
    try:
        link.recv()
    except (EOFError, OSError):
        os._exit(1)  # nobody would hear; the run goes on where it is when it is started again


class _Reporter:
    """A progress that is told to the parent."""

    def __init__(self, link: "Connection[Any, Any]") -> None:
        self._link = link
        self._told = Told("", 0, 0, "")

    def begin(self, stage: str, total: int, *, done: int = 0) -> None:
        self._send(Told(stage, done, total, ""))

    def advance(self, parts: int = 1, note: str = "") -> None:
        self._send(self._told._replace(done=self._told.done + parts, note=note))

    def say(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")

    def _send(self, told: Told) -> None:
        self._told = told
        self._link.send(tuple(told))
