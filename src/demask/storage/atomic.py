"""Atomic writes: a reader sees the old file or the new one, never a part.

    write_text(path, text)

To a temporary name in the same folder, flushed to disk, then renamed.
"""

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from demask.errors import RunError

# What `mkstemp` makes of the name of a file of ours.
TEMPORARY = re.compile(r"\..+\.(json|jsonl|html|md|safetensors)\.\w{8}")


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    write_lines(path, [text])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """As `write_text`, of text that comes piece by piece and is never held as a whole.

    Raises:
        RunError: the disk is full or the folder cannot be written. What `lines` raises goes on.
    """
    _write_parts(path, (line.encode("utf-8") for line in lines))


def write_bytes(path: Path, data: bytes) -> None:
    """As `write_text`, of bytes.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    _write_parts(path, [data])


def _write_parts(path: Path, parts: Iterable[bytes]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(path: Path, error: OSError) -> RunError:
    """The error of a file that could not be written."""
    return RunError(f"{path}: cannot be written ({error.strerror}); free some space or choose another --out")
