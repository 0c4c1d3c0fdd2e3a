"""Tables of a report, as strings: the page, the Markdown and the command line show the same ones.

table = accuracy_table(runs)
table.headers, table.rows
to_markdown(table)
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from demask.evaluation.metrics import HEADLINE, MEASURES, METRICS, Change, Estimate
from demask.records import DIRECTIONS, Direction
from demask.reports.runs import (
    FEW_SHOT,
    OUTCOMES,
    QUANTISED,
    STAGES,
    UNGATED,
    QuestionRow,
    Retrieval,
    RunResult,
    asked_directions,
    find_metric,
    read_estimate,
    read_retrieval_stage,
    retrieval_stage,
)
from demask.reports.wording import (
    MISSING,
    change,
    clean,
    count,
    describe_break_even,
    flatten,
    interval,
    memory,
    minutes,
    percent,
    share,
    shorten,
    signed,
    stage_name,
)

P = TypeVar("P")

# Rows of the tables that stand beside a curve; enough to see its course.
CURVE_ROWS = 10
# Files that a report names; a folder of manuals has fewer.
FILE_ROWS = 50
# Replies with something of a document in them that a report shows of each arm.
_SHOWN = 4

Compare = Callable[[Sequence[float], Sequence[float], Sequence[str]], Change]


@dataclass(frozen=True)
class Table:
    """Strings in rows; `note` says how to read them, empty when nothing needs saying."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def accuracy_table(runs: Sequence[RunResult]) -> Table:
    """The headline metric per arm and direction: floor, result, ceiling and change."""
    arms = list(_arms(runs))
    found = [run.changes.get(direction, {}).get(HEADLINE) for run, direction in arms]
    rows = [
        (
            run.label,
            direction,
            *(interval(find_metric(run, stage, direction)) for stage in STAGES),
            shown,
            count(_asked(run, direction)),
        )
        for (run, direction), shown in zip(arms, changes(found), strict=True)
    ]
    return Table(
        "Accuracy",
        ("arm", "direction", *STAGES, "change", "n"),
        tuple(rows),
        f"Share of questions answered ({METRICS[HEADLINE].label}) with its 95% interval. Before: the "
        "base model. Ceiling: the base model with the document in its prompt. "
        f"Change: after minus before. {_explain_p_values(found)}".strip(),
    )


def metrics_table(runs: Sequence[RunResult]) -> Table:
    """Every metric beside the others: recall alone rewards reciting the passage."""
    rows = [
        (
            run.label,
            direction,
            stage_name(stage),
            *(interval(find_metric(run, stage, direction, name)) for name in METRICS),
        )
        for run, direction in _arms(runs)
        for stage in (*STAGES, UNGATED, QUANTISED, FEW_SHOT, *filter(read_retrieval_stage, run.metrics))
        if run.metrics.get(stage, {}).get(direction)
    ]
    return Table(
        "All metrics",
        ("arm", "direction", "stage", *(metric.label for metric in METRICS.values())),
        tuple(rows),
        "Contains and ROUGE-1 recall (the metric of the demasking paper, arXiv 2510.09885) also reward a "
        "model that recites the whole passage; exact match and F1 do not.",
    )


def retrieval_table(runs: Sequence[RunResult]) -> Table:
    """Accuracy, recall and what an answer takes, with retrieval and without; no rows where there was none."""
    asked = [(run, run.retrieval) for run in runs if run.retrieval]
    rows: list[tuple[str, ...]] = []
    sentences: list[str] = []
    for run, found in asked:
        of_run = {
            stage: {direction: by_name.get(HEADLINE) for direction, by_name in by_direction.items()}
            for stage, by_direction in run.metrics.items()
        }
        rows += [(run.label, *row) for row in retrieval_rows(found, of_run)]
        name = f"{run.label}: " if len(runs) > 1 else ""
        sentences += [f"{name}{sentence}" for sentence in _explain_retrieval(found)]
    return Table("Beside retrieval", ("arm", *RETRIEVAL_HEADERS), tuple(rows), " ".join(sentences).strip())


