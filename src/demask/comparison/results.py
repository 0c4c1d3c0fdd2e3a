"""A grid of runs, read back: every cell with its scores, and the means that tables and figures show.

    for arm in list_arms([load_grid("out/name-description")]):
        arm.reach("fixed")["backward"].estimate, arm.reach("fixed")["backward"].seeds

A cell is one run: a model, an arm (in an ablation: a variant) and a seed. Cells that failed or that are
missing stay in the grid with their reason.

Which checkpoint is reported is a rule: `fixed` takes the one after the last step; `best-on-validation`
chooses a step on the questions of half of the documents and reports the other half; `paper` chooses it on
the very questions that it reports, as the paper did (arXiv 2510.09885), which flatters every arm.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

from demask.comparison.grid import GRID_FILE
from demask.errors import ConfigError, RunError
from demask.evaluation.metrics import HEADLINE, Estimate, Score, read_score
from demask.evaluation.statistics import estimate_mean
from demask.records import DIRECTIONS
from demask.reports.runs import RunResult, load_run
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

Rule = Literal["fixed", "best-on-validation", "paper"]
Status = Literal["done", "failed", "missing"]
# Questions of a direction, or those in either whose answer is the entity that the text is about.
Asked = Literal["forward", "backward", "for the entity"]
Scores = Mapping[str, Score]  # by id of the question

FOR_ENTITY: Asked = "for the entity"
MISSING_REASON = "not run yet"

# Sorts documents into halves that nobody chose; a change of it would change every chosen step.
_HALVES_KEY = b"demask validation half"


class Taken(NamedTuple):
    """What a run had taken by a step, from its start."""

    step: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class CellResult:
    """One run of a grid.

    Attributes:
        folder: of the run; several grids may share it.
        reason: why it failed or is missing; empty when it is done.
        run: None unless it is done.
        scores: by step; step 0 is the base model, the last step the trained one.
        taken: in the order of steps.
        parameters: of the model, None where the run does not say.
    """

    model: str
    arm: str
    seed: int
    folder: Path
    status: Status
    reason: str = ""
    run: RunResult | None = None
    scores: Mapping[int, Scores] = field(default_factory=dict)
    taken: tuple[Taken, ...] = ()
    parameters: int | None = None


@dataclass(frozen=True)
class Grid:
    """All cells of one benchmark, or of one ablation on it.

    Attributes:
        facts: how many documents are taught.
        ablation: its name, None when arms are compared.
        budget: what all cells have the same of, `steps` or `tokens`.
    """

    folder: Path
    benchmark: str
    facts: int
    ablation: str | None
    budget: str
    cells: tuple[CellResult, ...]

    @property
    def setting(self) -> str:
        """What is taught, for people: `biography, 20 facts`."""
        return f"{self.benchmark}, {self.facts:,} facts"


@dataclass(frozen=True)
class QuestionMeans:
    """A score per question, averaged over seeds, and the document of each."""

    values: Mapping[str, float]
    documents: Mapping[str, str]

    def estimate(self) -> Estimate | None:
        """Their mean with an interval over documents, None when there are none."""
        if not self.values:
            return None
        return estimate_mean(list(self.values.values()), [self.documents[id] for id in self.values])


@dataclass(frozen=True)
class Accuracy:
    """One metric of an arm in one direction.

    Attributes:
        estimate: over documents, of the questions' means over seeds.
        seeds: the mean of each seed alone.
    """

    estimate: Estimate
    seeds: Mapping[int, float]


class ArmResult(NamedTuple):
    """The cells of one arm of one model, its seeds, with the grid they belong to."""

    grid: Grid
    model: str
    name: str
    cells: tuple[CellResult, ...]

    @property
    def done(self) -> tuple[CellResult, ...]:
        """The cells that have a result."""
        return done_cells(self.cells)

    def reach(self, rule: Rule, metric: str = HEADLINE) -> dict[str, Accuracy]:
        """Accuracy by direction, over seeds.

        The seeds of an arm answer the same questions on the same documents, and there are few of them. So the
        interval is over documents, of each question's mean over seeds; what every seed reached stands beside.

        Raises:
            RunError: the rule needs scores at several steps and a run has none.
        """
        return measure_accuracy(self.done, [reported_scores(cell, rule) for cell in self.done], metric)


def load_grid(path: str | Path) -> Grid:
    """Read a grid; cells that failed or are not there are read as such.

    Raises:
        ConfigError: no grid stands there.
        RunError: `matrix.json` or the folder of a finished run is not what it should be.
    """
    folder = Path(path)
    if not (folder / GRID_FILE).is_file():
        raise ConfigError(
            f"{path}: no {GRID_FILE} in it, expected a folder made by 'demask reproduce'; check the path"
        )
    plan = RunFolder(folder).read_json(GRID_FILE)
    try:
        benchmark, facts, budget = str(plan["benchmark"]), int(plan["facts"]), str(plan["budget"])
        ablation = plan["ablation"]
        planned = [
            CellResult(
                str(row["model"]),
                str(row["arm"]),
                int(row["seed"]),
                # Grids that share runs keep them beside each other, as `../cells/NAME`.
                Path(os.path.normpath(folder / row["folder"])),
                "missing",
            )
            for row in plan["cells"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{folder / GRID_FILE}: lacks what a table needs ({error!r}); was it written by another version?"
        ) from error
    return Grid(folder, benchmark, facts, ablation, budget, tuple(map(_load_cell, planned)))


def list_arms(grids: Sequence[Grid]) -> list[ArmResult]:
    """Every arm of every model, in the order of the grids."""
    return [
        ArmResult(grid, model, arm, tuple(c for c in grid.cells if (c.model, c.arm) == (model, arm)))
        for grid in grids
        for model, arm in dict.fromkeys((cell.model, cell.arm) for cell in grid.cells)
    ]


def done_cells(cells: Sequence[CellResult]) -> tuple[CellResult, ...]:
    """Those that have a result."""
    return tuple(cell for cell in cells if cell.status == "done")


def check_rule(rule: str) -> Rule:
    """The rule by which a step is chosen.

    Raises:
        ConfigError: there is no such rule.
    """
    if rule not in get_args(Rule):
        raise ConfigError(f"--rule: {rule!r}, expected one of {', '.join(get_args(Rule))}")
    return cast("Rule", rule)


def choose_step(cell: CellResult, rule: Rule) -> int:
    """The step whose scores are reported: the last, or the best one in the eyes of the rule.

    Best is the highest mean of forward and backward `contains`, the earliest step of those that share it.
    A cell that was not trained has step 0 only.

    Raises:
        RunError: the rule chooses a step and the run was asked only at its last.
    """
    trained = sorted(step for step in cell.scores if step > 0)
    if rule == "fixed" or not trained:
        return max(cell.scores, default=0)
    if len(trained) == 1:
        raise RunError(
            f"{cell.folder}: asked at its last step only, and the rule '{rule}' chooses among several; "
            f"run it again so that it leaves {file_names.STEP_SCORES}, or use the rule 'fixed'"
        )
    judges = _documents(cell)
    if rule != "paper":
        if len(judges) < 2:
            raise RunError(
                f"{cell.folder}: questions on {len(judges)} document, and the rule '{rule}' needs two or "
                "more to choose on some and report others; use the rule 'fixed'"
            )
        judges = in_validation_half(judges)
    return max(trained, key=lambda step: (_quality(cell, step, judges), -step))


def in_validation_half(documents: set[str]) -> set[str]:
    """The half of the documents on which a step is chosen; the smaller one when they are odd in number.

    They are ordered by a keyed hash of their ids, so the halves are the same for every arm and seed.
    """

    def place(document: str) -> bytes:
        return hashlib.blake2b(document.encode(), key=_HALVES_KEY, digest_size=8).digest()

    return set(sorted(documents, key=place)[: len(documents) // 2])


def reported_scores(cell: CellResult, rule: Rule) -> dict[str, Score]:
    """Scores of the chosen step on the questions that the rule reports, by id."""
    return _kept(cell, cell.scores.get(choose_step(cell, rule), {}), rule)


def stage_scores(cell: CellResult, stage: str, rule: Rule) -> dict[str, Score]:
    """Scores of a stage (`before`, `ceiling`, `few-shot`) on the questions that the rule reports."""
    return {} if cell.run is None else _kept(cell, _at_stage(cell.run, stage), rule)


def average_questions(
    cells: Sequence[CellResult], scores: Sequence[Scores], direction: str, metric: str
) -> QuestionMeans:
    """Each question's mean over cells, of the questions that all of them were asked.

    Args:
        cells: that were done, one per seed.
        scores: one mapping per cell.
        direction: of the questions, or `FOR_ENTITY`.
        metric: the name of one, as in `METRICS`.
    """
    if not cells or cells[0].run is None:
        return QuestionMeans({}, {})
    documents = _ask(cells[0].run, direction)
    shared = [id for id in documents if all(id in by_id for by_id in scores)]
    values = {id: fsum(by_id[id].values[metric] for by_id in scores) / len(scores) for id in shared}
    return QuestionMeans(values, {id: documents[id] for id in shared})


def measure_accuracy(
    cells: Sequence[CellResult], scores: Sequence[Scores], metric: str
) -> dict[str, Accuracy]:
    """Accuracy by direction of some scores per cell; directions without questions are left out."""
    found: dict[str, Accuracy] = {}
    for direction in DIRECTIONS:
        estimate = average_questions(cells, scores, direction, metric).estimate()
        if estimate is None:
            continue
        seeds = {}
        for cell, by_id in zip(cells, scores, strict=True):
            values = average_questions([cell], [by_id], direction, metric).values.values()
            if values:
                seeds[cell.seed] = fsum(values) / len(values)
        found[direction] = Accuracy(estimate, seeds)
    return found


def _ask(run: RunResult, direction: str) -> dict[str, str]:
    """The document of each question that is meant, by id."""
    if direction != FOR_ENTITY:
        return {row.qa_id: row.document_id for row in run.questions if row.direction == direction}
    entities = {document.id: str(document.metadata.get("entity", "")) for document in run.documents}
    return {
        row.qa_id: row.document_id
        for row in run.questions
        if any(answer.casefold() == entities.get(row.document_id, "").casefold() for answer in row.answers)
    }


def _load_cell(planned: CellResult) -> CellResult:
    """The planned cell with what its folder holds."""
    path = planned.folder
    run, failure = RunFolder(path), path.parent / f"{path.name}.failed.json"
    if not (run.has(file_names.CONFIG) and run.has(file_names.SUMMARY)):
        if not failure.is_file():
            return replace(planned, reason=_how_far(run))
        reason = str(RunFolder(path.parent).read_json(failure.name).get("reason", "no reason given"))
        return replace(planned, status="failed", reason=" ".join(reason.split()))
    loaded = load_run(run, label=planned.arm)
    try:
        return replace(
            planned,
            status="done",
            run=loaded,
            scores=_load_scores(run, loaded),
            taken=_load_taken(run, loaded),
            parameters=run.read_json(file_names.SUMMARY).get("parameters"),
        )
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{path}: a line of {file_names.STEP_SCORES} or {file_names.METRICS} lacks what a table needs "
            f"({error!r}); delete the folder and run the cell again"
        ) from error


def _how_far(run: RunFolder) -> str:
    """Why a cell that has not failed has no result."""
    if not run.has(file_names.METRICS):
        return MISSING_REASON
    steps = re.findall(r'"step": (\d+)', run.file(file_names.METRICS).read_text(encoding="utf-8"))
    return f"cut short at step {int(steps[-1]) if steps else 0:,}; start the same command again"


def _load_scores(folder: RunFolder, run: RunResult) -> dict[int, Scores]:
    """Scores at the steps where the run was asked, before the first one, and after the last."""
    found: dict[int, dict[str, Score]] = {}
    for row in folder.iter_rows(file_names.STEP_SCORES) if folder.has(file_names.STEP_SCORES) else ():
        score = read_score(row)
        found.setdefault(row["step"], {})[score.qa_id] = score
    for stage, step in (("before", 0), ("after", run.cost.steps or 0)):
        if scores := _at_stage(run, stage):
            found[step] = scores
    return dict(sorted(found.items()))


def _at_stage(run: RunResult, stage: str) -> dict[str, Score]:
    return {row.qa_id: row.scores[stage] for row in run.questions if stage in row.scores}


def _load_taken(folder: RunFolder, run: RunResult) -> tuple[Taken, ...]:
    rows = folder.read_rows(file_names.METRICS) if folder.has(file_names.METRICS) else []
    points = [Taken(row["step"], row["tokens"], row["seconds"]) for row in rows]
    cost = run.cost
    if not points and cost.steps and cost.tokens is not None and cost.seconds is not None:
        points = [Taken(cost.steps, cost.tokens, cost.seconds)]
    return tuple(sorted(points))


def _kept(cell: CellResult, scores: Scores, rule: Rule) -> dict[str, Score]:
    """Without the questions on which the step was chosen."""
    if rule != "best-on-validation" or cell.run is None:
        return dict(scores)
    chosen_on = in_validation_half(_documents(cell))
    reported = {row.qa_id for row in cell.run.questions if row.document_id not in chosen_on}
    return {id: score for id, score in scores.items() if id in reported}


def _documents(cell: CellResult) -> set[str]:
    return {row.document_id for row in cell.run.questions} if cell.run else set()


def _quality(cell: CellResult, step: int, judges: set[str]) -> float:
    """The mean over directions of `contains`, on the questions of these documents."""
    by_direction: dict[str, list[float]] = {}
    for row in cell.run.questions if cell.run else ():
        score = cell.scores[step].get(row.qa_id)
        if score is not None and row.document_id in judges:
            by_direction.setdefault(row.direction, []).append(score.values[HEADLINE])
    means = [fsum(values) / len(values) for values in by_direction.values()]
    return fsum(means) / len(means) if means else 0.0
