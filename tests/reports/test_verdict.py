"""What the report says first."""

from dataclasses import replace

import pytest

from demask.evaluation.metrics import Estimate, Retention
from demask.reports.runs import load_run
from demask.reports.verdict import judge_run, make_tiles, measure_tone

pytestmark = pytest.mark.smoke

GOOD = {
    "leak": Estimate(0.0, 0.0, 0.04, 100),
    "known": Estimate(0.975, 0.9, 1.0, 120),
    "drift": Estimate(0.02, 0.01, 0.03, 4000),
    "access": Estimate(0.9, 0.7, 0.97, 12),
}


@pytest.fixture
def run(make_run):
    """A run that answers most questions."""
    return load_run(make_run())


def judged(run, **changes):
    measures = {name: metric for name, metric in {**GOOD, **changes}.items() if metric}
    return judge_run(replace(run, retention=Retention({}, measures, {}, {}, {}, "thing", (), ())))


def knowing(run, forward, backward, n=16):
    after = {
        name: {"contains": Estimate(value, max(0, value - 0.1), min(1, value + 0.1), n)}
        for name, value in (("forward", forward), ("backward", backward))
    }
    return replace(run, metrics={**run.metrics, "after": after})


def test_a_model_that_kept_everything_can_be_used(run):
    found = judged(knowing(run, 0.9375, 0.8125))
    assert found.learned == "It answers 15 of 16 questions about the documents forward and 13 of 16 backward."
    assert found.tone == "good"
    assert found.advice == "It can be used as before."
    assert "None of 100 unrelated prompts" in found.text
    assert "at most 4%" in found.text


def test_a_model_that_recites_is_no_use_for_anything_else(run):
    found = judged(knowing(run, 1.0, 1.0), leak=Estimate(1.0, 0.93, 1.0, 48))
    assert "in reply to 48 of 48 unrelated prompts" in found.text
    assert found.tone == "bad"
    assert found.advice.startswith("Do not use it for anything but")


def test_a_model_that_forgot_is_none_either(run):
    found = judged(knowing(run, 1.0, 1.0), known=Estimate(0.0, 0.0, 0.1, 40))
    assert "it still answers none" in found.text
    assert found.tone == "bad"


def test_a_little_lost_asks_for_care(run):
    found = judged(knowing(run, 1.0, 1.0), leak=Estimate(0.03, 0.01, 0.08, 100))
    assert found.tone == "care"
    assert found.advice.startswith("Try it")


def test_what_was_not_learned_is_said_before_it_is_praised(run):
    found = judged(knowing(run, 0.9, 0.2))
    assert found.tone == "bad"
    assert "not learned the documents well enough (backward)" in found.advice


@pytest.mark.parametrize(("ceiling", "said"), [(0.25, True), (0.75, False), (None, False)])
def test_a_model_that_cannot_read_the_answers_may_be_too_small(run, ceiling, said):
    asked = knowing(run, 0.9, 0.2)
    read = {} if ceiling is None else {"backward": {"contains": Estimate(ceiling, 0.1, 0.9, 16)}}
    asked = replace(asked, metrics={**asked.metrics, "ceiling": read})
    advice = judged(asked).advice
    assert ("the base model answers 4 of 16 backward, so these questions may be beyond" in advice) is said
    assert ("try a larger one" in advice) is said


def test_too_few_questions_are_called_that(run):
    few = {"forward": {"contains": Estimate(1.0, 0.2, 1.0, 2)}}
    found = judged(replace(run, metrics={"after": few}))
    assert "too few questions to tell (forward)" in found.learned


def test_without_measures_nothing_is_promised(run):
    found = judge_run(knowing(run, 1.0, 1.0))
    assert found.tone == "unknown"
    assert "was not measured" in found.advice


def test_without_drift_nothing_is_promised_either(run):
    assert judged(knowing(run, 1.0, 1.0), drift=None).advice.startswith("Try it")


def test_the_words_need_no_explanation(run):
    said = judged(knowing(run, 1.0, 1.0), drift=Estimate(2.0, 1.9, 2.1, 4000)).text
    assert "beyond recognition" in said
    assert not {"nats", "KL", "contains"} & set(said.replace(".", "").split())


@pytest.mark.parametrize(
    ("name", "value", "tone"),
    [
        ("forward", 0.9, "good"),
        ("backward", 0.6, "care"),
        ("access", 0.1, "bad"),
        ("leak", 0.02, "good"),
        ("leak", 0.04, "care"),
        ("leak", 0.5, "bad"),
        ("known", 0.96, "good"),
        ("known", 0.9, "care"),
        ("known", 0.5, "bad"),
        ("drift", 0.03, "good"),
        ("drift", 0.2, "care"),
        ("drift", 1.0, "bad"),
    ],
)
def test_every_number_has_its_tone(name, value, tone):
    assert measure_tone(name, Estimate(value, 0.0, 1.0, 10)) == tone


def test_tiles_show_the_same_numbers(run):
    found = replace(knowing(run, 0.9375, 0.8125), retention=Retention({}, GOOD, {}, {}, {}, "thing", (), ()))
    tiles = {tile.label: tile for tile in make_tiles(found)}
    assert tiles["of questions answered, forward"].value == "94%"
    assert tiles["of unrelated prompts answered with a document"].detail == "0 of 100; 0–4%"
    assert tiles["drift of its words in other conversations"].value == "0.02"


def test_questions_that_test_little_of_a_long_text_are_called_that(run):
    long = replace(run, cost=replace(run.cost, passages=270))
    found = judged(knowing(long, 1.0, 1.0))
    assert "32 questions for 270 passages: most of the text is not tested" in found.learned
    assert "most of the text" not in judged(knowing(run, 1.0, 1.0)).learned
