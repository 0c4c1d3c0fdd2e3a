"""Where the files of published sets come from: a folder on this machine, or their public addresses.

    folder = find_published("name-description", FILES)
    (folder / "name_description_qa/people-description.json").read_text()

`DEMASK_DATA` (default `../shared/data`) is looked at first. What is not there and has an address is fetched
once into the cache folder. Either way a file is used only when it has the sha256 that is on record here, so
that figures of two machines are about the same texts.
"""

import hashlib
import os
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from demask.documents.text_files import read_bytes
from demask.environment import cache_folder
from demask.errors import DataError, RunError
from demask.storage.atomic import write_text

DEFAULT_FOLDER = "../shared/data"
# Seconds without a byte, after which a server is taken for dead.
_TIMEOUT = 30


class PublishedFile(NamedTuple):
    """A file of a published set."""

    path: str  # below the folder of published sets
    sha256: str
    origin: str  # whose it is, and of what state, for messages
    address: str = ""  # where it stands byte for byte; empty: a form made for this project, public nowhere


def data_folder() -> Path:
    """Where published sets lie on this machine: `DEMASK_DATA`, or `../shared/data`.

    Raises:
        DataError: nothing is there.
    """
    folder = Path(os.environ.get("DEMASK_DATA") or DEFAULT_FOLDER)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; set DEMASK_DATA to the folder of published sets")
    return folder


def find_published(name: str, files: Sequence[PublishedFile]) -> Path:
    """The folder that holds the files of a set, all with the right sha256; they are fetched when need be.

    Args:
        name: of the set, for messages.
        files: all files of the set.

    Raises:
        DataError: a file is not the published one, or is missing and has no public address.
        RunError: a file cannot be fetched, or not be kept in the cache folder.
    """
    # A folder that the user names must exist; the usual one need not.
    own = data_folder() if os.environ.get("DEMASK_DATA") else Path(DEFAULT_FOLDER)
    if all((own / file.path).exists() for file in files):
        for file in files:
            _refuse_other_content(read_bytes(own / file.path), file, own / file.path, "put back")
        return own
    cache = cache_folder() / "benchmarks"
    for file in files:
        path = cache / file.path
        if path.exists():
            _refuse_other_content(read_bytes(path), file, path, "delete it to fetch")
            continue
        if not file.address:
            raise DataError(
                f"{name}: no file {own / file.path}, and no public address has it ({file.origin}); "
                f"set DEMASK_DATA to a folder that has {file.path}"
            )
        _keep(_fetch(name, file), path)
    return cache


def _fetch(name: str, file: PublishedFile) -> bytes:
    try:
        with urlopen(file.address, timeout=_TIMEOUT) as response:
            content: bytes = response.read()
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise RunError(
            f"{name}: {file.address} cannot be fetched ({reason}); check the network, or set DEMASK_DATA to "
            f"a folder that has {file.path}"
        ) from error
    _refuse_other_content(content, file, file.address, "set DEMASK_DATA to a folder that has")
    return content


def _refuse_other_content(content: bytes, file: PublishedFile, place: object, remedy: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise DataError(
            f"{place}: sha256 is {digest}, expected {file.sha256}; {remedy} the published file "
            f"({file.origin})"
        )


def _keep(content: bytes, path: Path) -> None:
    try:
        write_text(path, content.decode("utf-8"))
    except RunError as error:
        raise RunError(
            f"{path}: cannot be kept there ({error.__cause__}); set DEMASK_CACHE to another folder"
        ) from error
