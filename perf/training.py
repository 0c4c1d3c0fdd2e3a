"""Training speed and memory: demask, TRL's SFTTrainer and a plain loop, in turn, on the same examples.

    python perf/training.py                       # full fine-tuning of the embedded model
    python perf/training.py --method lora
    python perf/training.py --shape llama-3b --device cuda --document-tokens 512 --batch 16

Every arm gets the same token ids and labels, the same dtype, AdamW and clipping, and takes its
steps in blocks, one arm after the other, so that all see the same weather. Losses of the first steps
must agree. `TRL` is the SFTTrainer as it comes (it recomputes activations); `TRL, tuned` keeps them.
"""

import argparse
import contextlib
import json
import math
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from arms import work
from measuring import Worker, describe_machine, make_parser, print_machine, print_table, spread
from shapes import SHAPES, Sample, count_flops, stated_rate

ARMS = ("demask", "demask, compiled", "demask, selective", "plain loop", "TRL, tuned", "TRL")
USUAL_ARMS = ("demask", "plain loop", "TRL, tuned", "TRL")
# Losses of two arms differ by the order of sums, and by rounding with bf16.
TOLERANCE = {False: 2e-3, True: 3e-2}
COMPARED_STEPS = 3


def main() -> None:
    """Measure and print, or be one of the arms."""
    options = parse()
    if options.worker:
        work(options)
        return
    if options.keep_samples:
        options.keep_samples.write_text(json.dumps(make_samples(options)), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as folder:
        samples = options.samples or Path(folder) / "samples.json"
        if not options.samples:
            samples.write_text(json.dumps(make_samples(options)), encoding="utf-8")
        result = compare(options, samples)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--arms", nargs="+", default=list(USUAL_ARMS), choices=ARMS)
    parser.add_argument("--method", choices=("full", "lora", "qlora"), default="full")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="random weights of this shape")
    parser.add_argument("--tokenizer", default="embedded", help="model whose tokenizer makes the examples")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--batch", type=int, default=10, help="examples per step")
    parser.add_argument("--document-tokens", type=int, help="of every document; none: the bundled ones")
    parser.add_argument("--blocks", type=int, default=4, help="counted blocks of every arm")
    parser.add_argument("--block-steps", type=int, default=2)
    parser.add_argument(
        "--alone", action="store_true", help="one arm after the other, where two do not fit into memory"
    )
    parser.add_argument("--samples", type=Path, help="examples to train on, as --keep-samples wrote them")
    parser.add_argument("--keep-samples", type=Path, help="write the examples there, and stop")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def count_steps(options: argparse.Namespace) -> int:
    """Of every arm, those included that are not counted."""
    return int(COMPARED_STEPS + options.blocks * options.block_steps)


def make_samples(options: argparse.Namespace) -> list[Sample]:
    """Demasking examples of the bundled documents, in the order in which they are trained."""
    import demask
    from demask.data.sequences import PassageSamples
    from demask.models.context import load_context
    from demask.objectives.prompts import encode
    from demask.recipe.sections import make_config
    from demask.records import Passage
    from demask.training.stream import make_stream

    lines = Path(demask.__file__).parent.joinpath("quickstart/documents.jsonl").read_text(encoding="utf-8")
    texts = [json.loads(line)["text"] for line in lines.splitlines()]
    config = make_config({"preset": "fast", "model": options.tokenizer, "documents": ["."]})
    context = load_context(options.tokenizer, config.objective)
    tokenizer = context.tokenizer
    if options.document_tokens:
        endless = encode(tokenizer, " ".join(texts * math.ceil(options.document_tokens / 20)))
        starts = range(0, 8 * 37, 37)
        texts = [tokenizer.decode([*endless[start : start + options.document_tokens]]) for start in starts]
    passages = [Passage(f"d{number}", "d", text) for number, text in enumerate(texts)]
    samples = PassageSamples(passages, tokenizer)
    make = make_stream(config, context, samples).make_example
    places = range(count_steps(options) * options.batch)
    examples = [make(samples[p % len(texts)], p // len(texts), 0) for p in places]
    return [
        {"input_ids": list(e.token_ids), "labels": list(e.labels), "masked": list(e.masked)} for e in examples
    ]


def compare(options: argparse.Namespace, samples: Path) -> dict[str, Any]:
    """Run all arms in turn."""
    from demask.models.load import choose_device
    from demask.models.precision import choose_bf16

    device = choose_device(options.device)
    bf16 = choose_bf16(options.precision, device)
    command = [
        sys.executable,
        *sys.argv,
        "--samples",
        str(samples),
        "--precision",
        "bf16" if bf16 else "fp32",
    ]
    commands = {arm: [*command, "--worker", arm] for arm in options.arms}
    # All in turn, block by block; or, where two models do not fit into memory, each on its own.
    rounds = [[arm] for arm in options.arms] if options.alone else [list(options.arms)]
    timed = Timed({arm: [] for arm in options.arms}, {}, [])
    for arms in rounds:
        run_in_turn({arm: commands[arm] for arm in arms}, options, timed, rate=(str(device), bf16))
    return summarise(options, json.loads(samples.read_text(encoding="utf-8")), timed, bf16=bf16)


class Timed(NamedTuple):
    """What was measured."""

    seconds: dict[str, list[float]]  # of every block, by arm
    finals: dict[str, dict[str, Any]]  # an arm's last word
    rates: list[float]  # of large matmuls, FLOP/s


def run_in_turn(
    commands: dict[str, list[str]], options: argparse.Namespace, timed: Timed, *, rate: tuple[str, bool]
) -> None:
    """Some arms beside each other, one block each at a time."""
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker.start(arm, command)) for arm, command in commands.items()]
        for worker in workers:
            worker.run(COMPARED_STEPS)  # memory is mapped, optimizers make their state
        for _ in range(options.blocks):
            timed.rates.append(measure_rate(rate[0], rate[1]))
            for worker in workers:
                timed.seconds[worker.name].append(worker.run(options.block_steps))
        for worker in workers:
            worker.release(1)
            timed.finals[worker.name] = worker.hear()


