"""What one QA pair and its document say about each other.

text = read_words(document)
asked = ask(pair)
check_pair(asked, text)      # Findings: answer-missing, leak, wrong-direction, answer-long, ...
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from demask.documents.sentences import Span, find_sentences
from demask.knowledge.auditing.findings import Finding, quote
from demask.knowledge.auditing.words import (
    find_cues,
    find_run,
    find_stems,
    make_plain,
    split_words,
    stands_in,
    stem,
)
from demask.knowledge.directions import decide_direction
from demask.knowledge.english import FUNCTION_WORDS, MONTHS
from demask.records import Document, QAPair

# Issue 5: answers of at most five words; longer ones are hardly ever said word for word.
LONGEST_ANSWER = 5  # words

_CAPITALISED = re.compile(r"(?<!^)\b[^\W\d_][\w’'-]*")


class AskedPair(NamedTuple):
    """A QA pair and its words."""

    pair: QAPair
    question: str  # plain, as `make_plain` makes it
    cues: frozenset[str]
    answers: tuple[str, ...]  # plain


class Sentence(NamedTuple):
    """A sentence of a document and its words."""

    span: Span
    plain: str
    stems: frozenset[str]


class DocumentWords(NamedTuple):
    """A document that is asked about and its words."""

    document: Document
    plain: str
    stems: frozenset[str]
    sentences: tuple[Sentence, ...]


def ask(pair: QAPair) -> AskedPair:
    """Split a pair's question and answers into words."""
    return AskedPair(
        pair, make_plain(pair.question), find_cues(pair.question), tuple(map(make_plain, pair.answers))
    )


def read_words(document: Document) -> DocumentWords:
    """Split a document into words and sentences."""
    plain = make_plain(document.text)
    sentences = []
    for span in find_sentences(document.text):
        words = make_plain(document.text[span.start : span.end])
        sentences.append(Sentence(span, words, find_stems(words)))
    return DocumentWords(document, plain, find_stems(plain), tuple(sentences))


def check_pair(asked: AskedPair, text: DocumentWords) -> Iterator[Finding]:
    """What is wrong with a pair as far as it and its document can tell."""
    pair = asked.pair
    if not any(stands_in(answer, text.plain) for answer in pair.answers):
        yield Finding(
            pair.id,
            "answer-missing",
            f"{pair.id}: no accepted answer stands in document {quote(pair.document_id)}, the first is "
            f"{quote(pair.answers[0])}",
        )
    else:
        yield from _check_direction(pair, text.document.text)
    leak = _find_leak(asked, text)
    if leak:
        yield Finding(pair.id, "leak", f"{pair.id}: the question {leak}")
    shortest = min(pair.answers, key=lambda answer: len(answer.split()))
    if len(shortest.split()) > LONGEST_ANSWER:
        yield Finding(
            pair.id,
            "answer-long",
            f"{pair.id}: the shortest accepted answer has {len(shortest.split())} words, expected at most "
            f"{LONGEST_ANSWER}: {quote(shortest)}",
        )


def check_predictions(
    pair: QAPair, *, closed_book: Mapping[str, bool] | None, open_book: Mapping[str, bool] | None
) -> Iterator[Finding]:
    """What the base model's answers say about a pair; a pair that was not asked is not judged."""
    if closed_book is not None and closed_book.get(pair.id, False):
        yield Finding(
            pair.id,
            "guessable",
            f"{pair.id}: the base model answers {quote(pair.answers[0])} without the document",
        )
    if open_book is not None and not open_book.get(pair.id, True):
        yield Finding(
            pair.id,
            "unanswerable",
            f"{pair.id}: the base model does not answer {quote(pair.answers[0])} with the document in "
            "its prompt",
        )


def _check_direction(pair: QAPair, text: str) -> Iterator[Finding]:
    decided = decide_direction(text, pair.question, pair.answers)
    if decided is None:
        yield Finding(
            pair.id,
            "direction-unclear",
            f"{pair.id}: whether the answer follows or precedes the question's words in the document cannot "
            f"be told; the label is {pair.direction}",
        )
    elif decided != pair.direction:
        follows = "follows" if decided == "forward" else "precedes"
        yield Finding(
            pair.id,
            "wrong-direction",
            f"{pair.id}: the answer {follows} the question's words in the document, so it is {decided} and "
            f"not {pair.direction}",
        )


def _find_leak(asked: AskedPair, text: DocumentWords) -> str:
    """What the question does to give its answer away, as words that follow "the question"."""
    for answer in asked.pair.answers:
        if _is_named(answer, asked):
            return f"names its own answer {quote(answer)}"
        cues = find_cues(answer)
        if len(cues) > 1 and cues <= asked.cues:
            return f"holds every word of its answer {quote(answer)}"
    name = _find_leaking_name(asked, text)
    return f"gives away {quote(name)} of its answer {quote(asked.pair.answers[0])}" if name else ""


def _is_named(answer: str, asked: AskedPair) -> bool:
    """Whether the question names an answer; "who" does not name "WHO", nor "may" the month."""
    if FUNCTION_WORDS.issuperset(split_words(answer)) and answer != answer.lower():
        return re.search(rf"\b{re.escape(answer)}\b", asked.pair.question) is not None
    return stands_in(answer, asked.question)


def _find_leaking_name(asked: AskedPair, text: DocumentWords) -> str:
    """The last word of a name that is the answer, when the question uses it and else only the answer does.

    "Which Voss founded Orlin?" leaks "Mara Voss". Where the document tells of Ilja Voss as well, the
    question may mean him. Only the last word: "held in Newcastle" hardly leaks "Newcastle Mela".
    """
    answer = asked.pair.answers[0]
    *first, last = answer.split()
    if not first or last not in find_names(asked.pair.question):
        return ""
    if not all(word[0].isupper() for word in first):
        return ""
    elsewhere = find_stems(find_run(make_plain(answer)).sub("", text.plain))
    return "" if stem(last.lower()) in elsewhere else last


def find_names(question: str) -> list[str]:
    """The capitalised words of a question but for its first one, months and function words."""
    names = [word.removesuffix("'s").removesuffix("’s") for word in _CAPITALISED.findall(question)]
    return [
        name
        for name in names
        if name[0].isupper() and len(name) > 2 and name.lower() not in FUNCTION_WORDS | MONTHS
    ]
