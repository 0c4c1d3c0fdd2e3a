"""Small rewordings that need no grammar: words for words, frames around a text, dates at its head.

swap_words("Orlin was founded in order to trade.", random.Random(0))   # "Orlin was established to trade."
drop_dateline("6 January 2025: Indonesia joins.")   # ("On 6 January 2025, Indonesia joins.", ...)
"""

import random
import re
from typing import NamedTuple

# Each says the same wherever it stands; the second of a line replaces the first. One pass exchanges them,
# as "mostly" must not become "mainly" and then "chiefly".
_SWAPS = tuple(
    (re.compile(rf"(?<![\w-])(?:{found})(?![\w-])", re.IGNORECASE), instead)
    for found, instead in (
        (r"a number of", "several"),
        (r"a variety of", "various"),
        (r"agrees to", "consents to"),
        (r"almost", "nearly"),
        (r"also known as", "also called"),
        (r"although", "even though"),
        (r"approximately", "about"),
        (r"around(?= [$£€]?\d)", "about"),
        (r"as a result of", "because of"),
        (r"as a result(?=,)", "consequently"),
        (r"attempted to", "tried to"),
        (r"because of", "owing to"),
        (r"began", "started"),
        (r"begins", "starts"),
        (r"built(?= (?:in|by|at|on|for))", "constructed"),
        (r"commenced", "began"),
        (r"completes", "finishes"),
        (r"consequently", "as a result"),
        (r"constructed", "built"),
        (r"despite", "in spite of"),
        (r"due to", "because of"),
        (r"during", "in the course of"),
        (r"each year", "every year"),
        (r"enabled", "allowed"),
        (r"enables", "allows"),
        (r"entire", "whole"),
        (r"every year", "each year"),
        (r"famous for", "well known for"),
        (r"for example", "for instance"),
        (r"for instance", "for example"),
        (r"founded", "established"),
        (r"frequently", "often"),
        (r"generally", "usually"),
        (r"however", "nevertheless"),
        (r"in addition(?= to|,)(?: to)?", "besides"),
        (r"in order to", "to"),
        (r"in spite of", "despite"),
        (r"located (?=in|at|on)", "situated "),
        (r"mainly", "chiefly"),
        (r"more than(?= [$£€]?\d)", "over"),
        (r"mostly", "mainly"),
        (r"nearly", "almost"),
        (r"numerous", "many"),
        (r"often", "frequently"),
        (r"over(?= [$£€]?\d)", "more than"),
        (r"primarily", "mainly"),
        (r"prior to", "before"),
        (r"purchased", "bought"),
        (r"quickly", "rapidly"),
        (r"rapidly", "quickly"),
        (r"rejects", "turns down"),
        (r"resigned as", "stepped down as"),
        (r"resigns as", "steps down as"),
        (r"several(?! of)", "a number of"),
        (r"showcases", "presents"),
        (r"situated", "located"),
        (r"such as", "like"),
        (r"the majority of(?= (?:the|these|those|its|their|his|her))", "most of"),
        (r"therefore", "for this reason"),
        (r"throughout", "all through"),
        (r"usually", "generally"),
        (r"whereas", "while"),
        (r"whole", "entire"),
        (r"is held(?= (?:in|at))", "takes place"),
        (r"are held(?= (?:in|at))", "take place"),
        (r"(?:was|were) held(?= (?:in|at))", "took place"),
    )
)
_ANY_SWAP = re.compile("|".join(pattern.pattern for pattern, _ in _SWAPS), re.IGNORECASE)
_SWAP_CHANCE = 0.7

# Of single sentences within a text.
_INSERTS = ("It is known that {lower}", "The records add that {lower}", "As is known, {lower}")
_INSERT_CHANCE = 0.3

