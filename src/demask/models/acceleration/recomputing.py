"""Layers whose insides are computed a second time, going backward, and not held until then.

with recomputed_layers(model, keep_products=True):
    train(...)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from demask.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def recomputed_layers(model: "PreTrainedModel", *, keep_products: bool = False) -> Iterator[None]:
    """Checkpoint the activations of every layer for a while, where it is in training mode.

    Args:
        model: a causal or denoising language model.
        keep_products: hold what matmuls and attention gave, so that only what is cheap is computed
            twice: norms, activation functions, rotations, sums and the weights' copies in bfloat16.

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
    contexts = {"context_fn": partial(create_selective_checkpoint_contexts, _choose)} if keep_products else {}
    enable({"use_reentrant": False, **contexts})
    try:
        yield
    finally:
        getattr(model, f"{name}_disable")()


def _choose(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Products are known by their names: aten::addmm, aten::_scaled_dot_product_flash_attention_for_cpu."""
    name = operation.name().partition(".")[0]
    dear = name.endswith("mm") or "attention" in name or "attn" in name
    return CheckpointPolicy.MUST_SAVE if dear else CheckpointPolicy.PREFER_RECOMPUTE
