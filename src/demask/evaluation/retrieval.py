"""Retrieval as a baseline: the passages that share the most telling words with a question, by BM25.

    index = PassageIndex(passages)
    found = index.search("Who founded the Orlin works?", top=3)     # best first
    measure_recall([found, ...], pairs, top=1)                      # by direction

BM25 is that of SQLite's FTS5, which comes with Python: no server, no embedding model. Words are those that
answers are compared by (`demask.words`), so that a script without spaces is cut into characters and "Voss's"
finds "Voss".

Source: Robertson et al. 1994 (Okapi at TREC-3), with k1 = 1.2 and b = 0.75, as FTS5 has them. A word that
stands in half of the passages or more counts next to nothing, so there is no list of stop words.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

from demask.errors import RunError
from demask.records import DIRECTIONS, Passage, QAPair
from demask.words import split_words

# Of a passage only its words are kept, in a file that SQLite deletes itself; the texts stay where they are.
_TABLE = "CREATE VIRTUAL TABLE passages USING fts5(words, content='', tokenize='ascii')"
_INSERT = "INSERT INTO passages(rowid, words) VALUES (?, ?)"
# Passages that fit a question equally well come in their own order.
_SEARCH = "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY bm25(passages), rowid LIMIT ?"


@dataclass(frozen=True)
class Retrieved:
    """What was found for a question.

    Attributes:
        qa_id: the QA pair whose question it was.
        passages: their ids, the best first; fewer than asked for where no others share a word with it.
        documents: the document of each.
        fitting: how many of them, from the best on, fit the model's context together.
    """

    qa_id: str
    passages: tuple[str, ...]
    documents: tuple[str, ...]
    fitting: int


def check_search() -> None:
    """See whether this Python's SQLite can search texts.

    Raises:
        RunError: it was built without FTS5.
    """
    with closing(sqlite3.connect("")) as database:
        try:
            database.execute(_TABLE)
        except sqlite3.OperationalError as error:
            raise RunError(
                f"evaluate.retrieval: SQLite {sqlite3.sqlite_version} of this Python was built without FTS5, "
                f"which retrieval needs ({error}); use another Python, or leave retrieval out"
            ) from error


class PassageIndex:
    """Passages that can be searched by words.

    Args:
        passages: read once to be searched, and again one by one where they are found; may lie on disk.

    Raises:
        RunError: SQLite was built without FTS5.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        check_search()
        self._passages = passages
        self._database = sqlite3.connect("")
        with self._database:
            self._database.execute(_TABLE)
            self._database.executemany(
                _INSERT,
                ((place, " ".join(_terms(p.training_text))) for place, p in enumerate(passages)),
            )

    def search(self, question: str, *, top: int) -> list[Passage]:
        """The `top` passages that fit a question best, the best first; only such as share a word with it."""
        terms = dict.fromkeys(_terms(question))
        if not terms:
            return []
        query = " OR ".join(f'"{term}"' for term in terms)
        return [self._passages[place] for (place,) in self._database.execute(_SEARCH, (query, top))]


def _terms(text: str) -> Iterator[str]:
    """Words as FTS5 can neither split nor take for its own: `c++` as the hexadecimal digits of its bytes."""
    for word in split_words(text):
        yield word.bare.encode("utf-8", "replace").hex()


def measure_recall(
    found: Sequence[Retrieved], pairs: Sequence[QAPair], *, top: int
) -> dict[str, dict[str, float | int]]:
    """The share of questions whose own document is among the first `top`, by direction, with 95% intervals.

    Args:
        found: for each pair, in their order.
        pairs: whose questions were searched with.
        top: passages that count.

    Returns:
        Numbers as of `Estimate`, for the directions that occur, forward first.
    """
    from demask.evaluation.statistics import estimate_mean

    hits: Mapping[str, list[tuple[float, str]]] = {direction: [] for direction in DIRECTIONS}
    for one, pair in zip(found, pairs, strict=True):
        hit = float(pair.document_id in one.documents[:top])
        hits[pair.direction].append((hit, pair.document_id))
    return {
        direction: asdict(estimate_mean([hit for hit, _ in some], [document for _, document in some]))
        for direction, some in hits.items()
        if some
    }
