"""Worked examples in front of a question: of other documents, of the same direction, the same every time."""

from demask.evaluation.qa import add_shots
from demask.records import QAPair

PAIRS = [
    QAPair(f"{direction}-{number}", f"d{number}", f"{direction} {number}?", (f"answer {number}",), direction)
    for direction in ("forward", "backward")
    for number in range(6)
]


def test_shots_are_answered_questions_of_other_documents_in_the_same_direction() -> None:
    for pair, made in zip(PAIRS, add_shots(PAIRS, shots=2, seed=0), strict=True):
        *shown, asked = made.question.split("\n\n")
        assert asked == f"Question: {pair.question}\nAnswer:"
        assert len(shown) == len(set(shown)) == 2
        for text in shown:
            question, answer = text.removeprefix("Question: ").split("\nAnswer: ")
            other = next(other for other in PAIRS if other.question == question)
            assert other.document_id != pair.document_id
            assert other.direction == pair.direction
            assert answer == other.answers[0]
        assert (made.id, made.answers, made.direction) == (pair.id, pair.answers, pair.direction)


def test_shots_are_drawn_by_the_seed() -> None:
    first, again, other = (add_shots(PAIRS, shots=2, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_fewer_shots_where_there_are_not_so_many() -> None:
    made = add_shots(PAIRS[:2], shots=5, seed=0)
    assert [pair.question.count("Question:") for pair in made] == [2, 2]
    assert add_shots(PAIRS[:1], shots=2, seed=0)[0].question == "Question: forward 0?\nAnswer:"
