"""How long a user waits before anything happens: `demask --help`, and the first training step.

    python perf/startup.py

The first training step is that of a whole `demask inject` in a process of its own, with the embedded
model in the cache. The imports of torch, transformers and accelerate alone run in turn with it: what any
tool on these libraries costs. So do they with `transformers.Trainer`, which demask does without.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from measuring import describe_machine, make_parser, print_machine, print_table, spread, time_call

# What a script that trains with a loop of its own imports before its first line of work, as demask does.
IMPORTS = "import torch; from transformers import AutoModelForCausalLM, AutoTokenizer"
ACCELERATE, TRAINER = "from accelerate import Accelerator", "from transformers import Trainer"
WITH_TRAINER, FIRST_STEP = "imports with transformers.Trainer", "first training step"

LOAD = "from demask.models.load import load_model; load_model('embedded', device='cpu')"


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    prepare()
    measured: dict[str, Callable[[], float]] = {
        "demask --help": lambda: time_call(lambda: run("-m", "demask", "--help")),
        "imports alone": lambda: time_call(lambda: run("-c", f"{IMPORTS}; {ACCELERATE}")),
        WITH_TRAINER: lambda: time_call(lambda: run("-c", f"{IMPORTS}; {TRAINER}")),
        "embedded model loaded": lambda: time_call(lambda: run("-c", LOAD)),
        FIRST_STEP: wait_for_first_step,
    }
    rows: dict[str, list[float]] = {what: [] for what in measured}
    for _ in range(options.rounds):
        for what, measure in measured.items():
            rows[what].append(measure())
    result: dict[str, Any] = {
        "what": "start-up, seconds",
        "machine": describe_machine(),
        "seconds": rows,
        "ratios": {
            "first training step over imports with transformers.Trainer": median(
                step / imports for step, imports in zip(rows[FIRST_STEP], rows[WITH_TRAINER], strict=True)
            )
        },
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print_table(result["what"], ["what", "seconds"], [[what, spread(taken)] for what, taken in rows.items()])
    print_machine(result["machine"])


def prepare() -> None:
    """Fetch the embedded model; the download is not what is measured."""
    from demask.models.embedded import fetch_embedded_model

    fetch_embedded_model()


def run(*arguments: str) -> None:
    """Python in a process of its own."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def wait_for_first_step() -> float:
    """Seconds from the start of `demask inject` until the line of its first step is in the log."""
    import demask

    documents = Path(demask.__file__).parent / "quickstart" / "documents.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "run" / "metrics.jsonl"
        command = [
            "-m",
            "demask",
            "inject",
            "--model",
            "embedded",
            "--documents",
            str(documents),
            "--preset",
            "fast",
        ]
        command += ["--out", str(log.parent), "--set", "train.steps=50", "--set", "train.batch_size=8"]
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        guard = threading.Timer(300, process.kill)
        guard.start()
        while process.poll() is None and not (log.exists() and log.stat().st_size):
            time.sleep(0.02)
        seconds = time.perf_counter() - begun
        guard.cancel()
        if process.poll() is not None:
            raise SystemExit("demask inject ended before its first step")
        process.kill()
        process.wait()
    return seconds


if __name__ == "__main__":
    main()
