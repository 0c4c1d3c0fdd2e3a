"""Which layers of a model can carry a low-rank adapter.

LoraConfig(target_modules=find_adapter_layers(model))
"""

from typing import TYPE_CHECKING, Any

from torch import nn

from demask.errors import ModelError
from demask.models.multimodal import text_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Of a state-space layer: its other projections are given to fused kernels as bare weights, past the adapter
# on them, and peft refuses some of them.
_STATE_SPACE_INPUT = "in_proj"


def find_adapter_layers(model: "PreTrainedModel") -> list[str]:
    """The names of all linear layers that read text, but the output layer and what a kernel reaches past.

    Raises:
        ModelError: there is none.
    """
    from transformers.pytorch_utils import Conv1D

    inside = {id(module) for module in text_layers(model).modules()}
    barred = {id(layer) for mixer in model.modules() for layer in _reached_past(mixer)}
    barred.add(id(model.get_output_embeddings()))
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and id(module) in inside - barred
    ]
    if not names:
        raise ModelError(
            f"{type(model).__name__}: has no linear layer that can carry an adapter; use train.method=full"
        )
    return names


def _reached_past(module: nn.Module) -> list[Any]:
    """The layers of a Mamba mixer, known by its decay and its skip, that cannot carry an adapter."""
    if not {"A_log", "D"} <= module._parameters.keys():
        return []
    return [layer for name, layer in module.named_children() if name != _STATE_SPACE_INPUT]
