"""One of several processes that train together: which of them this is, and what they agree on.

    if is_first():
        save_model(loaded, folder)
    wait_for_all()

Alone, a process is the first of one, and there is nobody to wait for.
"""

from typing import TYPE_CHECKING

import torch.distributed as dist

if TYPE_CHECKING:
    import torch


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def count_ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait_for_all() -> None:
    """Until every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def ask_first(number: int) -> int:
    """What the first process has for this number; all must ask."""
    if not dist.is_initialized():
        return number
    told = _as_tensor(number)
    dist.broadcast(told, src=0)
    return int(told)


def ask_largest(number: int) -> int:
    """The largest that any process has for this number; all must ask."""
    if not dist.is_initialized():
        return number
    told = _as_tensor(number)
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return int(told)


def _as_tensor(number: int) -> "torch.Tensor":
    import torch

    # NCCL sends nothing that is not on a GPU.
    device = "cuda" if "nccl" in dist.get_backend() and torch.cuda.is_available() else "cpu"
    return torch.tensor([number], device=device)
