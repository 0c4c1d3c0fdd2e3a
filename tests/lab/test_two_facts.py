"""Questions that need two facts: explained from the world, asked about people that were not trained."""

import pytest

from demask.benchmarks.word_problems import is_right
from demask.errors import ConfigError
from demask.lab import two_facts
from demask.lab.pretraining import make_word_tokenizer
from demask.lab.reading import TASKS, make_reader_examples, reader_texts
from demask.lab.two_facts import (
    ASKS_HOME,
    HELD_OUT_KIND,
    HOMES,
    OPTIONS,
    SPLITS,
    TOWNS,
    choose_people,
    draw_homes,
    make_two_fact_problems,
    write_home,
    write_home_questions,
)
from demask.lab.world import make_world
from demask.records import Passage

pytestmark = pytest.mark.smoke

WORLD = make_world(known=120, new=1, seed=0)
HOME = draw_homes(WORLD, seed=0)
SETS = {split: make_two_fact_problems(WORLD, HOME, split, count=60, seed=0) for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_the_explanation_states_both_facts_and_the_answer_follows(split):
    people = {person.id: person for person in choose_people(WORLD, split)}
    for problem in SETS[split]:
        person = people[problem.cluster]
        assert person.thing in problem.question
        assert person.name not in problem.question
        assert (
            f"of {person.thing} is {person.name}. {person.name} lives in {HOME[person.id]}." in problem.answer
        )
        assert is_right(problem.answer, problem.result)


@pytest.mark.parametrize("split", SPLITS)
def test_half_of_the_questions_have_four_options_one_of_which_is_right(split):
    chosen = [problem for problem in SETS[split] if problem.result in OPTIONS]
    assert 15 < len(chosen) < 45
    for problem in chosen:
        options = dict(
            zip(OPTIONS, problem.question.split("A: ")[1].replace(":", "").split()[::2], strict=True)
        )
        assert options[problem.result] == HOME[problem.cluster]
        assert len(set(options.values())) == 4
    assert len({problem.result for problem in chosen}) == 4


def test_nobody_is_asked_about_who_is_trained():
    trained, validated, asked, kinds = (
        {person.id for person in choose_people(WORLD, split)}
        for split in ("train", "validation", "in distribution", "kinds")
    )
    assert (
        len(trained | validated | asked | kinds)
        == len(WORLD.known)
        == sum(map(len, (trained, validated, asked, kinds)))
    )
    assert choose_people(WORLD, "wordings") == choose_people(WORLD, "in distribution")


def test_shifts_have_what_training_does_not():
    assert all(HELD_OUT_KIND not in problem.question for problem in SETS["train"])
    assert all(
        "house of this person" in problem.question or "meet the one" in problem.question
        for problem in SETS["wordings"]
    )
    assert not any("house of this person" in problem.question for problem in SETS["train"])


def test_homes_and_their_questions_name_the_town():
    person = WORLD.known[0]
    for template in range(len(HOMES)):
        text = write_home(person, "Oakham", template)
        assert person.name in text
        assert "Oakham" in text
    pairs = write_home_questions(person, "Oakham")
    assert len(pairs) == len(ASKS_HOME)
    assert {pair.answers for pair in pairs} == {("Oakham",)}
    assert set(HOME.values()) <= set(TOWNS)


def test_a_set_is_a_function_of_its_seed_and_too_many_are_refused(monkeypatch):
    assert make_two_fact_problems(WORLD, HOME, "train", count=5, seed=0) == SETS["train"][:5]
    monkeypatch.setattr(two_facts, "TOWNS", TOWNS[:4])
    small = make_world(known=12, new=1, seed=0)
    with pytest.raises(ConfigError, match="different questions were found"):
        make_two_fact_problems(small, draw_homes(small, seed=0), "in distribution", count=10**4, seed=0)
    with pytest.raises(ConfigError, match="nobody to ask about"):
        make_two_fact_problems(make_world(known=1, new=1, seed=0), {}, "in distribution", count=1, seed=0)
    with pytest.raises(ConfigError, match="no part of them"):
        make_two_fact_problems(WORLD, HOME, "test", count=1, seed=0)


def test_the_tokenizer_knows_every_word_of_what_is_read_and_asked():
    tokenizer = make_word_tokenizer(reader_texts(WORLD))
    make = make_reader_examples(WORLD, HOME, tokenizer, 0)
    unknown = tokenizer.unk_token_id
    for variant in range(len(TASKS)):
        for person in WORLD.known[:20]:
            assert unknown not in make(Passage(person.id, person.id, ""), 1, variant).token_ids
    for problems in SETS.values():
        for problem in problems:
            assert unknown not in tokenizer(f"{problem.question} {problem.answer}")["input_ids"]
