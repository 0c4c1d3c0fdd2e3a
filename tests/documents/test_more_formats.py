"""Books, office documents, mails, notebooks and subtitles become text; damaged ones are refused in a line."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from demask.documents.load import load_documents
from demask.documents.parsing import _PARSERS, parse_file
from demask.documents.paths import PANDOC_SUFFIXES, PARSED_SUFFIXES, find_sources
from demask.errors import DataError

Write = Callable[[str, str | bytes], Path]


def pack(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


BOOK = {
    "META-INF/container.xml": '<container><rootfiles><rootfile full-path="b/o.opf"/></rootfiles></container>',
    "b/o.opf": '<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>Locks</dc:title>'
    "</metadata>"
    '<manifest><item id="n" href="nav.xhtml" properties="nav"/><item id="b" href="b%20b.html"/>'
    '<item id="a" href="a.html"/></manifest><spine><itemref idref="n"/><itemref idref="b"/>'
    '<itemref idref="a"/></spine></package>',
    "b/nav.xhtml": "<p>Contents</p>",
    "b/b b.html": "<h1>One</h1><p>The first chapter.</p>",
    "b/a.html": "<h1>Two</h1><p>The second chapter.</p>",
}
LETTER = (
    '<o:document-content xmlns:o="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
    ' xmlns:t="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
    ' xmlns:b="urn:oasis:names:tc:opendocument:xmlns:table:1.0"><o:body><o:text>'
    '<t:h t:outline-level="2">Works</t:h><t:p>Founded<t:s/>in 1931.<t:note><t:p>See below.</t:p>'
    "</t:note></t:p>"
    "<t:list><t:list-item><t:p>One</t:p></t:list-item><t:list-item><t:p>Two</t:p></t:list-item></t:list>"
    "<b:table><b:table-header-rows><b:table-row><b:table-cell><t:p>Part</t:p></b:table-cell><b:table-cell>"
    "<t:p>Torque</t:p></b:table-cell></b:table-row></b:table-header-rows><b:table-row><b:table-cell><t:p>Bolt</t:p>"
    "</b:table-cell><b:table-cell><t:p>45 Nm</t:p></b:table-cell></b:table-row></b:table>"
    "</o:text></o:body></o:document-content>"
)
MAIL = (
    "Subject: Locks\nFrom: Mara <m@example.org>\nDate: Tue, 04 Mar 2025 10:00:00 +0000\n"
    "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n"
    "The gr=FCn lock is shut.\n> Is it?\n-- \nMara\n"
)


def test_a_book_is_read_in_the_order_of_its_spine(tmp_path: Path) -> None:
    parsed = parse_file(pack(tmp_path / "a.epub", BOOK))
    assert parsed.text == "One\n\nThe first chapter.\n\nTwo\n\nThe second chapter."
    assert (parsed.title, parsed.metadata["sections"]) == (
        "Locks",
        [[0, 1, "One"], [parsed.text.index("Two"), 1, "Two"]],
    )


def test_of_a_book_the_contents_and_a_page_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    pages = BOOK | {"b/b b.html": "<div>" * 3000 + "The first chapter."}
    parsed = parse_file(pack(tmp_path / "a.epub", pages))
    assert parsed.text == "Two\n\nThe second chapter."
    contents, lost = parsed.left_out
    assert (contents.reason, contents.characters, contents.sample) == ("table of contents", 8, "Contents")
    assert contents.doubtful == 0
    assert lost.reason == "pages that cannot be read"
    assert lost.sample.startswith("b/b b.html: elements are nested too deep")
    assert lost.doubtful > 10_000


def test_a_book_of_contents_alone_is_refused(tmp_path: Path) -> None:
    pages = BOOK | {"b/b b.html": "<nav>Two</nav>", "b/a.html": "<img src=a.png>"}
    with pytest.raises(
        DataError, match=r"a\.epub: no text in this book, or one that is locked; save it as text$"
    ):
        parse_file(pack(tmp_path / "a.epub", pages))


def test_of_a_mail_in_html_what_is_not_read_is_named(tmp_path: Path) -> None:
    head = "Subject: Locks\nContent-Type: text/html; charset=utf-8\n\n"
    path = tmp_path / "a.eml"
    path.write_text(head + "<p>The lock is shut.</p><nav><a href=/>Home</a> <a href=/b>Shop</a></nav>")
    parsed = parse_file(path)
    assert parsed.text.endswith("The lock is shut.")
    assert [(part.reason, part.characters) for part in parsed.left_out] == [("navigation", 8)]
    path.write_text(head + "<div>" * 3000 + "Deep.")
    with pytest.raises(DataError, match="no text in this mail"):
        parse_file(path)


def test_a_letter_keeps_headings_lists_and_tables(tmp_path: Path) -> None:
    parsed = parse_file(pack(tmp_path / "a.odt", {"content.xml": LETTER}))
    assert parsed.text == "Works\n\nFounded in 1931.\n\n- One\n- Two\n\nPart: Bolt; Torque: 45 Nm."
    assert parsed.metadata["sections"] == [[0, 2, "Works"]]
    assert [(part.reason, part.sample) for part in parsed.left_out] == [("footnotes", "See below.")]


def test_slides_are_sections_and_notes_are_left_out(tmp_path: Path) -> None:
    pptx = pytest.importorskip("pptx")
    talk = pptx.Presentation()
    slide = talk.slides.add_slide(talk.slide_layouts[1])
    slide.shapes.title.text = "Locks"
    slide.placeholders[1].text = "They shut.\nThey open."
    slide.notes_slide.notes_text_frame.text = "Say hello."
    talk.save(str(tmp_path / "a.pptx"))
    parsed = parse_file(tmp_path / "a.pptx")
    assert parsed.text == "Locks\n\n- They shut.\n- They open."
    assert [part.reason for part in parsed.left_out] == ["notes of the speaker"]


def test_rows_of_a_sheet_name_their_columns(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "Parts"
    for row in (("Part", "Torque"), ("Bolt", 45.0), ("Nut", None)):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    assert parse_file(tmp_path / "a.xlsx").text == "Parts\n\nPart: Bolt; Torque: 45.\nPart: Nut."


def test_rich_text_is_read(write: Write) -> None:
    pytest.importorskip("striprtf")
    path = write("a.rtf", r"{\rtf1\ansi{\fonttbl\f0 Arial;}\f0 Orlin \b was\b0  founded.\par In 1931.\par}")
    assert parse_file(path).text == "Orlin was founded.\n\nIn 1931."


def test_a_notebook_is_its_text_and_code(write: Write) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Locks\n", "They shut."]},
        {"cell_type": "code", "source": "shut()", "outputs": [{"text": ["done"]}]},
    ]
    parsed = parse_file(write("a.ipynb", json.dumps({"cells": cells})))
    assert parsed.text == "# Locks\nThey shut.\n\n```\nshut()\n```"
    assert (parsed.title, [part.reason for part in parsed.left_out]) == ("Locks", ["output of code"])


def test_a_mail_is_its_senders_words(write: Write) -> None:
    parsed = parse_file(write("a.eml", MAIL))
    assert parsed.text.endswith("\n\nThe grün lock is shut.")
    assert (parsed.title, parsed.metadata["date"]) == ("Locks", "2025-03-04")
    assert [part.reason for part in parsed.left_out] == ["quoted messages", "signatures"]


def test_each_message_of_an_mbox_is_a_section(write: Write) -> None:
    parsed = parse_file(write("a.mbox", f"From a b\n{MAIL}\nFrom c d\n{MAIL.replace('Locks', 'Keys')}"))
    assert [section[2] for section in parsed.metadata["sections"]] == ["Locks", "Keys"]  # type: ignore[attr-defined]


def test_subtitles_are_their_words(write: Write) -> None:
    text = (
        "1\n00:00:01,000 --> 00:00:02,000\n<i>A</i>\nlock shuts.\n\n2\n00:00:02,500 --> 00:00:03,000\nOpen."
    )
    assert parse_file(write("a.srt", text)).text == "A lock shuts.\nOpen."
    assert parse_file(write("a.vtt", f"WEBVTT\n\n{text.replace(',', '.')}")).text == "A lock shuts.\nOpen."


@pytest.mark.parametrize(
    "suffix",
    sorted(set(_PARSERS) - {".html", ".htm", ".xhtml", ".rtf", ".eml", ".mbox", ".rst", *PANDOC_SUFFIXES}),
)
@pytest.mark.parametrize("content", [b"", b"\x00\xff rubbish", b"PK\x03\x04 cut", b"{\\rtf1 \\'"])
def test_rubbish_is_refused_in_a_line(write: Write, suffix: str, content: bytes) -> None:
    with pytest.raises(DataError) as refused:
        parse_file(write(f"a{suffix}", content))
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(write(f"a{suffix}", content)))


@pytest.mark.parametrize("suffix", [".epub", ".odt", ".pptx", ".xlsx"])
def test_a_bomb_of_any_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("demask.documents.archives.Package.__init__", _small)
    name = {".epub": "META-INF/container.xml", ".odt": "content.xml"}.get(suffix, "x.xml")
    path = pack(tmp_path / f"a{suffix}", {name: " " * 2**18})
    with pytest.raises(DataError, match="expands to more than"):
        parse_file(path)


def _small(self: object, path: Path, archive: zipfile.ZipFile) -> None:
    vars(self).update(path=path, archive=archive, left=2**16)


def test_every_kind_that_is_found_has_a_parser() -> None:
    assert set(PARSED_SUFFIXES) == set(_PARSERS)


def test_a_kind_that_is_not_read_names_the_way_out(write: Write) -> None:
    with pytest.raises(DataError, match=r"; convert it with 'pandoc FILE -o FILE\.md'"):
        find_sources(write("a.textile", "Text"))


def test_a_book_goes_through_the_child_process_too(tmp_path: Path) -> None:
    (document,) = load_documents([pack(tmp_path / "a.epub", BOOK)]).documents
    assert document.id == "a.epub"
