"""`demask data read`: what is read, document by document, and the account of what is not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from demask import cli
from demask.documents.account import describe_large_losses, describe_losses, describe_skipped
from demask.documents.load import load_documents
from demask.documents.parsed import FileReport, LeftOut

Write = Callable[[str, str | bytes], Path]
PAGE = "<h1>Locks</h1><p>A lock is held.</p>" + "".join(
    f"<nav><a href='{n}'>page {n}</a></nav>" for n in "abc"
)


def run(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["demask", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


def test_what_is_read_can_be_read_again(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("docs/a.html", PAGE)
    write("docs/b.txt", "Plain text.")
    write("docs/c.png", "x")
    write("docs/d.png", "x")
    out = tmp_path / "read.jsonl"
    assert run("data", "read", str(tmp_path / "docs"), "--out", str(out)) == 0
    said = capsys.readouterr()
    assert said.out.startswith("2 documents, ")
    assert "characters left out (navigation)" in said.out
    assert said.err.count(".png") == 2  # one line: the kind, and the first file
    again = load_documents([out]).documents
    first = load_documents([tmp_path / "docs"]).documents
    assert [(d.id, d.title, d.text) for d in again] == [(d.id, d.title, d.text) for d in first]


def test_a_file_that_is_there_is_not_overwritten(write: Write, tmp_path: Path) -> None:
    out = write("read.jsonl", "mine")
    assert run("data", "read", str(write("b.txt", "Plain text.")), "--out", str(out)) != 0
    assert out.read_text() == "mine"


def test_the_account_is_in_json_too(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "read.jsonl"
    assert run("data", "read", str(write("a.html", PAGE)), "--out", str(out), "--json") == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert file["characters"] == file["kept"] + sum(part["characters"] for part in file["left_out"])


REPORTS = [
    FileReport("a", "html", 1, 100, 80, (LeftOut("hidden", 5, "x"), LeftOut("list of links", 15, "One"))),
    FileReport("b", "html", 1, 100, 60, (LeftOut("aside", 40, "Tip"),)),
    FileReport("c", "html", 1, 100, 95, (LeftOut("navigation", 5, "Next"),)),
]


def test_losses_are_named_largest_first() -> None:
    assert [line.split(" ")[1] for line in describe_losses(REPORTS)] == ["40", "15", "5", "5"]


def test_a_tenth_of_a_file_left_out_is_a_warning() -> None:
    first, second = describe_large_losses(REPORTS)
    assert first.startswith("warning: b: 40% of its text is left out, most as aside (40 characters, 'Tip')")
    assert second.startswith("warning: a: 20% of its text is left out, most as list of links")


def test_skipped_files_are_one_line_a_kind(tmp_path: Path) -> None:
    lines = list(describe_skipped(["a.png", "b.PNG", "README", "c.doc"]))
    assert [line.partition(":")[0] for line in lines] == ["2 .png files", "README", "c.doc"]
    assert lines[2].endswith("; save it as .docx, .pptx or .xlsx")
    assert ", the first a.png, expected one of .txt" in lines[0]


SITE = "<nav>" + "".join(f"<a href='{n}.html'>Chapter {n} of the manual</a> " for n in range(9)) + "</nav>"


def test_a_small_page_of_a_large_site_is_no_loss(write: Write) -> None:
    loaded = load_documents([write("a.html", f"{SITE}<h1>Locks</h1><p>A lock is held.</p>")])
    (report,) = loaded.reports
    assert report.kept < report.characters / 4
    assert describe_losses(loaded.reports)
    assert not describe_large_losses(loaded.reports)


def test_sentences_beside_the_links_of_a_site_are_one(write: Write) -> None:
    prose = "The valve is opened by hand. It must never be opened while the pump runs. " * 3
    page = f"{SITE.replace('</nav>', prose + '</nav>')}<h1>Locks</h1><p>A lock is held.</p>"
    loaded = load_documents([write("a.html", page)])
    assert "valve" not in loaded.documents[0].text
    (line,) = describe_large_losses(loaded.reports)
    assert "most as navigation" in line
