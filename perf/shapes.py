"""Sizes of known models, what training them asks of a machine, and what makers say of theirs."""

from collections.abc import Sequence
from typing import TypeAlias

Sample: TypeAlias = dict[str, list[int]]  # input_ids, labels, masked

# (width, layers, heads, key-value heads, width of the MLP, vocabulary), as published.
SHAPES = {
    "tiny": (64, 2, 4, 2, 128, 512),  # for a run of seconds, to see whether all works
    "smollm-135m": (576, 30, 9, 3, 1536, 49152),
    "llama-1b": (2048, 16, 32, 8, 8192, 128256),
    "llama-3b": (3072, 28, 24, 8, 8192, 128256),
    "llama-8b": (4096, 32, 32, 8, 14336, 128256),
}
# Dense bf16 rates that the makers state, FLOP/s.
STATED_RATES = {"H100": 989e12, "H200": 989e12, "A100": 312e12}


def count_flops(samples: Sequence[Sample], *, shape: str | None, method: str) -> float:
    """What the mathematics asks for.

    Two operations a weight and token forward, as many for the gradient of the activations, and as many for
    that of the weights (not with LoRA); the output layer where labels are; attention over what a token may
    see.
    """
    width, layers, heads, kv_heads, mlp, vocabulary = SHAPES[shape or "smollm-135m"]
    head = width // heads
    weights = layers * (width * head * (2 * heads + 2 * kv_heads) + 3 * width * mlp)
    passes = 3 if method == "full" else 2
    total = 0.0
    for sample in samples:
        length = len(sample["input_ids"])
        scored = sum(label != -100 for label in sample["labels"][1:])
        total += 2 * passes * (weights * length + width * vocabulary * scored)
        total += (
            3 * 2 * layers * width * length**2
        )  # scores and values, forward and twice backward, half of it
    return total


def stated_rate() -> float | None:
    """FLOP/s that the maker of this GPU states for bf16; None without one that we know."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((rate for key, rate in STATED_RATES.items() if key in name), None)
