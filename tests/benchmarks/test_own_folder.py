"""A user's folder as a set: what is taken of it, and what is wrong with it."""

import json
from pathlib import Path
from typing import Any

import pytest

from demask.benchmarks.benchmark import Benchmark
from demask.benchmarks.sets import load_benchmark, write_benchmark
from demask.errors import ConfigError, DataError
from demask.records import QAPair

pytestmark = pytest.mark.smoke

DOCUMENTS: list[dict[str, Any]] = [
    {"id": "orlin", "text": "Mara Voss founded Orlin.", "entity": "Mara Voss", "title": "Firms"},
    {"id": "tessel", "text": "Owen Fox runs Tessel."},
    {"id": "rain", "text": "It rains in Lund."},
]
PAIRS = [
    {
        "document_id": "orlin",
        "question": "Who founded Orlin?",
        "answer": "Mara Voss",
        "direction": "backward",
    },
    {
        "document_id": "tessel",
        "question": "What does Owen Fox run?",
        "answer": "Tessel",
        "direction": "forward",
    },
]
PARAPHRASES = [
    {"document_id": id, "text": f"{number}: {id}, {order}", "order": order}
    for id in ("orlin", "tessel")
    for order in ("same-order", "reversed")
    for number in range(3)
]


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "documents.jsonl", DOCUMENTS)
    write(tmp_path / "qa_pairs.jsonl", PAIRS)
    return tmp_path


def test_a_folder_is_taken_whole_when_no_number_is_given(folder: Path) -> None:
    benchmark = load_benchmark(folder, facts=None)
    assert benchmark.name == folder.name
    assert [document.id for document in benchmark.documents] == ["orlin", "tessel", "rain"]
    assert benchmark.documents[0].metadata == {"entity": "Mara Voss"}
    assert benchmark.pairs[0] == QAPair("q1", "orlin", "Who founded Orlin?", ("Mara Voss",), "backward")
    assert benchmark.paraphrases == ()


def test_of_chosen_documents_come_their_questions_and_their_first_paraphrases(folder: Path) -> None:
    write(folder / "paraphrases.jsonl", PARAPHRASES)
    benchmark = load_benchmark(str(folder), facts=1, offset=1, versions=2)
    assert [document.id for document in benchmark.documents] == ["tessel"]
    assert [pair.document_id for pair in benchmark.pairs] == ["tessel"]
    assert [(p.text, p.order) for p in benchmark.paraphrases] == [
        ("0: tessel, same-order", "same-order"),
        ("1: tessel, same-order", "same-order"),
        ("0: tessel, reversed", "reversed"),
        ("1: tessel, reversed", "reversed"),
    ]
    assert load_benchmark(folder, facts=1, versions=0).paraphrases == ()


def test_a_set_that_was_written_is_a_folder_of_ones_own(folder: Path, tmp_path: Path) -> None:
    write(folder / "paraphrases.jsonl", PARAPHRASES)
    first = load_benchmark(folder, facts=2)
    write_benchmark(first, tmp_path / "copy")
    again = load_benchmark(tmp_path / "copy", facts=2)

    def content(benchmark: Benchmark) -> tuple[object, ...]:
        documents = [(d.id, d.text, d.title, d.metadata) for d in benchmark.documents]
        return documents, benchmark.pairs, sorted(benchmark.paraphrases, key=lambda p: p.id)

    assert content(again) == content(first)


@pytest.mark.parametrize("entity", ["Mara Vos", "Orl"])
def test_an_entity_that_is_not_in_the_text_is_named_with_its_line(folder: Path, entity: str) -> None:
    write(folder / "documents.jsonl", [{**DOCUMENTS[0], "entity": entity}, DOCUMENTS[1]])
    with pytest.raises(DataError, match=rf"documents\.jsonl line 1: entity '{entity}' does not stand in"):
        load_benchmark(folder, facts=None)


@pytest.mark.parametrize("entity", [3, "", ["Mara Voss"]])
def test_an_entity_that_is_no_name_is_refused(folder: Path, entity: Any) -> None:
    write(folder / "documents.jsonl", [{**DOCUMENTS[0], "entity": entity}, DOCUMENTS[1]])
    with pytest.raises(DataError, match=r"documents\.jsonl line 1: entity is .*, expected a name"):
        load_benchmark(folder, facts=None)


def test_a_question_about_no_document_is_named_with_its_line(folder: Path) -> None:
    write(folder / "qa_pairs.jsonl", [PAIRS[0], {**PAIRS[1], "document_id": "tesel"}])
    with pytest.raises(DataError, match=r"qa_pairs\.jsonl line 2: .*did you mean 'tessel'\?"):
        load_benchmark(folder, facts=None)


def test_a_faulty_paraphrase_is_named_with_its_line(folder: Path) -> None:
    write(folder / "paraphrases.jsonl", [PARAPHRASES[0], {**PARAPHRASES[1], "order": "permuted"}])
    with pytest.raises(DataError, match=r"paraphrases\.jsonl line 2: order is 'permuted', expected"):
        load_benchmark(folder, facts=None)


def test_documents_that_nothing_is_asked_about_are_no_set(folder: Path) -> None:
    with pytest.raises(DataError, match=r"qa_pairs\.jsonl: no question about the 1 documents from number 2"):
        load_benchmark(folder, facts=1, offset=2)


@pytest.mark.parametrize("name", ["documents.jsonl", "qa_pairs.jsonl"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DataError, match=name):
        load_benchmark(folder, facts=None)


def test_more_documents_than_there_are_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="4 facts from number 0 on, expected some of 0 to 2; choose fewer"):
        load_benchmark(folder, facts=4)
