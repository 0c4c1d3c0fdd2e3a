"""Kill training runs in every way there is, and see whether they end in the same bits.

    python scripts/fault_drill.py  # ten kills with one process, ten with two, then the rest
    python scripts/fault_drill.py --processes 1 --kills 3 --seed 5
    python scripts/fault_drill.py --processes 2 --kills 3 --together  # as the tests do

`kill -9` at random, seeded moments: between steps, in the middle of a checkpoint, while questions are asked;
of the command, or of one of its workers. Then SIGTERM, a full disk, damaged checkpoints, and another number
of processes. Each run must end with the weights of one that nobody disturbed. With `--together` one run
suffers all faults but the last: half as many starts, but a FAIL does not say which fault did it. Prints a
table; exits with 1 when a line of it says FAIL. Needs Linux (/proc); takes a few minutes on two cores.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from drilled_runs import (
    ASK_EVERY,
    LEFT_ALONE,
    PATIENCE,
    PRELOADED,
    PROCESSES,
    SAVE_EVERY,
    STEPS,
    asked,
    await_that,
    checkpoints,
    find_workers,
    finish,
    is_alive,
    log_time,
    logged,
    same_bits,
    started,
    weights_file,
    write_inputs,
)

# Weights trained by another number of processes differ by rounding, and Adam enlarges that.
ROUNDING = 1e-3


@dataclass
class Drill:
    """Where it happens, and what has come out so far."""

    home: Path
    rows: list[tuple[str, str, bool]] = field(default_factory=list)

    def note(self, what: str, came: str, *, good: bool) -> None:
        """A line of the table."""
        self.rows.append((what, came, good))
        print(f"{'PASS' if good else 'FAIL'}  {what:<58}  {came}", flush=True)


def kill_often(drill: Drill, processes: int, kills: int, rng: random.Random) -> Path:
    """Kill a run again and again; one that ends all the same is followed by another. Returns the last one."""
    moments = ["training", "saving", "asking"]
    done = tries = runs = 0
    while done < kills and tries < 5 * kills:
        run = _killed_run(drill, processes, runs)
        if weights_file(run).exists():
            finish_alike(drill, run, processes, "killed on its way")
            runs += 1
            continue
        moment = moments[done % len(moments)]
        victim = rng.choice(["command", *(f"rank {rank}" for rank in range(processes) if processes > 1)])
        good, came = kill_at(run, processes, moment, victim, rng)
        tries += 1
        if not came.startswith("missed"):  # the moment had passed before the signal was there
            what = f"{count(processes)}, kill -9 of the {victim} while {moment}"
            drill.note(what, came, good=good)
            done += 1
    if done < kills:
        drill.note(f"{count(processes)}, kill -9", f"only {done} of {kills} came in time", good=False)
    return _killed_run(drill, processes, runs)


def _killed_run(drill: Drill, processes: int, number: int) -> Path:
    """The run folder of those that are killed."""
    return drill.home / f"killed-{processes}-{number}"


def count(processes: int) -> str:
    """In words."""
    return f"{processes} process{'es' if processes > 1 else ''}"


def kill_at(run: Path, processes: int, moment: str, victim: str, rng: random.Random) -> tuple[bool, str]:
    """Kill once: whether it was at that moment and all ended, and what was to be seen then."""
    begun = max(checkpoints(run, whole=True), default=0)
    last = min(STEPS - 1, begun + rng.randint(1, SAVE_EVERY + 1))
    asking = next((step for step in range(last + 1, STEPS) if step % ASK_EVERY == 0), STEPS)
    before = log_time(run)  # what an earlier process has logged is no moment of this one
    has_come: dict[str, Callable[[], bool]] = {
        "training": lambda: log_time(run) != before and logged(run) >= last,
        "saving": lambda: bool(checkpoints(run, whole=False)),
        "asking": lambda: log_time(run) != before and logged(run) == asking - 1 and not asked(run, asking),
    }
    # What the kill before has cut short would be taken for the moment.
    for step in checkpoints(run, whole=False):
        shutil.rmtree(run / "checkpoints" / f"checkpoint-{step}")
    with started(run, processes) as process:
        came = (
            await_that(lambda: has_come[moment]() or not process.is_alive(), PATIENCE) and process.is_alive()
        )
        time.sleep(rng.random() * 0.02 if moment == "asking" else 0.0)
        target = find_workers(process)[int(victim[5:])] if came and victim != "command" else process.pid
        workers = find_workers(process)
        saved = checkpoints(run, whole=False)
        os.kill(target or 0, signal.SIGKILL)
        since = time.monotonic()
        ended = await_that(lambda: not process.is_alive() and not any(map(is_alive, workers)), LEFT_ALONE)
        took = time.monotonic() - since
    # A checkpoint that was cut short may be gone: who waits in vain for another process removes it.
    cut_short = [step for step in saved if step not in checkpoints(run, whole=True)]
    still = bool(cut_short) if moment == "saving" else has_come[moment]()
    seen = {
        "training": f"step {logged(run)}",
        "saving": f"checkpoint {cut_short} cut short",
        "asking": f"step {asking} trained, answers missing",
    }[moment]
    if not came or not still:
        return False, f"missed: step {logged(run)}"
    said = Path(f"{run}.output").read_text().strip().splitlines()[-1:]
    named = victim == "command" or any(victim in line for line in said)
    return ended and named, f"{seen}; all ended in {took:.0f} s" + ("" if named else f"; said {said}")


def finish_alike(drill: Drill, run: Path, processes: int, what: str, said: str = "") -> None:
    """Run the command to its end, which must be that of the undisturbed run."""
    code, output = finish(run, processes)
    alike = code == 0 and same_bits(run, drill.home / f"whole-{processes}")
    good = alike and said in output
    came = "same bits" if alike else f"exit code {code}: {output.strip().splitlines()[-1:]}"
    missing = "" if said in output else f", without saying {said!r}"
    drill.note(f"{count(processes)}, {what}", came + missing, good=good)


def stop_later(run: Path, processes: int, step: int) -> tuple[int | None, str]:
    """SIGTERM once a step is logged: the exit code, and the last line printed."""
    with started(run, processes) as process:
        await_that(lambda: logged(run) >= step or not process.is_alive(), PATIENCE)
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGTERM)
        process.join(timeout=LEFT_ALONE)
        code = process.exitcode
    return code, Path(f"{run}.output").read_text().strip().splitlines()[-1]


def ask_to_stop(drill: Drill, run: Path, processes: int) -> None:
    """SIGTERM, some steps further on."""
    code, said = stop_later(run, processes, logged(run) + SAVE_EVERY + 1)
    stopped = f"stopped at step {checkpoints(run, whole=True)[-1]} by SIGTERM"
    good = code == 143 and stopped in said and "the checkpoint is whole, the same command goes on" in said
    drill.note(f"{count(processes)}, SIGTERM", f"{code}: {said}", good=good)


def fill_disk(drill: Drill, run: Path, processes: int) -> None:
    """No file may grow beyond the weights: a checkpoint, which is three times as large, cannot be written."""
    before = checkpoints(run, whole=True)
    limit = int(1.5 * (drill.home / "model" / "model.safetensors").stat().st_size)
    code, output = finish(run, processes, largest_file=limit)
    kept, left = checkpoints(run, whole=True), checkpoints(run, whole=False)
    said = output.strip().splitlines()[-1].replace(str(run), "RUN")
    as_before = kept == before and not left
    good = code == 4 and as_before and "cannot be written" in said and "free some space" in said
    wrong = "" if as_before else f"; kept {kept} of {before}, left {left}"
    drill.note(f"{count(processes)}, disk full while saving", f"{code}: {said}{wrong}", good=good)


def shorten(path: Path) -> None:
    """To its first half."""
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """A bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage(drill: Drill, processes: int) -> None:
    """The newest checkpoint is shortened, or a bit of it flipped."""
    for name, harm in (("truncated", shorten), ("flipped", flip)):
        run = drill.home / name
        stop_later(run, processes, 2 * SAVE_EVERY + 1)
        said = harm_newest(run, harm)
        finish_alike(drill, run, processes, f"newest checkpoint {name}", said)


