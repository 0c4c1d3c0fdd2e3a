"""What a run will do and cost, before it starts.

schedule = make_schedule(config.train, passages=8)
learning_rate = choose_learning_rate(config.train, parameters=135e6, batch_size=schedule.batch_size)
"""

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from demask.errors import ConfigError
from demask.recipe.sections import DEFAULT_LENGTH, Length, Train

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Full fine-tuning: measured at 135M (docs/benchmarks.md); the paper's 5e-6 at 3B to 7B. Between, the
# geometric mean of the neighbours, which nobody measured yet: sweep it when it matters.
LEARNING_RATES = ((500e6, 5e-4), (2.5e9, 5e-5), (math.inf, 5e-6))
# These are rates of batches of ten or more. Smaller ones take smaller steps: at 135M 4e-4 was good for five
# examples where 5e-4 was for ten (docs/benchmarks.md), which is the cube root.
_FULL_RATE_BATCH = 10
# An adapter takes larger steps: 5e-3 at 135M (docs/benchmarks.md).
LORA_FACTOR = 10.0
# Tokens of a micro-batch at most, unless one example alone has more. On CPU at 135M training was as fast
# in micro-batches of 1,488 tokens as of more, and a token takes 1.7 MB (docs/benchmarks.md, cost curves).
# For CUDA ours, not measured.
MICRO_BATCH_TOKENS = {"cpu": 2048, "cuda": 4096}
# Fitted to peaks of the embedded model on CPU in float32: batches of 360, 760 and 880 positions took 3.4, 4.0
# and 4.3 GB (with LoRA it is low there: 2.7 GB for a run that took 3.5). In bfloat16, where layers are lean,
# it is 9 to 22% high (528, 2,024 and 7,050 positions took 3.35, 5.22 and 13.1 GB), with LoRA 1 to 17% (528,
# 1,036 and 2,024 took 2.02, 2.69 and 4.05 GB).
_ACTIVATION_BYTES_PER_TOKEN = 1.8e6
_PROCESS_BYTES = 0.56e9
# Seconds of training from which on people look for something shorter.
LONG = 2 * 3600.0


@dataclass(frozen=True)
class Schedule:
    """How many updates, and what each passage gets of them."""

    steps: int
    batch_size: int  # examples per step
    exposures: float  # of each passage, over the run


def make_schedule(
    train: Train, *, passages: int, copies: int = 1, length: Length = DEFAULT_LENGTH
) -> Schedule:
    """Resolve steps or epochs, alike for all objectives, so that arms see as many examples.

    A batch never holds more than one epoch, so that few documents get many small steps rather
    than few large ones; where the recipe does not say how long, there is a least number of steps, and beside
    replay, whose steps are small, there are more of them.
    An epoch is as many exposures as there are passages: where each stands in a step in two copies,
    60 epochs show it 60 times, in 30 steps.

    Args:
        train: the recipe's section.
        passages: how many there are.
        copies: of a passage in one step; a batch holds all of them or none.
        length: of the run, where the recipe does not say.
    """
    batch_size = min(train.batch_size, passages * copies)
    steps = train.steps or math.ceil((train.epochs or length.epochs) * passages / batch_size)
    if train.steps is None and train.epochs is None:
        steps = max(steps, length.least_steps)
    return Schedule(steps, batch_size, steps * batch_size / passages)


def choose_learning_rate(
    train: Train, *, parameters: float, batch_size: int, rate_share: float = 1.0
) -> float:
    """The recipe's rate, or the default for models of this size and batches of this size.

    Args:
        train: the recipe's section.
        parameters: weights of the model.
        batch_size: examples that a step really has; `train.batch_size` may ask for more than there are, see
            `make_schedule`.
        rate_share: of the default, that an objective takes.
    """
    if train.learning_rate is not None:
        return train.learning_rate
    full = next(rate for limit, rate in LEARNING_RATES if parameters < limit)
    small = math.cbrt(min(1.0, batch_size / _FULL_RATE_BATCH))
    return full * small * rate_share * (LORA_FACTOR if train.has_adapter else 1.0)


