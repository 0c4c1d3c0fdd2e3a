"""One process works in a folder at a time, and a lock never outlives the process that holds it."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import demask
from demask.errors import RunError
from demask.progress import Silent
from demask.recipe.launch import Launch
from demask.storage import locks
from demask.storage.locks import LOCK, find_holder, holding

pytestmark = pytest.mark.smoke

HOLD = """
import sys, time
from pathlib import Path
from demask.storage.locks import holding
with holding(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def another_process(folder: Path) -> "Iterator[subprocess.Popen[str]]":
    """Which holds the folder, until it is killed."""
    words = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_hears_who_works_in_the_folder(tmp_path: Path) -> None:
    with another_process(tmp_path / "run") as process:
        said = (
            rf"run: another run works in this folder \(process {process.pid} on {socket.gethostname()}, since"
        )
        with pytest.raises(RunError, match=said) as refused, holding(tmp_path / "run"):
            pass
        assert refused.value.exit_code == 4
        holder = find_holder(tmp_path / "run")
        assert holder is not None
        assert holder.pid == process.pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, number: signal.Signals) -> None:
    with another_process(tmp_path / "run") as process:
        process.send_signal(number)
        process.wait()
        assert (tmp_path / "run" / LOCK).exists()
        assert find_holder(tmp_path / "run") is None
        with holding(tmp_path / "run"):
            assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()


def test_a_folder_that_nothing_was_put_into_is_gone_again(tmp_path: Path) -> None:
    with holding(tmp_path / "runs" / "first"):
        assert (tmp_path / "runs" / "first").is_dir()
    assert list(tmp_path.iterdir()) == []
    with holding(tmp_path / "runs"):
        (tmp_path / "runs" / "mine").touch()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["mine"]


def test_two_threads_of_one_program_are_two(tmp_path: Path) -> None:
    refused = []

    def work() -> None:
        try:
            with holding(tmp_path):
                pass
        except RunError as error:
            refused.append(str(error))

    with holding(tmp_path):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(refused) == 1
    with holding(tmp_path):
        pass


def test_where_nobody_can_write_nobody_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with holding(tmp_path):
        pass


@pytest.mark.parametrize("without", ["fcntl", "locks"])
def test_without_locks_of_the_kernel_what_the_file_says_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if without == "fcntl":
        monkeypatch.setattr(locks, "fcntl", None)
    else:
        monkeypatch.setattr(fcntl, "flock", refuse)
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    here = socket.gethostname()
    for pid, host, is_held in (
        (dead.pid, here, False),
        (os.getppid(), here, True),
        (dead.pid, "other", True),
    ):
        (tmp_path / LOCK).write_text(json.dumps({"pid": pid, "host": host, "since": "yesterday"}))
        assert (find_holder(tmp_path) is not None) == is_held, host
        if is_held:
            with (
                pytest.raises(RunError, match=f"process {pid} on {host}, since yesterday"),
                holding(tmp_path),
            ):
                pass
        else:
            with holding(tmp_path):
                assert find_holder(tmp_path) is not None


# The commands


QUICK: dict[str, Any] = {
    "train": {"steps": 1},
    "evaluate": {"max_new_tokens": 1, "ceiling": False},
    "qa": "no",
}


def test_a_run_is_refused_where_another_works_and_leaves_nothing_behind(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    (tmp_path / "a.txt").write_text("Idris Hall sells ink at Quill.")
    recipe: dict[str, Any] = {"model": str(tiny_model_folder), "documents": tmp_path / "a.txt", **QUICK}
    with another_process(tmp_path / "run"), pytest.raises(RunError, match="another run works in this folder"):
        demask.inject(**recipe, out=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    demask.inject(**recipe, out=tmp_path / "run")
    assert not (tmp_path / "run" / LOCK).exists()


def test_fine_tuning_is_refused_where_another_run_works(tmp_path: Path, tiny_model_folder: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "Who?", "response": "Me."}\n' * 2)
    recipe: dict[str, Any] = {
        "model": str(tiny_model_folder),
        "data": tmp_path / "a.jsonl",
        "train": {"steps": 1},
    }
    with another_process(tmp_path / "run"), pytest.raises(RunError, match="another run works in this folder"):
        demask.fine_tune(**recipe, out=tmp_path / "run")
    assert demask.fine_tune(**recipe, out=tmp_path / "run").summary["steps"] == 1


def test_a_lab_is_refused_where_another_one_works(tmp_path: Path) -> None:
    from demask.lab.experiment import read_sizes, run_lab

    with another_process(tmp_path / "lab"), pytest.raises(RunError, match="another run works in this folder"):
        run_lab(tmp_path / "lab", seeds=[0], sizes=read_sizes({}), progress=Silent())


def test_a_worker_that_was_started_by_hand_holds_the_folder_and_one_of_a_command_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from demask.commands import worker

    held = []
    monkeypatch.setattr(worker, "_open_progress", lambda file: nullcontext(Silent()))
    monkeypatch.setattr(worker, "work", lambda run, launch, progress: held.append(find_holder(run.path)))
    by_hand = [str(tmp_path), Launch().model_dump_json()]
    worker._follow(by_hand)
    monkeypatch.setenv("RANK", "1")
    worker._follow(by_hand)
    monkeypatch.setenv("RANK", "0")
    worker._follow([*by_hand, str(tmp_path / "told.jsonl")])
    assert [holder is not None for holder in held] == [True, False, False]
