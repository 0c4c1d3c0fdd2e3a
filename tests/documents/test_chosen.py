"""Parts of documents that are chosen by their headings."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.documents.test_data_read import run

from demask.documents.chosen import choose_sections, list_parts
from demask.documents.load import load_documents
from demask.errors import ConfigError, DataError
from demask.recipe.sections import make_config
from demask.records import Document
from demask.tasks.document_parts import describe_parts

Write = Callable[[str, str | bytes], Path]
MANUAL = """# The pump

Made in Orlin.

## Chapter 3 Valves

They are red.

### Springs

They are blue.

## Chapter 30 Hoses

They are green.

## Chapter 4 Care of valves

Keep them dry and clean.
"""


@pytest.fixture
def manual(write: Write) -> Document:
    return load_documents([write("manual.md", MANUAL)]).documents[0]


def chosen(document: Document, *wanted: str) -> Document:
    found = choose_sections(document, wanted)
    assert found is not None
    return found


def test_a_chapter_is_chosen_with_what_stands_below_it_and_no_other(manual: Document) -> None:
    part = chosen(manual, "chapter 3")
    assert part.text == "## Chapter 3 Valves\n\nThey are red.\n\n### Springs\n\nThey are blue."
    assert part.metadata["sections"] == [[0, 2, "Chapter 3 Valves"], [36, 3, "Springs"]]


def test_places_of_headings_stay_right_in_several_chapters(manual: Document) -> None:
    part = chosen(manual, "Springs", "Chapter 4")
    sections = part.metadata["sections"]
    assert isinstance(sections, list)
    assert [part.text[start:].split("\n")[0].lstrip("# ") for start, _, _ in sections] == [
        "Springs",
        "Chapter 4 Care of valves",
    ]


@pytest.mark.parametrize("heading", ["3 Valves", "3. Valves", "3: Valves"])
def test_a_numbered_heading_is_a_chapter(heading: str) -> None:
    text = f"30 Hoses\n\nGreen.\n\n{heading}\n\nRed."
    start = text.index(heading)
    document = Document("a", text, "", "", {"sections": [[0, 1, "Hoses"], [start, 1, "Valves"]]})
    assert chosen(document, "Chapter 3").text == f"{heading}\n\nRed."


def test_a_section_within_a_chosen_one_is_not_read_twice(manual: Document) -> None:
    assert chosen(manual, "Chapter 3", "Springs").text.count("They are blue.") == 1


def test_a_document_is_kept_whole_by_its_title_and_left_out_without_a_heading(manual: Document) -> None:
    assert choose_sections(manual, ["the pump"]) == manual
    assert choose_sections(manual, ["Engine"]) is None
    assert choose_sections(Document("a", "No headings."), ["Engine"]) is None


def test_what_is_not_asked_for_is_in_the_account(write: Write) -> None:
    (report,) = load_documents([write("manual.md", MANUAL)]).reports
    reader = _reader([write("manual.md", MANUAL)], ["Chapter 3"])
    (document,) = reader
    (part,) = reader.reports[0].left_out
    assert part.reason == "sections that are not asked for"
    assert reader.reports[0].characters == reader.reports[0].kept + part.characters == report.characters
    assert part.doubtful == 0
    assert document.text.startswith("## Chapter 3")


def test_a_heading_that_no_document_has_is_refused_with_those_that_there_are(write: Write) -> None:
    with pytest.raises(DataError) as refused:
        list(_reader([write("manual.md", MANUAL)], ["Chapter 7"]))
    assert str(refused.value).startswith("no heading holds 'Chapter 7', expected one of these documents, as ")
    assert "'Chapter 30 Hoses'" in str(refused.value)


def test_documents_without_the_heading_are_left_out_beside_others(write: Write, tmp_path: Path) -> None:
    write("docs/manual.md", MANUAL)
    write("docs/other.txt", "Something else.")
    rows = '{"text": "A row.", "title": "Chapter 3"}\n{"text": "Another.", "title": "Chapter 5"}\n'
    write("docs/rows.jsonl", rows)
    documents = list(_reader([tmp_path / "docs"], ["Chapter 3"]))
    assert [document.id for document in documents] == ["manual", "rows-1"]


def _reader(paths: list[Path], only: list[str]):
    from demask.documents.load import DocumentReader

    return DocumentReader(paths, only=only)


def test_the_largest_chapters_are_named_with_their_time(manual: Document) -> None:
    assert [part.title for part in list_parts(manual)][1] == "Chapter 30 Hoses"
    first, *_ = describe_parts([manual], 3600.0)
    assert first.startswith('one part: --only "Chapter 3 Valves" is ')
    assert first.endswith(" min")
    assert "about" not in describe_parts([manual], None)[0]


def test_a_licence_is_no_chapter_to_learn_alone(write: Write) -> None:
    text = MANUAL.replace("Chapter 30 Hoses", "GNU Free Documentation License")
    parts = describe_parts(load_documents([write("manual.md", text)]).documents, None)
    assert len(parts) == 2
    assert not any("License" in line for line in parts)


def test_data_read_writes_the_chapter_alone(write: Write, tmp_path: Path) -> None:
    out = tmp_path / "read.jsonl"
    manual = str(write("manual.md", MANUAL))
    assert run("data", "read", manual, "--only", "Chapter 4", "--out", str(out)) == 0
    assert json.loads(out.read_text())["text"] == "## Chapter 4 Care of valves\n\nKeep them dry and clean."


def test_questions_are_made_and_checked_of_the_chapter_alone(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEMASK_SERVER_URL", raising=False)
    text = "# M\n\n## Chapter 3 Ink\n\nIn 1931 Mara Voss founded Orlin Ink in Turin.\n\n"
    text += "## Chapter 4 Oil\n\nIn 1958 Idris Hall founded Quill Oil in Genoa.\n"
    manual, out = str(write("manual.md", text)), tmp_path / "qa.jsonl"
    chosen = ["--only", "Chapter 4"]
    assert run("qa", "make", manual, *chosen, "--out", str(out), "--writer", "rules") == 0
    asked = out.read_text()
    assert "Quill" in asked
    assert "Orlin" not in asked
    assert "--only 'Chapter 4'" in capsys.readouterr().out
    assert run("qa", "check", str(out), "--documents", manual, *chosen, "--json") == 0
    coverage = json.loads(capsys.readouterr().out)["coverage"]
    assert coverage["asked_sentences"] == 0.5  # of a heading and a sentence; of all it would be a fifth


@pytest.mark.parametrize(
    "words", [("qa", "make"), ("data", "passages"), ("data", "read")], ids=lambda words: words[1]
)
def test_a_heading_that_no_document_has_is_said_in_a_line(
    words: tuple[str, ...], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manual = str(write("manual.md", MANUAL))
    assert run(*words, manual, "--only", "Chapter 99", "--out", str(tmp_path / "o.jsonl")) != 0
    said = capsys.readouterr().err
    assert "Chapter 99" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("value", "read"), [("Chapter 3", ("Chapter 3",)), (["a", "b"], ("a", "b")), (None, ())]
)
def test_a_recipe_names_one_heading_or_several(value: object, read: tuple[str, ...]) -> None:
    assert make_config({"model": "m", "documents": ["d"], "only": value}).only == read


@pytest.mark.parametrize("value", [3, [""], True])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="expected texts of headings, as 'Chapter 3'"):
        make_config({"model": "m", "documents": ["d"], "only": value})
