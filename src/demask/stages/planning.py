"""What a run will train and cost, before it starts: the plan and the preview.

    plan = make_plan(config)
    for example in preview_examples(config, count=2): ...

The plan makes a few steps with the real model; the preview needs its tokenizer alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal, NamedTuple

from demask.progress import Progress, Silent, advancing
from demask.recipe.launch import ALONE, Launch
from demask.recipe.sections import RunConfig
from demask.records import IGNORE_INDEX, Example, Passage
from demask.stages.expected_questions import expect_questions
from demask.stages.inputs import add_paraphrases, find_mask_id, split_documents
from demask.stages.measuring import RunCost, measure_cost
from demask.stages.reading import (
    Coverage,
    Knowledge,
    coverage_remarks,
    measure_coverage,
    read_knowledge,
)
from demask.stages.training_data import make_stream
from demask.storage import file_names
from demask.storage.run_folder import RunFolder
from demask.training.savings import find_savings

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from demask.training.sampler import ExposureStream


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
class Piece:
    """A run of tokens of one example that share a role."""

    text: str
    role: Literal["prompt", "mask", "masked", "copied"]


@dataclass(frozen=True)
class Preview:
    """One example as the model sees it; pieces in order make up the whole text."""

    id: str
    tokens: int
    scored: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Setting:
    """All that a run has read before its first step."""

    knowledge: Knowledge
    coverage: Coverage
    tokenizer: "PreTrainedTokenizerBase"
    architecture: "PretrainedConfig"
    stream: "ExposureStream[Passage]"


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
    train = config.train.with_rate_share(config.objective.rate_share)
    questions = expect_questions(config, knowledge, progress)
    cost = measure_cost(
        train, config.model, device=config.device, stream=stream, launch=launch, progress=progress
    )
    counted = _count(setting, cost, launch, progress)
    seconds = cost.seconds_of(counted.real)
    return Plan(
        model=config.model,
        objective=config.objective.name,
        method=train.method,
        documents=len(knowledge.documents),
        passages=setting.coverage.passages,
        questions=questions.count,
        questions_bound=questions.bound,
        questions_how=questions.how,
        paraphrases=None if knowledge.paraphrases is None else len(knowledge.paraphrases),
        document_tokens=sum(stream.lengths),
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
            train, seconds, device=cost.device, what="documents", exposures=stream.exposures
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
    from demask.training.sampler import cut_micro_batches

    parts = cost.accumulation * launch.ranks
    progress.begin("Counting tokens", setting.stream.steps * parts)
    micro_batches = advancing(cut_micro_batches(setting.stream, accumulation=parts), progress)
    return _count_tokens(
        setting.stream,
        micro_batches,
        packed=can_pack(outline_model(setting.architecture)),
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
    stream: "ExposureStream[Passage]", micro_batches: Iterable[range], *, packed: bool, timed: int
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
        mask_id = find_mask_id(config, setting.tokenizer, setting.architecture)
        return [
            preview_example(setting.tokenizer, setting.stream[place], mask_id)
            for place in range(min(count, len(setting.stream)))
        ]


def read_setting(config: RunConfig, folder: RunFolder, progress: Progress) -> Setting:
    """All that the run will read; kept in a folder, so that it need not fit into memory."""
    from demask.models.load import load_architecture, load_tokenizer

    progress.begin("Reading documents", 1)
    knowledge = read_knowledge(config, folder)
    progress.begin("Splitting documents", len(knowledge.documents))
    tokenizer = load_tokenizer(config.model)
    architecture = load_architecture(config.model)
    cut = split_documents(config, knowledge.documents, tokenizer, architecture, progress)
    folder.write_rows(file_names.PASSAGES, advancing(cut, progress))
    passages = folder.open_records(file_names.PASSAGES, Passage)
    trained = add_paraphrases(config, passages, knowledge.paraphrases or (), tokenizer, architecture)
    stream = make_stream(config, tokenizer, architecture, trained)
    coverage = measure_coverage(knowledge, passages)
    return Setting(knowledge, coverage, tokenizer, architecture, stream)


def preview_example(tokenizer: "PreTrainedTokenizerBase", example: Example, mask_id: int | None) -> Preview:
    """An example in pieces that each have one role."""
    runs: list[tuple[str, list[int]]] = []
    for token, label, masked in zip(example.token_ids, example.labels, example.masked, strict=True):
        role = "masked" if masked else "copied"
        if label == IGNORE_INDEX:
            role = "mask" if token == mask_id else "prompt"
        if not runs or runs[-1][0] != role:
            runs.append((role, []))
        # In diffusion a token is masked where it stands: what is to be written there tells more.
        runs[-1][1].append(label if masked and token == mask_id else token)
    return Preview(
        id=example.id,
        tokens=len(example.token_ids),
        scored=sum(label != IGNORE_INDEX for label in example.labels),
        pieces=tuple(Piece(str(tokenizer.decode(ids)), role) for role, ids in runs),  # type: ignore[arg-type]
    )
