"""Near misses of documents: the same said of something else, of which a model that learns them knows nothing.

    near = make_near_misses(passages, texts, count=256, seed=0)

A model that has learned what a camping stove burns says the same of any stove that it is asked about. What
the base model says to prompts about near misses is replayed beside the documents.
"""

import random
import re
from collections.abc import Mapping, Sequence
from functools import partial

from demask.objectives.masking import keyed_rng
from demask.records import Passage

_WORDS = re.compile(r"[^\W\d_]+")
_SYLLABLES = (
    *("ba", "bel", "bran", "cor", "dal", "dro", "el", "fen", "gar", "hol", "im", "jor", "kel", "lin", "lor"),
    *("mar", "mel", "nor", "ol", "pel", "quen", "ras", "sil", "tam", "tor", "ul", "ven", "vor", "wen", "zan"),
)


def make_near_misses(
    passages: Sequence[Passage], texts: Sequence[str], *, count: int, seed: int
) -> list[Passage]:
    """What passages say, of something else: their names are replaced by others.

    A name is a word with a capital letter that is nowhere written without one. Others are taken from the
    texts, or made of syllables. The first of a passage is its entity.

    Args:
        passages: each in turn; those without names are left out.
        texts: what the base model has written.
        count: how many.
        seed: of the other names.
    """
    written = [*texts, *(passage.text for passage in passages)]
    lower = {word for text in written for word in _WORDS.findall(text) if word.islower()}
    named = [(one, names) for one in passages if (names := find_names(one.text, lower))]
    known = [name for text in texts for name in find_names(text, lower)]
    made = []
    for number in range(count if named else 0):
        rng = keyed_rng("near miss", seed, number)
        passage, names = named[number % len(named)]
        others = {name: _other_name(known, rng) for name in names}
        text = _WORDS.sub(partial(_replace, others), passage.text)
        made.append(Passage(f"near {number}", "", text, entity=others[names[0]]))
    return made


def _replace(others: Mapping[str, str], found: re.Match[str]) -> str:
    return others.get(found[0], found[0])


def find_names(text: str, lower: set[str]) -> list[str]:
    """Words with a capital letter that are nowhere written without one.

    Args:
        text: in whose order they are given, each once.
        lower: words that are written without.
    """
    words = dict.fromkeys(word for word in _WORDS.findall(text) if word[0].isupper())
    return [word for word in words if len(word) > 2 and word.lower() not in lower]


def _other_name(known: Sequence[str], rng: random.Random) -> str:
    if known and rng.random() < 0.5:
        return rng.choice(known)
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3))).capitalize()