def measure_rate(device: str, bf16: bool) -> float:
    """FLOP/s of large matmuls; the better of two tries, as other arms may still be coming to rest."""
    import torch

    from demask.training.plan import measure_matrix_rate

    dtype = torch.bfloat16 if bf16 else torch.float32
    size = 8192 if device.startswith("cuda") else 1024
    return max(measure_matrix_rate(torch.device(device), dtype, size=size, limit=0.7) for _ in range(2))


def summarise(
    options: argparse.Namespace,
    samples: list[Sample],
    timed: Timed,
    *,
    bf16: bool,
) -> dict[str, Any]:
    """Speeds, ratios block by block, and whether all arms trained the same."""
    seconds, finals, rates = timed
    block = options.block_steps * options.batch
    blocks = [
        samples[start : start + block] for start in range(COMPARED_STEPS * options.batch, len(samples), block)
    ]
    tokens = [sum(len(sample["input_ids"]) for sample in part) for part in blocks]
    flops = [count_flops(part, shape=options.shape, method=options.method) for part in blocks]
    first = {arm: final["losses"][:COMPARED_STEPS] for arm, final in finals.items()}
    differences = [abs(a - b) for a, *rest in zip(*first.values(), strict=True) for b in rest]
    arms = {
        arm: {
            "tokens_per_second": [n / s for n, s in zip(tokens, taken, strict=True)],
            "share_of_matrix_rate": [f / s / max(rates) for f, s in zip(flops, taken, strict=True)],
            "peak_memory_bytes": finals[arm]["peak_memory_bytes"],
            "first_losses": first[arm],
        }
        for arm, taken in seconds.items()
    }
    ours = seconds[options.arms[0]]
    ratios = {
        arm: [theirs / mine for mine, theirs in zip(ours, taken, strict=True)]
        for arm, taken in seconds.items()
    }
    memory = {
        arm: arms[options.arms[0]]["peak_memory_bytes"] / arms[arm]["peak_memory_bytes"] for arm in arms
    }
    return {
        "what": ", ".join(
            ["training", options.method, options.shape or "embedded", "bf16" if bf16 else "fp32"]
        ),
        "machine": describe_machine(),
        "batch": options.batch,
        "mean_tokens": sum(tokens) / sum(map(len, blocks)),
        "matrix_flops_per_second": rates,
        "arms": arms,
        "same_losses": max(differences, default=0.0) <= TOLERANCE[bf16],
        "largest_loss_difference": max(differences, default=0.0),
        "speed_ratios": ratios,
        "ratios": {
            f"{options.method}: speed over {arm}": median(values)
            for arm, values in ratios.items()
            if arm != options.arms[0]
        }
        | {f"{options.method}: memory over {arm}": memory[arm] for arm in options.arms[1:]}
        | {f"{options.method}: share of matrix rate": median(arms[options.arms[0]]["share_of_matrix_rate"])},
    }


def show(result: dict[str, Any]) -> None:
    """As a table."""
    rows = [
        [
            arm,
            spread(numbers["tokens_per_second"], ".0f"),
            "1" if number == 0 else spread(result["speed_ratios"][arm]),
            spread(numbers["share_of_matrix_rate"]),
            f"{numbers['peak_memory_bytes'] / 1e9:.2f} GB",
            ", ".join(f"{loss:.4f}" for loss in numbers["first_losses"]),
        ]
        for number, (arm, numbers) in enumerate(result["arms"].items())
    ]
    header = ["arm", "tokens/s", "demask is faster by", "share of matrix rate", "peak memory", "first losses"]
    print_table(f"{result['what']}; {result['mean_tokens']:.0f} tokens an example", header, rows)
    rates = [rate / 1e9 for rate in result["matrix_flops_per_second"]]
    print(f"\nLarge matmuls: {spread(rates, ',.0f')} GFLOP/s; the best counts as the machine's rate.")
    print(f"Losses of the first steps agree: {'yes' if result['same_losses'] else 'NO'}")
    stated = stated_rate()
    if stated:
        best = max(result["matrix_flops_per_second"])
        shares = next(iter(result["arms"].values()))["share_of_matrix_rate"]
        used = [share * best / stated for share in shares]
        print(f"Model FLOPs utilisation of demask, of the stated rate: {spread(used)}")
    print_machine(result["machine"])


if __name__ == "__main__":
    main()
