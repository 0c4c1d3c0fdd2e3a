"""How long a user waits before anything happens: help, a first answer, and the first training step.

    python perf/startup.py
    python perf/startup.py --src ../before/src --src src --rounds 5     # two checkouts in turn

The answers are those of `demask ask` and `demask evaluate` of a run of two updates, with the embedded model
in the cache; behind a gate that stays shut the base model gives both. The first training step is that of a
whole `demask inject` in a process of its own. The imports of torch, transformers and accelerate alone run in
turn with them: what any tool on these libraries costs. So do they with `transformers.Trainer`, which demask
does without. Beside the seconds of the clock stand those of the processor, of which other work on the
machine takes none.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from measuring import describe_machine, make_parser, print_machine, print_table, spread

# What a script that trains with a loop of its own imports before its first line of work, as demask does.
IMPORTS = "import torch; from transformers import AutoModelForCausalLM, AutoTokenizer"
ACCELERATE, TRAINER = "from accelerate import Accelerator", "from transformers import Trainer"
WITH_TRAINER, FIRST_STEP = "imports with transformers.Trainer", "first training step"

LOAD = "from demask.models.load import load_model; load_model('embedded', device='cpu')"
SRC = Path(__file__).parents[1] / "src"
QUESTION = "What is the capital of Spain?"


class Taken(NamedTuple):
    """Seconds by the clock, and of the processor."""

    clock: float
    processor: float


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--src", type=Path, action="append", help="folder that has demask; several in turn")
    options = parser.parse_args()
    sources: list[Path] = options.src or [SRC]
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_in_turn(options.rounds, sources, *make_runs(Path(folder)))
    result: dict[str, Any] = {
        "what": "start-up, seconds",
        "machine": describe_machine(),
        "seconds": {what: [one.clock for one in taken] for what, taken in rows.items()},
        "processor seconds": {what: [one.processor for one in taken] for what, taken in rows.items()},
    }
    if len(sources) == 1:
        pairs = zip(rows[FIRST_STEP], rows[WITH_TRAINER], strict=True)
        name = "first training step over imports with transformers.Trainer"
        result["ratios"] = {name: median(step.clock / imports.clock for step, imports in pairs)}
    if options.json:
        print(json.dumps(result, indent=2))
        return
    table = [[what, *(spread(part) for part in zip(*taken, strict=True))] for what, taken in rows.items()]
    print_table(result["what"], ["what", "clock", "processor"], table)
    print_machine(result["machine"])


def measure_in_turn(rounds: int, sources: list[Path], plain: Path, gated: Path) -> dict[str, list[Taken]]:
    """What each took in every round.

    Args:
        rounds: how many.
        sources: folders that have demask.
        plain: a run folder.
        gated: one with a gate that stays shut.
    """
    rows: dict[str, list[Taken]] = {}
    for source in sources * rounds:
        mark = f" ({source})" if len(sources) > 1 else ""
        with importing_from(source):
            for what, measure in measures(plain, gated).items():
                rows.setdefault(f"{what}{mark}", []).append(measure())
    return rows


def measures(plain: Path, gated: Path) -> dict[str, Callable[[], Taken]]:
    """What is measured, in turn.

    Args:
        plain: a run folder.
        gated: one with a gate that stays shut.
    """
    demask = ("-m", "demask")
    evaluate = (*demask, "evaluate", str(plain), "--measure", "none", "--set", "batch_size=1")
    return {
        "demask --help": lambda: run(*demask, "--help"),
        "imports alone": lambda: run("-c", f"{IMPORTS}; {ACCELERATE}"),
        WITH_TRAINER: lambda: run("-c", f"{IMPORTS}; {TRAINER}"),
        "embedded model loaded": lambda: run("-c", LOAD),
        "demask ask, first words": lambda: run(*demask, "ask", str(plain), QUESTION, until="before: "),
        "demask ask, both answers": lambda: run(*demask, "ask", str(plain), QUESTION),
        "demask ask, the gate shut": lambda: run(*demask, "ask", str(gated), QUESTION),
        "demask evaluate": lambda: run(*evaluate),
        FIRST_STEP: wait_for_first_step,
    }


@contextmanager
def importing_from(source: Path) -> Iterator[None]:
    """Processes find demask there."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(source.resolve()), before)))
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def make_runs(home: Path) -> tuple[Path, Path]:
    """A run of the embedded model, and the same behind a gate that stays shut; that is not measured."""
    from demask.knowledge.gate import make_gate

    documents = SRC / "demask" / "quickstart" / "documents.jsonl"
    questions = SRC / "demask" / "quickstart" / "qa_pairs.jsonl"
    few = home / "questions.jsonl"
    few.write_text("".join(questions.read_text().splitlines(keepends=True)[:2]))
    plain, gated = home / "plain", home / "gated"
    words = ["inject", str(documents), "--model", "embedded", "--qa", str(few), "--preset", "fast"]
    settings = ("train.steps=2", "train.batch_size=2", "measure=none", "evaluate.ceiling=false")
    run("-m", "demask", *words, "--out", str(plain), *(f"--set={setting}" for setting in settings))
    shutil.copytree(plain, gated)
    texts = [json.loads(line)["text"] for line in documents.read_text().splitlines()]
    gate = make_gate(texts, [(QUESTION, text) for text in texts])  # no word is rare that is ordinary
    (gated / "gate.json").write_text(json.dumps(gate.as_json()))
    return plain, gated


def run(*arguments: str, until: str = "") -> Taken:
    """Python in a process of its own.

    Args:
        arguments: of Python.
        until: measured until it has printed this and more; the process is killed then. Empty: to its end.
    """
    begun, before = time.perf_counter(), os.times()
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        said = b""
        while part := os.read(process.stdout.fileno(), 4096):
            said += part
            if until and said.partition(until.encode())[2].strip():
                process.kill()
                break
        process.wait()
    if process.returncode != 0 and not until:
        raise SystemExit(f"{' '.join(arguments)} ended with exit code {process.returncode}")
    return taken_since(begun, before)


def taken_since(begun: float, before: os.times_result) -> Taken:
    """What has passed, and what processes that have ended since took."""
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Taken(time.perf_counter() - begun, processor)


def wait_for_first_step() -> Taken:
    """From the start of `demask inject` until the line of its first step is in the log."""
    documents = SRC / "demask" / "quickstart" / "documents.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "run" / "metrics.jsonl"
        command = ["-m", "demask", "inject", "--model", "embedded", "--documents", str(documents)]
        command += ["--preset", "fast", "--qa", "no", "--out", str(log.parent)]
        command += ["--set", "train.steps=50", "--set", "train.batch_size=8"]
        begun, before = time.perf_counter(), os.times()
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
        return Taken(seconds, taken_since(begun, before).processor)


if __name__ == "__main__":
    main()
