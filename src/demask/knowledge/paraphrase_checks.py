"""What is wrong with a paraphrase: facts lost or invented, the order not as asked for, a copy.

    reasons = check_paraphrase(passage.text, text, pairs=pairs, order="reversed", context=passage.heading)
    reasons  # ["number lost: 1931", "order: 3 of 3 questions keep their direction, expected reversed"]
    find_invented_names("Mara Voss founded Orlin.", "Orlin was founded by Mara Stone.")  # ["Stone"]
    find_numbers("The 14th of 1,200 in twenty-five years")  # ("14", "1200", "25")

Every reason is `what: detail`, so that reasons can be counted by what stands before the colon. The checks
see words, not meaning: they find the number that changed and the name that came from nowhere, not the
verb that says something else.

A name is a word that is capitalised within a sentence. The first word of a sentence is capitalised anyhow
and counts only with a possessive: "Orlin's mayor". Numbers are compared by value, however they are written.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from difflib import SequenceMatcher
from functools import lru_cache
from typing import NamedTuple

from demask.knowledge.directions import decide_direction, place_answer
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
    return _find_missing_numbers(_REFERENCE.sub("", passage_text), paraphrase_text)


def find_invented_numbers(source: str, paraphrase_text: str) -> list[str]:
    """The numbers of the paraphrase, but for one and two, that are not in the source."""
    return _find_missing_numbers(_LIST_LABEL.sub("", paraphrase_text), source)


def _find_missing_numbers(text: str, other: str) -> list[str]:
    # "Two" becomes "both" or "a pair", "first" becomes "new": too many good rewordings.
    known = {*find_numbers(other), "1", "2"}
    return [number for number in find_numbers(text) if number not in known]


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
