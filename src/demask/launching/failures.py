"""Which worker failed first, and why, in a line.

    raise explain(failed.failures, logs)

A worker that raises leaves `rank-N.json` (torch's `record`); one that is killed leaves nothing.
"""

import json
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from demask.errors import ConfigError, DataError, DemaskError, InterruptionError, ModelError, RunError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

_KINDS = {kind.__name__: kind for kind in (ConfigError, DataError, ModelError, RunError)}
# Seconds within which a death without a word is noticed, after those who miss the dead have complained. Less
# than the 30 after which torch kills who does not end.
_NOTICED = 10


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


def read_error(file: Path) -> DemaskError | None:
    """What a worker raised; None where it left no file."""
    if not file.exists():
        return None
    said = str(json.loads(file.read_text(encoding="utf-8"))["message"]["message"]).partition("\n")[0]
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
