"""The bundled documents and questions: what they promise, a machine can see."""

import json
import re
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest

pytestmark = pytest.mark.smoke

# Words that stand in any question and point at no document.
FUNCTION_WORDS = frozenset(
    "a an and are as at be by can did do does for from get has have her his how in is it its kind name new"
    " nothing of on or she that the their there thing this to was what when where which who whose why with"
    " you".split()
)


def load(name: str) -> list[dict[str, Any]]:
    text = files("demask.quickstart").joinpath(name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def position(part: list[str], text: list[str]) -> int:
    starts = range(len(text) - len(part) + 1)
    return next(start for start in starts if text[start : start + len(part)] == part)


def cue_positions(question: str, text: list[str]) -> list[int]:
    cues = set(words(question)) - FUNCTION_WORDS
    return [place for place, word in enumerate(text) if word in cues]


DOCUMENTS = {row["id"]: row for row in load("documents.jsonl")}
QA_PAIRS = load("qa_pairs.jsonl")
each_pair = pytest.mark.parametrize("pair", QA_PAIRS, ids=lambda pair: pair["id"])


def test_there_are_eight_documents_and_four_questions_for_each() -> None:
    assert len(load("documents.jsonl")) == len(DOCUMENTS) == 8
    assert Counter(pair["document_id"] for pair in QA_PAIRS) == dict.fromkeys(DOCUMENTS, 4)


def test_ids_are_unique() -> None:
    assert len({pair["id"] for pair in QA_PAIRS}) == len(QA_PAIRS) >= 32


def test_each_document_has_as_many_forward_as_backward_questions() -> None:
    counts = Counter((pair["document_id"], pair["direction"]) for pair in QA_PAIRS)
    assert set(counts.values()) == {2}
    assert len(counts) == 16


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=lambda document: document["id"])
def test_documents_are_short_enough_to_be_learnt_in_minutes(document: dict[str, Any]) -> None:
    assert set(document) == {"id", "title", "text"}
    assert 15 <= len(words(document["text"])) <= 40


@each_pair
def test_the_first_answer_stands_in_its_document(pair: dict[str, Any]) -> None:
    assert set(pair) == {"id", "document_id", "question", "answers", "direction", "kind", "reworded"}
    assert pair["answers"][0] in DOCUMENTS[pair["document_id"]]["text"]
    assert 1 <= len(words(pair["answers"][0])) <= 4


@each_pair
def test_no_answer_stands_in_its_question(pair: dict[str, Any]) -> None:
    question = f" {' '.join(words(pair['question']))} "
    assert not [answer for answer in pair["answers"] if f" {' '.join(words(answer))} " in question]


@each_pair
def test_no_other_document_holds_the_answer(pair: dict[str, Any]) -> None:
    for answer in pair["answers"]:
        holders = {key for key, row in DOCUMENTS.items() if answer.lower() in row["text"].lower()}
        assert holders <= {pair["document_id"]}


@each_pair
def test_direction_tells_whether_the_answer_follows_the_cues(pair: dict[str, Any]) -> None:
    text = words(DOCUMENTS[pair["document_id"]]["text"])
    cues = cue_positions(pair["question"], text)
    answer = position(words(pair["answers"][0]), text)
    assert cues, "the question shares no word with its document"
    assert pair["direction"] == ("forward" if answer > sum(cues) / len(cues) else "backward")


def test_no_question_is_asked_twice_and_none_copies_a_sentence() -> None:
    questions = [" ".join(words(pair["question"])) for pair in QA_PAIRS]
    assert len(set(questions)) == len(questions)
    sentences = [" ".join(words(s)) for row in DOCUMENTS.values() for s in row["text"].split(".") if s]
    for question in questions:
        assert not [s for s in sentences if s in question or question.split(" ", 1)[1] in s]


APART = load("apart.jsonl")
each_apart = pytest.mark.parametrize("pair", APART, ids=lambda pair: pair["id"])


def holds(text: str, part: str) -> bool:
    said, wanted = words(text), words(part)
    return any(said[start : start + len(wanted)] == wanted for start in range(len(said)))


def test_what_follows_is_asked_of_every_document_and_of_two_at_once() -> None:
    assert {pair["document_id"] for pair in APART} == set(DOCUMENTS)
    assert Counter(pair["kind"] for pair in APART) == {"follows": 16, "follows from two facts": 4}
    assert len({pair["id"] for pair in APART}) == len(APART) == 20


@each_apart
def test_what_follows_is_not_given_away_by_its_question(pair: dict[str, Any]) -> None:
    assert not any(holds(pair["question"], answer) for answer in pair["answers"])


@each_apart
def test_what_follows_forward_is_said_by_no_document(pair: dict[str, Any]) -> None:
    """So that reciting a document is no answer; backward the answer is what the document is about."""
    said = [any(holds(row["text"], answer) for answer in pair["answers"]) for row in DOCUMENTS.values()]
    assert any(said) == (pair["direction"] == "backward")
