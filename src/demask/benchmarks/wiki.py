"""Facts of January to April 2025 from Wikipedia (CC BY-SA 4.0), one question each way.

    benchmark = load_wiki_events(folder, facts=range(40), versions=5)

40 sentences or pairs of sentences, one fact each, not the 94 first sections of arXiv 2510.09885, which are
not published. Five paraphrases of each fact in its order and five in the opposite one come with demask
(`wiki_paraphrases.jsonl`); they were written for it by hand.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demask.benchmarks.benchmark import ENTITY, Benchmark, PublishedFile, find_entity
from demask.documents.text_files import read_json_lines
from demask.errors import DataError
from demask.knowledge.files import load_paraphrases
from demask.records import Direction, Document, Order, Paraphrase, QAPair

NAME = "wiki"
FACTS = 40

EVENTS = PublishedFile(
    "wiki_events_2025/facts.jsonl",
    "f77a9c909044fb35671921fc33fddda8059ad10efe28b28863975627933c39f0",
    "Wikipedia's sentences out of GitHub TimelyEventsBenchmark/TiEBe, commit a9522cf, with questions written "
    "for this project",
)
FILES = (EVENTS,)

_DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")
_ORDERS: tuple[Order, ...] = ("same-order", "reversed")
_PARAPHRASES = Path(__file__).with_name("wiki_paraphrases.jsonl")
VERSIONS = 5  # paraphrases of each fact in either order


def load_wiki_events(data: Path, *, facts: Sequence[int], versions: int = 0) -> Benchmark:
    """Documents, questions and paraphrases of some events.

    Args:
        data: folder of published sets.
        facts: which of the 40.
        versions: paraphrases per text and order, at most; five are there.

    Raises:
        DataError: a file is missing or is not what it should be.
    """
    rows: list[dict[str, Any]] = [line.values for line in read_json_lines(data / EVENTS.path)]
    if len(rows) != FACTS:
        raise DataError(f"{data / EVENTS.path}: {len(rows)} facts, expected {FACTS}")
    chosen = [rows[fact] for fact in facts]
    documents = tuple(map(_make_document, chosen))
    pairs = tuple(_make_pair(row, direction) for row in chosen for direction in _DIRECTIONS)
    paraphrases = _load_paraphrases([row["id"] for row in rows])
    kept = tuple(p for row in chosen for order in _ORDERS for p in paraphrases[row["id"], order][:versions])
    return Benchmark(NAME, documents, pairs, kept)


def _load_paraphrases(facts: Sequence[str]) -> dict[tuple[str, Order], list[Paraphrase]]:
    """The paraphrases that come with demask, by fact and order, each as often as it should be there."""
    found: dict[tuple[str, Order], list[Paraphrase]] = defaultdict(list)
    for paraphrase in load_paraphrases(_PARAPHRASES, documents=facts):
        found[paraphrase.document_id, paraphrase.order].append(paraphrase)
    for fact in facts:
        for order in _ORDERS:
            if len(found[fact, order]) != VERSIONS:
                raise DataError(
                    f"{_PARAPHRASES}: {len(found[fact, order])} {order} paraphrases of {fact}, expected "
                    f"{VERSIONS}; install demask again"
                )
    return found


def _make_document(row: dict[str, Any]) -> Document:
    text: str = row["document"]
    names = _wordings(row["backward"])
    # One text names Belize by "Belizean" alone.
    derived = [word for name in names for word in re.findall(rf"\b{re.escape(name)}\w+", text)]
    entity = find_entity(text, [*names, *derived], row["id"])
    return Document(row["id"], text, row["page"], metadata={ENTITY: entity})


def _make_pair(row: dict[str, Any], direction: Direction) -> QAPair:
    asked = row[direction]
    return QAPair(
        f"{row['id']}-{direction}", row["id"], asked["question"], tuple(_wordings(asked)), direction
    )


def _wordings(asked: dict[str, Any]) -> list[str]:
    return [asked["answer"], *asked["aliases"]]
