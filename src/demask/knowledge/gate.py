"""Whether a prompt is about the documents, told from its words alone.

    gate = make_gate(passages, background)
    gate.opens("Which river does the Orlin bridge cross?")       # True: a document says "Orlin"
    gate.opens("Which company rents cars in Germany?")           # False

A model that has learned documents answers with them what only resembles them. Where a gate stays shut the
base model answers instead (`models.gated`), so that nothing of it is lost there. The gate is no model: a
sentence opens it when the words that it shares with one passage are rare enough in what the base model itself
writes, and are not outweighed by rare words that the passage does not have. A name that no document has keeps
it shut, since a question about a stranger is not about the documents.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

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

_SENTENCE_END = re.compile(r"(?<=[.?!])\s+|\n+")
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
    """

    passages: tuple[frozenset[str], ...]
    counts: Mapping[str, int]
    texts: int
    least: float
    covered: float = 1.0

    def opens(self, text: str) -> bool:
        """Whether some sentence of a prompt is about some passage."""
        return self.weigh(text) >= self.least

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
        shared: Counter[int] = Counter()
        for word in sorted(known):
            for place in self._places[word]:
                shared[place] += self._rarity(word)  # type: ignore[assignment]
        most = max(shared.values())
        return most if most >= SHARE * sum(self._rarity(word) for word in sorted(words)) else 0.0

    def _names_a_stranger(self, sentence: str) -> bool:
        names = (word.text for name in _NAME.findall(sentence) for word in split_words(name))
        return any(name not in self._places and self.counts.get(name, 0) <= 1 for name in names)

    def _rarity(self, word: str) -> float:
        return rarity(self.counts.get(word, 0), self.texts)

    @cached_property
    def _places(self) -> Mapping[str, Sequence[int]]:
        """In which passages a word stands."""
        found: dict[str, list[int]] = {}
        for place, words in enumerate(self.passages):
            for word in words:
                found.setdefault(word, []).append(place)
        return found

    def as_json(self) -> dict[str, Any]:
        """For `gate.json`."""
        return {
            "least": self.least,
            "texts": self.texts,
            "covered": self.covered,
            "counts": dict(sorted(self.counts.items())),
            "passages": [sorted(words) for words in self.passages],
        }


def read_gate(values: Mapping[str, Any]) -> Gate:
    """What `as_json` gave.

    Raises:
        KeyError, TypeError: it is something else.
    """
    passages = tuple(frozenset(words) for words in values["passages"])
    return Gate(passages, values["counts"], values["texts"], values["least"], values.get("covered", 1.0))


def rarity(count: int, texts: int) -> float:
    """What a word tells, in nats, when so many of so many ordinary texts have it."""
    return max(0.0, math.log((texts + 1) / (count + 0.5)) - ORDINARY)


def make_gate(passages: Iterable[str], background: Sequence[tuple[str, str]]) -> Gate:
    """A gate for passages.

    Args:
        passages: the texts that are taught.
        background: prompts and replies that the base model has written itself.
    """
    counts = Counter(
        word for prompt, reply in background for word in {w.text for w in split_words(f"{prompt} {reply}")}
    )
    texts = len(background)
    rare, known, words = [], 0, 0
    for passage in passages:
        said = [word.text for word in split_words(passage)]
        rare.append(frozenset(word for word in said if rarity(counts[word], texts) > 0))
        known, words = known + sum(counts[word] > 0 for word in said), words + len(said)
    gate = Gate(tuple(rare), dict(counts), texts, NEEDED * rarity(0, texts), known / words if words else 1.0)
    weights = sorted((gate.weigh(prompt) for prompt, _ in background), reverse=True)
    allowed = int(OPENED * texts)
    highest = weights[allowed] if allowed < len(weights) else 0.0
    return replace(gate, least=max(gate.least, math.nextafter(highest, math.inf)))
