"""How fast short documents are read and split, and that memory does not grow with their number.

    python perf/loading.py                        # 100,000 documents in JSONL, one core
    python perf/loading.py --documents 1000000

Loading alone and loading with splitting each run in fresh processes. Splitting has the embedded model's
tokenizer, and skips it where a text has no more bytes than a passage may have tokens.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measuring import describe_machine, make_parser, print_machine, print_table, spread

from demask.environment import peak_memory
from demask.records import Document, Passage

ARMS = ("start alone", "loading", "loading and splitting")
MAX_TOKENS = 512
WORDS = (
    "river town bridge council mayor market valley winter harvest railway station school quarter letter stone"
    " copper mill opened built sold founded measured painted crossed moved north old new second small"
).split()


def main() -> None:
    """Measure and print, or be one of the arms."""
    parser = make_parser(__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print("\n@" + json.dumps(work(options.worker, options.file)))
        return
    result = compare(options)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All arms in turn, on the same file."""
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "documents.jsonl"
        size = write_documents(file, options.documents)
        for _ in range(options.rounds):
            for arm in ARMS:
                command = [sys.executable, __file__, "--worker", arm, "--file", str(file)]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found[arm].append(json.loads(out.rpartition("@")[2]))
    return {
        "what": f"{options.documents:,} documents in JSONL, {size / options.documents:.0f} bytes each",
        "machine": describe_machine(),
        "arms": found,
        "bytes_of_text": size,
    }


def write_documents(file: Path, count: int) -> int:
    """Documents of invented sentences; the bytes of their texts."""
    rng = random.Random(0)
    size = 0
    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            sentences = (rng.choices(WORDS, k=rng.randint(8, 14)) for _ in range(4 + number % 2))
            text = " ".join(f"{' '.join(words).capitalize()}." for words in sentences)
            size += len(text)
            row = {"id": f"d{number}", "title": f"Note {number}", "text": text, "year": number % 2000}
            lines.write(json.dumps(row) + "\n")
    return size


def work(arm: str, file: Path) -> dict[str, float]:
    """One arm, on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from demask.documents.load import DocumentReader
    from demask.documents.passages import iter_passages

    if arm != "loading and splitting":
        records: Iterator[Document | Passage] = iter(DocumentReader(file) if arm == "loading" else ())
    else:
        records = iter_passages(
            DocumentReader(file),
            count_tokens=make_counter(),
            max_tokens=MAX_TOKENS,
            # A byte-level tokenizer makes at most one token of a byte.
            surely_fits=lambda text: len(text.encode()) <= MAX_TOKENS,
        )
    before = peak_memory()
    begun, begun_processor = time.perf_counter(), time.process_time()
    count = sum(1 for _ in records)
    return {
        "seconds": time.perf_counter() - begun,
        "processor_seconds": time.process_time() - begun_processor,
        "records": count,
        "peak_memory_before_bytes": before,
        "peak_memory_bytes": peak_memory(),
    }


def make_counter() -> Callable[[str], int]:
    """Tokens of a text, by the embedded model's tokenizer."""
    from demask.models.load import load_tokenizer
    from demask.objectives.prompts import count_tokens

    tokenizer = load_tokenizer("embedded")
    return lambda text: count_tokens(tokenizer, [text])[0]


def show(result: dict[str, Any]) -> None:
    """As a table."""
    rows = []
    for arm, found in result["arms"].items():
        speeds = [
            [result["bytes_of_text"] / 1e6 / one[seconds] for one in found]
            for seconds in ("seconds", "processor_seconds")
        ]
        memory = max(one["peak_memory_bytes"] for one in found) / 2**20
        grown = max(one["peak_memory_bytes"] - one["peak_memory_before_bytes"] for one in found) / 2**20
        cells = ["", ""] if arm == "start alone" else [spread(speed, ".1f") for speed in speeds]
        rows.append([arm, *cells, f"{memory:,.0f} MiB", f"{grown:,.0f} MiB"])
    header = ["", "MB of text/s", "the same by processor time", "peak memory", "of that while reading"]
    print_table(result["what"], header, rows)
    print_machine(result["machine"])


if __name__ == "__main__":
    main()
