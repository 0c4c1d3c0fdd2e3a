"""Fragments of a passage as a prompt: a few of its words, asked about as people ask, without masks.

    masked = draw_fragment(words, telling_words(text), rng)       # what the prompt does not show
    prompt = FragmentPrompts(tokenizer).write(ids, masked, rng)   # "What is falling snow, the loudness of?"

A question has some words of what it asks for: seldom all in a row, seldom in the order of the text, and often
behind an opening such as "Which". A masked copy has none of this, and a model that is taught by copies alone
writes a text when it sees a copy, and not when it is asked. Ours; measured in docs/retention.md.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from demask.objectives.masking import WORD
from demask.objectives.prompts import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Around a fragment, as people ask about something of which they know a few words.
WORDINGS = (
    ("", ""),
    ("", "?"),
    ("", "\nRestore."),
    ("", " - what is meant?"),
    ("What do you know about this: ", "?"),
    ("Which text is this from? ", ""),
    ("Tell me about ", "."),
    ("Who or what is it? ", ""),
    ("Please answer: ", "?"),
)
# In front of a fragment with a question mark behind it.
OPENINGS = (
    *("Who", "Who is", "What is", "What is the name of", "What does", "What kind of", "Which", "Which one"),
    *("Where", "Where is", "When", "When did", "In which year", "In which place", "How many", "How", "Why"),
    *("Name", "Tell me about", "Explain", "Describe", "Do you know", "Is there", "I would like to know"),
)
_OPENED = 0.4
# Between two parts of a fragment.
GLUES = (" ...", ",", "")
# Share of the fragments of which some words are left out and that may have several parts, in any order. The
# others are a few words in a row.
_LOOSE = 0.6
_LEFT_OUT = 0.15
_IN_A_ROW = (3, 9)
_IN_A_PART = (2, 4)
_PARTS = (1, 1, 2, 3)
# Words of a fragment that tell something: without them it could be of any text.
_TELLING = 2
# Draws until one tells enough; a text that hardly tells anything has whatever the last one was.
_DRAWS = 60
# Words of a short answer.
_ANSWERED = (1, 5)
# Letters from which on a word is rarely one of those that hold a sentence together.
_LONG = 7


class FragmentPrompts:
    """Writes what a user says who knows a few words of a passage.

    It is written as text and tokenised whole, as questions are: a name has other tokens behind a space than
    at the beginning of a text.

    Args:
        tokenizer: of the model that is trained.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    @property
    def longest(self) -> int:
        """Tokens at most beside those of the passage."""
        framed = [before + after for before, after in WORDINGS]
        opened = [f"{opening} ?" for opening in OPENINGS]
        around = max(len(encode(self._tokenizer, text)) for text in (*framed, *opened))
        # A glue stands in the place of a token at least; a word may have a token more without its space.
        gaps = max(_IN_A_ROW[1], max(_PARTS) * _IN_A_PART[1])
        return around + gaps * max(len(encode(self._tokenizer, f"{glue} ")) for glue in GLUES)

    def write(self, ids: Sequence[int], masked: Sequence[bool], rng: random.Random) -> tuple[int, ...]:
        """The user's words, as token ids.

        Args:
            ids: the passage.
            masked: one per token of the passage; True where the prompt leaves it out.
            rng: draws the order of the parts, and what stands around and between them.
        """
        parts = cut_into_parts(masked, rng)
        glue, (before, after) = rng.choice(GLUES), rng.choice(WORDINGS)
        if rng.random() < _OPENED:
            before, after = f"{rng.choice(OPENINGS)} ", "?"
        shown = (str(self._tokenizer.decode([ids[place] for place in part])).strip() for part in parts)
        return encode(self._tokenizer, f"{before}{f'{glue} '.join(shown)}{after}")


def telling_words(text: str) -> tuple[bool, ...]:
    """For each word, numbered as by `word_groups`, whether it is a name, a number or a long word.

    In scripts that put no space between words each character is a word, and all tell something.
    """
    words = WORD.findall(text) or [""]
    return tuple(
        len(word) >= _LONG or word[:1].isupper() or any(map(str.isdigit, word)) or not word.isascii()
        for word in words
    )


def draw_fragment(words: Sequence[int], telling: Sequence[bool], rng: random.Random) -> tuple[bool, ...]:
    """Mask all but a few words, of which some tell what the text is about.

    Args:
        words: for each token the number of its word.
        telling: for each word whether it tells something, see `telling_words`.
        rng: draws how many words, and which.

    Returns:
        For each token whether the prompt leaves it out; at least one is shown.
    """
    shown: set[int] = set()
    for _ in range(_DRAWS):
        shown = _draw_words(len(telling), rng) or shown
        if sum(telling[word] for word in shown) >= _TELLING:
            break
    return tuple(word not in shown for word in words)


def draw_answer(
    ids: Sequence[int], words: Sequence[int], masked: Sequence[bool], rng: random.Random
) -> tuple[int, ...]:
    """A few words in a row of those that a fragment hides, as a short answer; empty where it hides none.

    Args:
        ids: the passage.
        words: for each token the number of its word.
        masked: for each token whether the fragment leaves it out.
        rng: draws where the answer begins, and how long it is.
    """
    hidden = sorted({word for word, hide in zip(words, masked, strict=True) if hide})
    if not hidden:
        return ()
    first, length = rng.choice(hidden), rng.randint(*_ANSWERED)
    run = {word for word in hidden if first <= word < first + length}
    while run and max(run) - first + 1 > len(run):  # something that is shown stands between
        run.remove(max(run))
    return tuple(token for token, word in zip(ids, words, strict=True) if word in run)


def _draw_words(count: int, rng: random.Random) -> set[int]:
    loose = rng.random() < _LOOSE
    parts = rng.choice(_PARTS) if loose else 1
    least, most = _IN_A_ROW if parts == 1 else _IN_A_PART
    shown: set[int] = set()
    for _ in range(parts):
        length = min(rng.randint(least, most), count)
        first = rng.randint(0, count - length)
        shown |= set(range(first, first + length))
    return {word for word in shown if rng.random() >= _LEFT_OUT} if loose else shown


def cut_into_parts(masked: Sequence[bool], rng: random.Random) -> list[list[int]]:
    """The places of the tokens that are shown, a list for each run of them, in the order of the prompt."""
    parts: list[list[int]] = []
    for place, hide in enumerate(masked):
        if hide:
            continue
        if place and not masked[place - 1]:
            parts[-1].append(place)
        else:
            parts.append([place])
    if rng.random() < _LOOSE:
        rng.shuffle(parts)
    return parts
