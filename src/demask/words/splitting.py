"""A text cut into the words by which texts are compared.

    [word.text for word in split_words("Voss's C++ cost $1,200.")]    # ["vosss", "c++", "cost", "1200"]

Signs and separators that change what is said stay: "-5", "1.5", "12:30", "10-12", "C#", ".NET", "AT&T",
"mara@orlin.example". Other punctuation is dropped, as SQuAD v1.1 does (Rajpurkar et al. 2016), and so are
points and apostrophes within a word: "U.S." is "us", "O'Hara" is "ohara". Parts joined by a hyphen or a slash
are words of their own ("Berlin/Hamburg"), and so are a number and the unit stuck to it ("5km"); a hyphen
before a number of up to three digits makes one name of both ("COVID-19", "F-16"). In scripts without spaces
every character is a word, as in the mixed segmentation of CMRC 2018 (Cui et al. 2019).
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from demask.words.folding import MARKS, NO_BREAK_SPACE, UNSPACED, Folded, fold
from demask.words.numbers import NUMBER, spell_number


class Word(NamedTuple):
    """A word as it is compared, and where it stands.

    Attributes:
        text: without case unless it was kept.
        start: of its first character in the text.
        end: behind its last character.
        bare: the text without a possessive ending or the v of a version: "voss" of "Voss's", which is another
            wording of the word; else the text.
        sign: currency, percent or degree of a number; "" when there is none. Two different signs make two
            different words, one that is missing does not.
        joined: whether it is the next part of the word before, as "sex" in "same-sex".
    """

    text: str
    start: int
    end: int
    bare: str
    sign: str = ""
    joined: bool = False


_LETTER = rf"(?![{UNSPACED}])[^\W\d_]"
_RUN = rf"(?:(?![{UNSPACED}])[^\W_][{MARKS}]*)"
_LETTERS = rf"(?:{_LETTER}[{MARKS}]*)"
_CURRENCY = "$¢£¥฿\u20a0-\u20c0"
# "Voss.It was" lacks a space; "U.S." and "Node.js" do not.
_POINT = r"(?:(?<![a-z][a-z])\.|\.(?![A-Z][a-z]))"
_TOKEN = re.compile(
    rf"""
    (?P<plain> [A-Za-z]+(?=[\s,;!?)]|[.:]\s|\Z) )  # most words, found ten times as fast
    | (?P<email> (?<![\w.+-])[A-Za-z0-9][\w.+-]{{0,63}}@[\w-]+(?:\.[\w-]+)+ )
    | (?P<scheme> \b[a-z]+:// )
    | (?P<number>
        (?P<minus> (?<![\w)\]"'%.+-])-(?=[{_CURRENCY}]?\.?[0-9]) )?
        (?P<before> [{_CURRENCY}]-?(?=\.?[0-9]) )?
        (?P<relation> (?<![\w>])[<>≤≥±](?=\.?[0-9]) )?
        (?: (?<![\w.])(?=\.) | (?=[0-9]) )
        (?P<digits> {NUMBER} )
        (?P<tail> (?:-(?={_LETTER}(?![\w-])))? {_LETTERS}{_RUN}*(?:\^-?[0-9]+)? | ['](?:s|S)\b
            | \+(?![\w+]) )?
        (?P<after> [ {NO_BREAK_SPACE}]?[%‰°] | [ {NO_BREAK_SPACE}]?[{_CURRENCY}](?!-?\.?[0-9]) )?
      )
    | (?P<grade> (?<!\w)[A-Z]{{1,2}}-(?![\w-]) )
    | (?P<word>
        (?: (?: (?<![^\s(\[*_“]) | (?<=[\s(]["']) | (?<=^["']) )\.(?={_LETTER}) )?
        {_RUN}+
        (?: (?: '(?![sS]\b) | & | {_POINT}(?<![0-9]\.) )(?={_LETTER}){_RUN}+ )*
        (?: -[0-9]{{1,3}}(?![0-9]){_RUN}* )*
        (?: (?<=[0-9])(?:\.[0-9]+)+ )?
        (?: \^-?[0-9]+ )?
        (?P<possessive> '[sS]\b )?
        (?: \+\+(?!\+) | \+(?![\w+]) | \#(?!{_LETTER}|\#) )?
      )
    | (?P<character> [{UNSPACED}][{MARKS}]* )
    | (?P<and> (?<=\s)&(?=\s) )
    """,
    re.VERBOSE,
)
_DECADE = re.compile(r"[0-9]{1,3}0")
_VERSION = re.compile(r"[vV](?=[0-9]+\.)")
# Written right behind a number; one letter alone only as it is usual, since "5M" and "5G" are no units.
_UNITS = frozenset(
    """nm um μm mm cm dm km ha ml cl dl hl mg kg kt lb lbs oz in ft yd mi ms min mins sec secs hr hrs am pm
    kmh kph mph hz khz mhz ghz kb mb gb tb kw mw gw kwh mwh kv kj kcal cal pa hpa kpa mpa db px usd eur gbp
    chf""".split()
)
_LETTER_UNITS = frozenset("mglLhWVCF")
_JOINING = frozenset("-/_")


def split_words(text: str, *, keep_case: bool = False) -> list[Word]:
    """The words of a text, in its order.

    Args:
        text: any.
        keep_case: whether "May" and "may" are two words.
    """
    folded = fold(text)
    words: list[Word] = []
    before = 0  # where the last word ends in the folded text
    for start, end, word in _read(folded.text):
        between = folded.text[before:start]
        joined = bool(words) and between in _JOINING and not _parts_numbers(folded, before, start)
        before = end
        place = folded.span(start, end)
        spelt = word if keep_case else word._replace(text=word.text.casefold(), bare=word.bare.casefold())
        words.append(spelt._replace(start=place.start, end=place.end, joined=joined))
    return words


def _parts_numbers(folded: Folded, before: int, start: int) -> bool:
    """Whether digits stand on both sides: "1987-1990" is not "19871990"."""
    return folded.text[before - 1].isdigit() and folded.text[start].isdigit()


def _read(text: str) -> Iterator[tuple[int, int, Word]]:
    """Words with their places in a folded text; their places in the original are filled in later."""
    for found in _TOKEN.finditer(text):
        start, end = found.span()
        match found.lastgroup:
            case "number":
                yield from _read_number(found)
            case "word":
                yield start, end, _read_word(found)
            case "and":
                yield start, end, _word("and")
            case "scheme":
                continue
            case _:
                yield start, end, _word(found[0])


def _read_word(found: re.Match[str]) -> Word:
    text = found[0]
    head, tail = (".", text[1:]) if text.startswith(".") else ("", text)
    spelt = _without_points(tail)
    bare = spelt
    if found["possessive"]:
        bare = _without_points(tail[: tail.rindex("'")])
    elif _VERSION.match(tail):
        bare = spelt[1:]
    return _word(head + spelt, bare=head + bare)


def _without_points(word: str) -> str:
    """Points and apostrophes go, and hyphens before numbers; the points of a version stay."""
    return re.sub(r"\.(?![0-9])|'|-(?=[0-9])(?<!\^-)", "", word)


def _read_number(found: re.Match[str]) -> Iterator[tuple[int, int, Word]]:
    """A number with its sign, or with its unit as a word of its own; each number of a list or a range."""
    before, after, tail = found["before"] or "", found["after"] or "", _read_tail(found)
    sign = (before or after).strip("- " + NO_BREAK_SPACE)
    prefix = ("-" if found["minus"] or before.endswith("-") else "") + (found["relation"] or "")
    *others, last = spell_number(found["digits"])
    start = found.start()
    for number in others:
        start = max(start, found.start("digits"))
        yield start, start + len(number), _word(prefix + number)
        start, prefix = start + len(number) + 1, ""
    if tail and not before and _is_unit(tail):
        cut = found.start("tail")
        yield start, cut, _word(prefix + last)
        yield cut, found.end(), _word(tail)
    else:
        yield start, found.end(), _word(prefix + last + tail, sign=sign)


def _read_tail(found: re.Match[str]) -> str:
    """What is written onto a number: "the 1990's" are the "1990s", but "1931's" is a possessive."""
    tail: str = found["tail"] or ""
    if tail.startswith("'"):
        return "s" if _DECADE.fullmatch(found["digits"]) else ""
    return tail.removeprefix("-")


def _is_unit(tail: str) -> bool:
    letters = tail.partition("^")[0]
    return letters in _LETTER_UNITS or letters.casefold() in _UNITS


def _word(text: str, *, bare: str = "", sign: str = "") -> Word:
    return Word(text, 0, 0, bare or text, sign)
