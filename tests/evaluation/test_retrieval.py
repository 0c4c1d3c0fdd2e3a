"""Passages found by BM25: which, in which order, whatever stands in a question."""

import sqlite3
from typing import Any

import pytest

from demask.errors import RunError
from demask.evaluation.retrieval import PassageIndex, Retrieved, check_search, measure_recall
from demask.records import Passage, QAPair

pytestmark = pytest.mark.smoke

TEXTS = {
    "orlin": "The Orlin works were founded by Mara Voss in 1931.",
    "quill": "Idris Hall sells ink at Quill, and writes it in C++ NOT in NEAR.",
    "sable": "Noor Cast built Sable. It stands on Ferro.",
    "beijing": "莫丽在北京创立了一家书店。",
    "shanghai": "王明在上海开了一家餐馆。",
}


@pytest.fixture(scope="module")
def index() -> PassageIndex:
    return PassageIndex([Passage(id, id.upper(), text) for id, text in TEXTS.items()])


def find(index: PassageIndex, question: str, top: int = 3) -> list[str]:
    return [passage.id for passage in index.search(question, top=top)]


def test_the_passage_that_shares_the_rarest_words_comes_first(index: PassageIndex) -> None:
    assert find(index, "Who founded the Orlin works in 1931?")[0] == "orlin"
    assert find(index, "What stands on Ferro?", top=1) == ["sable"]


def test_no_more_passages_than_asked_for_and_none_without_a_shared_word(index: PassageIndex) -> None:
    assert len(find(index, "Orlin Quill Sable", top=2)) == 2
    assert find(index, "Zebra?") == []
    assert find(index, "… ?!") == []


def test_a_possessive_finds_the_name(index: PassageIndex) -> None:
    assert find(index, "What was Voss’s work?", top=1) == ["orlin"]


@pytest.mark.parametrize(
    "question",
    [
        'Is "ink" AND NOT (Quill) OR NEAR("x", 2)?',
        "words: ink * ^ink - + {ink}",
        "ink'; DROP TABLE passages; --",
        '"ink',
        "ink\x00",
        "ink \ud800",
    ],
)
def test_signs_and_operators_of_the_query_language_are_text(index: PassageIndex, question: str) -> None:
    assert find(index, question)[0] == "quill"


def test_words_with_signs_are_words_of_their_own(index: PassageIndex) -> None:
    assert find(index, "C++") == ["quill"]
    assert find(index, "C") == []


@pytest.mark.parametrize(
    ("question", "wanted"), [("谁在北京创立了书店?", "beijing"), ("上海的餐馆", "shanghai")]
)
def test_scripts_without_spaces_are_searched_by_character(
    index: PassageIndex, question: str, wanted: str
) -> None:
    assert find(index, question)[0] == wanted


def test_a_very_long_question_is_searched_with_as_a_whole(index: PassageIndex) -> None:
    assert find(index, " ".join(f"filler{number}" for number in range(3000)) + " Ferro") == ["sable"]


def test_passages_that_fit_equally_come_in_their_order() -> None:
    index = PassageIndex([Passage(f"p{number}", "d", "the same text") for number in range(5)])
    assert find(index, "same text?") == ["p0", "p1", "p2"]


def test_headings_are_searched() -> None:
    index = PassageIndex([Passage("a", "a", "It opens at nine."), Passage("b", "b", "At ten.", "Museum\n")])
    assert find(index, "When does the museum open?", top=1) == ["b"]


def test_a_python_without_fts5_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        def execute(self, *_: Any) -> None:
            raise sqlite3.OperationalError("no such module: fts5")

        def close(self) -> None:
            pass

    monkeypatch.setattr(sqlite3, "connect", lambda _: Without())
    with pytest.raises(RunError, match=r"built without FTS5.*no such module") as raised:
        check_search()
    assert "\n" not in str(raised.value)


def test_recall_counts_the_own_document_among_the_first() -> None:
    pairs = [
        QAPair("f1", "a", "?", ("x",), "forward"),
        QAPair("f2", "b", "?", ("x",), "forward"),
        QAPair("b1", "a", "?", ("x",), "backward"),
    ]
    found = [
        Retrieved("f1", ("p", "q"), ("a", "b"), 2),
        Retrieved("f2", ("p", "q"), ("a", "b"), 2),
        Retrieved("b1", (), (), 0),
    ]
    first, both = (measure_recall(found, pairs, top=top) for top in (1, 2))
    assert (first["forward"]["value"], both["forward"]["value"]) == (0.5, 1.0)
    assert both["backward"]["value"] == 0.0
    assert both["forward"]["n"] == 2
