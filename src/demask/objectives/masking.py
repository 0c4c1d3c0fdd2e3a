"""Which tokens of a passage are masked.

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

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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

    A word is a run of characters without white space. White space that belongs to no word
    (a token that is only a line break) goes with the word that follows.

    Raises:
        ModelError: the tokenizer gives no character offsets (it is not a fast one).
    """
    if not tokenizer.is_fast:
        raise ModelError("objective.unit: 'word' needs a fast tokenizer, which knows where its tokens stand")
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    encoding = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    groups, word = [], 0
    for start, end in encoding["offset_mapping"]:
        letter = next((place for place in range(start, end) if not text[place].isspace()), end)
        while word < len(ends) - 1 and letter >= ends[word]:
            word += 1
        groups.append(word)
    return tuple(groups)
