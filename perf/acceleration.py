"""What each part of `models/acceleration/` gains on a CPU, one thread: steps with it and without, in turn.

    OMP_NUM_THREADS=1 python perf/acceleration.py            # the embedded model and the bundled documents
    OMP_NUM_THREADS=1 python perf/acceleration.py --rounds 5 --examples 8

A step is forward and backward of demasking examples, without the optimizer. What is compared is the time of
this process on a processor, so other programs change little; the ratio is the median over the rounds.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from measuring import describe_machine, make_parser, print_machine, print_table
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from training import make_samples

from demask.losses.cross_entropy import token_nats
from demask.models.acceleration import packing
from demask.models.acceleration.layers import memory_efficient_layers
from demask.models.acceleration.packing import PACKED, using_attention
from demask.models.acceleration.target_logits import score_targets
from demask.models.load import load_model
from demask.objectives.batches import Batch, pack, pad
from demask.records import Example

Step = Callable[[], Tensor]


def make_examples(count: int) -> list[Example]:
    """Demasking examples of the bundled documents."""
    options = argparse.Namespace(document_tokens=None, blocks=1, block_steps=1, batch=count)
    samples = make_samples(options)[:count]
    return [
        Example(str(place), tuple(s["input_ids"]), tuple(s["labels"]), tuple(map(bool, s["masked"])))
        for place, s in enumerate(samples)
    ]


def score_all(model: Any, batch: Batch) -> Tensor:
    """Nats of the scored positions, from the logits of all."""
    logits_BTV = model(input_ids=batch["input_ids"], use_cache=False).logits
    return token_nats(
        logits_BTV.flatten(0, 1)[batch["predicting"]], batch["labels"].flatten()[batch["scored"]], never=None
    )


def score(model: Any, batch: Batch) -> Tensor:
    """Nats of the scored positions, from their logits alone."""
    return score_targets(model, batch, head_of=model).nats_N


@contextmanager
def in_bf16() -> Iterator[None]:
    """As training with `precision: bf16`."""
    with torch.autocast("cpu", torch.bfloat16):
        yield


def packed(model: Any) -> Any:
    """With the attention of packed examples."""
    return using_attention(model, PACKED)


def run_step(model: Any, step: Step, *contexts: Any) -> float:
    """Seconds on the processor of one step."""
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        begun = time.process_time()
        loss = step().mean()
    loss.backward()
    seconds = time.process_time() - begun
    model.zero_grad()
    return seconds


def held_bytes(step: Step, *contexts: Any) -> int:
    """Bytes that are saved for backward."""
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with ExitStack() as stack:
        for context in (*contexts, saved_tensors_hooks(note, lambda tensor: tensor)):
            stack.enter_context(context)
        kept = step()
    return sum(seen.values()) if kept.numel() else 0


def compare(rounds: int, with_it: Callable[[], float], without: Callable[[], float]) -> list[float]:
    """Time without the part over the time with it, for each round."""
    with_it(), without()
    return [without() / with_it() for _ in range(rounds)]


def main() -> int:
    """Measure and print; the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="steps of each kind (3)")
    parser.add_argument("--examples", type=int, default=4, help="in a step (4)")
    parser.add_argument("--parts", nargs="*", help="which ones: packing logits short lean (all)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model: Any = load_model("embedded", device="cpu").model.train()
    examples = make_examples(options.examples)
    row, rows = pack(examples), pad(examples, pad_id=0)
    lean = partial(memory_efficient_layers, model, score=partial(_score_once, model, row))
    usual = partial(patch.object, packing, "is_short", lambda query: False)
    step = partial(run_step, model)
    packs, scores = partial(score, model, row), partial(score, model, rows)
    arms: dict[str, tuple[str, Callable[[], float], Callable[[], float]]] = {
        "packing": ("packed rows, fp32", lambda: step(packs, packed(model)), lambda: step(scores)),
        "logits": (
            "logits of scored positions, fp32",
            lambda: step(scores),
            lambda: step(partial(score_all, model, rows)),
        ),
        "short": (
            "attention of short examples, bf16",
            lambda: step(packs, packed(model), in_bf16()),
            lambda: step(packs, packed(model), in_bf16(), usual()),
        ),
        "lean": (
            "memory-efficient layers, bf16",
            lambda: step(packs, packed(model), in_bf16(), lean()),
            lambda: step(packs, packed(model), in_bf16(), nullcontext()),
        ),
    }
    lines = []
    for name, (title, with_it, without) in arms.items():
        if options.parts and name not in options.parts:
            continue
        ratios = compare(options.rounds, with_it, without)
        lines.append([title, f"{median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"])
        print(*lines[-1], file=sys.stderr, flush=True)
    bytes_of = [held_bytes(packs, packed(model), in_bf16(), context) for context in (lean(), nullcontext())]
    print_machine(describe_machine())
    tokens = int(row["input_ids"].numel())
    print_table(
        f"{len(examples)} examples, {tokens} tokens, {rows['input_ids'].numel()} with padding",
        ["part", "faster by", "rounds"],
        lines,
    )
    print(f"\nSaved for backward with memory-efficient layers: {bytes_of[0] / bytes_of[1]:.2f} of the bytes")
    return 0


@torch.no_grad()
def _score_once(model: Any, batch: Batch) -> Tensor:
    with in_bf16():
        return score(model, batch)


if __name__ == "__main__":
    sys.exit(main())
