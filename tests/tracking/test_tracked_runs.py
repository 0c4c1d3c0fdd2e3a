"""The key `track`: what a tracker gets of a run, how a run goes on in it, and what happens when it fails."""

import importlib.util
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from demask.errors import ConfigError, InterruptionError, RunError
from demask.progress import Silent
from demask.recipe.fine_tuning import make_sft_config
from demask.recipe.launch import ALONE, Launch, split_launch
from demask.recipe.sections import make_config
from demask.storage.locks import request_stop
from demask.tasks.fine_tune import fine_tune, run_sft
from demask.tasks.inject import inject, run_recipe
from demask.tracking import mirror as mirrors
from demask.tracking import trackers
from demask.tracking.trackers import Opening, check_tracker, open_tracker

TEXTS = {"orlin": "Mara Voss founded the Orlin works.", "quill": "Idris Hall sells ink at Quill."}


class Told(Silent):
    """Keeps remarks."""

    def __init__(self) -> None:
        self.remarks: list[str] = []

    def say(self, text: str) -> None:
        self.remarks.append(text)


class Recorder:
    """A tracker that keeps what it gets; `runs` outlives a process, as a server would."""

    runs: ClassVar[list["Recorder"]] = []

    def __init__(self, opening: Opening, *, fails_at: int | None = None) -> None:
        self.id, self.opening, self.fails_at = opening.id or f"run-{len(self.runs)}", opening, fails_at
        self.logged: list[tuple[int, Mapping[str, float]]] = []
        self.results: Mapping[str, float] = {}
        self.reports: list[str] = []
        self.closed: list[bool] = []
        self.runs.append(self)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self.fails_at is not None and step >= self.fails_at:
            raise ConnectionError("the server is gone\nand more")
        self.logged.append((step, values))

    def conclude(self, step: int, values: Mapping[str, float], reports: Sequence[Path]) -> None:
        self.results, self.reports = values, [path.name for path in reports]

    def close(self, *, finished: bool) -> None:
        self.closed.append(finished)

    def steps(self, key: str) -> list[int]:
        return [step for step, values in self.logged if key in values]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    """Every tracker is a recorder, and is installed."""
    monkeypatch.setattr(Recorder, "runs", [])
    monkeypatch.setattr(mirrors, "check_tracker", lambda name: None)
    monkeypatch.setattr("demask.tasks.inject.check_tracker", lambda name: None)
    monkeypatch.setattr("demask.tasks.fine_tune.check_tracker", lambda name: None)
    monkeypatch.setattr(mirrors, "open_tracker", lambda name, opening: Recorder(opening))
    return Recorder


