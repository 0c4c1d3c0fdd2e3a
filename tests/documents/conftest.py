"""Files of each format, made by the libraries that people make them with."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

Write = Callable[[str, str | bytes], Path]
WritePdf = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


@pytest.fixture
def write_pdf(tmp_path: Path) -> WritePdf:
    """Pages of paragraphs, each page with a header and its number when there is a header."""
    fpdf = pytest.importorskip("fpdf")

    def write_file(
        name: str, pages: Sequence[Sequence[str]], *, header: str = "", password: str = "", title: str = ""
    ) -> Path:
        pdf = fpdf.FPDF()
        pdf.set_creation_date(datetime(2025, 3, 4, tzinfo=UTC))
        if title:
            pdf.set_title(title)
            pdf.set_author("Mara Voss")
        if password:
            pdf.set_encryption(owner_password="owner", user_password=password)
        for number, paragraphs in enumerate(pages, start=1):
            pdf.add_page()
            pdf.set_font("helvetica", size=11)
            if header:
                pdf.text(20, 8, header)
                pdf.text(100, 290, f"Page {number} of {len(pages)}")
            for paragraph in paragraphs:
                pdf.multi_cell(80, 5, paragraph, new_x="LMARGIN", new_y="NEXT")
                pdf.ln(4)
        path = tmp_path / name
        pdf.output(str(path))
        return path

    return write_file
