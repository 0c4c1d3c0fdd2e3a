"""Jobs and plans in plain words: what is done now, why it waits, why it failed; what a run will take."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from demask.ui.jobs import Job, Jobs
from demask.ui.wording import Number, duration

DOING = {
    "run": "Learning",
    "plan": "Measuring what it will take here, with a few real steps",
    "read": "Reading the documents",
    "questions": "Making questions",
    "audit": "Checking the questions",
    "passages": "Splitting the documents",
    "compare": "Comparing",
    "export": "Exporting",
}


class Work(NamedTuple):
    """A job as the page shows it.

    Attributes:
        id: of the job.
        state: see `JobState`.
        doing: what it does.
        says: its last line, why it waits, or why it failed.
        short: it waits for memory alone, and may be started all the same.
        command: as it would be typed.
    """

    id: str
    state: str
    doing: str
    says: str
    short: bool
    command: str


def describe_job(jobs: Jobs, job: Job) -> Work:
    """Where a job is."""
    state = jobs.state(job)
    says = jobs.blocked(job) if state == "waiting" else jobs.describe_end(job)
    if says.startswith("demask ") and says.endswith(": starting"):
        says = ""
    if state == "done":
        says = ""
    command = " ".join(word if " " not in word else repr(word) for word in job.command)
    return Work(
        job.id, state, DOING[job.kind], says, state == "waiting" and says.startswith("needs "), command
    )


class DescribedPlan(NamedTuple):
    """What `demask plan` says.

    Attributes:
        numbers: at a glance.
        problem: why time and memory are not known; empty where they are.
        advice: what would make it shorter.
        remarks: what of the documents is not trained.
    """

    numbers: list[Number]
    problem: str
    advice: list[str]
    remarks: list[str]


def describe_plan(plan: Mapping[str, Any]) -> DescribedPlan:
    """A plan in plain words.

    Args:
        plan: as `demask plan --json` prints it.
    """
    numbers = []
    if plan["seconds"] is not None:
        extra = plan.get("replay_pool_seconds") or 0
        pool = (
            f"and {duration(extra)} once before it" if extra and not plan.get("replay_pool_is_kept") else ""
        )
        help_ = f"Training alone, from {plan['measured_steps']} real steps; questions come on top."
        numbers.append(Number("to learn", duration(plan["seconds"]), pool, help_))
        memory = f"{plan['memory_bytes'] / 1e9:.1f} GB"
        numbers.append(Number("of memory", memory, f"on {plan['device']}", "Peak memory of the process."))
    seen = f"each seen {plan['exposures']:.0f} times"
    help_ = "Passages: parts of documents that fit the model's context. Exposures: how often each is trained."
    numbers.append(Number("passages", f"{plan['passages']:,}", seen, help_))
    asked = "?" if plan["questions"] is None else f"{plan['questions']:,}"
    numbers.append(Number("questions", asked, plan["questions_how"], "QA pairs, asked before and after."))
    covered = f"{plan['coverage']:.0%}"
    numbers.append(Number("of the text is learned", covered, "", "Coverage: share that stands in passages."))
    help_ = "Optimizer steps, each of so many examples."
    numbers.append(Number("small changes", f"{plan['steps']:,}", f"{plan['tokens']:,} tokens", help_))
    return DescribedPlan(numbers, plan["problem"], list(plan["savings"]), list(plan["remarks"])[1:])
