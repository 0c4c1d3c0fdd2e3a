"""What a fact that stays costs: seconds, tokens and memory until a model answers both ways round.

    python perf/knowledge.py --out knowledge                     # the quickstart's documents, every arm
    python perf/knowledge.py --arms fast gated --minutes 30      # some; no part begins that would take longer
    python perf/knowledge.py --tiny --model FOLDER               # seconds, random weights: whether all works

An arm is a way to train with a learning rate of its own. Arms take slices of their runs in turn, an eighth
each, so that a noisy machine hits all alike. A slice is a process of its own that goes on from the arm's
checkpoint, so that one model is in memory at a time. At its end the questions are asked, and an arm that is
right often enough in both directions stops there; then it is measured, once, what else training changed,
beside a budget of leaks, known facts and drift. Training is counted from the first forward to the last update
of a slice; asking, and what stands before training (a pool is drawn once for each base model and dtype, and
kept in the cache), apart from it; start-up and checkpoints stand in `process_seconds` alone.

`--out` is a folder with a run folder for each arm, and `knowledge.json`, which has the result of each part at
once: the same command goes on where one was cut.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from knowledge_arms import ARMS, SLICES, Arm, measure_kept, train_slice
from measuring import describe_machine, make_parser, print_machine, print_table

import demask
from demask.stages.training import is_trained
from demask.storage import file_names
from demask.storage.atomic import write_text
from demask.storage.run_folder import RunFolder

RESULT = "knowledge.json"
QUICKSTART = Path(demask.__file__).parent / "quickstart"
PARAPHRASES = Path(__file__).parent / "quickstart_paraphrases.jsonl"
WANTED = (0.9, 0.8)  # accuracy forward and backward
# The most that leaks and drifts, in shares and nats per token, and the least that is still known.
MOST, LEAST = {"leak": 0.02, "drift": 0.03}, {"known": 0.95}
PARTS = {"slice": train_slice, "kept": measure_kept}


def main() -> None:
    """Measure everything, or be one of the parts."""
    options = parse()
    if options.part:
        PARTS[options.part](ARMS[options.arms[0]], options)
        return
    found = measure(options)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
    failed = [name for name, arm in found["arms"].items() if "failed" in arm]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("knowledge"), help="folder; goes on there")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, metavar="ARM")
    parser.add_argument("--minutes", type=float, default=600.0, help="no part begins that would take longer")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--documents", type=Path, default=QUICKSTART / "documents.jsonl")
    parser.add_argument("--qa", type=Path, default=QUICKSTART / "qa_pairs.jsonl")
    parser.add_argument("--paraphrases", type=Path, help="of the quickstart there are some")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slices", type=int, default=8, help="of a run, and times that questions are asked")
    parser.add_argument("--wanted", type=float, nargs=2, default=WANTED, help="accuracy forward and backward")
    parser.add_argument("--measure", choices=("brief", "quick", "full"), default="quick")
    parser.add_argument("--tiny", action="store_true", help="as little of everything as shows that it works")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    options.words = sys.argv[1:] if words is None else [*words]
    if options.paraphrases is None and options.documents == QUICKSTART / "documents.jsonl":
        options.paraphrases = PARAPHRASES
    if options.slices < 1:
        parser.error(f"--slices: {options.slices}, expected 1 or more")
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All arms in turn, a part each, until each is done."""
    end = time.monotonic() + 60 * options.minutes
    found = read_found(options)
    left = list(options.arms)
    while left:
        for name in tuple(left):
            arm, numbers = ARMS[name], found["arms"].setdefault(name, {"process_seconds": []})
            reason = why_left_out(arm, options)
            part = None if reason else next_part(options.out / name, numbers)
            # The first one may have drawn a pool, so the shortest says what a part takes.
            least = min((seconds for _, seconds in numbers["process_seconds"]), default=0.0)
            if part and end - time.monotonic() < least:
                reason, part = f"{options.minutes:g} minutes were over", None
            if part is None:
                left.remove(name)
                numbers |= {"left_out": reason} if reason else {}
                continue
            begun = time.monotonic()
            failed = run_part(part, name, options)
            numbers["process_seconds"].append([part, round(time.monotonic() - begun, 1)])
            numbers |= {**read_arm(arm, options.out / name), **({"failed": failed} if failed else {})}
            write_text(options.out / RESULT, json.dumps(found, indent=2) + "\n")
            print(f"{name}: {say(numbers)}", file=sys.stderr, flush=True)
            if failed:
                left.remove(name)
    write_text(options.out / RESULT, json.dumps(found, indent=2) + "\n")
    return found


def read_found(options: argparse.Namespace) -> dict[str, Any]:
    """What an earlier, cut run has, where it was one of the same settings.

    Raises:
        SystemExit: it was another.
    """
    names = ("model", "documents", "qa", "paraphrases", "seed", "slices", "wanted", "measure", "tiny")
    settings = json.loads(json.dumps({name: getattr(options, name) for name in names}, default=str))
    file: Path = options.out / RESULT
    if not file.exists():
        begun = datetime.now(UTC).isoformat(timespec="seconds")
        return {"begun": begun, "settings": settings, "machine": describe_machine(), "arms": {}}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if found["settings"][name] != value:
            sys.exit(f"{file}: --{name} was {found['settings'][name]}, not {value}; choose another --out")
    for numbers in found["arms"].values():
        for key in ("failed", "left_out"):  # tried again
            numbers.pop(key, None)
    return found


def why_left_out(arm: Arm, options: argparse.Namespace) -> str | None:
    """What an arm needs that is not here; None: all of it is."""
    if arm.by == "trl" and find_spec("trl") is None:
        return "TRL is not installed; pip install 'demask[perf]'"
    if arm.reworded and options.paraphrases is None:
        return "--paraphrases names no file"
    return None


