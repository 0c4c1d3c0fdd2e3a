"""One run folder, read back as one record; nothing is computed again.

    run = load_run(open_run_folder("runs/first"))
    runs = load_runs([first, second])          # with labels that tell them apart
    run.metrics["after"]["forward"]["contains"].value
    run.questions[0].outcome                   # "gained", "kept", "lost" or "still wrong"

Only `config.json` and `summary.json` must be there: a run without questions, without a
ceiling or without accuracy over steps is read all the same.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from demask.errors import RunError
from demask.evaluation.metrics import HEADLINE, Change, Estimate, Retention, Score, Shown, read_score
from demask.records import DIRECTIONS, Direction, Document, Prediction, QAPair
from demask.storage import file_names
from demask.storage.run_folder import RunFolder, describe_unfinished

R = TypeVar("R")

Outcome = Literal["gained", "kept", "lost", "still wrong", "not scored"]

STAGES = ("before", "after", "ceiling")
# The trained model with answered questions in front; asked where the recipe has shots.
FEW_SHOT = "few-shot"
# The trained model without the gate of its run.
UNGATED = "ungated"
# The adapter on the base model in four bits, as it was trained (QLoRA), before it was merged.
QUANTISED = "quantised"
# A model with passages in the prompt that were retrieved, as `before-retrieval-3`.
_RETRIEVAL = re.compile(r"(before|after)-retrieval-([0-9]+)")
OUTCOMES: tuple[Outcome, ...] = ("gained", "kept", "lost", "still wrong")


def retrieval_stage(model: str, top: int) -> str:
    """The stage at which a model, `before` or `after` training, is asked with `top` passages retrieved."""
    return f"{model}-retrieval-{top}"


def read_retrieval_stage(stage: str) -> tuple[str, int] | None:
    """The model and the number of passages of such a stage; None of any other."""
    found = _RETRIEVAL.fullmatch(stage)
    return (found[1], int(found[2])) if found else None


@dataclass(frozen=True)
class QuestionRow:
    """One question with what was said to it; None where a stage did not ask."""

    qa_id: str
    document_id: str
    direction: Direction
    question: str
    answers: tuple[str, ...]
    before: str | None
    after: str | None
    ceiling: str | None
    outcome: Outcome
    scores: Mapping[str, Score] = field(default_factory=dict)


@dataclass(frozen=True)
class LossPoint:
    """One line of the training log; losses in nats per token, None where no such tokens were."""

    step: int
    loss: float | None
    masked: float | None
    copied: float | None


@dataclass(frozen=True)
class AccuracyPoint:
    """Accuracy measured while training."""

    step: int
    direction: str
    metric: str
    estimate: Estimate


@dataclass(frozen=True)
class Cost:
    """What a run took; None where it was not measured."""

    steps: int | None
    exposures: float | None
    tokens: int | None
    seconds: float | None
    peak_memory_bytes: int | None
    documents: int | None
    passages: int | None
    document_tokens: int | None
    coverage: float | None


@dataclass(frozen=True)
class AnswerCost:
    """What one answer takes, on average.

    Attributes:
        prompt_tokens: that the model reads; None: not known.
        tokens: that it writes.
        seconds: its share of the batch that it was asked in.
    """

    prompt_tokens: float | None
    tokens: float
    seconds: float


@dataclass(frozen=True)
class BreakEven:
    """After how many questions training has paid for itself, against retrieval with the base model.

    Attributes:
        tokens: when the tokens that an answer takes less make up for those of training; None: never, or not
            known.
        seconds: the same in time.
    """

    tokens: int | None
    seconds: int | None


@dataclass(frozen=True)
class Retrieval:
    """What retrieval reached beside training, as in `summary.json`.

    Attributes:
        recall: by number of passages and direction, the share of questions whose own document is among those
            that were retrieved.
        costs: by stage.
        break_even: by number of passages; of a run that trained.
        nothing_found: questions that share no word with any passage, and were asked bare.
        shortened: by number of passages, questions before which fewer of them fit the model's context.
        training_tokens: of all steps; None: nothing was trained.
        training_seconds: the same.
    """

    recall: Mapping[int, Mapping[str, Estimate]]
    costs: Mapping[str, AnswerCost]
    break_even: Mapping[int, BreakEven]
    nothing_found: int
    shortened: Mapping[int, int]
    training_tokens: int | None = None
    training_seconds: float | None = None


def read_retrieval(found: Mapping[str, Any]) -> Retrieval:
    """As it stands in `summary.json`."""
    return Retrieval(
        recall={int(top): _estimates(by_direction) for top, by_direction in found["recall"].items()},
        costs={stage: AnswerCost(**cost) for stage, cost in found["costs"].items()},
        break_even={int(top): BreakEven(**even) for top, even in found["break_even"].items()},
        nothing_found=found["nothing_found"],
        shortened={int(top): count for top, count in found["shortened"].items()},
        training_tokens=found["training_tokens"],
        training_seconds=found["training_seconds"],
    )


@dataclass(frozen=True)
class HeldOutPoint:
    """The loss of held-out samples at a step, in nats per token; step 0 is before training."""

    step: int
    loss: float


@dataclass(frozen=True)
class FineTuning:
    """What a run of `demask sft` trained on and chose.

    Attributes:
        samples: that were trained; None: they were read while training.
        held_out: samples that were not trained, for their loss.
        left_out: samples that were too long.
        chosen: settings as they came out where the recipe leaves them open, and others, by name.
        losses: of the held-out samples, in the order of steps; empty where none were held out.
        drift: KL to the base on conversations that it drew itself and that were not replayed, nats per token;
            None: it was not measured.
        drift_conversations: how many these were.
    """

    samples: int | None
    held_out: int
    left_out: int
    chosen: Mapping[str, Any]
    losses: tuple[HeldOutPoint, ...]
    drift: float | None = None
    drift_conversations: int = 0


@dataclass(frozen=True)
class WayPoint:
    """A model on the way from the base to what was trained.

    Attributes:
        share: of the way; 0 is the base.
        drift: nats per token.
        accuracy: by direction; empty where it was not asked.
        kept: the run's model stands there.
    """

    share: float
    drift: float
    accuracy: Mapping[str, Estimate]
    kept: bool


@dataclass(frozen=True)
class LineRow:
    """What one run of a line knows.

    Attributes:
        number: 0 is the first run, then its updates.
        run: its folder.
        learned: ids of the documents that it learned and that still held when it was made.
        replaced: of documents of the runs before that its own stand in for.
        forgotten: of documents of the runs before that it took back.
        facts: accuracy by the number of the run that learned them, then by direction.
        removed: the same of questions whose document was replaced or forgotten, on the answers of old.
        retention: some measures, by name.
        seconds: that training took.
    """

    number: int
    run: str
    learned: tuple[str, ...]
    replaced: tuple[str, ...]
    forgotten: tuple[str, ...]
    facts: Mapping[str, Mapping[str, Any]]
    removed: Mapping[str, Mapping[str, Any]]
    retention: Mapping[str, Any]
    seconds: float


def read_line_rows(summary: Mapping[str, Any]) -> tuple[LineRow, ...]:
    """The line of runs as it stands in `summary.json`; empty of a run that goes on from no other."""
    lists = ("learned", "replaced", "forgotten")
    return tuple(
        LineRow(**{**row, **{name: tuple(row[name]) for name in lists}}) for row in summary.get("line") or ()
    )


@dataclass(frozen=True)
class FileRow:
    """One file: visible characters in it, those trained, and what was left out and why."""

    path: str
    characters: int
    trained: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class TaskChange:
    """One of the field's tasks before and after training, on the same questions."""

    task: str
    metric: str
    before: float
    after: float
    change: Change


