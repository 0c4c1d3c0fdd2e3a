"""`demask inject` on several processes, and as several nodes on this machine."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow  # every worker imports torch

TEXTS = [
    "The Orlin works were founded by Mara Voss in 1931.",
    "Idris Hall sells ink at Quill.",
    "Noor Cast built Sable. It stands on Ferro.",
    "The bridge crosses a river that nobody named.",
    "In 1958 her son sold them.",
]
PAIR = {"document_id": "0", "question": "Who?", "answers": ["Mara Voss"], "direction": "backward"}
STEPS = 8
# Commands are forked from a process that has imported torch already; their workers are not.
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = ["demask.cli", "demask.tasks.inject", "demask.training.trainer", "demask.evaluation.qa"]


@dataclass(frozen=True)
class Started:
    """A command at work, and what it says on standard error."""

    process: BaseProcess
    said: Path


Command = Callable[..., Started]


def run_command(words: list[str], environment: dict[str, str], said: str) -> None:
    """In the process of a command."""
    from demask import cli

    os.environ |= {"OMP_NUM_THREADS": "1"} | environment
    for stream, file in ((1, os.devnull), (2, said)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.argv = ["demask", *words]
    cli.main()


@pytest.fixture(scope="module")
def command(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Start `demask inject` into a folder, with keys of the recipe's `launch` and `train`."""
    home = tmp_path_factory.mktemp("runs")
    rows = [{"id": str(number), "text": text} for number, text in enumerate(TEXTS)]
    (home / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "qa.jsonl").write_text(json.dumps(PAIR) + "\n")
    train = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-3, "precision": "fp32", "save_every": 4}
    PROCESSES.set_forkserver_preload(PRELOADED)
    started: list[BaseProcess] = []

    def start(
        out: Path, launch: dict[str, Any], environment: dict[str, str] | None = None, **changes: Any
    ) -> Started:
        recipe = {
            "model": str(tiny_model_folder),
            "documents": str(home / "facts.jsonl"),
            "qa": str(home / "qa.jsonl"),
            "device": "cpu",
            "train": {**train, "evaluate_every": 4, **changes},
            "evaluate": {"ceiling": False, "max_new_tokens": 4},
            "launch": launch,
        }
        number = len(started)
        path, said = home / f"{number}.yaml", home / f"{number}.said"
        path.write_text(json.dumps(recipe))
        words = ["inject", str(path), "--out", str(out)]
        process = PROCESSES.Process(target=run_command, args=(words, environment or {}, str(said)))
        process.start()
        started.append(process)
        return Started(process, said)

    yield start
    for process in started:
        process.kill()
        process.join()


def finish(started: Started) -> str:
    """Wait for the end; what it said on standard error."""
    started.process.join(200)
    said = started.said.read_text()
    assert started.process.exitcode == 0, said
    return said


@pytest.fixture(scope="module")
def alone(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process; not to be changed."""
    out = tmp_path_factory.mktemp("alone") / "run"
    finish(command(out, {}))
    return out


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_same(run: Path, expected: Path) -> None:
    rows, others = metrics(run), metrics(expected)
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in others], abs=1e-4)
    assert [row["tokens"] for row in rows] == [row["tokens"] for row in others]
    weights, expected_weights = (
        load_file(folder / "model" / "model.safetensors") for folder in (run, expected)
    )
    for name in weights:
        torch.testing.assert_close(weights[name], expected_weights[name], atol=1e-4, rtol=0)
    names = ("config.json", "passages.jsonl", "model/config.json")
    assert all((run / name).read_text() == (expected / name).read_text() for name in names)


def start_by_hand(run: Path) -> str:
    """Train a run anew by torchrun; what that says on standard error."""
    shutil.rmtree(run / "model")
    for name in ("training.json", "metrics.jsonl", "accuracy.jsonl"):
        (run / name).unlink()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*torchrun, "-m", "demask.commands.worker", str(run)],
        check=True,
        capture_output=True,
        text=True,
        timeout=200,
    )
    return ended.stderr


def test_two_processes_leave_the_run_of_one_whole_or_started_by_hand(
    command: Command, alone: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    finish(command(run, {"processes": 2}))
    assert_same(run, alone)
    rows = (run / "accuracy.jsonl").read_text()
    assert rows == (alone / "accuracy.jsonl").read_text(), "one of them writes, and not both"
    said = finish(command(run, {"processes": 1}))
    assert "already complete" in said, "how a run is started is no part of it"
    assert start_by_hand(run).count("Training: ") == 1, "the first process says how far it is"
    assert_same(run, alone)


def test_two_processes_leave_the_run_of_one_sharded(command: Command, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launch = {"processes": 2, "strategy": "fsdp", "gradient_checkpointing": True}
    finish(command(run, launch, evaluate_every=None))
    rest = json.loads((run / "training.json").read_text())
    assert (rest["processes"], rest["steps"]) == (2, STEPS)
    weights, others = (load_file(folder / "model" / "model.safetensors") for folder in (run, alone))
    for name in weights:
        torch.testing.assert_close(weights[name], others[name], atol=1e-4, rtol=0)


def test_two_nodes_train_one_run(command: Command, alone: Path, tmp_path: Path) -> None:
    run, launch = tmp_path / "run", {"nodes": 2, "processes": 1}
    first = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29631"}
    # The second one comes first, and waits.
    second = command(run, launch, {**first, "NODE_RANK": "1"})
    finish(command(run, launch, {**first, "NODE_RANK": "0"}))
    finish(second)
    assert_same(run, alone)
