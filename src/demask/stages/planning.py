"""What a run will train and cost, before it starts: the plan and the preview.

    plan = make_plan(config)
    for example in preview_examples(config, count=2): ...

The plan makes a few steps with the real model; the preview needs its tokenizer alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from demask.objectives.objective import Preview
from demask.progress import Progress, Silent, advancing
from demask.recipe.launch import ALONE, Launch
from demask.recipe.sections import RunConfig
from demask.records import Passage, Sample
from demask.stages.expected_questions import expect_questions
from demask.stages.inputs import add_paraphrases, split_documents
from demask.stages.measuring import RunCost, measure_cost
from demask.stages.reading import (
    Coverage,
    Knowledge,
    coverage_remarks,
    measure_coverage,
    read_knowledge,
)
from demask.storage import file_names
from demask.storage.run_folder import RunFolder
from demask.training.savings import find_savings

if TYPE_CHECKING:
    from demask.objectives.objective import Context
    from demask.training.stream import ExposureStream


@dataclass(frozen=True)
class Plan:
    """A run in numbers.

    Attributes:
        questions: given, or made when the run starts; None: not known.
        questions_bound: what that number is: `exactly`, `about` or `at most`.
        questions_how: where they come from; or why their number is not known.
        paraphrases: None: they are made when the run starts, and are not counted here.
        remarks: what of the documents is not trained, and what is nearly alike.
        exposures: how often each passage is seen.
        tokens: positions of all examples of the run.
        padding: share of positions that are computed besides and thrown away.
        tokens_per_second: of all processes.
        seconds: of training alone, from `measured_steps` real steps; questions come on top. None: not
            measured, see `problem`.
        memory_bytes: peak of one process, measured in these steps, with what larger micro-batches will take.
        problem: why no step could be timed; empty when some were.
        savings: what would make it shorter, where it is long.
    """

    model: str
    objective: str
    method: str
    documents: int
    passages: int
    questions: int | None
    questions_bound: str
    questions_how: str
    paraphrases: int | None
    document_tokens: int
    coverage: float
    remarks: tuple[str, ...]
    steps: int
    batch_size: int
    accumulation: int
    exposures: float
    learning_rate: float
    tokens: int
    padding: float
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


@dataclass(frozen=True)
class Setting:
    """All that a run has read before its first step."""

    knowledge: Knowledge
    coverage: Coverage
    tokens: int  # of all passages
    context: "Context"
    stream: "ExposureStream[Sample]"


def make_plan(config: RunConfig, *, launch: Launch = ALONE, progress: Progress | None = None) -> Plan:
    """Count tokens exactly, and time a few steps with the real model, if that fits.

    Raises:
        DemaskError: what would stop the run stops the plan, too.
    """
    with TemporaryDirectory(prefix="demask-") as folder:
        told = progress or Silent()
        return _plan(config, read_setting(config, RunFolder(Path(folder)), told), launch, told)


def _plan(config: RunConfig, setting: Setting, launch: Launch, progress: Progress) -> Plan:
    stream, knowledge = setting.stream, setting.knowledge
    questions = expect_questions(config, knowledge, progress)
    cost = measure_cost(config, stream, launch=launch, progress=progress)
    counted = _count(setting, cost, launch, progress)
    seconds = cost.seconds_of(counted.real)
    return Plan(
        model=config.model,
        objective=config.objective.name,
        method=config.train.method,
        documents=len(knowledge.documents),
        passages=setting.coverage.passages,
        questions=questions.count,
        questions_bound=questions.bound,
        questions_how=questions.how,
        paraphrases=None if knowledge.paraphrases is None else len(knowledge.paraphrases),
        document_tokens=setting.tokens,
        coverage=setting.coverage.share,
        remarks=(*coverage_remarks(config, knowledge, setting.coverage), *_replay_remarks(config)),
        steps=stream.steps,
        batch_size=stream.batch_size,
        accumulation=cost.accumulation,
        exposures=stream.exposures,
        learning_rate=cost.learning_rate,
        tokens=counted.real,
        padding=1 - counted.real / counted.positions,
        parameters=cost.parameters,
        processes=launch.ranks,
        device=cost.device,
        precision=cost.precision,
        measured_steps=cost.steps,
        tokens_per_second=cost.tokens_per_second,
        seconds=seconds,
        memory_bytes=cost.memory_bytes + _memory_beyond(cost, counted),
        problem=cost.problem,
        savings=find_savings(
            config.train, seconds, device=cost.device, what="documents", exposures=stream.exposures
        ),
    )


def _replay_remarks(config: RunConfig) -> list[str]:
    """What the plan does not count, as the conversations are drawn when the run starts."""
    replayed = config.retain.conversations
    return [f"each step also replays {replayed} conversations, which are not counted here"] * bool(replayed)


def _count(setting: Setting, cost: RunCost, launch: Launch, progress: Progress) -> "_Tokens":
    """Tokens of the whole run, and the largest micro-batch."""
    from demask.models.acceleration.packing import can_pack
    from demask.models.load import outline_model
    from demask.training.stream import cut_micro_batches

    parts = cost.accumulation * launch.ranks
    progress.begin("Counting tokens", setting.stream.steps * parts)
    micro_batches = advancing(cut_micro_batches(setting.stream, accumulation=parts), progress)
    return _count_tokens(
        setting.stream,
        micro_batches,
        packed=can_pack(outline_model(setting.context.architecture)),
        timed=(cost.steps + 1) * parts,
    )


def _memory_beyond(cost: RunCost, counted: "_Tokens") -> int:
    """Bytes that the largest micro-batch of the run takes more than those that were timed."""
    from demask.training.plan import estimate_activations

    if not cost.steps:
        return 0
    beyond = counted.largest - counted.largest_timed
    return estimate_activations(parameters=cost.parameters, micro_batch_tokens=beyond)


class _Tokens(NamedTuple):
    real: int
    positions: int  # with padding
    largest: int  # positions of the largest micro-batch
    largest_timed: int  # the same of those at the beginning, whose steps were timed


def _count_tokens(
    stream: "ExposureStream[Sample]", micro_batches: Iterable[range], *, packed: bool, timed: int
) -> _Tokens:
    """Over the whole run; masks change which tokens are hidden, never how many there are.

    Where one of several instructions is drawn, the first that is met stands for all: the shortest and the
    longest of ours are a few tokens apart.
    """
    known: dict[tuple[int, int], int] = {}

    def count(place: int) -> int:
        exposure = stream.exposure(place)
        key = (exposure.passage, exposure.variant)
        if key not in known:
            known[key] = len(stream[place].token_ids)
        return known[key]

    real = positions = largest = largest_timed = 0
    for number, micro_batch in enumerate(micro_batches):
        lengths = [count(place) for place in micro_batch]
        size = sum(lengths) if packed else max(lengths) * len(lengths)
        real, positions, largest = real + sum(lengths), positions + size, max(largest, size)
        largest_timed = largest if number < timed else largest_timed
    return _Tokens(real, positions, largest, largest_timed)


def preview_examples(config: RunConfig, *, count: int) -> list[Preview]:
    """The first examples of the run, exactly as they are trained."""
    with TemporaryDirectory(prefix="demask-") as folder:
        setting = read_setting(config, RunFolder(Path(folder)), Silent())
        return [
            config.objective.preview(setting.context, setting.stream[place])
            for place in range(min(count, len(setting.stream)))
        ]


def read_setting(config: RunConfig, folder: RunFolder, progress: Progress) -> Setting:
    """All that the run will read; kept in a folder, so that it need not fit into memory."""
    from demask.data.sequences import PassageSamples
    from demask.models.context import load_context
    from demask.training.stream import make_stream

    progress.begin("Reading documents", 1)
    knowledge = read_knowledge(config, folder)
    progress.begin("Splitting documents", len(knowledge.documents))
    context = load_context(config.model, config.objective)
    cut = split_documents(config, knowledge.documents, context, progress)
    folder.write_rows(file_names.PASSAGES, advancing(cut, progress))
    passages = folder.open_records(file_names.PASSAGES, Passage)
    trained = add_paraphrases(config, passages, knowledge.paraphrases or (), context)
    samples = PassageSamples(trained, context.tokenizer)
    coverage = measure_coverage(knowledge, passages)
    tokens = int(samples.answer_lengths.sum())
    return Setting(knowledge, coverage, tokens, context, make_stream(config, context, samples))
