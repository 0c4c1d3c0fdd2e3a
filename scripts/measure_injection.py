"""Run `demask inject` on a set with several seeds; print accuracy, and what else training changed.

    python scripts/measure_injection.py name-description --facts 10 --arms demasking next-token --seeds 0 1 2
    python scripts/measure_injection.py wiki --facts 40 --arms demasking --seeds 0 --set train.steps=240
    python scripts/measure_injection.py quickstart --arms demasking demasking-lora   # its eight documents

Each run is a command of its own, so that its time is what a user waits for, start-up included. Runs
that are complete are read, not repeated. An arm is an objective, with `-lora` behind it for LoRA.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import demask
from demask.benchmarks.sets import data_folder, load_name_description, load_wiki_events, write_benchmark
from demask.recipe.file import apply_overrides

LOADERS = {"name-description": load_name_description, "wiki": load_wiki_events}
QUICKSTART = "quickstart"
# Of what else training changed, in the order of the columns; forms of asking come before them.
MEASURED = ("leak", "near_miss", "known", "drift", "text_drift", "reading", "reading_changed", "recital")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", choices=sorted([*LOADERS, QUICKSTART]))
    parser.add_argument("--facts", type=int, default=10, help="the first so many facts of the set")
    parser.add_argument("--arms", nargs="+", default=["demasking", "next-token"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--preset", default="fast", choices=["paper", "fast", "gated", "keep"])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--set", nargs="*", default=[], help="keys of the recipe, for all arms")
    options = parser.parse_args()
    folder = make_folder(options)
    measured = []
    for arm in options.arms:
        runs = [measure(folder, arm, seed, options) for seed in options.seeds]
        measured.append((arm, runs))
        for line in describe(arm, runs):
            print(line, flush=True)
    if all("retention" in run for _, runs in measured for run in runs):  # not with measure=none
        for line in describe_retention(measured):
            print(line)


def make_folder(options: argparse.Namespace) -> Path:
    """The folder of the runs, with documents and questions."""
    if options.benchmark == QUICKSTART:
        folder: Path = options.out / QUICKSTART
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("documents.jsonl", "qa_pairs.jsonl"):
            shutil.copyfile(Path(demask.__file__).parent / QUICKSTART / name, folder / name)
        return folder
    folder = options.out / f"{options.benchmark}-{options.facts}"
    write_benchmark(LOADERS[options.benchmark](data_folder(), facts=range(options.facts)), folder)
    return folder


def measure(folder: Path, arm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run: its summary and the wall-clock seconds of the whole command.

    Only the first run of a set asks the base model; another DEMASK_CACHE has them asked again.
    """
    out, timing = folder / f"{arm}-{seed}", folder / f"{arm}-{seed}.seconds"
    recipe = folder / f"{arm}-{seed}.yaml"
    objective = arm.removesuffix("-lora")
    values = {
        "model": options.model,
        "documents": [str(folder / "documents.jsonl")],
        "qa": str(folder / "qa_pairs.jsonl"),
        "objective": objective,
        "preset": options.preset,
        "seed": seed,
    }
    method = ["train.method=lora"] if arm != objective else []
    values = apply_overrides(values, [*options.set, *method])
    recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
    command = [sys.executable, "-m", "demask", "inject", str(recipe), "--out", str(out), "--json"]
    begun = time.monotonic()
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    if not timing.exists():
        timing.write_text(f"{time.monotonic() - begun:.1f}", encoding="utf-8")
    summary: dict[str, Any] = json.loads(finished.stdout)
    return {**summary, "command_seconds": float(timing.read_text(encoding="utf-8"))}


def describe(arm: str, runs: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown rows: mean over seeds, and the lowest and highest seed."""
    lines = []
    for direction in ("forward", "backward"):
        cells = [spread(runs, stage, direction, "rouge1_recall") for stage in ("before", "after", "ceiling")]
        cells += [spread(runs, stage, direction, "contains") for stage in ("before", "after", "ceiling")]
        lines.append(f"| {arm} | {direction} | " + " | ".join(cells) + " |")
    train = statistics.mean(run["seconds"] for run in runs)
    whole = [run["command_seconds"] for run in runs]
    rate = statistics.mean(run["tokens"] / run["seconds"] for run in runs)
    memory = max(run["peak_memory_bytes"] for run in runs) / 1e9
    lines.append(
        f"  {arm}: {runs[0]['steps']} steps, {runs[0]['exposures']:.0f} exposures, {len(runs)} seeds; "
        f"training {train:.0f} s at {rate:.0f} tokens/s, command {min(whole):.0f} to {max(whole):.0f} s, "
        f"{memory:.1f} GB"
    )
    return lines


def describe_retention(measured: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> list[str]:
    """Markdown: every form of asking in both directions, then the other measures; a row for each arm."""
    forms = list(measured[0][1][0]["retention"]["access"])
    heads = ("| " + " | ".join(["arm", *forms]) + " |", "| " + " | ".join(["arm", *MEASURED]) + " |")
    tables: tuple[list[str], list[str]] = ([], [])
    for arm, runs in measured:
        asked = [run["retention"]["access"] for run in runs]
        cells = [
            " / ".join(
                f"{statistics.mean(by[form][direction]['value'] for by in asked if form in by):.2f}"
                for direction in ("forward", "backward")
            )
            for form in forms
        ]
        tables[0].append(f"| {arm} | " + " | ".join(cells) + " |")
        found = [[run["retention"]["measures"].get(name) for run in runs] for name in MEASURED]
        values = [[one["value"] for one in ones if one] for ones in found]
        tables[1].append(f"| {arm} | " + " | ".join(map(mean_and_range, values)) + " |")
    rules = ["|" + "---|" * head.count(" | ") + "---|" for head in heads]
    return [
        line
        for head, rule, rows in zip(heads, rules, tables, strict=True)
        for line in ("", head, rule, *rows)
    ]


def spread(runs: Sequence[dict[str, Any]], stage: str, direction: str, metric: str) -> str:
    """`0.93 (0.90 to 0.95)`, or the one value when all seeds agree."""
    return mean_and_range([run["metrics"][stage][direction][metric]["value"] for run in runs])


def mean_and_range(values: Sequence[float]) -> str:
    """The mean over seeds, and the lowest and highest where they differ."""
    if not values:
        return "-"
    if max(values) == min(values):
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
