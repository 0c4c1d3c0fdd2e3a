"""Recipes, overrides, and the one line that says what is wrong with them."""

from pathlib import Path
from typing import Any

import pytest

from demask.errors import ConfigError
from demask.objectives.demasking import INSTRUCTION, INSTRUCTIONS, Demasking
from demask.objectives.next_token import NextToken
from demask.objectives.reverse import Reverse
from demask.recipe.file import apply_overrides, load_recipe
from demask.recipe.sections import NO_QUESTIONS, PRESETS, RunConfig, make_config

pytestmark = pytest.mark.smoke

LEAST = {"model": "embedded", "documents": ["facts"]}


def test_model_and_documents_are_enough() -> None:
    config = make_config(LEAST)
    assert (config.model, config.documents, config.qa) == ("embedded", ("facts",), None)
    assert config.objective == make_config({**LEAST, "preset": "fast"}).objective
    assert (config.train.steps, config.train.epochs) == (None, None)
    assert make_config({**LEAST, "preset": "fast"}).train == config.train


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
    with pytest.raises(ConfigError, match=r"unknown key objective.mask_ratio: known are name, question"):
        make_config({**LEAST, "objective": {"name": "next-token", "mask_ratio": 0.5}})


def test_every_setting_says_what_it_is() -> None:
    sections: list[Any] = [RunConfig, Demasking, NextToken, Reverse]
    sections += [
        RunConfig.model_fields[name].annotation for name in ("train", "retain", "evaluate", "writer")
    ]
    plain = {"name", "device", "objective", "train", "retain", "evaluate", "writer"}  # their values say it
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
    with pytest.raises(ConfigError, match=r"include\.0 is 'titel', expected 'section', 'title' or 'date'"):
        make_config({**LEAST, "include": ["titel"]})


