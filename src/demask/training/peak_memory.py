"""The most memory that training itself holds, of the GPU where there is one, else of this process.

    peak = PeakMemory(loaded.device)
    ...train...
    peak.note()                    # bytes: weights, gradients, moments, activations and libraries

What the process held before (other models, questions asked) does not count, nor what is asked on the way.
Linux lets a process begin to count anew (`/proc/self/clear_refs`), and so does CUDA. Where a system does not,
as macOS, the peak of the process so far is an upper bound.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from demask.environment import peak_memory, reset_peak_memory
from demask.models.precision import give_back_freed_memory


class PeakMemory:
    """Counts from the moment it is made.

    Args:
        device: whose memory counts.
        earlier: bytes that an earlier process of the same training held at most.
    """

    def __init__(self, device: torch.device, *, earlier: int = 0) -> None:
        self._device, self._most = device, earlier
        self._restart()

    def note(self) -> int:
        """The peak so far, in bytes."""
        self._most = max(self._most, self._read())
        return self._most

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what is held in the block only."""
        before, known = self._read(), self.note()
        yield
        if self._read() > before:
            self._restart()
            self._most = known

    def _read(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return peak_memory()

    def _restart(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        # glibc keeps what was freed, see `keep_freed_memory`; without this it would count on.
        give_back_freed_memory()
        reset_peak_memory()
