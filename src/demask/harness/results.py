"""What the harness found, as records, as files and as tables; with intervals and paired differences.

    found = collect_results("runs/first", planned, raw, settings, cut={})
    compare_results(found_of_baseline, found_of_other)
    store = ResultStore(Path("benchmark"))
    store.keep(results, environment)
    print_tables(benchmark_tables(run_benchmark(...)))

A question is its own cluster: benchmarks have no documents whose questions stand or fall together.
`benchmark.json` has figures and what they depend on; `samples-TASK.jsonl` what each model answered to each
question. Both are written whole after every task, so a killed command has lost one task of one model.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from demask.errors import ConfigError, DataError, RunError
from demask.evaluation.metrics import Change
from demask.evaluation.statistics import compare_paired, estimate_mean
from demask.harness.tasks import Asking, PlannedTask
from demask.reports.tables import Table, correct_holm, describe_correction
from demask.reports.wording import MISSING, change, clean, count, share
from demask.storage.run_folder import RunFolder

SUMMARY = "benchmark.json"
# What a choice among letters looks like; longer answers may quote the question.
_CHOICE = re.compile(r"\(?[A-Z]\)?|\[invalid\]")
# Of a mean of rounded scores against the harness' own mean.
_SAME = 1e-9


@dataclass(frozen=True)
class Measure:
    """One metric of one task.

    Attributes:
        metric: as the harness calls it, with its filter behind a comma, as `exact_match,strict-match`.
        value: as the harness computes it.
        stderr: the harness' standard error; None where it gives none.
        low: lower bound of the 95% interval; None: neither shares nor a standard error are there.
        high: its upper bound.
    """

    metric: str
    value: float
    stderr: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class AskedQuestion:
    """One question of a task.

    Attributes:
        question: its number in the task, from 0.
        scores: by metric and filter; a list where a question has several (IFEval's instructions).
        answer: what the model wrote, or the number of the choice that it finds likeliest; None: neither.
        prompt: sha256 of the prompt; empty where the text is confidential.
    """

    question: int
    scores: Mapping[str, Any]
    answer: str | int | None = None
    prompt: str = ""


@dataclass(frozen=True)
class TaskResult:
    """One model and one task, or one group of tasks as a whole, which has no questions of its own.

    Attributes:
        model: as it was given.
        task: as the harness calls it.
        asked_as: the name that was given, which may be a group's.
        settings: what the result depends on.
        measures: the harness' metrics.
        questions: in order.
        of: how many questions there are.
        asked: how many of them were asked, the first ones.
        shots: how many few-shot examples each prompt shows.
        version: of the task.
        cut: how many prompts lost their beginning because they did not fit the model's context.
        note: in what the questions are not those that the harness would fetch.
    """

    model: str
    task: str
    asked_as: str
    settings: Mapping[str, Any]
    measures: tuple[Measure, ...]
    questions: tuple[AskedQuestion, ...]
    of: int
    asked: int
    shots: int | None
    version: str
    cut: int = 0
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """Two models on the same questions of one task, by one metric.

    Attributes:
        change: model minus baseline.
        p_holm: its p-value, corrected for all differences of the same benchmark.
    """

    task: str
    metric: str
    baseline: str
    model: str
    change: Change
    p_holm: float

    @property
    def within_noise(self) -> bool:
        """Whether chance alone would explain it at the usual level of 5%."""
        return self.p_holm >= 0.05


@dataclass(frozen=True)
class Benchmarked:
    """What models scored.

    Attributes:
        results: by model and task, in the order they were given.
        differences: of every model from the first one.
        asking: how they were asked.
        environment: versions and machine.
    """

    results: tuple[TaskResult, ...]
    differences: tuple[Difference, ...]
    asking: Asking
    environment: Mapping[str, Any]


def collect_results(
    model: str,
    planned: PlannedTask,
    found: Mapping[str, Any],
    settings: Mapping[str, Any],
    cut: Mapping[str, int],
) -> list[TaskResult]:
    """The results of all tasks that a name stands for, and of the groups themselves.

    Args:
        model: as it was given.
        planned: what was asked.
        found: what `lm_eval.evaluate` returned.
        settings: what the result depends on.
        cut: prompts that lost their beginning, by task.
    """
    results = []
    for task, samples in found["samples"].items():
        questions = _questions(samples, confidential=planned.confidential or "gpqa" in task)
        count = found["n-samples"][task]
        results.append(
            TaskResult(
                model=model,
                task=task,
                asked_as=planned.name,
                settings=settings,
                measures=_measures(found["results"][task], questions),
                questions=questions,
                of=count["original"],
                asked=count["effective"],
                shots=found["n-shot"].get(task),
                version=str(found["versions"].get(task)),
                cut=cut.get(task, 0),
                note=planned.note,
            )
        )
    return [*results, *_group_results(results, found)]


def _group_results(results: Sequence[TaskResult], found: Mapping[str, Any]) -> list[TaskResult]:
    """A group's own figures, which the harness makes of those of its tasks."""
    first = results[0]
    return [
        TaskResult(
            model=first.model,
            task=group,
            asked_as=first.asked_as,
            settings=first.settings,
            measures=_measures(values, ()),
            questions=(),
            of=sum(result.of for result in results),
            asked=sum(result.asked for result in results),
            shots=found["n-shot"].get(group),
            version=str(found["versions"].get(group)),
            note=f"{group}: as the harness averages its {len(results)} tasks",
        )
        for group, values in found.get("groups", {}).items()
        if group == first.asked_as
    ]


def compare_results(baseline: TaskResult, other: TaskResult) -> list[Difference]:
    """Other minus baseline on the same questions, for every metric that gives each question a share.

    Their p-values are not corrected yet: `correct_differences` does it for all tasks and models together.

    Raises:
        DataError: the two were not asked the same questions.
    """
    if [each.question for each in baseline.questions] != [each.question for each in other.questions]:
        raise DataError(
            f"{baseline.task}: {baseline.model} and {other.model} were not asked the same questions; ask "
            "both anew in one command"
        )
    differences = []
    for metric in (measure.metric for measure in baseline.measures):
        before, clusters = _shares(baseline.questions, metric)
        after, same_clusters = _shares(other.questions, metric)
        if before and clusters == same_clusters:
            change = compare_paired(before, after, clusters)
            names = (baseline.task, metric, baseline.model, other.model)
            differences.append(Difference(*names, change, p_holm=change.p_value))
    return differences


def correct_differences(differences: Sequence[Difference]) -> list[Difference]:
    """With their p-values corrected for all of them."""
    corrected = correct_holm([difference.change.p_value for difference in differences])
    return [replace(each, p_holm=p_value) for each, p_value in zip(differences, corrected, strict=True)]


def _measures(values: Mapping[str, Any], questions: Sequence[AskedQuestion]) -> tuple[Measure, ...]:
    """The metrics of a task, with 95% intervals.

    Shares get the interval that demask uses everywhere; of other metrics it is 1.96 standard errors each way.
    """
    measures = []
    for metric, value in values.items():
        name, comma, chosen = metric.partition(",")
        if not comma or name.endswith("_stderr") or not isinstance(value, int | float):
            continue
        found = values.get(f"{name}_stderr,{chosen}")
        stderr = float(found) if isinstance(found, int | float) and math.isfinite(found) else None
        shares, clusters = _shares(questions, metric)
        if shares and abs(math.fsum(shares) / len(shares) - value) < _SAME:
            estimate = estimate_mean(shares, clusters)
            bounds: tuple[float | None, float | None] = (estimate.low, estimate.high)
        else:
            bounds = (None, None) if stderr is None else (value - 1.96 * stderr, value + 1.96 * stderr)
        measures.append(Measure(metric, float(value), stderr, *bounds))
    return tuple(measures)


def _shares(questions: Sequence[AskedQuestion], metric: str) -> tuple[list[float], list[str]]:
    """Scores in [0, 1] with the question of each; empty when some are not shares."""
    shares: list[float] = []
    clusters: list[str] = []
    for question in questions:
        score = question.scores.get(metric)
        for each in score if isinstance(score, list) else [score]:
            if not isinstance(each, int | float) or not 0 <= each <= 1:
                return [], []
            shares.append(float(each))
            clusters.append(str(question.question))
    return shares, clusters


def _questions(samples: Sequence[Mapping[str, Any]], *, confidential: bool) -> tuple[AskedQuestion, ...]:
    """One record per question, out of one per question and filter."""
    scores: dict[int, dict[str, Any]] = {}
    answers: dict[int, str | int | None] = {}
    prompts: dict[int, str] = {}
    for sample in samples:
        number = int(sample["doc_id"])
        of_question = scores.setdefault(number, {})
        for metric in sample["metrics"]:
            of_question[f"{metric},{sample['filter']}"] = _plain(sample[metric])
        answers[number] = _answer(sample, confidential=confidential)
        prompts[number] = "" if confidential else str(sample["prompt_hash"])
    return tuple(
        AskedQuestion(number, scores[number], answers[number], prompts[number]) for number in sorted(scores)
    )


def _answer(sample: Mapping[str, Any], *, confidential: bool) -> str | int | None:
    first = sample["resps"][0][0]
    if isinstance(first, str):
        chosen = str(sample["filtered_resps"][0])
        return first if not confidential else chosen if _CHOICE.fullmatch(chosen) else None
    if isinstance(first, tuple | list) and len(sample["resps"]) > 1:
        likelihoods = [response[0][0] for response in sample["resps"]]
        return likelihoods.index(max(likelihoods))
    return None


def _plain(score: Any) -> Any:
    """A score that JSON can hold, whatever kind of number it was."""
    if isinstance(score, tuple | list):
        return [_plain(each) for each in score]
    item = getattr(score, "item", None)  # NumPy's
    return item() if callable(item) and getattr(score, "size", 1) == 1 else score


class ResultStore:
    """The folder of a benchmark; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        """Read what an earlier command left.

        Raises:
            ConfigError: a file stands there.
            RunError: what stands there is no benchmark of this version.
        """
        if path is not None and path.exists() and not path.is_dir():
            raise ConfigError(f"{path}: a file stands there, expected a folder; choose another --out")
        self._folder = None if path is None else RunFolder(path)
        self._rows: list[dict[str, Any]] = []
        self._differences: list[dict[str, Any]] = []
        if self._folder and self._folder.has(SUMMARY):
            summary = self._folder.read_json(SUMMARY)
            if not isinstance(summary, dict) or not isinstance(summary.get("results"), list):
                raise RunError(f"{path}/{SUMMARY}: not made by 'demask benchmark'; choose another --out")
            self._rows = summary["results"]

    def find(self, model: str, asked_as: str, settings: Mapping[str, Any]) -> list[TaskResult]:
        """The results of an earlier command with the very same settings; empty when there are none."""
        rows = [row for row in self._rows if _names(row) == (model, asked_as)]
        if any(row["settings"] != settings for row in rows):
            return []
        return [self._restore(row) for row in rows]

    def other_settings(self, model: str, asked_as: str) -> bool:
        """Whether an earlier command asked the same, but not in the same way."""
        return any(_names(row) == (model, asked_as) for row in self._rows)

    def keep(self, results: Sequence[TaskResult], environment: Mapping[str, Any]) -> None:
        """Write the results of one model and one task in place of earlier ones.

        Raises:
            RunError: the folder cannot be written.
        """
        if self._folder is None:
            return
        names = (results[0].model, results[0].asked_as)
        for result in results:
            if result.questions:
                self._write_questions(self._folder, result)
        self._rows = [row for row in self._rows if _names(row) != names]
        self._rows += [_as_row(result) for result in results]
        self._write(environment)

    def conclude(self, differences: Sequence[Difference], environment: Mapping[str, Any]) -> None:
        """Add the comparison of models.

        Raises:
            RunError: the folder cannot be written.
        """
        self._differences = [asdict(difference) for difference in differences]
        self._write(environment)

    def _write(self, environment: Mapping[str, Any]) -> None:
        if self._folder is not None:
            value = {"environment": environment, "results": self._rows, "differences": self._differences}
            self._folder.write_json(SUMMARY, value)

    def _write_questions(self, folder: RunFolder, result: TaskResult) -> None:
        name = samples_file(result.task)
        others = [row for row in self._read_questions(name) if row["model"] != result.model]
        own = [{"model": result.model, **_without_nothing(question)} for question in result.questions]
        folder.write_rows(name, [*others, *own])

    def _read_questions(self, name: str) -> list[dict[str, Any]]:
        return self._folder.read_rows(name) if self._folder and self._folder.has(name) else []

    def _restore(self, row: Mapping[str, Any]) -> TaskResult:
        values = dict(row)
        values["measures"] = tuple(Measure(**measure) for measure in row["measures"])
        values["questions"] = tuple(
            AskedQuestion(**{key: value for key, value in question.items() if key != "model"})
            for question in self._read_questions(samples_file(row["task"]))
            if question["model"] == row["model"]
        )
        return TaskResult(**values)


def samples_file(task: str) -> str:
    """The file with every model's answers to the questions of a task."""
    return f"samples-{task.replace('/', '_')}.jsonl"


def _names(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["model"], row["asked_as"]


def _as_row(result: TaskResult) -> dict[str, Any]:
    row = asdict(result)
    del row["questions"]
    return row


def _without_nothing(question: AskedQuestion) -> dict[str, Any]:
    """Confidential text leaves no empty fields behind; an answer may be empty."""
    nothing = {"answer": None, "prompt": ""}
    return {key: value for key, value in asdict(question).items() if nothing.get(key, question) != value}


def benchmark_tables(found: Benchmarked) -> tuple[Table, ...]:
    """What each model scored, and how the others differ from the first one."""
    return results_table(found), differences_table(found.differences)


def results_table(found: Benchmarked) -> Table:
    """A row for each model, task and metric."""
    rows = [
        (
            clean(result.model),
            result.task,
            metric_name(measure.metric),
            share(measure.value),
            MISSING if measure.stderr is None else f"{measure.stderr:.3f}",
            _bounds(measure),
            f"{count(result.asked)} of {count(result.of)}",
        )
        for result in found.results
        for measure in result.measures
    ]
    headers = ("model", "task", "metric", "value", "standard error", "95% interval", "n")
    return Table("Benchmarks", headers, tuple(rows), " ".join(_remarks(found)))


def differences_table(differences: Sequence[Difference]) -> Table:
    """A row for each task, metric and model but the first; says which differences are within noise."""
    rows = [
        (
            difference.task,
            metric_name(difference.metric),
            clean(difference.baseline),
            clean(difference.model),
            change(difference.change, difference.p_holm),
            count(difference.change.n),
        )
        for difference in differences
    ]
    unsure = [difference for difference in differences if difference.within_noise]
    note = (
        "Model minus baseline on the same questions, with 95% interval and p-value over questions. "
        f"{describe_correction(len(rows))} Each model is one set of weights: what another seed of its "
        "training would give is in neither."
    )
    if unsure:
        names = ", ".join(f"{each.model} on {each.task} ({metric_name(each.metric)})" for each in unsure)
        note += f" Warning: within noise, so they tell no two models apart: {clean(names)}."
    headers = ("task", "metric", "baseline", "model", "difference", "n")
    return Table("Differences", headers, tuple(rows), note)


def metric_name(metric: str) -> str:
    """`exact_match,strict-match` as `exact_match (strict-match)`; without a filter the metric alone."""
    name, _, chosen = metric.partition(",")
    return name if chosen in ("", "none") else f"{name} ({chosen})"


def _bounds(measure: Measure) -> str:
    return MISSING if measure.low is None else f"[{share(measure.low)}, {share(measure.high)}]"


def _remarks(found: Benchmarked) -> list[str]:
    """How it was asked, and all that makes figures differ from published ones."""
    version = found.environment["harness"]["lm_eval"]
    template = "without a chat template" if found.asking.raw else "with each model's chat template"
    remarks = [f"Asked by lm-evaluation-harness {version} {template}."]
    if found.asking.limit is not None:
        remarks.append("A limit was set: only the first questions of each task, not comparable with others.")
    shown = {result.task: result.shots for result in found.results if result.shots}
    if shown:
        examples = ", ".join(f"{shots} for {task}" for task, shots in shown.items())
        remarks.append(f"Few-shot examples in the prompt: {examples}.")
    notes = {_note(result): None for result in found.results if result.note}
    remarks += [f"{note}." for note in notes]
    remarks += [
        f"Warning: {clean(result.model)} was too small for {count(result.cut)} prompts of {result.task}, "
        "which lost their beginning."
        for result in found.results
        if result.cut
    ]
    return remarks


def _note(result: TaskResult) -> str:
    return result.note if result.note.startswith(result.task) else f"{result.task}: {result.note}"
