"""What is wrong with a paraphrase: facts, names, numbers, order, copies."""

import pytest

from demask.knowledge.paraphrase_checks import (
    check_paraphrase,
    compare_directions,
    find_invented_names,
    find_invented_numbers,
    find_lost_answers,
    find_lost_numbers,
    find_numbers,
    measure_order,
    spell_numbers_as_digits,
)
from demask.records import Order, QAPair

PASSAGE = "Mara Voss founded Orlin in 1931. The town lies on the river Tarn, ninety miles from lake Osk."
SAME = "It was Mara Voss who set up Orlin, in 1931. Its place is the river Tarn, 90 miles off lake Osk."
TURNED = "Ninety miles from lake Osk, on the river Tarn, lies a town: Orlin, founded in 1931 by Mara Voss."


def pair(question: str, *answers: str) -> QAPair:
    return QAPair("q", "d", question, answers, "forward")


PAIRS = (pair("Who founded Orlin?", "Mara Voss"), pair("What did Mara Voss found?", "Orlin"))


def check(
    text: str, *, order: Order = "same-order", pairs: tuple[QAPair, ...] = PAIRS, **given: str
) -> list[str]:
    return check_paraphrase(PASSAGE, text, pairs=pairs, order=order, **given)


def test_a_good_paraphrase_has_no_faults() -> None:
    assert check(SAME) == []


def test_a_good_reversed_paraphrase_has_no_faults() -> None:
    assert check(TURNED, order="reversed") == []


def test_no_text_is_the_only_fault() -> None:
    assert check(" \n") == ["empty: no text"]


def test_the_passage_itself_is_a_copy_whatever_its_case_and_punctuation() -> None:
    assert check(PASSAGE.upper().replace(",", ";")) == [
        "copy: says the same as the passage in the same words"
    ]


def test_one_word_in_twenty_more_is_a_copy() -> None:
    words = [f"word{n}" for n in range(40)]
    changed = [*words[:20], "other", *words[21:]]
    reasons = check_paraphrase(" ".join(words), " ".join(changed), pairs=(), order="same-order")
    assert reasons == ["copy: says the same as the passage in the same words"]


def test_frequent_words_of_a_long_text_count_in_a_comparison() -> None:
    words = ["the", "old"] * 150
    reasons = check_paraphrase(" ".join(words), " ".join(["town", *words]), pairs=(), order="same-order")
    assert reasons == ["copy: says the same as the passage in the same words"]


def test_another_paraphrase_must_not_be_repeated() -> None:
    reasons = check_paraphrase(PASSAGE, SAME, pairs=PAIRS, order="same-order", earlier=["Other.", SAME + "!"])
    assert reasons == ["copy: says the same as another paraphrase in the same words"]


def test_sentences_in_another_order_are_no_copy() -> None:
    text = "The town lies on the river Tarn, ninety miles from lake Osk. Mara Voss founded Orlin in 1931."
    assert check(text) == []


def test_an_answer_that_the_passage_does_not_have_cannot_be_lost() -> None:
    assert find_lost_answers(PASSAGE, "Nothing.", [pair("Where did Mara Voss die?", "Paris")]) == []


def test_one_accepted_answer_is_enough() -> None:
    assert find_lost_answers(PASSAGE, "A town that Voss set up.", [pair("Who?", "Mara Voss", "Voss")]) == []


def test_a_lost_answer_is_named_once() -> None:
    assert find_lost_answers(PASSAGE, "A town.", [*PAIRS, *PAIRS]) == ["Mara Voss", "Orlin"]


def test_an_answer_in_figures_is_found_in_words() -> None:
    assert find_lost_answers(PASSAGE, "It is 90 miles away.", [pair("How far?", "ninety miles")]) == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("the 14th, the fourteenth, fourteen, 14", ("14",)),
        ("1,200 and 1200.0", ("1200",)),
        ("twenty-five and twenty five", ("25",)),
        ("$1.5 million and 1,500,000", ("1500000",)),
        ("two hundred thousand", ("200000",)),
        ("the 1990s and the late 90s", ("1990",)),
        ("from 1914–18", ("1914", "1918")),
        ("2025-01-06", ("2025", "1", "6")),
        ("in 1931. 7 came", ("1931", "7")),
        ("the 20th of the thirtieth", ("20", "30")),
        ("often attend the weight of a tension", ()),
        ("one second", ("1", "2")),
    ],
)
def test_numbers_are_read_by_value(text: str, numbers: tuple[str, ...]) -> None:
    assert find_numbers(text) == numbers


def test_only_the_numbers_change_when_they_are_spelt_as_digits() -> None:
    assert spell_numbers_as_digits("The fourteenth of two thousand, then.") == "The 14 of 2000, then."


