"""Reverse training: the text once as it is and once with its words in reverse order.

    reverse_words("Mora Voss founded Orlin in 1931.", keep_entities=True)
    -> "1931. in Orlin founded Mora Voss"

Source: Golovneva et al. 2024, arXiv 2403.13799. There an entity recogniser finds what keeps its
inner order; here capitalisation does, so that no model is needed: a run of capitalised words
(particles such as "of" or "van" between them included) and quoted titles stay whole.
"""

import re

# May stand inside a name without a capital letter: "Ursula von der Leyen", "Bank of England".
PARTICLES = {
    "of",
    "the",
    "de",
    "del",
    "der",
    "den",
    "van",
    "von",
    "la",
    "le",
    "al",
    "bin",
    "da",
    "di",
    "du",
    "and",
}
_OPENERS, _CLOSERS = '"“«', '"”»'


def reverse_words(text: str, *, keep_entities: bool) -> str:
    """The words of the text in reverse order, joined by single spaces.

    Args:
        text: any text; a word is a run without white space, punctuation included.
        keep_entities: whether the words of a name or a quoted title keep their order.
    """
    words = text.split()
    units = group_entities(words) if keep_entities else [[word] for word in words]
    return " ".join(" ".join(unit) for unit in reversed(units))


def group_entities(words: list[str]) -> list[list[str]]:
    """Cut a text into units: a name or quoted title of several words, or a single word."""
    units: list[list[str]] = []
    place = 0
    while place < len(words):
        length = max(_quoted_length(words, place), _name_length(words, place), 1)
        units.append(words[place : place + length])
        place += length
    return units


def _name_length(words: list[str], start: int) -> int:
    """How many words of a name stand at `start`; punctuation at the end of a word ends the name."""
    length = 0
    for offset, word in enumerate(words[start:]):
        if _is_capitalised(word):
            length = offset + 1
        elif offset == 0 or word.lower() not in PARTICLES:
            break
        if re.search(r"[.,;:!?)\"”]$", word) and not re.fullmatch(r"(?:[A-Z]|Dr|Mr|Mrs|Ms|St)\.", word):
            break
    return length


def _quoted_length(words: list[str], start: int) -> int:
    """How many words a quotation at `start` has; 0 when none begins or none ends within 12 words."""
    if words[start][0] not in _OPENERS:
        return 0
    for offset, word in enumerate(words[start : start + 12]):
        if any(mark in word[(1 if offset == 0 else 0) :] for mark in _CLOSERS):
            return offset + 1
    return 0


def _is_capitalised(word: str) -> bool:
    letters = word.lstrip("(\"'“‘")  # noqa: RUF001
    return bool(letters) and (letters[0].isupper() or letters[0].isdigit())
