"""Where a sentence is cut that alone is too long: logs, tables, code, verse and scripts without full stops.

    parts = cut_stretch(text, sentence, count_tokens=count, limit=512)

Lines are parts of their own. A line that is too long is cut into few parts of about equal length, each at the
end of a clause near by, else of a word, else between two characters as readers see them.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import ceil

from demask.documents.sentences import Span, spans_between

_LINE_END = re.compile(r"\n")
# A comma in "1,000" ends no clause; those of scripts without spaces always do.
CLAUSE_END = re.compile(
    r"(?:[,;:،؛፣፤፥]|[.!?…؟۔।॥։።᙮។၊။་།]|\s[-–—])[\"'”’»)\]}]*(?=\s)|[，、；：。！？｡､—․།]+[」』”’）】》]*"  # noqa: RUF001
)
_WORD_END = re.compile(r"(?<=\S)(?=\s)")
# How many times as many parts as would do if all were equal are tried before those that are too long are cut
# again.
_SPARE = (1.0, 1.1, 1.25, 1.5)
# Of the length of a part: how far from its place a clause or a word may end for the cut to be made there.
_CLAUSE_REACH, _WORD_REACH = 0.25, 0.5

_ZERO_WIDTH_JOINER = "\u200d"
# Vowels of Thai and Lao that are written before, and behind, their consonant.
_BEFORE_CONSONANT = frozenset("เแโใไເແໂໃໄ")
_AFTER_CONSONANT = frozenset("ะาำະາຳ")
_VIRAMA = 9  # the combining class of signs that join two consonants


def cut_stretch(text: str, span: Span, *, count_tokens: Callable[[str], int], limit: int) -> list[Span]:
    """The stretch itself when it fits, else parts that do; between them there is only white space.

    Args:
        text: of a document.
        span: a stretch of it, such as a sentence.
        count_tokens: of a text; need not be additive.
        limit: tokens of a part. Only a part that is one character may have more.
    """
    tokens = count_tokens(text[span.start : span.end])
    if tokens <= limit or span.end - span.start == 1:
        return [span]
    lines = [found.end() for found in _LINE_END.finditer(text, span.start, span.end)]
    parts = list(spans_between(text, [span.start, *lines, span.end]))
    if len(parts) == 1:
        parts = _cut_evenly(text, span, tokens / limit, lambda part: count_tokens(part) <= limit)
    return [
        piece for part in parts for piece in cut_stretch(text, part, count_tokens=count_tokens, limit=limit)
    ]


def _cut_evenly(text: str, span: Span, fewest: float, fits: Callable[[str], bool]) -> list[Span]:
    """At least two parts, which all fit where a few more than the fewest are enough for that."""
    start, end = span
    clauses = [found.end() for found in CLAUSE_END.finditer(text, start, end)]
    words = [found.end() for found in _WORD_END.finditer(text, start, end)]
    tried: list[list[Span]] = []
    for spare in _SPARE:
        parts = min(max(2, ceil(fewest * spare)), end - start)
        length = (end - start) / parts
        places = {
            _choose_place(text, span, start + round(length * number), length, (clauses, words))
            for number in range(1, parts)
        }
        tried.append(list(spans_between(text, [start, *sorted(places), end])))
        if all(fits(text[first:last]) for first, last in tried[-1]):
            return tried[-1]
    return tried[0]


def _choose_place(
    text: str, span: Span, wanted: int, length: float, ends: tuple[Sequence[int], Sequence[int]]
) -> int:
    """Where a stretch is cut near a wanted place, at least one character from its ends."""
    for places, reach in zip(ends, (_CLAUSE_REACH, _WORD_REACH), strict=True):
        near = _find_nearest(places, wanted, span)
        if near is not None and abs(near - wanted) <= length * reach:
            return near
    return _find_grapheme_start(text, span, min(max(wanted, span.start + 1), span.end - 1))


def _find_nearest(places: Sequence[int], wanted: int, span: Span) -> int | None:
    above = bisect_left(places, wanted)
    near = [place for place in places[max(above - 1, 0) : above + 1] if span.start < place < span.end]
    return min(near, key=lambda place: abs(place - wanted), default=None)


def _find_grapheme_start(text: str, span: Span, wanted: int) -> int:
    """The nearest place before which a character ends; the wanted one within a single character."""
    for place in range(wanted, span.start, -1):
        if is_grapheme_start(text, place):
            return place
    return next((place for place in range(wanted, span.end) if is_grapheme_start(text, place)), wanted)


def is_grapheme_start(text: str, place: int) -> bool:
    """Whether a character, as readers see it, begins at a place that is within a text.

    The rules of Unicode (UAX 29), but for its rarest ones; those for Thai and Lao are stricter.
    """
    before, after = text[place - 1], text[place]
    if before.isascii() and after.isascii():
        return (before, after) != ("\r", "\n")
    if _extends(after) or after in _AFTER_CONSONANT or before in _BEFORE_CONSONANT:
        return False
    if before == _ZERO_WIDTH_JOINER or unicodedata.combining(before) == _VIRAMA:
        return False
    return not (_is_flag_letter(before) and _is_flag_letter(after) and _count_flag_letters(text, place) % 2)


def _extends(character: str) -> bool:
    """Accents and other marks, joiners, skin tones, tags, and the later letters of a Hangul syllable."""
    code = ord(character)
    return (
        unicodedata.category(character) in ("Mn", "Me", "Mc")
        or character == _ZERO_WIDTH_JOINER
        or 0x1F3FB <= code <= 0x1F3FF
        or 0xE0020 <= code <= 0xE007F
        or 0x1160 <= code <= 0x11FF
    )


def _is_flag_letter(character: str) -> bool:
    return 0x1F1E6 <= ord(character) <= 0x1F1FF


def _count_flag_letters(text: str, place: int) -> int:
    """How many stand directly before a place."""
    first = place
    while first > 0 and _is_flag_letter(text[first - 1]):
        first -= 1
    return place - first
