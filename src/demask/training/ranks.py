"""One of several processes that train together: which of them this is, and what they agree on.

    if is_first():
        save_model(loaded, folder)
    wait_for_all()

Alone, a process is the first of one, and there is nobody to wait for.
"""

import torch.distributed as dist


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
    import torch

    if not dist.is_initialized():
        return number
    # NCCL sends nothing that is not on a GPU.
    device = "cuda" if "nccl" in dist.get_backend() and torch.cuda.is_available() else "cpu"
    told = torch.tensor([number], device=device)
    dist.broadcast(told, src=0)
    return int(told)
