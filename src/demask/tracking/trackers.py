"""One adapter for each tracker: a run is opened, gets numbers by step, then its results, and is closed.

    check_tracker("wandb")                                          # before anything else
    tracker = open_tracker("wandb", Opening("first", run.path, config, id=None))
    tracker.log(3, {"train/loss": 2.31})
    tracker.conclude(40, {"final/after/forward/contains": 0.9}, [run.path / "report.html"])
    tracker.close(finished=True)

None of them is a dependency, and none is imported before it is asked for. wandb is offline unless
WANDB_MODE says otherwise, mlflow writes where MLFLOW_TRACKING_URI says, else into its own file here;
tensorboard and trackio need no server.
"""

import contextlib
import importlib
import importlib.util
import io
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from demask.errors import DemaskError, RunError
from demask.recipe.launch import TrackerName

# What runs stand under, where the tracker's own variable names nothing else.
PROJECT = "demask"
# The most that mlflow takes at once, in parameters and in numbers.
_BATCH = 100
# Characters of a parameter's value that mlflow takes.
_LONGEST = 6000


@dataclass(frozen=True)
class Opening:
    """What a tracker is told of a run when it is opened.

    Attributes:
        name: for people.
        folder: the run folder, for trackers that write files beside it.
        config: the resolved recipe.
        id: of the tracker's own run, where an earlier process has opened it; None: a new one.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    id: str | None


class Tracker(Protocol):
    """A run in a tracker."""

    id: str

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a step; steps never go back."""

    def conclude(self, step: int, values: Mapping[str, float], reports: Sequence[Path]) -> None:
        """What came out, and the report, where the tracker keeps files."""

    def close(self, *, finished: bool) -> None:
        """No more is sent by this process; `finished`: the run is."""


def check_tracker(name: TrackerName) -> None:
    """See whether a tracker's package is there.

    Raises:
        RunError: it is not.
    """
    if importlib.util.find_spec(name) is None:
        raise RunError(f"track: {name} is not installed: pip install 'demask[{name}]', or leave track out")


def open_tracker(name: TrackerName, opening: Opening) -> Tracker:
    """A new run in a tracker, or the one that an earlier process has opened.

    Raises:
        RunError: the tracker refuses, or its server does not answer.
    """
    kinds: dict[str, Callable[[Opening], Tracker]] = {
        "tensorboard": _TensorBoard,
        "trackio": _Trackio,
        "wandb": _Wandb,
        "mlflow": _MLflow,
    }
    # Trackio says on standard output what it does, where --json has its place.
    with Refusals(name), contextlib.redirect_stdout(io.StringIO()):
        return kinds[name](opening)


@dataclass(frozen=True)
class Refusals:
    """Turns every error that a tracker raises inside it into a `RunError`; there is no list of them."""

    name: str

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise a `RunError` for an error of the tracker."""
        if isinstance(error, Exception) and not isinstance(error, DemaskError):
            raise RunError(
                f"track: {self.name} cannot be opened ({say_error(error)}); check its server and its "
                "settings, or leave track out"
            ) from error


def say_error(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


class _TensorBoard:
    """Event files in `tensorboard/` of the run folder; those of a later process stand beside them."""

    def __init__(self, opening: Opening) -> None:
        writer: Any = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(opening.folder / "tensorboard"))
        self.id = opening.id or "tensorboard"
        if opening.id is None:
            text = json.dumps(opening.config, indent=2, ensure_ascii=False)
            self._writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()))
            self._writer.flush()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def conclude(self, step: int, values: Mapping[str, float], reports: Sequence[Path]) -> None:
        self.log(step, values)
        for path in reports:
            if path.suffix == ".md":
                self._writer.add_text("report", path.read_text(encoding="utf-8"), step)

    def close(self, *, finished: bool) -> None:
        del finished  # event files do not say
        self._writer.close()


class _Trackio:
    """A project in trackio's own folder (`TRACKIO_DIR`); a run is found again by its name."""

    def __init__(self, opening: Opening) -> None:
        self._trackio = importlib.import_module("trackio")
        self.id = opening.id or f"{opening.name}-{secrets.token_hex(3)}"
        self._run: Any = self._trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=self.id,
            config=dict(opening.config),
            resume="allow",
            embed=False,
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def conclude(self, step: int, values: Mapping[str, float], reports: Sequence[Path]) -> None:
        self.log(step, values)
        self._run.log_artifact(_as_artifact(self._trackio, self.id, reports))

    def close(self, *, finished: bool) -> None:
        del finished  # trackio does not ask
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio.finish()  # and not that of the run, after which it would be ended once more at exit


