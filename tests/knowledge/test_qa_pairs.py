"""Questions from a file, and every way in which a line can be wrong."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from demask.errors import DataError
from demask.knowledge.files import load_qa_pairs
from demask.records import QAPair

pytestmark = pytest.mark.smoke

PAIR: dict[str, object] = {
    "id": "founder",
    "document_id": "orlin",
    "question": "Who founded Orlin?",
    "answers": ["Mara Voss", "Voss"],
    "direction": "backward",
    "kind": "person",
}


def write(folder: Path, *lines: object) -> Path:
    path = folder / "qa_pairs.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def changed(**values: object) -> dict[str, object]:
    return {**PAIR, **values}


def without(key: str, **values: object) -> dict[str, object]:
    return {name: value for name, value in changed(**values).items() if name != key}


def refusal(path: Path, documents: tuple[str, ...] | None = None) -> str:
    """The message about a file that cannot be loaded; always one line."""
    with pytest.raises(DataError) as caught:
        load_qa_pairs(path, documents=documents)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_line_is_one_pair(tmp_path: Path) -> None:
    expected = QAPair("founder", "orlin", "Who founded Orlin?", ("Mara Voss", "Voss"), "backward", "person")
    assert load_qa_pairs(write(tmp_path, PAIR), documents=["orlin"]) == [expected]


def test_pairs_that_were_written_are_read_back(tmp_path: Path) -> None:
    pair = QAPair("1", "orlin", "Who?", ("Voss",), "forward")
    assert load_qa_pairs(str(write(tmp_path, asdict(pair))), documents=None) == [pair]


def test_one_answer_may_be_a_plain_string(tmp_path: Path) -> None:
    (pair,) = load_qa_pairs(write(tmp_path, without("answers", answer=" Voss ")), documents=None)
    assert pair.answers == ("Voss",)


def test_a_pair_without_id_is_named_by_its_line(tmp_path: Path) -> None:
    (pair,) = load_qa_pairs(write(tmp_path, "", "", without("id")), documents=None)
    assert pair.id == "q3"


def test_kind_is_optional(tmp_path: Path) -> None:
    (pair,) = load_qa_pairs(write(tmp_path, without("kind")), documents=None)
    assert pair.kind == ""


def test_a_number_as_document_id_finds_the_document_of_that_name(tmp_path: Path) -> None:
    (pair,) = load_qa_pairs(write(tmp_path, changed(document_id=7)), documents={"7"})
    assert pair.document_id == "7"


def test_the_same_question_may_be_asked_of_two_documents(tmp_path: Path) -> None:
    path = write(tmp_path, PAIR, changed(id="2", document_id="tarn"))
    assert len(load_qa_pairs(path, documents=None)) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (changed(direction="backwards"), "direction is 'backwards', expected 'forward' or 'backward'"),
        (changed(direction=["forward"]), "direction is ['forward'], expected 'forward' or 'backward'"),
        (
            changed(answr="x"),
            "unknown key 'answr', expected id, document_id, question, answers, answer, direction, kind, "
            "made_by, reworded; did you mean 'answer'?",
        ),
        (
            without("direction"),
            "no key 'direction', keys are 'id', 'document_id', 'question', 'answers', 'kind'",
        ),
        (without("document_id"), "no key 'document_id', keys are 'id', 'question', 'answers', 'direction'"),
        ({}, "no key 'document_id', keys are none; add it"),
        (changed(document_id=" "), "document_id is empty, expected the id of a document"),
        (changed(document_id=["orlin"]), "document_id is ['orlin'], expected a string or a number"),
        (changed(id=True), "id is True, expected a string or a number"),
        (without("question"), "no key 'question', keys are"),
        (changed(question=""), "question is '', expected a string with some text"),
        (changed(question=5), "question is 5, expected a string with some text"),
        (without("answers"), "no key 'answers', keys are"),
        (changed(answers=[]), "answers is [], expected a list of strings"),
        (changed(answers="Voss"), "answers is 'Voss', expected a list of strings"),
        (changed(answers=["Voss", " "]), "answers[1] is ' ', expected a string with some text"),
        (without("answers", answer=1990), "answer is 1990, expected a string with some text"),
        (changed(answer="Voss"), "answer and answers are both given, expected one of them"),
        (changed(kind=5), "kind is 5, expected a string"),
        ('{"id": "x"', "not JSON (Expecting ',' delimiter at column 11), expected one object a line"),
        ("5", """5 is not an object, expected {"key": value, ...}"""),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, line: object, message: str) -> None:
    path = write(tmp_path, changed(id="first", question="Other?"), "", line)
    assert refusal(path).startswith(f"{path} line 3: {message}")


def test_an_unknown_document_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, changed(document_id="orlni"))
    assert refusal(path, ("orlin", "tarn")) == (
        f"{path} line 1: document_id is 'orlni', expected the id of one of the 2 documents; "
        "did you mean 'orlin'?"
    )


def test_any_document_is_accepted_when_none_are_given(tmp_path: Path) -> None:
    assert load_qa_pairs(write(tmp_path, changed(document_id="unheard of")), documents=None)


def test_an_id_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path, PAIR, "", changed(question="Other?"))
    assert refusal(path) == f"{path} line 3: id 'founder' is taken by line 1; give each QA pair its own id"


def test_a_question_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path, PAIR, changed(id="again"))
    assert refusal(path) == (
        f"{path} line 2: line 1 asks the same question; delete one, or join their answers"
    )


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "", " ")
    assert refusal(path) == f"{path}: holds no QA pairs, expected one JSON object a line"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gone.jsonl"
    assert refusal(path) == f"{path}: no such file; check the path"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: a folder, expected a file"


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\0\1")
    assert refusal(path) == f"{path} line 1: a NUL byte, so the file is not text; expected text in UTF-8"


def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n\xff")
    assert refusal(path) == f"{path} line 2: byte 0xff is not UTF-8; save the file as UTF-8"
