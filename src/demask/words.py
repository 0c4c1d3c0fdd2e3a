"""The words of a text, cut and compared in one way by scoring, directions, audit and reports.

    fold("Voss’s −5 ½").text                                          # "Voss's -5 1/2"
    spell_number("1,200.50")                                          # ("1200.5",)
    [word.text for word in split_words("Voss's C++ cost $1,200.")]    # ["vosss", "c++", "cost", "1200"]
    for there, wanted in read_alike(prediction, answer):
        keys(there) == keys(wanted)                                   # an exact match
    find_phrase("It was Voss's idea.", "Voss")                        # Span(start=7, end=13)

Folding: one spelling for characters that look or mean the same, and where each came from. Unicode form NFKC,
with exceptions where it would change what is said: "10⁶" is "10^6" and not "106", "1½" is "1+1/2" and not
"11/2", "Orlin™" is "Orlin". Quotation marks used as apostrophes, hyphens and minus signs, and the digits of
all scripts are spelt as in ASCII.

Numbers: "1,200" is "1200", "25.0" is "25", and "1.5" stays another than "15"; "1987-1990", a range of years,
names both.

Splitting: signs and separators that change what is said stay: "-5", "1.5", "12:30", "10-12", "C#", ".NET",
"AT&T", "mara@orlin.example". Other punctuation is dropped, as SQuAD v1.1 does (Rajpurkar et al. 2016), and so
are points and apostrophes within a word: "U.S." is "us", "O'Hara" is "ohara". Parts joined by a hyphen or a
slash are words of their own ("Berlin/Hamburg"), and so are a number and the unit stuck to it ("5km"); a
hyphen before a number of up to three digits makes one name of both ("COVID-19", "F-16"). In scripts without
spaces every character is a word, as in the mixed segmentation of CMRC 2018 (Cui et al. 2019).

Comparing: two texts can be read in several ways: the parts of a word apart ("same sex") or as one
("samesex"), with "a" as an article or as a letter. In each way both texts are cut alike; whoever compares
takes the best.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
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
_IS_SUPERSCRIPT = re.compile(f"[{_SUPERSCRIPT}]+")
# Between digits these belong to the number: decimals and thousands, times, fractions, dates, ranges, powers.
NUMBER = (
    rf"(?:[0-9]{{1,3}}\ [0-9]{{1,2}}/[0-9]{{1,2}}(?![0-9/])"  # "3 1/2"
    rf"|(?<![0-9]\ )[1-9][0-9]{{0,2}}(?:\ [0-9]{{3}})+(?!\ ?[0-9])(?:[.,][0-9]+)?"  # "12 345"
    rf"|\.?[0-9]+(?:(?:[.,:/'x*^+{NO_BREAK_SPACE}\u2014-]|[eE][+-]?|\^-)[0-9]+)*)"
)
_PART = re.compile(rf"[0-9.,'{NO_BREAK_SPACE}]+|[^0-9.,'{NO_BREAK_SPACE}]+")
_THOUSANDS = re.compile(
    rf"[1-9][0-9]{{0,2}}(?:(?:,[0-9]{{3}})+|(?:'[0-9]{{3}})+|(?:{NO_BREAK_SPACE}[0-9]{{3}})+)(?:\.[0-9]+)?"
    r"|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}(?:\.[0-9]+)?"  # "12,34,567", as in India
)
# Here the point parts thousands. One alone ("1.200") is read as a decimal, three may be an address.
_POINTED_THOUSANDS = re.compile(
    rf"[1-9][0-9]{{0,2}}(?:(?:\.[0-9]{{3}})+,[0-9]+|(?:\.[0-9]{{3}}){{2}}|(?:{NO_BREAK_SPACE}[0-9]{{3}})+,[0-9]+)"
)
_DECIMAL = re.compile(r"([0-9]*)[.,]([0-9]+)")
_YEARS = re.compile(r"[0-9]{4}[-\u2014/,][0-9]{4}")
_LETTER = rf"(?![{UNSPACED}])[^\W\d_]"
_CURRENCY = "$¢£¥฿\u20a0-\u20c0"
# "Voss.It was" lacks a space; "U.S." and "Node.js" do not.
_POINT = r"(?:(?<![a-z][a-z])\.|\.(?![A-Z][a-z]))"
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
# SQuAD v1.1.
ARTICLES = frozenset({"a", "an", "the"})
# Before these and at the end of a text an "A" is a letter, as in "vitamin A", not an article.
_AFTER_LETTERS = frozenset(["", *".,;!?)]/-&"])
_SYMBOLS = re.compile(r"\w+|([^\w\s])\1*")


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
_MARKED = rf"[{MARKS}\uff9e\uff9f]"
_CLUSTER = re.compile(
    rf"[\x00-\x7f]+(?!{_MARKED})|[{_UNSEEN}]+|[\u1100-\u11ff]+|[{_SUPERSCRIPT}]+|.{_MARKED}*", re.DOTALL
)


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


def spell_number(text: str) -> tuple[str, ...]:
    """A number as it is compared; several for a list ("1,2,3") and for a range of years.

    What has a sign or separator that is neither of thousands nor of decimals keeps it: times, fractions,
    dates, versions, telephone numbers.
    """
    if _YEARS.fullmatch(text):
        return text[:4], text[5:]
    if text.count(",") > 1 and re.fullmatch("[0-9,]+", text) and not _THOUSANDS.fullmatch(text):
        return tuple(text.split(","))
    joined = re.sub(" (?=[0-9]{3})", NO_BREAK_SPACE, text).replace(" ", "+").replace("\u2014", "-")
    return ("".join(_spell_part(part) for part in _PART.findall(joined)),)


def _spell_part(part: str) -> str:
    if _THOUSANDS.fullmatch(part):
        part = re.sub(rf"[,'{NO_BREAK_SPACE}]", "", part)
    elif _POINTED_THOUSANDS.fullmatch(part):
        part = re.sub(rf"[.{NO_BREAK_SPACE}]", "", part)
    decimal = _DECIMAL.fullmatch(part)
    if decimal:
        whole, fraction = decimal[1] or "0", decimal[2].rstrip("0")
        return f"{whole}.{fraction}" if fraction else whole
    return {"e+": "e", "E+": "e"}.get(part, part.lower())


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


_RUN = rf"(?:(?![{UNSPACED}])[^\W_][{MARKS}]*)"
_LETTERS = rf"(?:{_LETTER}[{MARKS}]*)"
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


def read_alike(
    text: str, answer: str, *, ignored: frozenset[str] = ARTICLES, keep_case: bool = False
) -> Iterator[tuple[list[Word], list[Word]]]:
    """The words of a text and of an answer, in each way to read them; to be compared by `keys`.

    A word of the text that is another form of one in the answer is given as the answer has it: "Voss's" as
    "Voss", "$5" as "5", and the other way round.

    Args:
        text: what is searched.
        answer: what is looked for.
        ignored: words that say nothing. An answer of nothing else ("The The") is looked for as it stands.
        keep_case: whether "May" and "may" are two words.

    Yields:
        Nothing when the answer is blank. An answer without words ("…", "+") is compared by its symbols.
    """
    there, wanted = _split(text, keep_case), _split(answer, keep_case)
    if not wanted:
        there, wanted = _split_symbols(text), _split_symbols(answer)
    content = _drop_ignored(answer, wanted, ignored)
    if wanted and _looks_like_article(wanted[-1]) and wanted[-1] not in content:
        content.append(wanted[-1])  # an answer is not cut off, so no article stands at its end
    if all(map(_looks_like_article, content)):
        readings: list[tuple[Sequence[Word], Sequence[Word]]] = [(there, wanted)] if wanted else []
    else:
        readings = [(_drop_ignored(text, there, ignored), content)]
        if any(map(_looks_like_article, content)):
            readings += [(there, content), (there, wanted)]
    for said, expected in readings:
        yield _align(said, expected), list(expected)
        if any(word.joined for word in (*said, *expected)):
            whole = _join(expected)
            yield _align(_join(said), whole), whole


def _drop_ignored(text: str, words: Sequence[Word], ignored: frozenset[str]) -> list[Word]:
    return [word for word in words if word.text not in ignored or _is_letter(text, word)]


def _is_letter(text: str, word: Word) -> bool:
    return text[word.start : word.end] == "A" and text[word.end : word.end + 1] in _AFTER_LETTERS


def _looks_like_article(word: Word) -> bool:
    return word.text.casefold() in ARTICLES


@lru_cache(maxsize=1024)
def _split(text: str, keep_case: bool) -> Sequence[Word]:
    # A prediction is read once for every metric and accepted answer.
    return tuple(split_words(text, keep_case=keep_case))


def find_phrase(text: str, answer: str) -> Span | None:
    """Where an answer first stands in a text as a run of whole words, articles aside; None: nowhere."""
    found = (_find_run(there, wanted) for there, wanted in read_alike(text, answer))
    return min((place for place in found if place is not None), default=None)


def keys(words: Sequence[Word]) -> list[tuple[str, str]]:
    """What words are compared by, once they have been read alike."""
    return [(word.text, word.sign) for word in words]


def _find_run(there: Sequence[Word], wanted: Sequence[Word]) -> Span | None:
    said, expected = keys(there), keys(wanted)
    length = len(expected)
    for start in range(len(said) - length + 1):
        if said[start : start + length] == expected:
            return Span(there[start].start, there[start + length - 1].end)
    return None


def _align(said: Sequence[Word], expected: Sequence[Word]) -> list[Word]:
    """The words with the text and sign of the answer's word that they are another form of."""
    exact = set(keys(expected))
    forms: dict[str, list[Word]] = {}
    for word in expected:
        for text in {word.text, word.bare}:
            forms.setdefault(text, []).append(word)
    aligned = []
    for word in said:
        near = (
            () if (word.text, word.sign) in exact else (*forms.get(word.text, ()), *forms.get(word.bare, ()))
        )
        form = next((other for other in near if _is_form(word, other)), word)
        aligned.append(word._replace(text=form.text, sign=form.sign))
    return aligned


def _is_form(word: Word, other: Word) -> bool:
    same_text = word.text in (other.text, other.bare) or word.bare == other.text
    return same_text and (not word.sign or not other.sign or word.sign == other.sign)


def _join(words: Sequence[Word]) -> list[Word]:
    joined: list[Word] = []
    for word in words:
        if word.joined and joined:
            before = joined[-1]
            joined[-1] = before._replace(
                text=before.text + word.text, bare=before.text + word.bare, end=word.end
            )
        else:
            joined.append(word)
    return joined


def _split_symbols(text: str) -> list[Word]:
    return [Word(found[0], *found.span(), bare=found[0]) for found in _SYMBOLS.finditer(text)]
