"""PDFs as they are set: columns, tables, listings, running heads, contents, glyphs without spaces."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from demask.documents.parsed import Parsed
from demask.documents.pdf_files import join_pages, parse_pdf
from demask.documents.pdf_furniture import drop_furniture
from demask.documents.pdf_lines import FIXED_PITCH, Line

Draw = Callable[[Callable[[Any], None]], Parsed]
WORDS = "river stone market bridge winter copper ladder garden signal harbour"


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    fpdf = pytest.importorskip("fpdf")

    def make(paint: Callable[[Any], None]) -> Parsed:
        pdf = fpdf.FPDF()
        pdf.set_font("Helvetica", size=11)
        paint(pdf)
        path = tmp_path / "a.pdf"
        pdf.output(str(path))
        return parse_pdf(path)

    return make


def put_rows(pdf: Any, rows: Sequence[Sequence[str]], step: float) -> None:
    pdf.add_page()
    for number, row in enumerate(rows):
        for column, text in enumerate(row):
            pdf.text(20 + step * column, 30 + 6 * number, text)


def test_columns_that_are_stored_row_by_row_are_read_one_after_the_other(draw: Draw) -> None:
    left = (
        "The Orlin works were founded by",
        "Mora Voss in 1932. They make brass",
        "door handles in Brask town.",
    )
    right = ("The Tellin bridge was designed by", "Ada Renn. It crosses the river Sarn", "and is 412 m long.")
    parsed = draw(lambda pdf: put_rows(pdf, list(zip(left, right, strict=True)), 95))
    assert parsed.text == f"{' '.join(left)}\n\n{' '.join(right)}"


def test_a_table_is_read_as_rows_that_name_their_columns(draw: Draw) -> None:
    rows = [
        ("Part", "Torque", "Due"),
        ("Axle bolt", "45 Nm", "6 months"),
        ("Hub nut", "120 Nm", "1 year"),
    ]
    parsed = draw(lambda pdf: put_rows(pdf, rows, 50))
    assert parsed.text == (
        "Part: Axle bolt; Torque: 45 Nm; Due: 6 months.\nPart: Hub nut; Torque: 120 Nm; Due: 1 year."
    )
    assert parsed.kept == sum(len(cell.replace(" ", "")) for row in rows for cell in row)


def test_words_that_are_set_apart_without_spaces_are_apart(draw: Draw) -> None:
    def paint(pdf: Any) -> None:
        pdf.add_page()
        place = 20.0
        for word in WORDS.split():
            pdf.text(place, 30, word)
            place += pdf.get_string_width(word) + 0.7  # mm: 0.18 of the height of a line

    assert draw(paint).text == WORDS


def test_a_listing_keeps_its_lines_and_indents_and_loses_its_numbers(draw: Draw) -> None:
    code = ["if ready:", "    start()", "    wait()", "stop()"]

    def paint(pdf: Any) -> None:
        pdf.add_page()
        pdf.text(20, 24, "The program waits as follows.")
        pdf.set_font("Courier", size=10)
        for number, line in enumerate(code, start=1):
            pdf.text(20, 30 + 6 * number, f"{number} {line}")

    parsed = draw(paint)
    assert parsed.text == "The program waits as follows.\n\n" + "\n".join(code)
    assert [part.reason for part in parsed.left_out] == ["numbers of code lines"]


def test_heads_of_odd_and_even_pages_and_of_chapters_are_left_out(draw: Draw) -> None:
    def paint(pdf: Any) -> None:
        for number in range(12):
            pdf.add_page()
            pdf.text(
                20,
                12,
                f"{number + 1}  Chapter {number // 2}: {'Odd' if number % 2 else WORDS.split()[number // 2]}",
            )
            for line in range(20):
                pdf.text(20, 40 + 5 * line, f"{WORDS} {number} {line}")

    parsed = draw(paint)
    assert "Chapter" not in parsed.text
    assert [part.reason for part in parsed.left_out] == ["running header or footer"]


def page(*texts: str) -> list[Line]:
    return [Line(text, 50, 300, 700 - 12 * n, 710 - 12 * n) for n, text in enumerate(texts)]


def test_contents_and_an_index_are_left_out_and_named() -> None:
    contents = page("Contents", *(f"{n}.1 Locks and keys . . . . . . . . {n}" for n in range(9)))
    text = page(*(f"{WORDS} {n}." for n in range(9)))
    index = page("Index", *(f"lock, {n}, {n + 9}" for n in range(9)))
    kept, dropped = drop_furniture([contents, text, index])
    assert [len(page) for page in kept] == [0, 9, 0]
    assert {reason for reason, _ in dropped} == {"table of contents", "index"}


ENTRIES = [f"{n}.1 Locks and keys . . . . . . . . {n}" for n in range(1, 30)]


def read_texts(*texts: str) -> list[str]:
    return [line.text for line in drop_furniture([page(*texts)])[0][0]]


def test_text_on_a_page_of_contents_is_kept() -> None:
    above = ["The lock package", "Mora Voss", "Abstract", "Locks keep doors shut, as", "keys open them"]
    below = ["1 Locks", "A lock has a bolt that moves.", "It is moved by a"]
    assert read_texts(*above, "Contents", *ENTRIES, *below) == [*above, *below]
    assert read_texts(*above[:-1], "them.", *ENTRIES) == [*above[:-1], "them."]  # the contents have no title
    assert read_texts("2 Doors 7", *ENTRIES[:9], "3 A title that is", "broken", *ENTRIES[9:]) == []


def test_entries_that_sentences_explain_are_no_contents() -> None:
    texts = [
        text
        for number, name in enumerate(WORDS.split())
        for text in (rf"\{name} . . . . . . . . . {number}", f"Sets the {name} of", "the page.")
    ]
    kept, dropped = drop_furniture([page(*texts)])
    assert [line.text for line in kept[0]] == [text.replace(" . . . . . . . . .", "") for text in texts]
    assert {reason for reason, _ in dropped} == {"dot leaders"}


def test_contents_with_dot_leaders_are_no_reason_for_a_warning(draw: Draw) -> None:
    def paint(pdf: Any) -> None:
        put_lines(pdf, (20, "Contents"), *((20, entry) for entry in ENTRIES))
        pdf.add_page()
        pdf.set_font("Helvetica", size=11)
        pdf.text(20, 30, f"{WORDS}.")

    contents = draw(paint).left_out[0]
    assert (contents.reason, contents.doubtful) == ("table of contents", len("Contents"))


def test_a_table_of_numbers_in_code_keeps_them() -> None:
    lines = [Line(f"{n} 0.{n}", 50, 90, 700 - 12 * n, 710 - 12 * n, (), "code") for n in range(1, 6)]
    kept, dropped = drop_furniture([lines])
    assert (kept, dropped) == ([lines], [])


def test_bookmarks_become_sections_where_their_headings_stand(draw: Draw) -> None:
    def paint(pdf: Any) -> None:
        for title in ("Locks", "Keys"):
            pdf.add_page()
            pdf.start_section(title)
            pdf.set_font("Helvetica", size=18)
            pdf.text(20, 30, title)
            pdf.set_font("Helvetica", size=11)
            pdf.text(20, 50, f"{WORDS}.")

    parsed = draw(paint)
    assert parsed.metadata["sections"] == [[0, 1, "Locks"], [parsed.text.index("Keys"), 1, "Keys"]]


def raise_number(pdf: Any, number: str) -> None:
    pdf.char_vpos = "SUP"
    pdf.write(6, number)
    pdf.char_vpos = "LINE"


def put_notes(pdf: Any) -> None:
    pdf.add_page()
    pdf.write(6, "The bridge stands at Orlin")
    raise_number(pdf, "1")
    pdf.write(6, " and has 40 m")
    raise_number(pdf, "2")
    pdf.write(6, " of deck.")
    pdf.ln(20)
    raise_number(pdf, "1")
    pdf.write(6, " See the map of Brask.")


def test_marks_of_footnotes_are_told_from_exponents(draw: Draw) -> None:
    text = draw(put_notes).text
    assert text == "The bridge stands at Orlin[1] and has 40 m2 of deck.\n\n[1] See the map of Brask."


def test_without_a_note_a_raised_number_stays_as_it_is(draw: Draw) -> None:
    def paint(pdf: Any) -> None:
        pdf.add_page()
        pdf.write(6, "It is 40 m")
        raise_number(pdf, "2")
        pdf.write(6, " large.")

    assert draw(paint).text == "It is 40 m2 large."


def put_lines(pdf: Any, *lines: tuple[float, str], font: str = "Helvetica", step: float = 6) -> None:
    """Lines below each other, each with where it begins; the first sign > stands for a fixed pitch."""
    if not pdf.page:
        pdf.add_page()
    for number, (left, text) in enumerate(lines):
        pdf.set_font("Courier" if text.startswith(">") else font, size=11)
        pdf.text(left, 30 + step * number, text.removeprefix(">"))


def test_a_listing_between_lines_of_text_is_a_paragraph_of_its_own(draw: Draw) -> None:
    lines = [
        (20.0, "To start the program without a window say"),
        (30.0, ">orlin --quiet"),
        (20.0, "and wait for it. The same is done by the command"),
        (20.0, ">orlin --silent"),
        (20.0, "which is older."),
    ]
    assert draw(lambda pdf: put_lines(pdf, *lines)).text == (
        "To start the program without a window say\n\norlin --quiet\n\n"
        "and wait for it. The same is done by the command orlin --silent which is older."
    )


def test_prose_between_two_names_of_a_fixed_pitch_is_no_listing(draw: Draw) -> None:
    def paint(pdf: Any) -> None:
        put_lines(pdf, (20, "The option is written as"))
        place = 20.0
        for font, text in (("Courier", "--a"), ("Helvetica", f"{WORDS} or as"), ("Courier", "--b")):
            pdf.set_font(font, size=11)
            pdf.text(place, 36, text)
            place += pdf.get_string_width(text) + 4
        pdf.set_font("Helvetica", size=11)
        pdf.text(20, 42, "and nothing else is.")

    parsed = draw(paint)
    assert parsed.text == f"The option is written as --a {WORDS} or as --b and nothing else is."


def test_terms_with_what_is_said_of_them_are_entries_and_no_rows(draw: Draw) -> None:
    rows = [
        ("-l", "List the process ids in addition to it"),
        ("", "and their parents."),
        ("-r", "Display only running jobs of the user."),
        ("-s", "Display only stopped jobs of the user."),
        ("-e", "Display only the jobs that have ended."),
    ]

    def paint_rows(pdf: Any) -> None:
        pdf.add_page()
        for number, row in enumerate(rows):
            for left, text in zip((20, 50), row, strict=True):
                if text:
                    pdf.text(left, 30 + 6 * number, text)

    assert draw(paint_rows).text.split("\n\n") == [
        "-l List the process ids in addition to it and their parents.",
        "-r Display only running jobs of the user.\n-s Display only stopped jobs of the user."
        "\n-e Display only the jobs that have ended.",
    ]


@pytest.mark.parametrize("mark", ["\u2022", "-", "{}."])
def test_entries_of_a_list_without_space_between_them_stand_apart(mark: str) -> None:
    texts = ["One lock.", "A lock that is made of brass.", "The last of them"]
    entries = [f"{mark.format(number)} {text}" for number, text in enumerate(texts, start=1)]
    lines = [
        place_line(0, 20, "They have these:"),
        *(place_line(number, 20, entry) for number, entry in enumerate(entries, start=1)),
        place_line(4, 30, "that is large."),
        place_line(5, 20, "All are locked"),
        place_line(6, 20, "at night."),
    ]
    assert join_pages([lines]).text.split("\n\n") == [
        "They have these:", *entries[:-1], f"{entries[-1]} that is large.", "All are locked at night.",
    ]  # fmt: skip


def place_line(number: int, left: float, text: str) -> Line:
    return Line(text, left, 300, 700 - 12 * number, 709 - 12 * number)


@pytest.mark.parametrize("font", ["CMSLTT10", "ABCDEF+SFST1000", "NimbusMonL-Regu", "LMMono10-Regular"])
def test_fonts_of_a_fixed_pitch_are_known_by_name(font: str) -> None:
    assert FIXED_PITCH.search(font)
    assert not FIXED_PITCH.search("LMMonoProp10-Regular")
