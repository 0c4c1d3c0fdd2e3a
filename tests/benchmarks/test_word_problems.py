"""Word problems come to what their sentences say, and each shift changes one thing."""

import re

import pytest

from demask.benchmarks.word_problems import (
    LARGEST,
    REPORTED,
    SPLITS,
    TEMPLATES,
    TRAINED_TEMPLATES,
    is_right,
    make_word_problems,
    read_result,
)
from demask.errors import ConfigError

pytestmark = pytest.mark.smoke

SETS = {split: make_word_problems(split, count=300, seed=0) for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_the_reasoning_is_right_and_ends_with_the_result(split):
    for problem in SETS[split]:
        equations = re.findall(r"(\d+) ([-+*]) (\d+) = (\d+)\.", problem.answer)
        results = [eval("".join(equation[:3])) for equation in equations]
        assert results == [int(equation[3]) for equation in equations]
        assert [equation[0] for equation in equations[1:]] == [equation[3] for equation in equations[:-1]]
        assert all(0 < result <= LARGEST for result in results)
        assert problem.answer.endswith(f"The answer is {results[-1]}.")
        assert (problem.result, is_right(problem.answer, problem.result)) == (str(results[-1]), True)


@pytest.mark.parametrize("split", SPLITS)
def test_the_numbers_of_the_reasoning_stand_in_the_question_in_order(split):
    for problem in SETS[split]:
        told = re.findall(r"\d+", problem.question)
        first, *_ = re.findall(r"\d+", problem.answer)
        assert told == [first, *(by for _, by in re.findall(r"([-+*]) (\d+)", problem.answer))]


def test_every_template_has_a_sentence_of_its_own_for_everything():
    sentences = [s for t in TEMPLATES for s in (t.start, t.more, t.less, t.times, t.asks)]
    assert len(set(sentences)) == len(sentences) == 5 * len(TEMPLATES)
    assert all(s.count("{n}") == 1 for t in TEMPLATES for s in (t.start, t.more, t.less, t.times))


def _templates(split):
    return {int(problem.cluster.split("-")[0]) for problem in SETS[split]}


def _steps(split):
    return {problem.answer.count("=") for problem in SETS[split]}


def _starts(split):
    return {int(problem.answer.split()[1]) for problem in SETS[split]}


def test_each_shift_changes_one_thing_and_the_others_stay():
    trained = set(range(TRAINED_TEMPLATES))
    for split in ("train", "validation", "in distribution", "numbers", "steps"):
        assert _templates(split) == trained
    assert _templates("templates") == set(range(TRAINED_TEMPLATES, len(TEMPLATES)))
    assert [_steps(split) for split in REPORTED] == [{1, 2, 3}, {1, 2, 3}, {1, 2, 3}, {4}]
    assert min(_starts("numbers")) > max(_starts("train")) == max(_starts("steps"))


def test_a_set_is_a_function_of_its_seed_and_grows_at_its_end():
    assert make_word_problems("train", count=20, seed=0) == SETS["train"][:20]
    assert make_word_problems("train", count=20, seed=1) != SETS["train"][:20]


def test_no_question_comes_twice_and_none_that_is_set_apart():
    apart = SETS["in distribution"]
    trained = make_word_problems("train", count=3000, seed=0, apart=apart)
    questions = {problem.question for problem in trained}
    assert len(questions) == 3000
    assert questions.isdisjoint(problem.question for problem in apart)


def test_more_problems_than_there_are_is_an_error():
    with pytest.raises(ConfigError, match="no part of them"):
        make_word_problems("test", count=1, seed=0)


@pytest.mark.parametrize(
    ("text", "result", "right"),
    [
        ("First 20 + 5 = 25. The answer is 25.", "25", True),
        ("The answer is 25.0", "25", True),
        ("First 5 + 5 = 10. The answer is 25.", "5", False),  # holds it as a part
        ("5 + 20 = 25", "25", True),  # without the sentence its last number counts
        ("25 and then 24", "25", False),
        ("The answer is 1,025.", "1025", True),
        ("The answer is -3.", "3", False),
        ("The answer is 5. No, the answer is 6.", "5", False),  # the last counts
        ("the answer is: marwood", "Marwood", True),
        ("The answer is Marwoods.", "Marwood", False),
        ("nothing", "5", False),
        ("", "", False),
    ],
)
def test_answers_count_by_value(text, result, right):
    assert is_right(text, result) is right


def test_a_bare_name_is_a_result():
    assert read_result(" Marwood. ") == "Marwood"
    assert is_right("Marwood", "marwood")
    assert not is_right("I do not know.", "know")
