"""Run the cells of a grid, each in a process of its own: what is done is skipped, what fails is written down.

    outcome = run_cells(cells, Path("out/cells"), slots=[0, 1], watch=table)
    run_here(cells, Path("quickstart"), progress)         # a few, one after the other in this process

A cell that fails, or that is killed for its memory, takes no other with it. A grid that was killed goes on
with the same command: cells that are done stay, and one that was cut short goes on at its last checkpoint.
"""

import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from demask.comparison.grid import Asks, Cell, distinct_cells
from demask.environment import count_cores
from demask.errors import DemaskError
from demask.openmp import share_cores
from demask.progress import Forwarding, Progress, forward
from demask.recipe.fine_tuning import SftConfig, make_task_config
from demask.recipe.sections import Evaluate, RunConfig
from demask.signals import end_with_parent
from demask.storage import file_names
from demask.storage.atomic import write_text
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.tasks.inject import Injected

# Imported once, in the process that the others are forked from: it takes 6 s (docs/benchmarks.md). Not peft,
# which takes 1.5 s more and which cells of LoRA alone need.
_PRELOADED = (
    "torch",
    "transformers.models.auto.modeling_auto",
    "scipy.stats",
    "demask.tasks.inject",
    "demask.models.load",
    "demask.training.trainer",
    "demask.training.export",
    "demask.generation.answers",
)
# Its weights are removed when a cell is done, unless they are wanted: 0.5 GB at 135M, for every cell.
_HEAVY = (file_names.MODEL, file_names.ADAPTER)


class Watch(Protocol):
    """Told of processes; those that only ask a base model are no cells."""

    def started(self, name: str) -> Progress:
        """A process works on it; what is returned is told how far it is."""

    def ended(self, name: str, reason: str, *, is_cell: bool) -> None:
        """It is done, or has failed for a reason."""


class Outcome(NamedTuple):
    """How many cells are done, and why the others are not, by the folder of the cell."""

    done: int
    failed: dict[str, str]


class _Job(NamedTuple):
    """What a process does.

    Attributes:
        config: of the run, as in a recipe.
        folder: of the run; None: only evaluate the base model, whose predictions every cell then finds.
        log: gets what is printed.
        gpu: its number, None where there is none.
        keep_models: whether trained weights stay.
        asks: what the trained model is asked besides.
    """

    config: Mapping[str, Any]
    folder: Path | None
    log: Path
    gpu: int | None
    keep_models: bool
    asks: Asks | None = None


@dataclass
class _Running:
    cell: Cell
    name: str
    job: _Job
    process: Any
    link: "Connection[Any, Any]"
    progress: Progress


def find_slots(device: str, jobs: int | None) -> list[int | None]:
    """A place to work for each process: the number of its GPU, or None.

    Args:
        device: as in a recipe.
        jobs: processes at a time on each GPU, or on the processor; None: one.
    """
    import torch

    gpus = 0 if device == "cpu" or not torch.cuda.is_available() else torch.cuda.device_count()
    places: list[int | None] = list(range(gpus)) or [None]
    return places * (jobs or 1)


def run_here(cells: Sequence[Cell], folder: Path, progress: Progress) -> "dict[str, Injected]":
    """Run the cells one after the other in this process; the runs by the folders of their cells."""
    from demask.tasks.inject import run_recipe

    done = {}
    for cell in cells:
        assert isinstance(cell.config, RunConfig), "fine-tuning runs in processes"
        progress.say(f"[{cell.arm}, seed {cell.seed}]")
        done[cell.folder] = run_recipe(cell.config, folder / cell.folder, progress=progress)
    return done


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    *,
    slots: Sequence[int | None],
    watch: Watch,
    keep_models: bool = False,
) -> Outcome:
    """Run what is not done yet, in processes.

    Args:
        cells: some may share a folder; they are one run.
        folder: of all cells.
        slots: places to work, see `find_slots`.
        watch: told of everything.
        keep_models: whether trained weights stay; they take most of the room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    workers = _Workers(folder, list(slots), watch, keep_models)
    unique = distinct_cells(cells)
    left = [cell for cell in unique if not cell.problem and not cell.is_done(folder)]
    for cell in unique:
        if cell.problem:
            workers.fail(cell, cell.problem)
    asked = {(c.model, c.config.qa): c for c in left if isinstance(c.config, RunConfig) and c.config.qa}
    if len(left) > 1:
        workers.run(list(asked.values()), base_only=True)
    workers.run(left, base_only=False)
    return Outcome(sum(cell.is_done(folder) for cell in unique), workers.failed)


class _Workers:
    """The processes at work."""

    def __init__(self, folder: Path, slots: list[int | None], watch: Watch, keep_models: bool) -> None:
        self._folder, self._free, self._watch, self._keep = folder, slots, watch, keep_models
        self.failed: dict[str, str] = {}
        self._context = _start_fork_server(len(slots))

    def run(self, cells: Sequence[Cell], *, base_only: bool) -> None:
        """All of them, as many at a time as there are slots."""
        waiting, running = list(cells), list[_Running]()
        try:
            while waiting or running:
                while waiting and self._free:
                    running.append(self._start(waiting.pop(0), self._free.pop(0), base_only=base_only))
                wait([one for r in running for one in (r.link, r.process.sentinel)])
                for one in running:
                    _listen(one)
                for one in [one for one in running if one.process.exitcode is not None]:
                    running.remove(one)
                    self._end(one)
        finally:
            for one in running:
                one.process.kill()

    def fail(self, cell: Cell, reason: str) -> None:
        """Write down why a cell has no result."""
        self.failed[cell.folder] = reason
        write_text(self._file(cell, "failed.json"), json.dumps({"reason": reason}) + "\n")

    def _file(self, cell: Cell, ending: str) -> Path:
        return self._folder / f"{cell.folder}.{ending}"

    def _start(self, cell: Cell, slot: int | None, *, base_only: bool) -> _Running:
        if not base_only:
            self._file(cell, "failed.json").unlink(missing_ok=True)
        job = _Job(
            config=cell.config.model_dump(mode="json"),
            folder=None if base_only else self._folder / cell.folder,
            log=self._file(cell, "base.log" if base_only else "log"),
            gpu=slot,
            keep_models=self._keep,
            asks=cell.asks,
        )
        here, there = self._context.Pipe()
        process = self._context.Process(target=_do, args=(job, there), daemon=True)
        process.start()
        there.close()
        name = f"{cell.model}, {'base model' if base_only else f'{cell.arm}, seed {cell.seed}'}"
        return _Running(cell, name, job, process, here, self._watch.started(name))

    def _end(self, one: _Running) -> None:
        one.process.join()
        one.link.close()
        self._free.append(one.job.gpu)
        reason = _why(one.process.exitcode, one.job.log)
        if one.job.folder and reason:
            self.fail(one.cell, reason)
        if not reason:
            one.job.log.unlink(missing_ok=True)
        self._watch.ended(one.name, reason, is_cell=one.job.folder is not None)


def _listen(one: _Running) -> None:
    """Hand on what a process has told of its progress."""
    try:
        while one.link.poll():
            forward(one.progress, *one.link.recv())
    except (EOFError, OSError):  # it has ended, which its sentinel says, too
        return


def _why(exit_code: int, log: Path) -> str:
    """Why a process ended; empty when it has done its work."""
    if exit_code == 0:
        return ""
    if exit_code < 0:
        return f"killed by signal {-exit_code}" + ("; was there enough memory?" if exit_code == -9 else "")
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else f"ended with exit code {exit_code} and without a word"


def _start_fork_server(jobs: int) -> Any:
    """Where processes come from; each may use its share of the cores."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, count_cores() // jobs)))
    # Counting GPUs by the driver's own library leaves CUDA to the processes that are forked.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context


