"""What a run folder says of its run, also while the run works. Nothing is computed again.

seen = look_at(workspace, "runs/first")
seen.state, seen.step, seen.seconds_left
for svg in draw_curves(seen): ...
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

from demask.errors import DemaskError
from demask.evaluation.metrics import HEADLINE
from demask.progress import STEPS
from demask.records import DIRECTIONS
from demask.reports.drawing import Line, line_panel, smooth, thin, value_scale
from demask.reports.runs import load_run
from demask.reports.verdict import Tile, Verdict, judge_run, make_tiles
from demask.storage import file_names
from demask.storage.locks import Holder, find_holder
from demask.storage.progress_file import Recorded, read_progress
from demask.storage.run_folder import RunFolder
from demask.ui.folders import Workspace
from demask.ui.jobs import Job

State = Literal["running", "stopping", "waiting", "finished", "stopped", "broken"]

# Of the log of a long run so many lines are read: more cannot be told apart on a page.
_LINES = 2_000
# Steps that the rate is averaged over.
_RECENT = 20
# Of the end of a log all lines are read, in bytes: about a thousand.
_TAIL = 400_000


@dataclass(frozen=True)
class SeenRun:
    """A run as its folder shows it now.

    Attributes:
        place: in the workspace, as `runs/first`.
        state: running: a process works in the folder; finished: its summary is there.
        model: that it trains.
        objective: by name.
        kind: `documents` or `data` (of `demask sft`).
        config: its recipe.
        changed: when something was last written, seconds since 1970.
        holder: who works there; None: nobody.
        progress: of the process that works there.
        metrics: lines of its log, thinned where it is long.
        accuracies: measured on the way.
        problem: why it cannot be shown, waits, or failed; empty where all is well.
        job: the page has started it; None: somebody else has.
    """

    place: str
    state: State
    model: str = ""
    objective: str = ""
    kind: str = "documents"
    config: Mapping[str, Any] = field(default_factory=dict)
    changed: float = 0.0
    holder: Holder | None = None
    progress: Recorded | None = None
    metrics: Sequence[Mapping[str, Any]] = ()
    accuracies: Sequence[Mapping[str, Any]] = ()
    problem: str = ""
    job: Job | None = None

    @property
    def name(self) -> str:
        """The last part of its place."""
        return self.place.rsplit("/", 1)[-1]

    @property
    def when(self) -> str:
        """When something was last written, for people."""
        return datetime.fromtimestamp(self.changed).strftime("%d %b %Y, %H:%M") if self.changed else ""

    @property
    def step(self) -> int:
        """The last one that was logged; 0 before the first."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def planned_steps(self) -> int:
        """Of the whole training; 0: not known yet."""
        return int(self.metrics[-1].get("planned_steps") or 0) if self.metrics else 0

    @property
    def tokens_per_second(self) -> float | None:
        """Over the last steps; None before the second."""
        recent = self.metrics[-_RECENT:]
        if len(recent) < 2:
            return None
        seconds = recent[-1]["seconds"] - recent[0]["seconds"]
        return (recent[-1]["tokens"] - recent[0]["tokens"]) / seconds if seconds > 0 else None

    @property
    def trains(self) -> bool:
        """Whether the phase is training."""
        return self.progress is not None and self.progress.unit == STEPS

    @property
    def drifts(self) -> list[tuple[float, float]]:
        """Steps and drift where it was measured on the way."""
        return [
            (float(row["step"]), float(row["drift"])) for row in self.metrics if row.get("drift") is not None
        ]


def look_at(workspace: Workspace, place: str, *, log: bool = False) -> SeenRun:
    """Read what a run folder says.

    Args:
        workspace: that it stands in.
        place: one of `Workspace.find_runs`.
        log: also its metrics and accuracies.
    """
    config = workspace.read_json(place, file_names.CONFIG)
    if not isinstance(config, dict):
        return SeenRun(place, "broken", problem="its config.json cannot be read")
    holder = find_holder(workspace.inner(place))
    objective = config.get("objective")
    known: dict[str, Any] = {
        "model": str(config.get("model", "")),
        "objective": str(objective.get("name", "") if isinstance(objective, dict) else objective),
        "kind": "data" if "data" in config else "documents",
        "config": config,
        "changed": _last_change(workspace, place),
        "holder": holder,
        "problem": _describe_links(workspace.find_links(place)),
    }
    known["metrics"] = tuple(read_log(workspace, place, file_names.METRICS, most=_LINES if log else _RECENT))
    if log:
        known["accuracies"] = tuple(read_log(workspace, place, file_names.ACCURACY, most=_LINES))
    if holder is not None:
        with suppress(OSError):
            known["progress"] = read_progress(workspace.read(place, file_names.PROGRESS))
        asked = workspace.inner(place, "stop").exists()
        return SeenRun(place, "stopping" if asked else "running", **known)
    finished = workspace.has(place, file_names.SUMMARY)
    return SeenRun(place, "finished" if finished else "stopped", **known)


