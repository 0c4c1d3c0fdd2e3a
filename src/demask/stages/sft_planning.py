"""What fine-tuning would train and cost: tokens counted exactly, time and memory from a few real steps.

plan = make_sft_plan(config, Launch(), progress=progress)
for example in preview_samples(config, count=2): ...
"""

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from demask.objectives.prompts import load_chat_format
from demask.objectives.samples import count_example
from demask.progress import Progress, Silent
from demask.recipe.fine_tuning import Cpt, MaskedCpt, Sft, SftConfig
from demask.recipe.launch import Launch
from demask.stages.measuring import measure_cost
from demask.stages.planning import Preview, preview_example
from demask.stages.samples import (
    Chosen,
    Samples,
    choose_mask,
    count_examples,
    make_sample_stream,
    open_sample_stream,
    prepare,
    with_length,
)
from demask.training.savings import find_savings

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

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
    from demask.models.load import load_architecture, load_tokenizer

    tokenizer, architecture = load_tokenizer(config.model), load_architecture(config.model)
    samples = None if config.stream else prepare(config, tokenizer, architecture, progress)
    stream = _open(config, samples, tokenizer, architecture, progress)
    train = with_length(config).train
    cost = measure_cost(
        train, config.model, device=config.device, stream=stream, launch=launch, progress=progress
    )
    per_step = cost.tokens_per_step
    if samples:
        per_step = stream.batch_size * mean_tokens(config, samples.trained, tokenizer)
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
        savings=find_savings(train, cost.seconds_of(tokens), device=cost.device, what="samples"),
    )


def _open(
    config: SftConfig,
    samples: Samples | None,
    tokenizer: "PreTrainedTokenizerBase",
    architecture: "PretrainedConfig",
    progress: Progress,
) -> "Stream":
    if samples:
        return make_sample_stream(config, samples.trained, tokenizer, architecture)
    return open_sample_stream(config, tokenizer, architecture, progress)


def mean_tokens(config: SftConfig, samples: Chosen, tokenizer: "PreTrainedTokenizerBase") -> float:
    """Tokens of an example, over all samples and, where masked and plain ones are mixed, both kinds."""
    longer = float(count_examples(config, samples, tokenizer).mean())
    objective = config.objective
    if isinstance(objective, Sft | Cpt) or objective.share == 1:
        return longer
    plain = Cpt() if isinstance(objective, MaskedCpt) else Sft()
    count = count_example(plain, tokenizer=tokenizer, chat=load_chat_format(tokenizer))
    around = count(1, 0) - 1
    shorter = float((samples.prompt_lengths + samples.answer_lengths).mean()) + around
    return objective.share * longer + (1 - objective.share) * shorter


def preview_samples(config: SftConfig, *, count: int, progress: Progress | None = None) -> list[Preview]:
    """The first examples of the run, exactly as they are trained."""
    from demask.models.load import load_architecture, load_tokenizer

    tokenizer, architecture = load_tokenizer(config.model), load_architecture(config.model)
    told = progress or Silent()
    samples = None if config.stream else prepare(config, tokenizer, architecture, told)
    stream = _open(config, samples, tokenizer, architecture, told)
    mask_id = choose_mask(config, tokenizer, architecture)
    first = (stream[place] for place in range(len(stream)))
    return [preview_example(tokenizer, example, mask_id) for example in islice(first, count)]
