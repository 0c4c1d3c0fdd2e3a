"""Runs that are killed, stopped, starved of disk or damaged end in the same bits; see the script."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "fault_drill.py"


@pytest.mark.slow
def test_runs_of_one_and_of_two_processes_survive_twenty_kills_and_every_other_fault() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=3600)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(line.startswith("PASS") and "kill -9" in line for line in lines) == 20
    assert not any(line.startswith("FAIL") for line in lines)
