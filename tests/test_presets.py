"""`--preset` on the command line: under what the recipe and other options say."""

import sys
from pathlib import Path

import pytest

from demask import cli
from demask.commands.app import read_config
from demask.objectives.demasking import Demasking
from demask.recipe.sections import PRESETS, REPLAY_RATE_SHARE, make_config

pytestmark = pytest.mark.smoke


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"objective": {"unit": "word", "copies": 2}, "train": {"epochs": 30, "batch_size": 4}}
    monkeypatch.setitem(PRESETS, "fast", values)


def test_a_preset_lies_under_recipe_and_overrides(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: m\ndocuments: d\ntrain: {epochs: 7}\n")
    config, _ = read_config(recipe, None, None, None, None, ["objective.copies=1"], "fast")
    assert config.objective == Demasking(unit="word", copies=1)
    assert config.train.epochs == 7


def test_a_recipe_may_name_its_preset_and_the_option_another(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: m\ndocuments: d\npreset: fast\n")
    assert read_config(recipe, None, None, None, None, None)[0].train.epochs == 30
    assert read_config(recipe, None, None, None, None, None, "paper")[0].train.epochs == 60


@pytest.mark.parametrize("command", [["inject"], ["plan"], ["data", "preview"]])
def test_every_command_that_trains_or_plans_takes_a_preset(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["demask", *command, "--model", "m", "--documents", "d", "--preset", "papre"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "demask: options: preset is 'papre', expected one of paper, fast, keep"


def test_beside_replay_steps_are_smaller_and_other_objectives_keep_their_share() -> None:
    for objective, share in (("demasking", 1.0), ("next-token", 0.5)):
        plain, kept = (
            make_config({"model": "m", "documents": "d", "objective": objective, "retain": retain})
            for retain in ({}, {"conversations": 2})
        )
        assert plain.rate_share == share
        assert kept.rate_share == pytest.approx(share * REPLAY_RATE_SHARE)
        assert REPLAY_RATE_SHARE < 0.5
