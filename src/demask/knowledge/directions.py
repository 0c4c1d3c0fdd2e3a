"""The direction of a QA pair, decided from where its words stand in the text.

    decide_direction("Orlin was founded by Mara Voss.", "Who founded Orlin?", ["Mara Voss"])  # "forward"
    place_answer(text, question, answers).answer  # Span(start=21, end=30): the place nearest to the cues
    find_answers(text, answers)                   # every place where an accepted answer stands

A question's cues are its words that stand in the text, outside the answer. Words are compared without
case and accents and with tolerance for endings ("becomes" and "became" share "becam"; see `is_same_word`);
they are cut as the scorer cuts them (`demask.words`), in scripts without spaces character by character.
Only the list of function words is English: other languages lean on rarity and length alone.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from demask.documents.sentences import find_sentences
from demask.records import Direction
from demask.words import Span
from demask.words import split_words as cut_words

# Words that stand in any question and point at nothing in a text.
FUNCTION_WORDS = frozenset(
    """a about after all also an and another answer any are as at based be became become becomes been being
    both but by called can could did do does done during each either following for from get gets
    give given had has have he her hers him his how i if in into is it its just kind know knowledge
    known like made make many may me might more most much must my name named no not of on one only
    or other our over own please question same shall she should so some sort such tell than that the
    their them then there these they thing this those through to too type under until up upon us
    very was we were what when where which while who whom whose why will with would you your""".split()
)
MONTHS = frozenset(
    "january february march april may june july august september october november december".split()
)
# Below this share of the cues' weight that stands on one side more than on the other, nothing is decided.
MARGIN = 0.1
# A cue in another sentence than the answer says less about the order within the fact.
OTHER_SENTENCE = 0.3
# Dates head many texts whatever these say next, so numbers and months count less than other words.
DATE_WEIGHT = 0.3
# "Which foreign minister ..." says what the answer is, and such words mostly stand right beside it.
KIND_WEIGHT = 0.3

_KIND_STARTERS = frozenset({"which", "what"})
_BREAK = re.compile(r"\n")


class Word(NamedTuple):
    """A word as it is compared, and where it stands."""

    key: str
    start: int
    end: int


class Cue(NamedTuple):
    """A word of the question and its place in the text, the one nearest to the answer."""

    word: str
    span: Span
    weight: float  # > 0; rare and long words weigh more
    before: bool  # the answer


class Placement(NamedTuple):
    """Where an answer stands among the cues of its question."""

    answer: Span
    exact: bool  # False: endings differ, or words of the answer are missing or apart
    cues: tuple[Cue, ...]

    @property
    def balance(self) -> float:
        """In [-1, 1]: 1 when all cues stand before the answer, -1 when all stand after it."""
        total = sum(cue.weight for cue in self.cues)
        return sum(cue.weight if cue.before else -cue.weight for cue in self.cues) / total if total else 0.0


def decide_direction(text: str, question: str, answers: Sequence[str]) -> Direction | None:
    """Whether the answer follows the question's cues in the text or precedes them.

    Args:
        text: what is trained on, heading included.
        question: asked about it.
        answers: the accepted wordings, the preferred one first.

    Returns:
        None when it cannot be told: the answer does not stand in the text, no cue does, or the cues stand
        about evenly on both sides.
    """
    placement = place_answer(text, question, answers)
    if placement is None or abs(placement.balance) < MARGIN:
        return None
    return "forward" if placement.balance > 0 else "backward"


def place_answer(text: str, question: str, answers: Sequence[str]) -> Placement | None:
    """The place of the answer that has most cues near, with these cues; None: the answer is not there.

    Of places with the same cues in their sentence the one nearest to them is taken.
    """
    words = split_words(text)
    places = _find_runs(words, answers, exactly=True)
    exact = bool(places)
    if not exact:
        places = _find_runs(words, answers, exactly=False) or _find_window(words, answers)
    sentences = _number_sentences(text, words)
    asked = _find_cues(words, question)
    placements = [
        (_place_cues(words, sentences, asked, first=first, last=last), first, last) for first, last in places
    ]
    if not placements:
        return None
    cues, first, last = max(placements, key=lambda placed: _closeness(placed[0], words[placed[1]].start))
    return Placement(Span(words[first].start, words[last].end), exact, cues)


def find_answers(text: str, answers: Sequence[str]) -> list[Span]:
    """Every place where an accepted answer stands in the text word for word, case and accents aside."""
    words = split_words(text)
    return [
        Span(words[first].start, words[last].end) for first, last in _find_runs(words, answers, exactly=True)
    ]


def split_words(text: str) -> list[Word]:
    """The words of a text, compared without case, accents and possessive endings."""
    return [Word(_key(word.bare), word.start, word.end) for word in cut_words(text)]


def _key(word: str) -> str:
    parts = unicodedata.normalize("NFKD", word)
    return "".join(part for part in parts if not unicodedata.combining(part)) or word


def is_same_word(one: str, other: str) -> bool:
    """Whether two compared words are forms of one: equal, or alike but for a short ending.

    They share their beginning: at least three characters, and of the shorter all but a third, three at most.
    The rest of the longer is at most three characters, four where they share six. Numbers must be equal.
    """
    if one == other:
        return True
    short, long = sorted((len(one), len(other)))
    if short < 3 or any(map(str.isdigit, one + other)):
        return False
    shared = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), short)
    return shared >= max(3, short - min(3, short // 3)) and long - shared <= 3 + (shared >= 6)


def _find_runs(words: Sequence[Word], answers: Sequence[str], *, exactly: bool) -> list[tuple[int, int]]:
    """First and last word of every place of an answer; a longer one hides those within it."""
    runs = set()
    for answer in answers:
        wanted = [word.key for word in split_words(answer)]
        while len(wanted) > 1 and wanted[0] in FUNCTION_WORDS:
            del wanted[0]
        for first in range(len(words) - len(wanted) + 1 if wanted else 0):
            there = words[first : first + len(wanted)]
            if all(
                word.key == key or (not exactly and is_same_word(word.key, key))
                for word, key in zip(there, wanted, strict=True)
            ):
                runs.add((first, first + len(wanted) - 1))
    return sorted(
        run for run in runs if not any(o != run and o[0] <= run[0] and run[1] <= o[1] for o in runs)
    )


def _find_window(words: Sequence[Word], answers: Sequence[str]) -> list[tuple[int, int]]:
    """The shortest stretch with most content words of the preferred answer, at least two thirds of them."""
    wanted = (
        [word.key for word in split_words(answers[0]) if word.key not in FUNCTION_WORDS] if answers else []
    )
    hits = [(place, key) for place, word in enumerate(words) for key in wanted if is_same_word(word.key, key)]
    best: tuple[int, int, tuple[int, int]] | None = None
    for number, (first, _) in enumerate(hits):
        seen: set[str] = set()
        for last, key in hits[number : number + 3 * len(wanted)]:
            seen.add(key)
            if last - first >= 3 * len(wanted) + 3:
                break
            found = (-len(seen), last - first, (first, last))
            best = min(best, found) if best else found
    if best is None or -best[0] < 2 * len(set(wanted)) / 3:
        return []
    return [best[2]]


class _Asked(NamedTuple):
    word: str
    places: tuple[int, ...]  # in the text's words
    weight: float


def _find_cues(words: Sequence[Word], question: str) -> list[_Asked]:
    """The question's content words that stand in the text, function words only when there are no others."""
    keys = [word.key for word in split_words(question)]
    kinds = _find_kind_words(keys)
    content = [key for key in keys if key not in FUNCTION_WORDS and (len(key) > 1 or not key.isascii())]
    asked = []
    for key in dict.fromkeys(content or keys):
        equal = tuple(place for place, word in enumerate(words) if word.key == key)
        places = equal or tuple(place for place, word in enumerate(words) if is_same_word(word.key, key))
        if places:
            factor = KIND_WEIGHT if key in kinds else 1.0
            asked.append(_Asked(key, places, factor * _weigh(key) / len(places)))
    return asked


