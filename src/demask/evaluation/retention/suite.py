"""What a model is asked to find out what training changed: shipped texts, and the prompts made of them.

    suite = load_suite("quick")
    probes = base_probes(suite, sources)                    # asked of the base model
    probes = tuned_probes(suite, sources, known)            # asked of the trained one

The texts are versioned, and told apart by their fingerprint. A text that changes makes another version:
`VERSION` goes up, and its fingerprint is put on record. Figures of two versions, or of two sizes, are not
compared without a word. Nothing here sees a model. Every choice is a function of the suite and of the
questions, so that the same questions make the same probes in every run.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from demask.evaluation.qa import CEILING_PROMPT
from demask.generation.texts import Turn
from demask.knowledge.directions import find_answers
from demask.objectives.masking import keyed_rng
from demask.records import DIRECTIONS, QAPair
from demask.words import Span

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

VERSION = 2

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


# Probes: turns of a conversation, made of texts alone


Kind = Literal["everyday", "near-miss", "known", "access", "reading", "reading-changed"]

# How a question is asked. `bare` is asked by every run anyway.
FORMS = ("reworded", "system", "foreign exchange", "other document", "shots: known", "shots: documents")
SHOTS = 2

# A name: words with a capital letter, with numbers and small words between them.
_NAME = re.compile(r"[A-Z][\w'’-]*(?:(?: (?:of|the|and|de|van|von|la|&))* (?:[A-Z][\w'’-]*|\d+))*")
# What a sentence begins behind: "Dr. Voss" is in the middle of one.
_SENTENCE_END = re.compile(r"(?:\n|(?:^|\s)(?:[a-z0-9]\S*\.|\S+[?!])[\"\u201d\u2019')]*)\s*\Z")
_QUOTED = re.compile("[\"\u201c\u2018'](\\w[^\"\u201d\u2019']*)[\"\u201d\u2019'](?!\\w)")
_ARTICLE = re.compile(r"\b(?:a|an|the)\s+$", re.IGNORECASE)
_LEADING_ARTICLE = re.compile(r"^(?:a|an|the)\s+", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.,])\d+(?![\w,]|\.\d)")


@dataclass(frozen=True)
class Probe:
    """One prompt.

    Attributes:
        kind: what it is for.
        id: of the prompt, the fact or the QA pair.
        form: of the question, where it is asked in several.
        turns: the conversation up to the user's last turn.
        expected: of a document that was changed, what it says now.
    """

    kind: Kind
    id: str
    turns: tuple[Turn, ...]
    form: str = ""
    expected: str = ""


@dataclass(frozen=True)
class Sources:
    """What probes are made of, besides the suite.

    Attributes:
        pairs: the questions of the run.
        texts: by pair id, what is read to answer it: its document, or of a long one the passage that holds
            the answer; pairs without are not asked with a document.
        leaks: whether everyday prompts and near misses are asked, whose replies are searched for documents.
    """

    pairs: Sequence[QAPair]
    texts: Mapping[str, str]
    leaks: bool = True


def base_probes(suite: Suite, sources: Sources) -> list[Probe]:
    """What the base model is asked: all that the trained model's replies are compared with."""
    return [
        *_everyday(suite, sources),
        *_near_misses(suite, sources),
        *_known(suite.facts),
        *_changed_documents(suite, sources),
    ]


def tuned_probes(suite: Suite, sources: Sources, known: Sequence[KnownFact]) -> list[Probe]:
    """What the trained model is asked.

    Args:
        suite: the texts.
        sources: questions and documents.
        known: the facts that the base model knows.
    """
    reading = [pair for pair in choose_pairs(sources.pairs, suite.size.reading) if pair.id in sources.texts]
    return [
        *_everyday(suite, sources),
        *_near_misses(suite, sources),
        *_known(known[: suite.size.known]),
        *_in_every_form(suite, sources.pairs, known or suite.facts),
        *(Probe("reading", pair.id, _with_document(sources.texts[pair.id], pair)) for pair in reading),
        *_changed_documents(suite, sources),
    ]


