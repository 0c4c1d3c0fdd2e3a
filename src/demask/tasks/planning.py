"""What a run will train and cost, before it starts: the plan and the preview, of either kind of recipe.

    plan = make_plan(config)                          # origin=...: of an update
    for example in preview_examples(config, count=2): ...

The plan makes a few steps with the real model; the preview needs its tokenizer alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from demask.objectives.objective import Preview
from demask.progress import Progress, Silent, advancing
from demask.recipe.fine_tuning import SftConfig, TaskConfig
from demask.recipe.launch import ALONE, Launch
from demask.recipe.sections import RunConfig
from demask.records import Passage
from demask.stages.documents import (
    Coverage,
    Knowledge,
    coverage_remarks,
    measure_coverage,
    read_knowledge,
    settle_knowledge,
)
from demask.stages.lineage import Origin, add_new, add_old_passages, read_earlier, read_new, split_passages
from demask.stages.passages import add_paraphrases, split_documents
from demask.stages.retained import read_retained
from demask.stages.samples import PreparedSamples, open_sample_stream, prepare
from demask.storage import file_names
from demask.storage.run_folder import RunFolder
from demask.tasks.document_parts import count_pages, describe_parts
from demask.tasks.expected_questions import expect_questions
from demask.tasks.replay_costs import ReplayCost, stand_in_stream
from demask.tasks.step_costs import RunCost, measure_cost
from demask.training.plan import find_savings

if TYPE_CHECKING:
    from demask.objectives.objective import Context
    from demask.stages.training import Stream
    from demask.training.stream import ExposureStream, MixedStream

# Examples that are made to count their tokens; of a longer run as many micro-batches, evenly over all.
_COUNTED = 100_000
_NOT_ASKED = (
    "what the model says of the old documents is asked when the update starts; its time is not counted, and "
    "their texts stand for it in the steps"
)


@dataclass(frozen=True)
class DocumentCounts:
    """What a run learns from documents, in numbers.

    Attributes:
        pages: of the PDFs among them; 0 without any.
        questions: given, or made when the run starts; None: not known.
        questions_bound: what that number is: `exactly`, `about` or `at most`.
        questions_how: where they come from; or why their number is not known.
        paraphrases: None: they are made when the run starts, and are not counted here.
        document_tokens: of all passages.
        coverage: share of the text that stands in passages.
        exposures: how often each passage is seen.
        remarks: what of the documents is not trained, and what is nearly alike.
        earlier_passages: of an update, those of the runs before, which are replayed.
        earlier_together: so many of them in each step.
        earlier_questions: asked besides.
    """

    documents: int
    pages: int
    passages: int
    questions: int | None
    questions_bound: str
    questions_how: str
    paraphrases: int | None
    document_tokens: int
    coverage: float
    exposures: float
    remarks: tuple[str, ...]
    earlier_passages: int = 0
    earlier_together: int = 0
    earlier_questions: int = 0


@dataclass(frozen=True)
class SampleCounts:
    """What a run of fine-tuning learns from, in numbers.

    Attributes:
        samples: that are trained; None: they are read while training.
        held_out: that are measured and not trained.
        left_out: that are too long.
        epochs: how often each is seen; None: nobody knows.
    """

    samples: int | None
    held_out: int
    left_out: int
    epochs: float | None


@dataclass(frozen=True)
class Plan:
    """A run in numbers.

    Attributes:
        about: what is learned.
        tokens: positions of all examples of the run; where samples are read while training, as many a step as
            in the steps that were timed.
        trained_parameters: weights that are trained.
        padding: share of positions that are computed besides and thrown away; None: not known.
        tokens_per_second: of all processes.
        seconds: of training alone, from `measured_steps` real steps; questions come on top. None: not
            measured, see `problem`.
        memory_bytes: peak of one process, measured in these steps, with what larger micro-batches will take.
        problem: why no step could be timed; empty when some were.
        savings: what would make it shorter, where it is long.
        memory_savings: how steps that did not fit into memory are made to fit.
        replay: what replayed conversations take besides the steps; None: there are none, or `problem`.
    """

    model: str
    objective: str
    method: str
    about: DocumentCounts | SampleCounts
    steps: int
    batch_size: int
    accumulation: int
    learning_rate: float
    tokens: int
    padding: float | None
    parameters: int
    trained_parameters: int
    processes: int
    device: str
    precision: str
    measured_steps: int
    tokens_per_second: float
    seconds: float | None
    memory_bytes: int
    problem: str = ""
    savings: tuple[str, ...] = ()
    memory_savings: tuple[str, ...] = ()
    replay: ReplayCost | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values, all on one level."""
        values = asdict(self)
        replay = values.pop("replay") or {}
        return {**values.pop("about"), **values, **{f"replay_{key}": value for key, value in replay.items()}}


