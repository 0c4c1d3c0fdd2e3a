"""Which tokens of a passage are masked.

    groups = word_groups(tokenizer, text)                              # or entity_groups, or single tokens
    rng = keyed_rng(seed, "document-7", epoch, variant)
    masked = draw_masking(groups, draw_ratio(rng, 0.05, 0.95), rng)

A draw depends on its key alone: the same masks come out whatever the batch size, the number of
workers or ranks, and after a restart.
"""

import hashlib
import random
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from demask.errors import ModelError
from demask.objectives.reverse import PARTICLES, group_entities
from demask.words import UNSPACED, WORD_END, WORD_START

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Pan et al. 2025 (arXiv 2510.09885), section A.4: a margin to (0, 1), as knowledge texts are short.
RATIO_RANGE = (0.05, 0.95)
_UNSPACED = re.compile(r"\S+")
# Without the scripts that put no space between words a text of theirs would be one word.
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def keyed_rng(*key: object) -> random.Random:
    """A generator that is a function of its key; stable over processes, machines and versions."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in key).encode()).digest()
    return random.Random(int.from_bytes(digest[:16], "big"))


def draw_ratio(rng: random.Random, low: float, high: float) -> float:
    """A mask ratio, uniform over [low, high]."""
    return low + (high - low) * rng.random()


def draw_masking(groups: Sequence[int], ratio: float, rng: random.Random) -> tuple[bool, ...]:
    """Mask each group of tokens with chance `ratio`, independently.

    Args:
        groups: one number per token; tokens of equal number are masked together.
        ratio: chance in [0, 1]; 0 masks nothing, 1 everything.
    """
    fates = {group: rng.random() < ratio for group in dict.fromkeys(groups)}
    return tuple(fates[group] for group in groups)


def word_groups(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    """For each token of the text, the number of the word that its first letter stands in.

    A word is a run of characters without white space; in scripts that put none between words, each
    character. White space that belongs to no word (a token that is only a line break) goes with the word
    that follows.

    Raises:
        ModelError: the tokenizer gives no character offsets (it is not a fast one).
    """
    return _number_tokens(tokenizer, text, WORD)


def _number_tokens(
    tokenizer: "PreTrainedTokenizerBase", text: str, pattern: re.Pattern[str]
) -> tuple[int, ...]:
    """For each token, the number of the match of a pattern that its first letter stands in."""
    ends = [match.end() for match in pattern.finditer(text)]
    groups, word = [], 0
    for start, end in locate_tokens(tokenizer, text):
        letter = next((place for place in range(start, end) if not text[place].isspace()), end)
        while word < len(ends) - 1 and letter >= ends[word]:
            word += 1
        groups.append(word)
    return tuple(groups)


def entity_groups(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    """For each token of the text, the number of the name, quoted title or other word that it belongs to.

    Names and titles are what reverse training keeps in order.

    Raises:
        ModelError: the tokenizer gives no character offsets.
    """
    units = group_entities(text.split())
    unit_of_word = [number for number, unit in enumerate(units) for _ in unit]
    return tuple(unit_of_word[word] if units else 0 for word in _number_tokens(tokenizer, text, _UNSPACED))


def find_mentions(tokenizer: "PreTrainedTokenizerBase", text: str, entity: str) -> tuple[bool, ...]:
    """For each token of the text, whether any of it belongs to a mention of the entity.

    Mentions are the whole name and each capitalised word of it that stands alone, such as a family name;
    particles and single letters are none, as they also stand in other names.

    Args:
        tokenizer: of the model that is trained.
        text: a passage.
        entity: a name; empty: nothing is a mention.

    Raises:
        ModelError: the tokenizer gives no character offsets.
    """
    offsets = locate_tokens(tokenizer, text)
    words = entity.split()
    if not words:
        return (False,) * len(offsets)
    bare = [re.sub(r"\A\W+|\W+\Z", "", word) for word in words]
    alone = [w for w in bare if len(w) > 1 and w[0].isupper() and w.lower() not in PARTICLES]
    names = [r"\s+".join(map(re.escape, words)), *map(re.escape, alone)]
    places = {
        place
        for found in re.finditer(rf"{WORD_START}(?:{'|'.join(names)}){WORD_END}", text)
        for place in range(found.start(), found.end())
    }
    return tuple(not places.isdisjoint(range(start, end)) for start, end in offsets)


def locate_tokens(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[tuple[int, int]]:
    """Where each token of the text stands: its first character, and the one after its last.

    Raises:
        ModelError: the tokenizer gives no character offsets (it is not a fast one).
    """
    if not tokenizer.is_fast:
        raise ModelError(
            "objective: words and entities can be masked with a fast tokenizer only, which knows where its "
            "tokens stand; set unit to 'token' and entity to 'as-others'"
        )
    encoding = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    return list(encoding["offset_mapping"])
