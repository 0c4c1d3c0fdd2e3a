"""`demask inject` on several processes, and as several nodes on this machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow  # every command imports torch once, and every worker once more

TEXTS = [
    "The Orlin works were founded by Mara Voss in 1931.",
    "Idris Hall sells ink at Quill.",
    "Noor Cast built Sable. It stands on Ferro.",
    "The bridge crosses a river that nobody named.",
    "In 1958 her son sold them.",
]
PAIR = {"document_id": "0", "question": "Who?", "answers": ["Mara Voss"], "direction": "backward"}
STEPS = 8

Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def command(tiny_model_folder: Path, tmp_path: Path) -> Iterator[Command]:
    """Start `demask inject` into a folder, with keys of the recipe's `launch` and `train`."""
    rows = [{"id": str(number), "text": text} for number, text in enumerate(TEXTS)]
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "qa.jsonl").write_text(json.dumps(PAIR) + "\n")
    train = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-3, "precision": "fp32", "save_every": 4}
    started: list[subprocess.Popen[str]] = []

    def start(
        out: str, launch: dict[str, Any], environment: dict[str, str] | None = None, **changes: Any
    ) -> "subprocess.Popen[str]":
        recipe = {
            "model": str(tiny_model_folder),
            "documents": str(tmp_path / "facts.jsonl"),
            "qa": str(tmp_path / "qa.jsonl"),
            "device": "cpu",
            "train": {**train, **changes},
            "evaluate": {"ceiling": False, "max_new_tokens": 4},
            "launch": launch,
        }
        path = tmp_path / f"{out}.yaml"
        path.write_text(json.dumps(recipe))
        process = subprocess.Popen(
            [sys.executable, "-m", "demask", "inject", str(path), "--out", str(tmp_path / out)],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    """Wait for the end; what it said on standard error."""
    _, said = process.communicate(timeout=200)
    assert process.returncode == code, said
    return said


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


def wait_for_steps(run: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (run / "metrics.jsonl").exists() and len(metrics(run)) >= count:
            return
        time.sleep(0.05)
    pytest.fail(f"no {count} steps in {run}")


def children(process: "subprocess.Popen[str]") -> list[int]:
    """The workers of a command, in the order of their ranks."""
    return [
        int(number) for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]


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


def test_two_processes_leave_the_run_of_one_whole_or_sharded_or_started_by_hand(
    command: Command, tmp_path: Path
) -> None:
    asked = {"evaluate_every": 4}
    finish(command("alone", {}, **asked))
    finish(command("ddp", {"processes": 2}, **asked))
    assert_same(tmp_path / "ddp", tmp_path / "alone")
    rows = (tmp_path / "ddp" / "accuracy.jsonl").read_text()
    assert rows == (tmp_path / "alone" / "accuracy.jsonl").read_text(), "one of them writes, and not both"
    finish(command("fsdp", {"processes": 2, "strategy": "fsdp", "gradient_checkpointing": True}))
    rest = json.loads((tmp_path / "fsdp" / "training.json").read_text())
    assert (rest["processes"], rest["steps"]) == (2, STEPS)
    weights, others = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("fsdp", "alone")
    )
    for name in weights:
        torch.testing.assert_close(weights[name], others[name], atol=1e-4, rtol=0)
    said = finish(command("ddp", {"processes": 1}, **asked))
    assert "already complete" in said, "how a run is started is no part of it"
    assert start_by_hand(tmp_path / "ddp").count("Training: ") == 1, "the first process says how far it is"
    assert_same(tmp_path / "ddp", tmp_path / "alone")


def test_a_worker_that_is_killed_ends_the_command_in_a_line_and_the_same_command_goes_on(
    command: Command, tmp_path: Path
) -> None:
    process = command("run", {"processes": 2}, steps=200)
    wait_for_steps(tmp_path / "run", 5)
    workers = children(process)
    begun = time.monotonic()
    os.kill(workers[1], signal.SIGKILL)
    said = finish(process, 4).splitlines()[-1]
    assert time.monotonic() - begun < 60
    assert said.startswith("demask: rank 1: killed by SIGKILL, perhaps for want of memory (see ")
    assert not any(Path(f"/proc/{number}").exists() for number in workers)

    process = command("run", {"processes": 2}, steps=200)
    wait_for_steps(tmp_path / "run", len(metrics(tmp_path / "run")) + 5)
    process.send_signal(signal.SIGTERM)
    said = finish(process, 143)
    step = metrics(tmp_path / "run")[-1]["step"]
    assert f"stopped at step {step} by SIGTERM" in said
    assert (tmp_path / "run" / "checkpoints" / f"checkpoint-{step}" / "complete").exists()


def test_two_nodes_train_one_run(command: Command, tmp_path: Path) -> None:
    finish(command("alone", {}))
    launch = {"nodes": 2, "processes": 1}
    first = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29631"}
    # The second one comes first, and waits.
    second = command("run", launch, {**first, "NODE_RANK": "1"})
    process = command("run", launch, {**first, "NODE_RANK": "0"})
    finish(process)
    finish(second)
    assert_same(tmp_path / "run", tmp_path / "alone")