def harm_newest(run: Path, harm: Callable[[Path], None]) -> str:
    """Damage weights and moments of the newest checkpoint; what the run must say of it."""
    newest = f"checkpoint-{checkpoints(run, whole=True)[-1]}"
    harm(run / "checkpoints" / newest / "state.pt")
    return f"{newest}: damaged (state.pt"


def change_processes(drill: Drill, before: int, after: int) -> None:
    """Go on with another number of processes."""
    from safetensors.torch import load_file

    run = drill.home / f"from-{before}-to-{after}"
    stop_later(run, before, 2 * SAVE_EVERY + 1)
    code, output = finish(run, after)
    told = "to rounding, not to the bit" in " ".join(output.split())
    if code == 0:
        ours, theirs = (load_file(weights_file(path)) for path in (run, drill.home / f"whole-{after}"))
        apart = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
        came = f"weights differ by {apart:.1e}" + ("" if told else "; not said")
    else:
        apart, came = float("inf"), f"exit code {code}: {output.strip().splitlines()[-1:]}"
    what = f"from {before} to {after} processes"
    drill.note(what, came, good=code == 0 and told and apart < ROUNDING)


def befall_each(drill: Drill, processes: int, killed: Path) -> None:
    """SIGTERM has a run of its own, so that it is known which one did harm."""
    finish_alike(drill, killed, processes, "killed on its way")
    run = drill.home / f"asked-{processes}"
    ask_to_stop(drill, run, processes)
    finish_alike(drill, run, processes, "after SIGTERM")


