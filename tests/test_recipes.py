"""Every recipe that is shipped can be run as it stands."""

from pathlib import Path

import pytest

from demask.objectives.demasking import Demasking
from demask.recipe.file import load_recipe
from demask.recipe.fine_tuning import SftConfig, make_sft_config
from demask.recipe.launch import split_launch
from demask.recipe.sections import PRESETS, RunConfig, make_config

pytestmark = pytest.mark.smoke

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def load(path: Path) -> RunConfig | SftConfig:
    values, _ = split_launch(load_recipe(path), source=str(path))
    return make_sft_config(values) if "data" in values else make_config(values)


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 6


@each_recipe
def test_recipe_is_a_valid_configuration(path: Path) -> None:
    config = load(path)
    assert config.data if isinstance(config, SftConfig) else config.documents


@each_recipe
def test_every_setting_of_a_recipe_is_explained_beside_it_or_above_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        is_setting = line and not line.startswith("#") and not line.endswith(":")
        assert not is_setting or " #" in line or above.lstrip().startswith("#"), line


def test_the_recipe_of_the_paper_has_the_settings_of_the_paper() -> None:
    config = load(next(path for path in RECIPES if path.stem.endswith("paper")))
    assert isinstance(config, RunConfig)
    assert isinstance(config.objective, Demasking)
    assert config.objective == Demasking(
        **PRESETS["paper"]["objective"], mask_token=config.objective.mask_token
    )
    train = config.train
    assert (train.batch_size, train.learning_rate, train.method, train.decay) == (64, 3e-6, "full", 0.0)
    assert config.evaluate.max_new_tokens == 128


def test_the_full_embedded_recipe_names_every_key() -> None:
    recipe = load_recipe(RECIPES[0].parent / "embedded.yaml")
    assert set(recipe) == set(RunConfig.model_fields)
    assert set(recipe["objective"]) == set(Demasking.model_fields)
    for section in ("train", "retain", "evaluate", "writer"):
        assert set(recipe[section]) == set(RunConfig.model_fields[section].annotation.model_fields), section


def test_the_full_embedded_recipe_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEMASK_PRESET")
    written = load(RECIPES[0].parent / "embedded.yaml")
    default = make_config({"model": "embedded", "documents": "docs/"})
    assert isinstance(written, RunConfig)
    assert written.objective == default.objective
    assert written.retain == default.retain
    assert written.train == default.train
