"""PDF, HTML and DOCX become plain text, and what is left out of them is said."""

import datetime
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from demask.documents.load import load_documents, page_of
from demask.documents.parsed import FileReport, count_characters
from demask.records import Document

Write = Callable[[str, str | bytes], Path]
WritePdf = Callable[..., Path]

PAGE = """<!DOCTYPE html><html><head><title>The Orlin bridge - Gazette</title>
<meta property="article:published_time" content="2025-03-04T10:00:00Z">
<meta name="author" content="Mara Voss">
<style>p { color: red }</style></head><body>
<header><a href="/">Gazette</a></header>
<nav><ul><li><a href="/">Home</a><li><a href="/n">News</a></ul></nav>
<main><h1>The Orlin bridge</h1>
<p>The town of <b>Orl</b>in opened a bridge
   on Tuesday.<br>It cost 3 million &amp; more.</p>
<script>var hidden = 1;</script>
<div role="menu">Tell <a href="/f">your friends</a></div>
<table><tr><th>Name</th><th>Height</th></tr><tr><td>Orlin bridge</td><td>5 m</td></tr>
<tr><td>Old bridge</td><td>4 m</td></tr></table>
<ul><li>One thing</li><li><p>Another thing</p></li></ul>
<pre>a = 1
b = 2</pre>
<p>The end of a long day for the whole of the town and all of its people.</p></main>
<footer>Copyright 2025</footer></body></html>"""
PAGE_TEXT = """The Orlin bridge

The town of Orlin opened a bridge on Tuesday. It cost 3 million & more.

Name: Orlin bridge; Height: 5 m.
Name: Old bridge; Height: 4 m.

- One thing
- Another thing

a = 1
b = 2

The end of a long day for the whole of the town and all of its people."""


def load(path: Path) -> tuple[Document, FileReport]:
    loaded = load_documents([path])
    (document,), (report,) = loaded.documents, loaded.reports
    assert report.characters == report.kept + sum(part.characters for part in report.left_out)
    return document, report


def left_out(report: FileReport) -> dict[str, str]:
    return {part.reason: part.sample for part in report.left_out}


# HTML


def test_a_page_is_its_main_text_with_tables_and_lists(write: Write) -> None:
    path = write("page.html", PAGE)
    metadata = {"date": "2025-03-04", "author": "Mara Voss", "sections": [[0, 1, "The Orlin bridge"]]}
    assert load(path)[0] == Document("page.html", PAGE_TEXT, "The Orlin bridge", str(path), metadata)


def test_what_is_left_out_of_a_page_is_named_and_counted(write: Write) -> None:
    _, report = load(write("page.html", PAGE))
    assert left_out(report) == {
        "page header": "Gazette",
        "navigation": "Home News Tell your friends",
        "page footer": "Copyright 2025",
    }
    assert [part.characters for part in report.left_out] == [7, 8 + 15, 13]


def test_a_table_counts_in_the_characters_of_the_file_and_not_of_its_lines(write: Write) -> None:
    _, report = load(write("a.html", "<table><tr><th>Name<th>Height<tr><td>Orlin<td>5 m</table>"))
    assert report.kept == count_characters("Name Height Orlin 5 m")


def test_most_of_a_page_is_never_navigation_whatever_its_class_says(write: Write) -> None:
    document, _ = load(write("a.html", '<div class="no-sidebar"><p>All of the text.</p></div>'))
    assert document.text == "All of the text."


def test_a_table_that_places_things_is_read_as_paragraphs(write: Write) -> None:
    page = "<table><tr><td><h1>Title</h1><table><tr><td>a<td>b</table></td></tr></table>"
    assert load(write("a.html", page))[0].text == "Title\n\na; b."


def test_a_table_for_presentation_is_read_as_paragraphs(write: Write) -> None:
    page = "<table role=presentation><tr><td>One.<td>Two.</table>"
    assert load(write("a.html", page))[0].text == "One.\n\nTwo."