RETRIEVAL_HEADERS = (
    "asked",
    *DIRECTIONS,
    "recall, forward",
    "recall, backward",
    "prompt tokens",
    "answer tokens",
    "seconds",
    "even after",
)


def retrieval_rows(
    found: Retrieval, accuracy: Mapping[str, Mapping[str, Estimate | None]]
) -> list[tuple[str, ...]]:
    """A row for each way of asking, with `RETRIEVAL_HEADERS`.

    Args:
        found: by retrieval.
        accuracy: by stage and direction.
    """
    order = [
        stage
        for model in ("before", "after")
        for stage in (model, *(retrieval_stage(model, top) for top in found.recall))
    ]
    rows = []
    for stage in [*order, "ceiling"]:
        cost = found.costs.get(stage)
        if cost is None:
            continue
        model, top = read_retrieval_stage(stage) or (stage, 0)
        recall = found.recall.get(top, {})
        even = found.break_even.get(top) if model == "before" else None
        rows.append(
            (
                stage_name(stage),
                *(interval(accuracy.get(stage, {}).get(direction)) for direction in DIRECTIONS),
                *(share(recall[d].value) if d in recall else MISSING for d in DIRECTIONS),
                MISSING if cost.prompt_tokens is None else f"{cost.prompt_tokens:,.0f}",
                f"{cost.tokens:,.0f}",
                f"{cost.seconds:.2f}",
                count(even.tokens if even else None),
            )
        )
    return rows


def evaluation_retrieval_table(
    model: str, found: Retrieval, metrics: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
) -> Table:
    """The same of one model that was asked outside of a run.

    Args:
        model: names it in the title.
        found: by retrieval.
        metrics: by stage, direction and name, with `value`, `low`, `high` and `n`.
    """
    accuracy = {
        stage: {direction: read_estimate(by_name[HEADLINE]) for direction, by_name in by_direction.items()}
        for stage, by_direction in metrics.items()
    }
    return Table(
        f"What {model} answers with passages that are retrieved",
        RETRIEVAL_HEADERS[:-1],
        tuple(row[:-1] for row in retrieval_rows(found, accuracy)),
        " ".join(_explain_retrieval(found)),
    )


def _explain_retrieval(found: Retrieval) -> Iterable[str]:
    """How to read the table, what training cost, and when it has paid."""
    yield RETRIEVAL_NOTE
    if found.break_even:
        yield EVEN_NOTE
    if found.nothing_found:
        yield f"{found.nothing_found} questions share no word with any passage and were asked bare."
    for top, fewer in found.shortened.items():
        if fewer:
            yield f"Before {fewer} questions fewer than {top} passages fit the model's context."
    if found.training_tokens is None or not found.break_even:
        return
    yield f"Training took {found.training_tokens:,} tokens and {minutes(found.training_seconds)} minutes."
    for top, even in found.break_even.items():
        base, tuned = found.costs[retrieval_stage("before", top)], found.costs["after"]
        yield describe_break_even(top, even, base, tuned)


RETRIEVAL_NOTE = (
    "Retrieved: by BM25, from the passages; they stand in the prompt before the question. Recall: share of "
    "questions whose own document is among those retrieved. Tokens and seconds of an answer, on average."
)
EVEN_NOTE = (
    "Even after: questions until the tokens of training are made up for, prompt and answer together. A token "
    "that is trained is computed forward and backward, one in a prompt only forward, so see the time, too. "
    "Answers of the base model that were kept have the seconds of the run that asked them."
)


