from dataclasses import replace

import pytest
from tests.evaluation.retention.planted import DOCUMENTS, PAIRS

from demask.evaluation.retention import suite as suites
from demask.evaluation.retention.suite import (
    FORMS,
    SHOTS,
    SIZES,
    Sources,
    base_probes,
    choose_pairs,
    find_names,
    known_facts,
    load_suite,
    make_forms,
    replace_answer,
    replace_names,
    suite_fingerprint,
    tuned_probes,
)

pytestmark = pytest.mark.smoke

SOURCES = Sources(PAIRS, {pair.id: DOCUMENTS[pair.document_id] for pair in PAIRS})
# Of every version that was ever shipped; a changed text is a new version, with a line of its own here.
# Version 2 has the texts of version 1; what begins a later sentence of a question is no name since.
FINGERPRINTS = {1: "aa129eecf5636d57", 2: "aa129eecf5636d57"}


def test_the_texts_are_those_of_their_version():
    assert suite_fingerprint() == FINGERPRINTS[suites.VERSION], (
        "a text of the suite has changed: raise VERSION in suite.py, put the new fingerprint on record"
    )


def test_a_size_is_known_by_version_name_and_fingerprint():
    assert load_suite("quick").describe() == {
        "version": suites.VERSION,
        "size": "quick",
        "fingerprint": suite_fingerprint(),
    }


@pytest.mark.parametrize("name", list(SIZES))
def test_every_size_has_as_many_texts_as_it_says(name):
    suite = load_suite(name)
    assert len(suite.everyday) == suite.size.everyday
    assert len(suite.openings) == suite.size.conversations
    assert len(suite.texts) == suite.size.texts
    assert len(suite.facts) == min(suite.size.candidates, 371)


def test_a_smaller_size_asks_what_a_larger_one_asks_first():
    small, large = load_suite("brief"), load_suite("full")
    assert large.everyday[: len(small.everyday)] == small.everyday
    assert large.facts[: len(small.facts)] == small.facts


def test_no_prompt_stands_twice():
    suite = load_suite("full")
    prompts = [
        *(one.prompt for one in suite.everyday),
        *(one.user for one in suite.openings),
        *(text for fact in suite.facts for text in (fact.question, fact.reworded)),
        *(one.question for one in suite.near_misses),
    ]
    assert len({prompt.casefold() for prompt in prompts}) == len(prompts)


def test_no_fact_gives_its_answer_away():
    from demask.evaluation.metrics import contains

    for fact in load_suite("full").facts:
        assert not contains(f"{fact.question} {fact.reworded}", fact.answers), fact.id


def test_rewordings_keep_the_question():
    for frame in load_suite("full").rewordings:
        assert frame.count("{question}") == 1


def test_the_same_questions_make_the_same_probes(suite):
    shuffled = Sources(PAIRS[::-1], SOURCES.texts)
    first, second = (
        {probe for probe in base_probes(suite, s) if probe.form != "made"} for s in (SOURCES, shuffled)
    )
    assert {probe.kind for probe in first} == {"everyday", "near-miss", "known", "reading-changed"}
    assert {p for p in first if p.kind != "reading-changed"} == {
        p for p in second if p.kind != "reading-changed"
    }


def test_the_trained_model_is_asked_only_facts_that_the_base_knows(suite):
    known = suite.facts[3:5]
    asked = {probe.id for probe in tuned_probes(suite, SOURCES, known) if probe.kind == "known"}
    assert asked == {fact.id for fact in known}


def test_a_fact_is_known_when_both_wordings_are_right(suite):
    one, two, three = suite.facts[:3]
    right = {(one.id, "question"): True, (one.id, "reworded"): True, (two.id, "question"): True}
    assert known_facts((one, two, three), right) == [one]


def test_pairs_are_chosen_evenly_over_documents():
    many = [replace(PAIRS[0], id=f"more-{number}", question=f"{number}?") for number in range(50)]
    chosen = choose_pairs([*many, *PAIRS], 4)
    assert {pair.document_id for pair in chosen if pair.direction == "forward"} == set(DOCUMENTS)


