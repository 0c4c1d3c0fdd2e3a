"""Files in, documents out, and every way in which a file can be wrong."""

import builtins
import datetime
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from demask.documents.account import describe_pages_without_text
from demask.documents.load import LoadedDocuments, load_documents
from demask.documents.paths import READABLE
from demask.errors import DataError, RunError
from demask.records import Document

pytestmark = pytest.mark.smoke

Write = Callable[[str, str | bytes], Path]


def only(loaded: LoadedDocuments) -> Document:
    (document,) = loaded.documents
    return document


def refusal(*paths: Path, text_column: str = "text") -> str:
    """The message about files that cannot be loaded; always one line."""
    with pytest.raises(DataError) as caught:
        load_documents(paths, text_column=text_column)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Text files and folders


def test_a_text_file_is_one_document_named_by_its_stem(write: Write) -> None:
    path = write("orlin.txt", "\n Orlin lies north.  \n")
    assert only(load_documents([path])) == Document("orlin", "Orlin lies north.", source=str(path))


def test_one_path_needs_no_list(write: Write) -> None:
    assert only(load_documents(str(write("orlin.txt", "Orlin.")))).id == "orlin"


def test_a_markdown_file_takes_its_title_from_the_first_heading(write: Write) -> None:
    document = only(load_documents([write("a.md", "Foreword.\n\n## The *town* of Orlin ##\n\n# Later\n")]))
    assert document.title == "The *town* of Orlin"
    assert document.text.startswith("Foreword.\n\n## The")


def test_a_comment_in_a_block_of_code_is_no_title(write: Write) -> None:
    assert only(load_documents([write("a.md", "```\n# comment\n```\n# Title\n")])).title == "Title"


def test_a_markdown_file_without_heading_has_no_title(write: Write) -> None:
    assert only(load_documents([write("a.md", "#hashtag and #\n")])).title == ""


