"""Texts in the encodings that editors and spreadsheets save them in are read alike."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from demask.data.conversations import Columns, read_conversations
from demask.data.sources import find_tables
from demask.documents import text_files
from demask.documents.load import load_documents
from demask.errors import DataError
from demask.knowledge.files import load_paraphrases, load_qa_pairs
from demask.recipe.file import load_recipe

Write = Callable[[str, str | bytes], Path]
# As Windows editors call them: all begin with a byte order mark.
ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-be"]
TEXT = "Größe: 名前 🙂 ਊ਀, Ā."  # with units of UTF-16 whose bytes look like line feeds


def encode(text: str, encoding: str) -> bytes:
    marked = encoding in ("utf-8-sig", "utf-16", "utf-32")
    return (text if marked else f"\ufeff{text}").encode(encoding)


@pytest.mark.smoke
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", f"{TEXT}\r\n"),
        ("a.md", TEXT),
        ("a.csv", f'id,text\r\n1,"{TEXT}"\r\n'),
        ("a.jsonl", json.dumps({"text": TEXT}, ensure_ascii=False)),
        ("a.html", f"<p>{TEXT}"),
    ],
)
def test_documents_are_read_in_the_encoding_of_their_mark(
    write: Write, encoding: str, name: str, content: str
) -> None:
    (document,) = load_documents([write(name, encode(content, encoding))]).documents
    assert document.text == TEXT


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_questions_are_read_in_the_encoding_of_their_mark(write: Write, encoding: str) -> None:
    pair = {"id": "q", "document_id": "d", "question": "Who?", "answers": [TEXT], "direction": "forward"}
    path = write("qa.jsonl", encode(json.dumps(pair, ensure_ascii=False), encoding))
    assert [pair.answers for pair in load_qa_pairs(path, documents={"d"})] == [(TEXT,)]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_paraphrases_are_read_in_the_encoding_of_their_mark(write: Write, encoding: str) -> None:
    made = {"id": "p", "document_id": "d", "text": TEXT, "order": "same-order"}
    path = write("p.jsonl", encode(json.dumps(made, ensure_ascii=False), encoding))
    assert [made.text for made in load_paraphrases(path, documents={"d"})] == [TEXT]


@pytest.mark.smoke
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_recipes_are_read_in_the_encoding_of_their_mark(write: Write, encoding: str) -> None:
    path = write("r.yaml", encode(f"model: embedded\r\ndocuments: '{TEXT}'\r\n", encoding))
    assert load_recipe(path) == {"model": "embedded", "documents": TEXT}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_rows_are_read_in_the_encoding_of_their_mark(write: Write, encoding: str, suffix: str) -> None:
    content = json.dumps({"prompt": "Who?", "response": TEXT}, ensure_ascii=False)
    if suffix == ".csv":
        content = f'prompt\tresponse\r\nWho?\t"{TEXT}"\r\n'  # what Excel calls Unicode text
    path = write(f"a{suffix}", encode(content, encoding))
    (conversation,) = read_conversations(find_tables([str(path)]).sources, Columns())
    assert [turn.text for turn in conversation.turns] == ["Who?", TEXT]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lines_are_the_same_wherever_blocks_end(
    write: Write, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "_BLOCK", 12)
    lines = [f"{TEXT[: n % 17]}\n" for n in range(50)]
    path = write("a.txt", encode("".join(lines), encoding))
    assert list(text_files.read_lines(path)) == lines


def test_an_array_in_utf_16_is_seen_to_be_one(write: Write) -> None:
    path = write("a.json", '[{"prompt": "a"}]'.encode("utf-16"))
    with pytest.raises(DataError, match="one JSON array, expected one object a line"):
        find_tables([str(path)])


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_bytes_that_are_not_in_the_encoding_of_the_mark_are_named(write: Write, name: str) -> None:
    path = write(name, '{"text": "a"}\n'.encode("utf-16-le").join([b"\xff\xfe", b"\x00\xdc\n\x00"]))
    with pytest.raises(DataError) as caught:
        load_documents([path])
    assert str(caught.value) == f"{path} line 2: byte 0x00 is not UTF-16; save the file as UTF-8"


# Pages


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("iso-8859-1", "utf-8"),
        ("windows-1252", "utf-8"),
        ("utf-16", "utf-8"),
        ("klingon", "utf-8"),
        ("windows-1252", "windows-1252"),
        ("iso-8859-1", "windows-1252"),
        ("utf-8", "utf-8"),
    ],
)
def test_a_page_is_in_utf8_when_its_bytes_are_whatever_it_declares(
    write: Write, declared: str, encoding: str
) -> None:
    page = f'<meta charset="{declared}"><p>Größe “5 €”'
    (document,) = load_documents([write("a.html", page.encode(encoding))]).documents
    assert document.text == "Größe “5 €”"


@pytest.mark.parametrize("encoding", ["shift_jis", "euc-jp", "iso-2022-jp", "gbk"])
def test_a_page_in_another_script_is_read_as_it_declares(write: Write, encoding: str) -> None:
    page = f'<meta http-equiv="Content-Type" content="text/html; charset={encoding}"><p>東京都大田区'
    (document,) = load_documents([write("a.html", page.encode(encoding))]).documents
    assert document.text == "東京都大田区"


def test_a_page_that_declares_utf_16_and_is_neither_is_refused(write: Write) -> None:
    path = write("a.html", b"<meta charset=utf-16><p>caf\xe9")
    with pytest.raises(DataError, match="byte 0xe9 is not utf-8"):
        load_documents([path])
