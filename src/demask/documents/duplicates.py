"""Passages that say nearly the same, which a model would see more often than its user thinks.

    for found in find_near_duplicates(passages):
        found.first_id, found.second_id, found.similarity  # "a", "b", 0.93

Similarity is the Jaccard index of the sets of three consecutive words, or characters where a script puts no
space between words. Candidates come from MinHash with locality-sensitive hashing (Broder 1997; Leskovec et
al., Mining of Massive Datasets, chapter 3); each is then compared exactly, so a pair may be missed by chance
but is never wrong.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from demask.records import Passage
from demask.words.folding import UNSPACED

if TYPE_CHECKING:
    import numpy as np

_WORDS = 3  # of a shingle
_PERMUTATIONS = 128
_SEED = 1
# Of how many earlier passages that seem alike the most similar one is looked for.
_CANDIDATES = 100
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


class NearDuplicate(NamedTuple):
    """Two passages that say nearly the same."""

    first_id: str
    second_id: str  # the later one
    similarity: float  # in (0, 1], 1 when all their words are the same


def find_near_duplicates(passages: Iterable[Passage], *, threshold: float = 0.8) -> list[NearDuplicate]:
    """For each passage that is like an earlier one, the earlier one it is most like.

    Args:
        passages: read once; of each, 4 bytes a word and its hashes are held.
        threshold: the similarity, in (0, 1], from which on two are near duplicates.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}, expected a number in (0, 1]")
    import numpy as np
    from datasketch import MinHash, MinHashLSH

    plain = MinHash(num_perm=_PERMUTATIONS, seed=_SEED, hashfunc=int)
    # Rather candidates too many, which are compared, than too few.
    index = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS, weights=(0.1, 0.9))
    ids: list[str] = []
    shingles: list[np.ndarray[Any, np.dtype[np.uint32]]] = []
    equal: dict[bytes, int] = {}
    found = []
    for passage in passages:
        own = np.unique(np.fromiter(_hash_shingles(passage.text), dtype=np.uint32))
        number = equal.setdefault(own.tobytes(), len(ids))
        if number < len(ids):
            found.append(NearDuplicate(ids[number], passage.id, 1.0))
            continue
        sketch = plain.copy()
        sketch.update_batch(own.tolist())
        first, similarity = _most_similar(own, shingles, sorted(index.query(sketch))[:_CANDIDATES])
        if similarity >= threshold:
            found.append(NearDuplicate(ids[first], passage.id, similarity))
        index.insert(len(ids), sketch, check_duplication=False)
        ids.append(passage.id)
        shingles.append(own)
    return found


def _hash_shingles(text: str) -> Iterable[int]:
    """One number for each three words in a row; a shorter text is one shingle."""
    words = [word.encode() for word in _WORD.findall(text.casefold())] or [text.strip().encode()]
    last = max(1, len(words) - _WORDS + 1)
    return (zlib.crc32(b" ".join(words[place : place + _WORDS])) for place in range(last))


def _most_similar(
    own: "np.ndarray[Any, np.dtype[np.uint32]]",
    others: "Sequence[np.ndarray[Any, np.dtype[np.uint32]]]",
    candidates: Iterable[int],
) -> tuple[int, float]:
    """The number of the candidate with the highest Jaccard index, and that index; 0.0 without candidates."""
    import numpy as np

    best, highest = 0, 0.0
    for number in candidates:
        shared = len(np.intersect1d(own, others[number], assume_unique=True))
        similarity = shared / (len(own) + len(others[number]) - shared)
        if similarity > highest:
            best, highest = number, similarity
    return best, highest