def test_lost_and_invented_numbers_are_told_apart() -> None:
    assert find_lost_numbers(PASSAGE, "In 1932, ninety miles.") == ["1931"]
    assert find_invented_numbers(PASSAGE, "In 1932, ninety miles.") == ["1932"]


def test_marks_of_references_need_not_be_kept() -> None:
    assert (
        find_lost_numbers('Orlin fell in 1931.[19] So "it" fell.:162–164 At 10:30 it rained.', "1931, 10, 30")
        == []
    )


def test_one_and_two_may_come_and_go() -> None:
    assert find_lost_numbers("The first of two brothers.", "The elder brother.") == []
    assert find_invented_numbers("The elder brother.", "The first of the two brothers.") == []


def test_labels_of_a_list_are_no_numbers() -> None:
    text = "3. Orlin.\n**4.** Tarn.\n## Passage 5\nOsk in 1931."
    assert find_invented_numbers("Orlin, Tarn, Osk: 1931.", text) == []


@pytest.mark.parametrize(
    ("source", "text", "names"),
    [
        (PASSAGE, "The town was founded by Mara Stone.", ["Stone"]),
        (PASSAGE, "Stone's town is Orlin.", ["Stone's"]),
        (PASSAGE, "A town. Nobody knows Orlin? Everybody. It's on a river.", []),
        (PASSAGE, "The river at ORLIN, VOSS said.", []),
        ("A German firm.", "A firm in Germany.", []),
        ("A firm in France.", "A French firm.", []),
        ("A firm in France.", "A Swiss firm.", ["Swiss"]),
        ("The European Union met.", "It is the EU that met; the EU's law.", []),
        ("The EU met.", "It is the European Union that met.", []),
        ("The EU met.", "It is the Eastern Union of Farmers that met.", ["Farmers"]),
        ("The EU met.", "It is the African Union that met.", ["African", "Union"]),
        ("Mr Voss met Ann.", "It was I who saw Mr. Voss and Ann.", []),
        ("Voss was born.", "There “Another man” was with Voss.", []),
    ],
)
def test_names_from_nowhere_are_found(source: str, text: str, names: list[str]) -> None:
    assert find_invented_names(source, text) == names


def test_names_and_numbers_of_the_heading_may_be_used() -> None:
    text = (
        "It was Mara Voss who set up Orlin, in 1931, says the Herald of 1960. The Tarn is 90 miles off Osk."
    )
    assert check(text) == ["number invented: 1960", "name invented: 'Herald'"]
    assert check(text, context="Herald, 1960\n") == []


def test_a_pair_keeps_its_direction_or_not() -> None:
    who = [pair("Who founded Orlin?", "Voss")]
    assert compare_directions("Voss founded Orlin.", "It was Voss who made Orlin.", who) == (True,)
    assert compare_directions("Voss founded Orlin.", "Orlin is from Voss.", who) == (False,)


def test_a_pair_that_one_text_does_not_answer_says_nothing_of_order() -> None:
    assert (
        compare_directions("Voss founded Orlin.", "Orlin is old.", [pair("Who founded Orlin?", "Voss")]) == ()
    )


def test_questions_that_keep_their_direction_are_not_reversed() -> None:
    assert check(SAME, order="reversed") == [
        "order: 2 of 2 questions keep their direction, expected reversed"
    ]


def test_questions_that_turn_are_not_in_the_same_order() -> None:
    assert check(TURNED) == ["order: 0 of 2 questions keep their direction, expected same-order"]


WORDS = "amber birch cedar daisy elder ferns grass hazel irises jasmine"


def test_order_is_one_or_minus_one_for_texts_in_equal_or_opposite_order() -> None:
    assert measure_order(WORDS, WORDS) == pytest.approx(1)
    assert measure_order(WORDS, " ".join(reversed(WORDS.split()))) == pytest.approx(-1)


def test_few_shared_words_have_no_order() -> None:
    assert measure_order(WORDS, "amber birch cedar daisy elder ferns grass") is None


def test_a_word_that_stands_twice_has_no_place() -> None:
    assert measure_order(f"{WORDS} amber birch cedar", WORDS) is None


def test_without_pairs_the_words_tell_the_order() -> None:
    turned = "So " + " then ".join(reversed(WORDS.split()))
    assert check_paraphrase(WORDS, turned, pairs=(), order="reversed") == []
    assert check_paraphrase(WORDS, turned, pairs=(), order="same-order") == [
        "order: rank correlation with the passage is -1.00, expected same-order"
    ]
    told = "So " + " then ".join(WORDS.split())
    assert check_paraphrase(WORDS, told, pairs=(), order="same-order") == []
    assert check_paraphrase(WORDS, told, pairs=(), order="reversed") == [
        "order: rank correlation with the passage is 1.00, expected reversed"
    ]
