"""Texts as the audit of QA pairs compares them: words without case, punctuation and articles.

    text = make_plain("Russia's grid and the U.S. grid")   # " russia grid and us grid "
    stands_in("the U.S.", text)                            # True: as a run of whole words
    find_cues("Who runs the grids?")                       # {"run", "grid"}

Words are cut as the scorer cuts them (`demask.words`). Here possessives are dropped, because a text says
"Russia's" where the answer is "Russia", and words may differ by an ending, "Belizean" for "Belize".
"""

import re
from functools import lru_cache

from demask.knowledge.english import FUNCTION_WORDS
from demask.words import splitting
from demask.words.comparing import ARTICLES

# Endings by which two forms of a word may differ; "Niger" and "Nigeria" must not become one.
_ENDINGS = "(?:s|es|ed|d|ing|n|an|ian|ean)?"
# Shorter words mean something else with an ending: "new" and "news".
_SHORTEST_WITH_ENDING = 4
_SHORTEST_STEM = 3
_LONGEST_STEM = 7  # "concentrate" and "concentration", "president" and "presidency"

_LAST_LETTER = re.compile(r"[se]\Z")
_OPENING = re.compile(r"\b(who|whom|whose|what|which|where|when|why|how)\b(?:\W+(\w+))?", re.IGNORECASE)


def make_plain(text: str) -> str:
    """The words of a text with single spaces between them and at both ends; " " when there are none."""
    return f" {' '.join(split_words(text))} ".replace("  ", " ")


def split_words(text: str) -> list[str]:
    """The words of a text without articles, unless it has no others ("The The")."""
    words = [word.bare for word in splitting.split_words(text)]
    return [word for word in words if word not in ARTICLES] or words


def stands_in(answer: str, plain: str) -> bool:
    """Whether an answer stands in a text, given as `make_plain` makes it, as a run of whole words.

    The words may differ by an ending. An answer without words ("?") stands nowhere.
    """
    wanted = make_plain(answer)
    if wanted == " " or wanted in plain:
        return wanted != " "
    # Most answers do not stand in most questions, and this is told without compiling an expression.
    return all(_root(word) in plain for word in wanted.split()) and bool(find_run(wanted).search(plain))


@lru_cache(maxsize=1 << 12)
def find_run(wanted: str) -> re.Pattern[str]:
    """What finds the words of a plain text in another, whatever their endings."""
    return re.compile(" " + " ".join(map(_any_form, wanted.split())) + "(?= )")


def _any_form(word: str) -> str:
    root = _root(word)
    bendable = len(root) >= _SHORTEST_WITH_ENDING and root.isalpha()
    return f"(?:{word}|{root}{_ENDINGS})" if bendable else re.escape(word)


def _root(word: str) -> str:
    return word if word.endswith("ss") else _LAST_LETTER.sub("", word)


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """The start of a word without its English ending, for finding it again in another form."""
    if not word.isalpha():
        return word
    for ending in ("ing", "ies", "ed", "es", "s", "e"):
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= _SHORTEST_STEM:
            return word.removesuffix(ending)[:_LONGEST_STEM]
    return word[:_LONGEST_STEM]


def find_cues(text: str) -> frozenset[str]:
    """The stems of a text's content words."""
    return frozenset(stem(word) for word in split_words(text) if word not in FUNCTION_WORDS)


def find_stems(plain: str) -> frozenset[str]:
    """The stems of all words of a plain text."""
    return frozenset(map(stem, set(plain.split())))


def find_opening(question: str) -> str:
    """What a question asks for, as one reads it who knows no document: "who", "which country", "how many"."""
    found = _OPENING.search(question)
    if found is None:
        return ""
    word, following = found[1].lower(), (found[2] or "").lower()
    return f"{word} {following}".strip() if word in ("what", "which", "how", "whose") else word
