"""Where a text may be cut: at the ends of sentences, and within a sentence that alone is too long.

    for start, end in find_sentences(text):
        text[start:end]
    parts = cut_stretch(text, sentence, count_tokens=count, limit=512)

The rules rather miss the end of a sentence (after "Mr." or "J.") than see one that is none: a missed end only
makes a longer sentence, a wrong one makes a passage that starts halfway through.

Logs, tables, code, verse and scripts without full stops have sentences that are too long. Their lines are
parts of their own. A line that is too long is cut into few parts of about equal length, each at the end of a
clause near by, else of a word, else between two characters as readers see them.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from math import ceil

from demask.words import Span

# No sentence ends with one of these.
_TITLES = re.compile(
    r"dr|mr|mrs|ms|messrs|prof|sen|rep|gov|gen|col|lt|sgt|capt|cmdr|adm|maj|rev|hon|pres|vs|cf|viz",
    re.IGNORECASE,
)
# No sentence ends with one of these unless a word of `_STARTERS` follows.
_ABBREVIATIONS = re.compile(
    r"st|ste|mt|ft|ave|blvd|rd|jr|sr|esq|inc|ltd|co|corp|bros|dept|univ|assn|est|etc|al|approx|ca|ibid|resp|incl|excl"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec",
    re.IGNORECASE,
)
_STARTERS = re.compile(
    r"the|this|that|these|those|its?|he|she|they|his|her|their|we|our|you|your|i|there|then|when|while|after|before"
    r"|although|however|in|on|at|as|but|if|for|from|since|and|so|to|by|with",
    re.IGNORECASE,
)
# No sentence ends with one of these when a number follows: "No. 5", but "She said no. Five left."
_BEFORE_NUMBERS = re.compile(r"nos?|nr|figs?|pp?|vols?|ch|chap|sect?|art|eqs?|par", re.IGNORECASE)
_LETTERS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")  # U.S, e.g
_LIST_NUMBER = re.compile(r"(?:\A|\n)[ \t]*\d{1,3}\Z")
_LAST_WORD = re.compile(r"[\w.]*\Z")
_NEXT_WORD = re.compile(r"\s+[^\w\s]*(?P<word>\w*)")
_WORD_WINDOW = 24  # characters; longer than any abbreviation
_MARK = r"(?:[-*+•]|\#{1,6}|\d{1,3}[.)]|\|)[ \t]"  # of a list item, a heading, a table row
_ENDS = re.compile(
    rf"""
      (?P<line> ^(?:\#{{1,6}}[ \t] | \|)[^\n]* $ )
    | (?P<stop> [.!?…؟۔।]+ ) (?: [\"'”“’»«)\]*_`] | [ \u00a0\u202f]» | \[\d+\] )* (?=\s)
    | (?P<cjk> [。！？｡]+ [」』”’）】》]* )
    | (?P<break> \n (?= [ \t]*\n | [ \t]*{_MARK} ) )
    """,  # noqa: RUF001 (stops and quotes of many scripts)
    re.VERBOSE | re.MULTILINE,
)
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


def find_sentences(text: str) -> list[Span]:
    """Where the sentences of a text stand; between them there is only white space.

    Sentences end at a full stop, question or exclamation mark, with the quotes and brackets that
    close after it; at CJK full stops; at blank lines; before list items; and around headings and
    table rows.
    """
    ends = (found.end() for found in _ENDS.finditer(text) if _ends_sentence(text, found))
    return list(spans_between(text, [0, *ends, len(text)]))


def spans_between(text: str, places: Iterable[int]) -> Iterator[Span]:
    """The stretches between places that rise, without the white space at their ends; blank ones are none."""
    for start, end in pairwise(places):
        words = text[start:end]
        if words and not words.isspace():
            yield Span(start + len(words) - len(words.lstrip()), start + len(words.rstrip()))


def _ends_sentence(text: str, found: re.Match[str]) -> bool:
    stop = found["stop"]
    if not stop:
        return True
    following = _NEXT_WORD.match(text, found.end())
    next_word = following["word"] if following else ""
    if next_word[:1].islower():
        return False
    if stop != ".":
        return True
    before = text[max(0, found.start() - _WORD_WINDOW) : found.start()]
    last_word = _LAST_WORD.findall(before)[0]
    if _TITLES.fullmatch(last_word) or _LIST_NUMBER.search(before):
        return False
    if _BEFORE_NUMBERS.fullmatch(last_word):
        return not next_word[:1].isdigit()
    initial = len(last_word) == 1 and last_word.isupper()
    if initial or _ABBREVIATIONS.fullmatch(last_word) or _LETTERS.fullmatch(last_word):
        return _STARTERS.fullmatch(next_word) is not None
    return True


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
