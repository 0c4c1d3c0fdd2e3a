"""Recipes, overrides, and the one line that says what is wrong with them."""

from pathlib import Path

import pytest

from demask.config import (
    NO_QUESTIONS,
    RATIO_RANGE,
    Demasking,
    NextToken,
    Reverse,
    RunConfig,
    make_config,
)
from demask.errors import ConfigError
from demask.recipe_file import apply_overrides, load_recipe

LEAST = {"model": "embedded", "documents": ["facts"]}


def test_model_and_documents_are_enough() -> None:
    config = make_config(LEAST)
    assert (config.model, config.documents, config.qa) == ("embedded", ("facts",), None)
    assert config.objective == Demasking(mask_ratio=RATIO_RANGE)
    assert config.train.steps is None


def test_one_document_may_be_given_without_a_list() -> None:
    assert make_config({**LEAST, "documents": "facts"}).documents == ("facts",)
    assert make_config({**LEAST, "documents": Path("facts")}).documents == ("facts",)


@pytest.mark.parametrize(
    ("name", "kind"), [("demasking", Demasking), ("next-token", NextToken), ("reverse", Reverse)]
)
def test_an_objective_may_be_given_by_its_name(name: str, kind: type) -> None:
    assert make_config({**LEAST, "objective": name}).objective == kind()
    assert make_config({**LEAST, "objective": {"name": name}}).objective == kind()


def test_options_without_a_name_belong_to_demasking() -> None:
    assert make_config({**LEAST, "objective": {"unit": "word"}}).objective == Demasking(unit="word")


def test_one_mask_ratio_is_a_fixed_one() -> None:
    fixed = make_config({**LEAST, "objective": {"mask_ratio": 0.15}}).objective
    assert fixed == Demasking(mask_ratio=(0.15, 0.15))
    drawn = make_config({**LEAST, "objective": {"mask_ratio": [0, 1]}}).objective
    assert drawn == Demasking(mask_ratio=(0.0, 1.0))


def test_the_stored_configuration_reads_back_as_itself() -> None:
    config = make_config(
        {**LEAST, "objective": "reverse", "train": {"epochs": 3}, "qa": "qa.jsonl", "max_tokens": 64}
    )
    assert make_config(config.model_dump(mode="json")) == config


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_config(LEAST).seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001", "1E-4", "1.e-04"])
def test_a_small_number_may_be_written_in_any_usual_way(text: str, tmp_path: Path) -> None:
    # YAML 1.1 alone takes `1e-4` for a word.
    (tmp_path / "recipe.yaml").write_text(f"train: {{learning_rate: {text}}}\n")
    assert load_recipe(tmp_path / "recipe.yaml") == {"train": {"learning_rate": 1e-4}}
    assert apply_overrides({}, [f"train.learning_rate={text}"]) == {"train": {"learning_rate": 1e-4}}


@pytest.mark.parametrize("text", ["1e", "e4", "2e5b", "7e-4-large", "0x1e4"])
def test_a_name_that_looks_a_little_like_a_number_stays_a_name(text: str) -> None:
    value = apply_overrides({}, [f"model={text}"])["model"]
    assert value == (int(text, 16) if text.startswith("0x") else text)


def test_an_override_reads_its_value_as_yaml() -> None:
    changed = apply_overrides(
        LEAST, ["train.steps=5", "documents=[a, b]", "qa=", "evaluate.ceiling=false", "objective.opening=a=b"]
    )
    assert changed == {
        "model": "embedded",
        "documents": ["a", "b"],
        "qa": None,
        "train": {"steps": 5},
        "evaluate": {"ceiling": False},
        "objective": {"opening": "a=b"},
    }


def test_the_last_override_wins() -> None:
    assert apply_overrides({"seed": 0}, ["seed=1", "seed=2"]) == {"seed": 2}


def test_an_override_changes_a_copy() -> None:
    values = {"train": {"steps": 1}, "seed": 0}
    apply_overrides(values, ["train.steps=2", "seed=3"])
    assert values == {"train": {"steps": 1}, "seed": 0}


def test_an_option_of_an_objective_that_was_given_by_name_keeps_the_name() -> None:
    changed = apply_overrides({"objective": "reverse"}, ["objective.unit=word"])
    assert changed == {"objective": {"name": "reverse", "unit": "word"}}


@pytest.mark.parametrize("override", ["steps", "=5", "train.steps=[1", "model.name=x"])
def test_an_override_of_another_form_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        apply_overrides({"model": "embedded"}, [override])


def test_a_misspelt_key_is_named_before_the_required_key_that_it_should_have_been() -> None:
    with pytest.raises(ConfigError, match="unknown key modle: did you mean 'model'\\?"):
        make_config({"modle": "embedded", "documents": "facts"})


def test_the_source_of_a_wrong_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^my.yaml: seed is -1, expected greater than or equal to 0$"):
        make_config({**LEAST, "seed": -1}, source="my.yaml")


def test_an_option_of_another_objective_is_unknown() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown key objective.mask_ratio: known are form, name, question"
    ):
        make_config({**LEAST, "objective": {"name": "next-token", "mask_ratio": 0.5}})


def test_every_setting_says_what_it_is() -> None:
    sections = [RunConfig, Demasking, NextToken, Reverse]
    sections += [RunConfig.model_fields[name].annotation for name in ("train", "evaluate", "writer")]
    plain = {"name", "device", "objective", "train", "evaluate", "writer"}  # their values say it
    silent = [
        f"{section.__name__}.{name}"
        for section in sections
        for name, field in section.model_fields.items()
        if not field.description and name not in plain
    ]
    assert silent == []


def test_questions_can_be_turned_off_as_yaml_says_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: m\ndocuments: d\nqa: no\n")
    assert make_config(load_recipe(path)).qa == NO_QUESTIONS
    assert make_config({**LEAST, "qa": "q.jsonl"}).qa == "q.jsonl"


@pytest.mark.parametrize("value", [-1, True, 1.5, None])
def test_paraphrases_are_a_number_or_a_file(value: object) -> None:
    assert make_config({**LEAST, "paraphrases": 3}).paraphrases == 3
    assert make_config({**LEAST, "paraphrases": "p.jsonl"}).paraphrases == "p.jsonl"
    with pytest.raises(ConfigError, match="paraphrases: expected a number from 0 or a file"):
        make_config({**LEAST, "paraphrases": value})


def test_what_is_included_is_title_or_date() -> None:
    assert make_config({**LEAST, "include": "title"}).include == ("title",)
    assert make_config({**LEAST, "include": ["title", "date"]}).include == ("title", "date")
    with pytest.raises(ConfigError, match=r"include\.0 is 'titel', expected 'title' or 'date'"):
        make_config({**LEAST, "include": ["titel"]})
