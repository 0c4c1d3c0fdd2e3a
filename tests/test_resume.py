"""Runs killed with `kill -9` at any moment end, after the same command again, in the same bits."""

import hashlib
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

STEPS = 30
EVERY = 5
TEXTS = {
    "orlin": "The Orlin works were founded by Mara Voss in 1931.",
    "quill": "Idris Hall sells ink at Quill.",
    "sable": "Noor Cast built Sable. It stands on Ferro.",
}
# A fresh process that has imported torch already, as importing it twenty times would take minutes.
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = [
    "demask.training.trainer",
    "demask.training.export",
    "demask.evaluation.qa",
    "demask.evaluation.statistics",
    "demask.tasks.inject",
    "demask.terminal",
    "peft",
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.tokenization_auto",
    "torch._dynamo",
]

Start = Callable[..., BaseProcess]


def run_command(words: list[str], output: str) -> None:
    """In the new process: the command line, with its output in a file."""
    from demask import cli

    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.argv = ["demask", *words]
    # A test suite that a script started in the background has it ignored, and so its children would.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


@pytest.fixture(scope="module")
def start(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start `demask inject` into a folder."""
    home = tmp_path_factory.mktemp("resume")
    pair = {"document_id": "orlin", "question": "Who?", "answers": ["Mara Voss"], "direction": "backward"}
    (home / "qa.jsonl").write_text(json.dumps(pair))
    (home / "facts.jsonl").write_text(
        "".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in TEXTS.items())
    )
    settings = (
        f"train.steps={STEPS}",
        f"train.save_every={EVERY}",
        "train.batch_size=3",
        "train.learning_rate=1e-3",
        "evaluate.max_new_tokens=8",
        "evaluate.ceiling=false",
    )
    words = ["inject", f"--model={tiny_model_folder}", f"--documents={home / 'facts.jsonl'}"]
    words += [f"--qa={home / 'qa.jsonl'}", *(f"--set={setting}" for setting in settings)]
    started: list[BaseProcess] = []

    def begin(out: Path, *more: str) -> BaseProcess:
        process = PROCESSES.Process(
            target=run_command, args=([*words, *more, f"--out={out}"], f"{out}.output")
        )
        process.start()
        started.append(process)
        return process

    PROCESSES.set_forkserver_preload(PRELOADED)
    yield begin
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()


def finish(process: BaseProcess, run: Path) -> None:
    process.join(timeout=60)
    assert process.exitcode == 0, Path(f"{run}.output").read_text()


def kill_when(process: BaseProcess, reached: Callable[[], bool]) -> None:
    """SIGKILL, which no process can catch or delay, as soon as the moment has come."""
    while not reached():
        assert process.is_alive(), "the run ended before the moment came"
        time.sleep(0.0005)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def has_logged(run: Path, steps: int) -> bool:
    return logged(run) >= steps


def logged(run: Path) -> int:
    """Whole lines of the log so far."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_same(run: Path, whole: Path, weights: str = "model/model.safetensors") -> None:
    """The resumed run has the uninterrupted one's bits, and each step once."""
    log, expected = rows(run / "metrics.jsonl"), rows(whole / "metrics.jsonl")
    assert [row["step"] for row in log] == list(range(1, STEPS + 1))
    for key in ("loss", "loss_masked", "loss_copied", "learning_rate", "gradient_norm", "tokens"):
        assert [row[key] for row in log] == [row[key] for row in expected], key
    assert [row["seconds"] for row in log] == sorted(row["seconds"] for row in log)
    assert digest(run / weights) == digest(whole / weights)
    said = [[row["text"] for row in rows(folder / "predictions-after.jsonl")] for folder in (run, whole)]
    assert said[0] == said[1]
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbs."""
    run = tmp_path_factory.mktemp("whole") / "run"
    finish(start(run), run)
    return run


def test_a_run_killed_at_many_moments_ends_in_the_same_bits(
    start: Start, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def has(name: str) -> Callable[[], bool]:
        return (run / name).exists

    def lines(count: int) -> Callable[[], bool]:
        return lambda: logged(run) >= count

    moments = [
        has("documents.jsonl"),
        has("passages.jsonl"),  # then the questions are asked for the first time
        lines(1),  # before any checkpoint
        lines(7),
        has("checkpoints/checkpoint-10"),  # while it is being written, or just after
        lines(12),
        lines(23),
        lines(STEPS),  # while the last checkpoint or the model is being written
        has("model"),  # before it is said to be there
        has("training.json"),  # before the questions are asked again
    ]
    for reached in moments:
        kill_when(start(run), reached)
    finish(start(run), run)
    check_same(run, whole)


def test_a_checkpoint_that_was_cut_short_is_not_used(start: Start, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    kill_when(start(run), lambda: logged(run) >= 2 * EVERY + 1)
    newest = max((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    (newest / "complete").unlink(missing_ok=True)
    (newest / "state.pt").write_bytes(b"")
    finish(start(run), run)
    check_same(run, whole)


def test_an_adapter_killed_on_the_way_ends_in_the_same_bits(start: Start, tmp_path: Path) -> None:
    lora = ("--set=train.method=lora", "--set=train.lora_rank=2")
    for name in ("run", "whole"):
        run = tmp_path / name
        if name == "run":
            kill_when(start(run, *lora), partial(has_logged, run, 12))
        finish(start(run, *lora), run)
    check_same(tmp_path / "run", tmp_path / "whole")
    check_same(tmp_path / "run", tmp_path / "whole", "adapter/adapter_model.safetensors")


def test_a_run_stopped_from_the_keyboard_says_how_it_goes_on(start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # More steps than can be done before the signal comes, however late this process is woken.
    process = start(run, "--set=train.steps=5000")
    while logged(run) < 3:
        time.sleep(0.001)
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(timeout=60)
    assert process.exitcode == 130
    said = Path(f"{run}.output").read_text()
    stopped = r"demask: stopped at step \d+ by SIGINT; the checkpoint is whole, the same command goes on"
    assert re.fullmatch(stopped, said.splitlines()[-1])
    assert "Traceback" not in said
