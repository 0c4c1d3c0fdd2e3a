"""Training beside other work: how much of its speed is left, with OpenMP as it comes and as demask sets it.

    python perf/busy.py                           # the quiet machine, and one busy neighbour
    python perf/busy.py --spin 1000 10000 100000 --passive --neighbours 1 2      # and fixed policies

Every arm is `demask inject`'s training of the embedded model in a process of its own. Arms take their blocks
of steps in turn, each block once on the quiet machine and once for each number of neighbours, so that all see
the same weather. A neighbour is a process that computes without end. What counts are ratios within a round:
busy over quiet, the aim is 0.6 on two cores, and quiet over quiet of the default, the aim is 0.97.
A block begins some seconds after its neighbours, so that a policy that follows the load has seen them.
"""

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from arms import work
from measuring import Worker, describe_machine, make_parser, print_machine, print_table, spread

from demask.openmp import INTERVAL, share_cores

DEFAULT, POLICY = "default", "demask"
WARM_UP = 2  # steps
# It ends with whoever started it.
NEIGHBOUR = """
import os
parent = os.getppid()
print(flush=True)
while os.getppid() == parent:
    sum(number * number for number in range(10_000))
"""
OPENMP = ("OMP_", "GOMP_", "KMP_")


def main() -> None:
    """Measure and print, or be one of the arms."""
    options = parse()
    if options.worker:
        if options.share:
            share_cores()
        work(options)
        return
    result = measure(options)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--block-steps", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help="examples per step")
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    parser.add_argument("--neighbours", type=int, nargs="+", default=[1])
    parser.add_argument("--spin", type=int, nargs="*", default=[], help="other values of GOMP_SPINCOUNT")
    parser.add_argument("--passive", action="store_true", help="also OMP_WAIT_POLICY=PASSIVE")
    parser.add_argument("--share", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    parser.set_defaults(shape=None, device="cpu", document_tokens=None)
    return parser.parse_args()


def choose_arms(options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """The variables of OpenMP in each arm."""
    arms: dict[str, dict[str, str]] = {DEFAULT: {}, POLICY: {}}
    arms |= {f"spin {count}": {"GOMP_SPINCOUNT": str(count)} for count in options.spin}
    return arms | ({"passive": {"OMP_WAIT_POLICY": "PASSIVE"}} if options.passive else {})


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All arms in turn, quiet and busy."""
    arms, counts = choose_arms(options), [0, *options.neighbours]
    seconds: dict[str, dict[int, list[float]]] = {arm: {count: [] for count in counts} for arm in arms}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        command = prepare(options, Path(folder) / "samples.json", len(counts))
        started = [
            Worker.start(arm, [*command, *(["--share"] * (arm == POLICY))], make_environment(arms[arm]))
            for arm in arms
        ]
        workers = [stack.enter_context(worker) for worker in started]
        for worker in workers:
            worker.run(WARM_UP)
        for number in range(options.rounds):
            first = number % len(workers)  # so that each arm is first as often as any other
            for worker, count in itertools.product(workers[first:] + workers[:first], counts):
                seconds[worker.name][count].append(run_block(worker, count, options.block_steps))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    return summarise(options, seconds)


def run_block(worker: Worker, neighbours: int, steps: int) -> float:
    """Seconds of a block beside so many neighbours."""
    with busy(neighbours):
        time.sleep(2 * INTERVAL)
        return worker.run(steps)


def prepare(options: argparse.Namespace, samples: Path, states: int) -> list[str]:
    """Write the examples; the command of an arm."""
    from training import make_samples

    from demask.models.load import choose_device
    from demask.models.precision import choose_bf16

    steps = WARM_UP + options.rounds * options.block_steps * states + 1
    made = make_samples(argparse.Namespace(**vars(options) | {"blocks": steps, "block_steps": 1}))
    samples.write_text(json.dumps(made), encoding="utf-8")
    precision = "bf16" if choose_bf16("auto", choose_device("cpu")) else "fp32"
    command = [sys.executable, __file__, "--worker", "demask", "--samples", str(samples)]
    return [*command, "--precision", precision, "--batch", str(options.batch), "--method", options.method]


def make_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's, without the variables of OpenMP that it was started with."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OPENMP)} | dict(
        variables
    )


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """As many neighbours compute while the block lasts."""
    command = [sys.executable, "-c", NEIGHBOUR]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()


def summarise(options: argparse.Namespace, seconds: dict[str, dict[int, list[float]]]) -> dict[str, Any]:
    """Seconds a step, and ratios round by round."""
    quiet = seconds[DEFAULT][0]
    step = {
        arm: {count: [taken / options.block_steps for taken in blocks] for count, blocks in by_count.items()}
        for arm, by_count in seconds.items()
    }
    kept = {
        arm: {
            count: [free / busy for free, busy in zip(by_count[0], blocks, strict=True)]
            for count, blocks in by_count.items()
            if count
        }
        for arm, by_count in seconds.items()
    }
    over_default = {
        arm: [theirs / ours for theirs, ours in zip(quiet, by_count[0], strict=True)]
        for arm, by_count in seconds.items()
    }
    ratios = {f"{arm}: quiet over default quiet": median(over_default[arm]) for arm in seconds}
    for arm, by_count in kept.items():
        ratios |= {f"{arm}: {count} busy over quiet": median(values) for count, values in by_count.items()}
    return {
        "what": f"training beside other work, {options.method}, {options.batch} examples a step",
        "machine": describe_machine(),
        "step_seconds": step,
        "busy_over_quiet": kept,
        "quiet_over_default": over_default,
        "ratios": ratios,
    }


def show(result: dict[str, Any]) -> None:
    """As a table."""
    counts = [count for count in next(iter(result["step_seconds"].values())) if count]
    rows = [
        [
            arm,
            spread(steps[0]),
            spread(result["quiet_over_default"][arm]),
            *(
                cell
                for count in counts
                for cell in (spread(steps[count]), spread(result["busy_over_quiet"][arm][count]))
            ),
        ]
        for arm, steps in result["step_seconds"].items()
    ]
    header = ["OpenMP", "quiet, s a step", "rate over the default's"]
    for count in counts:
        header += [f"{count} busy, s a step", "of the quiet rate"]
    print_table(result["what"], header, rows)
    print_machine(result["machine"])


if __name__ == "__main__":
    main()
