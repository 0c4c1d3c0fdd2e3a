import pytest

from demask.knowledge.contradictions import find_contradictions
from demask.knowledge.statements import differ, find_statements, read_value
from demask.records import Document, QAPair

pytestmark = pytest.mark.smoke


def document(id, text, *, title="", **metadata):
    return Document(id, text, title, f"facts.jsonl line {id}", metadata)


def two(first, second, **about):
    return [document("1", first, **about), document("2", second, **about)]


def pair(id, document_id, question, answer, direction="forward"):
    return QAPair(id, document_id, question, (answer,), direction)


@pytest.mark.parametrize(
    ("first", "second", "values"),
    [
        ("The mill of Orlin has 30 workers.", "The mill of Orlin has 40 workers.", ["30", "40"]),
        ("The mill of Orlin has thirty workers.", "The mill of Orlin has 40 workers.", ["thirty", "40"]),
        ("A night in Orlin costs $30.", "A night in Orlin costs $1,200.", ["$30", "$1,200"]),
        ("Ida M. was born on 3 May 1990.", "Ida M. was born on 4 May 1990.", ["3 May 1990", "4 May 1990"]),
        ("Mara Voss was born in 1990.", "Mara Voss was born in 1991.", ["1990", "1991"]),
        ("The capital of Veldoria is Orlin.", "The capital of Veldoria is Tessen.", ["Orlin", "Tessen"]),
        (
            "The capital of Veldoria is Orlin.",
            "Since March 2025 the capital of Veldoria is now New Tessen.",
            ["Orlin", "New Tessen"],
        ),
        ("Orlin is the capital of Veldoria.", "Tessen is the capital of Veldoria.", ["Orlin", "Tessen"]),
        ("The book of Plome was written by Mara Voss.", "The book of Plome was written by Jon Bell.",
         ["Mara Voss", "Jon Bell"]),
        ("Orlin has 30 workers.", "Orlin has 40 workers.", ["30", "40"]),
    ],
)  # fmt: skip
def test_two_documents_that_give_one_thing_two_values_contradict_each_other(first, second, values):
    (found,) = find_contradictions(two(first, second))
    assert found.certain
    assert [side.value for side in found.sides] == values


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("The mill of Orlin has 30 workers.", "The mill of Orlin has 30 workers."),
        ("The mill of Orlin has 30 workers.", "The mill of Orlin has thirty workers."),
        ("The mill of Orlin has 30 workers.", "The mill of Tessen has 40 workers."),
        ("The mill of Orlin has about 30 workers.", "The mill of Orlin has about 40 workers."),
        ("The mill of Orlin has 30 to 35 workers.", "The mill of Orlin has 40 to 45 workers."),
        ("The mill of Orlin sold 30 stoves.", "The mill of Orlin sold 40 stoves."),
        ("In Orlin room 12 is empty.", "In Orlin room 13 is empty."),
        ("In 2019 the mill of Orlin was sold.", "In 2020 the mill of Orlin was sold."),
        ("Mara Voss visited Orlin in 1990.", "Mara Voss visited Orlin in 1991."),
        ("Mara Voss was born on 3 May 1990.", "Mara Voss was born in May 1990."),
        ("Mara Voss is a dancer from Orlin.", "Jon Bell is a dancer from Orlin."),
        ("Mara Voss is the daughter of Ida Voss.", "Jon Lund is the daughter of Ida Voss."),
        ("The firm Orlin has an office in Berlin.", "The firm Orlin has an office in Paris."),
        ("The capital of Veldoria is Orlin.", "The capital of Veldoria is Orlin City."),
        ("It has 30 seats in Orlin.", "It has 40 seats in Orlin."),
        ("Tickets to Orlin may cost 30 euros.", "Tickets to Orlin may cost 40 euros."),
        ("Does the mill of Orlin have 30 workers?", "Does the mill of Orlin have 40 workers?"),
        (
            "The mill of Orlin has 30 workers.",
            "The mill of Orlin has 40 workers. Before the fire it had 30 workers.",
        ),
        (
            "Mara Voss was seen. The mill has 30 workers.",
            "Jon Bell was seen. The mill has 40 workers.",
        ),
    ],
)
def test_what_may_both_be_right_is_no_contradiction(first, second):
    assert find_contradictions(two(first, second)) == []


def test_two_values_in_one_document_are_no_contradiction():
    listed = "The inn of Orlin has 30 beds. The inn of Orlin has 40 beds."
    assert find_contradictions([document("1", listed)]) == []
    assert find_contradictions(two(listed, "The inn of Orlin has 50 beds.")) == []


def test_the_same_words_under_different_titles_are_about_different_things():
    texts = ("The yearly fee is 30 euros.", "The yearly fee is 40 euros.")
    assert find_contradictions(two(*texts, title="Rules of the library"))
    assert find_contradictions(two(*texts))  # nothing tells them apart
    others = [document("1", texts[0], title="Library"), document("2", texts[1], title="Gym")]
    assert find_contradictions(others) == []


