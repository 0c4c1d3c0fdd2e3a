"""Every recipe that is shipped can be run as it stands."""

from pathlib import Path

import pytest
import yaml

from demask.config import PRESETS, Demasking, RunConfig

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def load(path: Path) -> RunConfig:
    return RunConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 4


@each_recipe
def test_recipe_is_a_valid_configuration(path: Path) -> None:
    assert load(path).documents


@each_recipe
def test_every_setting_of_a_recipe_is_explained_beside_it_or_above_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        is_setting = line and not line.startswith("#") and not line.endswith(":")
        assert not is_setting or " #" in line or above.lstrip().startswith("#"), line


def test_the_recipe_of_the_paper_has_the_settings_of_the_paper() -> None:
    config = load(next(path for path in RECIPES if path.stem.endswith("paper")))
    assert isinstance(config.objective, Demasking)
    assert config.objective == Demasking(
        **PRESETS["paper"]["objective"], mask_token=config.objective.mask_token
    )
    train = config.train
    assert (train.batch_size, train.learning_rate, train.method) == (64, 3e-6, "full")
    assert config.evaluate.max_new_tokens == 128


def test_the_full_embedded_recipe_names_every_key() -> None:
    recipe = yaml.safe_load((RECIPES[0].parent / "embedded.yaml").read_text(encoding="utf-8"))
    assert set(recipe) == set(RunConfig.model_fields)
    assert set(recipe["objective"]) == set(Demasking.model_fields)
    assert set(recipe["evaluate"]) == set(RunConfig.model_fields["evaluate"].annotation.model_fields)
