"""Texts in the encodings that editors and spreadsheets save them in are read alike."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from demask.data.conversations import Columns, read_conversations
from demask.data.sources import find_tables
from demask.documents import text_files
from demask.documents.account import describe_guesses
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


GERMAN = "Das Tor ist fünf Meter hoch und größer als die Brücke.\n"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.html", "a.srt", "a.rst"])
def test_what_declares_no_encoding_is_guessed_and_said(write: Write, name: str, encoding: str) -> None:
    text = {
        "a.csv": f"id;text\n1;{GERMAN}",
        "a.html": f"<p>{GERMAN}</p>",
        "a.srt": f"1\n00:00:01,000 --> 00:00:02,000\n{GERMAN}\n",
    }.get(name, GERMAN)
    loaded = load_documents([write(name, text.encode(encoding))])
    assert loaded.documents[0].text == GERMAN.strip()
    assert loaded.reports[0].guessed == encoding.upper().removesuffix("-LE").removesuffix("-BE")
    (line,) = describe_guesses(loaded.reports)
    assert "(a guess)" in line


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Le château est très élevé; où est-il? Ça va — l’été.", "cp1252"),
        ("Zażółć gęślą jaźń. Most jest większy niż wieża.", "cp1250"),
        ("Мост имеет высоту пять метров и стоит в Орлине.", "cp1251"),
        ("Мост имеет высоту пять метров и стоит в Орлине.", "koi8-r"),
        ("橋の高さは五メートルです。これはオルリンにあります。", "shift_jis"),
        ("这座桥高五米。它是红色的。" * 3, "gb18030"),
    ],
)
def test_old_encodings_are_told_apart(write: Write, text: str, encoding: str) -> None:
    assert load_documents([write("a.txt", text.encode(encoding))]).documents[0].text == text


@pytest.mark.parametrize(
    "data",
    [
        "Viele Wörter mit größeren Lücken für alle Tür'.".encode() + b" und \xff.",  # damaged UTF-8
        b"one\n\xff\xfe",
        b"a\0b",
        bytes(range(256)),
    ],
)
def test_what_has_no_clear_encoding_is_refused(write: Write, data: bytes) -> None:
    with pytest.raises(DataError, match=r"line \d+: (byte 0x|a NUL byte)"):
        load_documents([write("a.txt", data)])


def test_utf_8_is_no_guess(write: Write) -> None:
    assert not load_documents([write("a.txt", GERMAN)]).reports[0].guessed


def test_guesses_are_one_line_for_each_encoding(write: Write, tmp_path: Path) -> None:
    for name in "abc":
        write(f"docs/{name}.txt", GERMAN.encode("cp1252"))
    write("docs/d.txt", GERMAN.encode("utf-16-le"))
    first, second = describe_guesses(load_documents([tmp_path / "docs"]).reports)
    assert first.startswith("3 files, the first ")
    assert "read as CP1252" in first
    assert "read as UTF-16" in second
