"""Fictitious people, six sentences each, after Allen-Zhu and Li ("Physics of Language Models", Part 3.1).

    benchmark = load_biography(folder, facts=range(100), versions=5, seed=0)

Six questions forward, each for one attribute of a person, and three backward in the words of arXiv
2510.09885: the full name by three attributes that no other person of the file has together. Five other texts
of each person have other sentences in another sequence, but all begin with the name: to every question that
asks for or by the name they are in the same order. Demask's rules can put none of them the other way round.
"""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from demask.benchmarks.benchmark import ENTITY, Benchmark, PublishedFile, find_entity
from demask.documents.text_files import read_json_lines
from demask.errors import DataError
from demask.records import Document, Paraphrase, QAPair

NAME = "biography"
FACTS = 250
# So many people has the paper.
PAPER_FACTS = 100

PEOPLE = PublishedFile(
    "bios/people.jsonl",
    "cb74bdb0184deb9dfa7c1b3e4f4e22f9e478ea46cf52e451f01e4000a93f9813",
    "250 people drawn for this project from the lists of GitHub zhuzeyuan/PhysicsLM4, commit 211b28f",
)
FILES = (PEOPLE,)

# As a person would name them in a question, by the key in the file.
_ATTRIBUTES = {
    "birth_date": "date of birth",
    "birth_city": "city of birth",
    "university": "university",
    "major": "major",
    "company_city": "city of work",
    "company": "employer",
}
_BACKWARD = 3
_ASKED_TOGETHER = 3

Triple = tuple[str, ...]  # keys of `_ATTRIBUTES`


def load_biography(data: Path, *, facts: Sequence[int], versions: int = 0, seed: int = 0) -> Benchmark:
    """Documents, questions and published paraphrases of some people.

    Args:
        data: folder of published sets.
        facts: which of the 250 people. A person is asked about in the same words whoever else is chosen.
        versions: paraphrases per text, at most; 5 are there.
        seed: draws the attributes that backward questions name, and their order.

    Raises:
        DataError: the file is missing or is not what it should be, or a person has too few attributes that
            nobody shares.
    """
    people: list[dict[str, Any]] = [line.values for line in read_json_lines(data / PEOPLE.path)]
    if len(people) != FACTS:
        raise DataError(f"{data / PEOPLE.path}: {len(people)} people, expected {FACTS}")
    chosen = [people[fact] for fact in facts]
    backward = ask_for_names(people, seed)
    return Benchmark(
        NAME,
        documents=tuple(
            Document(
                person["id"],
                person["bio"],
                metadata={ENTITY: find_entity(person["bio"], [person["name"]], person["id"])},
            )
            for person in chosen
        ),
        pairs=tuple(pair for person in chosen for pair in [*_ask_forward(person), *backward[person["id"]]]),
        paraphrases=tuple(
            Paraphrase(f"{person['id']}~same-order-{number}", person["id"], text, "same-order")
            for person in chosen
            for number, text in enumerate(person["paraphrases"][:versions], start=1)
        ),
    )


def ask_for_names(people: Sequence[dict[str, Any]], seed: int) -> dict[str, list[QAPair]]:
    """Three backward questions to each person, by three different sets of attributes that nobody shares.

    Raises:
        DataError: a person has fewer than three such sets.
    """
    triples = list(combinations(_ATTRIBUTES, _ASKED_TOGETHER))
    holders = {triple: Counter(_values(person, triple) for person in people) for triple in triples}
    pairs: dict[str, list[QAPair]] = {}
    for person in people:
        own = [triple for triple in triples if holders[triple][_values(person, triple)] == 1]
        if len(own) < _BACKWARD:
            raise DataError(
                f"{person['id']}: {len(own)} sets of {_ASKED_TOGETHER} attributes are {person['name']}'s "
                f"alone, expected {_BACKWARD} to ask by; leave out people who resemble others"
            )
        rng = random.Random(f"{seed} {person['id']}")
        drawn = [rng.sample(triple, _ASKED_TOGETHER) for triple in rng.sample(own, _BACKWARD)]
        pairs[person["id"]] = [
            _ask_backward(person, triple, number) for number, triple in enumerate(drawn, start=1)
        ]
    return pairs


def _values(person: dict[str, Any], triple: Triple) -> tuple[str, ...]:
    return tuple(person[key] for key in triple)


def _ask_backward(person: dict[str, Any], triple: Sequence[str], number: int) -> QAPair:
    listed = " ".join(
        f"{place}) {_ATTRIBUTES[key]}: {person[key]}" for place, key in enumerate(triple, start=1)
    )
    return QAPair(
        id=f"{person['id']}-backward-{number}",
        document_id=person["id"],
        question=f"Give me the full name of the person who has the following attributes: {listed}",
        answers=(person["name"],),
        direction="backward",
        kind="name",
    )


def _ask_forward(person: dict[str, Any]) -> list[QAPair]:
    return [
        QAPair(
            id=f"{person['id']}-{row['attribute']}",
            document_id=person["id"],
            question=row["question"],
            answers=(row["answer"],),
            direction="forward",
            kind=row["attribute"],
        )
        for row in person["forward"]
    ]
