"""Write the handbook of docs/tutorial.md, one file of each kind that people keep manuals in.

    python scripts/make_handbook.py docs/handbook

Needs fpdf2 and python-docx (extra `dev`). The company is invented.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from docx import Document
from fpdf import FPDF

# So that the same files come out on any day.
MADE = datetime(2026, 3, 2, tzinfo=UTC)

WELCOME = """\
# Welcome to Brackwater Instruments

Martha Lindberg founded Brackwater Instruments in Bergen in 1987.
Thomas Okafor has led Brackwater Instruments since 2014.
"""

TOOLS = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Tools and workshops</title>
<meta name="author" content="Brackwater Instruments">
<meta property="article:published_time" content="2026-03-02">
<style>nav { float: left }</style>
<script>console.log("not for training")</script>
</head>
<body>
<nav><ul>
<li><a href="/">Home</a></li><li><a href="/people">People</a></li><li><a href="/menu">Canteen</a></li>
</ul></nav>
<main><article>
<h1>Tools and workshops</h1>
<p>Peter Olsen bought the Marlow lathe for Brackwater Instruments in 2003.
Henry Dahl opened the north workshop in Stavanger in 1994.</p>
<table>
<tr><th>Tool</th><th>Room</th><th>Booked with</th></tr>
<tr><td>Marlow lathe</td><td>north workshop</td><td>Peter Olsen</td></tr>
<tr><td>Pressure chamber</td><td>south workshop</td><td>Henry Dahl</td></tr>
</table>
</article></main>
<footer><p>Brackwater Instruments intranet. Imprint. Cookies.</p></footer>
</body>
</html>
"""

TRAVEL = [
    "Nora Castle has led the travel desk of Brackwater Instruments since 2021.",
    "The Lisbon office of Brackwater Instruments is run by David Ferreira.",
]

SAFETY = [
    "Susan Holmgren gave the Florvik lighthouse to Brackwater Instruments in 1998.",
    "Victor Hansen trained the divers of Brackwater Instruments in Scotland in 2008.",
    "Irene Novak installed the quay siren of Brackwater Instruments in 2016.",
]


class _Manual(FPDF):
    """Pages with the running header and the page number that manuals have."""

    def header(self) -> None:
        self.set_font("helvetica", size=9)
        self.cell(0, 8, "Brackwater Instruments - Safety at the quay", new_x="LMARGIN", new_y="NEXT")

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("helvetica", size=9)
        self.cell(0, 8, f"Page {self.page_no()}")


def write_handbook(folder: Path) -> None:
    """Four files, each in its own format."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "welcome.md").write_text(WELCOME, encoding="utf-8")
    (folder / "tools.html").write_text(TOOLS, encoding="utf-8")
    travel = Document()
    travel.core_properties.title, travel.core_properties.author = "Travel", "Brackwater Instruments"
    travel.core_properties.created = travel.core_properties.modified = MADE.replace(tzinfo=None)
    travel.add_heading("Travel", level=1)
    for paragraph in TRAVEL:
        travel.add_paragraph(paragraph)
    travel.save(str(folder / "travel.docx"))
    safety = _Manual()
    safety.set_title("Safety at the quay")
    safety.set_creation_date(MADE)
    for paragraph in SAFETY:
        safety.add_page()
        safety.set_font("times", size=12)
        safety.multi_cell(0, 7, paragraph)
    safety.output(str(folder / "safety.pdf"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    write_handbook(parser.parse_args().folder)
