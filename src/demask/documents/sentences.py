"""Where the sentences of a text stand.

    for start, end in find_sentences(text):
        text[start:end]

The rules rather miss an end (after "Mr." or "J.") than see one that is none: a missed end only makes a longer
sentence, a wrong one makes a passage that starts halfway through.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

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


class Span(NamedTuple):
    """A stretch of a text, without white space at its ends."""

    start: int
    end: int


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
