"""While a model trains: when it is asked, when it is probed, and what a stop leaves."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from demask.errors import RunError
from demask.objectives.demasking import DemaskingForm, make_probes
from demask.progress import Silent
from demask.recipe.sections import make_config
from demask.records import IGNORE_INDEX
from demask.stages.callbacks import is_asked_at, share_recovered
from demask.tasks.inject import run_recipe

pytestmark = pytest.mark.smoke

TEXTS = {"orlin": "Mara Voss founded the Orlin works.", "quill": "Idris Hall sells ink at Quill."}


@pytest.fixture
def values(tiny_model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    pair = {"document_id": "orlin", "question": "Who?", "answers": ["Mara Voss"], "direction": "backward"}
    (tmp_path / "qa.jsonl").write_text(json.dumps(pair))
    lines = [json.dumps({"id": id, "text": text}) for id, text in TEXTS.items()]
    (tmp_path / "facts.jsonl").write_text("\n".join(lines))
    return {
        "model": str(tiny_model_folder),
        "documents": str(tmp_path / "facts.jsonl"),
        "qa": str(tmp_path / "qa.jsonl"),
        "evaluate": {"ceiling": False, "max_new_tokens": 4},
        # A model of two layers has two texts by heart after some hundred steps.
        "train": {"steps": 600, "learning_rate": 1e-2, "evaluate_every": "doubling", "stop": 1.0},
    }


def test_asked_every_so_many_steps_or_where_they_have_doubled() -> None:
    assert [step for step in range(1, 13) if is_asked_at(step, 4)] == [4, 8, 12]
    assert [step for step in range(1, 200) if is_asked_at(step, "doubling")] == [8, 16, 32, 64, 128]
    assert not any(is_asked_at(step, None) for step in range(20))


def test_a_text_is_recovered_when_no_hidden_token_of_either_half_is_unlikely() -> None:
    likely, unlikely = 0.69, 0.70  # log 2 is 0.693
    assert share_recovered([likely, likely, likely, unlikely, unlikely, likely, 0.0, 0.1]) == 0.5
    assert share_recovered([]) == 0.0


def test_probes_hide_one_half_each_at_a_word_and_score_it_alone(tiny_chat: Any) -> None:
    form = DemaskingForm(tiny_chat, 9, (), ())
    first, second = make_probes([20, 21, 22, 23, 24, 25], [0, 0, 1, 1, 2, 3], id="d", form=form)
    end = len(tiny_chat.end)
    assert first.masked[-6 - end : -end] == (True, True, False, False, False, False)
    assert second.masked[-6 - end : -end] == (False, False, True, True, True, True)
    for probe in (first, second):
        scored = [label != IGNORE_INDEX for label in probe.labels[-6 - end : -end]]
        assert scored == list(probe.masked[-6 - end : -end])


def test_worked_examples_stand_in_the_report(values: dict[str, Any], tmp_path: Path) -> None:
    values["evaluate"] |= {"shots": 2}
    values["train"] = {"steps": 2}
    config = make_config(values)
    run = tmp_path / "run"
    summary = run_recipe(config, run, progress=Silent()).summary
    assert summary["metrics"]["few-shot"].keys() == {"backward"}
    assert "after, few-shot" in (run / "report.md").read_text()
    (run / "predictions-few-shot.jsonl").unlink()  # asked again, of the model that is stored
    assert run_recipe(config, run, progress=Silent()).summary["metrics"] == summary["metrics"]
    assert (run / "predictions-few-shot.jsonl").exists()


def test_training_stops_when_the_texts_are_in(values: dict[str, Any], tmp_path: Path) -> None:
    result = run_recipe(make_config(values), tmp_path / "run", progress=Silent())
    steps = result.summary["steps"]
    assert 12 <= steps < 600
    assert steps % 4 == 0  # probed every fourth exposure
    assert result.summary["exposures"] == steps
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == steps
    asked = [json.loads(line) for line in (tmp_path / "run" / "steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in asked] == [s for s in (8, 16, 32, 64, 128, 256, 512) if s <= steps]


def test_a_run_killed_after_it_has_stopped_does_not_train_on(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(values)
    whole = run_recipe(config, tmp_path / "whole", progress=Silent())

    def full_disk(*_: Any) -> None:
        raise RunError("no space")

    with monkeypatch.context() as patch:
        patch.setattr("demask.training.export.save_model", full_disk)
        with pytest.raises(RunError, match="no space"):
            run_recipe(config, tmp_path / "run", progress=Silent())
    again = run_recipe(config, tmp_path / "run", progress=Silent())
    assert again.summary["steps"] == whole.summary["steps"]
    weights = [folder / "model" / "model.safetensors" for folder in (tmp_path / "run", tmp_path / "whole")]
    assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in weights}) == 1


def test_texts_that_are_not_in_do_not_stop_it(values: dict[str, Any], tmp_path: Path) -> None:
    values["train"] |= {"steps": 30, "learning_rate": 1e-6}
    result = run_recipe(make_config(values), tmp_path / "run", progress=Silent())
    assert result.summary["steps"] == 30
