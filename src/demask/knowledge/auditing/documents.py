"""What QA pairs and all documents say about each other: what else fits, and what is not asked about.

    found = find_rivals(footprints, documents)     # documents that fit a question as well as its own does
    coverage = cover_document(text, asked)

Documents are read as a stream; in memory stay those that are asked about, and the ids of the others.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from demask.documents.sentences import find_sentences
from demask.documents.text_files import did_you_mean, shown
from demask.errors import DataError
from demask.knowledge.auditing.findings import Finding, quote
from demask.knowledge.auditing.pair_rules import AskedPair, DocumentWords, find_names
from demask.knowledge.auditing.words import find_stems, make_plain, stands_in, stem
from demask.records import Document, QAPair

# With fewer words of the question in its own document, another that has them too proves nothing.
FEWEST_CUES = 2
KNOWN_CUES = 0.75  # share of the question's cues


@dataclass(frozen=True)
class DocumentCoverage:
    """How a document is asked about.

    Attributes:
        document_id: the document.
        forward: number of QA pairs.
        backward: number of QA pairs.
        sentences: how many the document has.
        uncovered: those that no pair asks about, as they stand in the document.
    """

    document_id: str
    forward: int
    backward: int
    sentences: int
    uncovered: tuple[str, ...]


class Texts(NamedTuple):
    """The documents of an audit."""

    asked: dict[str, Document]  # by id
    others: tuple[str, ...]  # ids


class Footprint(NamedTuple):
    """The words of a question that point to its document."""

    asked: AskedPair
    in_document: frozenset[str]
    in_sentence: frozenset[str]  # those in the one sentence that has most of them


def collect_texts(documents: Iterable[Document], pairs: Sequence[QAPair]) -> Texts:
    """Keep the documents that are asked about, and the ids of the others.

    Raises:
        DataError: a pair asks about a document that is not there.
    """
    wanted = {pair.document_id for pair in pairs}
    asked: dict[str, Document] = {}
    others: list[str] = []
    for document in documents:
        if document.id in wanted:
            asked[document.id] = document
        else:
            others.append(document.id)
    for pair in pairs:
        if pair.document_id not in asked:
            raise DataError(
                f"QA pair {shown(pair.id)}: document_id is {shown(pair.document_id)}, expected the id of one "
                f"of the {len(asked) + len(others)} documents{did_you_mean(pair.document_id, others)}"
            )
    return Texts(asked, tuple(others))


def find_footprint(asked: AskedPair, text: DocumentWords) -> Footprint | None:
    """The words that point to the document; None when they say too little to look for them elsewhere.

    They do when a name, a number or many other words of the question are not in its own document. Names alone
    say too little: other documents may well tell of the same person or company.
    """
    in_document = asked.cues & text.stems
    in_sentence = max(
        (asked.cues & sentence.stems for sentence in text.sentences), key=len, default=frozenset[str]()
    )
    names = {stem(name.lower()) for name in find_names(asked.pair.question)}
    precise = {cue for cue in asked.cues if cue in names or any(map(str.isdigit, cue))}
    known = max(FEWEST_CUES, KNOWN_CUES * len(asked.cues))
    if len(in_document) < known or not precise <= in_document or in_sentence <= names:
        return None
    return Footprint(asked, in_document, in_sentence)


def find_rivals(footprints: Iterable[Footprint], documents: Iterable[Document]) -> Iterator[Finding]:
    """Pairs that another document fits as well as their own: same words, one sentence, another answer.

    The first such document of each pair is told. Footprints are looked up by the word that fewest have.
    """
    by_key = _index(list(footprints))
    told: set[str] = set()
    for document in documents:
        plain = make_plain(document.text)
        stems = find_stems(plain)
        near = (footprint for key in sorted(stems & by_key.keys()) for footprint in by_key[key])
        for footprint in near:
            pair = footprint.asked.pair
            fits = pair.id not in told and footprint.in_document <= stems
            if fits and _is_rival(footprint, document, plain):
                told.add(pair.id)
                yield _tell_rival(pair, document)


def _index(footprints: Sequence[Footprint]) -> dict[str, list[Footprint]]:
    counts = Counter(word for footprint in footprints for word in footprint.in_document)
    by_key: dict[str, list[Footprint]] = defaultdict(list)
    for footprint in footprints:
        by_key[min(footprint.in_document, key=lambda word: (counts[word], -len(word), word))].append(
            footprint
        )
    return dict(by_key)


def _is_rival(footprint: Footprint, document: Document, plain: str) -> bool:
    pair = footprint.asked.pair
    return (
        document.id != pair.document_id
        and not any(stands_in(answer, plain) for answer in pair.answers)
        and any(
            footprint.in_sentence <= find_stems(make_plain(document.text[start:end]))
            for start, end in find_sentences(document.text)
        )
    )


def _tell_rival(pair: QAPair, document: Document) -> Finding:
    return Finding(
        pair.id,
        "ambiguous",
        f"{pair.id}: document {quote(document.id)} fits the question as well as {quote(pair.document_id)} "
        f"does, but does not hold {quote(pair.answers[0])}",
    )


def cover_document(text: DocumentWords, asked: Sequence[AskedPair]) -> DocumentCoverage:
    """Which sentences of a document its pairs ask about: of each pair the one that tells the fact."""
    covered = {_find_fact(text, one) for one in asked}
    directions = Counter(one.pair.direction for one in asked)
    return DocumentCoverage(
        text.document.id,
        directions["forward"],
        directions["backward"],
        len(text.sentences),
        tuple(
            text.document.text[sentence.span.start : sentence.span.end]
            for number, sentence in enumerate(text.sentences)
            if number not in covered
        ),
    )


def _find_fact(text: DocumentWords, asked: AskedPair) -> int | None:
    """The sentence that a pair asks about; None: no word of question and answer stands in any.

    What comes later tells the fact: forward the sentence that holds the answer, backward the one with most
    cues ("Orlin is a firm. It burns peel."; "Which firm burns peel?").
    """
    words = asked.cues.union(*map(find_stems, asked.answers))
    scores = []
    for sentence in text.sentences:
        holds = any(stands_in(answer, sentence.plain) for answer in asked.pair.answers)
        cues = len(asked.cues & sentence.stems)
        known = len(words & sentence.stems)
        scores.append((holds, cues, known) if asked.pair.direction == "forward" else (cues, holds, known))
    best = max(range(len(scores)), key=scores.__getitem__, default=None)
    return best if best is not None and scores[best][2] else None
