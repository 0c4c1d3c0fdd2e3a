"""A run of two processes that is killed, stopped, starved of disk or damaged ends in the same bits.

All of it befalls one run here: each start costs twelve seconds of imports. The script does it with a run for
each fault, with as many kills as it is told to, of one process, too (docs/benchmarks.md has twenty). What
befalls one process is also in test_resume.py and test_interrupted.py, a bit that is flipped in
training/test_checkpoints.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "fault_drill.py"


@pytest.mark.slow
def test_a_run_of_two_processes_survives_three_kills_and_every_other_fault() -> None:
    # By this seed the command is killed while training, a worker while saving, and the other while asking.
    command = [sys.executable, str(SCRIPT), "--processes=2", "--kills=3", "--together", "--seed=1"]
    drill = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    lines = drill.stdout.splitlines()
    assert [line for line in lines if line.startswith("FAIL")] == [], drill.stdout
    assert drill.returncode == 0, drill.stderr[-2000:]
    assert sum(line.startswith("PASS") and "kill -9" in line for line in lines) == 3
