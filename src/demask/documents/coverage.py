"""How passages cover the files: what is trained of each, where sentences are cut, what is said twice.

    documents, again = tee(DocumentReader("facts/"))  # or a list
    rows = measure_file_coverage(documents, iter_passages(again, ...), reader.reports)
    rows[0].path, rows[0].share, rows[0].left_out
    for found in find_cuts(documents, iter_passages(again, ...)):
        found.lines, found.words, found.describe()
    for found in find_near_duplicates(passages):
        found.first_id, found.second_id, found.similarity  # "a", "b", 0.93

Similarity is the Jaccard index of the sets of three consecutive words, or characters where a script puts no
space between words. Candidates come from MinHash with locality-sensitive hashing (Broder 1997; Leskovec et
al., Mining of Massive Datasets, chapter 3); each is then compared exactly, so a pair may be missed by chance
but is never wrong.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from demask.documents.copies import hash_shingles
from demask.documents.parsed import FileReport, LeftOut, count_characters
from demask.documents.places import file_of
from demask.documents.sentences import CLAUSE_END, find_sentences
from demask.documents.text_files import shown
from demask.records import Document, Passage
from demask.words import Span

if TYPE_CHECKING:
    import numpy as np

# Characters on each side of the first cut, to find it by.
_BESIDE = 20
_CLAUSE_WINDOW = 8  # characters; longer than a stop with the quotes and brackets that close after it
_PERMUTATIONS = 128
_SEED = 1
# Of how many earlier passages that seem alike the most similar one is looked for.
_CANDIDATES = 100
# A document of so many passages that says so much of what others say is named as a whole.
_FEWEST_PASSAGES = 3
_REPEATED = 0.9


class FileCoverage(NamedTuple):
    """One row of the table; characters are visible ones."""

    path: str
    characters: int  # in the file
    kept: int  # of them, in documents
    trained: int  # of those, in passages
    share: float  # trained / characters, in [0, 1]; 0.0 of a file without text
    left_out: tuple[LeftOut, ...]
    problem: str = ""
    guessed: str = ""  # the encoding that it was read in, where it does not say it


class _Count(NamedTuple):
    characters: int = 0  # of the documents
    covered: int = 0  # of them, in passages


def measure_file_coverage(
    documents: Iterable[Document], passages: Iterable[Passage], reports: Iterable[FileReport]
) -> list[FileCoverage]:
    """One row for each file, in the order of the reports.

    Where a document writes more than its file (a table's columns are named in every row), its trained
    characters count in proportion.

    Args:
        documents: read once, side by side with the passages.
        passages: of these documents, in their order; a document may have none.
        reports: of the files; read last, so that the live list of a reader may be given.

    Raises:
        ValueError: a passage belongs to no document, or passages are in another order.
    """
    counts: dict[str, _Count] = {}
    for document, texts in side_by_side(documents, passages):
        path = file_of(document)
        before = counts.get(path, _Count())
        counts[path] = _Count(
            before.characters + count_characters(document.text),
            before.covered + count_covered(document.text, texts),
        )
    return [_make_row(report, counts.get(report.path, _Count())) for report in reports]


def count_covered(text: str, parts: Iterable[str]) -> int:
    """Visible characters of a text that stand in its parts, word for word, in order, without overlap."""
    return sum(count_characters(text[start:end]) for start, end in _find_parts(text, parts))


def _find_parts(text: str, parts: Iterable[str]) -> Iterator[Span]:
    position = 0
    for part in parts:
        start = text.find(part, position)
        if start >= 0:
            position = start + len(part)
            yield Span(start, position)


def side_by_side(
    documents: Iterable[Document], passages: Iterable[Passage]
) -> Iterator[tuple[Document, Sequence[str]]]:
    """Each document with the texts of its passages."""
    groups = groupby(passages, key=lambda passage: passage.document_id)
    waiting = next(groups, None)
    for document in documents:
        texts: list[str] = []
        if waiting is not None and waiting[0] == document.id:
            texts = [passage.text for passage in waiting[1]]
            waiting = next(groups, None)
        yield document, texts
    if waiting is not None:
        raise ValueError(
            f"passages of {waiting[0]!r} have no document at their place, expected the same order"
        )


def _make_row(report: FileReport, count: _Count) -> FileCoverage:
    trained = round(report.kept * count.covered / count.characters) if count.characters else 0
    share = trained / report.characters if report.characters else 0.0
    return FileCoverage(
        report.path,
        report.characters,
        report.kept,
        trained,
        share,
        report.left_out,
        report.problem,
        report.guessed,
    )


class DocumentCuts(NamedTuple):
    """How often one document is cut where no sentence ends, by what ends there."""

    place: str  # of the document
    lines: int
    clauses: int
    words: int
    characters: int  # cuts within a word
    first: str  # what stands before and after the first of them

    def describe(self) -> str:
        """One line for people."""
        kinds = {"lines": self.lines, "clauses": self.clauses, "words": self.words}
        counts = [f"{count} at ends of {kind}" for kind, count in kinds.items() if count]
        counts += [f"{self.characters} within words"] if self.characters else []
        return (
            f"{self.place}: sentences longer than a passage are cut {', '.join(counts)}; "
            f"the first at {shown(self.first)}"
        )


def find_cuts(documents: Iterable[Document], passages: Iterable[Passage]) -> Iterator[DocumentCuts]:
    """The documents whose passages do not all end with a sentence.

    Args:
        documents: read once, side by side with the passages.
        passages: of these documents, in their order; a document may have none.

    Raises:
        ValueError: passages are in another order.
    """
    for document, texts in side_by_side(documents, passages):
        if len(texts) > 1:
            ends = {span.end for span in find_sentences(document.text)}
            spans = pairwise(_find_parts(document.text, texts))
            cuts = [(before.end, after.start) for before, after in spans if before.end not in ends]
            if cuts:
                yield _describe_cuts(document, cuts)


def _describe_cuts(document: Document, cuts: Sequence[tuple[int, int]]) -> DocumentCuts:
    """The cuts, each as the end of a passage and the start of the next, by kind."""
    text, (end, start) = document.text, cuts[0]
    kinds = Counter(_name_kind(text, *cut) for cut in cuts)
    return DocumentCuts(
        document.source or f"document {shown(document.id)}",
        kinds["lines"],
        kinds["clauses"],
        kinds["words"],
        kinds["characters"],
        f"{text[max(0, end - _BESIDE) : end]}|{text[start : start + _BESIDE]}",
    )


def _name_kind(text: str, end: int, start: int) -> str:
    """What ends between one passage and the next."""
    if "\n" in text[end:start]:
        return "lines"
    first = max(0, end - _CLAUSE_WINDOW)
    if any(found.end() == end for found in CLAUSE_END.finditer(text, first, start + 1)):
        return "clauses"
    return "words" if start > end else "characters"


class NearDuplicate(NamedTuple):
    """Two passages that say nearly the same."""

    first_id: str
    second_id: str  # the later one
    similarity: float  # in (0, 1], 1 when all their words are the same


def find_near_duplicates(passages: Iterable[Passage], *, threshold: float = 0.8) -> list[NearDuplicate]:
    """For each passage that is like an earlier one, the earlier one it is most like.

    Args:
        passages: read once; of each, 4 bytes a word and its hashes are held.
        threshold: the similarity, in (0, 1], from which on two are near duplicates.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}, expected a number in (0, 1]")
    import numpy as np
    from datasketch import MinHash, MinHashLSH

    plain = MinHash(num_perm=_PERMUTATIONS, seed=_SEED, hashfunc=int)
    # Rather candidates too many, which are compared, than too few.
    index = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS, weights=(0.1, 0.9))
    ids: list[str] = []
    shingles: list[np.ndarray[Any, np.dtype[np.uint32]]] = []
    equal: dict[bytes, int] = {}
    found = []
    for passage in passages:
        own = np.unique(np.fromiter(hash_shingles(passage.text), dtype=np.uint32))
        number = equal.setdefault(own.tobytes(), len(ids))
        if number < len(ids):
            found.append(NearDuplicate(ids[number], passage.id, 1.0))
            continue
        sketch = plain.copy()
        sketch.update_batch(own.tolist())
        first, similarity = _most_similar(own, shingles, sorted(index.query(sketch))[:_CANDIDATES])
        if similarity >= threshold:
            found.append(NearDuplicate(ids[first], passage.id, similarity))
        index.insert(len(ids), sketch, check_duplication=False)
        ids.append(passage.id)
        shingles.append(own)
    return found


