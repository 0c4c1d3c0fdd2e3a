"""Runs that are killed, stopped, starved of disk or damaged end in the same bits; see the script, which does
as many kills as it is told to (docs/benchmarks.md has twenty)."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "fault_drill.py"


@pytest.mark.slow
def test_runs_of_one_and_of_two_processes_survive_five_kills_and_every_other_fault() -> None:
    drills = [  # beside each other, as each waits most of the time; a kill of one process takes half as long
        subprocess.Popen(
            [sys.executable, str(SCRIPT), "--processes", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words in (("1", "--kills=3"), ("2", "--kills=2"))
    ]
    said = [drill.communicate(timeout=1800) for drill in drills]
    lines = [line for out, _ in said for line in out.splitlines()]
    assert [line for line in lines if line.startswith("FAIL")] == [], "\n".join(lines)
    assert [drill.returncode for drill in drills] == [0, 0], "\n".join(err[-2000:] for _, err in said)
    assert sum(line.startswith("PASS") and "kill -9" in line for line in lines) == 5
