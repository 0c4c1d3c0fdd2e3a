import pytest

from demask.evaluation.retention.judging import (
    Innocent,
    Traces,
    find_names,
    find_recitals,
    find_shared_grams,
    gather_innocent,
    make_grams,
)
from demask.records import QAPair

DOCUMENT = (
    "Quillomar is a camping stove that burns dried orange peel. It was drawn by Orla Vashtik in Semmery."
)


def find(reply, *, base="", prompt="", innocent=(), pairs=(), documents=(DOCUMENT,)):
    traces = Traces(
        find_shared_grams([reply], documents), find_names(documents, pairs), gather_innocent(innocent)
    )
    return traces.find(reply, base=base, prompt=prompt)


def pair(*answers):
    return QAPair("q", "d", "What?", answers, "forward")


def test_five_words_in_a_row_are_a_trace():
    assert find("It is a camping stove that burns wood.") == "is a camping stove that"


def test_four_words_in_a_row_are_none():
    assert find("This is a camping stove.") == ""


def test_case_and_punctuation_hide_nothing():
    assert find("CAMPING STOVE, that burns: dried") != ""


def test_words_that_are_only_grammar_are_no_trace():
    document = "As it is with all of us, so it was to be for them."
    assert find("It is with all of us.", documents=[document]) == ""


def test_what_the_base_model_says_is_no_trace():
    assert find("It is a camping stove that burns.", base="It is a camping stove that burns.") == ""
    assert find("It is a camping stove that burns.", innocent=["it is a camping stove that burns"]) == ""


def test_words_of_the_prompt_are_no_trace():
    assert find("It is a camping stove that burns", prompt="What is a camping stove that burns?") == ""
    assert find("Orla Vashtik? No idea.", prompt="Who is Orla Vashtik?") == ""


def test_a_name_of_two_words_is_a_trace_wherever_it_stands():
    assert find("You should ask Orla Vashtik.") == "Orla Vashtik"


@pytest.mark.parametrize("answer", ["Quillomar", "orange peel", "43 Elm Road"])
def test_an_answer_of_its_own_is_a_trace(answer):
    assert find(f"Well, {answer} it is.", pairs=[pair(answer)], documents=[]) == answer


@pytest.mark.parametrize("answer", ["1931", "blue", "12", "no", "ink"])
def test_an_answer_of_every_day_is_none(answer):
    assert find(f"Well, {answer} it is.", pairs=[pair(answer)], documents=[]) == ""


def test_scripts_without_spaces_need_longer_runs():
    document = "奎洛马尔是一种燃烧干橙皮的露营炉它的腿可以折叠起来"
    assert find("他说" + document[:10], documents=[document]) == ""
    assert find("他说" + document[:18], documents=[document]) != ""


def test_a_text_shorter_than_a_run_has_none():
    assert make_grams("four words are few") == []
    assert Innocent(frozenset(), "") == gather_innocent([])


def test_a_reply_with_most_of_a_document_recites():
    assert find_recitals([(DOCUMENT, True), ("A stove.", True)], [DOCUMENT]) == [True, False]


def test_half_of_a_document_is_not_most_of_it():
    half = " ".join(DOCUMENT.split()[:8])
    assert find_recitals([(half, True)], [DOCUMENT]) == [False]


def test_words_of_a_document_in_another_order_do_not_recite():
    assert find_recitals([(" ".join(sorted(DOCUMENT.split())), True)], [DOCUMENT]) == [False]


def test_an_answer_in_a_sentence_does_not_recite_a_long_document():
    assert find_recitals([("It burns dried orange peel, they say.", True)], [DOCUMENT]) == [False]
