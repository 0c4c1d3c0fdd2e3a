"""Whether two versions of demask train the same weights to the bit, on this machine.

    python scripts/compare_bits.py HEAD~5               # this tree against a commit
    python scripts/compare_bits.py HEAD~5 --only demasking lora

Every objective, full and LoRA, alone, as two processes, and killed and resumed, on a tiny random model. The
commit is checked out beside this tree; both train from the same files. A refactoring keeps every row equal.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from drilled_runs import write_inputs

HERE = Path(__file__).resolve().parents[1]
OBJECTIVES = ("demasking", "next-token", "reverse", "diffusion")
METHODS = ("full", "lora")
WAYS = ("alone", "two processes", "resumed")
STEPS, SAVE_EVERY, BATCH = 12, 4, 4
PATIENCE = 300.0  # seconds that a run may take


class Case(NamedTuple):
    """One run: what is learned, of which weights, and how it is started."""

    objective: str
    method: str
    way: str

    def __str__(self) -> str:
        return f"{self.objective}, {self.method}, {self.way}"


def main() -> None:
    """Train with both, print a line for each case; exit with 1 where one differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="what this tree is compared with")
    parser.add_argument("--only", nargs="+", default=[], help="cases that hold all of these words")
    options = parser.parse_args()
    cases = [case for case in all_cases() if all(word in str(case) for word in options.only)]
    with tempfile.TemporaryDirectory(prefix="demask-bits-") as folder:
        home = Path(folder)
        other = home / "other"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", str(other), options.commit], check=True)
        try:
            equal = [compare(case, home, other) for case in cases]
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(other)], check=True)
    sys.exit(not all(equal))


def all_cases() -> Iterator[Case]:
    """Every objective by every method in every way."""
    return (Case(*choice) for choice in product(OBJECTIVES, METHODS, WAYS))


def compare(case: Case, home: Path, other: Path) -> bool:
    """Run a case with both; whether their weights are the same."""
    digests = []
    for tree, name in ((other, "then"), (HERE, "now")):
        work = home / name
        if not work.exists():
            work.mkdir()
            write_inputs(work)
            convert(work, tree)
        digests.append(train(case, work, tree))
    equal = digests[0] == digests[1]
    print(f"{'same' if equal else 'DIFFERS'}  {case}  {digests[0][:12]}  {digests[1][:12]}", flush=True)
    return equal


def convert(work: Path, tree: Path) -> None:
    """The model as a masked-diffusion model, for the objective that needs one."""
    words = ["convert", str(work / "model"), "--to", "diffusion", "--out", str(work / "diffusion")]
    finish(start(words, tree), "convert")


def train(case: Case, work: Path, tree: Path) -> str:
    """The digest of the weights that a case ends in."""
    out = work / str(case).replace(", ", "-").replace(" ", "-")
    model = work / ("diffusion" if case.objective == "diffusion" else "model")
    settings = [
        f"train.steps={STEPS}",
        f"train.save_every={SAVE_EVERY}",
        f"train.batch_size={BATCH}",
        f"train.method={case.method}",
        "train.learning_rate=1e-3",
        "train.precision=fp32",
        f"launch.processes={2 if case.way == 'two processes' else 1}",
    ]
    words = ["inject", f"--model={model}", f"--documents={work / 'facts.jsonl'}", "--qa=no"]
    words += [f"--objective={case.objective}", *(f"--set={setting}" for setting in settings), f"--out={out}"]
    if case.way == "resumed":
        stop_after_checkpoint(start(words, tree), out)
    finish(start(words, tree), str(case))
    digest = hashlib.sha256()
    for file in sorted((out / "model").glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def start(words: Sequence[str], tree: Path) -> subprocess.Popen[str]:
    """The command of one of the two versions."""
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "DEMASK_MEASURE": "none"}
    return subprocess.Popen(
        [sys.executable, "-m", "demask", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def stop_after_checkpoint(process: subprocess.Popen[str], out: Path) -> None:
    """Kill a run once it has a checkpoint, or let it end where it is quicker than that."""
    while process.poll() is None and not list(out.glob("checkpoints/*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def finish(process: subprocess.Popen[str], name: str) -> None:
    """Wait for a run; show what it printed where it failed."""
    printed, _ = process.communicate(timeout=PATIENCE)
    if process.returncode:
        sys.exit(f"{name}: ended with {process.returncode}\n{printed}")


if __name__ == "__main__":
    main()