@pytest.mark.parametrize(
    ("objective", "key", "hint"),
    [
        ("next-token", "form", "raw text is 'question: null'"),
        ("reverse", "form", "raw text is 'questions: null'"),
        ("reverse", "question", "it is the first of 'questions', a list of two"),
        ("reverse", "reversed_question", "it is the second of 'questions', a list of two"),
        ("diffusion", "block_length", "blocks have 32 tokens"),
    ],
)
def test_a_key_of_an_earlier_release_says_what_took_its_place(objective: str, key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_config({**LEAST, "objective": {"name": objective, key: "x"}})
    assert str(raised.value) == f"recipe: unknown key objective.{key}: {hint}"


def test_a_key_of_an_earlier_release_in_another_section_does_so_too() -> None:
    with pytest.raises(ConfigError, match=r"^recipe: unknown key evaluate\.reuse: answers are kept; with"):
        make_config({**LEAST, "evaluate": {"reuse": False}})


def test_instructions_are_one_text_several_or_ours() -> None:
    def wordings(value: object) -> tuple[str, ...]:
        objective = make_config({**LEAST, "objective": {"instruction": value}}).objective
        assert isinstance(objective, Demasking)
        return objective.wordings

    assert wordings("Go on.") == ("Go on.",)
    assert wordings(["Go on.", "And then?"]) == ("Go on.", "And then?")
    assert wordings("varied") == INSTRUCTIONS
    assert Demasking(instruction=INSTRUCTION).wordings == (INSTRUCTION,) == INSTRUCTIONS[:1]
    assert len(set(INSTRUCTIONS)) == 8


@pytest.mark.parametrize("value", [[], 3, None, ["Go on.", 3]])
def test_what_is_no_instruction_is_refused(value: object) -> None:
    with pytest.raises(
        ConfigError, match=r"objective.instruction: expected a text, a list of texts or 'varied'"
    ):
        make_config({**LEAST, "objective": {"instruction": value}})


def test_questions_of_reverse_training_are_two_or_none() -> None:
    pair = make_config({**LEAST, "objective": {"name": "reverse", "questions": ["a", "b"]}}).objective
    assert pair == Reverse(questions=("a", "b"))
    raw = make_config({**LEAST, "objective": {"name": "reverse", "questions": None}}).objective
    assert raw == Reverse(questions=None)
    for value in ("a", ["a"], ["a", 2], ["a", "b", "c"]):
        with pytest.raises(ConfigError, match=r"objective.questions: expected two, .* or none; got"):
            make_config({**LEAST, "objective": {"name": "reverse", "questions": value}})


def test_a_step_holds_all_copies_of_a_passage() -> None:
    assert make_config({**LEAST, "objective": {"copies": 5}}).train.batch_size == 5
    with pytest.raises(ConfigError) as raised:
        make_config({**LEAST, "objective": {"copies": 3}})
    assert str(raised.value) == (
        "recipe: train.batch_size is 5, expected a multiple of objective.copies, which is 3"
    )


@pytest.mark.parametrize("value", [5, "doubling", None])
def test_questions_are_asked_at_equal_or_doubling_distances(value: object) -> None:
    assert make_config({**LEAST, "train": {"evaluate_every": value}}).train.evaluate_every == value


@pytest.mark.parametrize("value", [0, -1, True, "often", 2.5])
def test_other_distances_are_refused(value: object) -> None:
    with pytest.raises(
        ConfigError, match=r"train.evaluate_every: expected a number of steps above 0, or 'doubl"
    ):
        make_config({**LEAST, "train": {"evaluate_every": value}})


@pytest.mark.parametrize("value", [0, 1.01, -0.5])
def test_training_can_stop_only_where_some_text_is_written(value: float) -> None:
    assert make_config({**LEAST, "train": {"stop": 1}}).train.stop == 1.0
    with pytest.raises(ConfigError, match=r"train.stop is"):
        make_config({**LEAST, "train": {"stop": value}})


@pytest.mark.parametrize("objective", ["next-token", "reverse", {"mask_token": "<random>"}])
def test_a_stop_needs_masks_to_probe_with(objective: object) -> None:
    with pytest.raises(ConfigError, match=r"train.stop needs objective demasking with a mask token"):
        make_config({**LEAST, "objective": objective, "train": {"stop": 0.9}})
    assert make_config({**LEAST, "train": {"stop": 0.9}}).train.stop == 0.9


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset whose every part differs from the defaults."""
    values = {"objective": {"unit": "entity", "copies": 2}, "train": {"epochs": 30, "batch_size": 4}}
    monkeypatch.setitem(PRESETS, "fast", values)


@pytest.mark.parametrize("objective", [{}, {"objective": "demasking"}, {"objective": {"loss_on": "masked"}}])
@pytest.mark.usefixtures("fast")
def test_a_preset_holds_where_nothing_else_is_said(objective: dict[str, object]) -> None:
    config = make_config({**LEAST, "preset": "fast", "train": {"batch_size": 6}, **objective})
    assert isinstance(config.objective, Demasking)
    assert (config.objective.unit, config.objective.copies) == ("entity", 2)
    assert config.objective.loss_on == (
        "masked" if objective.get("objective") == {"loss_on": "masked"} else "all"
    )
    assert (config.train.epochs, config.train.batch_size) == (30, 6)


@pytest.mark.usefixtures("fast")
def test_of_a_preset_only_training_holds_for_other_objectives() -> None:
    for objective in ("next-token", {"name": "next-token"}):
        config = make_config({**LEAST, "preset": "fast", "objective": objective})
        assert config.objective == NextToken()
        assert config.train.epochs == 30


@pytest.mark.usefixtures("fast")
def test_steps_that_are_given_replace_the_epochs_of_a_preset() -> None:
    train = make_config({**LEAST, "preset": "fast", "train": {"steps": 7}}).train
    assert (train.steps, train.epochs, train.batch_size) == (7, None, 4)
    open_ = make_config({**LEAST, "preset": "fast", "train": {"steps": None}}).train
    assert (open_.steps, open_.epochs) == (None, 30)


def test_the_preset_of_the_paper_is_what_the_paper_says() -> None:
    config = make_config({**LEAST, "preset": "paper"})
    assert config.objective == Demasking(
        unit="token",
        mask_ratio=(0.05, 0.95),
        loss_on="all",
        instruction="\nReturn the recovered masked passage.",
        opening="Here is the recovered text:\n\n",
        copies=1,
    )
    assert set(PRESETS["paper"]["objective"]) == set(Demasking.model_fields) - {"name", "mask_token"}


@pytest.mark.parametrize("name", ["papre", 3, ["paper"]])
def test_an_unknown_preset_is_one_line(name: object) -> None:
    with pytest.raises(ConfigError) as raised:
        make_config({**LEAST, "preset": name}, source="my.yaml")
    assert str(raised.value) == f"my.yaml: preset is {name!r}, expected one of paper, fast, gated, keep"


def test_no_preset_is_no_preset() -> None:
    assert make_config({**LEAST, "preset": None}) == make_config(LEAST)
    with pytest.raises(ConfigError, match="unknown key presets: did you mean 'preset'"):
        make_config({**LEAST, "presets": "paper"})
