"""Documents that contradict each other, as their sentences and questions show it.

    for found in find_contradictions(documents, pairs):      # documents: read as a stream, some again
        found.certain, found.describe()
        # "Orlin has … employees": "30" in old.md line 3, "40" in new.md line 1

Two sentences contradict each other when they differ in one value and can hold for one only (`statements`),
and nothing tells them apart: they name what they speak of, or their documents have the same title or `entity`
and the sentences the same heading, or the documents are otherwise alike, with no other names and numbers. Two
questions do when they are the same but for case and punctuation, ask for one value of something that they
name, and accept answers that cannot both be right. Where the question may have several right answers ("What
does Orlin sell?") the contradiction is not certain.

What stands within one document is not compared, and a document that holds both values settles the matter by
itself. Rather a contradiction is missed than one seen that is none.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from demask.documents.places import find_place
from demask.documents.sentences import find_sentences
from demask.knowledge.audit import find_fact
from demask.knowledge.audit_rules import ask, find_cues, quote, read_words
from demask.knowledge.directions import FUNCTION_WORDS
from demask.knowledge.statements import GAP, Said, Value, differ, find_statements, read_names, read_value
from demask.records import Document, QAPair
from demask.words import ARTICLES, Span, find_phrase, split_words

# Of the sides of one contradiction, as many as are named in its line.
_NAMED = 4
# Of the words of two documents: so many may differ where nothing else tells them apart.
_OTHERWISE = 0.2
_TODAY = frozenset({"now", "currently", "today", "presently"})
# They ask for one of several, and either answer is right.
_LISTING = re.compile(
    r"\A\W*(?:name|give|list|mention|(?:what|which|who)\s+(?:are|were)\b)|\b(?:one of|an? example|such as"
    r"|another|else|besides|known for|famous for|include|several|any)\b",
    re.IGNORECASE,
)
_ONE_NUMBER = re.compile(
    r"\b(?:how (?:many|much|long|old|tall|high|far|big|large|deep|heavy|wide|fast|late|early)|when"
    r"|(?:what|which) (?:year|month|date|day|time|number|price|age))\b",
    re.IGNORECASE,
)
_THE_ONE = re.compile(
    r"\A\W*(?:(?:who|what|which(?:\s+\w+){1,2})\s+is\s+(?:the|\S+[’']s)\b"
    r"|(?:who|which \w+|by whom was|what)\s+(?:\S+\s+)?(?:founded|invented|wrote|discovered|leads|heads|owns"
    r"|designed|composed|painted|directed|succeeded|replaced)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Side:
    """What one document says.

    Attributes:
        document_id: the document.
        value: what it says, as it stands.
        place: file and line.
        span: of the sentence in the document's text; None where no sentence could be told.
        pair_ids: of the QA pairs that ask for it.
    """

    document_id: str
    value: str
    place: str
    span: Span | None
    pair_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contradiction:
    """What documents say differently.

    Attributes:
        about: the question, or the sentence with a gap for the value.
        sides: two or more, in the order of the documents.
        certain: False where all of them may be right.
    """

    about: str
    sides: tuple[Side, ...]
    certain: bool = True

    def describe(self) -> str:
        """One line for people."""
        told = [f"{quote(side.value)} in {side.place}" for side in self.sides[:_NAMED]]
        more = len(self.sides) - len(told)
        return f"{quote(self.about)}: {', '.join(told)}{f' and {more} more places' if more else ''}"


class _Entry(NamedTuple):
    """A statement and where it stands."""

    document: int
    span: Span
    said: Said


def find_contradictions(documents: Sequence[Document], pairs: Sequence[QAPair] = ()) -> list[Contradiction]:
    """What the documents say differently, that of most documents first.

    Args:
        documents: all are read once, those that may contradict each other again.
        pairs: the questions about them.
    """
    outline = _outline(documents)
    texts = _Texts(documents)
    names = outline.names.union(*(read_names(pair.question) for pair in pairs))
    groups: dict[tuple[str, ...], list[_Entry]] = defaultdict(list)
    for number in outline.suspects:
        for entry in _read_entries(number, texts[number]):
            groups[entry.said.frame].append(entry)
    places = outline.places
    found = [
        contradiction
        for group in groups.values()
        if len({entry.document for entry in group}) > 1
        for contradiction in _compare_sentences(group, texts, names)
    ]
    known = {(side.document_id, side.span) for one in found for side in one.sides}
    for contradiction in _compare_questions(pairs, texts, places):
        if not all((side.document_id, side.span) in known for side in contradiction.sides):
            found.append(contradiction)
    return sorted(found, key=lambda one: (not one.certain, -len(one.sides)))


class _Outline(NamedTuple):
    """What one reading of all documents leaves, so that memory does not grow with their texts.

    Attributes:
        places: the numbers of documents, by id.
        suspects: numbers of documents with a sentence that others say with another value, in order.
        names: words that are capitalised within a sentence, in lower case.
    """

    places: dict[str, int]
    suspects: list[int]
    names: set[str]


def _outline(documents: Iterable[Document]) -> _Outline:
    # By hash of the frame: numbers of documents and hashes of values. Equal hashes cost a second look.
    seen: dict[int, list[tuple[int, int]]] = defaultdict(list)
    places: dict[str, int] = {}
    names: set[str] = set()
    for number, document in enumerate(documents):
        places[document.id] = number
        for entry in _read_entries(number, document):
            value = hash(entry.said.value.text.casefold())
            seen[hash(entry.said.frame)].append((number, value))
            names |= entry.said.names
    suspects = {
        number
        for said in seen.values()
        if len({number for number, _ in said}) > 1 and len({value for _, value in said}) > 1
        for number, _ in said
    }
    return _Outline(places, sorted(suspects), names)


def _read_entries(number: int, document: Document) -> Iterator[_Entry]:
    for span in find_sentences(document.text):
        for said in find_statements(document.text[span.start : span.end]):
            yield _Entry(number, span, said)


def compare_questions(documents: Sequence[Document], pairs: Sequence[QAPair]) -> list[Contradiction]:
    """Those of `find_contradictions` that questions show, whatever sentences do."""
    places = {document.id: number for number, document in enumerate(documents)}
    return list(_compare_questions(pairs, _Texts(documents), places))


class _Texts:
    """Documents that are looked at again, by number, each read once."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._read: dict[int, Document] = {}

    def __getitem__(self, number: int) -> Document:
        if number not in self._read:
            self._read[number] = self._documents[number]
        return self._read[number]