class _Wandb:
    """Files in `wandb/` of the run folder (or `WANDB_DIR`), sent later by `wandb sync`; or online."""

    def __init__(self, opening: Opening) -> None:
        self._wandb = importlib.import_module("wandb")
        self.id = opening.id or secrets.token_hex(4)
        self._run: Any = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=self.id,
            name=opening.name,
            dir=os.environ.get("WANDB_DIR", str(opening.folder)),
            config=dict(opening.config),
            mode=os.environ.get("WANDB_MODE", "offline"),
            resume="allow",
            # What the terminal shows is no log.
            settings=self._wandb.Settings(silent=True, console="off"),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def conclude(self, step: int, values: Mapping[str, float], reports: Sequence[Path]) -> None:
        del step
        self._run.summary.update(dict(values))
        self._run.log_artifact(_as_artifact(self._wandb, self.id, reports))

    def close(self, *, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


def _as_artifact(tracker: Any, id: str, reports: Sequence[Path]) -> Any:
    """The report as the artifacts of wandb and trackio, which are alike."""
    artifact = tracker.Artifact(f"report-{id}", type="report")
    for path in reports:
        artifact.add_file(str(path))
    return artifact


class _MLflow:
    """A run of the experiment `demask` (`MLFLOW_EXPERIMENT_NAME`), in `mlflow.db` here or on a server."""

    def __init__(self, opening: Opening) -> None:
        for name in ("alembic", "mlflow"):  # which tell of every table of a new database
            logging.getLogger(name).setLevel(logging.WARNING)
        # Its client tries seven times, each time for two minutes, and training would wait.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._entities = importlib.import_module("mlflow.entities")
        self._client: Any = importlib.import_module("mlflow").MlflowClient()
        if opening.id is not None:
            self.id = opening.id
            self._client.update_run(self.id, status="RUNNING")
            return
        wanted = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(wanted)
        experiment = found.experiment_id if found else self._client.create_experiment(wanted)
        self.id = str(self._client.create_run(experiment, run_name=opening.name).info.run_id)
        rows = flatten(opening.config)
        params = [self._entities.Param(key, str(value)[:_LONGEST]) for key, value in rows.items()]
        for start in range(0, len(params), _BATCH):
            self._client.log_batch(self.id, params=params[start : start + _BATCH])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        numbers = [self._entities.Metric(key, value, now, step) for key, value in values.items()]
        for start in range(0, len(numbers), _BATCH):
            self._client.log_batch(self.id, metrics=numbers[start : start + _BATCH])

    def conclude(self, step: int, values: Mapping[str, float], reports: Sequence[Path]) -> None:
        self.log(step, values)
        for path in reports:
            self._client.log_artifact(self.id, str(path))

    def close(self, *, finished: bool) -> None:
        self._client.set_terminated(self.id, "FINISHED" if finished else "KILLED")


def flatten(values: Any, key: str = "") -> dict[str, Any]:
    """Nested values under names such as `train.steps`; lists count from 0, and what is none is left out."""
    if isinstance(values, Mapping):
        items = list(values.items())
    elif isinstance(values, list | tuple):
        items = list(enumerate(values))
    else:
        return {} if values is None else {key: values}
    found: dict[str, Any] = {}
    for name, value in items:
        found |= flatten(value, f"{key}.{name}" if key else str(name))
    return found
