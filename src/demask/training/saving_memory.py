"""Steps that do not fit into a GPU's memory are made again with less of it: one saving after the other.

    with MemorySavings(model, "auto", accumulation=1, batch_size=4, alone=True) as savings:
        while True:
            micro_batches = cut(savings.accumulation)
            ...a torch.OutOfMemoryError: if not savings.save_more(): raise ...

First what is cheap in each layer is computed twice and not kept, then all of it, then micro-batches are
halved. None of it changes what a step computes, but for rounding where it is cut into more micro-batches, so
it may be chosen by the memory that there is. A CPU's memory ends without an error that could be caught, so
nothing is chosen there.
"""

import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import torch

from demask.errors import ModelError
from demask.models.acceleration.layers import checkpointed_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Kept: all activations; selective: what matmuls and attention gave; none: each layer's input only.
Kept = Literal["all", "selective", "none"]
_LESS: dict[Kept, Kept] = {"all": "selective", "selective": "none"}
_SAID = {
    "selective": "what is cheap in a layer is computed twice (gradient_checkpointing: selective)",
    "none": "layers are computed twice (gradient_checkpointing: true)",
}


class MemorySavings:
    """What is saved now, and what could be saved besides.

    Args:
        model: that is trained.
        checkpointing: as in the section `launch`; only `auto` saves more later on.
        accumulation: micro-batches of a step to begin with.
        batch_size: examples of a step; there are no more micro-batches.
        alone: this is the only process; several would have to agree, and wait for each other meanwhile.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        checkpointing: bool | Literal["selective", "auto"],
        *,
        accumulation: int,
        batch_size: int,
        alone: bool,
    ) -> None:
        self._model, self._batch_size = model, batch_size
        self._able = alone and checkpointing == "auto"
        self._kept: Kept = (
            "none" if checkpointing is True else "selective" if checkpointing == "selective" else "all"
        )
        self._entered = contextlib.ExitStack()
        self.accumulation = accumulation

    @property
    def is_able(self) -> bool:
        """Whether a step that does not fit may be made again."""
        return self._able

    def __enter__(self) -> Self:
        self._keep(self._kept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    def save_more(self) -> str | None:
        """Save more than so far, and say what in a line; None: there is nothing left to save."""
        if not self._able:
            return None
        self._free()
        while self._kept in _LESS:
            less = _LESS[self._kept]
            with contextlib.suppress(ModelError):  # its layers cannot be computed twice
                self._keep(less)
                return _SAID[less]
            self._kept = less
        if self.accumulation >= self._batch_size:
            return None
        self.accumulation = min(2 * self.accumulation, self._batch_size)
        return f"a step is cut into {self.accumulation} micro-batches"

    def _keep(self, kept: Kept) -> None:
        self._entered.close()
        if kept != "all":
            self._entered.enter_context(checkpointed_layers(self._model, keep_products=kept == "selective"))
        self._kept = kept

    def _free(self) -> None:
        """Give back what the step has left, and forget its peak, as it was not made."""
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._model.device)