def _compare_sentences(group: Sequence[_Entry], texts: _Texts, names: set[str]) -> Iterator[Contradiction]:
    """At most one contradiction of the sentences with one frame."""
    kept = [entry for entry in group if _is_alone(entry, group)]
    sides = {
        entry
        for one, other in combinations(kept, 2)
        if differ(one.said.value, other.said.value)
        and one.document != other.document
        and _is_about_same(one, other, texts, names)
        and not _holds(texts[one.document], other.said.unit)
        and not _holds(texts[other.document], one.said.unit)
        for entry in (one, other)
    }
    if not sides:
        return
    ordered = sorted(sides, key=lambda entry: (entry.document, entry.span))
    first = ordered[0]
    document = texts[first.document]
    sentence = document.text[first.span.start : first.span.end]
    yield Contradiction(
        sentence.replace(first.said.value.text, GAP, 1).rstrip(".!"),
        tuple(
            Side(
                texts[entry.document].id,
                entry.said.value.text,
                find_place(texts[entry.document], entry.span.start),
                entry.span,
            )
            for entry in ordered
        ),
    )


def _is_alone(entry: _Entry, group: Sequence[_Entry]) -> bool:
    """Whether its document says it once: what it says twice with two values is a list."""
    return not any(
        other.document == entry.document and differ(entry.said.value, other.said.value) for other in group
    )


def _is_about_same(one: _Entry, other: _Entry, texts: _Texts, names: set[str]) -> bool:
    """Whether nothing tells apart what two sentences with the same words are about."""
    said = one.said
    if said.names or said.opening in names:
        return True
    first, second = texts[one.document], texts[other.document]
    shared = _identity(first) & _identity(second)
    if said.opening and any(said.opening in key.split() for key in shared):
        return True
    if shared and _section(first, one.span) == _section(second, other.span):
        return True
    titled = _identity(first) or _identity(second)
    return not titled and _are_alike(_rest(first, one.span), _rest(second, other.span))


def _identity(document: Document) -> frozenset[str]:
    """What a document is about, as its title and its `entity` say."""
    said = (document.title, str(document.metadata.get("entity") or ""))
    return frozenset(" ".join(text.casefold().split()) for text in said if text.strip())


