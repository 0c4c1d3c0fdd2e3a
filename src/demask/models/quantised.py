"""Frozen weights in four bits, for an adapter on them (QLoRA), and back.

    quantise_layers(model, device, compute=torch.bfloat16)     # in place, before the adapter
    weights_OI = dequantise(layer)                             # float32, of one of these layers
    plain = dequantise_layers(model, torch.bfloat16)           # the same model without bitsandbytes

NF4 with double quantisation, by bitsandbytes (Dettmers et al. 2023, arXiv 2305.14314). The linear layers that
an adapter goes on are quantised; embeddings, norms and the output layer stay as they are.
I inputs, O outputs of a layer.
"""

import copy
import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from demask.errors import ModelError
from demask.models.diffusion import diffusion_form
from demask.models.families import find_adapter_layers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# Weights that share a scale. bitsandbytes 0.50.2 reads rows that are no multiple of it wrongly on a CPU: a
# layer of 32 inputs came back with 0.33 to 0.83 of its norm as error, one of 64 or 576 with 0.09.
BLOCK = 64


# peft imports it for every adapter, and on a CPU it then advises a kernel from the hub for decoding, which is
# the one without gradients.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def import_bitsandbytes() -> Any:
    """The library.

    Raises:
        ModelError: it is not installed, or does not run here.
    """
    try:
        import bitsandbytes
    except (ImportError, RuntimeError, OSError) as error:
        raise ModelError(
            f"train.method=qlora needs bitsandbytes ({error}): pip install 'demask[qlora]', "
            "or set train.method=lora"
        ) from error
    return bitsandbytes


def check_quantising(config: "PretrainedConfig", name: str) -> None:
    """See whether a model of this configuration can be quantised here, before its weights are read.

    Raises:
        ModelError: it is a masked-diffusion model, or bitsandbytes is missing.
    """
    if diffusion_form(config) is not None:
        raise ModelError(
            f"{name}: a masked-diffusion model and train.method is 'qlora', expected 'lora' or 'full': only "
            "autoregressive models were tested in four bits"
        )
    import_bitsandbytes()


@torch.no_grad()
def quantise_layers(model: "PreTrainedModel", device: torch.device, *, compute: torch.dtype) -> None:
    """Quantise the linear layers that take adapters, each on its way to the device.

    Args:
        model: changed in place; layers whose inputs are no multiple of `BLOCK` stay as they are.
        device: where the quantised weights are; all else stays where it is.
        compute: dtype of the matmuls.

    Raises:
        ModelError: no layer of this architecture can be quantised.
    """
    linear4bit, params4bit = import_bitsandbytes().nn.Linear4bit, import_bitsandbytes().nn.Params4bit
    found = [(name, model.get_submodule(name)) for name in find_adapter_layers(model)]
    layers: list[tuple[str, Any]] = [(name, layer) for name, layer in found if _fits(layer)]
    if not layers:
        raise ModelError(
            f"{type(model).__name__}: has no linear layer whose inputs are a multiple of {BLOCK}, as "
            "train.method=qlora needs; use train.method=lora"
        )
    for name, layer in layers:
        made = linear4bit(
            layer.in_features, layer.out_features, bias=False, compute_dtype=compute, device="meta"
        )
        made.weight = params4bit(
            layer.weight.float(), requires_grad=False, compress_statistics=True, quant_type="nf4", module=made
        ).to(device)
        if layer.bias is not None:  # a forward rounds it to `compute`
            made.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=False)
        made.as_stored = (layer.bias,)
        # Else a forward in evaluation mode on a CPU with AVX512-BF16 packs the weights for a kernel without
        # gradients, and what is trained afterwards gets only part of them, without an error: four steps
        # went from 3.35 to 2.80 nats in place of 0.97.
        made.support_avx512bf16_for_cpu = False
        model.set_submodule(name, made)
    set_compute_dtype(model, compute)
    # peft looks there before it looks at the layers.
    model.is_loaded_in_4bit = True  # type: ignore[assignment]
    model.kept_as = "nf4"  # type: ignore[assignment]


def kept_as(model: nn.Module) -> str:
    """How a base model's weights are or were kept in memory; empty where in float32, as ever."""
    dtype = getattr(model, "dtype", torch.float32)
    return str(getattr(model, "kept_as", "")) or ("" if dtype == torch.float32 else str(dtype))


def _fits(layer: Any) -> bool:
    return type(layer) is nn.Linear and layer.in_features % BLOCK == 0


def is_quantised(model: nn.Module) -> bool:
    """Whether some layers are in four bits."""
    return any(_state(module) is not None for module in model.modules())


def set_compute_dtype(model: nn.Module, compute: torch.dtype) -> None:
    """Have quantised layers multiply in this dtype; a model without any stays as it is."""
    for module in model.modules():
        state = _state(module)
        if state is not None:
            module.compute_dtype, state.dtype = compute, compute  # type: ignore[assignment]


def count_weights(model: nn.Module) -> int:
    """How many weights a model has; those in four bits count as one each."""
    return sum(
        weights.numel() if (state := getattr(weights, "quant_state", None)) is None else state.shape.numel()
        for weights in model.parameters()
    )


def count_bytes(model: "PreTrainedModel", dtype: torch.dtype, *, four_bits: bool) -> int:
    """Bytes of a model's weights in memory.

    Args:
        model: may be without its weights.
        dtype: of those that are not quantised.
        four_bits: the layers that take adapters are, with a scale of a byte for each block and one of
            four bytes for each 256 scales.
    """
    names = find_adapter_layers(model) if four_bits else []
    names = [name for name in names if _fits(model.get_submodule(name))]
    quantised = sum(model.get_parameter(f"{name}.weight").numel() for name in names)
    others = sum(weights.numel() for weights in model.parameters()) - quantised
    bits = 4 + 8 * (1 + 4 / 256) / BLOCK
    return others * dtype.itemsize + round(quantised * bits / 8)


def dequantise(layer: Any) -> Tensor:
    """The weights (O, I) that a layer stands for, in float32; a new tensor."""
    state = _state(layer)
    if state is None:
        return layer.weight.detach().float().clone()  # type: ignore[no-any-return]
    exact = copy.copy(state)
    exact.dtype = torch.float32
    weights_OI: Tensor = import_bitsandbytes().functional.dequantize_4bit(layer.weight.data, exact)
    return weights_OI


def as_linear(layer: Any, weights_OI: Tensor) -> nn.Linear:
    """A plain layer with these weights (O, I), and the bias of the layer that it stands in for."""
    made = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    made.weight = nn.Parameter(weights_OI, requires_grad=False)
    (made.bias,) = getattr(layer, "as_stored", (layer.bias,))
    return made


@torch.no_grad()
def dequantise_layers(model: "PreTrainedModel", dtype: torch.dtype) -> "PreTrainedModel":
    """The model with plain layers in place of those in four bits; changed in place.

    Args:
        model: as `quantise_layers` left it, or without any such layer.
        dtype: of these layers' weights, rounded once.
    """
    for name, layer in list(model.named_modules()):
        if _state(layer) is not None:
            model.set_submodule(name, as_linear(layer, dequantise(layer).to(dtype)))
    model.is_loaded_in_4bit = False  # type: ignore[assignment]
    return model


def _state(module: Any) -> Any:
    """What bitsandbytes knows of a layer's weights; None of a layer that is not quantised."""
    return getattr(getattr(module, "weight", None), "quant_state", None)
