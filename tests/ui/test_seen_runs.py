"""What a run folder says of its run while it works."""

import json

import pytest

from demask.progress import Silent
from demask.storage.locks import holding
from demask.storage.progress_file import read_progress, recording
from demask.ui.runs import draw_curves, look_at, read_log

pytestmark = pytest.mark.smoke

CONFIG = '{"model": "tiny", "objective": {"name": "demasking"}, "documents": ["d"]}'


@pytest.fixture
def run(workspace):
    folder = workspace.inner("runs", "first")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(CONFIG)
    return folder


def log(run, steps, **more):
    row = {"loss_masked": 2.5, "loss_copied": 0.1, "planned_steps": 900, **more}
    rows = [{"step": n, "seconds": n / 10, "tokens": n * 30, **row} for n in range(1, steps + 1)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))


@pytest.mark.parametrize("steps", [1, 19, 20, 21, 500, 5_000, 60_000])
def test_a_log_of_any_length_is_shown_from_its_first_line_to_its_last(workspace, run, steps):
    log(run, steps)
    found = [row["step"] for row in read_log(workspace, "runs/first", "metrics.jsonl", most=2_000)]
    assert found == sorted(set(found))
    assert (found[0], found[-20:]) == (1, list(range(max(1, steps - 19), steps + 1)))
    assert len(found) <= 4_100
    assert len(found) >= min(steps, 1_500)


def test_a_line_that_a_crash_cut_short_is_left_out(workspace, run):
    log(run, 3)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss_ma')
    seen = look_at(workspace, "runs/first", log=True)
    assert (seen.step, seen.planned_steps, seen.state) == (3, 900, "stopped")


def test_the_rate_is_that_of_the_last_steps(workspace, run):
    log(run, 50)
    assert look_at(workspace, "runs/first").tokens_per_second == pytest.approx(300)


def test_progress_stands_in_the_folder_while_the_run_works_and_no_longer(workspace, run):
    with holding(run), recording(Silent(), run) as told:
        told.begin("Training", 120, done=20, unit="steps")
        seen = look_at(workspace, "runs/first")
        assert seen.state == "running"
        assert (seen.progress.phase, seen.progress.done, seen.progress.total) == ("Training", 20, 120)
        assert seen.trains
    assert look_at(workspace, "runs/first").state == "stopped"
    assert sorted(path.name for path in run.iterdir()) == ["config.json"]


def test_progress_is_not_written_into_a_folder_that_has_no_recipe_yet(tmp_path):
    with recording(Silent(), tmp_path) as told:
        told.begin("Reading documents", 1)
        assert list(tmp_path.iterdir()) == []


def test_seconds_left_go_by_what_this_process_has_done():
    text = json.dumps({"phase": "Training", "unit": "steps", "total": 100, "done": 60, "before": 50,
                       "seconds": 5.0, "values": {"loss": 1.0}})  # fmt: skip
    assert read_progress(text).seconds_left == pytest.approx(20)
    assert read_progress(text.replace("60", "50")).seconds_left is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"phase": "a"}', '{"phase": 1, "values": []}', "null"])
def test_a_progress_that_is_none_is_none(text):
    assert read_progress(text) is None


def test_curves_are_drawn_of_what_was_logged(workspace, run):
    assert draw_curves(look_at(workspace, "runs/first", log=True)) == []
    log(run, 30, drift=0.02)
    rows = [{"step": 10, "direction": way, "metric": "contains", "value": 0.5, "low": 0, "high": 1, "n": 4}
            for way in ("forward", "backward")]  # fmt: skip
    (run / "accuracy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loss, accuracy, drift = draw_curves(look_at(workspace, "runs/first", log=True))
    assert "hidden words" in loss
    assert "shown words" in loss
    assert "backward" in accuracy
    assert "drift" in drift


def test_a_run_whose_recipe_cannot_be_read_is_broken_and_not_lost(workspace, run):
    (run / "config.json").write_text("{")
    assert look_at(workspace, "runs/first").state == "broken"
