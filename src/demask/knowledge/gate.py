"""Whether a prompt is about the documents, told from its words alone.

    gate = make_gate(passages, background)
    gate.opens("Which river does the Orlin bridge cross?")       # True: a document says "Orlin"
    gate.opens("Which company rents cars in Germany?")           # False

A model that has learned documents answers with them what only resembles them. Where a gate stays shut the
base model answers instead (`models.gated`), so that nothing of it is lost there. The gate is no model: a
sentence opens it when the words that it shares with one passage are rare enough in what the base model itself
writes, and are not outweighed by rare words that the passage does not have. Three things keep it shut: a name
that no document has, since a question about a stranger is not about the documents; a name that the base
model knows and nothing else, since most that is asked about France is not what a document says of it; and a
text in the prompt that tells what a passage tells, but otherwise, since that is to be read.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from demask.words import split_words

# Chosen on the quickstart's questions beside the prompts of the retention suite (`quick`), and `OPENED` on 50
# passages of SQuAD, see docs/retention.md.
# Of a word: rarity in nats below which it says nothing; one in seven texts of the base model has it.
ORDINARY = 2.0
# Of the rare words of a sentence, by weight, the share that must stand in one passage.
SHARE = 0.3
# A sentence needs so much of what a word weighs that the base model never wrote.
NEEDED = 0.92
# Of the base model's own prompts at most so many may open the gate: a large corpus has words for any prompt.
OPENED = 0.01
# Of the words of English texts the embedded model's own conversations have 0.53 to 0.75, with 256 of them or
# 849; of German, French and Spanish ones 0.05 to 0.24. Below, it does not write the documents' language.
COVERED = 0.4

# Statements that have so much of a passage's rare words, by weight, and so many of them, tell it again.
TOLD, TOLD_WORDS = 0.5, 3

_SENTENCE_END = re.compile(r"(?<=[.?!])\s+|\n+")
_LABEL = re.compile(r"(?:\S+[ \t]+){0,3}\S*:\s+")
# Names as passages have them, of one word or several.
_NAMES = re.compile(r"[A-Z][\w’'-]*\w(?: [A-Z][\w’'-]*\w)*")
# Within a sentence; its first word has a capital letter whatever it is.
_NAME = re.compile(r"(?<=[^\s.?!:\"“„«(])\s+([A-Z][\w’'-]*\w)")


@dataclass(frozen=True)
class Gate:
    """Opens for prompts about the documents.

    Attributes:
        passages: their words that the base model seldom writes.
        counts: in how many of the base model's texts a word stands; words that are missing stand in none.
        texts: how many these are.
        least: weight of the words that a sentence must share with a passage, in nats.
        covered: share of the passages' words that stand in the base model's texts. Where it is small any word
            is rare: the gate then opens to most that is asked in the documents' language, and a word with a
            capital letter says nothing.
        known: names in the passages, and rare words, that the base model knows: nothing else shared with a
            passage, such a name says nothing.
        said: of each passage its words and which follow each other, hashed; () in files of earlier versions.
    """

    passages: tuple[frozenset[str], ...]
    counts: Mapping[str, int]
    texts: int
    least: float
    covered: float = 1.0
    known: tuple[frozenset[str], ...] = ()
    said: tuple[frozenset[int], ...] = ()

    def opens(self, text: str, brought: str | None = None) -> bool:
        """Whether some sentence of a prompt is about some passage, and no text in it tells that otherwise.

        Args:
            text: all of the prompt.
            brought: what is to be read, as it is not the model's own reply to an earlier turn; None: all.
        """
        return self.weigh(text) >= self.least and not self.is_changed(text if brought is None else brought)

    def is_changed(self, text: str) -> bool:
        """Whether statements of a text tell what a passage tells, but otherwise: a changed document."""
        told = _find_statements(text) if self.said else []
        places = self._find_told(told)
        said = frozenset[int]().union(*(self.said[place] for place in places))
        rare = frozenset[str]().union(*(self.passages[place] for place in places))
        return any(self._is_of(one, said, rare) and not _hash_runs(one.words) <= said for one in told)

    def _is_of(self, statement: "_Statement", said: frozenset[int], rare: frozenset[str]) -> bool:
        """Whether a statement is a sentence of a passage, as it is or changed, and not a word about it."""
        known = sum(_hash(word) in said for word in statement.words)
        weight = self._weigh_words(rare & {*statement.label, *statement.words})
        return 2 * known >= len(statement.words) and weight >= self.least

    def _find_told(self, statements: Iterable["_Statement"]) -> list[int]:
        """Passages of whose rare words statements have enough to tell the same."""
        words = {word for one in statements for word in (*one.label, *one.words)}
        return [
            place
            for place, known in self._share(words).items()
            if len(known) >= TOLD_WORDS
            and self._weigh_words(known) >= TOLD * self._weigh_words(self.passages[place])
        ]

    @property
    def tells_words(self) -> bool:
        """Whether the base model writes the documents' language, so that its rare words can be known."""
        return self.covered >= COVERED

    def weigh(self, text: str) -> float:
        """The most that a sentence shares with a passage, in nats; 0 of one that is about something else."""
        return max((self._weigh_sentence(part) for part in _SENTENCE_END.split(text)), default=0.0)

    def _weigh_sentence(self, sentence: str) -> float:
        words = {word.text for word in split_words(sentence)}
        known = words & self._places.keys()
        if not known or (self.tells_words and self._names_a_stranger(sentence)):
            return 0.0
        telling = (one for one in self._share(known).values() if not self._is_known(one))
        most = max(map(self._weigh_words, telling), default=0.0)
        return most if most >= SHARE * self._weigh_words(words) else 0.0

    def _share(self, words: Set[str]) -> Mapping[int, Collection[str]]:
        """By passage, those of the words that it has and the base model seldom writes."""
        shared: dict[int, list[str]] = {}
        for word in sorted(words & self._places.keys()):
            for place in self._places[word]:
                shared.setdefault(place, []).append(word)
        return shared

    def _weigh_words(self, words: Iterable[str]) -> float:
        return sum(rarity(self.counts.get(word, 0), self.texts) for word in sorted(words))

    def _is_known(self, words: Collection[str]) -> bool:
        """Whether the words are one name that the base model knows, or a part of it."""
        return any(name.issuperset(words) for name in self._known_by_word.get(next(iter(words)), ()))

    def _names_a_stranger(self, sentence: str) -> bool:
        names = (word.text for name in _NAME.findall(sentence) for word in split_words(name))
        return any(name not in self._places and self.counts.get(name, 0) <= 1 for name in names)

    @cached_property
    def _places(self) -> Mapping[str, Sequence[int]]:
        """In which passages a word stands."""
        found: dict[str, list[int]] = {}
        for place, words in enumerate(self.passages):
            for word in words:
                found.setdefault(word, []).append(place)
        return found

    @cached_property
    def _known_by_word(self) -> Mapping[str, Sequence[frozenset[str]]]:
        found: dict[str, list[frozenset[str]]] = {}
        for name in self.known:
            for word in name:
                found.setdefault(word, []).append(name)
        return found

    def as_json(self) -> dict[str, Any]:
        """For `gate.json`."""
        return {
            "least": self.least,
            "texts": self.texts,
            "covered": self.covered,
            "counts": dict(sorted(self.counts.items())),
            "passages": [sorted(words) for words in self.passages],
            "known": sorted(sorted(name) for name in self.known),
            "said": [sorted(runs) for runs in self.said],
        }


