"""Where a sentence of a document stands, for people: `rules.md line 4`, `manual.pdf page 3`.

file_of(document)                      # "facts.jsonl"
find_place(document, offset=120)       # "rules.md line 4"
"""

import re
from pathlib import Path

from demask.documents.load import page_of
from demask.documents.paths import TEXT_SUFFIXES
from demask.documents.text_files import read_text
from demask.errors import DataError
from demask.records import Document

_PLACE_IN_FILE = re.compile(r" (?:line|row) \d+\Z")


def file_of(document: Document) -> str:
    """The file or data set that a document comes from; empty when it does not say."""
    return _PLACE_IN_FILE.sub("", document.source)


def find_place(document: Document, offset: int = 0) -> str:
    """File and line, or page, of a character of a document's text.

    Args:
        document: as it was read.
        offset: of the character, from 0.

    Raises:
        ValueError: the text has no such character.
    """
    page = page_of(document, offset)
    source = document.source or f"document {document.id}"
    if _PLACE_IN_FILE.search(source):
        return source
    if page is not None:
        return f"{source} page {page}"
    if Path(source).suffix.lower() not in TEXT_SUFFIXES:
        return source
    return f"{source} line {1 + _lines_before(Path(source)) + document.text.count(chr(10), 0, offset)}"


def _lines_before(path: Path) -> int:
    """Blank lines that a file begins with, which its document does not have."""
    try:
        text = read_text(path)
    except DataError:  # it is gone
        return 0
    return text[: len(text) - len(text.lstrip())].count("\n")
