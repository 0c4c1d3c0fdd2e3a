"""Paraphrases from a file, and every way in which a line can be wrong."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from demask.errors import DataError
from demask.knowledge.files import load_paraphrases
from demask.records import Paraphrase

LINE: dict[str, object] = {"id": "p", "document_id": "orlin", "text": "Voss set it up.", "order": "reversed"}


def write(folder: Path, *lines: object) -> Path:
    path = folder / "paraphrases.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def changed(**values: object) -> dict[str, object]:
    return {**LINE, **values}


def without(key: str) -> dict[str, object]:
    return {name: value for name, value in LINE.items() if name != key}


def refusal(path: Path, documents: tuple[str, ...] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_paraphrases(path, documents=documents)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_paraphrases_that_were_written_are_read_back(tmp_path: Path) -> None:
    made = Paraphrase("1", "orlin", "Voss set it up.", "same-order", "rules")
    assert load_paraphrases(str(write(tmp_path, asdict(made))), documents=["orlin"]) == [made]


def test_who_made_it_is_optional(tmp_path: Path) -> None:
    assert load_paraphrases(write(tmp_path, LINE), documents=None)[0].made_by == ""


def test_a_paraphrase_without_id_is_named_by_its_line(tmp_path: Path) -> None:
    assert load_paraphrases(write(tmp_path, "", without("id")), documents=None)[0].id == "p2"


def test_the_same_text_may_reword_two_documents(tmp_path: Path) -> None:
    path = write(tmp_path, LINE, changed(id="2", document_id="tarn"))
    assert len(load_paraphrases(path, documents=None)) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            changed(ordr="x"),
            "unknown key 'ordr', expected id, document_id, text, order, made_by; did you mean",
        ),
        (without("order"), "no key 'order', keys are 'id', 'document_id', 'text'; add it"),
        (changed(order="same"), "order is 'same', expected 'same-order' or 'reversed'"),
        (changed(order=["reversed"]), "order is ['reversed'], expected 'same-order' or 'reversed'"),
        (without("document_id"), "no key 'document_id', keys are 'id', 'text', 'order'; add it"),
        (changed(document_id=" "), "document_id is empty, expected the id of a document"),
        (without("text"), "no key 'text', keys are 'id', 'document_id', 'order'; add it"),
        (changed(text=" "), "text is ' ', expected a string with some text"),
        (changed(text=5), "text is 5, expected a string with some text"),
        (changed(made_by=5), "made_by is 5, expected a string"),
        (changed(id=True), "id is True, expected a string or a number"),
        ("5", """5 is not an object, expected {"key": value, ...}"""),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, line: object, message: str) -> None:
    path = write(tmp_path, changed(id="first", text="Other."), "", line)
    assert refusal(path).startswith(f"{path} line 3: {message}")


def test_an_unknown_document_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, changed(document_id="orlni"))
    assert refusal(path, ("orlin", "tarn")) == (
        f"{path} line 1: document_id is 'orlni', expected the id of one of the 2 documents; "
        "did you mean 'orlin'?"
    )


def test_an_id_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path, LINE, changed(text="Other."))
    assert refusal(path) == f"{path} line 2: id 'p' is taken by line 1; give each paraphrase its own id"


def test_a_text_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path, LINE, changed(id="2"))
    assert refusal(path) == f"{path} line 2: line 1 has the same text; delete one of them"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    assert refusal(path) == f"{path}: holds no paraphrases, expected one JSON object a line"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.jsonl") == f"{tmp_path / 'gone.jsonl'}: no such file; check the path"
