"""Start the workers of this machine, show how far they are, and end together with them.

    run_workers(run_folder, launch, progress=progress)

Torch does it (torch.distributed.elastic, which is torchrun) in this process, where it is imported already.
`accelerate launch` does the same with the variables of a strategy set, but on CPU takes another way; here
each worker sets them itself.

A worker that raises leaves `rank-N.json` (torch's `record`); one that is killed leaves nothing. The first
worker tells how far it is in a file, a line of JSON for each word.
"""

import json
import logging
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from demask.errors import ConfigError, DataError, DemaskError, InterruptionError, ModelError, RunError
from demask.launching.nodes import LOGS, Place, find_place, open_meeting
from demask.progress import Forwarding, Progress, forward
from demask.recipe.launch import Launch

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import LogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

_KINDS = {kind.__name__: kind for kind in (ConfigError, DataError, ModelError, RunError)}
# Seconds within which a death without a word is noticed, after those who miss the dead have complained. Less
# than the 30 after which torch kills who does not end.
_NOTICED = 10
WORKER = ("-m", "demask.commands.worker")
# Seconds that workers get to save in after SIGTERM; torch before 2.12 gives them 30, whatever one asks.
_SAVING = 600
# Seconds until the last of several nodes must have come.
_PATIENCE = 3600


def explain(failures: "Mapping[int, ProcessFailure]", logs: Path) -> DemaskError:
    """The error of the worker that failed first, with its rank and log.

    Args:
        failures: by rank, as torch has them.
        logs: the folder of the ranks' files.
    """
    rank = min(failures, key=lambda rank: _moment(failures[rank]))
    error, code = read_error(logs / f"rank-{rank}.json"), failures[rank].exitcode
    if isinstance(error, InterruptionError):
        return error
    if error is not None:
        reason = str(error)
    elif code < 0:
        reason = f"killed by {signal.Signals(-code).name}"
        reason += ", perhaps for want of memory" if code == -signal.SIGKILL else ""
    else:
        reason = f"ended with exit code {code}"
    return type(error or RunError())(f"rank {rank}: {reason} (see {logs / f'rank-{rank}.log'})")


def explain_silence(ranks: Iterable[int], logs: Path) -> DemaskError:
    """The error of workers of which one has ended, while another was still saying why it ends, too.

    Args:
        ranks: of this node; the first that has said nothing is the one that ended.
        logs: the folder of the ranks' files.
    """
    by_silence = sorted(ranks, key=lambda rank: ((logs / f"rank-{rank}.json").exists(), rank))
    rank = by_silence[0]
    return RunError(f"rank {rank}: ended without a word, perhaps killed (see {logs / f'rank-{rank}.log'})")


def read_error(file: Path) -> DemaskError | None:
    """What a worker raised; None where it left no file, or was killed while it wrote one."""
    if not file.exists():
        return None
    try:
        said = str(json.loads(file.read_text(encoding="utf-8"))["message"]["message"]).partition("\n")[0]
    except (ValueError, LookupError, TypeError):
        return None
    kind, _, text = said.partition(": ")
    if kind == InterruptionError.__name__ and (found := re.search(r"step (\d+) by (\w+)", text)):
        return InterruptionError(signal.Signals[found[2]], step=int(found[1]))
    return _KINDS[kind](text) if kind in _KINDS else RunError(said)


def _moment(failure: "ProcessFailure") -> tuple[float, float]:
    """When it failed, to compare."""
    file = Path(failure.error_file)
    if file.is_file():
        return failure.timestamp, file.stat().st_mtime  # the first of them in whole seconds
    if failure.exitcode == -signal.SIGTERM:  # by torch, as another had failed
        return float("inf"), 0.0
    # Who is killed from outside may take others along, who crash at the loss.
    return failure.timestamp - _NOTICED, 0.0 if failure.exitcode == -signal.SIGKILL else 1.0


def write_progress(path: Path) -> Progress:
    """The worker's end of `relaying`."""
    file = path.open("w", encoding="utf-8", buffering=1)

    def send(call: str, arguments: dict[str, Any]) -> None:
        file.write(json.dumps([call, arguments]) + "\n")

    return Forwarding(send)