@dataclass(frozen=True)
class DocumentSetting:
    """All that a run has read of its documents before its first step."""

    config: RunConfig
    context: "Context"
    stream: "ExposureStream[Any] | MixedStream"
    knowledge: Knowledge
    coverage: Coverage
    tokens: int  # of all passages that are new
    earlier_passages: int = 0
    remarks: tuple[str, ...] = ()

    def count(self, progress: Progress) -> DocumentCounts:
        """For the plan; questions that cost nothing are made to count them."""
        from demask.training.stream import learned_part

        config, knowledge, coverage = self.config, self.knowledge, self.coverage
        questions = expect_questions(config, knowledge, progress)
        learned = learned_part(self.stream)
        return DocumentCounts(
            documents=len(knowledge.new),
            pages=sum(count_pages(document) for document in knowledge.new),
            passages=coverage.passages,
            questions=questions.count,
            questions_bound=questions.bound,
            questions_how=questions.how,
            paraphrases=None if knowledge.paraphrases is None else len(knowledge.paraphrases),
            document_tokens=self.tokens,
            coverage=coverage.share or 0.0,
            exposures=learned.exposures,
            remarks=(*coverage_remarks(config, knowledge, coverage), *self.remarks),
            earlier_passages=self.earlier_passages,
            earlier_together=self.stream.batch_size - learned.batch_size,
            earlier_questions=len(knowledge.earlier_pairs),
        )


@dataclass(frozen=True)
class SampleSetting:
    """All that a run of fine-tuning has read before its first step; no samples where they are streamed."""

    context: "Context"
    stream: "Stream"
    samples: PreparedSamples | None

    def count(self, progress: Progress) -> SampleCounts:
        """For the plan."""
        if self.samples is None:
            return SampleCounts(None, 0, 0, None)
        trained = self.samples.trained
        epochs = len(self.stream) / len(trained)
        return SampleCounts(len(trained), len(self.samples.held_out), trained.file.left_out.count, epochs)


