"""Keys of rows that hold text and are not trained: counted, and named once.

unused = UnusedKeys()
unused.add("explanation", row.values["explanation"])
describe_unused(unused.characters)  # not trained: 'explanation' (1,203 characters); ...
"""

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

# What only names a row carries nothing to learn.
_NAMES_A_ROW = re.compile(r"(?:.*_)?(?:id|uuid|uid)|idx|index", re.IGNORECASE)
# Keys that are named; the others are counted.
_MOST_NAMED = 8


@dataclass
class UnusedKeys:
    """How much text rows hold under keys that are not trained.

    Attributes:
        characters: of all rows together, by key.
    """

    characters: dict[str, int] = field(default_factory=dict)

    def add(self, key: str, value: object, *, trained: Iterable[str] = ()) -> None:
        """Count what a row holds under a key, unless it only names the row or stands in what is trained."""
        if value is None or _NAMES_A_ROW.fullmatch(key):
            return
        if isinstance(value, str) and any(value.strip() in text for text in trained):
            return
        count = count_text(value)
        if count:
            self.characters[key] = self.characters.get(key, 0) + count

    def merge(self, others: "UnusedKeys", *, ignore: Container[str] = ()) -> None:
        """Count what another has counted, but for the keys that are left out on purpose."""
        for key, count in others.characters.items():
            if key not in ignore:
                self.characters[key] = self.characters.get(key, 0) + count


def count_text(value: object) -> int:
    """Characters of all strings in a value of JSON, without its keys."""
    if isinstance(value, str):
        return len(value.strip())
    if isinstance(value, Mapping):
        return sum(map(count_text, value.values()))
    return sum(map(count_text, value)) if isinstance(value, list) else 0


def describe_unused(characters: Mapping[str, int]) -> str:
    """One line that names the keys, the one with the most text first; empty when there is none."""
    if not characters:
        return ""
    largest = sorted(characters, key=lambda key: (-characters[key], key))
    named = [f"{key!r} ({characters[key]:,} characters)" for key in largest[:_MOST_NAMED]]
    more = f" and {len(largest) - _MOST_NAMED} more keys" if len(largest) > _MOST_NAMED else ""
    return (
        f"not trained: {', '.join(named)}{more}; name what is to be trained in columns, and the others in "
        "columns.ignore"
    )
