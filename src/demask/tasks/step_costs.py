"""What a run will cost: a few of its steps are made, with the real model and the real data, and thrown away.

cost = measure_cost(config, stream, launch=launch, progress=progress)
cost.seconds_of(tokens)

Steps are those that training makes: its trainer, its dtype, its layers, as the section `launch` has
them. Of several processes the share of one is made, on as many threads as it will have.
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from demask.environment import count_cores, total_memory
from demask.progress import Progress
from demask.recipe.fine_tuning import TaskConfig
from demask.recipe.launch import Launch
from demask.recipe.sections import METHODS, Train
from demask.stages.training import choose_trained, make_settings
from demask.tasks.replay_costs import ReplayCost, measure_replay

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from demask.models.load import LoadedModel
    from demask.records import Example
    from demask.stages.training import Stream
    from demask.training.step_metrics import StepMetrics

# Steps that are timed after the first, which also makes the optimizer's moments and warms caches.
_STEPS = 6
# No more seconds than this where steps are slow, but at least one step.
_PATIENCE = 30.0


@dataclass(frozen=True)
class RunCost:
    """Of all processes together, but for memory.

    Attributes:
        steps: that were timed; 0: none, see `problem`.
        tokens_per_step: on average, padding aside.
        tokens_per_second: the same.
        memory_bytes: peak of one process, of the GPU where there is one; estimated where no step was timed.
        accumulation: micro-batches of a step in each process.
        trained: weights that are trained.
        device: `cpu` or `cuda`.
        problem: why no step could be timed; empty when it could.
        replay: what replayed conversations take besides; None without any.
        memory_savings: what a step that did not fit made necessary.
    """

    steps: int
    tokens_per_step: float
    tokens_per_second: float
    memory_bytes: int
    accumulation: int
    learning_rate: float
    precision: str
    parameters: int
    trained: int
    device: str
    problem: str = ""
    replay: ReplayCost | None = None
    memory_savings: tuple[str, ...] = ()

    def seconds_of(self, tokens: int) -> float | None:
        """Time to train on so many tokens; None where it was not measured."""
        return tokens / self.tokens_per_second if self.steps else None


class _SeenEnoughError(Exception):
    """Ends the training from inside, as nothing of it is to be kept."""


def measure_cost(config: TaskConfig, stream: "Stream", *, launch: Launch, progress: Progress) -> RunCost:
    """Load the model, train a few steps and time them; where it would not fit into memory, say so.

    Args:
        config: of the run.
        stream: every exposure of the run; of one that replays, made of stand-ins.
        launch: how the run is started.
        progress: told how far it is.

    Raises:
        DemaskError: what would stop the run stops this, too.
    """
    from demask.models.context import make_context
    from demask.models.load import describe_form, load_model

    unmeasured = _estimate(config, stream, launch)
    if unmeasured.problem:
        return unmeasured
    progress.begin(f"Loading {config.model}", 1)
    if (remark := describe_form(config.model)) is not None:
        progress.say(remark)
    loaded = load_model(config.model, device=config.device, frozen=config.train.frozen)
    replay = measure_replay(config, loaded, make_context(loaded, config.objective), progress)
    return replace(measure_steps(config, loaded, stream, launch, progress), replay=replay)


def _estimate(config: TaskConfig, stream: "Stream", launch: Launch) -> RunCost:
    """What is known of the costs without the weights."""
    from demask.models.load import choose_device, load_architecture, outline_model
    from demask.models.precision import choose_bf16
    from demask.training import plan
    from demask.training.stream import learned_part

    train, place = config.train, choose_device(config.device)
    outline = outline_model(load_architecture(config.model))
    parameters = sum(weights.numel() for weights in outline.parameters())
    longest = stream.longest_example()
    accumulation = plan.choose_accumulation(
        train, batch_size=stream.batch_size, longest=longest, device=place, ranks=launch.ranks
    )
    examples = math.ceil(stream.batch_size / (accumulation * launch.ranks))
    spares = place.type == "cuda" and launch.ranks == 1 and launch.gradient_checkpointing == "auto"
    positions = longest if spares else examples * longest
    estimate = partial(_estimate_memory, outline=outline, place=place, positions=positions, spares=spares)
    needed, trained = estimate(train)
    smaller: dict[str, int] = {
        method: estimate(train.model_copy(update={"method": method}))[0]
        for method in METHODS[METHODS.index(train.method) + 1 :]
    }
    return RunCost(
        steps=0,
        tokens_per_step=0.0,
        tokens_per_second=0.0,
        memory_bytes=needed,
        accumulation=accumulation,
        learning_rate=plan.choose_learning_rate(
            train,
            parameters=parameters,
            batch_size=learned_part(stream).batch_size,
            rate_share=config.rate_share,
        ),
        precision="bf16" if choose_bf16(train.precision, place) else "fp32",
        parameters=parameters,
        trained=trained,
        device=str(place),
        problem=_find_shortage(needed, place, launch, smaller),
    )


def _estimate_memory(
    train: Train, *, outline: "PreTrainedModel", place: "torch.device", positions: int, spares: bool
) -> tuple[int, int]:
    """Bytes at the peak of a step, and how many weights are trained.

    Args:
        train: the recipe's section.
        outline: the model without its weights.
        place: where it is trained.
        positions: of the largest micro-batch.
        spares: layers are computed twice where that is needed.
    """
    import torch

    from demask.models.load import choose_frozen_dtype
    from demask.models.quantised import count_bytes
    from demask.models.trained_weights import count_trained
    from demask.training.export import count_adapter
    from demask.training.plan import estimate_checkpointed, estimate_memory

    frozen = train.frozen
    dtype = torch.float32 if frozen is None else choose_frozen_dtype(outline.config, place, frozen)
    weight_bytes = count_bytes(outline, dtype, four_bits=frozen == "nf4")
    if train.has_adapter:
        trained = count_adapter(outline, rank=train.lora_rank)
        weight_bytes += 4 * trained
    else:
        trained = count_trained(outline, train.weights)
    if spares:
        activations = estimate_checkpointed(outline.config, micro_batch_tokens=positions)
        return round(weight_bytes + 12 * trained + activations), trained
    parameters = sum(weights.numel() for weights in outline.parameters())
    needed = estimate_memory(
        parameters=parameters, trained=trained, micro_batch_tokens=positions, weight_bytes=weight_bytes
    )
    return needed, trained


def _find_shortage(
    needed: int, place: "torch.device", launch: Launch, smaller: Mapping[str, int] | None = None
) -> str:
    """In a line, that the memory of this machine is too small; empty when it is not, or may be not.

    Args:
        needed: bytes of one process.
        place: where it trains.
        launch: the recipe's section.
        smaller: bytes of it with other methods of training.
    """
    import torch

    if launch.strategy != "ddp":  # of which each process holds a part of the weights
        return ""
    if place.type == "cuda":
        there, where, times = torch.cuda.mem_get_info(place)[1], "this GPU", 1
    else:
        there, where, times = total_memory(), "this machine", launch.processes
    if not there or times * needed <= there:
        return ""
    fitting = {method: times * size for method, size in (smaller or {}).items() if times * size <= there}
    less = " and ".join(f"{size / 1e9:.1f} GB with train.method={name}" for name, size in fitting.items())
    problem = f"takes about {times * needed / 1e9:.1f} GB, and {where} has {there / 1e9:.1f} GB"
    return f"{problem}; about {less}" if less else problem


def measure_steps(
    config: TaskConfig, loaded: "LoadedModel", stream: "Stream", launch: Launch, progress: Progress
) -> RunCost:
    """Train a few steps and time them; the model is not the same afterwards.

    Raises:
        ModelError: the model cannot be trained.
    """
    from demask.training.peak_memory import PeakMemory
    from demask.training.trainer import train_model

    progress.begin("Timing a few steps", _STEPS + 1)
    seen: list[StepMetrics] = []

    def look(step: "StepMetrics") -> None:
        seen.append(step)
        progress.advance()
        if len(seen) > _STEPS or (len(seen) > 1 and step.seconds - seen[0].seconds > _PATIENCE):
            raise _SeenEnoughError

    saved: list[str] = []
    settings = make_settings(config, loaded, stream, launch, ranks=launch.ranks)
    settings = replace(settings, log_every=1, say=saved.append)
    parameters = loaded.parameters
    trained = choose_trained(config.train, loaded, seed=stream.seed)
    peak, share = PeakMemory(loaded.device), ShareOfOne(stream, launch.ranks)
    with TemporaryDirectory(prefix="demask-") as folder, _threads_of_one(launch), suppress(_SeenEnoughError):
        train_model(trained.model, share, settings, folder=Path(folder), on_step=look)
    first, last = seen[0], seen[-1]
    single = len(seen) == 1  # a run of one step
    seconds = last.seconds if single else last.seconds - first.seconds
    tokens = last.tokens if single else last.tokens - first.tokens
    shares = stream.batch_size / share.batch_size
    return RunCost(
        steps=max(1, len(seen) - 1),
        tokens_per_step=shares * last.tokens / len(seen),
        tokens_per_second=shares * tokens / max(seconds, 1e-9),
        memory_bytes=peak.note(),
        accumulation=settings.accumulation,
        learning_rate=settings.learning_rate,
        precision="bf16" if settings.bf16 else "fp32",
        parameters=parameters,
        trained=sum(weights.numel() for weights in trained.model.parameters() if weights.requires_grad),
        device=str(loaded.device),
        memory_savings=tuple(saved),
    )


@dataclass(frozen=True)
class ShareOfOne:
    """As many examples of each step as one of several processes trains.

    Attributes:
        stream: of all processes.
        ranks: how many there are.
    """

    stream: "Stream"
    ranks: int

    @property
    def batch_size(self) -> int:
        """Examples of a step, of which some processes may have one fewer."""
        return math.ceil(self.stream.batch_size / self.ranks)

    @property
    def steps(self) -> int:
        """Of the run."""
        return self.stream.steps

    def __len__(self) -> int:
        """Examples of the whole run."""
        return self.steps * self.batch_size

    def __getitem__(self, place: int) -> "Example":
        """The first ones of each step."""
        step, number = divmod(range(len(self))[place], self.batch_size)
        return self.stream[step * self.stream.batch_size + number]

    def longest_example(self) -> int:
        """Of all of them."""
        return self.stream.longest_example()


@contextmanager
def _threads_of_one(launch: Launch) -> Iterator[None]:
    """Compute on as many threads as a worker does."""
    import torch

    if launch.processes == 1 or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, count_cores() // launch.processes))
    try:
        yield
    finally:
        torch.set_num_threads(before)
