"""One spelling for characters that look or mean the same, and where each came from.

    folded = fold("Voss’s −5 ½")
    folded.text          # "Voss's -5 1/2"
    folded.span(0, 4)    # Span(start=0, end=4), in the original

Unicode form NFKC, with exceptions where it would change what is said: "10⁶" is "10^6" and not "106",
"1½" is "1+1/2" and not "11/2", "Orlin™" is "Orlin". Quotation marks used as apostrophes, hyphens and minus
signs, and the digits of all scripts are spelt as in ASCII.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

# Scripts that put no space between words: Thai and Lao, Myanmar, Khmer, kana, Han.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# Where a name may begin and end in a text: at another word, or anywhere between characters of these scripts.
WORD_START, WORD_END = rf"(?<![^\W{UNSPACED}])", rf"(?![^\W{UNSPACED}])"
# Stands for a space that keeps a line together, as between the digits of "1 200"; white space to `re`.
NO_BREAK_SPACE = "\x1f"


# Where combining marks stand; looking through all of Unicode takes ten times as long.
_MARK_BLOCKS = ((0x300, 0x3100), (0xA600, 0xAC00), (0xFB1E, 0xFB1F), (0xFE20, 0xFE30), (0x10A00, 0x12000))


def _mark_ranges() -> Iterator[str]:
    """The combining marks (Unicode category M), as ranges for a class of characters."""
    places = (
        place
        for block in _MARK_BLOCKS
        for place in range(*block)
        if unicodedata.category(chr(place)).startswith("M")
    )
    for _, run in groupby(enumerate(places), lambda item: item[1] - item[0]):
        found = [place for _, place in run]
        yield f"{chr(found[0])}-{chr(found[-1])}"


MARKS = "".join(_mark_ranges())

_REPLACED = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201b\u2032\u02bb\u02bc\u00b4`\uff07", "'"),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"),
        **dict.fromkeys("\u2014\u2015\u2e3a\u2e3b", "\u2014"),
        **dict.fromkeys("\u00a0\u2007\u2009\u202f", NO_BREAK_SPACE),
        # NFKC would make letters of the first, and "1.5" of an ellipsis between digits.
        **dict.fromkeys("\u2122\u2120\u00ae\u00a9\u2116\u2026\u2025\u30fb\u30a0\uff65\u200b", " "),
        **dict.fromkeys("\u2044\u2215", "/"),
        "\u2033": '"',
        "\u00d7": "x",
        "\u066b": ".",
        "\u066c": ",",
    }
)
# Soft hyphen, joiners, directions of writing, tatweel, variation selectors: seen by nobody.
_UNSEEN = (
    "\u00ad\u200c-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u0640\ufe00-\ufe0f\U000e0100-\U000e01ef"
)
_UNUSUAL = re.compile(rf"[{_UNSEEN}]|(?![0-9])\d")
# What NFKC may compose: conjoining Hangul, and a character with its marks; superscripts come as a run.
_SUPERSCRIPT = "\u207a\u207b\u00b2\u00b3\u00b9\u2070\u2074-\u2079"
_MARKED = rf"[{MARKS}\uff9e\uff9f]"
_CLUSTER = re.compile(
    rf"[\x00-\x7f]+(?!{_MARKED})|[{_UNSEEN}]+|[\u1100-\u11ff]+|[{_SUPERSCRIPT}]+|.{_MARKED}*", re.DOTALL
)
_IS_SUPERSCRIPT = re.compile(f"[{_SUPERSCRIPT}]+")


class Span(NamedTuple):
    """Characters `start` up to and without `end` of a text."""

    start: int
    end: int


class Folded(NamedTuple):
    """A text with one spelling.

    Attributes:
        text: the folded text.
        starts: where each of its characters began in the original; None: all stand where they stood.
        ends: where it ended.
    """

    text: str
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None

    def span(self, start: int, end: int) -> Span:
        """Where characters `start` to `end` of the folded text stand in the original."""
        if self.starts is None or self.ends is None:
            return Span(start, end)
        return Span(self.starts[start], self.ends[end - 1])


def fold(text: str) -> Folded:
    """Spell a text as the module says; case and accents stay."""
    if text.isascii() and "`" not in text:
        return Folded(text)
    replaced = text.translate(_REPLACED)  # one character for one, so that all stay in their places
    if unicodedata.is_normalized("NFKC", replaced) and not _UNUSUAL.search(replaced):
        return Folded(replaced)
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for found in _CLUSTER.finditer(replaced):
        start, end = found.span()
        if found[0].isascii():
            pieces.append(found[0])
            starts.extend(range(start, end))
            ends.extend(range(start + 1, end + 1))
            continue
        piece = _fold_cluster(found[0], after_digit=bool(pieces) and pieces[-1][-1:].isdigit())
        if piece:
            pieces.append(piece)
            starts += [start] * len(piece)
            ends += [end] * len(piece)
    return Folded("".join(pieces), starts, ends)


def _fold_cluster(cluster: str, *, after_digit: bool) -> str:
    if _UNUSUAL.match(cluster) and not cluster[0].isdecimal():
        return ""
    folded = unicodedata.normalize("NFKC", cluster).translate(_REPLACED)
    if _IS_SUPERSCRIPT.fullmatch(cluster):
        return f"^{folded}"
    if len(cluster) == 1 and unicodedata.decomposition(cluster).startswith("<fraction>"):
        return f"+{folded}" if after_digit else folded
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in folded)
