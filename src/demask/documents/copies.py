"""Copies of a document in other formats: a manual as HTML beside the same as PDF.

    seen = SeenTexts()
    copy = seen.find_copy(text, "pdf")      # Copy("manual.html", 0.97), or None
    seen.add(text, "html", "manual.html")

Compared are sets of three consecutive words, as for near duplicates. Texts of the same format are never
compared, as documents made from one template are much alike.
"""

import re
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from demask.documents.parsed import LeftOut
from demask.words import UNSPACED

if TYPE_CHECKING:
    import numpy as np

    Hashes: TypeAlias = np.ndarray[Any, np.dtype[np.uint32]]
    Owners: TypeAlias = np.ndarray[Any, np.dtype[np.int32]]

_WORDS = 3  # of a shingle
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
# Share of a text's shingles that stand in earlier texts of other formats. Of four of Debian's manuals in two
# to four formats each, copies had 0.92 to 1.00; Bash's manual page had 0.83 in common with its reference.
COPY_SHARE = 0.9
# A shorter text is no copy of anything: little is spared, and records made from a template are much alike.
_FEWEST = 50
COPY = "copy of "  # begins the reason in the account


class Copy(NamedTuple):
    """An earlier text that holds nearly all of another one."""

    path: str  # of the file that said most of it first
    share: float  # of the shingles that stand in earlier texts, in (0, 1]


def hash_shingles(text: str) -> Iterable[int]:
    """One number for each three words in a row; a shorter text is one shingle."""
    words = [word.encode() for word in _WORD.findall(text.casefold())] or [text.strip().encode()]
    last = max(1, len(words) - _WORDS + 1)
    return (zlib.crc32(b" ".join(words[place : place + _WORDS])) for place in range(last))


def is_copy(part: LeftOut) -> bool:
    """Whether a part of the account is a copy of what stands elsewhere, so that nothing is lost."""
    return part.reason.startswith(COPY)


class SeenTexts:
    """The shingles of all texts so far, by format; 8 bytes for each word."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._shelves: dict[str, list[tuple[Hashes, Owners]]] = {}

    def find_copy(self, text: str, form: str) -> Copy | None:
        """The earlier texts of other formats that hold nearly all of a text.

        Args:
            text: the document's.
            form: its format.
        """
        others = [shelf for name, shelves in self._shelves.items() if name != form for shelf in shelves]
        if not others:
            return None
        import numpy as np

        own = _unique(text)
        if len(own) < _FEWEST:
            return None
        owners = np.full(len(own), -1, dtype=np.int32)
        for hashes, of in reversed(others):  # of several that have a shingle the first is named
            places = np.minimum(np.searchsorted(hashes, own), len(hashes) - 1)
            owners = np.where(hashes[places] == own, of[places], owners)
        found = owners[owners >= 0]
        share = len(found) / len(own)
        if share < COPY_SHARE:
            return None
        return Copy(self._paths[int(np.bincount(found).argmax())], share)

    def add(self, text: str, form: str, path: str) -> None:
        """Remember a text.

        Args:
            text: the document's.
            form: its format.
            path: names it when a copy of it comes.
        """
        import numpy as np

        own = _unique(text)
        shelves = self._shelves.setdefault(form, [])
        shelves.append((own, np.full(len(own), len(self._paths), dtype=np.int32)))
        self._paths.append(path)
        # Few shelves, each at least twice as long as the next: so each number is moved a few times only.
        while len(shelves) > 1 and len(shelves[-2][0]) < 2 * len(shelves[-1][0]):
            (second, its_owners), (first, owners) = shelves.pop(), shelves.pop()
            hashes, places = np.unique(np.concatenate([first, second]), return_index=True)
            shelves.append((hashes, np.concatenate([owners, its_owners])[places]))


def _unique(text: str) -> "Hashes":
    import numpy as np

    return np.unique(np.fromiter(hash_shingles(text), dtype=np.uint32))