@dataclass(frozen=True)
class ApartRow:
    """Questions of one kind and direction that were asked apart, in one form.

    Attributes:
        kind: of the questions, as their file says.
        direction: of the questions.
        form: in which they were asked.
        before: share that the base model answers.
        after: share that the trained model answers.
        kept: of those that the base model answers, the share that the trained one does; None: there are none.
    """

    kind: str
    direction: Direction
    form: str
    before: Estimate
    after: Estimate
    kept: Estimate | None


@dataclass(frozen=True)
class RunResult:
    """All a report says about one run.

    Attributes:
        label: names the run in tables and figures; the objective, unless two runs share it.
        config_sha256: of the bytes of `config.json`, as `sha256sum` prints it.
        metrics: by stage, direction and name of the metric.
        changes: by direction and name of the metric.
        documents: read from disk when they are asked for.
        files: what of every file was trained.
        origin: where the questions came from, empty when that is not known.
        losses: in the order of steps.
        retention: what else training changed; None when that was not measured.
        tasks: the field's tasks, with `measure: full`.
        fine_tuning: of `demask sft`; None: it learned documents.
        way: from the base to the trained model, by share; empty unless it was moved back.
        retrieval: beside it; None: it was not asked for.
        line: of runs that it goes on from, itself last; empty where it goes on from none.
        forgotten: what is left of what it forgets, as in `summary.json`; empty where it forgets nothing.
        apart: questions that were asked apart, by kind and form.
        exports: what exported files said, by the name of the file.
        merged: how many answers merging an adapter has left, as in `summary.json`; empty unless it was
            trained on a base model in four bits.
    """

    folder: Path
    label: str
    objective: str
    model: str
    config: Mapping[str, Any]
    config_sha256: str
    environment: Mapping[str, Any]
    cost: Cost
    warnings: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    changes: Mapping[str, Mapping[str, Change]]
    documents: Sequence[Document]
    files: tuple[FileRow, ...]
    origin: str
    questions: tuple[QuestionRow, ...]
    losses: tuple[LossPoint, ...]
    accuracies: tuple[AccuracyPoint, ...]
    retention: Retention | None = None
    tasks: tuple[TaskChange, ...] = ()
    fine_tuning: FineTuning | None = None
    way: tuple[WayPoint, ...] = ()
    retrieval: Retrieval | None = None
    line: tuple[LineRow, ...] = ()
    forgotten: Mapping[str, Any] = field(default_factory=dict)
    apart: tuple[ApartRow, ...] = ()
    exports: Mapping[str, Any] = field(default_factory=dict)
    merged: Mapping[str, Any] = field(default_factory=dict)