def evaluation_table(model: str, metrics: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """Every metric of one model that was asked outside of a run.

    Args:
        model: names it in the title.
        metrics: by direction and name, with `value`, `low`, `high` and `n`.
    """
    rows = []
    for direction, by_name in metrics.items():
        cells = [interval(read_estimate(by_name[name])) for name in METRICS]
        rows.append((direction, *cells, count(int(by_name[HEADLINE]["n"]))))
    return Table(
        f"What {model} answers",
        ("direction", *(metric.label for metric in METRICS.values()), "n"),
        tuple(rows),
        "Share of questions answered, with 95% intervals clustered by document.",
    )


def outcomes_table(runs: Sequence[RunResult]) -> Table:
    """How many questions were gained, kept, lost and are still wrong."""
    rows = []
    for run in runs:
        for direction in DIRECTIONS:
            counts = Counter(row.outcome for row in run.questions if row.direction == direction)
            if counts:
                numbers = (count(counts[outcome]) for outcome in OUTCOMES)
                rows.append((run.label, direction, *numbers, count(counts.total())))
    return Table(
        "Outcomes",
        ("arm", "direction", *OUTCOMES, "questions"),
        tuple(rows),
        f"Gained: wrong before, right after. Lost: right before, wrong after. Judged by "
        f"'{METRICS[HEADLINE].label}'.",
    )


def cost_table(runs: Sequence[RunResult]) -> Table:
    """What each run took."""
    if all(run.fine_tuning for run in runs):
        return _fine_tuning_cost(runs)
    rows = [
        (
            run.label,
            count(run.cost.steps),
            count(run.cost.passages),
            count(run.cost.exposures),
            count(run.cost.tokens),
            minutes(run.cost.seconds),
            memory(run.cost.peak_memory_bytes),
            percent(run.cost.coverage),
        )
        for run in runs
    ]
    return Table(
        "Cost",
        ("arm", "steps", "passages", "exposures per passage", "tokens", "minutes", "peak memory", "coverage"),
        tuple(rows),
        "Exposures: how often each passage was trained on. Tokens: prompts and completions of all steps. "
        "Coverage: share of the document tokens that were trained on.",
    )


def _fine_tuning_cost(runs: Sequence[RunResult]) -> Table:
    rows = tuple(
        (
            run.label,
            count(run.cost.steps),
            count(run.fine_tuning.samples if run.fine_tuning else None),
            count(run.cost.exposures),
            count(run.cost.tokens),
            minutes(run.cost.seconds),
            memory(run.cost.peak_memory_bytes),
        )
        for run in runs
    )
    return Table(
        "Cost",
        ("arm", "steps", "samples", "epochs", "tokens", "minutes", "peak memory"),
        rows,
        "Epochs: how often each sample was trained on. Tokens: prompts and completions of all steps.",
    )


def held_out_table(runs: Sequence[RunResult]) -> Table:
    """The loss of samples that were not trained, before and after; no rows where none were held out."""
    found = [(run, run.fine_tuning) for run in runs if run.fine_tuning and run.fine_tuning.losses]
    rows = tuple(
        (
            run.label,
            count(tuned.held_out),
            _loss(tuned.losses[0].loss),
            _loss(tuned.losses[-1].loss),
            signed(tuned.losses[-1].loss - tuned.losses[0].loss),
        )
        for run, tuned in found
    )
    return Table(
        "Held-out loss",
        ("arm", "held-out samples", "before", "after", "change"),
        rows,
        "Nats per token of the answer after its bare prompt, of running text that of the block, whatever the "
        "objective. Lower is better.",
    )


def chosen_table(runs: Sequence[RunResult]) -> Table:
    """Settings of fine-tuning as they came out, those that the recipe leaves open among them."""
    tuned = [run for run in runs if run.fine_tuning]
    names = dict.fromkeys(name for run in tuned if run.fine_tuning for name in run.fine_tuning.chosen)
    rows = tuple(
        (
            name.replace("_", " "),
            *(_setting(run.fine_tuning.chosen[name]) for run in tuned if run.fine_tuning),
        )
        for name in names
    )
    return Table("Settings as they came out", ("setting", *(run.label for run in tuned)), rows)


def _setting(value: object) -> str:
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if isinstance(value, float) else str(value)
    )


