"""Running cells: skipped when done, named when failed, continued when killed."""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from tests.comparison.test_cells import BENCHMARK

from demask.benchmarks.benchmark import write_benchmark
from demask.comparison.arms import Arm
from demask.comparison.grid import Cell, Order, distinct_cells, make_cells
from demask.comparison.running import Outcome, name_gpu, run_cells

QUICK = {
    "train": {"save_every": 10, "evaluate_every": 10},
    "evaluate": {"max_new_tokens": 4, "shots": 1},
}
ARMS = [Arm("demasking"), Arm("next-token", {"objective": {"name": "next-token"}})]
BROKEN = Arm("broken", {"objective": {"name": "demasking", "mask_token": "several tokens"}})


class Watch:
    """Keeps what it is told; may kill the first process that trains."""

    def __init__(self, *, kill: bool = False) -> None:
        self.lines: list[str] = []
        self._kill = kill

    def started(self, name: str) -> "Watch":
        self.lines.append(f"started {name}")
        return self

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        self._stage = phase

    def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
        if self._kill and self._stage == "Training":
            self._kill = False
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    def say(self, text: str) -> None:
        raise AssertionError("stands in the log")

    def ended(self, name: str, reason: str, *, is_cell: bool) -> None:
        self.lines.append(f"ended {name}: {reason or 'done'}")


@pytest.fixture
def cells(tiny_model_folder: Path, tmp_path: Path) -> list[Cell]:
    write_benchmark(BENCHMARK, tmp_path / "data")
    order = Order(models=(str(tiny_model_folder),), seeds=(0,), exposures=20, settings=QUICK)
    return list(make_cells(order, {order.models[0]: [*ARMS, BROKEN]}, BENCHMARK, tmp_path / "data"))


def run(cells: list[Cell], folder: Path, watch: Watch) -> Outcome:
    return run_cells(cells, folder, slots=[None], watch=watch)


def test_a_shared_run_goes_by_the_name_of_the_first_comparison_that_has_it(cells: list[Cell]) -> None:
    other = replace(cells[0], arm="loss on all")
    assert distinct_cells([cells[0], cells[1], other]) == cells[:2]


def test_gpus_are_numbered_among_those_that_are_visible() -> None:
    assert [name_gpu(number, None) for number in (0, 3)] == ["0", "3"]
    assert [name_gpu(number, "2, GPU-4b1") for number in (0, 1)] == ["2", "GPU-4b1"]


def test_a_cell_that_fails_stops_no_other_and_leaves_its_reason(cells: list[Cell], tmp_path: Path) -> None:
    watch = Watch()
    outcome = run([cells[2], *cells[:2]], tmp_path / "cells", watch)
    assert outcome.done == 2
    [(folder, reason)] = outcome.failed.items()
    assert folder == cells[2].folder
    assert "several tokens" in reason
    assert "Traceback" not in reason
    assert json.loads((tmp_path / "cells" / f"{folder}.failed.json").read_text()) == {"reason": reason}
    for cell in cells[:2]:
        summary = json.loads((tmp_path / "cells" / cell.folder / "summary.json").read_text())
        assert {"before", "after", "few-shot"} <= summary["metrics"].keys()
        assert not (tmp_path / "cells" / cell.folder / "model").exists()
    assert watch.lines[0].endswith(", base model")


def test_what_is_done_is_not_done_again(cells: list[Cell], tmp_path: Path) -> None:
    run(cells[:1], tmp_path / "cells", Watch())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").rglob("*")}
    watch = Watch()
    assert run(cells[:1], tmp_path / "cells", watch) == Outcome(1, {})
    assert watch.lines == []
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").rglob("*")}


def test_a_cell_that_is_killed_says_so_and_is_tried_again(cells: list[Cell], tmp_path: Path) -> None:
    failed = run(cells[:1], tmp_path / "cells", Watch(kill=True))
    assert failed == Outcome(0, {cells[0].folder: "killed by signal 9; was there enough memory?"})
    assert run(cells[:1], tmp_path / "cells", Watch()) == Outcome(1, {})
    assert not list((tmp_path / "cells").glob("*.failed.json"))


def reproduce(words: list[str], output: str) -> None:
    """In a process of its own: the command line."""
    from demask import cli

    os.setsid()
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.argv = ["demask", *words]
    cli.main()


def start(words: list[str], output: Path) -> BaseProcess:
    process = multiprocessing.get_context("forkserver").Process(target=reproduce, args=(words, str(output)))
    process.start()
    return process


def test_a_comparison_killed_at_any_moment_ends_in_the_same_numbers(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    write_benchmark(BENCHMARK, own)
    words = [
        "reproduce",
        str(own),
        f"--model={tiny_model_folder}",
        "--arm=demasking",
        "--arm=reverse",
        "--seed=0",
    ]
    words += ["--exposures=60", "--set=evaluate.max_new_tokens=4", "--set=train.save_every=5"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    undisturbed = start([*words, f"--out={whole}"], tmp_path / "output")
    undisturbed.join(300)
    assert undisturbed.exitcode == 0, (tmp_path / "output").read_text()
    moments = (
        lambda: any(file.read_bytes().count(b"\n") > 7 for file in broken.glob("cells/*/metrics.jsonl")),
        lambda: any(broken.glob("cells/*/summary.json")),
    )
    for has_come in moments:
        killed = start([*words, f"--out={broken}"], tmp_path / "output")
        while not has_come():
            assert killed.exitcode is None, (tmp_path / "output").read_text()
            time.sleep(0.01)
        os.kill(killed.pid or 0, signal.SIGKILL)
        killed.join()
        time.sleep(1)  # the cell's process notices, and ends
    last = start([*words, f"--out={broken}"], tmp_path / "output")
    last.join(300)
    assert last.exitcode == 0, (tmp_path / "output").read_text()
    folders = sorted(path.parent.name for path in whole.glob("cells/*/summary.json"))
    assert len(folders) == 2
    for folder in folders:
        for name in ("predictions-after.jsonl", "steps.jsonl"):
            there, here = (_timeless(out / "cells" / folder / name) for out in (whole, broken))
            assert there == here
    assert (broken / "report.html").exists()


def _timeless(file: Path) -> list[dict[str, object]]:
    rows = map(json.loads, file.read_text().splitlines())
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
