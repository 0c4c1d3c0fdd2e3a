"""The texts of the retention suite: shipped, versioned, and told apart by their fingerprint.

    suite = load_suite("quick")
    suite.everyday[0].prompt, suite.size.everyday

A text that changes makes another version: `VERSION` goes up, and its fingerprint is put on record. Figures
of two versions, or of two sizes, are not compared without a word.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

SizeName = Literal["brief", "quick", "full"]

TEXTS = Path(__file__).parent / "texts"
FILES = (
    "everyday.jsonl",
    "known.jsonl",
    "near_misses.jsonl",
    "openings.jsonl",
    "strangers.json",
    "texts.jsonl",
    "wrappers.json",
)

VERSION = 1

R = TypeVar("R")


@dataclass(frozen=True)
class Size:
    """How much is asked.

    Attributes:
        everyday: unrelated prompts.
        near_misses: questions about strangers.
        candidates: easy facts that the base model is asked, to find those it knows.
        known: of those it knows, how many the trained model is asked, at most.
        conversations: that the base model writes, for the drift.
        texts: of ordinary prose, for the drift.
        access: questions for each direction that are asked in every form.
        reading: questions for each direction that are asked with a document.
    """

    everyday: int
    near_misses: int
    candidates: int
    known: int
    conversations: int
    texts: int
    access: int
    reading: int


# quick: none of n is then below 4% (everyday) and 6% (near misses). The embedded model knows about 58% of
# the candidates in both wordings, so there are as many as are asked. brief: a third, for the quickstart.
SIZES: Mapping[SizeName, Size] = {
    "brief": Size(34, 20, 44, 20, 16, 6, 4, 4),
    "quick": Size(100, 60, 130, 60, 48, 16, 12, 8),
    "full": Size(200, 160, 1000, 1000, 96, 16, 48, 48),
}


@dataclass(frozen=True)
class Everyday:
    """An ordinary prompt."""

    id: str
    topic: str
    prompt: str


@dataclass(frozen=True)
class KnownFact:
    """An easy fact in two wordings; `asks` is what kind of thing its answer is."""

    id: str
    kind: str
    asks: str
    question: str
    reworded: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class NearMiss:
    """A question about something that does not exist."""

    id: str
    asks: str
    question: str


@dataclass(frozen=True)
class Opening:
    """How a conversation begins that the base model goes on with; `follow_up` is the user's second turn."""

    id: str
    system: str | None
    user: str
    follow_up: str | None


@dataclass(frozen=True)
class Prose:
    """An ordinary text."""

    id: str
    register: str
    title: str
    text: str


@dataclass(frozen=True)
class Exchange:
    """A question of a user about something else, and its answer."""

    user: str
    assistant: str


@dataclass(frozen=True)
class Suite:
    """The texts of one size of the suite.

    Attributes:
        name: of the size.
        size: how much is asked.
        everyday: as many as the size says; so are `facts` (its candidates), `openings` and `texts`.
        near_misses: all that are shipped; those made of the questions come first.
        strangers: invented names, by what they name.
        systems: system prompts.
        exchanges: that stand in front of a question.
        rewordings: frames with `{question}` in them.
    """

    name: SizeName
    size: Size
    everyday: tuple[Everyday, ...]
    facts: tuple[KnownFact, ...]
    near_misses: tuple[NearMiss, ...]
    openings: tuple[Opening, ...]
    texts: tuple[Prose, ...]
    strangers: Mapping[str, tuple[str, ...]]
    systems: tuple[str, ...]
    exchanges: tuple[Exchange, ...]
    rewordings: tuple[str, ...]

    def describe(self) -> dict[str, object]:
        """What figures of this suite stand for: version, size and fingerprint."""
        return {"version": VERSION, "size": self.name, "fingerprint": suite_fingerprint()}


@cache
def load_suite(name: SizeName) -> Suite:
    """The suite in one of its sizes."""
    size = SIZES[name]
    wrappers = json.loads(_read("wrappers.json"))
    return Suite(
        name=name,
        size=size,
        everyday=_records("everyday.jsonl", Everyday)[: size.everyday],
        facts=_records("known.jsonl", KnownFact)[: size.candidates],
        near_misses=_records("near_misses.jsonl", NearMiss),
        openings=_records("openings.jsonl", Opening)[: size.conversations],
        texts=_records("texts.jsonl", Prose)[: size.texts],
        strangers={key: tuple(names) for key, names in json.loads(_read("strangers.json")).items()},
        systems=tuple(wrappers["systems"]),
        exchanges=tuple(Exchange(**exchange) for exchange in wrappers["exchanges"]),
        rewordings=tuple(wrappers["rewordings"]),
    )


@cache
def suite_fingerprint() -> str:
    """Of all texts, 16 hexadecimal digits; line ends do not count."""
    digest = hashlib.sha256()
    for name in FILES:
        digest.update(f"{name}\n{_read(name)}\n".encode())
    return digest.hexdigest()[:16]


def _read(name: str) -> str:
    return (TEXTS / name).read_text(encoding="utf-8")


def _records(name: str, kind: type[R]) -> tuple[R, ...]:
    return tuple(kind(**_tuples(json.loads(line))) for line in _read(name).splitlines() if line)


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        for key, value in row.items()
    }