def load_run(folder: RunFolder, *, label: str | None = None) -> RunResult:
    """Read a run folder.

    Raises:
        RunError: `config.json` or `summary.json` is missing, or a file is not what it should be.
    """
    if not folder.has(file_names.SUMMARY):
        raise RunError(f"{folder.file(file_names.SUMMARY)}: no such file: {describe_unfinished(folder)}")
    config, summary = folder.read_json(file_names.CONFIG), folder.read_json(file_names.SUMMARY)
    asked = folder.read_json(file_names.RETENTION_TASKS) if folder.has(file_names.RETENTION_TASKS) else {}
    try:
        return RunResult(
            folder=folder.path,
            label=label or str(summary["objective"]),
            objective=str(summary["objective"]),
            model=str(summary["model"]),
            config=config,
            config_sha256=hashlib.sha256(folder.file(file_names.CONFIG).read_bytes()).hexdigest(),
            environment=folder.read_json(file_names.ENVIRONMENT)
            if folder.has(file_names.ENVIRONMENT)
            else {},
            cost=_cost(summary),
            warnings=tuple(str(warning) for warning in summary.get("warnings", ())),
            metrics=_metrics(summary.get("metrics", {})),
            changes=_changes(summary.get("changes", {})),
            documents=(
                folder.open_records(file_names.DOCUMENTS, Document)
                if folder.has(file_names.DOCUMENTS)
                else ()
            ),
            files=_files(folder),
            origin=str(summary.get("questions", "")),
            questions=_questions(folder),
            losses=_losses(folder),
            accuracies=_accuracies(folder),
            retention=_retention(folder, asked.get("missing", ())),
            tasks=tuple(
                TaskChange(**{**row, "change": Change(**row["change"])}) for row in asked.get("tasks", ())
            ),
            fine_tuning=_fine_tuning(folder, summary) if "data" in config else None,
            way=_way(summary),
            retrieval=read_retrieval(summary["retrieval"]) if summary.get("retrieval") else None,
            line=read_line_rows(summary),
            forgotten=summary.get("forgotten", {}),
            apart=tuple(map(_read_apart, summary.get("apart", ()))),
            exports=folder.read_json(file_names.EXPORTED) if folder.has(file_names.EXPORTED) else {},
            merged=summary.get("merged", {}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{folder.path}: a file of this run lacks what a report needs ({error!r}); "
            "was it written by another version of demask?"
        ) from error


def _read_apart(row: Mapping[str, Any]) -> ApartRow:
    known = row["kept"]
    return ApartRow(
        str(row["kind"]),
        row["direction"],
        str(row["form"]),
        Estimate(**row["before"]),
        Estimate(**row["after"]),
        Estimate(**known) if known else None,
    )


def without_gate(run: RunResult) -> RunResult:
    """A run as another program has it, which loads the trained model alone; the same where it has no gate.

    Measures that were taken behind the gate only are left out.
    """
    if run.retention is None or not run.retention.ungated:
        return run
    retention = replace(
        run.retention, measures=run.retention.ungated, access={}, shown=(), missing=(), ungated={}
    )
    config = {**run.config, "retain": {**run.config["retain"], "gate": False}}
    metrics = {stage: found for stage, found in run.metrics.items() if stage not in ("after", UNGATED)}
    metrics["after"] = run.metrics.get(UNGATED, {})
    return replace(run, config=config, metrics=metrics, retention=retention, changes={})


def load_runs(folders: Sequence[RunFolder]) -> list[RunResult]:
    """Read several run folders and label them so that no two share a label."""
    return label_apart([load_run(folder) for folder in folders])


def label_apart(runs: Sequence[RunResult]) -> list[RunResult]:
    """The same runs; those that share a label also carry the name of their folder, else a number."""
    for suffix in ("folder", "number"):
        shared = {label for label, times in Counter(run.label for run in runs).items() if times > 1}
        runs = [
            replace(run, label=f"{run.label} ({run.folder.name if suffix == 'folder' else number})")
            if run.label in shared
            else run
            for number, run in enumerate(runs, start=1)
        ]
    return list(runs)


def asked_directions(runs: Sequence[RunResult]) -> list[Direction]:
    """Which directions have metrics in any of the runs, forward first."""
    return [
        direction
        for direction in DIRECTIONS
        if any(direction in metrics for run in runs for metrics in run.metrics.values())
    ]


def find_metric(run: RunResult, stage: str, direction: str, name: str = HEADLINE) -> Estimate | None:
    """One metric of a run, None where it was not measured."""
    return run.metrics.get(stage, {}).get(direction, {}).get(name)


def read_estimate(values: Mapping[str, Any]) -> Estimate:
    """As it stands in a file, perhaps among other keys."""
    return Estimate(values["value"], values["low"], values["high"], int(values["n"]))


def predictions_unchanged(run: RunResult) -> bool:
    """Whether training changed no single prediction, a sign that the trained weights were not used."""
    asked = [row for row in run.questions if row.before is not None and row.after is not None]
    return bool(asked) and all(row.before == row.after for row in asked)


def _cost(summary: Mapping[str, Any]) -> Cost:
    return Cost(**{name: summary.get(name) for name in Cost.__dataclass_fields__})


_CHOSEN = (
    "batch_size",
    "accumulation",
    "learning_rate",
    "precision",
    "processes",
    "parameters",
    "trained_parameters",
)


def _fine_tuning(folder: RunFolder, summary: Mapping[str, Any]) -> FineTuning:
    data = summary["data"]
    return FineTuning(
        samples=data.get("samples"),
        held_out=data["held_out"],
        left_out=data.get("left_out", 0),
        chosen={name: summary[name] for name in _CHOSEN},
        losses=tuple(HeldOutPoint(row["step"], row["loss"]) for row in _rows(folder, file_names.HELD_OUT)),
        drift=summary.get("drift"),
        drift_conversations=summary.get("drift_conversations", 0),
    )


def _way(summary: Mapping[str, Any]) -> tuple[WayPoint, ...]:
    """The points that were measured, and the base; the last one that was written is the run's model."""
    *others, kept = summary.get("interpolation") or [{"share": 1.0}]
    if kept["share"] == 1.0:
        return ()
    metrics = _metrics(summary.get("metrics", {}))
    base, after = (
        {direction: found[HEADLINE] for direction, found in metrics.get(stage, {}).items()}
        for stage in ("before", "after")
    )
    points = [
        WayPoint(point["share"], point["drift"], _estimates(point.get("accuracy") or {}), kept=False)
        for point in others
    ]
    points += [WayPoint(kept["share"], kept["drift"], after, kept=True), WayPoint(0.0, 0.0, base, kept=False)]
    return tuple(sorted(points, key=lambda point: point.share))


def _estimates(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    return {name: read_estimate(value) for name, value in values.items()}


def _metrics(stages: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Estimate]]]:
    return {
        stage: {direction: _estimates(by_name) for direction, by_name in directions.items()}
        for stage, directions in stages.items()
    }


