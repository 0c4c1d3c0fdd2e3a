"""Layers whose insides are computed a second time, going backward, and not held until then.

with recomputed_layers(model):
    train(...)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from demask.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def recomputed_layers(model: "PreTrainedModel") -> Iterator[None]:
    """Checkpoint the activations of every layer for a while, where it is in training mode.

    Raises:
        ModelError: this architecture cannot.
    """
    if not model.supports_gradient_checkpointing:
        raise ModelError(
            f"{type(model).__name__}: its layers cannot be computed twice; "
            "leave out launch.gradient_checkpointing"
        )
    # By transformers 5.23 both were renamed, and their former names warn.
    names = ("activation_checkpointing", "gradient_checkpointing")
    name = next(name for name in names if hasattr(model, f"{name}_enable"))
    enable: Any = getattr(model, f"{name}_enable")
    enable({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{name}_disable")()