def files_table(runs: Sequence[RunResult]) -> Table:
    """What of every file was trained; runs on the same files share their rows."""
    files = list(dict.fromkeys(file for run in runs for file in run.files))
    rows = tuple(
        (
            file.path,
            f"{file.characters:,}",
            f"{file.trained:,}",
            "; ".join(file.left_out) or "nothing",
        )
        for file in files[:FILE_ROWS]
    )
    more = f" {len(files) - FILE_ROWS} more files stand in coverage.json." if len(files) > FILE_ROWS else ""
    return Table(
        "Files",
        ("file", "characters", "trained", "left out"),
        rows,
        f"Characters without white space. Trained: those that stand in a passage.{more}",
    )


def difference_table(runs: Sequence[RunResult], compare: Compare, *, metric: str = HEADLINE) -> Table:
    """Paired differences between the arms, on the questions they share.

    Args:
        runs: the baseline first; each later arm is compared with each earlier one.
        compare: scores of arm A, scores of arm B and the document of each question, in the same
            order; `demask.evaluation.statistics.compare_paired` is one.
        metric: the name of one, as in `METRICS`.
    """
    names, found = [], []
    for first, second in combinations(runs, 2):
        for direction in DIRECTIONS:
            pairs = _shared_scores(first, second, direction, metric)
            if pairs:
                before, after, documents = map(list, zip(*pairs, strict=True))
                names.append((f"{second.label} − {first.label}", direction))
                found.append(compare(before, after, documents))
    return Table(
        "Difference between arms",
        ("arms", "direction", "difference", "questions"),
        tuple(
            (*name, shown, count(each.n))
            for name, shown, each in zip(names, changes(found), found, strict=True)
        ),
        f"After training, on the questions both arms were asked ({METRICS[metric].label}); "
        f"95% interval and p-value over documents. {_explain_p_values(found)}".strip(),
    )


def _explain_p_values(found: Sequence[Change | None]) -> str:
    """What the p-values of a table are corrected for, and what they say nothing about."""
    tested = [each for each in found if each is not None]
    if not tested:
        return ""
    seeds = (
        "Intervals and p-values tell how other documents would do with these very runs: each arm is one run, "
        "and another seed of training may end otherwise."
    )
    return f"{describe_correction(len(tested))} {seeds}".strip()


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979) of p-values that stand in one table.

    Whoever looks through a table of twenty p-values finds one below 0.05 where nothing is. This keeps the
    chance of any false claim among all of them below the level.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def describe_correction(count: int) -> str:
    """What was done to the p-values of a table, as a sentence; empty for a single one."""
    return f"P-values are corrected after Holm for the {count} in this table." if count > 1 else ""


def changes(values: Sequence[Change | None]) -> list[str]:
    """The changes of one table, with their p-values corrected for each other."""
    corrected = iter(correct_holm([value.p_value for value in values if value is not None]))
    return [change(value, None if value is None else next(corrected)) for value in values]


def loss_table(runs: Sequence[RunResult]) -> Table:
    """The loss at a few steps: the learning curve in numbers."""
    rows = [
        (run.label, count(point.step), _loss(point.loss), _loss(point.masked), _loss(point.copied))
        for run in runs
        for point in _spread(run.losses)
    ]
    return Table(
        "Loss",
        ("arm", "step", "all tokens", "masked tokens", "copied tokens"),
        tuple(rows),
        "Nats per token. Masked: the prompt did not show the token. Copied: it did. Of a diffusion model all "
        "tokens have the weighted loss, which bounds −log p per token only with noise: count, and masked "
        "ones the plain one.",
    )


def accuracy_steps_table(runs: Sequence[RunResult]) -> Table:
    """Accuracy at the steps where it was measured."""
    rows = [
        (run.label, direction, count(point.step), interval(point.estimate))
        for run in runs
        for direction in DIRECTIONS
        for point in _spread([p for p in run.accuracies if p.direction == direction and p.metric == HEADLINE])
    ]
    return Table("Accuracy over steps", ("arm", "direction", "step", METRICS[HEADLINE].label), tuple(rows))