def test_a_list_of_links_is_left_out(write: Write) -> None:
    links = "".join(f'<li><a href="{n}">link {n}</a>' for n in range(3))
    document, report = load(write("a.html", f"<p>{'Long text. ' * 9}</p><h2>See</h2><ul>{links}</ul>"))
    assert "link" not in document.text
    assert left_out(report) == {"list of links": "link 0 link 1 link 2"}


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<meta charset="windows-1251">', "cp1251"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">', "koi8-r"),
        ('<?xml version="1.0" encoding="utf-8"?>', "utf-8"),
        ("", "utf-8"),
        ("", "utf-8-sig"),
        ("", "utf-16"),
    ],
)
def test_a_page_is_read_in_the_encoding_it_declares(write: Write, head: str, encoding: str) -> None:
    path = write("a.html", f"{head}<p>Орлин</p>".encode(encoding))
    assert load(path)[0].text == "Орлин"


# DOCX


def write_docx(path: Path) -> Path:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.core_properties.title = "Handbook"
    document.core_properties.author = "Mara Voss"
    document.core_properties.modified = datetime.datetime(2025, 3, 4)
    document.add_heading("The works", 1)
    document.add_paragraph("Orlin was\nfounded in 1931.")
    for text in ("One", "Two"):
        document.add_paragraph(text, style="List Bullet")
    table = document.add_table(2, 2)
    for row, texts in zip(table.rows, [("Name", "Height"), ("Orlin", "5 m")], strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    document.sections[0].header.paragraphs[0].text = "Confidential"
    document.sections[0].footer.paragraphs[0].text = "Page"
    remarked = document.add_paragraph("The end.")
    document.add_comment(remarked.runs, text="Really?", author="M")
    document.save(str(path))
    return path


def edit_docx(path: Path, old: str, new: str) -> Path:
    """Change the XML of the main part, as no function of the library does what is wanted."""
    with zipfile.ZipFile(path) as package:
        parts = {name: package.read(name) for name in package.namelist()}
    main = parts["word/document.xml"].decode()
    assert old in main
    parts["word/document.xml"] = main.replace(old, new, 1).encode()
    with zipfile.ZipFile(path, "w") as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return path


def test_a_word_document_keeps_headings_lists_and_tables_in_order(tmp_path: Path) -> None:
    path = write_docx(tmp_path / "a.docx")
    text = "The works\n\nOrlin was\nfounded in 1931.\n\n- One\n- Two\n\nName: Orlin; Height: 5 m.\n\nThe end."
    metadata = {"date": "2025-03-04", "author": "Mara Voss", "sections": [[0, 2, "The works"]]}
    assert load(path)[0] == Document("a.docx", text, "Handbook", str(path), metadata)


def test_headers_footers_and_comments_of_a_word_document_are_left_out(tmp_path: Path) -> None:
    _, report = load(write_docx(tmp_path / "a.docx"))
    assert left_out(report) == {"page header": "Confidential", "page footer": "Page", "comments": "Really?"}


def test_tracked_changes_read_as_accepted(tmp_path: Path) -> None:
    run = "<w:r><w:t>{}</w:t></w:r>"
    changed = f"<w:ins>{run.format('newly ')}</w:ins><w:del><w:r><w:delText>once </w:delText></w:r></w:del>"
    path = edit_docx(write_docx(tmp_path / "a.docx"), "<w:r><w:t>The end.", f"{changed}<w:r><w:t>The end.")
    document, report = load(path)
    assert document.text.endswith("newly The end.")
    assert left_out(report)["deleted text of tracked changes"] == "once"


def test_content_controls_are_read(tmp_path: Path) -> None:
    control = "<w:sdt><w:sdtContent><w:p><w:r><w:t>Held.</w:t></w:r></w:p></w:sdtContent></w:sdt><w:sectPr"
    path = edit_docx(write_docx(tmp_path / "a.docx"), "<w:sectPr", control)
    assert load(path)[0].text.endswith("The end.\n\nHeld.")


def test_a_text_box_is_read_once_and_apart_from_its_paragraph(tmp_path: Path) -> None:
    box = "<w:txbxContent><w:p><w:r><w:t>Boxed.</w:t></w:r></w:p></w:txbxContent>"
    space = "http://schemas.openxmlformats.org/markup-compatibility/2006"
    both = (
        f'<mc:AlternateContent xmlns:mc="{space}"><mc:Choice>{box}</mc:Choice>'
        f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent>"
    )
    path = edit_docx(
        write_docx(tmp_path / "a.docx"), "<w:r><w:t>The end.", f"<w:r>{both}</w:r><w:r><w:t>The end."
    )
    assert load(path)[0].text.endswith("5 m.\n\nThe end.\n\nBoxed.")


# PDF

LONG = "The town of Orlin opened its new bridge over the river on Tuesday, and all of the people came."


def test_wrapped_lines_of_a_pdf_are_paragraphs(write_pdf: WritePdf) -> None:
    path = write_pdf("a.pdf", [[LONG, "It was a fine day."]], title="The bridge")
    metadata = {"pages": [0], "date": "2025-03-04", "author": "Mara Voss"}
    expected = Document("a.pdf", f"{LONG}\n\nIt was a fine day.", "The bridge", str(path), metadata)
    assert load(path)[0] == expected


def test_a_paragraph_goes_on_over_the_turn_of_a_page(write_pdf: WritePdf) -> None:
    document, _ = load(write_pdf("a.pdf", [["It went"], ["over the bridge."], ["The end."]]))
    assert document.text == "It went over the bridge.\n\nThe end."
    assert document.metadata["pages"] == [0, 8, 26]


def test_a_hyphen_at_the_end_of_a_line_goes_unless_the_word_has_one_elsewhere(write_pdf: WritePdf) -> None:
    text = "A well-known town has an ob-\nstacle, and it is well-\nknown."
    document, report = load(write_pdf("a.pdf", [[text]]))
    assert document.text == "A well-known town has an obstacle, and it is well-known."
    assert left_out(report) == {"hyphens at the ends of lines, words joined": ""}


def test_running_headers_and_page_numbers_are_left_out_and_said(write_pdf: WritePdf) -> None:
    pages = [[f"Text of the {name} page."] for name in ("first", "second", "third")]
    document, report = load(write_pdf("a.pdf", pages, header="Orlin handbook"))
    assert document.text == "\n\n".join(page[0] for page in pages)
    assert left_out(report) == {
        "running header or footer": "Orlin handbook Page 1 of 3 Orlin handbook Page 2 of 3 Orlin "
    }


def test_lines_that_two_pages_share_are_no_running_headers(write_pdf: WritePdf) -> None:
    document, report = load(write_pdf("a.pdf", [["Same."], ["Same."]]))
    assert (document.text, report.left_out) == ("Same.\n\nSame.", ())


def test_a_page_without_text_is_named(write_pdf: WritePdf) -> None:
    _, report = load(write_pdf("a.pdf", [["One."], [], ["Three."]]))
    assert left_out(report) == {"page 2: no text layer": ""}


def test_the_page_of_a_character_is_known(write_pdf: WritePdf) -> None:
    document, _ = load(write_pdf("a.pdf", [["One."], [], ["Three."]]))
    assert document.text == "One.\n\nThree."
    assert [page_of(document, offset) for offset in (0, 3, 6, 11)] == [1, 1, 3, 3]


def test_a_document_without_pages_has_no_page_of_a_character() -> None:
    assert page_of(Document("a", "Text."), 0) is None


def test_a_character_beyond_the_text_has_no_page() -> None:
    with pytest.raises(ValueError, match=r"^offset is 5, expected 0 to 4$"):
        page_of(Document("a", "Text."), 5)