def harm_each(drill: Drill, processes: int) -> None:
    """So have the full disk and each damage."""
    run = drill.home / "full"
    stop_later(run, processes, SAVE_EVERY + 1)
    fill_disk(drill, run, processes)
    finish_alike(drill, run, processes, "after the disk was full")
    damage(drill, processes)


def befall_one(drill: Drill, processes: int, killed: Path) -> None:
    """The run that was killed is stopped, finds the disk full, and then its newest checkpoint damaged."""
    ask_to_stop(drill, killed, processes)
    fill_disk(drill, killed, processes)
    said = harm_newest(killed, shorten)
    finish_alike(drill, killed, processes, "killed, stopped, without disk, damaged", said)


def drill_all(drill: Drill, given: argparse.Namespace) -> None:
    """Everything, for these numbers of processes."""
    counts: list[int] = given.processes
    for processes in counts:
        code, output = finish(drill.home / f"whole-{processes}", processes)
        if code != 0:
            drill.note(
                f"{processes} processes, undisturbed", f"exit code {code}: {output[-500:]}", good=False
            )
            return
        killed = kill_often(drill, processes, given.kills, random.Random(given.seed + processes))
        (befall_one if given.together else befall_each)(drill, processes, killed)
    if not given.together:
        harm_each(drill, counts[0])
    for before, after in pairwise(counts):
        change_processes(drill, before, after)
        change_processes(drill, after, before)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kills", type=int, default=10, help="for each number of processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--together", action="store_true", help="all faults befall one run")
    given = parser.parse_args()
    PROCESSES.set_forkserver_preload(PRELOADED)
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    with TemporaryDirectory(prefix="demask-drill-") as folder:
        os.environ["DEMASK_CACHE"] = str(Path(folder) / "cache")
        drill = Drill(Path(folder))
        write_inputs(drill.home)
        begun = time.monotonic()
        drill_all(drill, given)
    failed = sum(not good for _, _, good in drill.rows)
    print(f"{len(drill.rows)} lines, {failed} FAIL, {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