def make_plan(
    config: TaskConfig,
    *,
    launch: Launch = ALONE,
    origin: Origin | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Count tokens, and time a few steps with the real model, if that fits.

    Args:
        config: of the run.
        launch: on how many processes.
        origin: of an update, the run that it goes on from.
        progress: told how far it is.

    Raises:
        DemaskError: what would stop the run stops the plan, too.
    """
    from demask.models.load import choose_device
    from demask.training.stream import learned_part

    told = progress or Silent()
    read_retained(config, told)
    with open_setting(config, told, origin) as setting:
        stream = setting.stream
        about = setting.count(told)
        mixed = stand_in_stream(config, stream, setting.context, choose_device(config.device))
        cost = measure_cost(config, mixed, launch=launch, progress=told)
        counted = _count(config, setting, mixed, cost, launch, told)
        seconds = cost.seconds_of(counted.real)
        savings = _find_savings(config, setting, about, seconds, cost.device)
    return Plan(
        model=config.model,
        objective=config.objective.name,
        method=config.train.method,
        about=about,
        steps=stream.steps,
        batch_size=learned_part(stream).batch_size,
        accumulation=cost.accumulation,
        learning_rate=cost.learning_rate,
        tokens=counted.real,
        padding=None if counted.positions is None else 1 - counted.real / counted.positions,
        parameters=cost.parameters,
        trained_parameters=cost.trained,
        processes=launch.ranks,
        device=cost.device,
        precision=cost.precision,
        measured_steps=cost.steps,
        tokens_per_second=cost.tokens_per_second,
        seconds=seconds,
        memory_bytes=cost.memory_bytes + _memory_beyond(cost, counted),
        replay=cost.replay,
        problem=cost.problem,
        savings=savings,
        memory_savings=cost.memory_savings,
    )


def _find_savings(
    config: TaskConfig,
    setting: DocumentSetting | SampleSetting,
    about: DocumentCounts | SampleCounts,
    seconds: float | None,
    device: str,
) -> tuple[str, ...]:
    """What helps where training is long, with the chapters that could be learned alone."""
    of_samples = isinstance(about, SampleCounts)
    found = find_savings(
        config.train,
        seconds,
        device=device,
        what="samples" if of_samples else "documents",
        exposures=about.epochs if isinstance(about, SampleCounts) else about.exposures,
    )
    if not found or seconds is None or isinstance(setting, SampleSetting):
        return found
    by_length = config.train.steps is None if isinstance(config, RunConfig) else False
    parts = describe_parts(setting.knowledge.new, seconds if by_length else None)
    return (*found, *parts, "no training: passages that are looked up for each question (docs/retrieval.md)")


class _Tokens(NamedTuple):
    real: int
    positions: int | None  # with padding; None: not known
    largest: int  # positions of the largest micro-batch
    largest_timed: int  # the same of those at the beginning, whose steps were timed


def _count(
    config: TaskConfig,
    setting: DocumentSetting | SampleSetting,
    stream: "Stream",
    cost: RunCost,
    launch: Launch,
    progress: Progress,
) -> _Tokens:
    """Tokens of the whole run, replayed ones included, and the largest micro-batch.

    Masks change which tokens are hidden, never how many there are. Where one of several instructions is
    drawn, the first that is met stands for all: the shortest and the longest of ours are a few tokens apart.
    """
    from demask.models.acceleration.packing import can_pack
    from demask.models.load import outline_model
    from demask.training.stream import ExposureStream, cut_micro_batches, learned_part

    if not isinstance(learned_part(stream), ExposureStream):  # to read all of the data would take too long
        return _Tokens(round(cost.tokens_per_step * stream.steps), None, 0, 0)
    packed, timed = can_pack(outline_model(setting.context.architecture)), cost.steps + 1
    parts = cost.accumulation * launch.ranks
    micro_batches = cut_micro_batches(stream, accumulation=parts)
    # Of a run without replay whose examples have as many tokens in every epoch, one epoch is enough.
    steady = stream if isinstance(stream, ExposureStream) and config.objective.steady else None
    made = len(stream) if steady is None else min(len(stream), len(steady.passages) * steady.variants)
    looked_at = micro_batches[:: max(1, round(made / _COUNTED))]
    known: dict[tuple[int, ...], int] = {}

    def count(place: int) -> int:
        if steady is None:
            return len(stream[place].token_ids)
        exposure = steady.exposure(place)
        key = (exposure.passage, exposure.variant)
        if key not in known:
            known[key] = len(stream[place].token_ids)
        return known[key]

    progress.begin("Counting tokens", len(looked_at), unit="micro-batches")
    real = positions = largest = largest_timed = 0
    for micro_batch in advancing(looked_at, progress):
        lengths = [count(place) for place in micro_batch]
        size = sum(lengths) if packed else max(lengths) * len(lengths)
        real, positions, largest = real + sum(lengths), positions + size, max(largest, size)
        largest_timed = largest if micro_batch.start < timed * stream.batch_size else largest_timed
    scale = len(stream) / sum(map(len, looked_at))
    return _Tokens(round(real * scale), round(positions * scale), largest, largest_timed)


def _memory_beyond(cost: RunCost, counted: _Tokens) -> int:
    """Bytes that the largest micro-batch of the run takes more than those that were timed."""
    from demask.training.plan import estimate_activations

    if not cost.steps or cost.memory_savings:  # what does not fit is saved
        return 0
    beyond = counted.largest - counted.largest_timed
    return estimate_activations(parameters=cost.parameters, micro_batch_tokens=beyond)


def preview_examples(config: TaskConfig, *, count: int, progress: Progress | None = None) -> list[Preview]:
    """The first examples of the run, exactly as they are trained."""
    with open_setting(config, progress or Silent()) as setting:
        first = (setting.stream[place] for place in range(len(setting.stream)))
        return [config.objective.preview(setting.context, example) for example in islice(first, count)]


@contextmanager
def open_setting(
    config: TaskConfig, progress: Progress, origin: Origin | None = None
) -> Iterator[DocumentSetting | SampleSetting]:
    """All that the run will read, as long as the block lasts; of an update with the run it goes on from."""
    if isinstance(config, SftConfig):
        yield _read_samples(config, progress)
        return
    with TemporaryDirectory(prefix="demask-") as folder:
        yield read_setting(config, RunFolder(Path(folder)), progress, origin)


def read_setting(
    config: RunConfig, folder: RunFolder, progress: Progress, origin: Origin | None = None
) -> DocumentSetting:
    """All that a run will read of its documents; kept in a folder, so that it need not fit into memory.

    Args:
        config: of the run.
        folder: where documents and passages are kept.
        progress: told how far it is.
        origin: of an update.
    """
    from demask.data.sequences import PassageSamples
    from demask.models.context import load_context
    from demask.training.stream import make_stream

    progress.begin("Reading documents", 1)
    if origin is None:
        lineage = None
        knowledge = settle_knowledge(config, read_knowledge(config, folder), folder, progress)
    else:
        earlier = read_earlier(origin)
        knowledge = read_new(config, earlier, folder, progress)
        lineage = add_new(earlier.lineage, knowledge.new)
    progress.begin("Splitting documents", len(knowledge.documents), unit="documents")
    context = load_context(config.model, config.objective)
    cut = split_documents(config, knowledge.documents, context, progress)
    folder.write_rows(file_names.PASSAGES, advancing(cut, progress))
    fresh, old = split_passages(lineage, folder.open_records(file_names.PASSAGES, Passage))
    trained = add_paraphrases(config, fresh, knowledge.paraphrases or (), context)
    samples = PassageSamples(trained, context.tokenizer)
    return DocumentSetting(
        config,
        context,
        add_old_passages(config, make_stream(config, context, samples), old, context),
        knowledge,
        measure_coverage(knowledge, fresh),
        int(samples.answer_lengths.sum()),
        earlier_passages=len(old),
        remarks=() if origin is None or origin.old_texts else (_NOT_ASKED,),
    )


def _read_samples(config: SftConfig, progress: Progress) -> SampleSetting:
    from demask.models.context import load_context
    from demask.training.stream import make_stream

    context = load_context(config.model, config.objective)
    if config.stream:
        return SampleSetting(context, open_sample_stream(config, context, progress), None)
    samples = prepare(config, context, progress)
    return SampleSetting(context, make_stream(config, context, samples.trained), samples)