class _Listener:
    """Takes what has been read, which may end within a line."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._rest = progress, ""

    def write(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            call, arguments = json.loads(line)
            forward(self._progress, call, arguments)


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


def run_workers(folder: Path, launch: Launch, *, progress: Progress, program: Sequence[str] = WORKER) -> None:
    """Train a run on the processes of this node; returns when all have ended well.

    Args:
        folder: the run folder; what comes before training is in it. Gets `logs/rank-N.log`.
        launch: how many processes, and what each holds.
        progress: told what the first of them tells.
        program: of a worker, as arguments of Python; gets the run folder, `launch` as JSON, and a file for
            its progress.

    Raises:
        DemaskError: a worker has ended for this reason, or without one; the others have ended, too.
    """
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    place = find_place(launch)
    logs, meeting = folder / LOGS, open_meeting(folder, launch)
    logs.mkdir(parents=True, exist_ok=True)
    told = logs / f"progress-{place.node}.jsonl"
    if place.node == 0:
        meeting.begin()
    try:
        with _undisturbed(logs / f"torchrun-{place.node}.log"), relaying(told, progress):
            start = elastic_launch(_make_config(logs, launch, place), sys.executable)
            start(*program, str(folder), launch.model_dump_json(), str(told))
    except ChildFailedError as failed:
        raise explain(failed.failures, logs) from None
    except json.JSONDecodeError:  # torch has read what a worker was still writing of its end
        first = place.node * launch.processes
        raise explain_silence(range(first, first + launch.processes), logs) from None
    except (SignalException, KeyboardInterrupt) as stopped:
        raise _stopped(stopped, logs, launch, place) from None
    except DistError as error:
        where, reason = f"{place.address}:{place.port}", str(error).partition("\n")[0]
        raise RunError(
            f"processes cannot meet at {where}: {reason}; check MASTER_ADDR and MASTER_PORT"
        ) from None
    finally:
        if place.node == 0:
            meeting.end()


def _make_config(logs: Path, launch: Launch, place: Place) -> "LaunchConfig":
    from torch.distributed.launcher.api import LaunchConfig

    known = {field.name for field in fields(LaunchConfig)}
    newer: dict[str, Any] = {"shutdown_timeout": _SAVING} if "shutdown_timeout" in known else {}
    return LaunchConfig(
        min_nodes=launch.nodes,
        max_nodes=launch.nodes,
        nproc_per_node=launch.processes,
        logs_specs=_make_logs(logs),
        run_id="demask",
        rdzv_backend="static",
        rdzv_endpoint=f"{place.address}:{place.port}",
        rdzv_configs={"rank": place.node, "timeout": _PATIENCE},
        max_restarts=0,
        # Not SIGINT: Ctrl-C ends torch's waiting, so workers get SIGTERM; once more ends the wait for them.
        signals_to_handle="SIGTERM",
        **newer,
    )


def _make_logs(folder: Path) -> "LogsSpecs":
    """Files by rank in one folder; torch would make a folder of its own for each attempt and rank."""
    from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs

    class Logs(LogsSpecs):
        @property
        def root_log_dir(self) -> str:
            return str(folder)

        def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
            logs = LogsDest()
            for local_rank, variables in envs.items():
                stem = folder / f"rank-{variables['RANK']}"
                logs.stdouts[local_rank], logs.stderrs[local_rank] = f"{stem}.out", f"{stem}.log"
                logs.error_files[local_rank] = variables["TORCHELASTIC_ERROR_FILE"] = f"{stem}.json"
                Path(f"{stem}.json").unlink(missing_ok=True)  # of an earlier attempt
            return logs

    return Logs()


@contextmanager
def _undisturbed(log: Path) -> Iterator[None]:
    """What torch says in a dozen lines goes to a file; the handler of SIGTERM that it leaves behind goes."""
    logger = logging.getLogger("torch.distributed.elastic")
    handler = logging.FileHandler(log, mode="w", encoding="utf-8")
    before = signal.getsignal(signal.SIGTERM)
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
        handler.close()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _stopped(stopped: BaseException, logs: Path, launch: Launch, place: Place) -> BaseException:
    """By a signal to this command; only training knows how to stop in good order."""
    number = getattr(stopped, "sigval", signal.SIGINT)
    first = place.node * launch.processes
    for rank in range(first, first + launch.processes):
        error = read_error(logs / f"rank-{rank}.json")
        if isinstance(error, InterruptionError):
            return InterruptionError(number, step=error.step)  # workers know of SIGTERM alone
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
