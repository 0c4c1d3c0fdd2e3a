"""`--preset` on the command line: under what the recipe and other options say."""

import sys
from pathlib import Path

import pytest

from demask import cli
from demask.commands.app import read_config
from demask.objectives.demasking import Demasking
from demask.recipe.sections import (
    PRESETS,
    REPLAY_RATE_SHARE,
    REPLAY_RATE_SHARE_MLP,
    make_config,
    make_stored_config,
)
from demask.training.plan import make_schedule

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
    assert said == "demask: options: preset is 'papre', expected one of paper, fast, gated, keep"


def test_beside_replay_steps_are_smaller_and_other_objectives_keep_their_share() -> None:
    for objective, share in (("demasking", 1.0), ("next-token", 0.5)):
        plain, kept = (
            make_config({"model": "m", "documents": "d", "objective": objective, "retain": retain})
            for retain in ({}, {"conversations": 2})
        )
        assert plain.rate_share == share
        assert kept.rate_share == pytest.approx(share * REPLAY_RATE_SHARE)
        assert REPLAY_RATE_SHARE < 0.5


def test_without_a_name_the_preset_is_keep_and_a_recipe_says_otherwise_part_by_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DEMASK_PRESET")
    config = make_config({"model": "m", "documents": "d", "retain": {"conversations": 3}})
    kept = PRESETS["keep"]
    assert config.objective == Demasking(**kept["objective"])
    assert (config.train.weights, config.train.epochs) == (kept["train"]["weights"], None)
    assert make_schedule(config.train, passages=1, length=config.length).steps == 140
    assert make_schedule(config.train, passages=80, length=config.length).exposures == 40
    assert (config.retain.conversations, config.retain.weight) == (3, kept["retain"]["weight"])
    assert make_config({"model": "m", "documents": "d", "preset": "fast"}).retain.conversations == 0
    monkeypatch.setenv("DEMASK_PRESET", "paper")
    assert make_config({"model": "m", "documents": "d"}).train.epochs == 60


def test_what_cannot_go_with_the_default_preset_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEMASK_PRESET")
    given = {"model": "m", "documents": "d"}
    diffusion = make_config({**given, "objective": "diffusion"})
    assert diffusion.retain.conversations == 0
    adapter = make_config({**given, "train": {"method": "lora", "steps": 9}})
    assert adapter.train.weights == "all"
    assert (adapter.train.steps, adapter.train.epochs) == (9, None)
    assert adapter.retain.conversations == PRESETS["keep"]["retain"]["conversations"]
    alone = make_config({**given, "retain": {"conversations": 0}})
    assert (alone.retain.conversations, alone.retain.wrapped, alone.retain.gate) == (0, 0.0, False)
    no_pool = make_config({**given, "retain": {"pool": 0, "data": "chats.jsonl"}})
    assert (no_pool.retain.conversations, no_pool.retain.gate) == (8, False)
    assert make_config(given).retain.gate
    other = make_config({**given, "objective": "next-token"})
    assert other.retain.conversations
    assert other.objective.name == "next-token"


def test_the_feed_forward_layers_alone_take_larger_steps_beside_replay() -> None:
    config = make_config({"model": "m", "documents": "d", "preset": "keep"})
    assert config.rate_share == REPLAY_RATE_SHARE_MLP
    everything = make_config({"model": "m", "documents": "d", "preset": "keep", "train": {"weights": "all"}})
    assert everything.rate_share == REPLAY_RATE_SHARE < REPLAY_RATE_SHARE_MLP


def test_the_folder_of_an_older_run_is_read_as_what_it_was_made_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEMASK_PRESET")
    old = {"model": "m", "documents": ["d"], "train": {"epochs": 28.0}, "retain": {"conversations": 0}}
    stored = make_stored_config(old, source="runs/old/config.json")
    assert (stored.train.weights, stored.retain.wrapped, stored.objective) == ("all", 0.0, Demasking())
    assert make_stored_config({"model": "m", "documents": ["d"]}, source="x").retain.conversations == 0


def test_light_replay_behind_a_gate_takes_whole_steps_and_fewer_of_them() -> None:
    config = make_config({"model": "m", "documents": "d", "preset": "gated"})
    assert (config.held, config.rate_share, config.retain.gate) == (False, 1.0, True)
    assert make_schedule(config.train, passages=1, length=config.length).steps == 56
    assert make_schedule(config.train, passages=80, length=config.length).exposures == 35
    heavier = make_config({"model": "m", "documents": "d", "preset": "gated", "retain": {"weight": 1.0}})
    assert (heavier.held, heavier.rate_share) == (True, REPLAY_RATE_SHARE)
    assert make_schedule(heavier.train, passages=80, length=heavier.length).exposures == 40