def choose_accumulation(
    train: Train, *, batch_size: int, longest: int, device: torch.device, ranks: int = 1
) -> int:
    """The recipe's micro-batches per step, or as few as keep each within `MICRO_BATCH_TOKENS`.

    Several processes share them, so that each has fewer.

    Args:
        train: the recipe's section.
        batch_size: examples per step.
        longest: tokens of the longest example; any step may be made of such.
        device: where it is trained.
        ranks: processes that train together.

    Returns:
        Micro-batches of a step in each process.

    Raises:
        ConfigError: a step has fewer examples than there are processes.
    """
    check_ranks(train, batch_size=batch_size, ranks=ranks)
    fitting = max(1, MICRO_BATCH_TOKENS[device.type] // longest)
    wanted = min(train.accumulation or math.ceil(batch_size / fitting), batch_size)
    return min(math.ceil(wanted / ranks), batch_size // ranks)


def check_ranks(train: Train, *, batch_size: int, ranks: int) -> None:
    """See that a step has an example for each process.

    Args:
        train: the recipe's section.
        batch_size: examples that a step really has.
        ranks: processes that train together.

    Raises:
        ConfigError: it has fewer.
    """
    if batch_size >= ranks:
        return
    # A step never holds more than an epoch, whatever the recipe says.
    more = "" if batch_size < train.batch_size else "raise train.batch_size or "
    raise ConfigError(
        f"a step has {batch_size} examples, expected one at least for each of {ranks} processes; "
        f"{more}lower launch.processes"
    )


def estimate_memory(
    *, parameters: int, trained: int, micro_batch_tokens: int, weight_bytes: int | None = None
) -> int:
    """Bytes at the peak of a step: weights, gradients and two moments in float32, and activations.

    Args:
        parameters: weights of the model.
        trained: weights that are trained, of the model or of an adapter on it.
        micro_batch_tokens: positions of the largest micro-batch.
        weight_bytes: of the model's weights and an adapter's; None: the model's are in float32.
    """
    activations = estimate_activations(parameters=parameters, micro_batch_tokens=micro_batch_tokens)
    weights = 4 * parameters if weight_bytes is None else weight_bytes
    return round(weights + 12 * trained + activations + _PROCESS_BYTES)


def estimate_activations(*, parameters: int, micro_batch_tokens: int) -> int:
    """Bytes that a micro-batch of so many positions holds for the backward pass."""
    return round(micro_batch_tokens * _ACTIVATION_BYTES_PER_TOKEN * math.sqrt(parameters / 135e6))


def estimate_checkpointed(config: "PretrainedConfig", *, micro_batch_tokens: int) -> int:
    """Bytes that a micro-batch holds where layers are computed twice: by the shapes, not measured.

    Every layer's input, all of one layer, and the logits with their gradient, in float32.
    """
    text = config.get_text_config(decoder=True)
    width, layers, rows = map(int, (text.hidden_size, text.num_hidden_layers, text.vocab_size))
    of_layer = 12 * width + 4 * int(getattr(text, "intermediate_size", None) or 4 * width)
    return 4 * micro_batch_tokens * (layers * width + of_layer + 2 * rows)


def find_savings(
    train: Train, seconds: float | None, *, device: str, what: str, exposures: float | None = None
) -> tuple[str, ...]:
    """What helps, what saves most first; nothing where training is short or nobody knows how long it is.

    Args:
        train: the recipe's section.
        seconds: of training; None: not measured.
        device: `cpu` or `cuda`.
        what: is trained on: `documents` or `samples`.
        exposures: of each passage; None: not known.
    """
    if seconds is None or seconds < LONG:
        return ()
    found = ["a GPU: the same command uses one that PyTorch sees"] if device == "cpu" else []
    half = _halve(train, exposures)
    if half:
        found.append(f"fewer exposures: --set {half} takes half the time")
    if train.method == "full":
        found.append(
            "an adapter: --set train.method=lora asks for two thirds of the operations, and less memory"
        )
    found.append(f"fewer {what}")
    if device != "cpu":
        found.append("more GPUs: --set launch.processes=N")
    return tuple(found)


def _halve(train: Train, exposures: float | None) -> str:
    """The setting that halves the length, of the two that exclude each other; empty where none does."""
    if train.steps is not None:
        return f"train.steps={train.steps // 2}" if train.steps > 1 else ""
    epochs = exposures or train.epochs
    return f"train.epochs={epochs / 2:.3g}" if epochs else ""


def measure_matrix_rate(
    device: torch.device, dtype: torch.dtype, *, size: int = 1024, limit: float = 1.0
) -> float:
    """Floating-point operations per second of square matmuls, measured for about `limit` seconds."""
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    rounds, elapsed = 0, 0.0
    _wait_for(left @ right)
    begun = time.perf_counter()
    while elapsed < limit:
        _wait_for(left @ right)
        rounds += 1
        elapsed = time.perf_counter() - begun
    return rounds * 2 * size**3 / elapsed


def _wait_for(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()