def test_words_without_a_name_are_about_one_thing_only_in_documents_that_are_otherwise_alike():
    def written(number, rest):
        return f"The mill has {number} workers. {rest}"

    alike = "It burns peel and stands by the river."
    assert find_contradictions(two(written(30, alike), written(40, alike)))
    assert find_contradictions(two(written(30, alike), written(40, "It makes flour for seven towns."))) == []
    assert find_contradictions(two(written(30, alike), written(40, f"{alike} Orlin is far."))) == []


def test_the_same_words_under_different_headings_are_about_different_things():
    def fees(id, amount, heading):
        text = f"{heading}\n\nThe yearly fee is {amount} euros."
        return document(id, text, title="Fees", sections=[[0, 1, heading]])

    assert find_contradictions([fees("1", 30, "Adults"), fees("2", 40, "Adults")])
    assert find_contradictions([fees("1", 30, "Adults"), fees("2", 20, "Children")]) == []


def test_a_line_names_value_and_place_of_each_side():
    (found,) = find_contradictions(
        two("The mill of Orlin has 30 workers.", "The mill of Orlin has 40 workers.")
    )
    assert found.describe() == (
        '"The mill of Orlin has … workers": "30" in facts.jsonl line 1, "40" in facts.jsonl line 2'
    )


def test_every_document_that_says_it_is_named_also_where_two_agree():
    texts = [f"The mill of Orlin has {number} workers." for number in (30, 30, 40)]
    (found,) = find_contradictions([document(str(place), text) for place, text in enumerate(texts)])
    assert [(side.document_id, side.value) for side in found.sides] == [("0", "30"), ("1", "30"), ("2", "40")]


def test_what_most_documents_disagree_about_comes_first():
    texts = ["The mill of Orlin has {} workers.", "The capital of Veldoria is {}."]
    documents = [
        document("1", texts[1].format("Orlin")),
        document("2", texts[1].format("Tessen")),
        *(document(str(3 + number), texts[0].format(30 + number)) for number in range(3)),
    ]
    assert [len(found.sides) for found in find_contradictions(documents)] == [3, 2]


DOCUMENTS = two("Mara Voss set Orlin up in 1990.", "Orlin is 35; Jon Bell began it in 1988.")


@pytest.mark.parametrize(
    ("question", "answers", "certain"),
    [
        ("Who founded Orlin?", ("Mara Voss", "Jon Bell"), True),
        ("When was Orlin founded?", ("1990", "1988"), True),
        ("What does Orlin sell?", ("stoves", "lamps"), False),
    ],
)
def test_the_same_question_with_two_answers_is_a_contradiction(question, answers, certain):
    pairs = [
        pair("a", "1", question, answers[0]),
        pair("b", "2", question.upper().replace("ORLIN", "Orlin"), answers[1]),
    ]
    (found,) = find_contradictions(DOCUMENTS, pairs)
    assert (found.certain, [side.pair_ids for side in found.sides]) == (certain, [("a",), ("b",)])


@pytest.mark.parametrize(
    ("question", "answers"),
    [
        ("Who founded Orlin?", ("Mara Voss", "Voss")),
        ("Who founded Orlin?", ("Mara Voss", "mara voss")),
        ("Name a founder of Orlin.", ("Mara Voss", "Jon Bell")),
        ("Who is one of the founders of Orlin?", ("Mara Voss", "Jon Bell")),
        ("Who are the founders of Orlin?", ("Mara Voss", "Jon Bell")),
        ("When was it founded?", ("1990", "1988")),
        ("How long did Orlin wait?", ("60 minutes", "1 hour")),
    ],
)
def test_questions_that_may_have_both_answers_are_no_contradiction(question, answers):
    pairs = [pair("a", "1", question, answers[0]), pair("b", "2", question, answers[1])]
    assert find_contradictions(DOCUMENTS, pairs) == []


def test_one_question_with_two_answers_in_one_document_is_a_list():
    pairs = [
        pair("a", "1", "Who founded Orlin?", "Mara Voss"),
        pair("b", "1", "Who founded Orlin?", "Ida Lund", "backward"),
        pair("c", "2", "Who founded Orlin?", "Jon Bell"),
    ]
    assert find_contradictions(DOCUMENTS, pairs) == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("30", "40", True),
        ("30 days", "40", True),
        ("30 days", "40 hours", False),
        ("30", "30 days", False),
        ("thirty", "30", False),
        ("1,200", "1200", False),
        ("3 May 2025", "May 2025", False),
        ("3 May 2025", "2025-05-03", False),
        ("3 May 2025", "June 4, 2025", True),
        ("US", "United States", False),
        ("Mara Voss", "Voss", False),
        ("Mara Voss", "Jon Bell", True),
        ("Mara Voss", "1990", False),
    ],
)
def test_values_differ_when_they_cannot_both_be_right(one, other, expected):
    assert differ(read_value(one), read_value(other)) is expected
    assert differ(read_value(other), read_value(one)) is expected


def test_a_statement_leaves_out_since_when_it_holds():
    (said,) = find_statements("Since March 2025 the mill of Orlin has 30 workers.")
    assert said.frame == ("mill", "of", "orlin", "has", "…", "workers")
