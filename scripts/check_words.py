"""Words that the field has other words for; a line for each place where one of ours has come back.

    python scripts/check_words.py              # src, docs, recipes, scripts, perf, README.md, CONTRIBUTING.md

Exits with 1 when there is one. Texts that models are asked and trained on may hold any word.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

# What is not said, and what is said in its place.
WORDS = {
    r"lessons?": "training data",
    r"onlookers?": "callback",
    r"tellers?": "progress writer",
    r"crews?": "workers",
    r"seals?": "manifest",
    r"sealed": "listed in the manifest",
    r"number formats?": "dtype",
    r"matrix products?": "matmul",
    r"worked examples?": "few-shot examples",
    r"untouched model": "base model",
}
PLACES = ("src", "docs", "recipes", "scripts", "perf", "README.md", "CONTRIBUTING.md")
KINDS = (".py", ".md", ".yaml", ".jinja", ".html")
# With a capital letter or without; names in capitals, as of methods, are other words.
_BANNED = {re.compile(rf"\b[{word[0].upper()}{word[0]}]{word[1:]}\b"): say for word, say in WORDS.items()}


def find_files(places: list[Path]) -> Iterator[Path]:
    """All files that are checked, this one aside."""
    for place in places:
        found = [place] if place.is_file() else sorted(place.rglob("*"))
        yield from (
            file for file in found if file.suffix in KINDS and file.resolve() != Path(__file__).resolve()
        )


def check_file(path: Path) -> list[str]:
    """A line for each banned word of a file, with the word to use."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        f"{path}:{number} {match[0]!r}: say {say!r}"
        for number, line in enumerate(lines, start=1)
        for banned, say in _BANNED.items()
        for match in banned.finditer(line)
    ]


def main() -> None:
    """Check the places given, or all."""
    places = [Path(word) for word in sys.argv[1:] or PLACES]
    files = list(find_files(places))
    found = [line for file in files for line in check_file(file)]
    print("\n".join([*found, f"{len(files)} files, {len(found)} words to replace"]))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
