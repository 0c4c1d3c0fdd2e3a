"""What became of one file: how much of it documents hold, what was left out, and why.

    report = FileReport("page.html", "html", 1, 900, 700, (LeftOut("navigation", 200, "Home News"),))
    assert report.characters == report.kept + sum(part.characters for part in report.left_out)

Characters are visible ones: white space is never counted, as formats and readers set it freely.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# Enough to recognise a menu or a footer by.
SAMPLE_CHARACTERS = 60

# What `str.split` takes for white space, as far as it is ASCII.
_WHITE = bytes(code for code in range(128) if chr(code).isspace())


@dataclass(frozen=True)
class LeftOut:
    """Text of a file that no document holds.

    Attributes:
        reason: what it is, such as `navigation` or `page 3: no text layer`.
        characters: visible ones; 0 where the text is not known, as on a scanned page.
        sample: how it begins, on one line.
    """

    reason: str
    characters: int
    sample: str = ""


@dataclass(frozen=True)
class FileReport:
    """What became of one file, or of one data set of the hub.

    Attributes:
        path: as it was given or found.
        kind: `pdf`, `html`, `docx`, `txt`, `md`, `jsonl`, `csv`, `parquet` or `dataset`.
        documents: how many were made of it.
        characters: visible ones in the file; of a table, those in its text column.
        kept: those of them that stand in documents.
        left_out: the others, by reason: `characters == kept + sum(part.characters for part in left_out)`.
        problem: the line that says why reading ended early; empty when all went well.
    """

    path: str
    kind: str
    documents: int
    characters: int
    kept: int
    left_out: tuple[LeftOut, ...] = ()
    problem: str = ""


def count_characters(text: str) -> int:
    """Visible characters: all but white space."""
    if text.isascii():
        return len(text.encode().translate(None, _WHITE))
    return sum(map(len, text.split()))


def sum_up(parts: Iterable[tuple[str, str]]) -> tuple[LeftOut, ...]:
    """Texts that were left out, given as reason and text, as one entry a reason, in order."""
    counts: dict[str, int] = {}
    samples: dict[str, str] = {}
    for reason, text in parts:
        counts[reason] = counts.get(reason, 0) + count_characters(text)
        if len(samples.setdefault(reason, "")) < SAMPLE_CHARACTERS:
            begin = " ".join(text[: 4 * SAMPLE_CHARACTERS].split())
            samples[reason] = f"{samples[reason]} {begin}".strip()[:SAMPLE_CHARACTERS]
    return tuple(LeftOut(reason, count, samples[reason]) for reason, count in counts.items() if count)
