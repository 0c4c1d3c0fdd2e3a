"""What can be wrong with QA pairs: what each says with its document, and what they say about each other.

    text = read_words(document)
    asked = [ask(pair) for pair in pairs]
    findings = [finding for one in asked for finding in check_pair(one, text)]
    findings += [*find_same_questions(asked), *find_duplicates(asked, flagged=())]
    findings[0].severity  # "flag"

Texts are compared as words without case, punctuation and articles. Words are cut as the scorer cuts them
(`demask.words`). Here possessives are dropped, because a text says "Russia's" where the answer is "Russia",
and words may differ by an ending, "Belizean" for "Belize":

    text = make_plain("Russia's grid and the U.S. grid")   # " russia grid and us grid "
    stands_in("the U.S.", text)                            # True: as a run of whole words
    find_cues("Who runs the grids?")                       # {"run", "grid"}
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from demask.documents.sentences import find_sentences
from demask.knowledge.directions import FUNCTION_WORDS, MONTHS, decide_direction
from demask.records import Document, QAPair
from demask.words import ARTICLES, Span
from demask.words import split_words as cut_words

Kind = Literal[
    "answer-missing",
    "leak",
    "guessable",
    "unanswerable",
    "ambiguous",
    "wrong-direction",
    "duplicate",
    "direction-unclear",
    "answer-long",
]
Severity = Literal["flag", "note"]
# A pair is flagged when its score would say something else than whether the fact was learned. In the order
# in which findings are told.
SEVERITIES: Mapping[Kind, Severity] = {
    "answer-missing": "flag",  # the documents do not teach it
    "leak": "flag",  # it can be answered by reading the question
    "guessable": "flag",  # it is answered before anything was learned
    "unanswerable": "flag",  # not even with the document at hand: the question, not the memory, is at fault
    "ambiguous": "flag",  # a right answer may be counted as wrong
    "wrong-direction": "flag",  # it moves the reversal gap the wrong way
    "duplicate": "flag",  # one fact would count twice
    "direction-unclear": "note",  # the label may well be right: cues stand on both sides, or are reworded
    "answer-long": "note",  # hard to match word for word, but not wrong
}
_QUOTED_CHARACTERS = 60  # as in error messages
# Endings by which two forms of a word may differ; "Niger" and "Nigeria" must not become one.
_ENDINGS = "(?:s|es|ed|d|ing|n|an|ian|ean)?"
# Shorter words mean something else with an ending: "new" and "news".
_SHORTEST_WITH_ENDING = 4
_SHORTEST_STEM = 3
_LONGEST_STEM = 7  # "concentrate" and "concentration", "president" and "presidency"
_LAST_LETTER = re.compile(r"[se]\Z")
_OPENING = re.compile(r"\b(who|whom|whose|what|which|where|when|why|how)\b(?:\W+(\w+))?", re.IGNORECASE)
# Issue 5: answers of at most five words; longer ones are hardly ever said word for word.
LONGEST_ANSWER = 5  # words
_CAPITALISED = re.compile(r"(?<!^)\b[^\W\d_][\w’'-]*")
# The share of their content words that two questions with the same answer have in common when they ask the
# same. At two thirds, bios has "What is the birth city of Adrian Hadley Andrews?" and "In which city did
# Adrian Hadley Andrews work?", both Charlotte: two facts. From 0.7 on, all of bios, wiki_events_2025,
# squad_passages and name_description_qa ask the same.
NEAR_DUPLICATE = 0.7
# From here on a guess without knowledge is no longer luck.
MAJORITY_SHARE = 0.2
MAJORITY_DOCUMENTS = 2  # that have the answer, besides the one asked about


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one QA pair.

    Attributes:
        pair_id: the QA pair.
        kind: what is wrong.
        explanation: a sentence for people, which starts with the pair's id.
        other_id: the other QA pair that it is about, empty when there is none.
    """

    pair_id: str
    kind: Kind
    explanation: str
    other_id: str = ""

    @property
    def severity(self) -> Severity:
        """`flag`: the pair should not be scored; `note`: worth a look."""
        return SEVERITIES[self.kind]


def quote(text: str) -> str:
    """A text in quotation marks, on one line, cut when long."""
    line = " ".join(text.split())
    if len(line) > _QUOTED_CHARACTERS:
        line = f"{line[: _QUOTED_CHARACTERS - 3]}..."
    return f'"{line}"'


