"""A grid folder read back: states of cells, the rule for the checkpoint, means over seeds."""

import json
from pathlib import Path

import pytest
from tests.comparison.grid_folders import write_grid, write_run

from demask.comparison.results import (
    CellResult,
    choose_step,
    in_validation_half,
    list_arms,
    load_grid,
    reported_scores,
)
from demask.errors import ConfigError, RunError
from demask.evaluation.metrics import METRICS, Score
from demask.evaluation.statistics import estimate_mean
from demask.storage.run_folder import RunFolder

pytestmark = pytest.mark.smoke

COURSE = {0: (1, 0), 4: (8, 2), 8: (12, 6)}


def _only_cell(folder: Path) -> CellResult:
    return load_grid(folder).cells[0]


def _score_steps(folder: Path, right: dict[int, set[str]]) -> CellResult:
    """One run on eight documents, asked at some steps; `right` says which documents were answered then."""
    write_grid(folder, {"demasking": {0: (0, 0), max(right): (0, 0)}}, documents=8)
    run = RunFolder(folder / "embedded/demasking/seed-0")
    rows = [
        {
            "step": step,
            "qa_id": f"{direction}-{i}",
            **dict.fromkeys(("contains", "exact_match", "f1", "rouge1_recall"), float(f"d{i}" in known)),
        }
        for step, known in right.items()
        for direction in ("forward", "backward")
        for i in range(8)
    ]
    run.write_rows("steps.jsonl", rows)
    return _only_cell(folder)


def test_a_cell_that_was_cut_short_says_how_far_it_is(tmp_path: Path) -> None:
    write_grid(tmp_path, {"a": COURSE})
    run = RunFolder(tmp_path / "embedded/a/seed-0")
    run.remove("summary.json")
    run.write_rows("metrics.jsonl", [{"step": step, "loss": 1.0} for step in (1, 2, 1200)])
    cell = _only_cell(tmp_path)
    assert (cell.status, cell.reason) == ("missing", "cut short at step 1,200; start the same command again")


def test_cells_are_done_failed_or_missing(tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path, {"a": COURSE, "b": "out of\n memory", "c": None}))
    assert [cell.status for cell in grid.cells] == ["done", "failed", "missing"]
    assert [cell.reason for cell in grid.cells] == ["", "out of memory", "not run yet"]
    assert grid.cells[0].run is not None
    assert grid.cells[1].run is None
    assert grid.cells[0].parameters == 1_000_000


def test_cell_that_failed_once_and_then_succeeded_is_done(tmp_path: Path) -> None:
    write_grid(tmp_path, {"a": "out of memory"})
    write_run(tmp_path / "embedded/a/seed-0", COURSE)
    assert _only_cell(tmp_path).status == "done"


def test_run_that_was_begun_and_has_no_summary_is_missing(tmp_path: Path) -> None:
    write_grid(tmp_path, {"a": COURSE})
    (tmp_path / "embedded/a/seed-0/summary.json").unlink()
    assert _only_cell(tmp_path).status == "missing"


def test_scores_go_from_the_untouched_model_to_the_last_step(tmp_path: Path) -> None:
    cell = _only_cell(write_grid(tmp_path, {"a": COURSE}))
    assert list(cell.scores) == [0, 4, 8]
    assert cell.scores[0]["forward-0"] == Score("forward-0", dict.fromkeys(METRICS, 1.0))
    assert cell.scores[4]["forward-7"].right
    assert not cell.scores[4]["forward-8"].right


def test_folder_without_a_matrix_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no matrix\.json in it, expected a folder made by 'demask reproduce'"
    ):
        load_grid(tmp_path)


def test_grid_that_lacks_a_key_says_which(tmp_path: Path) -> None:
    (tmp_path / "matrix.json").write_text(json.dumps({"benchmark": "wiki", "facts": 3}))
    with pytest.raises(RunError, match=r"matrix.json: lacks what a table needs \(KeyError\('budget'\)\)"):
        load_grid(tmp_path)


def test_matrices_may_share_their_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "cells/demasking-seed-0", COURSE)
    plan = {"benchmark": "wiki", "facts": 20, "ablation": None, "budget": "tokens"}
    cell = {"model": "embedded", "arm": "demasking", "seed": 0, "folder": "../cells/demasking-seed-0"}
    RunFolder(tmp_path / "wiki").write_json("matrix.json", {**plan, "cells": [cell]})
    grid = load_grid(tmp_path / "wiki")
    assert grid.cells[0].folder == tmp_path / "cells/demasking-seed-0"
    assert (grid.cells[0].status, grid.setting) == ("done", "wiki, 20 facts")


