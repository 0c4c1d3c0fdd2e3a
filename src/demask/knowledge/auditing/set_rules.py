"""What QA pairs say about each other.

    asked = [ask(pair) for pair in pairs]
    findings = [*find_same_questions(asked), *find_duplicates(asked, flagged=())]

Only pairs of one document are compared one by one; across documents the same words are looked up.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from demask.knowledge.auditing.findings import Finding, quote
from demask.knowledge.auditing.pair_rules import AskedPair
from demask.knowledge.auditing.words import find_opening

# The share of their content words that two questions with the same answer have in common when they ask the
# same. At two thirds, bios has "What is the birth city of Adrian Hadley Andrews?" and "In which city did
# Adrian Hadley Andrews work?", both Charlotte: two facts. From 0.7 on, all of bios, wiki_events_2025,
# squad_passages and name_description_qa ask the same.
NEAR_DUPLICATE = 0.7
# From here on a guess without knowledge is no longer luck.
MAJORITY_SHARE = 0.2
MAJORITY_DOCUMENTS = 2  # that have the answer, besides the one asked about


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