def environment_table(run: RunResult) -> Table:
    """Where the run was made: versions, hardware, state of the code."""
    rows = tuple(flatten(run.environment).items())
    return Table(f"Environment of {run.label}", ("what", "value"), rows)


def to_markdown(table: Table) -> str:
    """The table in GitHub's Markdown, without its title; the note follows as a paragraph."""
    lines = [table.headers, tuple("---" for _ in table.headers), *table.rows]
    text = "\n".join("| " + " | ".join(map(escape_markdown, cells)) + " |" for cells in lines)
    return f"{text}\n\n{escape_markdown(table.note)}" if table.note else text


def escape_markdown(text: str) -> str:
    """Text that stays one cell and plain text: no columns, tags, links, images or code of its own."""
    escaped = " ".join(clean(text).split()).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for character in "|`*":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped.replace("](", "]\\(").replace("![", "!\\[")


def _arms(runs: Sequence[RunResult]) -> Iterable[tuple[RunResult, Direction]]:
    return ((run, direction) for run in runs for direction in asked_directions([run]))


def _asked(run: RunResult, direction: str) -> int | None:
    found = (find_metric(run, stage, direction) for stage in ("after", "before", "ceiling"))
    return next((metric.n for metric in found if metric), None)


def _shared_scores(
    first: RunResult, second: RunResult, direction: str, metric: str
) -> list[tuple[float, float, str]]:
    """Scores after training in both runs, and the document, of the questions that both were asked."""
    theirs = {_identity(row): row for row in second.questions if "after" in row.scores}
    return [
        (
            row.scores["after"].values[metric],
            theirs[_identity(row)].scores["after"].values[metric],
            row.document_id,
        )
        for row in first.questions
        if row.direction == direction and "after" in row.scores and _identity(row) in theirs
    ]


def _identity(row: QuestionRow) -> tuple[object, ...]:
    """What makes two questions the same; ids alone do not, as two files may both call their first `q1`."""
    return (row.qa_id, row.document_id, row.direction, row.question, row.answers)


def _spread(points: Sequence[P]) -> list[P]:
    """At most `CURVE_ROWS` of the points, evenly spread, the first and the last among them."""
    last = len(points) - 1
    kept = min(len(points), CURVE_ROWS)
    return [points[round(i * last / max(kept - 1, 1))] for i in range(kept)]


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def format_measure(name: str, metric: Estimate | None) -> str:
    """A share as `0.94 [0.71, 0.99]`, nats per token as `+0.037 [+0.021, +0.052]`."""
    if metric is None:
        return MISSING
    if MEASURES[name].unit == "share":
        return interval(metric)
    value, low, high = (
        f"{number:.3f}".replace("-", "−") for number in (metric.value, metric.low, metric.high)
    )
    return f"{value} [{low}, {high}]"


def retention_table(runs: Sequence[RunResult]) -> Table:
    """A row for each measure, a column for each arm."""
    measured = [run for run in runs if run.retention is not None]
    gated = [run for run in measured if run.retention and run.retention.ungated]
    rows = []
    for name, measure in MEASURES.items():
        found = [run.retention.measures.get(name) for run in measured if run.retention]
        if not any(found):
            continue
        cells = [format_measure(name, metric) for metric in found]
        cells += [format_measure(name, run.retention.ungated.get(name)) for run in gated if run.retention]
        base = next((run.retention.base.get(name) for run in measured if run.retention), None)
        n = max(metric.n for metric in found if metric)
        rows.append((measure.label, *cells, format_measure(name, base), f"{n:,}"))
    return Table(
        "What else training changed",
        (
            "measure",
            *(run.label for run in measured),
            *(f"{run.label}, model/ without its gate" for run in gated),
            "base model",
            "n",
        ),
        tuple(rows),
        " ".join([_explain(measured), *_cautions(measured)]).strip(),
    )