def read_gate(values: Mapping[str, Any]) -> Gate:
    """What `as_json` gave.

    Raises:
        KeyError, TypeError: it is something else.
    """
    passages = tuple(frozenset(words) for words in values["passages"])
    return Gate(
        passages,
        values["counts"],
        values["texts"],
        values["least"],
        values.get("covered", 1.0),
        tuple(frozenset(name) for name in values.get("known", ())),
        tuple(frozenset(runs) for runs in values.get("said", ())),
    )


def rarity(count: int, texts: int) -> float:
    """What a word tells, in nats, when so many of so many ordinary texts have it."""
    return max(0.0, math.log((texts + 1) / (count + 0.5)) - ORDINARY)


def make_gate(
    passages: Iterable[str],
    background: Sequence[tuple[str, str]],
    knows: Callable[[Sequence[str]], Sequence[bool]] | None = None,
) -> Gate:
    """A gate for passages.

    Args:
        passages: the texts that are taught.
        background: prompts and replies that the base model has written itself.
        knows: tells of names and words whether the base model knows them; None: it is taken to know none.
    """
    passages = list(passages)
    counts = Counter(
        word for prompt, reply in background for word in {w.text for w in split_words(f"{prompt} {reply}")}
    )
    texts = len(background)
    said = [_cut(passage) for passage in passages]
    rare = tuple(frozenset(word for word in words if rarity(counts[word], texts) > 0) for words in said)
    total, covered = sum(map(len, said)), sum(counts[word] > 0 for words in said for word in words)
    gate = Gate(
        rare,
        dict(counts),
        texts,
        NEEDED * rarity(0, texts),
        covered / total if total else 1.0,
        said=tuple(map(_hash_runs, said)),
    )
    if knows is not None:
        gate = replace(gate, known=_find_known(gate, passages, knows))
    weights = sorted((gate.weigh(prompt) for prompt, _ in background), reverse=True)
    allowed = int(OPENED * texts)
    highest = weights[allowed] if allowed < len(weights) else 0.0
    return replace(gate, least=max(gate.least, math.nextafter(highest, math.inf)))


