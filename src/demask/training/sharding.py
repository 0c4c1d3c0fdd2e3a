"""Models whose weights are cut over processes (FSDP2, ZeRO-3): allowed on CPU, and made whole again.

allow_on_cpu(arguments)
trainer.train()
make_whole(trainer.model, trainer.accelerator.get_state_dict(trainer.model_wrapped))
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from demask.errors import ConfigError

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments


def allow_on_cpu(arguments: "TrainingArguments") -> None:
    """Let accelerate shard on CPU, too, so that what runs on GPUs can be tried without one.

    PyTorch shards over gloo as over NCCL. Accelerate 1.15 (`AcceleratorState`) hears of FSDP only where the
    processes have GPUs, and asks for nothing else of a GPU; so they are said to have some.
    """
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    wanted = os.environ.get("ACCELERATE_USE_FSDP") == "true"
    if wanted and arguments.device.type == "cpu" and arguments.world_size > 1:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def compute_as_whole(trainer: "Trainer") -> None:
    """Gather weights and add gradients up in float32, so that a sharded model computes what a whole one does.

    Accelerate's way in bf16 is to gather bf16 weights: half the traffic, but norms, too, are rounded, and
    gradients are added up in bf16.
    """
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is not None:
        plugin.mixed_precision_policy = None


def refuse_other_strategy(checkpoint: Path, *, fsdp: bool) -> None:
    """See whether a checkpoint can be gone on from: accelerate writes FSDP's in files of their own.

    Raises:
        ConfigError: weights were cut when it was written and are whole now, or the other way round.
    """
    written = any(checkpoint.glob("pytorch_model_fsdp*"))
    if written != fsdp:
        there, here = ("fsdp" if sharded else "ddp" for sharded in (written, fsdp))
        raise ConfigError(
            f"{checkpoint}: written with launch.strategy={there}, and {here} cannot read it (one process "
            f"is as ddp); go on as before, or delete {checkpoint.parent} to train anew"
        )


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether some weights of this process are parts, or are not here at all."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in model.parameters())


def make_whole(model: torch.nn.Module, weights: Mapping[str, Any]) -> None:
    """Put whole weights into a model that had parts, on CPU; it trains no more.

    Args:
        model: as it was sharded.
        weights: all of them, by name; none, where this process is not the one that got them.
    """
    made: dict[int, torch.nn.Parameter] = {}
    for name, module in list(model.named_modules()):
        for key, part in list(module._parameters.items()):
            found = weights.get(f"{name}.{key}".lstrip("."))
            if part is None or found is None:
                continue
            # Tied weights stay one.
            whole = made.setdefault(id(part), torch.nn.Parameter(found.detach(), part.requires_grad))
            module._parameters[key] = whole
        kind = type(module)
        if kind.__name__.startswith("FSDP"):  # a class that torch made for this module alone
            module.__class__ = kind.__mro__[2]
