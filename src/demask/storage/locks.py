"""One process at a time in a folder; a second one hears who works there.

    with holding(Path("runs/first")):
        ...
    holder = find_holder(Path("runs/first"))      # None: nobody
    request_stop("runs/first")                    # who works there ends soon, and can go on later

The lock is the kernel's (flock on `.lock`), so one whose process was killed is gone with it. The file says
who holds it, for people. On file systems without locks, and on Windows, what the file says counts alone.
"""

import contextlib
import errno
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from demask.errors import RunError, StoppedError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
# A file of this name asks who works in the folder to stop.
STOP = "stop"
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
# Tries and seconds between: who only looks (`find_holder`) has the lock for a moment, and who has just got it
# has not yet written who it is.
_TRIES, _PAUSE = 5, 0.05


class Holder(NamedTuple):
    """Who works in a folder.

    Attributes:
        pid: of the process; 0: not known.
        host: its machine.
        since: when it began, as ISO 8601.
    """

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}" if self.pid else "another process"


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Keep others out of a folder for a block; it is made, and removed where nothing was put into it.

    A folder that cannot be made or written is not locked: whoever would change it fails anyway, and says why.

    Raises:
        RunError: another process is in it.
    """
    made = _make(folder)
    try:
        handle = _acquire(folder)
        try:
            _forget_stop(folder)  # it was meant for another
            yield
        finally:
            _forget_stop(folder)
            if handle is not None:
                # Before others can get it: they would lock a file that is about to go.
                (folder / LOCK).unlink(missing_ok=True)
                os.close(handle)
    finally:
        with contextlib.suppress(OSError):  # not empty, or never made
            for empty in reversed(made):
                empty.rmdir()


def find_holder(folder: Path) -> Holder | None:
    """Who works in a folder now; None: nobody."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _lock(handle, shared=True) else _read(handle)
    finally:
        os.close(handle)


def request_stop(folder: str | Path) -> Holder:
    """Ask the process that works in a folder to stop, as SIGTERM would; the same command goes on later.

    Training stops after its step, with a checkpoint; all else at the next part of what it works on.

    Returns:
        Who was asked.

    Raises:
        RunError: nobody works there, or the folder cannot be written.
    """
    folder = Path(folder)
    holder = find_holder(folder)
    if holder is None:
        raise RunError(f"{folder}: no run works in this folder, so there is none to stop; see its path")
    try:
        (folder / STOP).touch()
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror}); stop {holder} by SIGTERM") from error
    return holder


def is_stop_requested(folder: Path) -> bool:
    """Whether somebody has asked who works in this folder to stop."""
    return (folder / STOP).exists()


def end_if_stop_requested(folder: Path) -> None:
    """Called between parts of the work in a folder.

    Raises:
        StoppedError: somebody has asked to stop.
    """
    if is_stop_requested(folder):
        raise StoppedError(signal.SIGTERM, f"{folder}: the same command goes on with what is done there")


def _forget_stop(folder: Path) -> None:
    with contextlib.suppress(OSError):  # where no folder can be made, whoever writes there says so
        (folder / STOP).unlink(missing_ok=True)


def _make(folder: Path) -> list[Path]:
    """Make a folder with those above it; returns the new ones, the highest first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _acquire(folder: Path) -> int | None:
    """The open file that holds the lock; None where the folder cannot be written."""
    path = folder / LOCK
    for _ in range(_TRIES):
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            return None
        if _lock(handle) and _is_at(path, handle):
            _write(handle)
            return handle
        holder = _read(handle)
        os.close(handle)
        time.sleep(_PAUSE)
    raise RunError(
        f"{folder}: another run works in this folder ({holder}); "
        "wait until it has ended, or choose another --out"
    )


def _lock(handle: int, *, shared: bool = False) -> bool:
    """Whether the lock was to be had."""
    if not hasattr(fcntl, "flock"):
        return not _is_alive(_read(handle))
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        return not _is_alive(_read(handle))
    return True


def _is_at(path: Path, handle: int) -> bool:
    """Whether the open file is still the one of this name; its last holder may have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _write(handle: int) -> None:
    """Say who holds it; on a full disk nobody can read it, and the lock holds all the same."""
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    holder = Holder(os.getpid(), socket.gethostname(), now)
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, (json.dumps(holder._asdict()) + "\n").encode())


def _read(handle: int) -> Holder:
    """Who the file says that holds it."""
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        said = json.loads(os.read(handle, 4096))
        return Holder(int(said["pid"]), str(said["host"]), str(said["since"]))
    except (ValueError, KeyError, TypeError):
        return Holder(0, "", "")


def _is_alive(holder: Holder) -> bool:
    """Whether a process is there; that of another machine is taken to be."""
    if holder.pid == 0 or holder.host != socket.gethostname():
        return holder.pid != 0
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
