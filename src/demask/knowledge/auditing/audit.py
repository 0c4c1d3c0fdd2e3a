"""The audit of QA pairs: what is wrong with each, and what of the documents they leave out.

    audit = audit_pairs(pairs, documents)                  # documents: read twice, as a stream
    audit.findings[0].explanation                          # q7: the question names its own answer "Mara Voss"
    kept, rejects = split_flagged(pairs, audit)

What needs a model is passed in: which pairs the base model answered, closed-book and open-book.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from demask.knowledge.auditing.documents import (
    DocumentCoverage,
    Footprint,
    collect_texts,
    cover_document,
    find_footprint,
    find_rivals,
)
from demask.knowledge.auditing.findings import SEVERITIES, Finding
from demask.knowledge.auditing.pair_rules import (
    ask,
    check_pair,
    check_predictions,
    read_words,
)
from demask.knowledge.auditing.set_rules import (
    find_duplicates,
    find_guessable,
    find_same_questions,
    group_by_document,
)
from demask.records import Direction, Document, QAPair


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
