"""Cost curves: seconds and memory against documents, document length, batch size and model size.

    python perf/curves.py                         # all four, some minutes on two cores
    python perf/curves.py --curve documents

Every point is a process of its own, so that its memory is its own. Per-token and per-document costs
should not change along a curve; where they do, docs/benchmarks.md says why.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import describe_machine, make_parser, own_peak_memory, print_machine, print_table

CURVES: dict[str, tuple[Any, ...]] = {
    "documents": (10, 100, 1000, 10_000, 100_000),
    "length": (16, 64, 256, 1024, 2048),
    "batch": (1, 4, 16, 32),
    "model": ("135M", "270M"),
}
STEPS = 2  # counted, after two that are not: the first maps memory, and the second uses the optimizer's
SHORT = 40  # tokens of a document where its length is not what varies


def main() -> None:
    """Measure and print, or be one point."""
    parser = make_parser(__doc__)
    parser.add_argument("--curve", choices=sorted(CURVES), action="append")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        curve, _, value = options.point.partition("=")
        print("\n@" + json.dumps(prepare(int(value)) if curve == "documents" else train(curve, value)))
        return
    curves = {name: [measure(name, value) for value in CURVES[name]] for name in options.curve or CURVES}
    if options.json:
        print(json.dumps({"machine": describe_machine(), "curves": curves}, indent=2))
        return
    for name, points in curves.items():
        header = list(points[0])
        rows = [[write(point[column]) for column in header] for point in points]
        print_table(f"against {name}", header, rows)
    print_machine(describe_machine())


def write(value: float | str) -> str:
    """For people."""
    return value if isinstance(value, str) else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def measure(curve: str, value: object) -> dict[str, Any]:
    """One point in a process of its own."""
    command = [sys.executable, __file__, "--point", f"{curve}={value}"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = {curve: value, **json.loads(out.rpartition("@")[2])}
    return found


def prepare(count: int) -> dict[str, float]:
    """From the file to the first batch, and the epoch of so many documents put in order."""
    from demask.models.load import load_tokenizer
    from demask.progress import Silent
    from demask.recipe.sections import make_config
    from demask.storage.run_folder import RunFolder
    from demask.tasks.planning import read_setting

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number in range(count):
                text = f"Item {number} was found in room {number % 97} by keeper {number % 89}. " * 2
                file.write(json.dumps({"id": f"d{number}", "text": text}) + "\n")
        config = make_config({"preset": "fast", "model": "embedded", "documents": str(path), "qa": "no"})
        load_tokenizer("embedded")  # what is imported and cached once is not counted
        idle = own_peak_memory()
        begun = time.perf_counter()
        stream = read_setting(config, RunFolder(Path(folder) / "spool"), Silent()).stream
        stream[0]
        seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "microseconds per document": seconds / count * 1e6,
        "memory MB": (own_peak_memory() - idle) / 1e6,
        "memory kB per document": (own_peak_memory() - idle) / count / 1e3,
    }


def train(curve: str, value: str) -> dict[str, float]:
    """Some steps; tokens per second and memory of the whole process."""
    import torch

    from demask.models.load import choose_device
    from demask.models.precision import choose_bf16, keep_freed_memory
    from demask.training.plan import choose_accumulation
    from demask.training.trainer import TrainSettings, train_model

    keep_freed_memory()
    length = int(value) if curve == "length" else SHORT
    batch = int(value) if curve == "batch" else 1 if curve == "length" else 4
    stream: Any = make_stream(length, batch)
    device = choose_device("auto")
    model = make_model(value if curve == "model" else "135M", device)
    settings = TrainSettings(
        learning_rate=1e-5,
        accumulation=choose_accumulation(
            make_train(), batch_size=batch, longest=stream.longest_example(), device=device
        ),
        save_every=10**6,
        bf16=choose_bf16("auto", device),
        pad_id=0,
        seed=0,
    )
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train_model(
            model,
            stream,
            settings,
            folder=Path(folder),
            on_step=lambda step: times.append(step.seconds),
            on_step_end=lambda step: torch.cuda.synchronize() if torch.cuda.is_available() else None,
        )
    tokens = sum(len(stream[place].token_ids) for place in range(batch))
    seconds = (times[-1] - times[-1 - STEPS]) / STEPS
    return {
        "tokens per step": tokens,
        "micro-batches": settings.accumulation,
        "seconds per step": seconds,
        "tokens per second": tokens / seconds,
        "memory GB": own_peak_memory() / 1e9,
    }


def make_train() -> Any:
    """The defaults of a recipe."""
    from demask.recipe.sections import Train

    return Train()


def make_stream(length: int, batch: int) -> Any:
    """Demasking examples of documents of so many tokens, their ids drawn at random."""
    import random

    from demask.objectives.demasking import DemaskingForm, make_demasking_example
    from demask.objectives.masking import draw_masking, keyed_rng
    from demask.objectives.prompts import ChatFormat
    from demask.records import Passage
    from demask.training.stream import ExposureStream

    form = DemaskingForm(ChatFormat((1, 2, 3), (4, 5, 6), (2,), ()), 16, (7, 8, 9), (10, 11, 12))

    def make(passage: Passage, epoch: int, variant: int) -> Any:
        rng = random.Random(int(passage.id))
        ids = [rng.randrange(100, 40_000) for _ in range(length)]
        masked = draw_masking(range(length), 0.5, keyed_rng(0, passage.id, epoch, variant))
        return make_demasking_example(ids, masked, id=passage.id, form=form)

    passages = [Passage(str(number), str(number), "") for number in range(batch)]
    return ExposureStream(
        passages, [length] * batch, make, variants=1, batch_size=batch, steps=STEPS + 2, seed=0
    )


def make_model(size: str, device: Any) -> Any:
    """Random weights of SmolLM2-135M, or of Gemma-3-270M, whose vocabulary of 262,144 has most of them."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma3TextConfig

    from demask.models.load import load_architecture

    config = load_architecture("embedded")
    if size == "270M":
        config = Gemma3TextConfig(
            vocab_size=262144,
            hidden_size=640,
            intermediate_size=2048,
            num_hidden_layers=18,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=256,
            sliding_window=512,
        )
    with device:
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


if __name__ == "__main__":
    main()
