"""Layers compiled for a while, so that what stands between matmuls costs fewer passes.

with compiled_layers(model):
    train(...)
    with plain_layers(model):
        ask(...)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from demask.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def compiled_layers(model: "PreTrainedModel") -> Iterator[None]:
    """Compile every layer for a while; they share their code, so that one compilation serves all.

    Shapes are dynamic from the first batch on: otherwise the second shape is compiled anew, and a run that
    was killed goes on with other code than it would have had, and with other bits.

    Raises:
        ModelError: it is not known which modules are layers, or the compiler failed.
    """
    from torch._dynamo.exc import TorchDynamoException

    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ModelError(
            f"{type(model).__name__}: its layers are not known by name; leave out launch.compile"
        )
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        yield
    except TorchDynamoException as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"torch.compile failed: {reason.strip()}; install a C++ compiler where it asks for one, "
            "or leave out launch.compile"
        ) from error
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


@contextmanager
def plain_layers(model: "PreTrainedModel") -> Iterator[None]:
    """Have compiled layers run as they are written, for a while: decoding would compile them anew."""
    compiled = {
        module: module._compiled_call_impl
        for module in model.modules()
        if module._compiled_call_impl is not None
    }
    for module in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, implementation in compiled.items():
            module._compiled_call_impl = implementation
