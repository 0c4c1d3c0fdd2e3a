"""How much of each file is trained, and what is not and why.

reader = read_documents("facts/")
documents, again = tee(reader)  # or a list
rows = measure_file_coverage(documents, iter_passages(again, ...), reader.reports)
rows[0].path, rows[0].share, rows[0].left_out
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from demask.documents.file_reports import FileReport, LeftOut, count_characters
from demask.records import Document, Passage

_PLACE_IN_FILE = re.compile(r" (?:line|row) \d+\Z")


class FileCoverage(NamedTuple):
    """One row of the table; characters are visible ones."""

    path: str
    characters: int  # in the file
    kept: int  # of them, in documents
    trained: int  # of those, in passages
    share: float  # trained / characters, in [0, 1]; 0.0 of a file without text
    left_out: tuple[LeftOut, ...]
    problem: str = ""


class _Count(NamedTuple):
    characters: int = 0  # of the documents
    covered: int = 0  # of them, in passages


def measure_file_coverage(
    documents: Iterable[Document], passages: Iterable[Passage], reports: Iterable[FileReport]
) -> list[FileCoverage]:
    """One row for each file, in the order of the reports.

    Where a document writes more than its file (a table's columns are named in every row), its trained
    characters count in proportion.

    Args:
        documents: read once, side by side with the passages.
        passages: of these documents, in their order; a document may have none.
        reports: of the files; read last, so that the live list of a reader may be given.

    Raises:
        ValueError: a passage belongs to no document, or passages are in another order.
    """
    counts: dict[str, _Count] = {}
    for document, texts in side_by_side(documents, passages):
        path = _PLACE_IN_FILE.sub("", document.source)
        before = counts.get(path, _Count())
        counts[path] = _Count(
            before.characters + count_characters(document.text),
            before.covered + count_covered(document.text, texts),
        )
    return [_make_row(report, counts.get(report.path, _Count())) for report in reports]


def count_covered(text: str, parts: Iterable[str]) -> int:
    """Visible characters of a text that stand in its parts, word for word, in order, without overlap."""
    covered = position = 0
    for part in parts:
        start = text.find(part, position)
        if start >= 0:
            position = start + len(part)
            covered += count_characters(part)
    return covered


def side_by_side(
    documents: Iterable[Document], passages: Iterable[Passage]
) -> Iterator[tuple[Document, Sequence[str]]]:
    """Each document with the texts of its passages."""
    groups = groupby(passages, key=lambda passage: passage.document_id)
    waiting = next(groups, None)
    for document in documents:
        texts: list[str] = []
        if waiting is not None and waiting[0] == document.id:
            texts = [passage.text for passage in waiting[1]]
            waiting = next(groups, None)
        yield document, texts
    if waiting is not None:
        raise ValueError(
            f"passages of {waiting[0]!r} have no document at their place, expected the same order"
        )


def _make_row(report: FileReport, count: _Count) -> FileCoverage:
    trained = round(report.kept * count.covered / count.characters) if count.characters else 0
    share = trained / report.characters if report.characters else 0.0
    return FileCoverage(
        report.path, report.characters, report.kept, trained, share, report.left_out, report.problem
    )