@pytest.fixture
def values(tiny_model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    pairs = [
        {"document_id": "orlin", "question": "Who?", "answers": ["Mara Voss"], "direction": "backward"},
        {"document_id": "quill", "question": "What?", "answers": ["ink"], "direction": "forward"},
    ]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    lines = [json.dumps({"id": id, "text": text}) for id, text in TEXTS.items()]
    (tmp_path / "facts.jsonl").write_text("\n".join(lines))
    return {
        "model": str(tiny_model_folder),
        "documents": str(tmp_path / "facts.jsonl"),
        "qa": str(tmp_path / "qa.jsonl"),
        "evaluate": {"ceiling": False, "max_new_tokens": 4},
        "train": {"steps": 4, "learning_rate": 1e-3, "evaluate_every": 2, "save_every": 2},
    }


@pytest.fixture
def sums(tiny_model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    rows = [{"question": f"How much is {a} and 1?", "answer": f"{a + 1}."} for a in range(12)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = {"steps": 4, "batch_size": 3, "learning_rate": 1e-3, "evaluate_every": 2}
    data = [str(tmp_path / "sums.jsonl")]
    return {"model": str(tiny_model_folder), "data": data, "held_out": 3, "train": train}


def run(values: dict[str, Any], out: Path, *, track: Any, progress: Any = None) -> Any:
    told = progress or Silent()
    return run_recipe(make_config(values), out, progress=told, launch=Launch(track=track))


def read_events(folder: Path) -> Any:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = events.EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    return read


def test_the_key_stands_beside_the_section_and_is_not_remembered_by_the_run() -> None:
    rest, launch = split_launch({"model": "m", "track": "tensorboard", "launch": {"keep": 3}})
    assert rest == {"model": "m"}
    assert (launch.track, launch.keep) == ("tensorboard", 3)
    assert ALONE.track is None
    with pytest.raises(
        ConfigError, match=r"r.yaml: track is 'tensorbord', expected 'trackio', 'tensorboard'"
    ):
        split_launch({"track": "tensorbord"}, source="r.yaml")
    with pytest.raises(ConfigError, match=r"unknown key launch.track"):
        split_launch({"launch": {"track": "wandb"}})
    with pytest.raises(ConfigError, match="unknown key trak: did you mean 'track'"):
        make_config({"model": "m", "documents": ["d"], "trak": "wandb"})


@pytest.mark.parametrize("name", ["trackio", "tensorboard", "wandb", "mlflow"])
def test_a_package_that_is_missing_is_one_line_before_anything_is_written(
    name: Any, values: dict[str, Any], sums: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda wanted: None if wanted == name else find_spec(wanted)
    )
    said = rf"track: {name} is not installed: pip install 'demask\[{name}\]'"
    with pytest.raises(RunError, match=said):
        run(values, tmp_path / "run", track=name)
    with pytest.raises(RunError, match=said):
        run_sft(make_sft_config(sums), tmp_path / "sft", progress=Silent(), launch=Launch(track=name))
    for folder in ("run", "sft"):
        assert not (tmp_path / folder / "config.json").exists()


def test_a_tracker_gets_config_curves_results_and_report(
    values: dict[str, Any], tmp_path: Path, recorded: type[Recorder]
) -> None:
    summary = run(values, tmp_path / "run", track="wandb").summary
    (tracked,) = recorded.runs
    assert (tracked.opening.name, tracked.opening.id) == ("run", None)
    assert tracked.opening.config["train"]["steps"] == 4
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [(step, values["train/loss"]) for step, values in tracked.logged if "train/loss" in values]
    assert losses == [(row["step"], row["loss"]) for row in rows]
    assert tracked.steps("accuracy/backward/contains") == [2, 4] == tracked.steps("accuracy/forward/f1")
    assert [step for step, _ in tracked.logged] == sorted(step for step, _ in tracked.logged)
    after = summary["metrics"]["after"]
    for direction in ("forward", "backward"):
        assert tracked.results[f"final/after/{direction}/contains"] == after[direction]["contains"]["value"]
    assert tracked.reports == ["report.html", "report.md"]
    assert tracked.closed == [True]


def test_the_recipe_of_the_folder_knows_no_tracker(
    values: dict[str, Any], tmp_path: Path, recorded: type[Recorder]
) -> None:
    run(values, tmp_path / "run", track="wandb")
    assert "track" not in json.loads((tmp_path / "run" / "config.json").read_text())
    run(values, tmp_path / "run", track=None)  # is the same run
    assert len(recorded.runs) == 1


def test_a_stopped_run_goes_on_in_the_same_run_of_the_tracker(
    values: dict[str, Any], tmp_path: Path, recorded: type[Recorder]
) -> None:
    out = tmp_path / "run"

    class Stopping(Silent):
        def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
            if values and "loss" in values and not recorded.runs[0].closed:
                request_stop(out)

    with pytest.raises(InterruptionError):
        run(values, out, track="wandb", progress=Stopping())
    run(values, out, track="wandb")
    first, second = recorded.runs
    assert (first.closed, second.closed) == ([False], [True])
    assert second.opening.id == first.id
    assert first.steps("train/loss") + second.steps("train/loss") == [1, 2, 3, 4]
    assert second.results


def test_a_finished_run_is_sent_whole_once_it_is_asked_for(
    values: dict[str, Any], tmp_path: Path, recorded: type[Recorder]
) -> None:
    run(values, tmp_path / "run", track=None)
    assert not recorded.runs
    for _ in range(2):
        run(values, tmp_path / "run", track="mlflow")
    (tracked,) = recorded.runs  # the second time there is nothing to send
    assert tracked.steps("train/loss") == [1, 2, 3, 4]
    assert tracked.results
    run(values, tmp_path / "run", track="trackio")
    assert len(recorded.runs) == 2


def test_a_tracker_that_fails_on_the_way_is_said_once_and_the_rest_is_sent_later(
    values: dict[str, Any], tmp_path: Path, recorded: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "open_tracker", lambda name, opening: Recorder(opening, fails_at=2))
    told = Told()
    summary = run(values, tmp_path / "run", track="wandb", progress=told).summary
    assert summary["steps"] == 4
    (remark,) = [remark for remark in told.remarks if "track" in remark]
    assert remark.startswith("track: wandb has failed (ConnectionError: the server is gone); the run goes on")
    assert recorded.runs[0].steps("train/loss") == [1]
    monkeypatch.setattr(mirrors, "open_tracker", lambda name, opening: Recorder(opening))
    run(values, tmp_path / "run", track="wandb")
    assert recorded.runs[1].steps("train/loss") == [2, 3, 4]
    assert recorded.runs[1].opening.id == recorded.runs[0].id


def test_a_tracker_that_fails_at_the_end_does_not_end_the_run(
    values: dict[str, Any], tmp_path: Path, recorded: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("disk of the tracker is full")

    monkeypatch.setattr(Recorder, "conclude", refuse)
    monkeypatch.setattr(Recorder, "close", refuse)
    told = Told()
    assert run(values, tmp_path / "run", track="wandb", progress=told).summary
    assert len([remark for remark in told.remarks if "has failed" in remark]) == 1


def test_a_tracker_that_cannot_be_opened_ends_the_run_before_training(
    values: dict[str, Any], tmp_path: Path, recorded: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Opening) -> None:
        raise TimeoutError("no answer in 90 s")

    monkeypatch.setattr(trackers, "_Wandb", refuse)
    monkeypatch.setattr(mirrors, "open_tracker", open_tracker)
    with pytest.raises(RunError, match=r"track: wandb cannot be opened \(TimeoutError: no answer in 90 s\)"):
        run(values, tmp_path / "run", track="wandb")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_fine_tuning_is_tracked_with_its_held_out_loss(
    sums: dict[str, Any], tmp_path: Path, recorded: type[Recorder]
) -> None:
    summary = fine_tune(**sums, out=tmp_path / "run", track="wandb").summary
    (tracked,) = recorded.runs
    assert tracked.steps("held_out/loss") == [0, 2, 4]
    assert tracked.steps("train/loss") == [1, 2, 3, 4]
    assert tracked.results["final/held_out_loss/after"] == summary["held_out_loss"]["after"]


@pytest.mark.slow  # every worker imports torch
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # torch's files of its workers
def test_the_command_alone_writes_where_several_processes_train(
    sums: dict[str, Any], tmp_path: Path, recorded: type[Recorder]
) -> None:
    launch = Launch(processes=2, track="wandb")
    run_sft(make_sft_config({**sums, "device": "cpu"}), tmp_path / "run", progress=Silent(), launch=launch)
    (tracked,) = recorded.runs
    assert tracked.steps("train/loss") == [1, 2, 3, 4]
    assert tracked.steps("held_out/loss") == [0, 2, 4]


def test_retention_and_drift_are_among_the_results() -> None:
    estimate = {"value": 0.25, "low": 0.1, "high": 0.4}
    found = mirrors.read_results(
        {
            "steps": 4,
            "metrics": {"after": {"forward": {"contains": {"value": 1.0}}}},
            "retention": {
                "measures": {"leak": estimate, "drift": estimate},
                "access": {"bare": {"forward": estimate}},
            },
        }
    )
    assert found == {
        "final/steps": 4.0,
        "final/after/forward/contains": 1.0,
        "final/retention/leak": 0.25,
        "final/retention/drift": 0.25,
        "final/access/bare/forward": 0.25,
    }
    row = {
        "step": 3,
        "steps": 1,
        "planned_steps": 9,
        "loss": 1.5,
        "drift": 0.02,
        "terms": {"kl to base": 0.5},
    }
    curves = mirrors.read_curves("metrics.jsonl", {**row, "loss_masked": None})
    assert curves == {"train/loss": 1.5, "train/drift": 0.02, "train/terms/kl_to_base": 0.5}


@pytest.mark.smoke
def test_tensorboard_has_the_same_numbers_after_a_stop_and_the_report(
    values: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    pytest.importorskip("tensorboard")
    inject(**values, out=out, track="tensorboard")
    read = read_events(out)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    scalars = read.Scalars("train/loss")
    assert [(event.step, pytest.approx(event.value)) for event in scalars] == [
        (row["step"], row["loss"]) for row in rows
    ]
    assert [event.step for event in read.Scalars("accuracy/forward/contains")] == [2, 4]
    assert "final/after/backward/contains" in read.Tags()["scalars"]
    texts = [
        read.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0] for name in ("config", "report")
    ]
    assert b'"steps": 4' in texts[0]
    assert texts[1].decode() == (out / "report.md").read_text()


def test_wandb_is_offline_and_keeps_its_files_in_the_run_folder(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    out = tmp_path / "run"
    run(values, out, track="wandb")
    (folder,) = out.glob("wandb/offline-run-*")
    id = json.loads((out / "tracked.json").read_text())["wandb"]["id"]
    (file,) = folder.glob(f"run-{id}.wandb")
    wanted = (b"train/loss", b"final/after/forward/contains", b"report.html")
    until = time.monotonic() + 20  # wandb's own process writes it, and was seen to be behind once
    while not all(written in file.read_bytes() for written in wanted) and time.monotonic() < until:
        time.sleep(0.1)
    for written in wanted:
        assert written in file.read_bytes()
    assert capfd.readouterr().out == ""


class FakeClient:
    """As much of mlflow's client as is called."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            self.calls.append((name, *given, *named.values()))
            made = SimpleNamespace(info=SimpleNamespace(run_id="r1"))
            return {"get_experiment_by_name": None, "create_experiment": "7", "create_run": made}.get(name)

        return call


def test_mlflow_gets_parameters_numbers_and_files_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient()
    entities = SimpleNamespace(
        Param=lambda key, value: (key, value), Metric=lambda *given: given[:2] + given[3:]
    )
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda: client))
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    config = {"model": "m" * 7000, "train": {"steps": 4, "stop": None}, "documents": ["a", "b"]}
    tracker = open_tracker("mlflow", Opening("first", tmp_path, config, None))
    assert tracker.id == "r1"
    params = dict(client.calls[-1][2])
    assert params.keys() == {"model", "train.steps", "documents.0", "documents.1"}
    assert len(params["model"]) == 6000
    tracker.log(3, {f"key-{number}": 1.0 for number in range(150)})
    assert [len(call[2]) for call in client.calls[-2:]] == [100, 50]
    assert client.calls[-1][2][0] == ("key-100", 1.0, 3)
    tracker.conclude(4, {}, [tmp_path / "report.html"])
    assert client.calls[-1] == ("log_artifact", "r1", str(tmp_path / "report.html"))
    tracker.close(finished=True)
    assert client.calls[-1] == ("set_terminated", "r1", "FINISHED")
    again = open_tracker("mlflow", Opening("first", tmp_path, config, "r1"))
    assert (again.id, client.calls[-1]) == ("r1", ("update_run", "r1", "RUNNING"))


def test_trackio_says_nothing_where_json_is_printed_and_finds_its_run_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[dict[str, Any]] = []
    logged: list[Any] = []

    def init(**given: Any) -> Any:
        print("* Trackio project initialized")
        opened.append(given)
        log = lambda values, step: logged.append((step, values))  # noqa: E731
        return SimpleNamespace(log=log, log_artifact=logged.append)

    artifact = lambda name, type: SimpleNamespace(name=name, add_file=lambda path: logged.append(path))  # noqa: E731
    fake = SimpleNamespace(init=init, Artifact=artifact, finish=lambda: print("* Run finished"))
    monkeypatch.setitem(sys.modules, "trackio", fake)
    tracker = open_tracker("trackio", Opening("first", tmp_path, {"a": 1}, None))
    tracker.log(1, {"train/loss": 2.0})
    tracker.conclude(1, {"final/x": 1.0}, [tmp_path / "report.html"])
    tracker.close(finished=True)
    open_tracker("trackio", Opening("first", tmp_path, {"a": 1}, tracker.id))
    assert [given["name"] for given in opened] == [tracker.id, tracker.id]
    assert {given["resume"] for given in opened} == {"allow"}
    assert logged[:3] == [(1, {"train/loss": 2.0}), (1, {"final/x": 1.0}), str(tmp_path / "report.html")]
    assert capsys.readouterr().out == ""


def test_trackers_that_are_installed_pass() -> None:
    pytest.importorskip("tensorboard")
    check_tracker("tensorboard")
