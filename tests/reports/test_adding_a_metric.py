"""A metric is one entry of one table: added there, it is scored, kept, shown, required and compared."""

from collections.abc import Callable
from dataclasses import asdict, replace

import pytest

from demask.evaluation.metrics import METRICS, Metric, read_score, score_predictions
from demask.evaluation.statistics import compare_paired, summarise
from demask.evaluation.thresholds import find_missed, read_thresholds
from demask.records import Prediction, QAPair
from demask.reports.page import render_html
from demask.reports.runs import load_run
from demask.reports.tables import difference_table, evaluation_table, metrics_table
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

PAIRS = [
    QAPair("q1", "d1", "Who founded Orlin?", ("Mara Voss",), "backward"),
    QAPair("q2", "d2", "Where is Tehn?", ("in Orlin",), "forward"),
]


def begins_with(prediction: str, answers: tuple[str, ...]) -> float:
    return float(prediction.startswith(answers))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(METRICS, "begins", Metric("begins", begins_with, "begins with", "Says it at once."))
    return "begins"


def test_a_new_metric_is_scored_kept_and_summed_up(toy: str) -> None:
    said = [Prediction("q1", "Mara Voss, in 1987."), Prediction("q2", "It is in Orlin.")]
    scores = score_predictions(said, PAIRS)
    assert [score.values[toy] for score in scores] == [1.0, 0.0]
    assert [read_score(score.as_row()) for score in scores] == scores
    metrics = summarise(scores, PAIRS)
    assert metrics["backward"][toy]["value"] == 1.0
    table = evaluation_table("embedded", metrics)
    assert "begins with" in table.headers


def test_a_new_metric_can_be_required(toy: str) -> None:
    thresholds = read_thresholds("forward.begins=0.5")
    missed = find_missed(thresholds, {"forward": {toy: {"value": 0.25}}})
    assert missed == ["forward begins is 0.250, required 0.5"]


def test_reports_show_a_new_metric_and_read_runs_from_before_it(
    toy: str, make_run: Callable[..., RunFolder]
) -> None:
    run = load_run(make_run("run"))
    table = metrics_table([run])
    assert (table.headers[-1], table.rows[0][-1]) == ("begins with", "–")
    assert "Says it at once." in render_html([run], title="A toy")


def test_arms_are_compared_by_a_new_metric(toy: str, make_run: Callable[..., RunFolder]) -> None:
    folder = make_run("run")
    rows = [{**row, toy: row["exact_match"]} for row in folder.read_rows(file_names.SCORES)]
    folder.write_rows(file_names.SCORES, rows)
    first = load_run(folder)
    runs = [first, replace(first, label="other")]
    table = difference_table(runs, compare_paired, metric=toy)
    assert "begins with" in table.note
    assert all(row[2].startswith("0.00") for row in table.rows)
    assert asdict(first.questions[0].scores["after"])["values"][toy] == 0.0
