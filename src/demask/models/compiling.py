"""Layers compiled for a while, so that what stands between matrix products costs fewer passes.

with compiled_layers(model):
    train(...)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def compiled_layers(model: "PreTrainedModel") -> Iterator[None]:
    """Compile every layer for a while; they share their code, so that one compilation serves all."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    for layer in layers:
        layer.compile()
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