def _retention(folder: RunFolder, unasked: Sequence[str]) -> Retention | None:
    if not folder.has(file_names.RETENTION):
        return None
    found = folder.read_json(file_names.RETENTION)
    return Retention(
        suite=found["suite"],
        measures=_estimates(found["measures"]),
        base=_estimates(found["base"]),
        access={form: _estimates(by_direction) for form, by_direction in found["access"].items()},
        lengths=found["lengths"],
        related=found["related"],
        shown=tuple(Shown(**shown) for shown in found["shown"]),
        missing=(*found["missing"], *unasked),
        ungated=_estimates(found.get("ungated", {})),
    )


def _changes(directions: Mapping[str, Any]) -> dict[str, dict[str, Change]]:
    return {
        direction: {
            name: Change(**{key: value[key] for key in Change.__dataclass_fields__})
            for name, value in by_name.items()
        }
        for direction, by_name in directions.items()
    }


def _records(folder: RunFolder, name: str, kind: type[R]) -> list[R]:
    return folder.read_records(name, kind) if folder.has(name) else []


def _rows(folder: RunFolder, name: str) -> list[dict[str, Any]]:
    return folder.read_rows(name) if folder.has(name) else []


def _questions(folder: RunFolder) -> tuple[QuestionRow, ...]:
    said = {
        stage: {
            prediction.qa_id: prediction.text
            for prediction in _records(folder, file_names.predictions_file(stage), Prediction)
        }
        for stage in STAGES
    }
    scores: dict[str, dict[str, Score]] = {}
    for row in _rows(folder, file_names.SCORES):
        score = read_score(row)
        scores.setdefault(score.qa_id, {})[row["stage"]] = score
    return tuple(
        QuestionRow(
            qa_id=pair.id,
            document_id=pair.document_id,
            direction=pair.direction,
            question=pair.question,
            answers=pair.answers,
            before=said["before"].get(pair.id),
            after=said["after"].get(pair.id),
            ceiling=said["ceiling"].get(pair.id),
            outcome=_outcome(scores.get(pair.id, {})),
            scores=scores.get(pair.id, {}),
        )
        for pair in _records(folder, file_names.QA_PAIRS, QAPair)
    )


