"""What happens between two steps: callbacks are called, and training may have to end.

    at_end = StepEndCallback(model, noted, on_step_end=ask, should_stop=probe)
    Trainer(..., callbacks=[at_end])

Several processes stop at the same step: each tells the others, with its count of tokens, what signal it got.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers import TrainerCallback

from demask.models.acceleration.layers import plain_layers
from demask.models.acceleration.packing import using_attention
from demask.models.precision import going_by, own_forward
from demask.signals import Noted

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Callback(Protocol):
    """What is called while training runs, after every step, with the model at rest."""

    def on_step_end(self, step: int) -> None:
        """Measure, where it is time; that time is not counted as training."""

    def should_stop(self, step: int) -> bool:
        """Whether training may end here; every process must say the same."""


class NoCallback:
    """Measures nothing and never stops."""

    def on_step_end(self, step: int) -> None:
        """Nothing."""

    def should_stop(self, step: int) -> bool:
        """Never."""
        return False


class StepEndCallback(TrainerCallback):
    """Calls what a run wants called, and ends training before its last step where that is due.

    Attributes:
        enough: there was no need to train further.
        signal: number of the one that stopped training, on every process the same; None without one.
        seconds: what `on_step_end` took, which is no training.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        noted: Noted,
        *,
        on_step_end: Callable[[int], None],
        should_stop: Callable[[int], bool],
    ) -> None:
        self._model, self._attention = model, model.config._attn_implementation
        self._forward = own_forward(model)
        self._noted = noted
        self._on_step_end, self._should_stop = on_step_end, should_stop
        self._told: torch.Tensor | None = None
        self.enough, self.seconds = False, 0.0
        self.signal: int | None = None

    def tell(self, tokens_S: torch.Tensor) -> torch.Tensor:
        """What the others must know: tokens of the step, and the signal that came here; (1, S + 1)."""
        return torch.cat((tokens_S, torch.full_like(tokens_S[:1], self._noted.number or 0)))[None]

    def hear(self, told: torch.Tensor) -> torch.Tensor:
        """The tokens of all processes, (S,); what each told, (processes, S + 1)."""
        # Kept where it is: looking at it waits for the GPU.
        self._told = told[:, -1].max() if len(told) > 1 else None
        return told[:, :-1].sum(dim=0)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Call what is wanted, and end where it is time."""
        model = self._model
        with using_attention(model, self._attention), plain_layers(model), going_by(model, self._forward):
            self.enough = self._should_stop(state.global_step)
            begun = time.monotonic()
            self._on_step_end(state.global_step)
            self.seconds += time.monotonic() - begun
        ends = self.enough or state.global_step >= state.max_steps
        # What is saved has been checked for finite losses, and the log goes as far as the checkpoint.
        control.should_log |= ends or state.global_step % args.save_steps == 0
        # Several look only where the log is read, which waits for the GPU anyway.
        self.signal = self._heard() if self._told is None or control.should_log else None
        if self.enough or self.signal:
            control.should_training_stop = control.should_save = control.should_log = True

    def _heard(self) -> int | None:
        """The signal that all processes stop by; 0 or None without one."""
        return self._noted.number if self._told is None else int(self._told) or None
