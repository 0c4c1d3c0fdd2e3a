"""Headings become sections: they are found, passages are cut at them, and stand under them."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from demask.documents.html_files import parse_html
from demask.documents.load import load_documents
from demask.documents.markdown import find_markdown_sections
from demask.documents.passages import split_document
from demask.documents.sections import cut_at_headings, read_outline
from demask.records import Document, Passage
from demask.words import Span

Write = Callable[[str, str | bytes], Path]
MANUAL = """# Bash manual

An introduction to the shell here.

## Parameters

### Arrays

Arrays are one kind of value here.

### Special

A dollar sign is special in shells.

## Jobs

Jobs run in the background of it."""


def count_words(text: str) -> int:
    return len(text.split())


def split(text: str, words: int, **options: object) -> list[Passage]:
    document = Document("d", text, metadata={"sections": find_markdown_sections(text)})
    return split_document(document, count_tokens=count_words, max_tokens=words, sections=True, **options)  # type: ignore[arg-type]


def test_passages_are_cut_at_headings_and_name_what_they_stand_under() -> None:
    passages = split(MANUAL, 20)
    assert [passage.section for passage in passages] == [
        "Bash manual",
        "Bash manual > Parameters",
        "Bash manual > Parameters > Special",
        "Bash manual > Jobs",
    ]
    assert [passage.heading for passage in passages] == [
        "",
        "Bash manual\n",
        "Bash manual > Parameters\n",
        "Bash manual\n",
    ]
    assert passages[1].text.startswith("## Parameters\n\n### Arrays")


def test_no_passage_is_longer_than_allowed_and_no_word_is_lost() -> None:
    for words in (16, 20, 30, 60):
        passages = split(MANUAL, words)
        assert all(count_words(passage.training_text) <= words for passage in passages)
        assert "".join("".join(p.text.split()) for p in passages) == "".join(MANUAL.split())


def test_small_neighbours_share_a_passage() -> None:
    text = "\n\n".join(f"# Part {n}\n\nFour words are here." for n in range(6))
    assert [passage.text.count("# Part") for passage in split(text, 15)] == [2, 2, 2]


def test_the_second_half_of_a_section_stands_under_its_own_heading() -> None:
    text = "# Locks\n\n" + " ".join(f"Sentence number {n} is here." for n in range(8))
    first, second = split(text, 24)
    assert (first.heading, second.heading) == ("", "Locks\n")
    assert first.section == second.section == "Locks"


def test_a_document_that_fits_is_trained_as_it_is() -> None:
    (passage,) = split(MANUAL, 100)
    assert (passage.training_text, passage.section) == (MANUAL, "Bash manual")


def test_a_document_without_headings_is_cut_as_before() -> None:
    document = Document("d", "One two three. Four five six. Seven eight nine. Ten.")
    plain = split_document(document, count_tokens=count_words, max_tokens=6)
    assert split_document(document, count_tokens=count_words, max_tokens=6, sections=True) == plain


def test_a_long_heading_gives_way_to_the_text() -> None:
    text = f"# {'Very ' * 9}long\n\n## Short\n\n" + "One two three four five. " * 6
    passages = split(text, 20)
    assert passages[-1].heading == "Short\n"
    assert passages[-1].section.endswith("long > Short")


@pytest.mark.parametrize(
    "value", ["x", [["a", 1, "T"]], [[0, 1]], [[5, 1, "A"], [2, 1, "B"]], [[99, 1, "A"]]]
)
def test_a_column_of_the_users_own_that_has_that_name_is_none(value: object) -> None:
    assert not read_outline(Document("d", "Some text.", metadata={"sections": value})).sections


def test_headings_of_markdown_are_found_but_not_in_code() -> None:
    text = "# One\n\n```\n# no\n```\n\nTwo\n===\n\nThree\n---\n\na\nb\n---\n\n#### Four ##"
    found = find_markdown_sections(text)
    assert [one[1:] for one in found] == [[1, "One"], [1, "Two"], [2, "Three"], [4, "Four"]]
    assert [text[int(str(one[0])) :][:3] for one in found] == ["# O", "Two", "Thr", "###"]


def test_headings_of_a_page_are_found_where_they_stand(write: Write) -> None:
    parsed = parse_html(write("a.html", "<h1>Bash</h1><p>Text.</p><ul><li>x</ul><h3>Arrays</h3><p>More.</p>"))
    assert parsed.metadata["sections"] == [[0, 1, "Bash"], [parsed.text.index("Arrays"), 3, "Arrays"]]


def test_headings_of_a_word_document_have_the_levels_of_their_styles(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.add_heading("Handbook", 0)
    document.add_heading("Works", 1)
    document.add_paragraph("Text.")
    document.add_heading("Hours", 2)
    document.save(str(tmp_path / "a.docx"))
    (loaded,) = load_documents([tmp_path / "a.docx"]).documents
    assert read_outline(loaded).paths[-1] == ("Handbook", "Works", "Hours")


def test_parts_make_up_the_text() -> None:
    outline = read_outline(Document("d", MANUAL, metadata={"sections": find_markdown_sections(MANUAL)}))
    parts = cut_at_headings(MANUAL, outline, lambda span: span.end - span.start < 60)
    assert parts[0].start == 0
    assert parts[-1].end == len(MANUAL)
    assert all(isinstance(part, Span) for part in parts)
    assert all(first.end == second.start for first, second in pairwise(parts))
