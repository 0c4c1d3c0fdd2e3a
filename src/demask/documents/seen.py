"""A set of ids that takes 16 to 32 bytes for each, however long they are.

    seen = SeenIds()
    seen.add("a"), seen.add("a")  # True, False

It keeps a 64-bit hash of each. That two of a million ids share one has a chance of 3 in 100 million; who
can look the ids up again does so before calling it an error.
"""

from array import array

_PLACES = 2**12  # at first; always a power of two


class SeenIds:
    """Ids that were met: a table with open addressing, at most half full, as searching then is short."""

    def __init__(self) -> None:
        self._table = array("q", bytes(8 * _PLACES))
        self._last = _PLACES - 1
        self._free = _PLACES // 2

    def __contains__(self, name: str) -> bool:
        key = hash(name) or 1  # 0 marks a free place
        return self._table[_find(self._table, key)] == key

    def add(self, name: str) -> bool:
        """Add an id; False when it was there already."""
        # As `_find`, written out: a call more for each id is felt when there are millions.
        key = hash(name) or 1
        table, last = self._table, self._last
        place = key & last
        while found := table[place]:
            if found == key:
                return False
            place = (place + 1) & last
        table[place] = key
        self._free -= 1
        if not self._free:
            self._grow()
        return True

    def _grow(self) -> None:
        old, table = self._table, array("q", bytes(16 * len(self._table)))
        for key in old:
            if key:
                table[_find(table, key)] = key
        self._table, self._last, self._free = table, len(table) - 1, len(old) // 2


def _find(table: "array[int]", key: int) -> int:
    """The place of a key, or the free one where it belongs."""
    last = len(table) - 1
    place = key & last
    while (found := table[place]) and found != key:
        place = (place + 1) & last
    return place
