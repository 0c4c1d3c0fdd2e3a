"""What the measurements share: the machine, several programs in turn, tables.

The machine is shared and its speed drifts. So programs that are compared run in turn, block by block,
in one go, and what is kept are ratios.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from statistics import median
from types import TracebackType
from typing import Any, Self

from demask.environment import count_cores, peak_memory, processor_name

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """With the option that all scripts have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def describe_machine() -> dict[str, Any]:
    """Processor, cores, the dtype in which it multiplies fastest, and versions."""
    import torch

    from demask.models.precision import choose_bf16

    versions = {name: _version(name) for name in PACKAGES}
    return {
        "processor": processor_name(),
        "cores": count_cores(),
        "products in": "bf16" if choose_bf16("auto", torch.device("cpu")) else "fp32",
        "python": sys.version.split()[0],
        **versions,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """As Markdown, to be copied into docs/benchmarks.md."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    print(f"\n{title}\n")
    for number, row in enumerate([header, *rows]):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def print_machine(machine: Mapping[str, Any]) -> None:
    """One line below a table."""
    print("\n" + ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None))


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """`1.93 (1.90 to 2.01)`: median, lowest and highest."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def time_call(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def own_peak_memory() -> int:
    """Bytes: of the GPU where one was used, else of this process."""
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else peak_memory()


class Gate:
    """In a worker: stops after each block of steps until the parent wants the next."""

    def __init__(self) -> None:
        self._left = 0
        self._begun = 0.0

    def wait(self) -> None:
        """Let the parent know that the worker is ready, and wait for the first block."""
        self._tell({"ready": True})
        self._open()

    def step(self) -> None:
        """One step is done."""
        self._left -= 1
        if self._left == 0:
            wait_for_device()
            self._tell({"seconds": time.perf_counter() - self._begun})
            self._open()

    def finish(self, **results: object) -> None:
        """The last word."""
        self._tell({**results, "peak_memory_bytes": own_peak_memory()})

    def _open(self) -> None:
        line = sys.stdin.readline()
        if not line:
            raise SystemExit("the parent is gone")
        self._left = int(line)
        self._begun = time.perf_counter()

    @staticmethod
    def _tell(value: object) -> None:
        # Libraries print too; ours begins with a mark.
        print(f"\n@{json.dumps(value)}", flush=True)


def wait_for_device() -> None:
    """Until a GPU has done what it was given."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


@dataclass
class Worker:
    """In the parent: one program of those that run in turn, in a process of its own."""

    name: str
    process: "subprocess.Popen[str]"

    @classmethod
    def start(cls, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Self:
        """Start it, in this environment or one's own, and wait until it is ready."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        worker = cls(name, process)
        worker.hear()
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()

    def run(self, steps: int) -> float:
        """Seconds for a block of steps."""
        self.release(steps)
        return float(self.hear()["seconds"])

    def release(self, steps: int) -> None:
        """Start a block."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The next thing it says.

        Raises:
            SystemExit: it died; with the end of what it printed.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                said: dict[str, Any] = json.loads(line[1:])
                return said
        _, errors = self.process.communicate()
        raise SystemExit(f"{self.name} died:\n{errors[-3000:]}")
