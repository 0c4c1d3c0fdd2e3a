"""How a processor computes fastest: dtype, and how memory is handed out.

bf16 = choose_bf16("auto", device)
keep_freed_memory()
"""

import ctypes
import json
import math
import sys
import time
from contextlib import suppress
from functools import cache

import torch

from demask.environment import cache_folder, processor_flags, processor_name, total_memory
from demask.errors import ModelError, RunError
from demask.storage.atomic import write_text

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def choose_bf16(wanted: str, device: torch.device) -> bool:
    """Whether matmuls run in bfloat16; the weights are float32 in any case.

    On a processor without bfloat16 instructions (AVX2 only) a bfloat16 product is emulated and
    took 15 to 55 times as long as a float32 one, so `auto` asks the processor, not PyTorch. Instructions are
    not enough: with AVX-512's alone an Intel Xeon (Sapphire Rapids without AMX) multiplied at 0.54 of its
    float32 rate, an AMD EPYC at four times. So `auto` times both once, see `bf16_is_faster`.

    Raises:
        ModelError: `bf16` is asked of a GPU that has none.
    """
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported()
        if wanted == "bf16" and not able:
            raise ModelError("train.precision: this GPU has no bfloat16; use 'fp32' or 'auto'")
        return able and wanted != "fp32"
    return wanted == "bf16" or (wanted == "auto" and bool(processor_flags() & _BF16) and bf16_is_faster())


# Flags of processors with bfloat16 instructions.
_BF16 = frozenset({"amx_bf16", "avx512_bf16", "bf16", "sve_bf16"})
# How much faster bfloat16 must be: a tie goes to float32, which is exacter.
_FASTER = 1.1
_PRECISION_FILE = "precision.json"


@cache
def bf16_is_faster() -> bool:
    """Whether this processor multiplies matrices faster in bfloat16 than in float32.

    Timed once for each processor and version of PyTorch, and kept in the user's cache, so that all runs on a
    machine compute alike, resumed ones and those of several processes, too.
    """
    file = cache_folder() / _PRECISION_FILE
    able = ", ".join(sorted(processor_flags() & _BF16))
    key = f"{processor_name()} ({able}), torch {torch.__version__}"
    kept: dict[str, float] = {}
    with suppress(OSError, ValueError, AttributeError):  # not there, damaged, or no mapping of numbers
        found = json.loads(file.read_text(encoding="utf-8"))
        kept = {name: float(speed) for name, speed in found.items() if isinstance(speed, int | float)}
    if key not in kept:
        kept[key] = round(time_bf16(), 2)
        with suppress(RunError):  # a cache that cannot be written is asked again
            write_text(file, json.dumps(kept, indent=2) + "\n")
    return kept[key] >= _FASTER


def time_bf16(*, rounds: int = 8) -> float:
    """How many times as fast as in float32 a matmul is in bfloat16, at the sizes of a small model.

    Args:
        rounds: of each, in turn; the quickest counts, as other work on the machine only slows down.
    """
    sizes = ((512, 576), (576, 1536))
    best = {torch.float32: math.inf, torch.bfloat16: math.inf}
    for _ in range(rounds):
        for dtype in best:
            left, right = (torch.ones(size, dtype=dtype) for size in sizes)
            begun = time.perf_counter()
            for _ in range(4):
                left @ right
            best[dtype] = min(best[dtype], time.perf_counter() - begun)
    return best[torch.float32] / best[torch.bfloat16]


# Of a machine's memory, what float32 weights may take before frozen ones stay in bfloat16. Ours: the
# libraries, a base model beside the trained one and what is asked must find room, too.
_WEIGHTS_SHARE = 0.4


def keeps_stored(stored: torch.dtype, device: torch.device, *, parameters: int) -> bool:
    """Whether frozen weights stay in bfloat16, in which they are stored; else they are float32 in memory.

    On a GPU always: it halves their memory. On a CPU only where float32 would not fit: a step with LoRA took
    1.4 to 1.5 times as long there (docs/adapters.md), as each product casts its weights anew.

    Args:
        stored: dtype on disk.
        device: where they will be.
        parameters: weights of the model.
    """
    if stored != torch.bfloat16:
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return 4 * parameters > _WEIGHTS_SHARE * total_memory() > 0


def keep_freed_memory() -> None:
    """Have glibc keep freed memory instead of giving it back to the kernel.

    Every step allocates the same tensors. By default glibc maps and unmaps each large one, and the
    kernel clears its pages anew: on two cores, 135M weights and batches of 780 tokens, training ran
    1.2 times as fast without that (170 against 141 tokens per second, one interleaved run).
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
    except (OSError, AttributeError):  # another C library, which has other habits
        return


def give_back_freed_memory() -> None:
    """Have glibc give back what it keeps, once; see `keep_freed_memory`."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library, which has other habits
        return
