"""Threads that wait for each other leave the core to other work, where there is other work.

    share_cores()           # once in a program that computes; returns at once

PyTorch's matmuls are shared by the threads of GNU OpenMP. A thread that is done spins for some
milliseconds in wait for the next product. On a quiet machine that is the quickest way to go on. Beside other
work it takes the core that the thread it waits for would need, and training falls to a third of its speed.
`perf/busy.py` measures both. No one length of waiting suits both, so it is chosen by the load, once a second.

GNU OpenMP has no call for that, but a rule: while it manages more threads than there are cores, they sleep
after 100 rounds instead of 300,000. So beside other work one more thread joins, which does nothing but count.
The number of threads that compute stays, and so do the order of sums and every bit of the results.

Commands and workers call this. Importing demask does not: the threads of a program that uses it as a library
are that program's, which may call `share_cores` itself. Where there is no `/proc` nothing is done.
"""

import os
import sys
import threading
import time
from pathlib import Path

INTERVAL = 1.0  # seconds between two looks at the load
# Cores' worth of other work on the cores of this process, from which waiting threads sleep at once, and
# below which they spin again.
BUSY, QUIET = 0.3, 0.15
_OF_THE_USER = ("OMP_", "GOMP_", "KMP_")
_STATISTICS = Path("/proc/stat")
# user, nice, system; irq and softirq: see proc(5).
_AT_WORK = (0, 1, 2, 5, 6)
# More than one thread's share of PyTorch's element-wise work, so that the extra thread gets a team.
_ELEMENTS = 1 << 18


def share_cores() -> bool:
    """Watch the load from now on, in a thread of its own.

    Returns:
        Whether it is watched: not where the user has set a variable of OpenMP, and not off Linux.
    """
    if any(name.startswith(_OF_THE_USER) for name in os.environ) or not _STATISTICS.exists():
        return False
    threading.Thread(target=_watch, name="demask-load", daemon=True).start()
    return True


class CrowdedTeam:
    """Keeps GNU OpenMP of the opinion that it has more threads than there are cores, while it is told to.

    A thread that has once computed in parallel owns a team. As long as it lives the team is counted.
    """

    def __init__(self) -> None:
        self._leave: threading.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def crowded(self) -> bool:
        """Whether waiting threads sleep at once."""
        return self._leave is not None

    def join(self) -> None:
        """Have waiting threads sleep at once, in all products that begin from now on."""
        if self._leave is None:
            self._leave, formed = threading.Event(), threading.Event()
            self._thread = threading.Thread(target=_be_counted, args=(self._leave, formed), daemon=True)
            self._thread.start()
            formed.wait()

    def leave(self) -> None:
        """Have them spin again."""
        if self._leave is not None and self._thread is not None:
            self._leave.set()
            self._thread.join()
            self._leave = self._thread = None


def _be_counted(leave: threading.Event, formed: threading.Event) -> None:
    import torch

    try:
        torch.ones(_ELEMENTS).add_(1.0)
    finally:
        formed.set()
    leave.wait()


def _watch() -> None:
    """Follow the load as long as the program runs."""
    team, before = CrowdedTeam(), read_load()
    while True:
        time.sleep(INTERVAL)
        if "torch" not in sys.modules:  # nothing computes yet
            before = read_load()
            continue
        now = read_load()
        others = other_work(before, now)
        before = now
        if others is None:
            continue
        if others > BUSY:
            team.join()
        elif others < QUIET:
            team.leave()


def read_load() -> tuple[float, float, float]:
    """Seconds: of the clock, of work on the cores that this process may use, and of its own work."""
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = 0
    for line in _STATISTICS.read_text(encoding="ascii").splitlines():
        name, *fields = line.split()
        if name in ours:
            ticks += sum(int(fields[place]) for place in _AT_WORK)
    return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()


def other_work(before: tuple[float, float, float], now: tuple[float, float, float]) -> float | None:
    """Cores' worth of work that is not this process's, between two readings; None: no time has passed."""
    seconds, all_work, own = (later - earlier for earlier, later in zip(before, now, strict=True))
    return max(0.0, all_work - own) / seconds if seconds > 0 else None
