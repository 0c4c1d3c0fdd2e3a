"""A line of runs, each an update of the one before: what every one of them still knows of all of them.

    ask_removed(config, run, load, progress)            # questions whose document was replaced or forgotten
    summary = add_line(run, summary, forgotten)         # summary["line"]: a row for each run of the line
    rows = read_line(run)                               # of a finished run, also of one without a parent

A row has the accuracy on the facts of each run of the line, as the run's own model answers them, so that the
rows of a line make a triangle. A run keeps the rows of its parents: a folder tells the whole line, whatever
became of the others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demask.evaluation.metrics import HEADLINE, score_predictions
from demask.progress import Progress
from demask.recipe.sections import RunConfig
from demask.records import Document, Prediction, QAPair
from demask.reports.runs import LineRow, read_line_rows
from demask.stages.lineage import Lineage, read_lineage
from demask.stages.predictions import ask_stage, select_pairs
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.models.load import LoadedModel

# What the trained model says to questions whose document was replaced or forgotten.
AFTER_REMOVED = "after-removed"
REMOVED_STAGES = [AFTER_REMOVED]
# Measures of retention that a row keeps.
_KEPT = ("leak", "near_miss", "known", "drift")


def ask_removed(
    config: RunConfig, run: RunFolder, load: "Callable[[], LoadedModel]", progress: Progress
) -> None:
    """Ask the trained model what no longer holds, in a run that goes on from another.

    Args:
        config: of the run.
        run: keeps what was said.
        load: gives the trained model, called only when it is needed.
        progress: told how far the work is.
    """
    if run.has(file_names.LINEAGE):
        pairs = run.read_records(file_names.REMOVED, QAPair)
        ask_stage(run, AFTER_REMOVED, load=load, pairs=pairs, settings=config.evaluate, progress=progress)


def add_line(run: RunFolder, summary: Mapping[str, Any], forgotten: Mapping[str, Any]) -> dict[str, Any]:
    """Put the rows of the line into the summary of a run that goes on from another.

    Args:
        run: has its predictions.
        summary: as it is so far; written anew.
        forgotten: what is left of what the run forgets; empty where it forgets nothing.
    """
    lineage = read_lineage(run)
    if lineage is None:
        return dict(summary)
    parents = read_line(RunFolder(Path(lineage.origin.parent)))
    row = make_row(run, lineage, summary)
    done = {**summary, "line": [asdict(one) for one in (*parents, row)]}
    if forgotten:
        # Training anew learns all other documents again, as the runs that learned something did.
        anew = sum(one.seconds for one in parents if one.learned)
        done["forgotten"] = {**forgotten, "seconds_anew": anew}
    run.write_json(file_names.SUMMARY, done)
    return done


def read_line(run: RunFolder) -> list[LineRow]:
    """The rows of a finished run and of those that it goes on from, the first run first.

    Raises:
        RunError: a file is missing or damaged.
    """
    summary = run.read_json(file_names.SUMMARY)
    return list(read_line_rows(summary)) or [make_row(run, None, summary)]


def make_row(run: RunFolder, lineage: Lineage | None, summary: Mapping[str, Any]) -> LineRow:
    """What one run of a line knows.

    Args:
        run: has its predictions.
        lineage: None of the first run of a line.
        summary: of the run.
    """
    number = 0 if lineage is None else lineage.number
    known = {} if lineage is None else lineage.documents
    leaving = [(id, one) for id, one in known.items() if one.removed == number and lineage is not None]
    measures = (summary.get("retention") or {}).get("measures", {})
    learned = (
        [document.id for document in run.open_records(file_names.DOCUMENTS, Document)]
        if lineage is None
        else sorted(lineage.new)
    )
    return LineRow(
        number=number,
        run=str(run.path.resolve()),
        learned=tuple(learned),
        replaced=tuple(id for id, one in leaving if not one.forgotten),
        forgotten=tuple(id for id, one in leaving if one.forgotten),
        facts=_by_update(run, "after", file_names.QA_PAIRS, lineage),
        removed=_by_update(run, AFTER_REMOVED, file_names.REMOVED, lineage),
        retention={name: measures[name] for name in _KEPT if measures.get(name)},
        seconds=float(summary.get("seconds") or 0.0),
    )


def _by_update(
    run: RunFolder, stage: str, questions: str, lineage: Lineage | None
) -> dict[str, dict[str, Any]]:
    """Accuracy by the number of the run that learned the document, then by direction."""
    from demask.evaluation.statistics import summarise

    if not (run.has(questions) and run.has(file_names.predictions_file(stage))):
        return {}
    pairs = run.read_records(questions, QAPair)
    said = run.read_records(file_names.predictions_file(stage), Prediction)
    found = {}
    for number, of_one in sorted(_group(pairs, lineage).items()):
        ids = {pair.id for pair in of_one}
        predictions = [prediction for prediction in said if prediction.qa_id in ids]
        asked = select_pairs(of_one, (prediction.qa_id for prediction in predictions))
        if asked:
            metrics = summarise(score_predictions(predictions, asked), asked)
            found[str(number)] = {direction: values[HEADLINE] for direction, values in metrics.items()}
    return found


def _group(pairs: Iterable[QAPair], lineage: Lineage | None) -> dict[int, Sequence[QAPair]]:
    known = {} if lineage is None else lineage.documents
    groups: dict[int, list[QAPair]] = {}
    for pair in pairs:
        number = known[pair.document_id].update if pair.document_id in known else 0
        groups.setdefault(number, []).append(pair)
    return dict(groups)