def _describe_links(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])} in its folder is a link, which this page does not follow" if names else ""


def _last_change(workspace: Workspace, place: str) -> float:
    times = [0.0]
    for name in (file_names.CONFIG, file_names.METRICS, file_names.SUMMARY, file_names.REPORT_HTML):
        with suppress(OSError):
            times.append(workspace.inner(place, name).lstat().st_mtime)
    return max(times)


def read_log(workspace: Workspace, place: str, name: str, *, most: int) -> Iterator[dict[str, Any]]:
    """Objects of a log in order, about so many, evenly over it, and its last ones; no line cut short.

    Args:
        workspace: that the run stands in.
        place: of the run.
        name: of the file.
        most: lines, about.
    """
    try:
        file = workspace.open(place, name)
    except OSError:
        return
    with file:
        size = os.fstat(file.fileno()).st_size
        tail = max(size - _TAIL, 0)
        lines = _sample(file, tail, most) if most > _RECENT else []
        file.seek(tail)
        if tail:
            file.readline()  # it began before
        last = file.read().split(b"\n")
    shown = math.ceil(len(last) / most)
    before, recent = last[:-_RECENT:shown], last[-_RECENT:]
    lines += [*(before if most > _RECENT else ()), *recent]
    step = 0
    for line in lines:
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int) and row["step"] >= step:
                step = row["step"]
                yield row


def _sample(file: BinaryIO, end: int, most: int) -> list[bytes]:
    """Lines at evenly spread places up to an end, so that a log of any length takes the same time."""
    found = []
    for number in range(most if end else 0):
        file.seek(end * number // most)
        if number:
            file.readline()
        if file.tell() < end:
            found.append(file.readline())
    return list(dict.fromkeys(found))


def draw_curves(seen: SeenRun) -> list[str]:
    """What is logged over steps, as figures: loss, accuracy in both directions, drift."""
    return [svg for svg in (_draw_loss(seen), _draw_accuracy(seen), _draw_drift(seen)) if svg]


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    found = [(float(row["step"]), row.get(key)) for row in rows]
    return [(step, float(value)) for step, value in found if value is not None and math.isfinite(value)]


def _draw_loss(seen: SeenRun) -> str:
    kinds = [
        ("hidden words", _points(seen.metrics, "loss_masked")),
        ("shown words", _points(seen.metrics, "loss_copied")),
    ]
    if not kinds[1][1]:
        kinds = [("loss", _points(seen.metrics, "loss_masked") or _points(seen.metrics, "loss"))]
    lines = []
    for number, (label, points) in enumerate(kinds, start=1):
        if points:
            averages = smooth([value for _, value in points])
            curve = [(step, value) for (step, _), value in zip(points, averages, strict=True)]
            lines.append(Line(label, tuple(thin(curve)), number, thin=tuple(thin(points))))
    if not lines:
        return ""
    y = value_scale([value for line in lines for _, value in line.thin])
    return line_panel(lines, "How far off", "nats per token", "Loss over training steps", y=y)


def _draw_accuracy(seen: SeenRun) -> str:
    lines = []
    for number, direction in enumerate(DIRECTIONS, start=1):
        rows = [r for r in seen.accuracies if r.get("direction") == direction and r.get("metric") == HEADLINE]
        points = _points(rows, "value")
        if points:
            lines.append(Line(direction, tuple(points), number, dots=True))
    return line_panel(lines, "Questions answered", "share", "Accuracy over training steps") if lines else ""


def _draw_drift(seen: SeenRun) -> str:
    if not seen.drifts:
        return ""
    y = value_scale([value for _, value in seen.drifts])
    lines = [Line("drift", tuple(seen.drifts), 3, dots=True)]
    return line_panel(lines, "Changed elsewhere", "nats per token", "Drift over training steps", y=y)


@dataclass(frozen=True)
class Judged:
    """What a finished run has come to."""

    verdict: Verdict
    tiles: Sequence[Tile]


def judge(workspace: Workspace, seen: SeenRun) -> Judged | None:
    """The verdict of a report; None of a run that is not finished, holds links or cannot be read."""
    if seen.state != "finished" or seen.problem:
        return None
    return _judge(str(workspace.inner(seen.place)), seen.changed)


@lru_cache(maxsize=64)
def _judge(folder: str, changed: float) -> Judged | None:
    """Kept until something in the folder changes."""
    try:
        run = load_run(RunFolder(Path(folder)))
        return Judged(judge_run(run), make_tiles(run))
    except (DemaskError, OSError, ValueError):
        return None
