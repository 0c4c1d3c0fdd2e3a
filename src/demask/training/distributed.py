"""Several processes that train together: which one this is, what they agree on, and who holds which weights.

    if is_main_process():
        save_model(loaded, folder)
    barrier()
    accelerator = make_accelerator(device, bf16=True, accumulation=2, clip_norm=1.0)

Alone, a process is the main one of one, and there is nobody to wait for. DDP, FSDP2 and DeepSpeed come with
accelerate, which reads from the environment which of them is wanted (`launching/strategies.py`).
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

if TYPE_CHECKING:
    from accelerate import Accelerator


def is_main_process() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait until every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def broadcast(number: int) -> int:
    """What the main process has for this number; all must call it."""
    if not dist.is_initialized():
        return number
    sent = _as_tensor(number)
    dist.broadcast(sent, src=0)
    return int(sent)


def all_reduce_max(number: int) -> int:
    """The largest that any process has for this number; all must call it."""
    if not dist.is_initialized():
        return number
    sent = _as_tensor(number)
    dist.all_reduce(sent, op=dist.ReduceOp.MAX)
    return int(sent)


def _as_tensor(number: int) -> torch.Tensor:
    # NCCL sends nothing that is not on a GPU.
    device = "cuda" if "nccl" in dist.get_backend() and torch.cuda.is_available() else "cpu"
    return torch.tensor([number], device=device)


def make_accelerator(
    device: torch.device, *, bf16: bool, accumulation: int, clip_norm: float
) -> "Accelerator":
    """Accelerate, with the strategy that the environment names.

    It is not told of bf16, which the loop turns on itself: it would wrap the forward for good, and have FSDP
    gather bf16 weights and add gradients up in bf16. DeepSpeed alone does not let the loop.

    Args:
        device: of this process.
        bf16: matmuls in bfloat16.
        accumulation: micro-batches of a step in each process.
        clip_norm: of the gradients, where DeepSpeed clips them.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState
    from accelerate.utils import (
        DistributedDataParallelKwargs,
        DistributedType,
        GradientAccumulationPlugin,
    )

    AcceleratorState._reset_state(reset_partial_state=True)  # that of an earlier training in this process
    GradientState._reset_state()
    state = PartialState(cpu=device.type == "cpu")
    if state.distributed_type == DistributedType.MULTI_CPU and _is_on("ACCELERATE_USE_FSDP"):
        # Accelerate 1.15 (`AcceleratorState`) hears of FSDP only where the processes have GPUs, and asks for
        # nothing else of a GPU; PyTorch shards over gloo, too.
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if bf16 and _is_on("ACCELERATE_USE_DEEPSPEED") else "no",
        # The loss is divided by the tokens of the step, not by its micro-batches.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        # An expert that no token of a micro-batch went to has no gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        accelerator.state.deepspeed_plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": 1,  # it asks, and uses it for nothing here
            "gradient_accumulation_steps": accumulation,
            "gradient_clipping": clip_norm,
        }
    return accelerator


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() == "true"


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether some weights of this process are parts, or are not here at all."""
    return any(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in model.parameters())


def unshard(model: torch.nn.Module, weights: Mapping[str, Any]) -> None:
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