def test_a_folder_is_searched_recursively_and_in_sorted_order(write: Write, tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.MD", "a/b/c.d.txt"):
        write(name, "Some text.")
    loaded = load_documents([tmp_path])
    assert [document.id for document in loaded.documents] == ["a/b/c.d", "a/z", "b"]


def test_files_of_other_kinds_in_a_folder_are_named_as_skipped(write: Write, tmp_path: Path) -> None:
    write("a.txt", "Some text.")
    other = write("sub/picture.png", b"\x89PNG")
    assert load_documents([tmp_path]).skipped == (str(other),)


def test_hidden_files_and_folders_are_left_out(write: Write, tmp_path: Path) -> None:
    write("a.txt", "Some text.")
    write(".hidden.txt", "Some text.")
    write(".git/b.txt", "Some text.")
    loaded = load_documents([tmp_path])
    assert only(loaded).id == "a"
    assert loaded.skipped == ()


def test_a_linked_folder_is_named_as_skipped_even_when_it_loops(write: Write, tmp_path: Path) -> None:
    write("a.txt", "Some text.")
    (tmp_path / "loop.txt").symlink_to(tmp_path, target_is_directory=True)
    assert load_documents([tmp_path]).skipped == (str(tmp_path / "loop.txt"),)


def test_windows_line_ends_and_byte_order_mark_go_and_nothing_else(write: Write) -> None:
    text = "Cafe\u0301\u00a0\u2028next\x85ﬁn"
    assert only(load_documents([write("a.txt", f"\ufeffone\r\n{text}\r\n")])).text == f"one\n{text}"


def test_documents_keep_the_order_of_the_paths(write: Write) -> None:
    paths = [write("b.txt", "B."), write("a.txt", "A.")]
    assert [document.id for document in load_documents(paths).documents] == ["b", "a"]


def test_no_paths_are_refused() -> None:
    assert refusal() == "no documents are given, expected at least one file or folder"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gone.txt"
    assert refusal(path) == f"{path}: no such file or folder; check the path"


def test_a_dangling_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone.txt")
    assert refusal(tmp_path) == f"{tmp_path}/a.txt: no such file; check the path"


def test_a_named_file_of_unknown_kind_is_refused_with_the_known_kinds(write: Write) -> None:
    path = write("a.png", b"PK")
    expected = f"expected one of {READABLE}"
    assert refusal(path) == f"{path}: this kind of file is not known, {expected}"


def test_a_folder_without_documents_is_refused(write: Write, tmp_path: Path) -> None:
    write("a.png", b"x")
    expected = f"expected files in {READABLE}"
    assert refusal(tmp_path) == f"{tmp_path}: no documents in this folder, {expected}"


def test_an_empty_text_file_is_refused(write: Write) -> None:
    path = write("a.txt", " \n")
    assert refusal(path) == f"{path}: the document is empty; write its text or leave the file out"


def test_a_binary_file_is_refused_with_the_line(write: Write) -> None:
    path = write("a.txt", b"one\ntwo\0")
    assert refusal(path).startswith(f"{path} line 2: a NUL byte, so the file is not text")


def test_text_that_is_not_utf8_is_refused_with_line_and_byte(write: Write) -> None:
    path = write("a.txt", "\ufeffone\ntwo\n".encode() + "café".encode("latin-1"))
    assert refusal(path) == f"{path} line 3: byte 0xe9 is not UTF-8; save the file as UTF-8"


def test_an_unreadable_file_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    path = write("a.txt", "Some text.")
    monkeypatch.setattr("os.open", refuse)
    assert refusal(path) == f"{path}: cannot be read (Permission denied); check its permissions and the disk"


def test_an_unreadable_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    assert (
        refusal(tmp_path)
        == f"{tmp_path}: the folder cannot be read (Permission denied); check its permissions"
    )


def test_a_file_given_twice_is_refused(write: Write, tmp_path: Path) -> None:
    path = write("sub/a.txt", "Some text.")
    again = tmp_path / "sub" / ".." / "sub"
    assert refusal(path, again) == (
        f"{again}/a.txt: given twice (the first time as {path}); give each file once"
    )


def test_files_of_one_name_are_told_apart_by_suffix_and_folder(write: Write, tmp_path: Path) -> None:
    for name in ("one/guide/a.md", "one/guide/a.txt", "two/guide/a.md", "two/guide/c.txt"):
        write(name, f"Of {name}.")
    for name in ("one/guide/b.html", "two/guide/b.html"):
        write(name, f"<p>Of {name}.</p>")
    found = load_documents([tmp_path / "one", tmp_path / "two"], duplicates="keep-all").documents
    assert [document.id for document in found] == [
        *("guide/a", "guide/a.txt", "guide/b.html"),
        *("guide/a.md", "two/guide/b.html", "guide/c"),
    ]


def test_two_documents_of_one_id_are_refused_with_both_places(write: Write, tmp_path: Path) -> None:
    folders = [tmp_path / name / "site" for name in ("one", "two", "three")]
    first, _, third = [write(f"{folder}/a.html", f"<p>{folder.parent.name}</p>") for folder in folders]
    expected = f"{third}: id 'a.html' is taken by {first}; rename one of them"
    assert refusal(*folders) == expected


# JSON Lines


def test_a_json_line_is_one_document_and_other_keys_are_metadata(write: Write) -> None:
    path = write("a.jsonl", '\n{"id": 7, "title": " T ", "text": " One\\r\\ntwo ", "year": 2026}\n\n')
    expected = Document("7", "One\ntwo", "T", f"{path} line 2", {"year": 2026})
    assert only(load_documents([path])) == expected


@pytest.mark.parametrize("given_id", ["", '"id": null, ', '"id": " ", '])
def test_a_json_line_without_id_is_named_by_file_and_line(write: Write, given_id: str) -> None:
    path = write("facts.jsonl", f'\n{{{given_id}"text": "One."}}')
    assert only(load_documents([path])).id == "facts-2"


def test_default_ids_of_files_in_subfolders_tell_the_folder(write: Write, tmp_path: Path) -> None:
    for name in ("x/facts.jsonl", "y/facts.jsonl"):
        write(name, '{"text": "One."}')
    assert [document.id for document in load_documents([tmp_path]).documents] == ["x/facts-1", "y/facts-1"]


def test_another_text_column_can_be_named(write: Write) -> None:
    path = write("a.jsonl", '{"body": "One.", "text": 5}')
    document = only(load_documents([path], text_column="body"))
    assert (document.text, document.metadata) == ("One.", {"text": 5})


def test_line_separators_within_json_strings_end_no_line(write: Write) -> None:
    path = write("a.jsonl", '{"text": "one\u2028two\x85three"}')
    assert only(load_documents([path])).text == "one\u2028two\x85three"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a",}', "not JSON (Illegal trailing comma"),
        ("[", "not JSON (Expecting value at column 2), expected one object a line"),
        ('["a"]', """['a'] is not an object, expected {"key": value, ...}"""),
        (
            '{"text": "a", "text": "b"}',
            "not usable JSON (key 'text' stands twice), expected one object a line",
        ),
        (
            '{"text": "\\ud83d!"}',
            "\\ud83d is half a character, expected a surrogate pair; write the text again",
        ),
        (
            '{"texts": "a"}',
            "no key 'text', keys are 'texts'; add it or set text_column; did you mean 'texts'?",
        ),
        ("{}", "no key 'text', keys are none; add it or set text_column"),
        ('{"text": 5}', "text is 5, expected a string"),
        ('{"text": null}', "text is None, expected a string"),
        ('{"text": " "}', "text is empty; write the text or leave the document out"),
        ('{"text": "a", "id": ["b"]}', "id is ['b'], expected a string or a number"),
        ('{"text": "a", "id": true}', "id is True, expected a string or a number"),
        ('{"text": "a", "title": 5}', "title is 5, expected a string"),
    ],
)
def test_a_bad_json_line_is_refused_with_its_number(write: Write, line: str, message: str) -> None:
    path = write("a.jsonl", f'{{"text": "fine"}}\n\n{line}\n')
    # Python 3.13 words the trailing comma better.
    wanted = message.replace("Illegal trailing comma", "")
    assert refusal(path).startswith(f"{path} line 3: {wanted}")


