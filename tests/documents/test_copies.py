"""A document in several formats is offered once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from demask.documents.account import describe_copies, describe_large_losses, describe_losses
from demask.documents.copies import SeenTexts
from demask.documents.load import load_documents

Write = Callable[[str, str | bytes], Path]
SENTENCES = [f"Part {number} of the {word} pump is made of {word} steel in Orlin." for number, word in
             enumerate("red green blue grey brown black white pink teal lime navy plum".split())]  # fmt: skip
TEXT = "\n\n".join(SENTENCES)


def page(sentences: list[str]) -> str:
    return "<h1>Pumps</h1>" + "".join(f"<p>{sentence}</p>" for sentence in sentences)


def test_of_a_document_in_two_formats_the_first_is_read(write: Write, tmp_path: Path) -> None:
    first, second = write("docs/manual.html", page(SENTENCES)), write("docs/manual.txt", TEXT)
    loaded = load_documents([tmp_path / "docs"])
    assert [document.source for document in loaded.documents] == [str(first)]
    report = loaded.reports[1]
    assert (report.documents, report.kept) == (0, 0)
    assert report.characters == sum(part.characters for part in report.left_out)
    (line,) = describe_copies(loaded.reports)
    assert line.startswith(f"{second}: left out, a copy of {first} in another format")
    assert describe_losses(loaded.reports) == describe_large_losses(loaded.reports) == []


def test_all_copies_are_read_where_that_is_asked_for(write: Write, tmp_path: Path) -> None:
    write("docs/manual.html", page(SENTENCES))
    write("docs/manual.txt", TEXT)
    assert len(load_documents([tmp_path / "docs"], duplicates="keep-all").documents) == 2


def test_copies_that_would_have_one_id_are_no_error(write: Write, tmp_path: Path) -> None:
    write("docs/manual.md", TEXT)
    write("docs/manual.txt", TEXT)
    assert [document.id for document in load_documents([tmp_path / "docs"]).documents] == ["manual"]


def test_pages_of_a_book_are_copies_of_the_book_in_one_line(write: Write, tmp_path: Path) -> None:
    book = write("docs/a.txt", TEXT)
    write("docs/b/1.html", page(SENTENCES[:6]))
    write("docs/b/2.html", page(SENTENCES[6:]))
    loaded = load_documents([tmp_path / "docs"])
    assert len(loaded.documents) == 1
    (line,) = describe_copies(loaded.reports)
    assert line.startswith("2 files, the first ")
    assert str(book) in line


def test_a_book_is_a_copy_of_all_its_pages_together(write: Write, tmp_path: Path) -> None:
    write("docs/a/1.html", page(SENTENCES[:6]))
    write("docs/a/2.html", page(SENTENCES[6:]))
    book = write("docs/b.txt", TEXT)
    loaded = load_documents([tmp_path / "docs"])
    assert [report.path for report in loaded.reports if not report.documents] == [str(book)]


@pytest.mark.parametrize("name", ["docs/other.html", "docs/other.txt"])
def test_a_document_that_says_more_is_read(write: Write, tmp_path: Path, name: str) -> None:
    write("docs/manual.md", "\n\n".join(SENTENCES[:9]))
    write(name, page(SENTENCES) if name.endswith("html") else TEXT)
    assert len(load_documents([tmp_path / "docs"]).documents) == 2


def test_texts_of_one_format_are_no_copies(write: Write, tmp_path: Path) -> None:
    write("docs/a.txt", TEXT)
    write("docs/b.txt", TEXT)
    write("docs/c.html", page(["Something else."]))
    assert len(load_documents([tmp_path / "docs"]).documents) == 3


def test_short_texts_are_no_copies(write: Write, tmp_path: Path) -> None:
    write("docs/a.txt", SENTENCES[0])
    write("docs/b.md", SENTENCES[0])
    assert len(load_documents([tmp_path / "docs"]).documents) == 2


def test_of_many_texts_the_one_is_named_that_is_copied() -> None:
    seen = SeenTexts()
    for number in range(40):
        seen.add(TEXT.replace(" ", f" {number}"), "html", f"{number}.html")
    copy = seen.find_copy(TEXT.replace(" ", " 17"), "pdf")
    assert copy is not None
    assert copy.path == "17.html"
    assert copy.share == 1.0
