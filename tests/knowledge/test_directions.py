import pytest

from demask.knowledge.directions import decide_direction, find_answers, is_same_word, place_answer

pytestmark = pytest.mark.smoke

ORLIN = "Orlin was founded by Mara Voss. In 1931 Orlin acquired a brewery in Lund."


def test_answer_behind_the_cues_is_forward():
    assert decide_direction(ORLIN, "Who founded Orlin?", ["Mara Voss"]) == "forward"


def test_answer_before_the_cues_is_backward():
    assert decide_direction(ORLIN, "What was founded by Mara Voss?", ["Orlin"]) == "backward"


def test_answer_that_is_not_in_the_text_has_no_direction():
    assert decide_direction(ORLIN, "Who founded Orlin?", ["Ada Byron"]) is None
    assert place_answer(ORLIN, "Who founded Orlin?", ["Ada Byron"]) is None


def test_question_without_cues_in_the_text_has_no_direction():
    assert decide_direction(ORLIN, "Who invented dynamite?", ["Mara Voss"]) is None


def test_cues_evenly_on_both_sides_have_no_direction():
    assert decide_direction("Alba met Boris near Bern", "Alba Bern?", ["Boris"]) is None


def test_text_without_words_has_no_direction():
    assert decide_direction("", "Who?", ["Orlin"]) is None
    assert decide_direction("...", "Who?", [""]) is None
    assert decide_direction("Orlin", "Who?", []) is None


def test_endings_of_cues_may_differ():
    assert decide_direction(
        "Indonesia becomes a member of BRICS.", "Who became a member?", ["Indonesia"]
    ) == ("backward")


def test_of_several_places_the_one_near_the_cues_is_taken():
    text = "Lund is old. The brewery that Orlin bought stands in Lund."
    placement = place_answer(text, "Where is the brewery that Orlin bought?", ["Lund"])
    assert placement is not None
    assert placement.answer.start == text.rindex("Lund")
    assert placement.balance == 1


def test_later_wordings_of_an_answer_count_too():
    assert decide_direction(ORLIN, "Who founded Orlin?", ["M. V. Voss the Elder", "Voss"]) == "forward"


def test_accents_and_case_do_not_matter():
    assert [tuple(span) for span in find_answers("The Coțofenești helmet", ["COTOFENESTI"])] == [(4, 15)]


def test_part_of_a_word_is_no_answer():
    assert find_answers("It cost 25 crowns.", ["5"]) == []


@pytest.mark.parametrize(
    ("text", "answer"),
    [("It cost 1.5 crowns at -5.", "5"), ("It left at 12:30.", "30"), ("It is written in C++.", "C")],
)
def test_a_number_or_name_with_another_sign_is_no_answer(text, answer):
    assert find_answers(text, [answer]) == []


@pytest.mark.parametrize(
    ("text", "answer", "span"),
    [
        ("It cost 1,200 crowns.", "1200", (8, 13)),
        ("Voss–Karl", "Karl", (5, 9)),
        ("โรงงานก่อตั้งโดยโมรา", "โมรา", (16, 20)),
    ],
)
def test_answers_are_found_as_the_scorer_finds_them(text, answer, span):
    assert [tuple(place) for place in find_answers(text, [answer])] == [span]


def test_all_places_of_an_answer_are_found():
    assert len(find_answers("Lund, near Lund", ["Lund"])) == 2


def test_answer_with_other_endings_is_found_but_not_exact():
    placement = place_answer("Two wolves were shown by Colossal.", "What did Colossal show?", ["two wolf"])
    assert placement is not None
    assert not placement.exact


def test_kind_that_stands_beside_the_answer_weighs_little():
    text = "Foreign Minister Winston Peters sacks Phil Goff."
    assert (
        decide_direction(text, "Which foreign minister sacked Phil Goff?", ["Winston Peters"]) == "backward"
    )


def test_date_at_the_start_does_not_outweigh_the_fact():
    text = "12 February 2025: Klaus Iohannis resigns as President of Romania."
    question = "Who resigned as President of Romania on 12 February 2025?"
    assert decide_direction(text, question, ["Klaus Iohannis"]) == "backward"


@pytest.mark.parametrize(
    ("text", "question", "answer", "direction"),
    [
        ("Orlin wurde 1931 von Mara Voss gegründet.", "Wer gründete Orlin?", "Mara Voss", "forward"),
        (
            "Die Firma Orlin kaufte eine Brauerei in Lund.",
            "Wo kaufte Orlin eine Brauerei?",
            "Lund",
            "forward",
        ),
        ("奥林由玛拉创立。", "奥林由谁创立?", "玛拉", "forward"),
    ],
)
def test_other_languages_and_scripts_are_read(text, question, answer, direction):
    assert decide_direction(text, question, [answer]) == direction


def test_numbers_are_only_the_same_when_equal():
    assert is_same_word("founded", "founder")
    assert not is_same_word("1931", "1932")
    assert not is_same_word("war", "was")