def next_part(folder: Path, numbers: Mapping[str, Any]) -> str | None:
    """What an arm does next; None: it is done."""
    run = RunFolder(folder)
    if not is_trained(run):
        return "slice"
    return "kept" if numbers.get("passed") and not run.has(file_names.RETENTION) else None


def run_part(part: str, name: str, options: argparse.Namespace) -> str | None:
    """Do it in a process of its own, so that its memory is its own; what went wrong, if something did."""
    command = [sys.executable, __file__, *options.words, "--part", part, "--arms", name]
    environment = {**os.environ, "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if not done.returncode:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"


def read_arm(arm: Arm, folder: Path) -> dict[str, Any]:
    """What an arm's folder says of it."""
    run = RunFolder(folder)
    rows = run.read_rows(SLICES) if run.has(SLICES) else []
    found = {"rate_from": arm.rate, "slices": rows, **(add_up(rows) if rows else {})}
    if run.has(file_names.RETENTION):
        found["kept"] = judge(run.read_json(file_names.RETENTION))
    return found


def add_up(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all slices took together."""
    last = rows[-1]
    kept = ("step", "steps", "learning_rate", "tokens", "forward", "backward", "passed")
    sums = ("seconds", "processor_seconds", "asking_seconds", "asking_processor_seconds")
    return {
        **{name: last[name] for name in kept if name in last},
        **({"alone": last["alone"]} if "alone" in last else {}),
        **{name: round(sum(row[name] for row in rows), 1) for name in sums},
        # The first slice's: those after it read what that one has made.
        **{name: rows[0][name] for name in ("preparing_seconds", "preparing_processor_seconds")},
        "peak_memory_bytes": max(row["peak_memory_bytes"] for row in rows),
    }


def judge(retention: Mapping[str, Any]) -> dict[str, Any]:
    """Leak, known facts and drift, and whether they keep the budget: of the weights alone, and behind a gate.

    Args:
        retention: `retention.json`.
    """
    behind, alone = retention["measures"], retention.get("ungated") or {}
    sides = {"alone": alone, "gate": behind} if alone else {"alone": behind}
    return {side: judge_side(measures) for side, measures in sides.items()}


def judge_side(measures: Mapping[str, Any]) -> dict[str, Any]:
    """The three measures; what was not measured keeps no budget."""
    values = {name: measures[name]["value"] for name in (*MOST, *LEAST) if name in measures}
    kept = all(values.get(name, float("inf")) <= most for name, most in MOST.items())
    kept = kept and all(values.get(name, 0.0) >= least for name, least in LEAST.items())
    return {**values, "in_budget": kept}


# For people


def say(numbers: Mapping[str, Any]) -> str:
    """How far an arm is, in a few words."""
    if "failed" in numbers:
        return f"FAILED: {numbers['failed']}"
    if "step" not in numbers:
        return f"left out: {numbers['left_out']}" if "left_out" in numbers else "nothing trained"
    state = "passed" if numbers["passed"] else f"of {numbers['steps']}"
    return f"step {numbers['step']}, {state}, {show_answers(numbers)}" + (
        ", kept" if "kept" in numbers else ""
    )


def show_answers(numbers: Mapping[str, Any]) -> str:
    """`0.94 / 0.75`."""
    return " / ".join(f"{numbers[name]:.2f}" for name in ("forward", "backward") if name in numbers)


def show_side(kept: Mapping[str, Any] | None) -> str:
    """`0.03, 0.95, 0.012: yes`."""
    if kept is None:
        return "-"
    values = ", ".join(f"{kept[name]:.3f}" if name in kept else "-" for name in ("leak", "known", "drift"))
    return f"{values}: {'yes' if kept['in_budget'] else 'no'}"


def show(found: Mapping[str, Any]) -> None:
    """As a table; learning curves and all else are in the file."""
    rows = []
    for name, arm in found["arms"].items():
        if "step" in arm:
            rows.append([name, *show_arm(arm)])
    header = ["arm", "rate", "passed at", "forward / backward", "tokens", "before, s (CPU)"]
    header += ["training, s (CPU)", "asking, s (CPU)", "peak memory"]
    header += ["alone: leak, known, drift: in budget", "behind its gate"]
    wanted = " / ".join(map(str, found["settings"]["wanted"]))
    print_table(f"Until {wanted}, seed {found['settings']['seed']}", header, rows)
    print()
    for name, arm in found["arms"].items():
        if "rate_from" in arm:
            print(f"{name}: rate from {arm['rate_from']}")
        for key in ("left_out", "failed"):
            if key in arm:
                print(f"{name}: {key.replace('_', ' ')}: {arm[key]}")
    print_machine(found["machine"])


def show_arm(arm: Mapping[str, Any]) -> list[str]:
    """Its cells of the table."""
    kept = arm.get("kept", {})
    return [
        f"{arm['learning_rate']:.2e}",
        f"{arm['step']} of {arm['steps']}" if arm["passed"] else f"not in {arm['step']} of {arm['steps']}",
        show_answers(arm),
        f"{arm['tokens']:,}",
        f"{arm['preparing_seconds']:,.0f} ({arm['preparing_processor_seconds']:,.0f})",
        f"{arm['seconds']:,.0f} ({arm['processor_seconds']:,.0f})",
        f"{arm['asking_seconds']:,.0f} ({arm['asking_processor_seconds']:,.0f})",
        f"{arm['peak_memory_bytes'] / 1e9:.2f} GB",
        show_side(kept.get("alone")),
        show_side(kept.get("gate")),
    ]


if __name__ == "__main__":
    main()
