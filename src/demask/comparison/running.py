"""Run the cells of a comparison, several at a time: what is done is skipped, what fails is written down.

    outcome = run_cells(cells, Path("out/cells"), slots=[0, 1], watch=table)

Each cell has a process of its own, so that one that fails, or that is killed for its memory, takes no other
with it. A matrix that was killed goes on with the same command: cells that are done stay, and one that was
cut short goes on at its last checkpoint.
"""

import json
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from demask.comparison.matrix import PlannedCell
from demask.comparison.work import Job, Told, do
from demask.environment import count_cores
from demask.storage import file_names
from demask.storage.atomic import write_text
from demask.storage.run_folder import RunFolder

# Imported once, in the process that the others are forked from: it takes 6 s (docs/benchmarks.md).
_PRELOADED = (
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.trainer",
    "peft",
    "scipy.stats",
    "demask.pipeline",
    "demask.models.load",
    "demask.training.trainer",
    "demask.training.export",
    "demask.generation.answers",
)


class Watch(Protocol):
    """Told of cells; `None` stands for the questions to a base model."""

    def started(self, cell: PlannedCell, *, untouched: bool) -> None:
        """A process works on it."""

    def told(self, cell: PlannedCell, told: Told, *, untouched: bool) -> None:
        """It says how far it is."""

    def ended(self, cell: PlannedCell, reason: str, *, untouched: bool) -> None:
        """It is done, or has failed for a reason."""


@dataclass(frozen=True)
class Outcome:
    """How many cells are done, and why the others are not, by the folder of the cell."""

    done: int
    failed: dict[str, str]


@dataclass
class _Running:
    cell: PlannedCell
    untouched: bool
    slot: int | None
    process: Any
    link: "Connection[Any, Any]"
    log: Path


def distinct_cells(cells: Sequence[PlannedCell]) -> list[PlannedCell]:
    """Each run once, by the name of the first comparison that has it."""
    first: dict[str, PlannedCell] = {}
    for cell in cells:
        first.setdefault(cell.folder, cell)
    return list(first.values())


def is_done(cell: PlannedCell, folder: Path) -> bool:
    """Whether a run has left all that tables ask for."""
    run = RunFolder(folder / cell.folder)
    return run.has(file_names.SUMMARY) and run.has(file_names.REPORT_HTML)


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


def run_cells(
    cells: Sequence[PlannedCell],
    folder: Path,
    *,
    slots: Sequence[int | None],
    watch: Watch,
    keep_models: bool = False,
) -> Outcome:
    """Run what is not done yet.

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
    left = [cell for cell in unique if not cell.problem and not is_done(cell, folder)]
    for cell in unique:
        if cell.problem:
            workers.fail(cell, cell.problem)
    asked = {(c.model, c.config.qa): c for c in left if c.config.qa}
    if len(left) > 1:
        workers.run(list(asked.values()), untouched=True)
    workers.run(left, untouched=False)
    return Outcome(sum(is_done(cell, folder) for cell in unique), workers.failed)


class _Workers:
    """The processes at work."""

    def __init__(self, folder: Path, slots: list[int | None], watch: Watch, keep_models: bool) -> None:
        self._folder, self._free, self._watch, self._keep = folder, slots, watch, keep_models
        self.failed: dict[str, str] = {}
        self._context = start_fork_server(len(slots))

    def run(self, cells: Sequence[PlannedCell], *, untouched: bool) -> None:
        """All of them, as many at a time as there are slots."""
        waiting, running = list(cells), list[_Running]()
        try:
            while waiting or running:
                while waiting and self._free:
                    running.append(self._start(waiting.pop(0), self._free.pop(0), untouched=untouched))
                wait([one for r in running for one in (r.link, r.process.sentinel)])
                for one in running:
                    self._listen(one)
                for one in [one for one in running if one.process.exitcode is not None]:
                    running.remove(one)
                    self._end(one)
        finally:
            for one in running:
                one.process.kill()

    def fail(self, cell: PlannedCell, reason: str) -> None:
        """Write down why a cell has no result."""
        self.failed[cell.folder] = reason
        write_text(self._file(cell, "failed.json"), json.dumps({"reason": reason}) + "\n")

    def _file(self, cell: PlannedCell, ending: str) -> Path:
        return self._folder / f"{cell.folder}.{ending}"

    def _start(self, cell: PlannedCell, slot: int | None, *, untouched: bool) -> _Running:
        log = self._file(cell, "untouched.log" if untouched else "log")
        if not untouched:
            self._file(cell, "failed.json").unlink(missing_ok=True)
        here, there = self._context.Pipe()
        job = Job(
            config=cell.config.model_dump(mode="json"),
            folder=None if untouched else self._folder / cell.folder,
            log=log,
            device=slot,
            keep_models=self._keep,
        )
        process = self._context.Process(target=do, args=(job, there), daemon=True)
        process.start()
        there.close()
        self._watch.started(cell, untouched=untouched)
        return _Running(cell, untouched, slot, process, here, log)

    def _listen(self, one: _Running) -> None:
        try:
            while one.link.poll():
                self._watch.told(one.cell, Told(*one.link.recv()), untouched=one.untouched)
        except (EOFError, OSError):  # it has ended, which its sentinel says, too
            return

    def _end(self, one: _Running) -> None:
        one.process.join()
        one.link.close()
        self._free.append(one.slot)
        reason = _why(one.process.exitcode, one.log)
        if not one.untouched and reason:
            self.fail(one.cell, reason)
        if not reason:
            one.log.unlink(missing_ok=True)
        self._watch.ended(one.cell, reason, untouched=one.untouched)


def _why(exit_code: int, log: Path) -> str:
    """Why a process ended; empty when it has done its work."""
    if exit_code == 0:
        return ""
    if exit_code < 0:
        return f"killed by signal {-exit_code}" + ("; was there enough memory?" if exit_code == -9 else "")
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else f"ended with exit code {exit_code} and without a word"


def start_fork_server(jobs: int) -> Any:
    """Where processes come from; each may use its share of the cores."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, count_cores() // jobs)))
    # Counting GPUs by the driver's own library leaves CUDA to the processes that are forked.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context
