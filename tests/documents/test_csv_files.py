"""Tables are read whatever separates their columns, for documents and for fine-tuning alike."""

from collections.abc import Callable
from pathlib import Path

import pytest

from demask.data.conversations import Columns, read_conversations
from demask.data.sources import find_tables
from demask.documents.load import load_documents
from demask.documents.tables import read_csv
from demask.errors import DataError

pytestmark = pytest.mark.smoke

Write = Callable[[str, str | bytes], Path]


def rows(path: Path) -> list[tuple[int, tuple[str, ...]]]:
    return [(record.line, record.fields) for record in read_csv(path)]


def fields(path: Path) -> list[tuple[str, ...]]:
    return [record.fields for record in read_csv(path)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_separator_is_found(write: Write, delimiter: str) -> None:
    lines = [("id", "text", "note"), ("1", "One", "a"), ("2", "", "b")]
    path = write("a.csv", "\n".join(delimiter.join(line) for line in lines))
    assert fields(path) == lines


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_commas_in_unquoted_text_are_text(write: Write, delimiter: str) -> None:
    path = write("a.csv", f"prompt{delimiter}response\nWho, and when?{delimiter}Mora Voss, 1932\n")
    assert fields(path) == [("prompt", "response"), ("Who, and when?", "Mora Voss, 1932")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text\nOne; two; three.\nFour | five.\n", [("text",), ("One; two; three.",), ("Four | five.",)]),
        ("a,b\nOne; two; three,x; y; z\n", [("a", "b"), ("One; two; three", "x; y; z")]),
        ("first, last;age\nVoss, Mora;32\n", [("first, last", "age"), ("Voss, Mora", "32")]),
        ('"a;b","c"\n"1;2","3"\n', [("a;b", "c"), ("1;2", "3")]),
        ('"a";"b"\n"1, ""2""";"3\n\n4"\n', [("a", "b"), ('1, "2"', "3\n\n4")]),
        ("a\tb\n1,5\t2,5\n", [("a", "b"), ("1,5", "2,5")]),
        ("\ufeffa;b\r\n1;2\r\n", [("a", "b"), ("1", "2")]),
        ("a;b\r1;2\r", [("a", "b"), ("1", "2")]),
        ("a;b\n", [("a", "b")]),
        ("\n;\na;b\n;\n1;2\n", [("a", "b"), ("1", "2")]),
        ("", []),
    ],
)
def test_header_and_rows_tell_what_separates(
    write: Write, content: str, expected: list[tuple[str, ...]]
) -> None:
    assert fields(write("a.csv", content)) == expected


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "\ufeffsep=;"])
def test_the_line_of_excel_says_what_separates_and_is_no_row(write: Write, first: str) -> None:
    path = write("a.csv", f"{first}\r\na,b;c\r\n1,2;3\r\n")
    assert rows(path) == [(2, ("a,b", "c")), (3, ("1,2", "3"))]


def test_a_tab_is_named_by_the_line_of_excel(write: Write) -> None:
    assert fields(write("a.csv", "sep=\t\na\tb\n1\t2\n")) == [("a", "b"), ("1", "2")]


def test_fields_without_text_behind_the_last_column_are_no_part_of_a_row(write: Write) -> None:
    assert fields(write("a.csv", "a;b;;\n1;2;;\n3;4; \n5;6\n")) == [
        ("a", "b"),
        ("1", "2"),
        ("3", "4"),
        ("5", "6"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a;b\n1;2;3\n", 'line 2: fields are 3, expected 2 (a, b); put text that has semicolons in "quotes"'),
        ("a\tb\n1\n", 'line 2: fields are 1, expected 2 (a, b); put text that has tabs in "quotes"'),
        ("a;b;\n1;2;3\n", "line 2: fields are 3, expected 2 (a, b)"),
        ('a;b\n1;2\n"x";"open\n', "line 3: not CSV (unexpected end of data); check the quotes of this row"),
        ("sep=^\na^b\n1\n", "line 3: fields are 1, expected 2 (a, b); put text that has '^' in"),
    ],
)
def test_a_row_that_does_not_fit_its_header_is_named(write: Write, content: str, message: str) -> None:
    path = write("a.csv", content)
    with pytest.raises(DataError) as caught:
        list(read_csv(path))
    assert str(caught.value).startswith(f"{path} {message}")


def test_documents_are_read_from_columns_between_semicolons(write: Write) -> None:
    path = write("a.csv", 'sep=;\nid;text;year\nx;"One, two;\n\nthree";1932\n')
    (document,) = load_documents([path]).documents
    assert (document.id, document.text, document.source) == ("x", "One, two;\n\nthree", f"{path} line 3")
    assert document.metadata == {"year": "1932"}


def test_conversations_are_read_from_columns_between_semicolons(write: Write) -> None:
    path = write("a.csv", "prompt;response\nWho, and when?;Mora Voss, 1932\n")
    (conversation,) = read_conversations(find_tables([str(path)]).sources, Columns())
    assert [turn.text for turn in conversation.turns] == ["Who, and when?", "Mora Voss, 1932"]


def test_a_separator_is_found_in_a_file_whose_start_ends_within_quotes(write: Write) -> None:
    long = "word, " * 5000
    path = write("a.csv", f'a;b\n1;"{long}\n{long}"\n2;3\n')
    assert fields(path)[2] == ("2", "3")


@pytest.mark.parametrize("start", ["", "sep=;\n"])
def test_a_table_that_is_given_as_a_data_set_has_the_same_columns(write: Write, start: str) -> None:
    pytest.importorskip("datasets")
    path = write("a.csv", f"{start}prompt;response\nWho, and when?;Mora Voss, 1932\n")
    (conversation,) = read_conversations(find_tables([f"hf://{path}"]).sources, Columns())
    assert [turn.text for turn in conversation.turns] == ["Who, and when?", "Mora Voss, 1932"]
