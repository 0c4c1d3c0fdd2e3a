"""What is wrong with a paraphrase: facts lost or invented, the order not as asked for, a copy.

    reasons = check_paraphrase(passage.text, text, pairs=pairs, order="reversed", context=passage.heading)
    reasons  # ["number lost: 1931", "order: 3 of 3 questions keep their direction, expected reversed"]

Every reason is `what: detail`, so that reasons can be counted by what stands before the colon. The checks
see words, not meaning: they find the number that changed and the name that came from nowhere, not the
verb that says something else.
"""

import re
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from demask.knowledge.directions import decide_direction, place_answer
from demask.knowledge.paraphrasing.names import WORD, find_invented_names, singular
from demask.knowledge.paraphrasing.numbers import find_numbers, spell_numbers_as_digits
from demask.records import Direction, Order, QAPair

# Share of words, in order, above which two texts are one and the same: one word in twenty may differ.
COPY_SIMILARITY = 0.95
# With fewer words in common than this, their order says nothing.
_FEWEST_SHARED_WORDS = 8
# Measured on name_description, squad_passages and fictional_knowledge: texts in the order of the passage
# correlate with it above 0.3 (median 0.9, 0.5, 0.8), one-sentence facts told the other way round up to 0.44,
# SQuAD passages whose sentences come in reverse below 0.03 (90%).
_SAME_ORDER_FROM = 0.0
_REVERSED_TO = 0.4
_SURELY_SAME_ORDER_FROM = 0.5

_RARE_WORD_LETTERS = 4
# "[19]" and ".:162–164" of Wikipedia.
_REFERENCE = re.compile(r"\[\d+\]|(?<=[.,\"”)]):\d+(?:[-–]\d+)*(?=\s|$)")
_LIST_LABEL = re.compile(r"^[ \t#*]*(?:\w+ )?\d{1,2}[.):*]*(?:\s|$)", re.MULTILINE)


def check_paraphrase(
    passage_text: str,
    paraphrase_text: str,
    *,
    pairs: Sequence[QAPair],
    order: Order,
    context: str = "",
    earlier: Collection[str] = (),
) -> list[str]:
    """The reasons not to train on a paraphrase; none when it is good.

    Args:
        pairs: of the passage's document; those whose answer does not stand in the passage say nothing.
        order: what was asked for.
        context: the heading of the passage; its names and numbers may be used, but need not.
        earlier: the other paraphrases of the passage, which this one must not repeat.
    """
    if not paraphrase_text.strip():
        return ["empty: no text"]
    copied = _find_copy(passage_text, paraphrase_text, earlier)
    if copied:
        return [copied]
    source = f"{passage_text}\n{context}"
    return [
        *(f"answer lost: {answer!r}" for answer in find_lost_answers(passage_text, paraphrase_text, pairs)),
        *(f"number lost: {number}" for number in find_lost_numbers(passage_text, paraphrase_text)),
        *(f"number invented: {number}" for number in find_invented_numbers(source, paraphrase_text)),
        *(f"name invented: {name!r}" for name in find_invented_names(source, paraphrase_text)),
        *_check_order(passage_text, paraphrase_text, pairs, order),
    ]


def find_answered(text: str, pairs: Sequence[QAPair]) -> list[QAPair]:
    """The pairs one of whose answers stands in the text.

    Answers are found as `directions.place_answer` finds them, so case, accents and endings do not matter, of
    a long answer two thirds of the words suffice, and "14" is "fourteen".
    """
    return [pair for pair in pairs if _is_answered(text, pair.answers)]


def find_lost_answers(passage_text: str, paraphrase_text: str, pairs: Sequence[QAPair]) -> list[str]:
    """The preferred answers of the pairs that the passage answers and the paraphrase does not, each once."""
    asked = find_answered(passage_text, pairs)
    kept = find_answered(paraphrase_text, asked)
    return list(dict.fromkeys(pair.answers[0] for pair in asked if pair not in kept))


def find_lost_numbers(passage_text: str, paraphrase_text: str) -> list[str]:
    """The numbers of the passage, but for one and two, that are not in the paraphrase."""
    kept = find_numbers(paraphrase_text)
    # "Two" becomes "both" or "a pair", "first" becomes "new": too many good rewordings.
    return [
        number
        for number in find_numbers(_REFERENCE.sub("", passage_text))
        if number not in kept and number not in ("1", "2")
    ]


