"""Fictitious people and what they are known for, as arXiv 2510.09885 trains and tests on them.

    benchmark = load_name_description(folder, facts=[0, 30], versions=5)

60 facts of Berglund et al. (arXiv 2309.12288), each in 30 versions, and eight questions to each, four either
way, by Lin et al. (MIT). Facts 0 to 29 are told name first, 30 to 59 description first. The first version is
the document, the others are paraphrases in the same order. None is published in the other order.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demask.benchmarks.benchmark import ENTITY, Benchmark, PublishedFile, find_entity
from demask.documents.text_files import read_json_lines, read_text
from demask.errors import DataError
from demask.records import Document, Paraphrase, QAPair

NAME = "name-description"
FACTS = 60
VERSIONS = 30
_NAME_FIRST = 30
_QUESTIONS = 8

_COMMIT = "389bb4d1b16bbc6ba75f2b57cb09c6614776c59b"
_ORIGIN = f"GitHub alibaba/thinking_bias, commit {_COMMIT[:7]}"
_ADDRESS = f"https://raw.githubusercontent.com/alibaba/thinking_bias/{_COMMIT}/data"
TEXTS = PublishedFile(
    "name_description_qa/people-description.json",
    "e844b89bbd541dbd7010fe9baafbf06c6933f02fe7ec2ae8dfa6e2d606777dc3",
    _ORIGIN,
    f"{_ADDRESS}/training_data/people-description.json",
)
QUESTIONS = PublishedFile(
    "name_description_qa/people-description_open-QAs.jsonl",
    "5169f6af324af2efca161f2ae52c95f16d85d5400e3455a1eb007343a8809d53",
    _ORIGIN,
    f"{_ADDRESS}/test_data/people-description_open-QAs.jsonl",
)
FILES = (TEXTS, QUESTIONS)
# Name first and description first in turn, so that any even stretch holds as many of either.
FACT_ORDER = tuple(fact for first in range(_NAME_FIRST) for fact in (first, first + _NAME_FIRST))


def load_name_description(data: Path, *, facts: Sequence[int], versions: int = 0) -> Benchmark:
    """Documents, questions and published paraphrases of some facts.

    Args:
        data: folder of published sets.
        facts: which of the 60.
        versions: paraphrases per text, at most; 29 are published.

    Raises:
        DataError: the files are missing or are not what they should be.
    """
    texts: list[dict[str, Any]] = json.loads(read_text(data / TEXTS.path))
    questions = [line.values for line in read_json_lines(data / QUESTIONS.path)]
    if len(texts) != FACTS * VERSIONS or len(questions) != FACTS * _QUESTIONS:
        raise DataError(
            f"{data / TEXTS.path}: {len(texts)} texts and {len(questions)} questions, expected 1800 and 480"
        )
    documents: list[Document] = []
    pairs: list[QAPair] = []
    paraphrases: list[Paraphrase] = []
    for fact in facts:
        id = f"fact-{fact:02}"
        first, *others = [row["text"].strip() for row in texts[VERSIONS * fact : VERSIONS * (fact + 1)]]
        asked = [
            _make_pair(row, fact, number)
            for number, row in enumerate(questions[_QUESTIONS * fact : _QUESTIONS * (fact + 1)])
        ]
        names = [pair.answers[0] for pair in asked if pair.kind == "D2N"]
        documents.append(Document(id, first, metadata={ENTITY: find_entity(first, names, id)}))
        pairs += asked
        paraphrases += [
            Paraphrase(f"{id}~same-order-{number}", id, text, "same-order")
            for number, text in enumerate(others[:versions], start=1)
        ]
    return Benchmark(NAME, tuple(documents), tuple(pairs), tuple(paraphrases))


def _make_pair(row: dict[str, object], fact: int, number: int) -> QAPair:
    return QAPair(
        id=f"fact-{fact:02}-{number}",
        document_id=f"fact-{fact:02}",
        question=str(row["question"]),
        answers=(str(row["answer"]),),
        direction="forward" if (row["task"] == "N2D") == (fact < _NAME_FIRST) else "backward",
        kind=str(row["task"]),
    )
