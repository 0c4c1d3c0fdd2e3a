"""The folder that the page works in: what lies where, names that are sane, files that are no links.

    folder = Workspace(Path("models").resolve())
    folder.find_runs()                       # {"runs/first": ...} by their place in the folder
    folder.read("runs/first", "metrics.jsonl")

    documents/NAME/    what was dropped
    questions/NAME.jsonl, recipes/NAME.yaml, runs/NAME/, exports/NAME/, comparisons/NAME.html
    .demask-ui/        jobs, and what was read of documents

Whatever comes from a browser is looked up among what was found, never joined to a path. Files are opened from
the folder down without following links.
"""

import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from demask.documents.paths import SUFFIXES
from demask.errors import ConfigError, DataError
from demask.storage.file_names import CONFIG

HIDDEN = ".demask-ui"
DOCUMENTS, QUESTIONS, RECIPES, RUNS = "documents", "questions", "recipes", "runs"
EXPORTS, COMPARISONS = "exports", "comparisons"
# How deep runs and folders of documents are looked for, and among how many folders at most.
_DEPTH, _MOST = 3, 2_000
# Of a name, in bytes: file systems take 255, and suffixes are added.
_LONGEST = 120
_NAME = re.compile(r"[\w][\w .()+,-]*")
# No document lies in these, and they may hold thousands of files.
_PASSED_OVER = ("node_modules", "__pycache__", "model", "adapter", "checkpoints")


def sane_name(given: str) -> str:
    """A file name of one part that is safe on every system, made of what a browser says.

    Folders in front of it, control characters, dots at its beginning and signs with a meaning go.

    Raises:
        DataError: nothing is left of it.
    """
    text = unicodedata.normalize("NFC", given).replace("\\", "/").rsplit("/", 1)[-1]
    text = "".join(sign if sign.isalnum() or sign in " ._()+,-" else "_" for sign in text)
    text = text.strip().lstrip(".- _").rstrip(". ")
    stem, dot, suffix = text.rpartition(".")
    if not dot:
        stem, suffix = text, ""
    room = _LONGEST - len(dot + suffix)
    while len(stem.encode()) > max(room, 1):
        stem = stem[:-1]
    name = f"{stem.rstrip()}{dot}{suffix}"
    if not stem or not _NAME.match(name) or len(name.encode()) > 2 * _LONGEST:
        raise DataError(f"a file is called {given[:60]!r}, expected a name with letters or digits; rename it")
    return name


def check_name(given: object, what: str) -> str:
    """A name that a person has given to something new.

    Raises:
        ConfigError: it is no name of one part, with letters and digits.
    """
    name = unicodedata.normalize("NFC", given).strip() if isinstance(given, str) else ""
    fits = _NAME.fullmatch(name) and len(name.encode()) <= _LONGEST and not name.endswith((".", " "))
    if not fits:
        raise ConfigError(
            f"{what}: {str(given)[:60]!r}, expected a name of letters, digits, spaces, dots and "
            "dashes that begins with a letter or a digit"
        )
    return name


@dataclass(frozen=True)
class Workspace:
    """A folder that the page works in.

    Attributes:
        path: of the folder, absolute.
    """

    path: Path

    def inner(self, *parts: str) -> Path:
        """A place in it; parts are names of ours or were checked."""
        return self.path.joinpath(*parts)

    def find_runs(self) -> list[str]:
        """Places of all runs in the folder, as `runs/first`; links are not followed."""
        return sorted(place for place, is_run in self._walk() if is_run)

    def find_document_folders(self) -> list[str]:
        """Places of folders that hold files of kinds that are read."""
        found = []
        for place, is_run in self._walk():
            top = PurePosixPath(place).parts[:1]
            if is_run or not place or top in ((RUNS,), (QUESTIONS,), (RECIPES,), (EXPORTS,), (COMPARISONS,)):
                continue
            with suppress(OSError), os.scandir(self.path / place) as there:
                if any(one.name.lower().endswith(SUFFIXES) for one in there):
                    found.append(place)
        return sorted(found)

    def find_folders(self) -> list[str]:
        """Places of all folders in it that are looked at."""
        return sorted(place for place, _ in self._walk() if place)

    def find_names(self, place: str, suffix: str) -> list[str]:
        """Names in a folder, without their suffix, of files that are no links."""
        try:
            with os.scandir(self.path / place) as there:
                files = [one.name for one in there if one.is_file(follow_symlinks=False)]
        except OSError:
            return []
        return sorted(name.removesuffix(suffix) for name in files if name.endswith(suffix) and name[0] != ".")

    def has(self, *parts: str) -> bool:
        """Whether a file that is no link stands there."""
        try:
            self.open(*parts).close()
        except OSError:
            return False
        return True

    def open(self, *parts: str) -> BinaryIO:
        """Open a file without following links, from the folder down.

        Raises:
            OSError: it is missing, is no file, or a link leads to it.
        """
        names = [name for part in parts for name in part.split("/")]
        if any(name in ("", ".", "..") or "\0" in name for name in names):
            raise FileNotFoundError("/".join(names))
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in names[:-1]:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = inner
            # O_NONBLOCK: a named pipe must not keep the page waiting.
            file = os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
        finally:
            os.close(handle)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileNotFoundError("/".join(names))
        return os.fdopen(file, "rb")

    def read(self, *parts: str) -> str:
        """The text of such a file; see `open`."""
        with self.open(*parts) as file:
            return file.read().decode("utf-8", "replace")

    def read_json(self, *parts: str) -> Any:
        """The value of such a file; None where it is missing or is no JSON."""
        try:
            return json.loads(self.read(*parts))
        except (OSError, ValueError):
            return None

    def find_links(self, place: str) -> list[str]:
        """Names in a folder that are links."""
        try:
            return sorted(one.name for one in os.scandir(self.path / place) if one.is_symlink())
        except OSError:
            return []

    def _walk(self) -> Iterator[tuple[str, bool]]:
        """Every folder in it that is looked at, and whether it is a run; folders of runs are not entered."""
        waiting, seen = [""], 0
        while waiting and seen < _MOST:
            place = waiting.pop(0)
            seen += 1
            is_run = bool(place) and self.is_run(place)
            yield place, is_run
            depth = len(PurePosixPath(place).parts)
            if is_run or depth >= _DEPTH:
                continue
            with suppress(OSError):
                waiting += sorted(
                    f"{place}/{one.name}".lstrip("/")
                    for one in os.scandir(self.path / place)
                    if one.is_dir(follow_symlinks=False)
                    and not one.name.startswith(".")
                    and one.name not in _PASSED_OVER
                )

    def is_run(self, place: str) -> bool:
        """Whether a folder that was found is that of a run."""
        config = self.read_json(place, CONFIG) if (self.path / place / CONFIG).is_file() else None
        return isinstance(config, dict) and {"model", "objective"} <= set(config)
