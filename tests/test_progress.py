"""Progress is numbers, kept by whoever draws them; a run that is asked to stop ends well and goes on."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import demask
from demask.errors import DemaskError, InterruptionError, RunError, StoppedError
from demask.progress import STEPS, Forwarding, Silent, Status, Stoppable, describe_values, forward
from demask.storage.locks import LOCK, STOP, end_if_stop_requested, holding, request_stop

pytestmark = pytest.mark.smoke


class Asking(Silent):
    """Keeps the values; asks the run in a folder to stop at the first advance of a phase."""

    def __init__(self, folder: Path, phase: str) -> None:
        self.status, self._folder, self._stops_in = Status(), folder, phase
        self.seen: dict[str, dict[str, float]] = {}

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        self.status.begin(phase, total, done=done, unit=unit)

    def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
        self.status.advance(parts, values)
        self.seen[self.status.phase] = dict(self.status.values)
        if self._stops_in and self.status.phase.startswith(self._stops_in):
            self._stops_in = ""
            assert request_stop(self._folder).pid == os.getpid()


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    document = {"id": "orlin", "text": "Mara Voss founded the Orlin works in 1931, and her son sold them."}
    (tmp_path / "texts.jsonl").write_text(json.dumps(document) + "\n")
    pair = {"document_id": "orlin", "question": "Who founded them?", "answer": "Mara Voss"}
    (tmp_path / "qa.jsonl").write_text(json.dumps({"id": "q", **pair, "direction": "backward"}) + "\n")
    train = {"steps": 4, "batch_size": 1, "save_every": 100, "evaluate_every": 1, "precision": "fp32"}
    return {
        "model": str(tiny_model_folder),
        "documents": tmp_path / "texts.jsonl",
        "qa": tmp_path / "qa.jsonl",
        "train": train,
        "evaluate": {"max_new_tokens": 2, "ceiling": False},
    }


def test_status_adds_up_and_forgets_values_at_the_next_phase() -> None:
    status = Status()
    status.begin("Training", 10, done=4, unit=STEPS)
    status.advance(2, {"loss": 2.0, "tokens/s": 640.0})
    status.advance(1, {"loss": 1.5})
    assert (status.done, status.before, status.total, status.unit) == (7, 4, 10, "steps")
    assert describe_values(status.values) == "loss 1.500, tokens/s 640"
    status.begin("Asking", 2, unit="questions")
    assert (status.done, status.values) == (0, {})


def test_what_is_forwarded_arrives_as_it_was_told() -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    there, here = Status(), Forwarding(lambda call, arguments: sent.append((call, arguments)))
    here.begin("Training", 3, done=1, unit=STEPS)
    here.advance(1, {"loss": 1.5})
    here.say("a remark")
    for call, arguments in json.loads(json.dumps(sent))[:2]:
        forward(there, call, arguments)  # type: ignore[arg-type]
    assert there == Status("Training", STEPS, 3, 2, 1, {"loss": 1.5})
    assert sent[2] == ("say", {"text": "a remark"})


def test_work_ends_between_its_parts_but_not_between_steps(tmp_path: Path) -> None:
    progress = Stoppable(Silent(), lambda: end_if_stop_requested(tmp_path))
    progress.begin("Training", 3, unit=STEPS)
    (tmp_path / STOP).touch()
    progress.advance()
    with pytest.raises(StoppedError, match=r"stopped by SIGTERM; .*: the same command goes on"):
        progress.begin("Asking", 3)


def test_there_is_no_run_to_stop_where_nobody_works(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run works in this folder"):
        request_stop(tmp_path)
    (tmp_path / STOP).touch()  # of a process that was killed before it looked
    with holding(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize(
    ("phase", "error"), [("Asking (before)", StoppedError), ("Training", InterruptionError)]
)
def test_a_run_that_is_stopped_goes_on_to_the_same_weights(
    recipe: dict[str, Any], tmp_path: Path, phase: str, error: type[DemaskError]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(error) as stopped:
        demask.inject(**recipe, out=out, progress=Asking(out, phase))
    assert stopped.value.exit_code == 143
    assert not (out / STOP).exists()
    heard = Asking(out, "")
    done = demask.inject(**recipe, out=out, progress=heard)
    assert done.summary["steps"] == 4
    assert {"loss", "masked", "tokens/s", "backward accuracy"} <= set(heard.seen["Training"])
    whole = demask.inject(**recipe, out=tmp_path / "whole")
    ours, theirs = (run.run_folder / "model" / "model.safetensors" for run in (done, whole))
    assert ours.read_bytes() == theirs.read_bytes()