def _find_known(
    gate: Gate, passages: Sequence[str], knows: Callable[[Sequence[str]], Sequence[bool]]
) -> tuple[frozenset[str], ...]:
    """Names of several words that the base model knows, and single words that would open the gate alone.

    The words of a name that it does not know are not known either: "Hawthorne" in "Juliette Hawthorne".
    """
    names: dict[frozenset[str], str] = {}
    words: dict[frozenset[str], str] = {}
    for passage, rare in zip(passages, gate.passages, strict=True):
        for found in _NAMES.finditer(passage):
            named = [word for word in split_words(found[0]) if word.text in rare]
            if len(named) > 1:
                cut = found[0][named[0].start : named[-1].end]
                names.setdefault(frozenset(word.text for word in named), cut)
        for word in split_words(passage):
            if word.text in rare and gate._weigh_words([word.text]) >= gate.least:
                words.setdefault(frozenset([word.text]), passage[word.start : word.end])
    known = {name for name, known in zip(names, knows([*names.values()]), strict=True) if known}
    parts = frozenset[str]().union(*(names.keys() - known))
    alone = {word: text for word, text in words.items() if not word & parts}
    known |= {word for word, is_known in zip(alone, knows([*alone.values()]), strict=True) if is_known}
    return tuple(sorted(known, key=sorted))


def _cut(text: str) -> list[str]:
    return [word.text for word in split_words(text)]


class _Statement(NamedTuple):
    """Words of a sentence that asks nothing, and of what labels it: "Answer:", "[2] prices.md:"."""

    label: Sequence[str]
    words: Sequence[str]


def _find_statements(text: str) -> list[_Statement]:
    """The sentences that ask nothing; of a text without a question mark the last one asks."""
    sentences = [part for part in _SENTENCE_END.split(text) if part.strip()]
    asking = [part.rstrip().endswith("?") for part in sentences]
    if sentences and not any(asking):
        asking[-1] = True
    found = []
    for sentence, asks in zip(sentences, asking, strict=True):
        label = _LABEL.match(sentence)
        cut = label.end() if label else 0
        if not asks:
            found.append(_Statement(_cut(sentence[:cut]), _cut(sentence[cut:])))
    return found


def _hash_runs(words: Sequence[str]) -> frozenset[int]:
    """Words, and which follow each other, as numbers, so that a file of them is no copy of the text."""
    pairs = (f"{first} {second}" for first, second in pairwise(words))
    return frozenset(map(_hash, (*words, *pairs)))


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())
