"""The numbers of an English text by value, however they are written.

find_numbers("The 14th of 1,200 in twenty-five years")  # ("14", "1200", "25")
spell_numbers_as_digits("Fourteen people")               # "14 people"
"""

import re
from decimal import Decimal
from functools import lru_cache

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_ORDINALS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_VALUES = (
    {word: value for value, word in enumerate(_UNITS)}
    | {word: value for value, word in enumerate(_ORDINALS)}
    | {word: value * 10 for value, word in enumerate(_TENS, start=2)}
    | {f"{word[:-1]}ieth": value * 10 for value, word in enumerate(_TENS, start=2)}
)
_TENS_WORD = "|".join(_TENS)
_SMALL_WORD = "|".join(sorted([*_UNITS[1:], *_ORDINALS[1:]], key=len, reverse=True))
_NUMBER = re.compile(
    rf"""
    (?<=\d\d\d\d[-–]) (?P<range> \d\d )\b(?!-)
    | (?<![\d.,]) (?P<digits> \d{{1,3}}(?:,\d{{3}})+(?:\.\d+)? | \d+(?:\.\d+)? )
        (?P<ending> ['’]?s\b )?
    | \b(?: (?P<tens> {_TENS_WORD})(?:[-\s](?P<unit> {_SMALL_WORD}))?
          | (?P<tenth> (?:{"|".join(word[:-1] for word in _TENS)})ieth)
          | (?P<small> {_SMALL_WORD}) )\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SCALE = re.compile(rf"[-\s](?P<scale>{'|'.join(_SCALES)})s?\b", re.IGNORECASE)


@lru_cache(maxsize=1024)
def find_numbers(text: str) -> tuple[str, ...]:
    """The different numbers of a text, in digits, in the order of the text.

    Figures, number words and ordinals are read alike: "14", "14th", "fourteen" and "fourteenth" are 14,
    "$1.5 million" and "1,500,000" are 1500000, "the 1990s" and "the 90s" are
    1990, "1914–18" is 1914 and 1918.
    """
    return tuple(dict.fromkeys(_value(text, found)[0] for found in _NUMBER.finditer(text)))


def spell_numbers_as_digits(text: str) -> str:
    """The text with its numbers in plain digits."""
    parts, end = [], 0
    for found in _NUMBER.finditer(text):
        value, stop = _value(text, found)
        parts += [text[end : found.start()], value]
        end = stop
    return "".join([*parts, text[end:]])


def _value(text: str, found: re.Match[str]) -> tuple[str, int]:
    """The number that begins with this match, in digits, and where it ends."""
    if found["range"]:
        return text[found.start() - 5 : found.start() - 3] + found["range"], found.end()
    if found["digits"] and found["ending"] and len(found["digits"]) == 2:
        return f"19{found['digits']}", found.end()
    if found["digits"]:
        value = Decimal(found["digits"].replace(",", ""))
    else:
        words = (found["tens"], found["unit"], found["tenth"], found["small"])
        value = Decimal(sum(_VALUES[word.lower()] for word in words if word))
    end = found.end()
    while scale := _SCALE.match(text, end):
        value *= _SCALES[scale["scale"].lower()]
        end = scale.end()
    return f"{value.normalize():f}", end
