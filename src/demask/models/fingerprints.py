"""What a model's files hold, as a digest: the same for a copy, another for a folder that was trained again.

    fingerprint_model("my-model/")                     # of its files
    fingerprint_model("owner/name", commit)            # a hub name and its commit

Files are told apart by content, weights too: a model that is trained again in place keeps the place and the
size of its files, and a copy of it does not keep their times. Reading takes about 1.4 s a gigabyte (sha256 on
one core), so the digest of a large file is kept in the user's cache under the file's place, number, size
and times, and a file that has not changed since is not read again.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from demask.environment import cache_folder
from demask.errors import RunError
from demask.storage.atomic import write_text

# Larger files are read once while they stay as they are; smaller ones are read as fast as looked up.
_SMALL = 16 * 2**20
# A file that was changed so shortly before it was read may be changed again without its times telling:
# file systems count time in steps of up to two seconds.
_UNSURE_NS = 2 * 10**9
# What loading never reads: it takes safetensors only, and texts for people say nothing to it.
_UNREAD = frozenset({".bin", ".gguf", ".h5", ".md", ".msgpack", ".onnx", ".ot", ".pt", ".pth"})
_MORE_TEMPLATES = "additional_chat_templates"
_ADAPTER = "adapter_config.json"


def fingerprint_model(source: str, commit: str | None = None) -> str | None:
    """What tells a model from any other one; None when nothing does.

    Of a folder, all that loading may read: weights, configuration, tokenizer, chat templates, and an adapter
    with the model that it was made for. Of a GGUF file, all of it. Of a hub name, its commit.

    Args:
        source: a folder, a file or a hub name.
        commit: of the hub name, where it is known.
    """
    folder = Path(source)
    if folder.is_file():
        return digest_file(folder)
    if not folder.is_dir():
        return f"{source}@{commit}" if commit else None
    parts: list[object] = [[name, digest_file(folder / name)] for name in _list_files(folder)]
    base = _find_base(folder)
    # An adapter may stand in the folder of the very model that it was made for.
    if base is not None and Path(base).resolve() != folder.resolve():
        parts.append(fingerprint_model(base) or base)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """The sha256 of what a file holds.

    Raises:
        OSError: the file cannot be read.
    """
    before = path.stat()
    if before.st_size <= _SMALL:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    known = _known_digest(path, before)
    with suppress(OSError):
        return known.read_text(encoding="utf-8")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    settled = time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > _UNSURE_NS
    if settled and _known_digest(path, path.stat()) == known:
        with suppress(RunError):  # a cache that cannot be written costs time only
            write_text(known, digest)
    return digest


def _known_digest(path: Path, status: os.stat_result) -> Path:
    """Where the digest of a large file in this state is kept; no program can set the time of its status."""
    state = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    name = hashlib.sha256(json.dumps([str(path.resolve()), *state]).encode()).hexdigest()
    return cache_folder() / "digests" / name[:32]


def _list_files(folder: Path) -> Iterator[str]:
    places = [*folder.iterdir(), *(folder / _MORE_TEMPLATES).glob("*.jinja")]
    for path in sorted(places):
        if path.is_file() and path.suffix.lower() not in _UNREAD and not path.name.startswith("."):
            yield path.relative_to(folder).as_posix()


def _find_base(folder: Path) -> str | None:
    """The model that the adapter in a folder was made for, None without one."""
    try:
        base = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):  # loading will say what is wrong with it
        return None
    return base if isinstance(base, str) else None