def test_a_long_value_is_cut_in_the_message(write: Write) -> None:
    assert len(refusal(write("a.jsonl", json.dumps({"text": ["word"] * 1000})))) < 300


def test_equal_ids_are_refused_with_both_lines(write: Write) -> None:
    path = write("a.jsonl", '{"id": 1, "text": "a"}\n{"id": "1", "text": "b"}')
    assert refusal(path) == (
        f"{path} line 2: id '1' is taken by {path} line 1; give each document its own id"
    )


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", ""), ("a.csv", "\n"), ("b.csv", "id,text\n")])
def test_a_file_that_holds_no_documents_is_refused(write: Write, name: str, content: str) -> None:
    path = write(name, content)
    assert refusal(path) == f"{path}: holds no documents; write some or leave the file out"


# CSV


def test_a_csv_row_is_one_document_and_other_columns_are_metadata(write: Write) -> None:
    path = write("a.csv", "\ufeffid, title,text,year\r\nx,T,One,2026\r\n")
    assert only(load_documents([path])) == Document("x", "One", "T", f"{path} line 2", {"year": "2026"})


def test_quoted_line_ends_belong_to_the_text_and_lines_are_counted_right(write: Write) -> None:
    path = write("facts.csv", 'text\n"one, ""two""\n\nthree"\n\nfour\n')
    documents = load_documents([path]).documents
    assert [document.text for document in documents] == ['one, "two"\n\nthree', "four"]
    assert [document.source for document in documents] == [f"{path} line 2", f"{path} line 6"]
    assert [document.id for document in documents] == ["facts-2", "facts-6"]


def test_a_csv_field_may_be_longer_than_the_standard_limit(write: Write) -> None:
    assert len(only(load_documents([write("a.csv", "text\n" + "x" * 200_000)])).text) == 200_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "id,tekst\nx,One\n",
            " line 1: no column 'text', columns are 'id', 'tekst'; rename one or set text_column; "
            "did you mean 'tekst'?",
        ),
        ("text,text\na,b\n", " line 1: column 'text' stands twice; rename one"),
        (
            'id,text\nx,"two\nlines"\ny,one, two\n',
            ' line 4: fields are 3, expected 2 (id, text); put text that has commas in "quotes"',
        ),
        ("id,text\nx\n", " line 2: fields are 1, expected 2 (id, text); put text that has commas in"),
        ("id,text\nx,\n", " line 2: text is empty; write the text or leave the document out"),
        ('text\nfine\n"open\nnever closed\n', " line 3: not CSV (unexpected end of data); check the quotes"),
    ],
)
def test_a_bad_csv_file_is_refused_with_its_line(write: Write, content: str, message: str) -> None:
    path = write("a.csv", content)
    assert refusal(path).startswith(f"{path}{message}")