def find_invented_numbers(source: str, paraphrase_text: str) -> list[str]:
    """The numbers of the paraphrase, but for one and two, that are not in the source."""
    known = find_numbers(source)
    return [
        number
        for number in find_numbers(_LIST_LABEL.sub("", paraphrase_text))
        if number not in known and number not in ("1", "2")
    ]


def measure_order(passage_text: str, paraphrase_text: str) -> float | None:
    """Kendall's rank correlation between the places of the words that both texts have once.

    1 when they come in the same order, -1 when in the opposite one; None with fewer than eight such words.
    """
    from scipy.stats import kendalltau

    before, after = _places_of_rare_words(passage_text), _places_of_rare_words(paraphrase_text)
    shared = sorted(before.keys() & after.keys())
    if len(shared) < _FEWEST_SHARED_WORDS:
        return None
    return float(kendalltau([before[word] for word in shared], [after[word] for word in shared]).statistic)


def compare_directions(passage_text: str, paraphrase_text: str, pairs: Sequence[QAPair]) -> tuple[bool, ...]:
    """For each pair whose direction can be decided in both texts: does the paraphrase keep it?"""
    kept = []
    for pair in pairs:
        before = _direction(passage_text, pair.question, pair.answers)
        after = before and _direction(paraphrase_text, pair.question, pair.answers)
        if before and after:
            kept.append(before == after)
    return tuple(kept)


def _check_order(passage_text: str, paraphrase_text: str, pairs: Sequence[QAPair], order: Order) -> list[str]:
    kept = compare_directions(passage_text, paraphrase_text, pairs)
    agreeing = sum(kept) if order == "same-order" else len(kept) - sum(kept)
    if kept and 2 * agreeing >= len(kept):
        return []
    correlation = measure_order(passage_text, paraphrase_text)
    if kept:
        if order == "same-order" and correlation is not None and correlation >= _SURELY_SAME_ORDER_FROM:
            return []
        return [f"order: {sum(kept)} of {len(kept)} questions keep their direction, expected {order}"]
    if correlation is None:
        return []
    right = correlation >= _SAME_ORDER_FROM if order == "same-order" else correlation <= _REVERSED_TO
    return (
        [] if right else [f"order: rank correlation with the passage is {correlation:.2f}, expected {order}"]
    )


def _find_copy(passage_text: str, paraphrase_text: str, earlier: Collection[str]) -> str:
    words = _plain_words(paraphrase_text)
    if _is_copy(_plain_words(passage_text), words):
        return "copy: says the same as the passage in the same words"
    if any(_is_copy(_plain_words(text), words) for text in earlier):
        return "copy: says the same as another paraphrase in the same words"
    return ""


def _is_copy(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    if one == other:
        return True
    # `autojunk` would leave frequent words out of texts of 200 words and more.
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return (
        matcher.real_quick_ratio() >= COPY_SIMILARITY
        and matcher.quick_ratio() >= COPY_SIMILARITY
        and matcher.ratio() >= COPY_SIMILARITY
    )


@lru_cache(maxsize=256)
def _plain_words(text: str) -> tuple[str, ...]:
    return tuple(word.casefold() for word in WORD.findall(text))


@lru_cache(maxsize=4096)
def _is_answered(text: str, answers: tuple[str, ...]) -> bool:
    return (
        place_answer(spell_numbers_as_digits(text), "", list(map(spell_numbers_as_digits, answers)))
        is not None
    )


@lru_cache(maxsize=4096)
def _direction(text: str, question: str, answers: tuple[str, ...]) -> Direction | None:
    return decide_direction(text, question, answers)


@lru_cache(maxsize=256)
def _places_of_rare_words(text: str) -> dict[str, int]:
    places: dict[str, list[int]] = {}
    for place, word in enumerate(WORD.findall(text)):
        if len(word) >= _RARE_WORD_LETTERS or word[0].isupper() or word[0].isdigit():
            places.setdefault(singular(word), []).append(place)
    return {word: found[0] for word, found in places.items() if len(found) == 1}
