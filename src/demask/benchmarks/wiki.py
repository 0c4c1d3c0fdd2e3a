"""Facts of January to April 2025 from Wikipedia (CC BY-SA 4.0), one question each way.

    benchmark = load_wiki_events(folder, facts=range(40), versions=5, seed=0)

40 sentences or pairs of sentences, one fact each, not the 94 first sections of arXiv 2510.09885, which are
not published. Paraphrases are made here by demask's rules: five in the same order for every fact, and in the
other order for the 18 that the rules can turn.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demask.benchmarks.benchmark import ENTITY, Benchmark, find_entity
from demask.benchmarks.sources import PublishedFile
from demask.documents.text_files import read_json_lines
from demask.errors import DataError
from demask.knowledge.english import load_english
from demask.knowledge.paraphrasing.rules import make_paraphrases_by_rules
from demask.records import Direction, Document, Order, Paraphrase, Passage, QAPair

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


def load_wiki_events(data: Path, *, facts: Sequence[int], versions: int = 0, seed: int = 0) -> Benchmark:
    """Documents, questions and paraphrases by rules of some events.

    Args:
        data: folder of published sets.
        facts: which of the 40.
        versions: paraphrases per text and order, at most; the rules cannot always make as many.
        seed: draws the wordings.

    Raises:
        DataError: the file is missing or is not what it should be.
        RunError: paraphrases are asked for, and spaCy or its English model is not installed.
    """
    rows: list[dict[str, Any]] = [line.values for line in read_json_lines(data / EVENTS.path)]
    if len(rows) != FACTS:
        raise DataError(f"{data / EVENTS.path}: {len(rows)} facts, expected {FACTS}")
    chosen = [rows[fact] for fact in facts]
    documents = tuple(map(_make_document, chosen))
    pairs = tuple(_make_pair(row, direction) for row in chosen for direction in _DIRECTIONS)
    paraphrases = reword_by_rules(documents, pairs, count=versions, seed=seed) if versions else ()
    return Benchmark(NAME, documents, pairs, paraphrases)


def reword_by_rules(
    documents: Sequence[Document], pairs: Sequence[QAPair], *, count: int, seed: int
) -> tuple[Paraphrase, ...]:
    """Up to `count` paraphrases of each document in either order; those that lose an answer are left out.

    Raises:
        RunError: spaCy or its English model is not installed.
    """
    parse = load_english()
    passages = [Passage(document.id, document.id, document.text) for document in documents]
    return tuple(
        paraphrase
        for order in _ORDERS
        for paraphrase in make_paraphrases_by_rules(
            passages, count=count, order=order, seed=seed, pairs=pairs, parse=parse
        )
    )


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
