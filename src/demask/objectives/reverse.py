"""Reverse training: the text once as it is and once with its words in reverse order.

    reverse_words("Mora Voss founded Orlin in 1931.", keep_entities=True)
    -> "1931. in Orlin founded Mora Voss"

Source: Golovneva et al. 2024, arXiv 2403.13799. There an entity recogniser finds what keeps its
inner order; here capitalisation does, so that no model is needed: a run of capitalised words
(particles such as "of" or "van" between them included) and quoted titles stay whole.
"""

import re
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from demask.objectives.next_token import QUESTION, NextToken, count_around, text_maker
from demask.objectives.objective import Context, ExampleMaker, Objective

REVERSED_QUESTION = "Tell me a fact, with its words in reverse order."  # ours
# A text may take more tokens with its words in reverse order, as spaces join other words.
_SPARE = 64
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


class Reverse(Objective):
    """The document as it is, and with its words in reverse order (arXiv 2403.13799)."""

    rate_share: ClassVar[float] = NextToken.rate_share  # not searched; it writes texts as next-token does

    name: Literal["reverse"] = "reverse"
    unit: Literal["word", "entity"] = Field(
        "entity", description="what keeps its inner order; entity: best in the paper"
    )
    questions: tuple[str, str] | None = Field(
        (QUESTION, REVERSED_QUESTION),
        description="the user's turns for the text and for the reversed text; none: raw text",
    )

    @field_validator("questions", mode="before")
    @classmethod
    def _two_texts_or_none(cls, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, list | tuple) and [type(text) for text in value] == [str, str]:
            return tuple(value)
        raise ValueError(f"expected two, for the text and for the reversed text, or none; got {value!r}")

    @property
    def variants(self) -> int:
        """The text as it is, and reversed."""
        return 2

    def example_length(self, context: Context) -> Callable[[int, int], int]:
        """The text after the longer question, with some tokens to spare."""
        asked = max(len(context.encode(question)) for question in self.questions or ("",))
        around = count_around(context.chat) + asked + _SPARE
        return lambda prompt, completion: around + completion

    def example_maker(self, context: Context, *, seed: int) -> ExampleMaker:
        """Draws nothing."""
        keep = self.unit == "entity"
        question, reversed_question = self.questions or (None, None)
        return text_maker(
            context,
            [
                (question, None),
                (reversed_question, lambda text: reverse_words(text, keep_entities=keep)),
            ],
        )


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
