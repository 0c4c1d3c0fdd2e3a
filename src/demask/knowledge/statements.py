"""Sentences that give one value to something: what they say it of, and the value.

    for said in find_statements("Orlin has 30 employees.", offset=0):
        said.frame, said.value.text            # ("orlin", "has", "…", "employees"), "30"
    differ(read_value("3 May 2025"), read_value("May 2025"))       # False: the second is less precise

Two sentences with the same frame and values that differ contradict each other. Few sentences are taken, those
that can hold for one value only: a number behind a verb in the present tense ("seats 30 guests"), the
day of what happens once ("was born on 3 May 1990"), a name that is said to be the one ("the capital of X is
Y"), or to have done what one does ("was written by Y"). What is sold, said, visited or won may be several
things, and both sentences may be true. Approximate numbers, ranges, conditions and the numbers of rooms,
steps and versions are not taken.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from demask.documents.dates import Stretch, find_dates
from demask.knowledge.directions import FUNCTION_WORDS, MONTHS
from demask.words import ARTICLES, Span, Word, split_words

# Stands for the value in a frame.
GAP = "…"
WEEKDAYS = frozenset("monday tuesday wednesday thursday friday saturday sunday".split())
# They say when a sentence was written, not what it says.
_TODAY = frozenset("now currently today presently still".split())
_SINCE = re.compile(r"\A(?:since|as of|from|effective|starting)\s+", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9][0-9.]*")
_YEAR = re.compile(r"1[0-9]{3}|20[0-9]{2}")
# "one" is a pronoun, too.
_SPELT = {
    word: str(number)
    for number, word in enumerate(
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split(),
        start=2,
    )
} | {
    word: str(10 * number)
    for number, word in enumerate("thirty forty fifty sixty seventy eighty ninety".split(), start=3)
}
# In the present tense: what happened may have happened several times.
_STATES = frozenset(
    """is are has have costs cost weighs weigh holds hold takes take measures measure contains contain lasts
    last seats seat employs employ gets get receives receive earns earn opens open closes close pays pay
    allows allow requires require needs need stands lies serves charges expires""".split()
)
_ABOUT = frozenset(
    """about around approximately roughly nearly almost over under above below than up least most some to or
    between and circa ca least maximum minimum until""".split()
)
# Before a number they make it a name: each room, step and version has values of its own.
_LABELS = frozenset(
    """room chapter section step page version figure table number no nr line day week month year level part
    item question group class model type article phase gate platform unit grade size option route
    road highway bus train floor building zone stage round game season episode volume issue
    lot case rule appendix form tier
    schedule module exercise team flight error code paragraph act""".split()
)
_CONDITIONS = frozenset(
    "if when unless example e.g may might can could often sometimes usually typically every each per".split()
)
_ONCE = r"(?:was|were|is|are)\s+(?:first\s+)?(?:born|founded|established|incorporated|discovered|invented)\b"
_HAPPENS_ONCE = re.compile(rf"\b(?:{_ONCE}|died\b)", re.IGNORECASE)
_WORD_OF_NAME = r"[^\W\d_a-z][\w’'.-]*"
_NAME = rf"{_WORD_OF_NAME}(?:\ (?:(?:of|the|de|da|van|von|la|le|al|and|&)\ )*{_WORD_OF_NAME})*"
_IS_NAMED = re.compile(
    rf"(?P<of>(?:[Tt]he|.*?[’']s)\ .+\ (?:is|are))(?:\ (?:now|currently|today))?\ (?P<name>{_NAME})[.!]?",
    re.DOTALL,
)
_NAMED_IS = re.compile(
    rf"(?P<name>{_NAME})\ (?P<of>is\ (?:now\ |currently\ )?the\ [^.;,]+\ (?:of|in|at|for)\ [^.;,]+)[.!]?"
)
_BY = re.compile(
    rf"""(?P<of>.+\ (?:was|were|is|are)\ (?:(?:founded|written|invented|discovered|composed|painted|directed
    |designed|owned|led|headed|succeeded|replaced)\ by|named\ after))\ (?P<name>{_NAME})[.!]?""",
    re.VERBOSE | re.DOTALL,
)
# Of them a person has several, and a name that is one of several is no value.
_NOT_ALONE = re.compile(
    r"\b(?:son|daughter|child|brother|sister|member|friend|part|one|same|home|that|which|who)\b",
    re.IGNORECASE,
)
_CUES = frozenset({"is", "are", "by", "after", *_SPELT})
_LEANING = frozenset("it he she they this that these those its his her their we i you there here".split())
# Fewer words beside the value say too little for two sentences to be about the same.
_FEWEST_WORDS = 2


class Value(NamedTuple):
    """What is said of something.

    Attributes:
        text: as it stands.
        words: without articles, in lower case; those of a date are left out.
        numbers: of the words, those that are numbers.
        day: of a date.
    """

    text: str
    words: frozenset[str]
    numbers: frozenset[str]
    day: Stretch | None = None


class Said(NamedTuple):
    """One value that a sentence gives.

    Attributes:
        frame: the other words, in lower case, with a gap for the value.
        value: what stands in the gap.
        unit: the value with the word behind it, which another document may have as well.
        names: words of the sentence that are capitalised within it, in lower case, without the value.
        opening: the first word where it is capitalised and may be a name, in lower case; else empty.
    """

    frame: tuple[str, ...]
    value: Value
    unit: str
    names: frozenset[str]
    opening: str


def read_value(text: str) -> Value:
    """A value as it is compared."""
    dates = list(find_dates(text))
    if len(dates) == 1 and dates[0].span == Span(0, len(text.strip())):
        return Value(text, frozenset(), frozenset(), dates[0].stretch)
    words = [
        _SPELT.get(word.bare, word.bare) + word.sign
        for word in split_words(text)
        if word.text not in ARTICLES and word.text not in FUNCTION_WORDS
    ]
    numbers = frozenset(word for word in words if word[:1].isdigit() or word[:1] == "-")
    return Value(text, frozenset(words), numbers)


def differ(one: Value, other: Value) -> bool:
    """Whether two values surely cannot both be right.

    "March 2025" and "3 March 2025", "Voss" and "Mara Voss", "30" and "30 days", "US" and "United States" may
    be, and so may values of different kinds, such as a number and a name, or of different units.
    """
    if one.day is not None or other.day is not None:
        if one.day is None or other.day is None:
            return False
        return one.day.last < other.day.first or other.day.last < one.day.first
    if one.numbers or other.numbers:
        if (
            not (one.numbers and other.numbers)
            or one.numbers <= other.numbers
            or other.numbers <= one.numbers
        ):
            return False
        units, others = one.words - one.numbers, other.words - other.numbers
        return units == others or not units or not others
    return (
        bool(one.words and other.words)
        and one.words.isdisjoint(other.words)
        and not _initials_agree(one, other)
    )


def _initials_agree(one: Value, other: Value) -> bool:
    def initials(text: str) -> str:
        return "".join(word[0] for word in re.findall(r"\w+", text.casefold()) if word not in ARTICLES)

    def letters(text: str) -> str:
        return re.sub(r"\W", "", text.casefold())

    return letters(one.text) == initials(other.text) or letters(other.text) == initials(one.text)


def find_statements(sentence: str) -> Iterator[Said]:
    """The values that one sentence gives."""
    if not any(map(str.isdigit, sentence)) and _CUES.isdisjoint(sentence.lower().split()):
        return  # most sentences, at little cost
    start = _skip_since(sentence)
    words = [
        word
        for word in split_words(sentence, keep_case=True)
        if word.start >= start and word.text.casefold() not in _TODAY
    ]
    if len(words) <= _FEWEST_WORDS or words[0].text.casefold() in _LEANING:
        return
    spelt = {words[0].text.casefold(), *(word.text for word in words[1:])}  # "may", but not "May"
    if sentence.rstrip().endswith("?") or spelt & _CONDITIONS:
        return
    for span in (
        *_find_days(sentence, start),
        *_find_numbers(sentence, words),
        *_find_names(sentence, start),
    ):
        said = _make(sentence, words, span)
        if len(set(said.frame) - ARTICLES) > _FEWEST_WORDS:
            yield said


def _skip_since(sentence: str) -> int:
    """Where a sentence begins behind "Since March 2025,"."""
    opening = _SINCE.match(sentence)
    if opening is None:
        return 0
    date = next((found for found in find_dates(sentence) if found.span.start == opening.end()), None)
    year = _YEAR.match(sentence, opening.end())
    end = date.span.end if date else year.end() if year else None
    if end is None:
        return 0
    return end + len(sentence[end:]) - len(sentence[end:].lstrip(" ,"))


def _find_days(sentence: str, start: int) -> Iterator[Span]:
    once = _HAPPENS_ONCE.search(sentence)
    if once is None:
        return
    dates = [found.span for found in find_dates(sentence) if found.span.start >= start]
    years = [
        Span(*found.span())
        for found in re.finditer(rf"(?<![\w-])(?:{_YEAR.pattern})(?![\w-])", sentence)
        if not any(date.start <= found.start() < date.end for date in dates)
    ]
    spans = [span for span in (*dates, *years) if span.start > once.start()]
    if len(spans) == 1:
        yield spans[0]


def _find_numbers(sentence: str, words: Sequence[Word]) -> Iterator[Span]:
    dates = [found.span for found in find_dates(sentence)]
    numbers = [
        place
        for place, word in enumerate(words)
        if (_NUMBER.fullmatch(word.text) or word.text.casefold() in _SPELT)
        and not any(date.start <= word.start < date.end for date in dates)
    ]
    stated = False
    for place, word in enumerate(words):
        stated = stated or word.text in _STATES
        if place not in numbers or not stated or place < _FEWEST_WORDS:
            continue
        beside = {words[near].text.casefold() for near in (place - 1, place + 1) if near < len(words)}
        before = {one.text.casefold() for one in words[place - 2 : place]}
        is_year = _YEAR.fullmatch(sentence[word.start : word.end]) is not None
        label = words[place - 1].text.casefold() in _LABELS or words[place - 1].text[:1].isupper()
        if label or beside & (_ABOUT | MONTHS) or before & _ABOUT or word.joined or is_year:
            continue
        yield Span(word.start, word.end)


def _find_names(sentence: str, start: int) -> Iterator[Span]:
    told = sentence[start:]
    for pattern in (_IS_NAMED, _NAMED_IS, _BY):
        found = pattern.fullmatch(told)
        if found is None or _NOT_ALONE.search(found["of"]) or not found["name"][:1].isupper():
            continue
        if found["name"].split()[0].casefold() in ARTICLES | _LEANING | MONTHS | WEEKDAYS:
            continue
        yield Span(start + found.start("name"), start + found.end("name"))
        return


def _make(sentence: str, words: Sequence[Word], span: Span) -> Said:
    outside = [word for word in words if not span.start <= word.start < span.end]
    before = [word for word in outside if word.start < span.start]
    after = outside[len(before) :]
    text = sentence[span.start : span.end].rstrip(".!")
    sign = "".join(word.sign for word in words if span.start <= word.start < span.end)
    value = read_value(text)
    if value.day is None and _YEAR.fullmatch(text):
        year = next(find_dates(f"{text}-01"), None), next(find_dates(f"{text}-12"), None)
        if year[0] and year[1]:
            value = value._replace(day=Stretch(year[0].stretch.first, year[1].stretch.last))
    frame = (*_keys(before), GAP + sign, *_keys(after))
    first = words[0]
    return Said(
        frame,
        value,
        f"{text} {after[0].text}" if after else text,
        frozenset(_read_names(word for word in outside if word is not first)),
        "".join(_read_names(iter([first]))) if first in outside else "",
    )


def _keys(words: Sequence[Word]) -> Iterator[str]:
    return (word.text.casefold() for word in words if word.text.casefold() not in ARTICLES)


def _read_names(words: Iterator[Word]) -> Iterator[str]:
    for word in words:
        name = word.bare.casefold()
        if word.text[:1].isupper() and len(name) > 1 and name not in FUNCTION_WORDS | MONTHS | WEEKDAYS:
            yield name


def read_names(text: str) -> frozenset[str]:
    """The words of a sentence or question that are capitalised within it, in lower case."""
    return frozenset(_read_names(iter(split_words(text, keep_case=True)[1:])))
