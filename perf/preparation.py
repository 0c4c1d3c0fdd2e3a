"""From a file of documents to the first batch: demask against TRL's SFTTrainer.

    python perf/preparation.py --documents 4000

demask reads, splits, counts and draws masks; the SFTTrainer gets the same number of ready-made prompts
and completions from a file, as its users write them, and tokenises. Each runs in a process of its own.
TRL's masks are then fixed for the whole training; demask draws new ones at every exposure, and how long
that takes stands in the table, too.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from measuring import (
    describe_machine,
    make_parser,
    own_peak_memory,
    print_machine,
    print_table,
    spread,
)

ARMS = ("demask", "TRL")
BATCHES = 100  # drawn and packed, to time one


def main() -> None:
    """Measure and print, or be one of the arms."""
    parser = make_parser(__doc__)
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(
            "\n@"
            + json.dumps(prepare_demask(options) if options.worker == "demask" else prepare_trl(options))
        )
        return
    result = compare(options)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Both arms in turn, on the same texts."""
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), options.documents)
        for _ in range(options.rounds):
            for arm in ARMS:
                command = [sys.executable, *sys.argv, "--worker", arm, "--folder", folder]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found[arm].append(json.loads(out.rpartition("@")[2]))
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(found["demask"], found["TRL"], strict=True)]
    return {
        "what": f"preparation of {options.documents} documents",
        "machine": describe_machine(),
        "arms": found,
        "documents": options.documents,
        "speed_ratios": ratios,
        "ratios": {"preparation: speed over TRL": median(ratios)},
    }


def write_data(folder: Path, count: int) -> None:
    """Documents, and the same as prompts and completions with one mask each."""
    import random

    import demask

    lines = Path(demask.__file__).parent.joinpath("quickstart/documents.jsonl").read_text(encoding="utf-8")
    texts = [json.loads(line)["text"] for line in lines.splitlines()]
    rng = random.Random(0)
    with (folder / "documents.jsonl").open("w") as documents, (folder / "pairs.jsonl").open("w") as pairs:
        for number in range(count):
            text = f"{texts[number % len(texts)]} It has the number {number}."
            documents.write(json.dumps({"id": f"d{number}", "text": text}) + "\n")
            masked = " ".join(word if rng.random() < 0.5 else "<empty_output>" for word in text.split())
            prompt = [{"role": "user", "content": f"{masked}\nReturn the recovered masked passage."}]
            completion = [{"role": "assistant", "content": text}]
            pairs.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")


def prepare_demask(options: argparse.Namespace) -> dict[str, float]:
    """All that `demask inject` does before its first step, without the model."""
    from demask.models.load import load_tokenizer
    from demask.objectives.batches import pack
    from demask.progress import Silent
    from demask.recipe.sections import make_config
    from demask.storage.run_folder import RunFolder
    from demask.tasks.planning import read_setting
    from demask.training.stream import cut_micro_batches

    documents = str(options.folder / "documents.jsonl")
    config = make_config({"preset": "fast", "model": "embedded", "documents": documents, "qa": "no"})
    load_tokenizer("embedded")  # what is imported and cached once is not counted
    begun = time.perf_counter()
    stream = read_setting(config, RunFolder(options.folder / "spool"), Silent()).stream
    stream.longest_example()
    micro_batches = cut_micro_batches(stream, accumulation=1)
    pack([stream[place] for place in micro_batches[0]])
    seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    for micro_batch in micro_batches[:BATCHES]:
        pack([stream[place] for place in micro_batch])
    drawn = sum(map(len, micro_batches[:BATCHES]))
    return {
        "seconds": seconds,
        "milliseconds_per_example": (time.perf_counter() - begun) / drawn * 1e3,
        "peak_memory_bytes": own_peak_memory(),
    }


def prepare_trl(options: argparse.Namespace) -> dict[str, float]:
    """The same with TRL, on a model of one layer that is not used."""
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    from demask.models.load import load_tokenizer

    tokenizer = load_tokenizer("embedded")
    tiny = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
        )
    )
    settings = SFTConfig(output_dir=str(options.folder / "out"), report_to="none", use_cpu=True, bf16=False)
    begun = time.perf_counter()
    data = Dataset.from_json(
        str(options.folder / "pairs.jsonl"), cache_dir=tempfile.mkdtemp(dir=options.folder)
    )
    trainer = SFTTrainer(model=tiny, args=settings, train_dataset=data, processing_class=tokenizer)
    next(iter(trainer.get_train_dataloader()))
    return {"seconds": time.perf_counter() - begun, "peak_memory_bytes": own_peak_memory()}


def show(result: dict[str, Any]) -> None:
    """As a table."""
    rows = []
    for arm, found in result["arms"].items():
        rates = [result["documents"] / one["seconds"] for one in found]
        drawn = [one["milliseconds_per_example"] for one in found if "milliseconds_per_example" in one]
        rows.append(
            [
                arm,
                spread(rates, ",.0f"),
                spread(result["speed_ratios"]) if arm != "demask" else "1",
                spread(drawn) if drawn else "",
                f"{max(one['peak_memory_bytes'] for one in found) / 1e9:.2f} GB",
            ]
        )
    header = ["arm", "documents/s", "demask is faster by", "ms to draw and pack an example", "peak memory"]
    print_table(result["what"], header, rows)
    print_machine(result["machine"])


if __name__ == "__main__":
    main()