def test_every_form_asks_the_same_question(suite):
    forms = make_forms(suite, PAIRS[0], PAIRS, suite.facts)
    assert tuple(forms) == FORMS
    assert all(PAIRS[0].question in turns[-1].content for turns in forms.values())
    assert all(turns[-1].role == "user" for turns in forms.values())


def test_a_rewording_of_the_file_takes_the_place_of_a_frame(suite):
    pair = replace(PAIRS[0], reworded="Quillomar is fed with what?")
    assert (
        make_forms(suite, pair, PAIRS, suite.facts)["reworded"][-1].content == "Quillomar is fed with what?"
    )


def test_no_form_tells_the_answer(suite):
    from demask.evaluation.metrics import contains

    for pair in PAIRS:
        for turns in make_forms(suite, pair, PAIRS, suite.facts).values():
            assert not contains(" ".join(turn.content for turn in turns), pair.answers)


def test_shots_about_documents_are_about_others_and_of_the_same_direction(suite):
    text = make_forms(suite, PAIRS[0], PAIRS, suite.facts)["shots: documents"][-1].content
    assert text.count("Answer:") == SHOTS + 1
    assert sum(pair.question in text for pair in PAIRS if pair.direction == "forward") == SHOTS + 1


def test_with_one_document_there_are_no_exchanges_about_another(suite):
    forms = make_forms(suite, PAIRS[0], PAIRS[:2], suite.facts)
    assert set(FORMS) - set(forms) == {"other document", "shots: documents"}


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("What does Quillomar burn?", ["Quillomar"]),
        ("Who is Orla Vashtik?", ["Orla Vashtik"]),
        ("Which village has streets of shells?", []),
        ("Who directed 'A Journey Through Time'?", ["A Journey Through Time"]),
        ("Where in the Gulf of Semmery does it live?", ["Gulf of Semmery"]),
        ("Orla Vashtik crossed which sea?", ["Vashtik"]),
        ("Please answer what you know:\nCan you name the village of Semmery?", ["Semmery"]),
        ("Think first. Who taught Dr. Vashtik? Say it.", ["Dr", "Vashtik"]),
    ],
)
def test_names_in_a_question(question, names):
    assert [question[span.start : span.end] for span in find_names(question)] == names


def test_a_near_miss_names_nobody_of_the_documents(suite):
    made = replace_names("When did Orla Vashtik meet Idris Hall?", suite.strangers, key="q1")
    assert "Vashtik" not in made
    assert "Hall" not in made
    assert made.startswith("When did ")
    assert replace_names("When did Orla Vashtik meet Idris Hall?", suite.strangers, key="q1") == made


def test_a_question_without_names_and_numbers_makes_no_near_miss(suite):
    assert replace_names("Which village has streets of shells?", suite.strangers, key="q") == (
        "Which village has streets of shells?"
    )


def test_near_misses_are_filled_up_with_shipped_ones(suite):
    asked = [probe for probe in base_probes(suite, SOURCES) if probe.kind == "near-miss"]
    assert len(asked) == suite.size.near_misses
    assert {probe.form for probe in asked} == {"made", "shipped"}


def test_a_changed_document_says_something_else_everywhere(suite):
    changed = [probe for probe in base_probes(suite, SOURCES) if probe.kind == "reading-changed"]
    answers = {pair.id: pair.answers[0] for pair in PAIRS}
    assert changed
    for probe in changed:
        text = probe.turns[-1].content.rpartition("\n\n")[0]
        assert answers[probe.id] not in text
        assert probe.expected in text


def test_every_place_of_an_answer_is_replaced():
    assert replace_answer("Ink, ink and more INK.", ("ink",), "tar") == "tar, tar and more tar."


def test_an_article_stands_once_before_a_replaced_answer():
    assert replace_answer("It sat in a jar.", ("jar",), "a bathtub") == "It sat in a bathtub."
