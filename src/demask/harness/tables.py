"""Results of benchmarks as tables: never a number without how many questions it is of and how sure it is.

print_tables(benchmark_tables(run_benchmark(...)))
"""

from collections.abc import Sequence

from demask.harness.benchmark import Benchmarked
from demask.harness.results import Difference, Measure, TaskResult
from demask.reports.tables import Table, describe_correction
from demask.reports.wording import MISSING, change, clean, count, share


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
