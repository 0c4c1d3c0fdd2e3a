"""The account of losses, in lines for people: what of the files no document holds, largest first.

for line in describe_losses(reports): ...     # "manual.html: 1,200 of 9,000 characters left out (navigation)"
for line in describe_skipped(reader.skipped): ...
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from demask.documents.copies import COPY, is_copy
from demask.documents.parsed import LeftOut
from demask.documents.paths import suggest
from demask.documents.text_files import shown

# Of a file's visible characters: more than this left out is worth a look before hours of training.
LARGE_SHARE = 0.1
NOT_CHOSEN = "sections that are not asked for"


class Account(Protocol):
    """What became of one file: a `FileReport` or a `FileCoverage`."""

    @property
    def path(self) -> str:
        """Where it stands."""
        ...

    @property
    def characters(self) -> int:
        """Visible ones in the file."""
        ...

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Those that no document holds, by reason."""
        ...

    @property
    def guessed(self) -> str:
        """The encoding that it was read in, where it does not say it."""
        ...


def describe_losses(files: Iterable[Account]) -> list[str]:
    """One line for each reason in each file, those with most characters first; copies are told apart."""
    lines = [
        (part.characters, f"{file.path}: {part.characters:,} of {file.characters:,} characters left out "
         f"({part.reason})")
        for file in files
        for part in file.left_out
        if not is_copy(part)
    ]  # fmt: skip
    return [line for _, line in sorted(lines, key=lambda pair: -pair[0])]


def describe_large_losses(files: Iterable[Account]) -> list[str]:
    """A warning for each file of which much may be lost, those with most characters first.

    Links and short bars of a site do not count: they are most of a small page.
    """
    found = []
    for file in files:
        parts = [part for part in file.left_out if not is_copy(part)]
        lost = sum(part.doubtful for part in parts)
        if file.characters and lost > LARGE_SHARE * file.characters:
            most = max(parts, key=lambda part: part.doubtful)
            found.append((lost, file, most))
    return [
        f"warning: {file.path}: {lost / file.characters:.0%} of its text is left out, most as {most.reason} "
        f"({most.characters:,} characters, {shown(most.sample)}); read it with 'demask data read', and save "
        "as text what is missing"
        for lost, file, most in sorted(found, key=lambda one: -one[0])
    ]


def describe_copies(files: Iterable[Account]) -> Iterator[str]:
    """One line for all files that are copies of one, those with most characters first."""
    copies: dict[str, list[tuple[int, str]]] = {}
    for file in files:
        for part in filter(is_copy, file.left_out):
            first = part.reason.removeprefix(COPY)
            copies.setdefault(first, []).append((part.characters, file.path))
    for first, found in sorted(copies.items(), key=lambda pair: -sum(count for count, _ in pair[1])):
        characters = sum(count for count, _ in found)
        names = found[0][1] if len(found) == 1 else f"{len(found)} files, the first {found[0][1]}"
        yield (
            f"{names}: left out, {'a copy' if len(found) == 1 else 'copies'} of {first} in another format "
            f"({characters:,} characters); 'duplicates: keep-all' reads {'it' if len(found) == 1 else 'them'}"
        )


def describe_pages_without_text(files: Iterable[Account]) -> Iterator[str]:
    """One line for all pages of which nothing was read, as there is nothing in them but navigation."""
    empty = [
        file
        for file in files
        if file.characters and file.characters == sum(part.characters for part in file.left_out)
        if not any(is_copy(part) or part.reason == NOT_CHOSEN for part in file.left_out)
    ]
    if empty:
        first = max(empty, key=lambda file: file.characters).path
        names = first if len(empty) == 1 else f"{len(empty)} pages, the largest {first}"
        characters = sum(file.characters for file in empty)
        yield (
            f"{names}: left out, no text but navigation ({characters:,} characters); save as text "
            "what is missing"
        )


def describe_guesses(files: Iterable[Account]) -> Iterator[str]:
    """One line for each encoding that was guessed, those of most files first."""
    guesses: dict[str, list[str]] = {}
    for file in files:
        if file.guessed:
            guesses.setdefault(file.guessed, []).append(file.path)
    for name, paths in sorted(guesses.items(), key=lambda pair: -len(pair[1])):
        which = paths[0] if len(paths) == 1 else f"{len(paths)} files, the first {paths[0]}"
        yield (
            f"{which}: no UTF-8 and no encoding declared, read as {name} (a guess); look at the words with "
            "'demask data read', and save as UTF-8 what is wrong"
        )


def describe_skipped(skipped: Iterable[str]) -> Iterator[str]:
    """One line for each kind of file that is not read, those with most files first."""
    kinds: dict[str, list[str]] = {}
    for name in skipped:
        kind = "folders that are links" if Path(name).is_dir() else Path(name).suffix.lower()
        kinds.setdefault(kind or "files without an ending", []).append(name)
    for kind, names in sorted(kinds.items(), key=lambda pair: -len(pair[1])):
        if len(names) == 1:
            yield f"{names[0]}: left out, {suggest(Path(names[0]).suffix)}"
        else:
            what = f"{kind} files" if kind.startswith(".") else kind
            yield f"{len(names)} {what}: left out, the first {names[0]}, {suggest(Path(names[0]).suffix)}"
