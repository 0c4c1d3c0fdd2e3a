"""Waiting threads sleep at once beside other work, unless the user has said how; a library is left alone."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from demask import openmp
from demask.openmp import CrowdedTeam, other_work, read_load, share_cores

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OMP_", "GOMP_", "KMP_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: names.append(thread.name))
    return names


@linux
@pytest.mark.usefixtures("unset")
def test_the_load_is_watched(started: list[str]) -> None:
    assert share_cores()
    assert started == ["demask-load"]


@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize(
    "variable", ["OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "GOMP_CPU_AFFINITY", "KMP_BLOCKTIME"]
)
def test_what_the_user_has_set_stays(
    started: list[str], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    assert not share_cores()
    assert not started


@pytest.mark.usefixtures("unset")
def test_nothing_is_watched_where_the_system_does_not_tell(
    started: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(openmp, "_STATISTICS", tmp_path / "stat")
    assert not share_cores()
    assert not started


@pytest.mark.smoke
@pytest.mark.parametrize(("all_work", "own", "others"), [(4.0, 4.0, 0.0), (4.0, 1.0, 1.5), (3.9, 4.0, 0.0)])
def test_other_work_is_what_is_not_our_own(all_work: float, own: float, others: float) -> None:
    assert other_work((10.0, 100.0, 50.0), (12.0, 100.0 + all_work, 50.0 + own)) == pytest.approx(others)


def test_no_time_tells_nothing() -> None:
    assert other_work((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)) is None


@linux
def test_only_cores_of_this_process_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    statistics = tmp_path / "stat"
    statistics.write_text(
        "cpu  9 9 9 9 9 9 9 9\ncpu0 100 10 20 999 999 3 7 999 0 0\ncpu1 5000 0 0 0 0 0 0 0 0 0\nctxt 1\n"
    )
    monkeypatch.setattr(openmp, "_STATISTICS", statistics)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert read_load()[1] == 140 / os.sysconf("SC_CLK_TCK")


@linux
def test_a_loop_of_our_own_is_own_work() -> None:
    before = read_load()
    while read_load()[0] - before[0] < 0.3:
        pass
    now = read_load()
    assert now[2] - before[2] > 0.1


def test_results_are_the_same_bits_while_threads_sleep_at_once() -> None:
    import torch

    left, right = torch.randn(2, 512, 512, generator=torch.Generator().manual_seed(0))
    team = CrowdedTeam()
    results = [left @ right]
    for _ in range(2):  # and may be joined and left again
        team.join()
        assert bool(team.crowded)
        results.append(left @ right)
        team.leave()
        assert not team.crowded
        results.append(left @ right)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.smoke
def test_joining_twice_is_joining_once() -> None:
    team = CrowdedTeam()
    team.join()
    thread = team._thread
    team.join()
    assert team._thread is thread
    team.leave()
    team.leave()
    assert not team.crowded


# A team of two on a machine with more cores is not crowded by one more, so it is pinned to two.
WAITING = """
import os, sys, time
os.sched_setaffinity(0, set(list(os.sched_getaffinity(0))[:2]))
import torch
torch.set_num_threads(2)
from demask.openmp import CrowdedTeam
values = torch.ones(1 << 18)
team = CrowdedTeam()
if sys.argv[1] == "crowded":
    values.add_(1.0)
    team.join()
for _ in range(20):
    values.add_(1.0)
begun = time.process_time(), time.monotonic()
for _ in range(50):
    values.add_(1.0)
    time.sleep(0.01)     # the other thread waits
print((time.process_time() - begun[0]) / (time.monotonic() - begun[1]))
"""


@linux
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_waiting_thread_takes_no_time_in_a_crowded_team() -> None:
    spun, slept = (float(run(WAITING, state)) for state in ("alone", "crowded"))
    assert slept < spun / 2


def run(code: str, *words: str) -> str:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=kept, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_importing_the_library_starts_no_thread() -> None:
    code = "import threading, demask, demask.cli; print(threading.active_count())"
    assert run(code) == "1"


@linux
@pytest.mark.parametrize(("module", "words"), [("cli", ""), ("commands.worker", "[]")])
def test_commands_and_workers_share(module: str, words: str) -> None:
    code = (
        f"import sys, threading, demask.{module} as module\n"
        "def stop(*words, **how):\n"
        "    print(*(t.name for t in threading.enumerate()), 'torch' in sys.modules)\n"
        "    sys.exit()\n"
        "module.app = module.end_with_parent = stop\n"
        f"try: module.main({words})\n"
        "except SystemExit: pass\n"
    )
    assert run(code) == "MainThread demask-load False"