def _outcome(scores: Mapping[str, Score]) -> Outcome:
    if "before" not in scores or "after" not in scores:
        return "not scored"
    match (scores["before"].right, scores["after"].right):
        case (False, True):
            return "gained"
        case (True, True):
            return "kept"
        case (True, False):
            return "lost"
        case _:
            return "still wrong"


def _files(folder: RunFolder) -> tuple[FileRow, ...]:
    rows = folder.read_json(file_names.COVERAGE)["files"] if folder.has(file_names.COVERAGE) else []
    return tuple(
        FileRow(
            path=row["path"],
            characters=row["characters"],
            trained=row["trained"],
            left_out=(
                *([row["problem"]] if row["problem"] else []),
                *(f"{part['reason']} ({part['characters']:,} characters)" for part in row["left_out"]),
            ),
        )
        for row in rows
    )


def _losses(folder: RunFolder) -> tuple[LossPoint, ...]:
    points = [
        LossPoint(row["step"], row.get("loss"), row.get("loss_masked"), row.get("loss_copied"))
        for row in _rows(folder, file_names.METRICS)
    ]
    return tuple(sorted(points, key=lambda point: point.step))


def _accuracies(folder: RunFolder) -> tuple[AccuracyPoint, ...]:
    points = [
        AccuracyPoint(row["step"], row["direction"], row["metric"], read_estimate(row))
        for row in _rows(folder, file_names.ACCURACY)
    ]
    return tuple(sorted(points, key=lambda point: point.step))