def _find_kind_words(keys: Sequence[str]) -> frozenset[str]:
    """The one or two words after "which" or "what" that name the kind of thing asked for."""
    found: set[str] = set()
    for place, key in enumerate(keys):
        if key in _KIND_STARTERS:
            found.update(takewhile(lambda word: word not in FUNCTION_WORDS, keys[place + 1 : place + 3]))
    return frozenset(found)


def _weigh(key: str) -> float:
    """Long words are rare in any language, up to about eight letters."""
    return DATE_WEIGHT if key.isdigit() or key in MONTHS else min(len(key), 8) / 8


def _number_sentences(text: str, words: Sequence[Word]) -> list[int]:
    """The sentence, or line, of every word."""
    ends = sorted(
        {span.end for span in find_sentences(text)} | {found.end() for found in _BREAK.finditer(text)}
    )
    numbers, number = [], 0
    for word in words:
        while number < len(ends) and word.start >= ends[number]:
            number += 1
        numbers.append(number)
    return numbers


def _place_cues(
    words: Sequence[Word], sentences: Sequence[int], asked: Sequence[_Asked], *, first: int, last: int
) -> tuple[Cue, ...]:
    """For every cue its nearest place outside the answer; one that stands nowhere else is left out."""
    cues = []
    for word, places, weight in asked:
        outside = [place for place in places if not first <= place <= last]
        if not outside:
            continue
        nearest = min(outside, key=lambda place: first - place if place < first else place - last)
        factor = 1.0 if sentences[nearest] == sentences[first] else OTHER_SENTENCE
        span = Span(words[nearest].start, words[nearest].end)
        cues.append(Cue(word, span, weight * factor, before=nearest < first))
    return tuple(cues)


def _closeness(cues: Sequence[Cue], start: int) -> tuple[float, float]:
    """For choosing among places: the weight of the cues, then how near they are."""
    return sum(cue.weight for cue in cues), -sum(abs(cue.span.start - start) for cue in cues)