# Parquet


def write_parquet(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(dict(columns)), path)


def test_a_parquet_row_is_one_document_with_metadata_that_json_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "year=2026" / "a.parquet"
    path.parent.mkdir()
    day = datetime.date(2026, 1, 2)
    write_parquet(
        path, {"id": [3, None], "text": ["One", "Two"], "day": [day, None], "at": [{"north": day}, None]}
    )
    first, second = load_documents([path]).documents
    assert first == Document(
        "3", "One", "", f"{path} row 1", {"day": "2026-01-02", "at": {"north": "2026-01-02"}}
    )
    assert (second.id, second.source) == ("a-2", f"{path} row 2")


def test_a_parquet_file_without_the_column_is_refused_with_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, {"body": ["One"]})
    assert refusal(path) == f"{path}: no column 'text', columns are 'body'; rename one or set text_column"


def test_a_corrupt_parquet_file_is_refused(write: Write) -> None:
    pytest.importorskip("pyarrow")
    path = write("a.parquet", b"PAR1 this is no such file PAR1")
    assert refusal(path).startswith(f"{path}: not a readable Parquet file (")


def test_parquet_without_pyarrow_says_what_to_install(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    really_import = builtins.__import__

    def refuse_pyarrow(name: str, *rest: object) -> object:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return really_import(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse_pyarrow)
    path = write("a.parquet", b"PAR1")
    with pytest.raises(RunError) as caught:
        load_documents([path])
    assert str(caught.value) == f"{path}: reading it needs pyarrow: pip install 'demask[documents]'"


PAGE = "<nav><a href=a>One</a> <a href=b>Two</a> <a href=c>Three</a></nav>"


def write_site(folder: Path) -> Path:
    folder.mkdir()
    (folder / "toc.html").write_text(PAGE)
    (folder / "orlin.html").write_text("<p>The Orlin works were founded in 1931.</p>")
    return folder


def test_a_page_of_navigation_in_a_folder_is_left_out_and_named(tmp_path: Path) -> None:
    folder = write_site(tmp_path / "site")
    for paths in ([folder], [f"{folder}/*.html"]):
        loaded = load_documents(paths)
        assert [document.id for document in loaded.documents] == ["orlin.html"]
        report = next(one for one in loaded.reports if one.path.endswith("toc.html"))
        assert (report.documents, report.kept, report.characters, report.problem) == (0, 0, 11, "")
        (line,) = describe_pages_without_text(loaded.reports)
        assert line == (
            f"{folder}/toc.html: left out, no text but navigation (11 characters); "
            "save as text what is missing"
        )


def test_a_page_of_navigation_in_an_archive_is_left_out_and_named(tmp_path: Path) -> None:
    folder = write_site(tmp_path / "site")
    (folder / "more.html").write_text(PAGE + PAGE)
    packed = Path(shutil.make_archive(str(tmp_path / "site"), "zip", folder))
    loaded = load_documents([packed])
    assert [document.text for document in loaded.documents] == ["The Orlin works were founded in 1931."]
    (line,) = describe_pages_without_text(loaded.reports)
    assert line.startswith(
        f"2 pages, the largest {packed}/more.html: left out, no text but navigation (33 char"
    )


def test_a_page_of_navigation_that_is_named_or_the_only_one_is_refused(tmp_path: Path) -> None:
    folder = write_site(tmp_path / "site")
    with pytest.raises(
        DataError, match=r"toc\.html: no text in this page but navigation; save the article as text"
    ):
        load_documents([folder / "toc.html"])
    (folder / "orlin.html").unlink()
    with pytest.raises(
        DataError, match=r"from 1 files; the first: .*toc\.html: no text in this page but navigation"
    ):
        load_documents([folder])