def make_plain(text: str) -> str:
    """The words of a text with single spaces between them and at both ends; " " when there are none."""
    return f" {' '.join(split_words(text))} ".replace("  ", " ")


def split_words(text: str) -> list[str]:
    """The words of a text without articles, unless it has no others ("The The")."""
    words = [word.bare for word in cut_words(text)]
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


def find_guessable(asked: Sequence[AskedPair]) -> Iterator[Finding]:
    """Pairs that one answers who knows nothing but the answers to the other documents' questions.

    Questions are alike when they open alike ("who", "which country"). Own documents do not count: a
    document with three questions about its subject is not a majority.
    """
    documents: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    openings = [find_opening(one.pair.question) for one in asked]
    for one, opening in zip(asked, openings, strict=True):
        documents[opening][one.answers[0]].add(one.pair.document_id)
    totals = {opening: len(set().union(*holders.values())) for opening, holders in documents.items()}
    ranked = {
        opening: sorted(holders, key=lambda answer: -len(holders[answer]))
        for opening, holders in documents.items()
    }
    for one, opening in zip(asked, openings, strict=True):
        holders, others = documents[opening], totals[opening] - 1
        counts = [len(holders[a]) - (one.pair.document_id in holders[a]) for a in one.answers if a in holders]
        rival = next((len(holders[a]) for a in ranked[opening] if a not in one.answers), 0)
        if max(counts) >= max(MAJORITY_DOCUMENTS, MAJORITY_SHARE * others, rival):
            yield Finding(
                one.pair.id,
                "guessable",
                f"{one.pair.id}: {quote(one.pair.answers[0])} is also the answer of {max(counts)} other "
                f"documents' questions that begin with {quote(opening)}, {max(counts) / others:.0%} of them",
            )


def find_same_questions(asked: Iterable[AskedPair]) -> Iterator[Finding]:
    """Pairs that ask the same word for word and accept no answer in common: all of them are ambiguous."""
    for same in _group(asked, lambda one: one.question).values():
        expected = {one.answers: one for one in reversed(same)}
        for one in same:
            other = next((other for other in expected.values() if not _agree(one, other)), None)
            if other is not None:
                yield Finding(
                    one.pair.id,
                    "ambiguous",
                    f"{one.pair.id}: {other.pair.id} asks the same and expects "
                    f"{quote(other.pair.answers[0])}, not {quote(one.pair.answers[0])}",
                    other.pair.id,
                )


def find_duplicates(asked: Iterable[AskedPair], *, flagged: Collection[str]) -> Iterator[Finding]:
    """Pairs that ask what an earlier one asks and accept the same answer.

    Within a document nearly the same question is a duplicate, across documents only the same one.

    Args:
        asked: in the order of the file; of two the later is the duplicate.
        flagged: ids of pairs that are dropped for another reason. Nothing is a duplicate of them: the fact
            would be lost with both.
    """
    in_document: dict[str, list[AskedPair]] = defaultdict(list)
    by_question: dict[str, list[AskedPair]] = defaultdict(list)
    for one in asked:
        if one.pair.id in flagged:
            continue
        earlier = in_document[one.pair.document_id]
        near = (other for other in earlier if _agree(one, other) and _is_near(one.cues, other.cues))
        same = (other for other in by_question[one.question] if _agree(one, other))
        original = next(near, None) or next(same, None)
        if original is None:
            earlier.append(one)
            by_question[one.question].append(one)
            continue
        yield Finding(
            one.pair.id,
            "duplicate",
            f"{one.pair.id}: asks the same as {original.pair.id}, {quote(original.pair.question)}",
            original.pair.id,
        )


def group_by_document(asked: Iterable[AskedPair]) -> dict[str, list[AskedPair]]:
    """Pairs by document, in their order."""
    return _group(asked, lambda one: one.pair.document_id)


def _group(asked: Iterable[AskedPair], key: Callable[[AskedPair], str]) -> dict[str, list[AskedPair]]:
    groups: dict[str, list[AskedPair]] = defaultdict(list)
    for one in asked:
        groups[key(one)].append(one)
    return groups


def _agree(one: AskedPair, other: AskedPair) -> bool:
    return not set(one.answers).isdisjoint(other.answers)


def _is_near(cues: frozenset[str], others: frozenset[str]) -> bool:
    return len(cues & others) >= NEAR_DUPLICATE * len(cues | others)
