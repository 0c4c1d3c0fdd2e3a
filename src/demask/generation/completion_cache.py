"""What a server has said, kept on disk, so that no prompt is paid for twice.

    key = completion_key(server, prompt, max_new_tokens=300, temperature=0.0)
    store_completion(path, key, completed, finish_reason="stop")
    find_completions(path, [key])                                      # {key: Completed(..., cached=True)}

A single SQLite file that any number of processes and threads may use at once: each answer is one short
transaction of its own connection. There is no write-ahead log: one file is easier to delete than three,
and a log does not work in a home folder on a network. Whatever was stored survives a kill.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from demask.errors import RunError
from demask.generation.server import Server

# For other processes to finish writing an answer, which takes them milliseconds.
_PATIENCE_SECONDS = 60.0
# Fewer than the smallest number of parameters that any SQLite takes.
_KEYS_AT_ONCE = 500

_TABLE = """CREATE TABLE IF NOT EXISTS completions (
    key TEXT PRIMARY KEY, text TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, finish_reason TEXT NOT NULL)"""
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_FORMAT", "SQLITE_MISMATCH")


class Completed(NamedTuple):
    """The completion of a prompt.

    Attributes:
        text: stripped; empty when the server had nothing to say, however often it was asked.
        truncated: whether the limit of new tokens cut it short.
        cached: whether it was known, and cost nothing now.
        prompt_tokens: as the server counted them; 0 when it did not.
        completion_tokens: the same.
    """

    text: str
    truncated: bool
    cached: bool
    prompt_tokens: int
    completion_tokens: int


def completion_key(server: Server, prompt: str, *, max_new_tokens: int, temperature: float) -> str:
    """What a completion depends on, as a digest; the server's model must be named."""
    asked = [server.url, server.model, prompt, max_new_tokens, float(temperature)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def find_completions(path: Path, keys: Iterable[str]) -> dict[str, Completed]:
    """Those of the keys that are known, with their completions.

    Raises:
        RunError: the file is damaged, or cannot be used.
    """
    wanted = list(keys)
    found: dict[str, Completed] = {}
    if not path.exists():
        return found
    with _opened(path) as connection:
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            part = wanted[start : start + _KEYS_AT_ONCE]
            rows = connection.execute(
                "SELECT key, text, finish_reason = 'length', prompt_tokens, completion_tokens "
                f"FROM completions WHERE key IN ({', '.join('?' * len(part))})",
                part,
            )
            for key, text, truncated, prompt_tokens, completion_tokens in rows:
                found[key] = Completed(text, bool(truncated), True, prompt_tokens, completion_tokens)
    return found


def store_completion(path: Path, key: str, completed: Completed, *, finish_reason: str) -> None:
    """Keep a completion; it is on the disk when this returns. One that is known stays as it is.

    Raises:
        RunError: the file is damaged, or cannot be written.
    """
    row = (key, completed.text, completed.prompt_tokens, completed.completion_tokens, finish_reason)
    with _opened(path) as connection:
        connection.execute("INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?)", row)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that commits every statement by itself."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_PATIENCE_SECONDS, isolation_level=None)
        with closing(connection):
            connection.execute(_TABLE)
            yield connection
    except sqlite3.Error as error:
        raise RunError(_explain(path, error)) from error
    except OSError as error:
        raise RunError(
            f"{path.parent}: cannot keep completions there ({error.strerror or error}), expected a folder to "
            "write to; set DEMASK_CACHE to another one"
        ) from error


def _explain(path: Path, error: sqlite3.Error) -> str:
    # Extended names begin with the plain one: SQLITE_CORRUPT_INDEX.
    if getattr(error, "sqlite_errorname", "SQLITE_ERROR").startswith(_DAMAGED):
        return (
            f"{path}: is damaged ({error}), expected the completions that are kept there; delete this file, "
            "and what it held is asked again"
        )
    return (
        f"{path}: cannot be used ({error}), expected a file to keep completions in; free some space, or set "
        "DEMASK_CACHE to another folder"
    )
