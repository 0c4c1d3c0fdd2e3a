"""What the page shows, as values for its templates: plain words, with the field's beside them.

pages = Pages(workspace)
pages.render("runs.html.jinja", here="runs", runs=pages.list_runs())
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from demask.reports.wording import clean, shorten
from demask.ui.folders import Workspace
from demask.ui.runs import Judged, SeenRun, draw_curves, judge, look_at

TEMPLATES = Path(__file__).parent / "templates"

STATES = {
    "running": "learning now",
    "stopping": "stopping",
    "waiting": "waiting",
    "finished": "finished",
    "stopped": "stopped",
    "broken": "failed",
}


@dataclass(frozen=True)
class Number:
    """One number at a glance.

    Attributes:
        label: what it is, in words of every day.
        help: the field's word, and what it means.
    """

    label: str
    value: str
    detail: str
    help: str


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


def duration(seconds: float) -> str:
    """`40 seconds`, `12 minutes`, `5.3 hours` or `3.1 days`."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


class Pages:
    """Renders templates; every text in them is escaped, and characters that steer a terminal are shown.

    Args:
        workspace: that is shown.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_finalize,
            trim_blocks=False,
        )
        self._templates.filters.update(shorten=shorten, duration=duration, join_words=shlex.join)
        self._templates.globals["workspace"] = str(workspace.path)

    def render(self, name: str, **values: Any) -> str:
        """A page, or a part of one."""
        return self._templates.get_template(name).render(**values)

    def list_runs(self) -> list[RunCard]:
        """All runs: those that work, then the others, the latest first."""
        seen = [look_at(self.workspace, place) for place in self.workspace.find_runs()]
        seen.sort(key=lambda run: (run.state not in ("running", "stopping"), -run.changed))
        return [self._card(run) for run in seen]

    def _card(self, seen: SeenRun) -> RunCard:
        judged = judge(self.workspace, seen)
        says = seen.problem or ("" if judged else describe_progress(seen))
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
            "curves": [Markup(svg) for svg in draw_curves(seen)],  # figures escape what they draw
        }


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
    return f"Stopped{at}. The same command goes on where it was."


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
