"""Over a million prompts and responses from a file to masked examples, without the model: speed and memory.

    python perf/input_side.py --samples 1200000

Invented samples of the shape of Webscale-RL (a question, and a short answer with its reasoning; 100 to 500
tokens) are written, tokenised with the embedded model's tokenizer, opened again, and seen once, masked, in
the order of a training run. Each phase runs in a process of its own. Anonymous memory is what the process
holds; file-backed pages are the libraries and the samples, which the kernel takes back when it needs room.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate, product
from pathlib import Path
from typing import Any

from measuring import describe_machine, make_parser, print_machine, print_table

LIMIT_BYTES = 2 * 2**30  # for each process, at 1.2 million samples
BATCH_SIZE = 80  # the paper's, for 1.2 million samples
# Of a process, in kilobytes, by Linux's names.
FIELDS = ("VmRSS", "RssAnon", "RssFile", "RssShmem")
_EVERY = 0.05  # seconds between two looks


def main() -> None:
    """Measure and print, or be one of the phases."""
    parser = make_parser(__doc__)
    parser.add_argument("--samples", type=int, default=1_200_000)
    parser.add_argument("--seen", type=int, help="samples of the epoch that are seen; all when left out")
    parser.add_argument("--parquet", action="store_true", help="the data are a Parquet file, not JSON Lines")
    parser.add_argument("--folder", type=Path, help="for data and samples; a temporary one when left out")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase:
        with watch_memory() as memory:
            begun = time.perf_counter()
            found = PHASES[options.phase](options)
            found.setdefault("seconds", time.perf_counter() - begun)
        print("\n@" + json.dumps({**found, "peak_memory_bytes": memory}))
        return
    result = measure(options)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All phases, one after another."""
    phases: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for phase in PHASES:
            command = [sys.executable, *sys.argv, "--phase", phase, "--folder", folder]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            phases[phase] = json.loads(out.rpartition("@")[2])
    peak = max(found["peak_memory_bytes"]["VmRSS"] for found in phases.values())
    return {
        "what": f"the input side of {options.samples:,} samples",
        "machine": describe_machine(),
        "phases": phases,
        "peak_memory_bytes": peak,
        "within_limit": peak < LIMIT_BYTES,
    }


@contextmanager
def watch_memory() -> Iterator[dict[str, int]]:
    """The most of each kind of memory that this process held meanwhile, in bytes; complete at the end."""
    peaks = dict.fromkeys(FIELDS, 0)
    over = threading.Event()

    def look() -> None:
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in peaks:
                peaks[name] = max(peaks[name], int(value.split()[0]) * 1024)

    def watch() -> None:
        while not over.wait(_EVERY):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()
        look()


def write_data(options: argparse.Namespace) -> dict[str, Any]:
    """Questions and answers of invented words, short ones being frequent as in any language."""
    rows = make_rows(options.samples)
    path = data_file(options)
    if options.parquet:
        import pyarrow
        from pyarrow import parquet

        schema = pyarrow.schema([("question", pyarrow.string()), ("answer", pyarrow.string())])
        with parquet.ParquetWriter(path, schema) as table:
            while part := [row for row, _ in zip(rows, range(10_000), strict=False)]:
                table.write_batch(pyarrow.RecordBatch.from_pylist(part, schema))
    else:
        with path.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row) + "\n")
    return {"bytes": path.stat().st_size}


def make_rows(count: int) -> Iterator[dict[str, str]]:
    """Rows that are the same on every machine."""
    from demask.objectives.masking import keyed_rng

    syllables = [
        a + b for a, b in product(["b", "d", "st", "l", "m", "r", "tr", "v"], ["an", "e", "or", "in", "us"])
    ]
    words = [*syllables, *("".join(pair) for pair in product(syllables, repeat=2))]
    keyed_rng("input side", "words").shuffle(words)
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    for number in range(count):
        rng = keyed_rng("input side", number)
        question = rng.choices(words, cum_weights=weights, k=rng.randint(10, 50))
        answer = rng.choices(words, cum_weights=weights, k=rng.randint(35, 170))
        yield {"question": f"{' '.join(question)}?", "answer": f"{' '.join(answer)}. The answer is {number}."}


def data_file(options: argparse.Namespace) -> Path:
    """Where the data are."""
    folder: Path = options.folder
    return folder / ("train.parquet" if options.parquet else "train.jsonl")


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    """Tokenise, or open what was tokenised."""
    from demask.models.load import load_tokenizer

    tokenizer = load_tokenizer("embedded")
    begun = time.perf_counter()
    samples = open_data(options, tokenizer)
    seconds = time.perf_counter() - begun
    tokens = int(samples.prompt_lengths.sum() + samples.answer_lengths.sum())
    return {"samples": len(samples), "tokens": tokens, "seconds": seconds}


def open_data(options: argparse.Namespace, tokenizer: Any) -> Any:
    """The samples on disk."""
    from demask.data.samples import Limit
    from demask.data.tokenising import ConversationData, prepare_samples
    from demask.objectives.prompts import load_chat_format
    from demask.progress import Silent

    return prepare_samples(
        ConversationData((str(data_file(options)),)),
        tokenizer=tokenizer,
        chat=load_chat_format(tokenizer),
        limit=Limit(lambda prompt, answer: prompt + 2 * answer < 4096, "at most 4096 tokens"),
        cache=options.folder / "cache",
        progress=Silent(),
    )


def see_epoch(options: argparse.Namespace) -> dict[str, Any]:
    """Every sample once, or some, masked, in the order of a run."""
    from demask.models.context import load_context
    from demask.objectives.sft import MaskedSft
    from demask.training.stream import ExposureStream

    context = load_context("embedded", MaskedSft())
    samples = open_data(options, context.tokenizer)
    make_example = MaskedSft().example_maker(context, seed=0)
    seen = min(options.seen or len(samples), len(samples))
    stream = ExposureStream(
        samples,
        samples.prompt_lengths + 2 * samples.answer_lengths,
        make_example,
        variants=1,
        batch_size=min(BATCH_SIZE, seen),
        steps=-(-seen // BATCH_SIZE),
        seed=0,
    )
    begun = time.perf_counter()
    tokens = sum(len(stream[place].token_ids) for place in range(seen))
    return {"samples": seen, "tokens": tokens, "seconds": time.perf_counter() - begun}


PHASES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "write the data": write_data,
    "tokenise": prepare,
    "open again": prepare,
    "see an epoch": see_epoch,
}


def show(result: dict[str, Any]) -> None:
    """As a table."""
    rows = []
    for name, found in result["phases"].items():
        memory = found["peak_memory_bytes"]
        speed = f"{found['tokens'] / found['seconds']:,.0f}" if "tokens" in found else ""
        sizes = [f"{memory[field] / 2**20:,.0f} MiB" for field in ("VmRSS", "RssAnon", "RssFile")]
        rows.append([name, f"{found['seconds']:,.1f}", f"{found.get('tokens', 0):,}", speed, *sizes])
    header = ["phase", "seconds", "tokens", "tokens/s", "peak memory", "anonymous", "file-backed"]
    print_table(result["what"], header, rows)
    verdict = "within" if result["within_limit"] else "OVER"
    print(f"\n{verdict} the limit of {LIMIT_BYTES / 2**30:.0f} GiB a process")
    print_machine(result["machine"])


if __name__ == "__main__":
    main()
