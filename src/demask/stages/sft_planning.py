"""What fine-tuning would train and cost: tokens counted exactly, time and memory from a few real steps.

plan = make_sft_plan(config, Launch(), progress=progress)
for example in preview_samples(config, count=2): ...
"""

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from demask.data.sequences import ChosenSamples, count_examples
from demask.objectives.objective import Preview
from demask.objectives.sft import MaskedObjective
from demask.progress import Progress, Silent
from demask.recipe.fine_tuning import SftConfig
from demask.recipe.launch import Launch
from demask.stages.measuring import measure_cost
from demask.stages.samples import (
    PreparedSamples,
    open_sample_stream,
    prepare,
)
from demask.training.savings import find_savings

if TYPE_CHECKING:
    from demask.objectives.objective import Context
    from demask.stages.training import Stream


@dataclass(frozen=True)
class SftPlan:
    """A run of `demask sft` in numbers.

    Attributes:
        samples: that are trained; None: they are read while training.
        left_out: that are too long.
        epochs: how often each is seen; None: nobody knows.
        tokens: positions of all examples of the run, padding aside; where samples are read while training
            as many a step as in the steps that were timed.
        tokens_per_second: of all processes.
        seconds: of training, from `measured_steps` real steps; several processes are taken to share the work
            evenly. None: not measured, see `problem`.
        memory_bytes: peak of these steps, in each process; with shared weights it is less.
        problem: why no step could be timed; empty when some were.
        savings: what would make it shorter, where it is long.
    """

    model: str
    objective: str
    method: str
    samples: int | None
    held_out: int
    left_out: int
    steps: int
    batch_size: int
    epochs: float | None
    tokens: int
    learning_rate: float
    parameters: int
    processes: int
    device: str
    precision: str
    measured_steps: int
    tokens_per_second: float
    seconds: float | None
    memory_bytes: int
    problem: str = ""
    savings: tuple[str, ...] = ()


def make_sft_plan(config: SftConfig, launch: Launch, *, progress: Progress) -> SftPlan:
    """Count the tokens of the run, and time a few of its first steps with the real model, if that fits.

    Raises:
        DemaskError: what would stop the run stops the plan, too.
    """
    from demask.models.context import load_context

    context = load_context(config.model, config.objective)
    samples = None if config.stream else prepare(config, context, progress)
    stream = _open(config, samples, context, progress)
    cost = measure_cost(config, stream, launch=launch, progress=progress)
    per_step = cost.tokens_per_step
    if samples:
        per_step = stream.batch_size * mean_tokens(config, samples.trained, context)
    tokens = round(per_step * stream.steps)
    return SftPlan(
        model=config.model,
        objective=config.objective.name,
        method=config.train.method,
        samples=len(samples.trained) if samples else None,
        held_out=len(samples.held_out) if samples else 0,
        left_out=samples.trained.file.left_out.count if samples else 0,
        steps=stream.steps,
        batch_size=stream.batch_size,
        epochs=len(stream) / len(samples.trained) if samples else None,
        tokens=tokens,
        learning_rate=cost.learning_rate,
        parameters=cost.parameters,
        processes=launch.ranks,
        device=cost.device,
        precision=cost.precision,
        measured_steps=cost.steps,
        tokens_per_second=cost.tokens_per_second,
        seconds=cost.seconds_of(tokens),
        memory_bytes=cost.memory_bytes,
        problem=cost.problem,
        savings=find_savings(
            config.train,
            cost.seconds_of(tokens),
            device=cost.device,
            what="samples",
            exposures=len(stream) / len(samples.trained) if samples else None,
        ),
    )


def _open(
    config: SftConfig, samples: PreparedSamples | None, context: "Context", progress: Progress
) -> "Stream":
    from demask.training.stream import make_stream

    return (
        make_stream(config, context, samples.trained)
        if samples
        else open_sample_stream(config, context, progress)
    )


def mean_tokens(config: SftConfig, samples: ChosenSamples, context: "Context") -> float:
    """Tokens of an example, over all samples and, where masked and plain ones are mixed, both kinds."""
    objective = config.objective
    longer = float(np.mean(count_examples(objective.example_length(context), samples)))
    if not isinstance(objective, MaskedObjective) or objective.share == 1:
        return longer
    shorter = float(np.mean(count_examples(objective.plain.example_length(context), samples)))
    return objective.share * longer + (1 - objective.share) * shorter


def preview_samples(config: SftConfig, *, count: int, progress: Progress | None = None) -> list[Preview]:
    """The first examples of the run, exactly as they are trained."""
    from demask.models.context import load_context

    context, told = load_context(config.model, config.objective), progress or Silent()
    samples = None if config.stream else prepare(config, context, told)
    stream = _open(config, samples, context, told)
    first = (stream[place] for place in range(len(stream)))
    return [config.objective.preview(context, example) for example in islice(first, count)]