def _do(job: _Job, link: "Connection[Any, Any]") -> None:
    """Do a job in this process; exits with 1, the reason last in the log, when it cannot be done."""
    end_with_parent()
    share_cores()  # a forked process has none of its parent's threads
    with job.log.open("a", encoding="utf-8", buffering=1) as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        if job.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = name_gpu(job.gpu, os.environ.get("CUDA_VISIBLE_DEVICES"))
        try:
            _work(job, Forwarding(partial(_send, link)))
        except DemaskError as error:
            sys.stderr.write(f"{error}\n")
            sys.exit(1)


def name_gpu(number: int, visible: str | None) -> str:
    """What CUDA calls a GPU, by its number among those that are visible here."""
    return visible.split(",")[number].strip() if visible else str(number)


def _work(job: _Job, progress: Progress) -> None:
    from demask.tasks.fine_tune import run_sft
    from demask.tasks.inject import run_recipe

    config = make_task_config(job.config, source="cell")
    if isinstance(config, SftConfig):
        assert job.folder is not None, "only questions of documents are asked beforehand"
        run_sft(config, job.folder, progress=progress)
        ask_cell(RunFolder(job.folder), job.asks, config.device, progress)
    elif job.folder is None:
        _evaluate_base(config, progress)
        return
    else:
        run_recipe(config, job.folder, progress=progress)
    for name in () if job.keep_models else _HEAVY:
        shutil.rmtree(job.folder / name, ignore_errors=True)


def ask_cell(run: RunFolder, asks: Asks | None, device: str, progress: Progress) -> None:
    """Ask the trained model of a run of fine-tuning; leaves its predictions in the run folder."""
    from demask.knowledge.files import load_qa_pairs
    from demask.stages.loading import load_once
    from demask.stages.predictions import ask_stage

    if asks is None:
        return
    settings = Evaluate(max_new_tokens=asks.max_new_tokens, batch_size=asks.batch_size)
    load = load_once(str(run.file(file_names.MODEL)), device=device, progress=progress)
    pairs = load_qa_pairs(asks.file, documents=None)
    ask_stage(run, "after", load=load, pairs=pairs, settings=settings, progress=progress)


def _evaluate_base(config: RunConfig, progress: Progress) -> None:
    """Ask floor and ceiling once; every run with this model finds the answers."""
    from demask.models.load import load_model
    from demask.stages.documents import keep_knowledge, read_knowledge, settle_knowledge
    from demask.stages.passages import split_stage
    from demask.stages.predictions import ask_base
    from demask.stages.questions import question_stage

    load = cache(partial(load_model, config.model, device=config.device))
    with TemporaryDirectory(prefix="demask-") as folder:
        run = RunFolder(Path(folder))
        read = RunFolder(Path(folder) / "read")
        settled = settle_knowledge(config, read_knowledge(config, read), read, progress)
        knowledge = keep_knowledge(run, settled)
        pairs = question_stage(config, run, knowledge, progress)
        passages = split_stage(config, run, knowledge, load, progress)
        ask_base(config, run, pairs, knowledge.documents, passages, load, progress)


def _send(link: "Connection[Any, Any]", call: str, arguments: dict[str, Any]) -> None:
    """Tell the process that started this one; remarks go to the log."""
    if call == "say":
        sys.stdout.write(f"{arguments['text']}\n")
    else:
        link.send((call, arguments))
