"""The audit of QA pairs: what is wrong with each, and what of the documents they leave out.

    audit = audit_pairs(pairs, documents)                  # documents: read twice, as a stream
    audit.findings[0].explanation                          # q7: the question names its own answer "Mara Voss"
    kept, rejects = split_flagged(pairs, audit)

What needs a model is passed in: which pairs the base model answered, closed-book and open-book. Documents are
read as a stream; in memory stay those that are asked about, and the ids of the others.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from demask.documents.sentences import find_sentences
from demask.documents.text_files import did_you_mean, shown
from demask.errors import DataError
from demask.knowledge.audit_rules import (
    SEVERITIES,
    AskedPair,
    DocumentWords,
    Finding,
    ask,
    check_pair,
    check_predictions,
    find_duplicates,
    find_guessable,
    find_names,
    find_same_questions,
    find_stems,
    group_by_document,
    make_plain,
    quote,
    read_words,
    stands_in,
    stem,
)
from demask.records import Direction, Document, QAPair

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
    covered = {find_fact(text, one) for one in asked}
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


def find_fact(text: DocumentWords, asked: AskedPair) -> int | None:
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


@dataclass(frozen=True)
class Coverage:
    """What is asked about, and what is not.

    Attributes:
        documents: those with QA pairs, in the order of their first pair.
        without_pairs: ids of all others, in the order of the documents.
        directions: number of pairs per direction.
    """

    documents: tuple[DocumentCoverage, ...]
    without_pairs: tuple[str, ...]
    directions: Mapping[Direction, int]

    @property
    def asked_sentences(self) -> float | None:
        """The share, in [0, 1], of the sentences of documents with pairs that are asked about."""
        total = sum(document.sentences for document in self.documents)
        return 1 - sum(len(document.uncovered) for document in self.documents) / total if total else None


@dataclass(frozen=True)
class Audit:
    """The audit of one set of QA pairs.

    Attributes:
        pairs: how many were checked.
        findings: in the order of the pairs.
        coverage: what they ask about.
        closed_book: whether the base model's answers without the document were given.
        open_book: whether its answers with the document were; if not, none is unanswerable.
    """

    pairs: int
    findings: tuple[Finding, ...]
    coverage: Coverage
    closed_book: bool
    open_book: bool

    @property
    def flagged(self) -> frozenset[str]:
        """Ids of the pairs that should not be scored."""
        return _flagged(self.findings)


class Kept(NamedTuple):
    """QA pairs without the flagged ones, and these with their reasons."""

    kept: tuple[QAPair, ...]
    rejects: tuple[dict[str, Any], ...]  # rows: the pair's fields and `reasons`


def audit_pairs(
    pairs: Sequence[QAPair],
    documents: Iterable[Document],
    *,
    closed_book: Mapping[str, bool] | None = None,
    open_book: Mapping[str, bool] | None = None,
) -> Audit:
    """Check QA pairs against their documents, each other, and what the base model said.

    Args:
        pairs: with unique ids.
        documents: all that are trained on; iterated twice.
        closed_book: by pair id whether the base model answered rightly without the document. Pairs that
            are not named were not asked; None: none was.
        open_book: the same with the pair's document in the prompt.

    Raises:
        DataError: a pair asks about a document that is not there.
        ValueError: the documents can be iterated only once.
    """
    if isinstance(documents, Iterator):
        raise ValueError("documents can be iterated only once, expected a list, or what reads the file anew")
    texts = collect_texts(documents, pairs)
    asked = [ask(pair) for pair in pairs]
    findings: list[Finding] = []
    footprints: list[Footprint] = []
    covered: list[DocumentCoverage] = []
    for document_id, group in group_by_document(asked).items():
        text = read_words(texts.asked[document_id])
        findings += [finding for one in group for finding in check_pair(one, text)]
        footprints += [found for one in group if (found := find_footprint(one, text))]
        covered.append(cover_document(text, group))
    for pair in pairs:
        findings += check_predictions(pair, closed_book=closed_book, open_book=open_book)
    findings += find_guessable(asked)
    findings += find_same_questions(asked)
    findings += find_rivals(footprints, documents)
    findings += find_duplicates(asked, flagged=_flagged(findings))
    return Audit(
        pairs=len(pairs),
        findings=_sort(findings, pairs),
        coverage=Coverage(
            documents=tuple(covered),
            without_pairs=texts.others,
            directions=dict(Counter(pair.direction for pair in pairs)),
        ),
        closed_book=closed_book is not None,
        open_book=open_book is not None,
    )


def split_flagged(pairs: Sequence[QAPair], audit: Audit) -> Kept:
    """Part the pairs that may be scored from those that are flagged, whose rows say why."""
    reasons: dict[str, list[dict[str, str]]] = defaultdict(list)
    for finding in audit.findings:
        if finding.severity == "flag":
            reasons[finding.pair_id].append(asdict(finding))
    kept = tuple(pair for pair in pairs if pair.id not in reasons)
    rejects = tuple({**asdict(pair), "reasons": reasons[pair.id]} for pair in pairs if pair.id in reasons)
    return Kept(kept, rejects)


def audit_as_json(audit: Audit) -> dict[str, Any]:
    """An audit as plain values for a JSON file.

    Keys: `pairs`, `flagged` (pairs with a finding of severity flag), `checked` (was the base model asked:
    `closed_book`, `open_book`), `counts` (findings per kind, every kind named), `findings` (the fields of a
    `Finding` and its `severity`) and `coverage` (the fields of `Coverage` and `asked_sentences`).
    """
    counts = Counter(finding.kind for finding in audit.findings)
    return {
        "pairs": audit.pairs,
        "flagged": len(audit.flagged),
        "checked": {"closed_book": audit.closed_book, "open_book": audit.open_book},
        "counts": {kind: counts[kind] for kind in SEVERITIES},
        "findings": [{**asdict(finding), "severity": finding.severity} for finding in audit.findings],
        "coverage": {**asdict(audit.coverage), "asked_sentences": audit.coverage.asked_sentences},
    }


def _flagged(findings: Iterable[Finding]) -> frozenset[str]:
    return frozenset(finding.pair_id for finding in findings if finding.severity == "flag")


def _sort(findings: Iterable[Finding], pairs: Sequence[QAPair]) -> tuple[Finding, ...]:
    """By pair, then by kind."""
    place = {pair.id: number for number, pair in enumerate(pairs)}
    order = {kind: number for number, kind in enumerate(SEVERITIES)}
    return tuple(sorted(findings, key=lambda finding: (place[finding.pair_id], order[finding.kind])))
