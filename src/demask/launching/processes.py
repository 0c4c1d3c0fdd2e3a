"""Start the workers of this machine, show how far they are, and end together with them.

    run_workers(run_folder, launch, progress=progress)

Torch does it (torch.distributed.elastic, which is torchrun) in this process, where it is imported already.
`accelerate launch` does the same with the variables of a strategy set, but on CPU takes another way; here
each worker sets them itself.
"""

import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demask.errors import InterruptionError, RunError
from demask.launching.failures import explain, read_error
from demask.launching.meeting import LOGS, open_meeting
from demask.launching.places import Place, find_place
from demask.launching.worker_progress import relaying
from demask.progress import Progress
from demask.recipe.launch import Launch

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import LogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

WORKER = ("-m", "demask.worker")
# Seconds that workers get to save in after SIGTERM; torch before 2.12 gives them 30, whatever one asks.
_SAVING = 600
# Seconds until the last of several nodes must have come.
_PATIENCE = 3600


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
