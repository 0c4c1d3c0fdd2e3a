"""Which weights of a model are trained, as the recipe's `train.weights` names them; the others are frozen.

    freeze_others(model, "mlp-and-values")
    count_trained(outline_model(config), "layers 8-24")        # of a model without its weights

A frozen weight gets no gradient, no moments in the optimizer and no weight decay. Families give their parts
different names: feed-forward networks are known by their own or by their class, values by their projection.
"""

import re
from typing import TYPE_CHECKING

from torch import nn

from demask.errors import ModelError
from demask.models.families import text_layers
from demask.recipe.sections import ALL_WEIGHTS, read_layer_range

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Names of a layer's feed-forward network: most families; MPT, DBRX, CTRL; Jamba, Llama 4, LFM2; Granite's
# mixtures; RecurrentGemma; XLNet; OPT, which has its two matrices in the layer itself.
_MLP_NAMES = frozenset(
    ("mlp", "ffn", "feed_forward", "block_sparse_moe", "shared_mlp", "mlp_block", "ff", "fc1", "fc2")
)
# Where the name says nothing: Nemotron-H calls whatever a layer has its mixer, LongCat lists its networks.
_MLP_CLASS = re.compile(r"(MLP|Mlp|MoE|Moe|FeedForward)$")
# Chooses the experts of a token and is none.
_ROUTER_NAMES = frozenset(("router", "gate", "shared_expert_gate"))
# Llama and most; GPT-Neo's relatives, RWKV; XLM; ProphetNet. Where one matrix gives queries, keys and values
# (GPT-2, GPT-NeoX, Phi-3), values cannot be trained alone.
_VALUE_NAMES = frozenset(("v_proj", "value", "v_lin", "value_proj"))


def freeze_others(model: "PreTrainedModel", wanted: str) -> None:
    """Train what is wanted, and nothing that is frozen already.

    Args:
        model: its parameters that are not wanted lose `requires_grad`.
        wanted: as in `train.weights`.

    Raises:
        ModelError: this architecture has no such weights.
    """
    if wanted == ALL_WEIGHTS:
        return
    trained = {id(weights) for weights in find_trained(model, wanted)}
    for weights in model.parameters():
        weights.requires_grad_(weights.requires_grad and id(weights) in trained)


def count_trained(model: "PreTrainedModel", wanted: str) -> int:
    """How many numbers are trained.

    Raises:
        ModelError: this architecture has no such weights.
    """
    return sum(weights.numel() for weights in find_trained(model, wanted))


def find_trained(model: "PreTrainedModel", wanted: str) -> list[nn.Parameter]:
    """The weights that are wanted and not frozen already, each once.

    Args:
        model: its text part is looked at.
        wanted: as in `train.weights`. `no-embedding` leaves out every table of embeddings, of tokens and of
            positions, and an output layer that is tied to one.

    Raises:
        ModelError: this architecture has no such weights, or not so many layers.
    """
    if wanted == ALL_WEIGHTS:
        found = list(model.parameters())
    elif (layers := read_layer_range(wanted)) is not None:
        found = _of_layers(model, *layers, wanted)
        if wanted.startswith("mlp"):
            of_mlps = {id(weights) for weights in _of_mlps(model, wanted)}
            found = [weights for weights in found if id(weights) in of_mlps]
    elif wanted == "no-embedding":
        found = _outside_embeddings(model, wanted)
    else:
        found = _of_mlps(model, wanted)
        if wanted == "mlp-and-values":
            found += _of_values(model, wanted)
    return list({id(weights): weights for weights in found if weights.requires_grad}.values())


def _of_layers(model: "PreTrainedModel", first: int, last: int, wanted: str) -> list[nn.Parameter]:
    """All weights of some layers, counted from 0; neither embeddings nor what follows the last layer."""
    count = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)
    lists = (module for module in text_layers(model).modules() if isinstance(module, nn.ModuleList))
    # The outermost: a layer may have as many experts.
    layers = next((module for module in lists if len(module) == count), None)
    if layers is None:
        raise _refusal(model, wanted, "its layers are not known")
    if last >= len(layers):
        raise ModelError(
            f"train.weights is {wanted!r}, expected layers from 0 to {len(layers) - 1}, which are those of "
            f"this {type(model).__name__}"
        )
    return [weights for layer in layers[first : last + 1] for weights in layer.parameters()]


def _outside_embeddings(model: "PreTrainedModel", wanted: str) -> list[nn.Parameter]:
    tables = {
        id(weights)
        for module in text_layers(model).modules()
        if isinstance(module, nn.Embedding)
        for weights in module.parameters()
    }
    if not tables:
        raise _refusal(model, wanted, "it has no table of embeddings")
    return [weights for weights in model.parameters() if id(weights) not in tables]


def _of_mlps(model: "PreTrainedModel", wanted: str) -> list[nn.Parameter]:
    """Of feed-forward networks, which are all experts of a mixture but not what chooses among them."""
    found = [
        weights
        for name, module in text_layers(model).named_modules()
        if name.rpartition(".")[2] in _MLP_NAMES or _MLP_CLASS.search(type(module).__name__)
        for inner, weights in module.named_parameters()
        if _ROUTER_NAMES.isdisjoint(inner.split("."))
    ]
    if not found:
        raise _refusal(model, wanted, "no feed-forward network is known of it")
    return found


def _of_values(model: "PreTrainedModel", wanted: str) -> list[nn.Parameter]:
    found = [
        weights
        for name, weights in text_layers(model).named_parameters()
        if not _VALUE_NAMES.isdisjoint(name.split("."))
    ]
    if not found:
        raise _refusal(model, wanted, "its values are no weights of their own; use mlp")
    return found


def _refusal(model: "PreTrainedModel", wanted: str, problem: str) -> ModelError:
    return ModelError(
        f"train.weights is {wanted!r} and the model a {type(model).__name__}: {problem}; "
        "set it to all, or to another choice"
    )
