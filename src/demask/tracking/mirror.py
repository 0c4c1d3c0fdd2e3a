"""A tracker gets what a run folder's logs gain, while the run goes on; the logs stay the truth.

    with tracking("wandb", run, config, progress) as progress:
        ...                                       # the run; `progress` hears of every step

The mirror only reads `metrics.jsonl`, `accuracy.jsonl`, `held_out.jsonl` and `summary.json`, in the process
of the command, so neither the loop nor other processes that train know of it. How far it came stands in
`tracked.json`: a run that goes on is continued in the tracker, and what it has missed is sent then. When the
tracker fails on the way, that is said once and the run goes on without it.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from demask.progress import STEPS, Progress
from demask.recipe.launch import TrackerName
from demask.storage import file_names
from demask.storage.run_folder import RunFolder
from demask.tracking.trackers import Opening, Tracker, check_tracker, flatten, open_tracker, say_error

# Logs of a run that have a number of steps in every line.
_LOGS = (file_names.METRICS, file_names.ACCURACY, file_names.HELD_OUT)
_REPORTS = (file_names.REPORT_HTML, file_names.REPORT_MARKDOWN)
# Seconds between two notes of how far the mirror is. What was sent since, a killed run sends again.
_NOTED = 5.0
# Of a line of `metrics.jsonl`, what is no curve.
_NO_CURVE = frozenset({"step", "steps", "planned_steps"})


@contextmanager
def tracking(
    name: TrackerName | None, run: RunFolder, config: Mapping[str, Any], progress: Progress
) -> Iterator[Progress]:
    """Mirror a run in a tracker while the block goes on.

    Args:
        name: of the tracker; None: none.
        run: its folder; gets `tracked.json`.
        config: the resolved recipe.
        progress: told how far the run is.

    Yields:
        The progress that the run must tell instead.

    Raises:
        RunError: the tracker is not installed or cannot be opened.
    """
    if name is None or is_mirrored(name, run):
        yield progress
        return
    mirror, finished = _open_mirror(name, run, config, progress), False
    try:
        yield _Mirrored(progress, mirror.catch_up)
        mirror.conclude()
        finished = True
    finally:
        mirror.close(finished=finished)


def is_mirrored(name: TrackerName, run: RunFolder) -> bool:
    """Whether a tracker has all that there is of a run, its results included."""
    return run.has(file_names.SUMMARY) and _read_state(name, run).get("summary") == _read_summary(run)


def read_curves(log: str, row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of a log, by the names that trackers show.

    Args:
        log: the name of the file.
        row: a line of it.
    """
    if log == file_names.ACCURACY:
        return {f"accuracy/{row['direction']}/{row['metric']}": float(row["value"])}
    if log == file_names.HELD_OUT:
        return {"held_out/loss": float(row["loss"])}
    return _numbers("train", {key: value for key, value in row.items() if key not in _NO_CURVE})


def read_results(summary: Mapping[str, Any]) -> dict[str, float]:
    """The final numbers of a run, of either kind, by the names that trackers show."""
    found = _numbers(
        "final", {key: summary.get(key) for key in ("steps", "tokens", "seconds", "exposures", "drift")}
    )
    found |= _numbers("final/held_out_loss", summary.get("held_out_loss") or {})
    for stage, directions in (summary.get("metrics") or {}).items():
        for direction, metrics in directions.items():
            found |= _numbers(f"final/{stage}/{direction}", {key: m["value"] for key, m in metrics.items()})
    retention = summary.get("retention") or {}
    found |= _numbers(
        "final/retention", {key: m["value"] for key, m in retention.get("measures", {}).items()}
    )
    for form, directions in retention.get("access", {}).items():
        found |= _numbers(f"final/access/{form}", {key: m["value"] for key, m in directions.items()})
    return found


