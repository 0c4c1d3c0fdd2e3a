"""Commands that the page starts: each an ordinary `demask` in a process group of its own.

    jobs = Jobs(workspace)
    job = jobs.add("run", ["inject", "recipes/first.yaml", "--out", "runs/first"], about="runs/first")
    jobs.advance()          # every so often: starts what waits, notices what has ended
    jobs.stop(job.id)       # SIGTERM, as Ctrl-C would

A job is a folder: `job.json`, what it printed, its process number, its exit code. Output goes to files, never
through a pipe, so that the end of the server hurts nothing; a server that is started later finds them all.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from demask.environment import available_memory
from demask.errors import RunError
from demask.storage.atomic import write_text
from demask.ui.folders import HIDDEN, Workspace

JobState = Literal["waiting", "running", "done", "failed", "stopped"]
# What loads a model, one at a time, and what does not, one beside it.
HEAVY = ("run", "plan", "export", "passages")
# It waits for the command, also when SIGTERM goes to the whole group, and keeps its exit code.
_SHELL = """trap : TERM INT HUP
folder=$1; shift
echo $$ >"$folder/pid.part" && mv "$folder/pid.part" "$folder/pid"
"$@" >"$folder/stdout" 2>"$folder/stderr" </dev/null
code=$?
echo $code >"$folder/ended.part" && mv "$folder/ended.part" "$folder/ended"
"""
# Without the folder that it works in on the path: documents lie there, and some may end in .py.
PROGRAM = (sys.executable, "-P", "-m", "demask")
_STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT)
_TAKEN_BACK = "taken back"
# Folders of jobs that have ended are kept so many for each kind and subject.
_KEPT = 2


@dataclass(frozen=True)
class Job:
    """A command that was asked for.

    Attributes:
        id: sorts by when it was asked for.
        kind: `run`, `plan`, `read`, `questions`, `audit`, `passages`, `compare` or `export`.
        words: of the command, after `demask`.
        about: what it works on: the place of a run, or the name of a set of documents.
        needs: bytes of memory that it is known to need; 0: not known.
        more: whatever else the page wants to know of it later.
    """

    id: str
    kind: str
    words: tuple[str, ...]
    about: str
    needs: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_heavy(self) -> bool:
        """Whether it loads a model."""
        return self.kind in HEAVY

    @property
    def command(self) -> list[str]:
        """As a person would type it."""
        return ["demask", *self.words]


class Jobs:
    """All jobs of a workspace, on disk.

    Args:
        workspace: that they work in.
        program: what `demask` is here.
    """

    def __init__(self, workspace: Workspace, program: Sequence[str] = PROGRAM) -> None:
        self._workspace = workspace
        self._program = tuple(program)
        self._folder = workspace.inner(HIDDEN, "jobs")
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.RLock()
        self.on_end: Callable[[Job, JobState], None] | None = None

    def add(
        self,
        kind: str,
        words: Sequence[str],
        *,
        about: str,
        needs: int = 0,
        more: Mapping[str, Any] | None = None,
    ) -> Job:
        """Have a command done when it is its turn; `{job}` in its words is the folder of the job.

        Args:
            kind: see `Job`.
            words: after `demask`.
            about: see `Job`.
            needs: see `Job`.
            more: see `Job`.

        Raises:
            RunError: the same is waited for or done already, or the folder cannot be written.
        """
        with self._lock:
            for other in self.find_all(kind, about):
                if self.state(other) in ("waiting", "running"):
                    raise RunError(f"{about}: this is done already ({other.kind}); wait until it has ended")
            id = f"{time.time():.6f}-{kind}"
            place = f"{HIDDEN}/jobs/{id}"
            filled = tuple(word.replace("{job}", place) for word in words)
            job = Job(id, kind, filled, about, needs, dict(more or {}))
            write_text(self._folder / id / "job.json", json.dumps(asdict(job)) + "\n")
            return job

    def find_all(self, kind: str | None = None, about: str | None = None) -> list[Job]:
        """All jobs, the latest first.

        Args:
            kind: only those; None: any.
            about: only those about it; None: anything.
        """
        try:
            names = sorted((one.name for one in os.scandir(self._folder)), reverse=True)
        except OSError:
            return []
        found = (self.find(name) for name in names if kind is None or name.endswith(f"-{kind}"))
        return [job for job in found if job is not None and about in (None, job.about)]

    def find(self, id: str) -> Job | None:
        """One of them; None: there is none."""
        row = self._workspace.read_json(HIDDEN, "jobs", id, "job.json")
        try:
            return Job(**{**row, "words": tuple(row["words"])})
        except (TypeError, KeyError):
            return None

    def latest(self, kind: str, about: str, *, state: JobState | None = None) -> Job | None:
        """The last one of a kind about something, in a state where one is named."""
        found = (job for job in self.find_all(kind, about) if state is None or self.state(job) == state)
        return next(found, None)

    def state(self, job: Job) -> JobState:
        """Where it is."""
        ended = self._note(job, "ended")
        if ended is None:
            if job.id not in self._children and self._note(job, "pid") is None:
                return "waiting"
            if self._is_alive(job):
                return "running"
            ended = self._note(job, "ended")  # it may have ended between the two looks
        if ended == "0":
            return "done"
        return "stopped" if ended in (_TAKEN_BACK, *map(str, _STOPPED)) else "failed"

    def read(self, job: Job, name: str) -> str:
        """A file of its folder; empty where it is missing."""
        try:
            return self._workspace.read(HIDDEN, "jobs", job.id, name)
        except OSError:
            return ""

    def read_rows(self, job: Job, name: str, *, most: int | None = None) -> Iterator[dict[str, Any]]:
        """Objects of a JSON Lines file of its folder, so many of them; none where it is missing."""
        try:
            file = self._workspace.open(HIDDEN, "jobs", job.id, name)
        except OSError:
            return
        with file:
            for line in islice(file, most):
                yield json.loads(line)

    def read_result(self, job: Job) -> Any:
        """What it printed with `--json`; None where that is no JSON."""
        try:
            return json.loads(self.read(job, "stdout"))
        except ValueError:
            return None

    def describe_end(self, job: Job) -> str:
        """The last line that it said: why it failed, or how far it is."""
        lines = [line.strip() for line in self.read(job, "stderr").splitlines() if line.strip()]
        if lines:
            return lines[-1].removeprefix("demask: ")
        return "" if self.state(job) in ("waiting", "running", "done") else "it was ended from outside"

    def stop(self, id: str) -> None:
        """Take back what waits; have what runs end as Ctrl-C would.

        Raises:
            RunError: it has ended already.
        """
        with self._lock:
            job = self.find(id)
            state = self.state(job) if job else "done"
            if job and state == "waiting":
                write_text(self._folder / id / "ended", _TAKEN_BACK)
            elif job and state == "running":
                self._end(job)
            else:
                raise RunError("this has ended already")

    def _end(self, job: Job) -> None:
        child = self._children.get(job.id)
        number = child.pid if child is not None else int(self._note(job, "pid") or 0)
        if number > 1:
            with suppress(ProcessLookupError):
                os.killpg(number, signal.SIGTERM)

    def start_anyway(self, id: str) -> None:
        """Start it though memory seems short."""
        with self._lock:
            job = self.find(id)
            if job is not None:
                write_text(self._folder / id / "job.json", json.dumps({**asdict(job), "needs": 0}) + "\n")

    def forget(self, job: Job) -> None:
        """Drop a job that has ended; what it has made stays.

        Raises:
            RunError: it waits or works.
        """
        with self._lock:
            if self.state(job) in ("waiting", "running"):
                raise RunError(f"{job.about}: is not over; stop it first")
            for one in self.find_all(job.kind, job.about):
                shutil.rmtree(self._folder / one.id, ignore_errors=True)

    def blocked(self, job: Job) -> str:
        """Why a job that waits cannot start now; empty: it can."""
        lane = [other for other in self.find_all() if other.is_heavy == job.is_heavy]
        running = next((other for other in lane if self.state(other) == "running"), None)
        if running is not None:
            return f"waits for {running.about} ({running.kind}), which is done first"
        free = available_memory()
        if job.needs and free is not None and job.needs > free:
            return f"needs about {job.needs / 1e9:.1f} GB of memory, of which {free / 1e9:.1f} GB are free"
        return ""

    def wants_memory(self) -> bool:
        """Whether a job waits for memory alone."""
        waiting = [job for job in self.find_all() if job.needs and self.state(job) == "waiting"]
        return any(self.blocked(job).startswith("needs ") for job in waiting)

    def let_go(self) -> None:
        """The server ends; what works goes on."""
        for child in self._children.values():
            if child.poll() is None:
                child.returncode = 0  # else Python complains that nobody waits for it
        self._children.clear()

    def advance(self) -> None:
        """Notice what has ended, and start what waits longest where nothing stands in its way."""
        with self._lock:
            for job in self.find_all()[::-1]:
                self._notice(job)
            jobs = self.find_all()[::-1]  # without those that were forgotten
            for heavy in (True, False):
                waiting = [job for job in jobs if job.is_heavy == heavy and self.state(job) == "waiting"]
                if waiting and not self.blocked(waiting[0]):
                    self._start(waiting[0])

    def _start(self, job: Job) -> None:
        folder = self._folder / job.id
        words = ["/bin/sh", "-c", _SHELL, "demask-job", str(folder), *self._program, *job.words]
        self._children[job.id] = subprocess.Popen(
            words,
            cwd=self._workspace.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the page's terminal is not meant for it
        )

    def _notice(self, job: Job) -> None:
        """Tell once of a job that has ended, and forget those before it."""
        if self._note(job, "noticed") is not None:
            return
        state = self.state(job)
        if state in ("waiting", "running"):
            return
        child = self._children.pop(job.id, None)
        if child is not None:
            child.wait()  # it has nothing more to do
        if self.on_end is not None:
            self.on_end(job, state)
        write_text(self._folder / job.id / "noticed", "")
        ended = [one for one in self.find_all(job.kind, job.about) if self._note(one, "noticed") is not None]
        for old in ended[_KEPT:]:
            shutil.rmtree(self._folder / old.id, ignore_errors=True)

    def _note(self, job: Job, name: str) -> str | None:
        try:
            return self._workspace.read(HIDDEN, "jobs", job.id, name).strip()
        except OSError:
            return None

    def _is_alive(self, job: Job) -> bool:
        """Whether its process works; a number may have been given to another since."""
        child = self._children.get(job.id)
        if child is not None:
            return child.poll() is None
        pid = int(self._note(job, "pid") or 0)
        return job.id in _command_of(pid)


def _command_of(pid: int) -> str:
    """What a process was started with; empty: there is none."""
    place = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self").exists():
        try:
            return place.read_bytes().decode("utf-8", "replace")
        except OSError:
            return ""
    said = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return said.stdout
