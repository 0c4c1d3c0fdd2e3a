"""How far the first worker is: told to the command in a file, a line of JSON for each word.

with relaying(file, progress): ...            # in the command
writer = ProgressWriter(file); writer.advance()      # in the worker
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

from demask.progress import Progress


class ProgressWriter:
    """The worker's end; see `Progress`."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("w", encoding="utf-8", buffering=1)

    def begin(self, stage: str, total: int, *, done: int = 0) -> None:
        """See `Progress`."""
        self._tell("begin", stage=stage, total=total, done=done)

    def advance(self, parts: int = 1, note: str = "") -> None:
        """See `Progress`."""
        self._tell("advance", parts=parts, note=note)

    def say(self, text: str) -> None:
        """See `Progress`."""
        self._tell("say", text=text)

    def _tell(self, word: str, **said: str | int) -> None:
        self._file.write(json.dumps([word, said]) + "\n")


class _Listener:
    """Takes what has been read, which may end within a line."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._rest = progress, ""

    def write(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            word, said = json.loads(line)
            getattr(self._progress, word)(**said)


@contextmanager
def relaying(file: Path, progress: Progress) -> Iterator[None]:
    """Hand on what is told in a file while the block runs."""
    from torch.distributed.elastic.multiprocessing.tail_log import TailLog

    file.unlink(missing_ok=True)  # of an earlier attempt
    listener = cast("TextIO", _Listener(progress))
    tail = TailLog("progress", {0: str(file)}, listener, log_line_prefixes={0: ""}).start()
    try:
        yield
    finally:
        tail.stop()