def _numbers(group: str, values: Mapping[str, Any]) -> dict[str, float]:
    """What of nested values is a number."""
    named = flatten(values).items()
    return {
        f"{group}/{key.replace('.', '/').replace(' ', '_')}": float(value)
        for key, value in named
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _open_mirror(
    name: TrackerName, run: RunFolder, config: Mapping[str, Any], progress: Progress
) -> "_Mirror":
    check_tracker(name)
    state = _read_state(name, run)
    tracker = open_tracker(name, Opening(run.path.resolve().name, run.path, config, state.get("id")))
    sent = {log: int(step) for log, step in state.get("sent", {}).items()}
    mirror = _Mirror(name, run, tracker, progress.say, sent, state.get("summary"))
    mirror.note()
    return mirror


def _read_state(name: TrackerName, run: RunFolder) -> dict[str, Any]:
    """How far an earlier process came with a tracker; empty without one."""
    states = run.read_json(file_names.TRACKED) if run.has(file_names.TRACKED) else {}
    return dict(states.get(name, {}))


def _read_summary(run: RunFolder) -> Any:
    """What was sent of the results, as it is kept in `tracked.json`."""
    return read_results(run.read_json(file_names.SUMMARY))


class _Mirrored:
    """A progress that has the logs sent after each step."""

    def __init__(self, progress: Progress, catch_up: Callable[[], None]) -> None:
        self._progress, self._catch_up, self._in_steps = progress, catch_up, False

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        """See `Progress`."""
        self._in_steps = unit == STEPS
        self._progress.begin(phase, total, done=done, unit=unit)

    def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
        """See `Progress`."""
        self._progress.advance(parts, values)
        if self._in_steps:
            self._catch_up()

    def say(self, text: str) -> None:
        """See `Progress`."""
        self._progress.say(text)


class _LogTail:
    """The lines that a log has gained, read once each; a log that was written anew is read from its start."""

    def __init__(self, run: RunFolder, log: str) -> None:
        self._path, self._file, self._read = run.file(log), 0, 0

    def take(self) -> list[dict[str, Any]]:
        """Whole lines since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            number = self._path.stat().st_ino
            self._read, self._file = (self._read if number == self._file else 0), number
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        self._read += len(whole) + 1 if whole else 0
        return [json.loads(line) for line in whole.splitlines() if line.strip()]


@dataclass
class _Mirror:
    """One tracker, and how far it is.

    Attributes:
        name: of the tracker.
        run: is read.
        tracker: gets it; None once it has failed.
        say: told of a failure.
        sent: the last step that it has of each log.
        summary: the results that it has; None: none.
    """

    name: TrackerName
    run: RunFolder
    tracker: Tracker | None
    say: Callable[[str], None]
    sent: dict[str, int]
    summary: dict[str, float] | None
    _noted: float = 0.0
    _tails: dict[str, _LogTail] = field(default_factory=dict)

    def catch_up(self) -> None:
        """Send what the logs have gained, in the order of the steps."""
        if self.tracker is None:
            return
        with _Failures(self):
            for step, rows in sorted(self._take().items()):
                curves = [read_curves(log, row) for log, row in rows]
                self.tracker.log(step, {key: value for part in curves for key, value in part.items()})
                self.sent |= {log: step for log, _ in rows}
        if time.monotonic() - self._noted > _NOTED:
            self.note()

    def conclude(self) -> None:
        """Send the rest of the logs, and what came out."""
        if self.tracker is None or not self.run.has(file_names.SUMMARY):
            return
        self.catch_up()
        self._send_results()

    def _send_results(self) -> None:
        if self.tracker is None:  # has failed just now
            return
        results = _read_summary(self.run)
        with _Failures(self):
            reports = [self.run.file(name) for name in _REPORTS if self.run.has(name)]
            self.tracker.conclude(max(self.sent.values(), default=0), results, reports)
            self.summary = results

    def close(self, *, finished: bool) -> None:
        """Let the tracker go; nothing is sent any more."""
        if self.tracker is not None:
            with _Failures(self):
                self.tracker.close(finished=finished)
            self.note()

    def note(self) -> None:
        """Keep how far this is, for the process that goes on."""
        if self.tracker is None:
            return
        states = self.run.read_json(file_names.TRACKED) if self.run.has(file_names.TRACKED) else {}
        mine = {"id": self.tracker.id, "sent": self.sent, "summary": self.summary}
        self.run.write_json(file_names.TRACKED, {**states, self.name: mine})
        self._noted = time.monotonic()

    def fail(self, error: Exception) -> None:
        """Say once that the tracker has failed, and send no more."""
        self.note()
        self.tracker = None
        self.say(
            f"track: {self.name} has failed ({say_error(error)}); the run goes on without it, "
            f"{file_names.METRICS} has everything, and the same command sends what is missing"
        )

    def _take(self) -> dict[int, list[tuple[str, dict[str, Any]]]]:
        """Logs and their lines that the tracker does not have, by step."""
        found: dict[int, list[tuple[str, dict[str, Any]]]] = {}
        for log in _LOGS:
            tail = self._tails.setdefault(log, _LogTail(self.run, log))
            for row in tail.take():
                if row["step"] > self.sent.get(log, -1):
                    found.setdefault(row["step"], []).append((log, row))
        return found


@dataclass(frozen=True)
class _Failures:
    """Swallows every error that a tracker raises inside it, as there is no list of them, and has it said."""

    mirror: _Mirror

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """True for an error; a signal goes on."""
        if not isinstance(error, Exception):
            return False
        self.mirror.fail(error)
        return True