def _section(document: Document, span: Span) -> str:
    """The heading that a sentence stands under; empty without any."""
    sections = document.metadata.get("sections")
    heading = ""
    for offset, _, title in sections if isinstance(sections, list | tuple) else ():
        if offset > span.start:
            break
        heading = str(title).casefold()
    return heading


def _rest(document: Document, span: Span) -> frozenset[str]:
    """The words of a document outside one sentence."""
    text = f"{document.text[: span.start]}\n{document.text[span.end :]}"
    return frozenset(word.bare for word in split_words(text, keep_case=True))


def _are_alike(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two texts have the same names and numbers, and most other words in common."""
    different = one ^ other
    told_apart = any(word[:1].isupper() or word[:1].isdigit() for word in different)
    return not told_apart and len(different) <= _OTHERWISE * len(one | other)


def _holds(document: Document, value: str) -> bool:
    return find_phrase(document.text, value) is not None


# Questions


class _Answered(NamedTuple):
    """A QA pair and its accepted answers as they are compared."""

    document: int
    pair: QAPair
    values: tuple[Value, ...]


def _compare_questions(
    pairs: Sequence[QAPair], texts: _Texts, places: Mapping[str, int]
) -> Iterator[Contradiction]:
    same: dict[tuple[str, ...], list[QAPair]] = defaultdict(list)
    for pair in pairs:
        if pair.document_id in places:
            same[_read_question(pair.question)].append(pair)
    for asked in same.values():
        if len({pair.document_id for pair in asked}) > 1 and not _LISTING.search(asked[0].question):
            group = [
                _Answered(places[pair.document_id], pair, tuple(map(read_value, pair.answers)))
                for pair in asked
            ]
            yield from _compare_answers(group, texts)


def _read_question(question: str) -> tuple[str, ...]:
    return tuple(word.text for word in split_words(question) if word.text not in ARTICLES | _TODAY)


def _compare_answers(group: Sequence[_Answered], texts: _Texts) -> Iterator[Contradiction]:
    listed = {
        one.document
        for one, other in combinations(group, 2)
        if one.document == other.document and _disagree(one, other)
    }
    sides: dict[int, _Answered] = {}
    for one, other in combinations([one for one in group if one.document not in listed], 2):
        if one.document == other.document or not _disagree(one, other):
            continue
        documents = texts[one.document], texts[other.document]
        if _either_holds_both(one, other, documents) or not _asks_of_same(one.pair, documents):
            continue
        sides.setdefault(one.document, one)
        sides.setdefault(other.document, other)
    if not sides:
        return
    ordered = [sides[number] for number in sorted(sides)]
    yield Contradiction(
        ordered[0].pair.question,
        tuple(_make_side(one, group, texts[one.document]) for one in ordered),
        certain=all(map(_asks_for_one, ordered)),
    )


def _disagree(one: _Answered, other: _Answered) -> bool:
    return all(differ(value, another) for value in one.values for another in other.values)


def _either_holds_both(one: _Answered, other: _Answered, documents: tuple[Document, Document]) -> bool:
    return any(_holds(documents[0], answer) for answer in other.pair.answers) or any(
        _holds(documents[1], answer) for answer in one.pair.answers
    )


def _asks_of_same(pair: QAPair, documents: tuple[Document, Document]) -> bool:
    """Whether a question of both documents is about one thing: it names it, or both documents do."""
    names = read_names(pair.question)
    if names:
        return all(
            any(_holds(document, name) or name in _identity(document) for name in names)
            for document in documents
        )
    return bool(_identity(documents[0]) & _identity(documents[1]))


def _asks_for_one(one: _Answered) -> bool:
    """Whether a question has one right answer; who or what has a property may be several."""
    question = one.pair.question
    if _ONE_NUMBER.search(question):
        return any(value.numbers or value.day for value in one.values)
    content = find_cues(question) - {name[:7] for name in read_names(question)}
    return _THE_ONE.match(question) is not None and bool(content - FUNCTION_WORDS)


def _make_side(one: _Answered, group: Iterable[_Answered], document: Document) -> Side:
    text = read_words(document)
    sentence = find_fact(text, ask(one.pair))
    span = None if sentence is None else text.sentences[sentence].span
    ids = tuple(other.pair.id for other in group if other.document == one.document)
    return Side(document.id, one.pair.answers[0], find_place(document, span.start if span else 0), span, ids)
