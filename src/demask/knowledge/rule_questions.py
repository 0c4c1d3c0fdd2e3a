"""A question that rules write, and what makes it sound; the ground of `rules.py` and `manual_rules.py`.

is_sound(Question("Who founded Orlin?", ("Mara Voss",), "forward"))     # True
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from demask.knowledge.directions import FUNCTION_WORDS, is_same_word
from demask.records import Direction, QAPair

LONGEST_QUESTION = 36  # words
# What these describe is in another sentence.
LEANING = frozenset(
    """above again another accordingly afterwards already below consequently conversely each either else
    elsewhere eventually former further furthermore hence here however instead later latter likewise
    meanwhile moreover neither nevertheless next other others otherwise previous previously respectively
    same similar similarly so subsequent subsequently such then there thereafter therefore these this those
    thus too yet following now today currently recently one ones latest certain nearby""".split()
)
# In what a question would leave out these may turn what the rest says, as in "all bridges, except the Tellin
# Bridge": then the sentence gives no question.
TURNING = frozenset(
    """not n't never no none nor neither without except excepting excluding exception save but unless if
    provided providing assuming although though despite notwithstanding instead rather unlike minus
    besides apart contrary whereas while until only solely merely hardly barely scarcely rarely seldom
    nearly almost partly partially allegedly reportedly supposedly purportedly ostensibly possibly
    perhaps maybe probably presumably apparently likely unlikely falsely wrongly mistakenly incorrectly
    erroneously false wrong mistaken disputed claim claims claimed alleged alleges rumoured rumored
    believed thought said according might may could would should planned intended attempted failed
    refused denied or""".split()
)


class Question(NamedTuple):
    """A question that the rules can write."""

    text: str
    answers: tuple[str, ...]
    direction: Direction


def is_sound(question: Question) -> bool:
    """Whether a question is short enough and has neither its answer in it nor the answer's longest word.

    That word may not stand there in another form either: "Lebanese" gives "Lebanon" away.
    """
    text = question.text.lower()
    words = re.findall(r"\w+", text)
    for answer in question.answers:
        longest = max(re.findall(r"\w+", answer.lower()), key=len, default="")
        if any(is_same_word(longest, word) for word in words) or answer.lower() in text:
            return False
    return len(text.split()) <= LONGEST_QUESTION


def leave_out_ambiguous(pairs: Sequence[QAPair]) -> list[QAPair]:
    """The pairs of a document without those that ask for two things alike.

    Two questions with different answers are alike when all that one of them says is said in the other, as
    "which function is for debugging" in "which function is for debugging only".

    Args:
        pairs: of one document; those that give the name and ask what it does are kept.
    """
    places: dict[str, set[int]] = {}
    words: dict[int, frozenset[str]] = {}
    for number, pair in enumerate(pairs):
        if pair.kind in ("which", "what") and pair.direction == "backward":
            words[number] = _content(pair.question)
            for word in words[number]:
                places.setdefault(word, set()).add(number)
    alike = set()
    for number, content in words.items():
        within = set.intersection(*(places[word] for word in content)) if content else set()
        others = {other for other in within if pairs[other].answers != pairs[number].answers}
        alike |= others | ({number} if others else set())
    return [pair for number, pair in enumerate(pairs) if number not in alike]


def _content(question: str) -> frozenset[str]:
    words = (re.sub(r"['’]s$", "", word) for word in re.findall(r"[\w./'’-]*\w", question.lower()))
    return frozenset(words) - FUNCTION_WORDS