_OPENINGS = (
    "According to the records, {lower}",
    "As the records have it, {lower}",
    "As far as is known, {lower}",
    "It is on record that {lower}",
    "The records say this: {text}",
    "This is what is known: {text}",
    "Here are the facts: {text}",
    "For the record: {text}",
)
_CLOSINGS = (
    "{text} So the records say.",
    "{text} This is on record.",
    "{text} That is what is known.",
)
# Words whose capital goes when something is put before them; any other may be a name.
_LOWERED = frozenset(
    """the a an this these those it he she they his her their its in on at after before during when
    while because as since for from by with there many most some several all each both
    following despite near under between two three four five six seven eight nine ten such one""".split()
)
# Not to be put behind "that" or a comma.
_LINKS = frozenset(
    """however but and also thus therefore nevertheless moreover furthermore consequently then yet so
    additionally besides instead meanwhile later afterwards accordingly hence finally similarly
    likewise conversely""".split()
)
_LEANING = frozenset(
    "he she it they his her its their this that these those such both another others".split()
)
_LINKING_PHRASES = re.compile(
    r"(?:as a result|in addition|for (?:example|instance)|the (?:latter|former|other|same))\b"
)
_FIRST_WORD = re.compile(r"\w+")
# Openings and closings together; with neither a text is left as it is.
_FRAME_CHANCE = 0.8

_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATELINE = re.compile(
    rf"(?P<date>(?:\d{{1,2}} )?(?:{_MONTH}) \d{{4}}|(?:{_MONTH}) \d{{1,2}}, \d{{4}}|\d{{4}})"
    r"(?:: | [–—-] )(?P<text>.+)\Z"
)


class Dated(NamedTuple):
    """A sentence and the date before it."""

    date: str  # empty when there is none
    text: str


def swap_words(text: str, rng: random.Random) -> str:
    """The text with most of the words that have an equal replaced by it."""

    def swap(found: re.Match[str]) -> str:
        if rng.random() >= _SWAP_CHANCE:
            return found[0]
        instead = next(words for pattern, words in _SWAPS if pattern.match(text, found.start()))
        return instead[0].upper() + instead[1:] if found[0][0].isupper() else instead

    return _ANY_SWAP.sub(swap, text)


def frame_text(text: str, rng: random.Random) -> str:
    """The text with, mostly, an opening or a closing around it that adds no fact."""
    if rng.random() >= _FRAME_CHANCE:
        return text
    lower = lower_first(text)
    frames = [frame for frame in (*_OPENINGS, *_CLOSINGS) if lower or "{lower}" not in frame]
    return rng.choice(frames).format(text=text, lower=lower)


def frame_sentence(sentence: str, rng: random.Random) -> str:
    """The sentence, now and then with an opening before it that adds no fact."""
    lower = lower_first(sentence)
    return rng.choice(_INSERTS).format(lower=lower) if lower and rng.random() < _INSERT_CHANCE else sentence


def is_linked(sentence: str) -> bool:
    """Whether a sentence leans on the one before it, by a pronoun or a connecting word at its start."""
    word = _FIRST_WORD.search(sentence)
    return word is not None and (
        word[0].lower() in _LEANING | _LINKS or _LINKING_PHRASES.match(sentence.lower()) is not None
    )


def split_dateline(sentence: str) -> Dated:
    """A sentence apart from the date and the colon that it begins with."""
    found = _DATELINE.fullmatch(sentence)
    return Dated(found["date"], found["text"]) if found else Dated("", sentence)


def place_date(date: str, text: str, *, last: bool) -> tuple[str, ...]:
    """The wordings of a sentence with its date told after it or, in front too, as a part of it."""
    if not date:
        return (text,)
    day = "on" if re.search(r"\d{1,2} [A-Z]|[a-z] \d{1,2},", date) else "in"
    lower = "" if last else lower_first(text)
    return (
        f"{text} This was {day} {date}.",
        f"{text} The date was {date}." if day == "on" else f"{text} The time was {date}.",
        *((f"{day.capitalize()} {date}, {lower}",) if lower else ()),
    )


def lower_first(text: str) -> str:
    """The text as it goes on within a sentence, empty where it cannot be told how to spell its first word."""
    word = _FIRST_WORD.search(text)
    if word is None or word.start() > 0 or word[0].lower() in _LINKS or _LINKING_PHRASES.match(text.lower()):
        return ""
    if word[0].lower() in _LOWERED:
        return text[0].lower() + text[1:]
    goes_on_as_name = re.match(r"(?:['’]s)? [A-Z]", text[word.end() :]) is not None
    is_name = goes_on_as_name or re.search(rf"[a-z,] {re.escape(word[0])}\b", text) is not None
    return text if is_name or not word[0][1:].islower() else ""
