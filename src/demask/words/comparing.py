"""Where the words of an answer stand in a text, whatever form they have there.

    for there, wanted in read_alike(prediction, answer):
        keys(there) == keys(wanted)               # an exact match
    find_phrase("It was Voss's idea.", "Voss")    # Span(start=7, end=13)

Two texts can be read in several ways: the parts of a word apart ("same sex") or as one ("samesex"), with
"a" as an article or as a letter. In each way both texts are cut alike; whoever compares takes the best.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from demask.words.folding import Span
from demask.words.splitting import Word, split_words

# SQuAD v1.1.
ARTICLES = frozenset({"a", "an", "the"})

# Before these and at the end of a text an "A" is a letter, as in "vitamin A", not an article.
_AFTER_LETTERS = frozenset(["", *".,;!?)]/-&"])
_SYMBOLS = re.compile(r"\w+|([^\w\s])\1*")


def read_alike(
    text: str, answer: str, *, ignored: frozenset[str] = ARTICLES, keep_case: bool = False
) -> Iterator[tuple[list[Word], list[Word]]]:
    """The words of a text and of an answer, in each way to read them; to be compared by `keys`.

    A word of the text that is another form of one in the answer is given as the answer has it: "Voss's" as
    "Voss", "$5" as "5", and the other way round.

    Args:
        text: what is searched.
        answer: what is looked for.
        ignored: words that say nothing. An answer of nothing else ("The The") is looked for as it stands.
        keep_case: whether "May" and "may" are two words.

    Yields:
        Nothing when the answer is blank. An answer without words ("…", "+") is compared by its symbols.
    """
    there, wanted = _split(text, keep_case), _split(answer, keep_case)
    if not wanted:
        there, wanted = _split_symbols(text), _split_symbols(answer)
    content = _drop_ignored(answer, wanted, ignored)
    if wanted and _looks_like_article(wanted[-1]) and wanted[-1] not in content:
        content.append(wanted[-1])  # an answer is not cut off, so no article stands at its end
    if all(map(_looks_like_article, content)):
        readings: list[tuple[Sequence[Word], Sequence[Word]]] = [(there, wanted)] if wanted else []
    else:
        readings = [(_drop_ignored(text, there, ignored), content)]
        if any(map(_looks_like_article, content)):
            readings += [(there, content), (there, wanted)]
    for said, expected in readings:
        yield _align(said, expected), list(expected)
        if any(word.joined for word in (*said, *expected)):
            whole = _join(expected)
            yield _align(_join(said), whole), whole


def _drop_ignored(text: str, words: Sequence[Word], ignored: frozenset[str]) -> list[Word]:
    return [word for word in words if word.text not in ignored or _is_letter(text, word)]


def _is_letter(text: str, word: Word) -> bool:
    return text[word.start : word.end] == "A" and text[word.end : word.end + 1] in _AFTER_LETTERS


def _looks_like_article(word: Word) -> bool:
    return word.text.casefold() in ARTICLES


@lru_cache(maxsize=1024)
def _split(text: str, keep_case: bool) -> Sequence[Word]:
    # A prediction is read once for every metric and accepted answer.
    return tuple(split_words(text, keep_case=keep_case))


def find_phrase(text: str, answer: str) -> Span | None:
    """Where an answer first stands in a text as a run of whole words, articles aside; None: nowhere."""
    found = (_find_run(there, wanted) for there, wanted in read_alike(text, answer))
    return min((place for place in found if place is not None), default=None)


def keys(words: Sequence[Word]) -> list[tuple[str, str]]:
    """What words are compared by, once they have been read alike."""
    return [(word.text, word.sign) for word in words]


def _find_run(there: Sequence[Word], wanted: Sequence[Word]) -> Span | None:
    said, expected = keys(there), keys(wanted)
    length = len(expected)
    for start in range(len(said) - length + 1):
        if said[start : start + length] == expected:
            return Span(there[start].start, there[start + length - 1].end)
    return None


def _align(said: Sequence[Word], expected: Sequence[Word]) -> list[Word]:
    """The words with the text and sign of the answer's word that they are another form of."""
    exact = set(keys(expected))
    forms: dict[str, list[Word]] = {}
    for word in expected:
        for text in {word.text, word.bare}:
            forms.setdefault(text, []).append(word)
    aligned = []
    for word in said:
        near = (
            () if (word.text, word.sign) in exact else (*forms.get(word.text, ()), *forms.get(word.bare, ()))
        )
        form = next((other for other in near if _is_form(word, other)), word)
        aligned.append(word._replace(text=form.text, sign=form.sign))
    return aligned


def _is_form(word: Word, other: Word) -> bool:
    same_text = word.text in (other.text, other.bare) or word.bare == other.text
    return same_text and (not word.sign or not other.sign or word.sign == other.sign)


def _join(words: Sequence[Word]) -> list[Word]:
    joined: list[Word] = []
    for word in words:
        if word.joined and joined:
            before = joined[-1]
            joined[-1] = before._replace(
                text=before.text + word.text, bare=before.text + word.bare, end=word.end
            )
        else:
            joined.append(word)
    return joined


def _split_symbols(text: str) -> list[Word]:
    return [Word(found[0], *found.span(), bare=found[0]) for found in _SYMBOLS.finditer(text)]
