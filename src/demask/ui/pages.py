"""What the page shows, as values for its templates: plain words, with the field's beside them.

pages = Pages(workspace)
pages.render("runs.html.jinja", here="runs", runs=pages.list_runs())
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.filters import do_filesizeformat
from markupsafe import Markup

from demask.reports.wording import clean, shorten
from demask.ui.folders import Workspace
from demask.ui.jobs import Jobs
from demask.ui.runs import Judged, SeenRun, draw_curves, judge, look_at
from demask.ui.wording import Number, duration

TEMPLATES = Path(__file__).parent / "templates"

STATES = {
    "running": "learning now",
    "stopping": "stopping",
    "waiting": "waiting",
    "finished": "finished",
    "stopped": "stopped",
    "broken": "failed",
}


class Action(NamedTuple):
    """Something that can be done with a run: its task, the words on the button, and how it looks."""

    task: str
    words: str
    tone: str


@dataclass(frozen=True)
class RunCard:
    """A run in the list of all.

    Attributes:
        says: a sentence where there is no verdict.
        share: how far the part is that it works on, in percent; None: not known.
        tone: of the verdict, for a colour.
    """

    seen: SeenRun
    judged: Judged | None
    state: str
    says: str
    share: int | None
    tone: str


class Pages:
    """Renders templates; every text in them is escaped, and characters that steer a terminal are shown.

    Args:
        workspace: that is shown.
        jobs: that work in it.
    """

    def __init__(self, workspace: Workspace, jobs: Jobs) -> None:
        self.workspace, self.jobs = workspace, jobs
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_finalize,
            trim_blocks=False,
        )
        self._templates.filters.update(shorten=shorten, filesize=do_filesizeformat)
        self._templates.globals["workspace"] = str(workspace.path)

    def render(self, name: str, **values: Any) -> str:
        """A page, or a part of one."""
        return self._templates.get_template(name).render(**values)

    def list_runs(self) -> list[RunCard]:
        """All runs: those that work, then the others, the latest first."""
        seen = [self.see(place) for place in self.find_places()]
        order = ("running", "stopping", "waiting")
        seen.sort(
            key=lambda run: (order.index(run.state) if run.state in order else len(order), -run.changed)
        )
        return [self._card(run) for run in seen]

    def find_places(self) -> list[str]:
        """Places of all runs, also of those that wait or failed before they had a folder."""
        return sorted({*self.workspace.find_runs(), *(job.about for job in self.jobs.find_all("run"))})

    def see(self, place: str, *, log: bool = False) -> SeenRun:
        """A run as its folder and its job show it.

        Args:
            place: one of `find_places`.
            log: also its metrics and accuracies.
        """
        job, known = self.jobs.latest("run", place), self.workspace.is_run(place)
        seen = look_at(self.workspace, place, log=log) if known else SeenRun(place, "stopped", job=job)
        state = self.jobs.state(job) if job else None
        if job is None or seen.holder is not None:
            return replace(seen, job=job)
        if state == "waiting":
            return replace(seen, job=job, state="waiting", problem=seen.problem or self.jobs.blocked(job))
        if state == "running":
            return replace(seen, job=job, state="running")
        if state == "failed" and seen.state == "stopped":
            return replace(seen, job=job, state="broken", problem=seen.problem or self.jobs.describe_end(job))
        return replace(seen, job=job)

    def _card(self, seen: SeenRun) -> RunCard:
        judged = judge(self.workspace, seen)
        shown = seen.problem and seen.state not in ("waiting", "broken")
        says = seen.problem if shown else "" if judged else describe_progress(seen)
        tone = judged.verdict.tone if judged else ""
        return RunCard(seen, judged, STATES[seen.state], says, share_done(seen), tone)

    def watch(self, seen: SeenRun) -> dict[str, Any]:
        """Values of `watch.html.jinja`; the run was looked at with its log."""
        return {
            "seen": seen,
            "state": STATES[seen.state],
            "says": describe_progress(seen),
            "share": share_done(seen),
            "tiles": numbers(seen),
            "actions": self._actions(seen),
            "curves": [Markup(svg) for svg in draw_curves(seen)],  # figures escape what they draw
        }

    def _actions(self, seen: SeenRun) -> list[Action]:
        """What can be done with a run now."""
        if seen.state in ("running", "waiting"):
            stop = Action("stop", "Stop" if seen.state == "running" else "Take back", "danger")
            short = seen.state == "waiting" and seen.problem.startswith("needs ")
            return [Action("anyway", "Start all the same", ""), stop] if short else [stop]
        if seen.state in ("stopped", "broken") and seen.job is not None:
            actions = [Action("resume", "Go on" if seen.config else "Try again", "primary")]
            return actions if seen.config else [*actions, Action("forget", "Remove from the list", "")]
        return []


def _finalize(value: object) -> object:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def share_done(seen: SeenRun) -> int | None:
    """Of the part that it works on, in percent; None: nothing works, or its length is not known."""
    progress = seen.progress
    if seen.state not in ("running", "stopping") or progress is None or not progress.total:
        return None
    return min(100, round(100 * progress.done / progress.total))


def describe_progress(seen: SeenRun) -> str:
    """One sentence: what it does now, or where it ended."""
    progress = seen.progress
    if seen.state == "finished":
        return "Finished. The report says what it has learned, and what else changed."
    if seen.state == "waiting":
        return f"It {seen.problem or 'begins soon'}."
    if seen.state == "broken":
        return f"It failed: {seen.problem.rstrip('.')}."
    if seen.state == "stopping":
        return "It stops after this step, and keeps what it has done."
    if seen.state == "running":
        if progress is None or not progress.phase:
            return "It begins."
        left = progress.seconds_left
        time = (
            f", about {duration(left)} left for this part" if left and progress.done < progress.total else ""
        )
        of_total = (
            f": {progress.done:,} of {progress.total:,} {progress.unit}".rstrip()
            if progress.total > 1
            else ""
        )
        return f"{progress.phase}{of_total}{time}."
    at = (
        f" after step {seen.step:,}" + (f" of {seen.planned_steps:,}" if seen.planned_steps else "")
        if seen.step
        else ""
    )
    return f"Stopped{at}. It can go on where it was, with the same command."


def numbers(seen: SeenRun) -> list[Number]:
    """What is measured while it learns, the latest of each."""
    if not seen.metrics:
        return []
    last, made = seen.metrics[-1], []
    of = f"of {seen.planned_steps:,}" if seen.planned_steps else ""
    made.append(Number("small changes made", f"{seen.step:,}", of, "Steps: updates of the weights."))
    for key, label, help_ in (
        (
            "loss_masked",
            "off on hidden words",
            "Masked loss: cross-entropy of tokens that the prompt does not show.",
        ),
        (
            "loss_copied",
            "off on shown words",
            "Copied loss: cross-entropy of tokens that stand in the prompt.",
        ),
    ):
        if last.get(key) is not None:
            made.append(Number(label, f"{last[key]:.2f}", "nats per token; lower is better", help_))
    for row in {row["direction"]: row for row in seen.accuracies if row.get("metric") == "contains"}.values():
        answered = f"{row['value']:.0%}"
        help_ = "Accuracy: share of questions whose answer contains an accepted wording."
        made.append(Number(f"answered {row['direction']}", answered, f"at step {row['step']:,}", help_))
    if seen.drifts:
        step, value = seen.drifts[-1]
        help_ = "Drift: KL divergence to the base model on other conversations; 0 is none."
        made.append(
            Number("changed elsewhere", f"{value:.3f}", f"nats per token, at step {step:,.0f}", help_)
        )
    speed = seen.tokens_per_second
    if speed and seen.trains:
        made.append(
            Number("word pieces a second", f"{speed:,.0f}", "", "Tokens per second, of all examples.")
        )
    return made


def as_yaml(values: Mapping[str, Any]) -> str:
    """A recipe as people write it."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)


def as_command(words: Sequence[str]) -> str:
    """A command as it is typed."""
    return shlex.join(words)