class RepeatedDocument(NamedTuple):
    """A document that says nearly what others say, such as a manual on one page beside its chapters."""

    id: str
    repeated: int  # its passages that say nearly what other documents say
    passages: int  # all of its passages


def find_repeated_documents(
    near: Iterable[NearDuplicate], passages: Sequence[Passage]
) -> list[RepeatedDocument]:
    """Documents that could be left out since others say nearly all of what they say, the longest first.

    What one of them says does not make another one superfluous: of two equal documents the later is found.

    Args:
        near: of these passages.
        passages: of all documents.
    """
    document_of = {passage.id: passage.document_id for passage in passages}
    counts = Counter(document_of.values())
    # By document: a passage of it, and the document of the passage that it is like.
    alike: dict[str, list[tuple[str, str]]] = {}
    for found in near:
        for own, other in ((found.first_id, found.second_id), (found.second_id, found.first_id)):
            if document_of[own] != document_of[other]:
                alike.setdefault(document_of[own], []).append((own, document_of[other]))
    repeated: dict[str, RepeatedDocument] = {}
    later_first = [document for document in reversed(counts) if document in alike]
    for document in sorted(later_first, key=lambda one: -counts[one]):
        said = len({own for own, other in alike[document] if other not in repeated})
        if counts[document] >= _FEWEST_PASSAGES and said >= _REPEATED * counts[document]:
            repeated[document] = RepeatedDocument(document, said, counts[document])
    return list(repeated.values())


def _most_similar(
    own: "np.ndarray[Any, np.dtype[np.uint32]]",
    others: "Sequence[np.ndarray[Any, np.dtype[np.uint32]]]",
    candidates: Iterable[int],
) -> tuple[int, float]:
    """The number of the candidate with the highest Jaccard index, and that index; 0.0 without candidates."""
    import numpy as np

    best, highest = 0, 0.0
    for number in candidates:
        shared = len(np.intersect1d(own, others[number], assume_unique=True))
        similarity = shared / (len(own) + len(others[number]) - shared)
        if similarity > highest:
            best, highest = number, similarity
    return best, highest