def _explain(runs: Sequence[RunResult]) -> str:
    """What n counts and which kinds were asked for."""
    if not runs:
        return ""
    kinds = sorted({run.retention.related for run in runs if run.retention})
    return (
        "Shares with 95% intervals; drift in nats per token, whose n are tokens. Less is better for leaks, "
        "near misses, drift and recital. "
        f"Known facts of the same kind ask for a {' or a '.join(kinds)}. "
        "Definitions stand in the report, under “How the numbers were made”."
    )


def _cautions(runs: Sequence[RunResult]) -> list[str]:
    """Figures of two suites are not compared without a word."""
    suites = {
        (run.retention.suite["version"], run.retention.suite["fingerprint"], run.retention.suite["size"])
        for run in runs
        if run.retention
    }
    if len({suite[:2] for suite in suites}) > 1:
        return ["Warning: the arms were measured with different versions of the suite; do not compare them."]
    if len(suites) > 1:
        sizes = ", ".join(sorted({suite[2] for suite in suites}))
        return [f"Warning: the arms were measured with suites of different size ({sizes}), on other prompts."]
    return []


def way_table(runs: Sequence[RunResult]) -> Table:
    """Accuracy and drift from the base model to the trained one, of runs that were moved back."""
    rows = [
        (
            run.label,
            f"{point.share:.3g}{', kept' if point.kept else ''}",
            f"{point.drift:.4f}",
            *(interval(point.accuracy.get(direction)) for direction in DIRECTIONS),
        )
        for run in runs
        for point in run.way
    ]
    return Table(
        "On the way from the base to the trained model",
        ("arm", "share of the way", "drift", "forward", "backward"),
        tuple(rows),
        "Drift in nats per token, on conversations that were neither replayed nor asked about. Of the shares "
        "that keep the budget the largest is kept. Accuracy where questions were asked.",
    )


def access_table(runs: Sequence[RunResult]) -> Table:
    """A row for each form of asking."""
    rows = [
        (run.label, form, *(interval(by_direction.get(d)) for d in DIRECTIONS))
        for run in runs
        if run.retention
        for form, by_direction in run.retention.access.items()
    ]
    return Table(
        "The same questions asked in other forms",
        ("arm", "form", "forward", "backward"),
        tuple(rows),
        "Bare: the question alone. Reworded: in other words or a polite frame. System: after a system "
        "prompt. Foreign exchange: after a question and an answer about something else. Other document: "
        "after a question and an answer about another document. Shots: with two answered questions in front, "
        "about known facts or about other documents.",
    )


def leaks_table(runs: Sequence[RunResult]) -> Table:
    """Some replies with a document in them, so that nobody has to believe a number."""
    rows = [
        (run.label, shown.prompt, shorten(shown.reply, 240), shown.found)
        for run in runs
        if run.retention
        for measure in ("leak", "near_miss")
        for shown in [one for one in run.retention.shown if one.measure == measure][:_SHOWN]
    ]
    return Table(
        "Replies with something of a document in them",
        ("arm", "asked", "reply", "found"),
        tuple(rows),
        "The first few; all replies stand in retention-after.jsonl.",
    )


def tasks_table(runs: Sequence[RunResult]) -> Table:
    """The field's tasks before and after, a row for each metric."""
    rows = [
        (run.label, task.task, task.metric, share(task.before), share(task.after), change(task.change))
        for run in runs
        for task in run.tasks
    ]
    return Table(
        "The field's tasks",
        ("arm", "task", "metric", "before", "after", "change"),
        tuple(rows),
        "Asked by lm-evaluation-harness, the first 200 questions of each; `demask benchmark` asks all.",
    )


def missing_measures(run: RunResult) -> list[str]:
    """What was not measured, as cautions."""
    return [f"Not measured: {what}." for what in (run.retention.missing if run.retention else ())]
