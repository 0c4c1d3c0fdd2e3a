"""Names that a text says and its source does not.

    find_invented_names("Mara Voss founded Orlin.", "Orlin was founded by Mara Stone.")  # ["Stone"]

A name is a word that is capitalised within a sentence. The first word of a sentence is capitalised anyhow
and counts only with a possessive: "Orlin's mayor".
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from demask.knowledge.paraphrasing.numbers import find_numbers

WORD = re.compile(r"[^\W_]+(?:['’.&][^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s?\Z")
# Capitalised in any English text.
_NO_NAMES = frozenset("i i'm i've i'd i'll mr mrs ms dr sir ad bc ce bce am pm ok".split())
_NO_OWNERS = frozenset("it that there let what who he she here today yesterday everyone one".split())
# Names of one country that do not begin alike.
_KIN = [
    frozenset(names.split())
    for names in (
        "france french, britain british uk kingdom england english, america american us usa states, "
        "switzerland swiss, denmark danish, finland finnish, netherland netherlands dutch holland, "
        "poland polish, spain spanish, greece greek, turkey turkish, ireland irish, sweden swedish, "
        "scotland scottish, wale wales welsh, eu europe european"
    ).split(",")
]
# "Germany" and "German", "Zorgon" and "Zorgonian" begin alike.
_SAME_NAME_LETTERS = 4


class _Words(NamedTuple):
    """The words of a text in the form in which they are compared."""

    all: tuple[str, ...]
    known: frozenset[str]
    beginnings: frozenset[str]
    initials: str  # first letters of all words, in which abbreviations are looked up
    abbreviations: frozenset[str]


def find_invented_names(source: str, paraphrase_text: str) -> list[str]:
    """The names of a paraphrase that the source does not know in any form, each once.

    Forms of one name are "German" for Germany, "France's" for French, "EU" for European Union.
    """
    known = _read_words(source)
    invented = [name for run in _capitalised_runs(paraphrase_text) for name in _unknown_names(run, known)]
    return list(dict.fromkeys(invented))


def singular(word: str) -> str:
    """The word as it is compared: without case, possessive, dots and the s of a plural."""
    plain = _POSSESSIVE.sub("", word.casefold()).replace(".", "").replace("’", "'")
    return plain[:-1] if len(plain) > 3 and plain.endswith("s") and not plain.endswith("ss") else plain


@lru_cache(maxsize=64)
def _read_words(text: str) -> _Words:
    raw = WORD.findall(text)
    words = tuple(singular(word) for word in raw)
    return _Words(
        words,
        frozenset(words),
        frozenset(word[:_SAME_NAME_LETTERS] for word in words if len(word) >= _SAME_NAME_LETTERS),
        "".join(word[0] for word in words if word),
        frozenset(singular(word) for word in raw if _is_abbreviation(word)),
    )


def _capitalised_runs(text: str) -> Iterator[list[str]]:
    """Names that stand side by side, as a source may have them abbreviated."""
    run: list[str] = []
    end = 0
    for found in WORD.finditer(text):
        between, first, end = text[end : found.start()], end == 0, found.end()
        begins = _starts_sentence(between, first) and not _is_initial_name(found[0])
        named = found[0][0].isupper() and not begins
        if run and (between != " " or not named):
            yield run
            run = []
        if named:
            run.append(found[0])
    if run:
        yield run


def _starts_sentence(between: str, first: bool) -> bool:
    return first or any(mark in between for mark in '.!?:;\n"“‘(*•…') or between in (" - ", " – ", " — ")  # noqa: RUF001 (a quote)


def _is_initial_name(word: str) -> bool:
    plain = _POSSESSIVE.sub("", word)
    return plain != word and plain.casefold() not in _NO_OWNERS


def _unknown_names(run: Sequence[str], known: _Words) -> list[str]:
    if "".join(word[0] for word in run).casefold() in known.abbreviations:
        return []
    return [word for word in run if not _is_known(word, known)]


def _is_known(name: str, known: _Words) -> bool:
    plain = singular(name)
    return (
        plain in known.known
        or plain in _NO_NAMES
        or plain in _NO_OWNERS
        or bool(find_numbers(plain))
        or plain[:_SAME_NAME_LETTERS] in known.beginnings
        or (len(plain) > 1 and _is_abbreviation(name) and plain in known.initials)
        or any(plain in kin and kin & known.known for kin in _KIN)
    )


def _is_abbreviation(word: str) -> bool:
    return _POSSESSIVE.sub("", word).replace(".", "").isupper()