def choose_pairs(pairs: Sequence[QAPair], most: int) -> list[QAPair]:
    """At most so many pairs of each direction, evenly over documents; the same whatever their order."""
    chosen = []
    for direction in DIRECTIONS:
        ranks: dict[str, int] = {}
        ranked = []
        for pair in sorted(
            (pair for pair in pairs if pair.direction == direction),
            key=lambda pair: keyed_rng("access", pair.id, pair.question).random(),
        ):
            ranks[pair.document_id] = ranks.get(pair.document_id, 0) + 1
            ranked.append((ranks[pair.document_id], pair))
        chosen += [pair for _, pair in sorted(ranked, key=lambda one: one[0])[:most]]
    return chosen


def _user(text: str) -> tuple[Turn, ...]:
    return (Turn("user", text),)


def _everyday(suite: Suite, sources: Sources) -> Iterator[Probe]:
    asked = suite.everyday if sources.leaks else ()
    return (Probe("everyday", one.id, _user(one.prompt)) for one in asked)


def _known(facts: Sequence[KnownFact]) -> Iterator[Probe]:
    for fact in facts:
        yield Probe("known", fact.id, _user(fact.question), form="question")
        yield Probe("known", fact.id, _user(fact.reworded), form="reworded")


def _near_misses(suite: Suite, sources: Sources) -> Iterator[Probe]:
    """Half are the questions about the documents with strangers in them, where they name anything."""
    most = suite.size.near_misses if sources.leaks else 0
    made = []
    for pair in choose_pairs(sources.pairs, most):
        question = replace_names(pair.question, suite.strangers, key=pair.id)
        if question != pair.question:
            made.append(Probe("near-miss", pair.id, _user(question), form="made"))
    half = made[: max(most // 2, most - len(suite.near_misses))]
    shipped = suite.near_misses[: most - len(half)]
    yield from half
    yield from (Probe("near-miss", one.id, _user(one.question), form="shipped") for one in shipped)


def replace_names(question: str, strangers: Mapping[str, Sequence[str]], *, key: str) -> str:
    """A question with every name in it replaced by an invented one, and without names its numbers.

    Args:
        question: as it is asked of the documents; unchanged when it names nothing.
        strangers: invented names, by what they name.
        key: of the draw.
    """
    rng = keyed_rng("strangers", key)
    spans = find_names(question)
    if not spans:
        spans, kinds = [Span(found.start(), found.end()) for found in _NUMBER.finditer(question)], ["numbers"]
    else:
        kinds = ["people", "places", "organisations", "things"]
    for span in reversed(spans):
        old = question[span.start : span.end]
        kind = kinds[0] if len(old.split()) == 2 or len(kinds) == 1 else rng.choice(kinds[1:])
        others = [name for name in strangers[kind] if name.casefold() not in question.casefold()]
        question = question[: span.start] + rng.choice(others) + question[span.end :]
    return question


def find_names(question: str) -> list[Span]:
    """Names in a question: quoted titles, and words with a capital letter that begin no sentence of it."""
    quoted = [Span(found.start(1), found.end(1)) for found in _QUOTED.finditer(question)]
    named = []
    for found in _NAME.finditer(question):
        if not found.start() or _SENTENCE_END.search(question, 0, found.start()):
            # "Which", "Who": only the words after it may be a name.
            rest = _NAME.search(found[0].partition(" ")[2]) if " " in found[0] else None
            if rest is None:
                continue
            start = found.end() - len(found[0].partition(" ")[2]) + rest.start()
            named.append(Span(start, start + len(rest[0])))
        else:
            named.append(Span(found.start(), found.end()))
    inside = [n for n in named if not any(q.start < n.end and n.start < q.end for q in quoted)]
    return sorted([*quoted, *inside])


def _in_every_form(suite: Suite, pairs: Sequence[QAPair], known: Sequence[KnownFact]) -> Iterator[Probe]:
    for pair in choose_pairs(pairs, suite.size.access):
        for form, turns in make_forms(suite, pair, pairs, known).items():
            yield Probe("access", pair.id, turns, form=form)


def make_forms(
    suite: Suite, pair: QAPair, pairs: Sequence[QAPair], known: Sequence[KnownFact]
) -> dict[str, tuple[Turn, ...]]:
    """A question in each of `FORMS`; those that need another document are left out when there is none.

    Args:
        suite: the texts around it.
        pair: what is asked.
        pairs: all questions, for exchanges about other documents.
        known: for answered questions about other things.
    """
    rng = keyed_rng("forms", pair.id, pair.question)
    question = Turn("user", pair.question)
    reworded = pair.reworded or rng.choice(suite.rewordings).format(question=pair.question)
    exchange = rng.choice(suite.exchanges)
    facts = rng.sample(list(known), min(SHOTS, len(known)))
    made = {
        "reworded": _user(reworded),
        "system": (Turn("system", rng.choice(suite.systems)), question),
        "foreign exchange": (Turn("user", exchange.user), Turn("assistant", exchange.assistant), question),
        "shots: known": _user(_with_shots(pair, [(fact.question, fact.answers[0]) for fact in facts])),
    }
    others = [
        other
        for other in pairs
        if other.document_id != pair.document_id and other.direction == pair.direction
    ]
    if others:
        other = rng.choice(others)
        answered = Turn("user", other.question), Turn("assistant", other.answers[0])
        shown = rng.sample(others, min(SHOTS, len(others)))
        made["other document"] = (*answered, question)
        made["shots: documents"] = _user(
            _with_shots(pair, [(other.question, other.answers[0]) for other in shown])
        )
    return {form: made[form] for form in FORMS if form in made}


def _with_shots(pair: QAPair, shots: Sequence[tuple[str, str]]) -> str:
    """Answered questions in front of one that is not."""
    shown = "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in shots)
    return f"{shown}Question: {pair.question}\nAnswer:"


def _with_document(text: str, pair: QAPair) -> tuple[Turn, ...]:
    return _user(CEILING_PROMPT.format(document=text, question=pair.question))


def _changed_documents(suite: Suite, sources: Sources) -> Iterator[Probe]:
    """Questions with a document that gives another answer than the one that was trained on."""
    for pair in choose_pairs(sources.pairs, suite.size.reading):
        text = sources.texts.get(pair.id)
        other = _other_answer(pair, sources.pairs, text) if text is not None else None
        if text is not None and other is not None:
            changed = replace_answer(text, pair.answers, other)
            if changed != text:
                yield Probe("reading-changed", pair.id, _with_document(changed, pair), expected=other)


def _other_answer(pair: QAPair, pairs: Sequence[QAPair], text: str) -> str | None:
    """An answer of the same shape to another question of the same direction; None: there is none."""
    others = [
        other.answers[0]
        for other in pairs
        if other.direction == pair.direction
        and other.document_id != pair.document_id
        and not find_answers(text, other.answers)
        and not find_answers(other.answers[0], pair.answers)
    ]
    alike = [other for other in others if _shape(other) == _shape(pair.answers[0])]
    return keyed_rng("changed", pair.id, pair.question).choice(alike or others) if others else None


def _shape(answer: str) -> tuple[bool, bool]:
    """Whether it has a number, and whether it begins with a capital letter."""
    return any(map(str.isdigit, answer)), answer[:1].isupper()


def replace_answer(text: str, answers: Sequence[str], other: str) -> str:
    """The text with every place of an accepted answer saying something else."""
    for span in reversed(find_answers(text, answers)):
        has_article = _ARTICLE.search(text[: span.start]) is not None
        said = _LEADING_ARTICLE.sub("", other) if has_article else other
        text = text[: span.start] + said + text[span.end :]
    return text


def known_facts(facts: Sequence[KnownFact], right: Mapping[tuple[str, str], bool]) -> list[KnownFact]:
    """The facts whose both wordings were answered right.

    Args:
        facts: that were asked.
        right: by id and form.
    """
    return [
        fact
        for fact in facts
        if right.get((fact.id, "question"), False) and right.get((fact.id, "reworded"), False)
    ]


def asked_kind(pairs: Sequence[QAPair]) -> str:
    """The kind of thing that most questions ask for: person, place, number, time or thing."""
    counts: dict[str, int] = {}
    for pair in pairs:
        kind = _kind_of_question(pair.question)
        counts[kind] = counts.get(kind, 0) + 1
    return max(counts, key=lambda kind: counts[kind]) if counts else "thing"


def _kind_of_question(question: str) -> str:
    words = re.findall(r"\w+", question.casefold())
    if {"who", "whom", "whose"} & set(words):
        return "person"
    if "where" in words or {"city", "country", "town", "village", "river"} & set(words[:3]):
        return "place"
    if "when" in words or {"year", "date", "day", "month"} & set(words[:3]):
        return "time"
    return "number" if "how many" in " ".join(words) or "how much" in " ".join(words) else "thing"
