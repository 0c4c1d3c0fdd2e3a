"""The server's side of asking: a worker is started when it is needed, and freed when nobody asks.

    asking = Asking(workspace)
    async for said in asking.ask("runs/first", {"turns": [...], "which": ["trained", "base"]}): ...

One question at a time; a model is held by the worker alone.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from demask.environment import available_memory
from demask.errors import ConfigError, RunError
from demask.records import QAPair
from demask.storage import file_names
from demask.storage.run_folder import make_record
from demask.ui.folders import HIDDEN, Workspace

# Forms of the suite, in the words of every day.
FORMS = {
    "reworded": "in other words",
    "system": "with a system prompt",
    "foreign exchange": "after another conversation",
    "other document": "after a question on another document",
    "shots: known": "after answered easy questions",
    "shots: documents": "after answered questions on the documents",
}
WHICH = ("trained", "base")
# Seconds without a question after which the models are freed.
IDLE = 300.0
# Besides the weights of both models, in bytes: Python and torch.
_BESIDES = 700_000_000
# Of a conversation, and of one turn in characters.
_MOST_TURNS, _LONGEST = 40, 8_000
_PROGRAM = (sys.executable, "-P", "-m", "demask.ui.worker")
_LOG = "asking.log"


class Asking:
    """The worker of one run at a time.

    Args:
        workspace: that the runs lie in.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = asyncio.Lock()
        self._worker: asyncio.subprocess.Process | None = None
        self._place = ""
        self._number = 0
        self._used = 0.0

    def questions(self, place: str, *, most: int = 100) -> list[QAPair]:
        """Questions of a run, to ask by one click."""
        found = []
        with suppress(OSError, ValueError, TypeError):
            for line in self._workspace.read(place, file_names.QA_PAIRS).split("\n")[:most]:
                if line:
                    found.append(make_record(QAPair, json.loads(line)))
        return found

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A request of a browser.

        Raises:
            ConfigError: it is none.
        """
        turns = given.get("turns")
        if not isinstance(turns, list) or not turns or len(turns) > _MOST_TURNS:
            raise ConfigError(f"turns: expected 1 to {_MOST_TURNS} turns; begin a new conversation")
        checked = []
        for number, turn in enumerate(turns):
            role = ("user", "assistant")[number % 2]
            text = turn.get("content") if isinstance(turn, dict) and turn.get("role") == role else None
            if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST:
                raise ConfigError(
                    f"turns: turn {number + 1}, expected some text of {role}, at most {_LONGEST:,} characters"
                )
            checked.append({"role": role, "content": text.strip()})
        if len(checked) % 2 == 0:
            raise ConfigError("turns: the last one is expected to be a user's")
        form = given.get("form") or None
        if form is not None and form not in FORMS:
            raise ConfigError(f"form: {str(form)[:40]!r}, expected one of {', '.join(FORMS)}")
        which = [name for name in WHICH if name in (given.get("which") or WHICH[:1])]
        return {"turns": checked, "which": which, "form": form, "document": bool(given.get("document"))}

    async def ask(self, place: str, request: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """What the worker says, piece by piece.

        Args:
            place: of a run that was found.
            request: as `check` gives it.
        """
        async with self._lock:
            try:
                worker = await self._have(place)
            except RunError as error:
                yield {"error": str(error)}
                return
            async for said in self._answer(worker, request):
                yield said

    async def _answer(
        self, worker: asyncio.subprocess.Process, request: Mapping[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """What a worker says to one request; who does not want to hear the rest stops it."""
        self._number += 1
        number, ended = self._number, False
        try:
            await _send(worker, {**request, "number": number})
            async for said in self._hear(worker):
                if said.get("end") == number:
                    ended = True
                    break
                if "end" not in said and said.get("number", number) == number:  # else of one before
                    yield said
        finally:
            self._used = time.monotonic()
            if not ended:
                with suppress(OSError, RuntimeError):
                    await _send(worker, {"stop": True})

    async def free(self) -> None:
        """End the worker, and give its memory back."""
        worker, self._worker, self._place = self._worker, None, ""
        if worker is not None and worker.returncode is None:
            with suppress(ProcessLookupError):
                worker.kill()
            await worker.wait()

    async def free_if_idle(self, *, seconds: float = IDLE) -> None:
        """End it where nobody has asked for so long."""
        if self._worker is not None and not self._lock.locked() and time.monotonic() - self._used > seconds:
            await self.free()

    async def _have(self, place: str) -> asyncio.subprocess.Process:
        """A worker that answers for a run."""
        worker = self._worker
        if worker is not None and worker.returncode is None and self._place == place:
            return worker
        await self.free()
        self._check_memory(place)
        folder = self._workspace.inner(HIDDEN)
        folder.mkdir(exist_ok=True)
        with (folder / _LOG).open("wb") as log:
            worker = await asyncio.create_subprocess_exec(
                *_PROGRAM,
                place,
                cwd=self._workspace.path,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                limit=16_000_000,
                env={**os.environ, "TRANSFORMERS_VERBOSITY": "error"},
            )
        self._worker, self._place, self._used = worker, place, time.monotonic()
        async for said in self._hear(worker):
            if said.get("ready"):
                return worker
            if "error" in said:
                await self.free()
                raise RunError(str(said["error"]))
        await self.free()
        raise RunError(f"{place}: the model could not be loaded; see {folder / _LOG}")

    async def _hear(self, worker: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
        assert worker.stdout is not None
        while line := await worker.stdout.readline():
            with suppress(ValueError):
                yield json.loads(line)
        if self._worker is worker:
            await self.free()
        yield {"error": "the process that answers has ended, perhaps for want of memory; ask again"}

    def _check_memory(self, place: str) -> None:
        needs, free = self._weigh(place), available_memory()
        if free is not None and needs > free:
            raise RunError(
                f"asking needs about {needs / 1e9:.1f} GB of memory for both models, of which "
                f"{free / 1e9:.1f} GB are free; wait until what learns now has ended"
            )

    def _weigh(self, place: str) -> int:
        """Bytes of both models in memory, about: their weights are those of the trained one, in float32."""
        folder = self._workspace.inner(place, file_names.MODEL)
        stored = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        return 2 * stored + _BESIDES


async def _send(worker: asyncio.subprocess.Process, value: Mapping[str, Any]) -> None:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(value).encode() + b"\n")
    await worker.stdin.drain()