def test_line_of_steps_that_lacks_a_metric_names_the_run(tmp_path: Path) -> None:
    write_grid(tmp_path, {"a": COURSE})
    (tmp_path / "embedded/a/seed-0/steps.jsonl").write_text('{"step": 4, "qa_id": "forward-0"}\n')
    with pytest.raises(RunError, match=r"seed-0: a line of steps\.jsonl or .* \(KeyError\('contains'\)\)"):
        load_grid(tmp_path)


def test_fixed_rule_takes_the_last_step_even_when_it_is_worse(tmp_path: Path) -> None:
    cell = _only_cell(write_grid(tmp_path, {"a": {0: (0, 0), 4: (20, 20), 8: (5, 5)}}))
    assert choose_step(cell, "fixed") == 8
    assert choose_step(cell, "paper") == 4


def test_earliest_of_equally_good_steps_is_chosen(tmp_path: Path) -> None:
    cell = _only_cell(write_grid(tmp_path, {"a": {0: (0, 0), 4: (9, 9), 8: (9, 9), 16: (9, 8)}}))
    assert choose_step(cell, "paper") == 4


def test_untouched_model_is_its_own_checkpoint_under_every_rule(tmp_path: Path) -> None:
    cell = _only_cell(write_grid(tmp_path, {"untouched": {0: (1, 0)}}))
    assert [choose_step(cell, rule) for rule in ("fixed", "best-on-validation", "paper")] == [0, 0, 0]


def test_validation_half_is_half_and_does_not_depend_on_order() -> None:
    documents = [f"d{i}" for i in range(9)]
    half = in_validation_half(set(documents))
    assert len(half) == 4
    assert half == in_validation_half(set(reversed(documents)))
    assert half < set(documents)


def test_best_on_validation_chooses_on_one_half_and_reports_the_other(tmp_path: Path) -> None:
    every = {f"d{i}" for i in range(8)}
    chosen_on = in_validation_half(every)
    # At step 4 exactly the validation documents are known, at step 8 exactly the others, at 16 none.
    cell = _score_steps(tmp_path, {4: chosen_on, 8: every - chosen_on, 16: set()})
    assert choose_step(cell, "best-on-validation") == 4
    reported = reported_scores(cell, "best-on-validation")
    documents = {row.qa_id: row.document_id for row in cell.run.questions}
    assert {documents[id] for id in reported} == every - chosen_on
    assert not any(score.right for score in reported.values())


def test_paper_rule_chooses_on_what_it_reports(tmp_path: Path) -> None:
    every = {f"d{i}" for i in range(8)}
    half = in_validation_half(every)
    cell = _score_steps(tmp_path, {4: half, 8: every - half | {min(half)}, 16: set()})
    scores = reported_scores(cell, "paper")
    assert choose_step(cell, "best-on-validation") == 4
    assert len(scores) == 16
    assert sum(score.right for score in scores.values()) == 10


def test_rule_that_chooses_refuses_a_run_asked_at_its_end_only(tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path, {"a": COURSE}, asked_between=False))
    assert list_arms([grid])[0].reach("fixed")["forward"].estimate.value == 0.6
    with pytest.raises(RunError, match=r"seed-0: asked at its last step only.*or use the rule 'fixed'"):
        list_arms([grid])[0].reach("paper")


def test_one_document_cannot_be_split(tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path, {"a": {0: (0, 0), 4: (1, 0), 8: (1, 1)}}, documents=1))
    with pytest.raises(
        RunError, match="questions on 1 document, and the rule 'best-on-validation' needs two"
    ):
        list_arms([grid])[0].reach("best-on-validation")


def test_interval_is_over_documents_of_means_over_seeds(tmp_path: Path) -> None:
    # Seed 0 knows documents 0 to 9, seed 2 knows 2 to 11: 8 documents count 1, 4 count a half.
    grid = load_grid(write_grid(tmp_path, {"a": {0: (0, 0), 8: (10, 0)}}, seeds=(0, 2)))
    accuracy = list_arms([grid])[0].reach("fixed")["forward"]
    values = [0.5] * 2 + [1.0] * 8 + [0.5] * 2 + [0.0] * 8
    assert accuracy.estimate == estimate_mean(values, [f"d{i}" for i in range(20)])
    assert accuracy.seeds == {0: 0.5, 2: 0.5}


def test_failed_seed_is_in_no_mean(tmp_path: Path) -> None:
    write_grid(tmp_path, {"a": COURSE}, seeds=(0, 1))
    (tmp_path / "embedded/a/seed-1/summary.json").unlink()
    arm = list_arms([load_grid(tmp_path)])[0]
    assert arm.reach("fixed")["forward"].seeds == {0: 0.6}
    assert len(arm.cells) == 2
