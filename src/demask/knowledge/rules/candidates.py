"""What the rules write: questions with their answers, and when one may pass.

candidate = Candidate("Who founded Orlin?", ("Mara Voss",), "who", "backward", quality=3.0)
is_sound(candidate)  # True: neither too long, nor with its answer in it
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from demask.knowledge.directions import is_same_word
from demask.records import Direction

if TYPE_CHECKING:
    from spacy.tokens import Token

# Fewest anchors (see `count_anchors`) that a question must have; fewer fit too many facts.
FEWEST_ANCHORS = 2.75
# What the day adds that a text is headed with.
DAY_ANCHORS = 1.5
LONGEST_QUESTION = 36  # words


class Candidate(NamedTuple):
    """A question that the rules can write."""

    question: str
    answers: tuple[str, ...]
    kind: str
    direction: Direction
    quality: float  # the anchors that it has, more for kinds that read well; higher is better


def is_sound(candidate: Candidate) -> bool:
    """Whether a question is short enough and has neither its answer in it nor the answer's longest word.

    That word may not stand there in another form either: "Lebanese" gives "Lebanon" away.
    """
    question = candidate.question.lower()
    words = re.findall(r"\w+", question)
    for answer in candidate.answers:
        longest = max(re.findall(r"\w+", answer.lower()), key=len, default="")
        if any(is_same_word(longest, word) for word in words) or answer.lower() in question:
            return False
    return len(question.split()) <= LONGEST_QUESTION and not re.search(r"\(|,\?|,,| ,", question)


def wordings(tokens: Sequence[Token]) -> tuple[str, ...]:
    """An answer as in the text, and without its article."""
    text = tokens[0].doc[tokens[0].i : tokens[-1].i + 1].text.strip(" ,;")
    bare = re.sub(r"^(?:the|an?)\s+", "", text, flags=re.IGNORECASE)
    return (text,) if bare == text or not bare else (text, bare)
