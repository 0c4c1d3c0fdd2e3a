"""What a run will train and cost, before it starts: the plan and the preview.

    plan = make_plan(config)
    for example in preview_examples(config, count=2): ...

Both need the tokenizer, not the weights.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal, NamedTuple

from demask import rundir
from demask.config import RunConfig
from demask.progress import Progress, Silent, advancing
from demask.records import IGNORE_INDEX, Example, Passage
from demask.rundir import RunFolder
from demask.stages.inputs import add_paraphrases, find_mask_id, split_documents
from demask.stages.lessons import make_stream
from demask.stages.reading import (
    Coverage,
    Knowledge,
    coverage_remarks,
    measure_coverage,
    read_knowledge,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from demask.training.sampler import ExposureStream


@dataclass(frozen=True)
class Plan:
    """A run in numbers; seconds and bytes are estimates.

    Attributes:
        questions: None: they are made when the run starts.
        paraphrases: None: they are made when the run starts, and are not counted here.
        remarks: what of the documents is not trained, and what is nearly alike.
        exposures: how often each passage is seen.
        tokens: positions of all examples of the run.
        padding: share of positions that are computed besides and thrown away.
        seconds: of training alone; questions come on top.
        memory_bytes: peak.
    """

    model: str
    objective: str
    method: str
    documents: int
    passages: int
    questions: int | None
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
    device: str
    precision: str
    seconds: float
    memory_bytes: int


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


def make_plan(config: RunConfig, *, progress: Progress | None = None) -> Plan:
    """Count tokens exactly; estimate time and memory from a one-second probe of this machine."""
    with TemporaryDirectory(prefix="demask-") as folder:
        told = progress or Silent()
        return _plan(config, read_setting(config, RunFolder(Path(folder)), told), told)


def _plan(config: RunConfig, setting: Setting, progress: Progress) -> Plan:
    import torch

    from demask.models.load import choose_device, outline_model
    from demask.models.packing import can_pack
    from demask.models.precision import choose_bf16
    from demask.training import plan
    from demask.training.sampler import cut_micro_batches

    stream = setting.stream
    outline = outline_model(setting.architecture)
    parameters = sum(weights.numel() for weights in outline.parameters())
    device = choose_device(config.device)
    bf16 = choose_bf16(config.train.precision, device)
    accumulation = plan.choose_accumulation(
        config.train, batch_size=stream.batch_size, longest=stream.longest_example(), device=device
    )
    progress.begin("Counting tokens", stream.steps * accumulation)
    micro_batches = advancing(cut_micro_batches(stream, accumulation=accumulation), progress)
    tokens, positions, largest = _count_tokens(stream, micro_batches, packed=can_pack(outline))
    dtype = torch.bfloat16 if bf16 else torch.float32
    rate = plan.measure_matrix_rate(device, dtype)
    return Plan(
        model=config.model,
        objective=config.objective.name,
        method=config.train.method,
        documents=len(setting.knowledge.documents),
        passages=setting.coverage.passages,
        questions=None if setting.knowledge.pairs is None else len(setting.knowledge.pairs),
        paraphrases=None if setting.knowledge.paraphrases is None else len(setting.knowledge.paraphrases),
        document_tokens=sum(stream.lengths),
        coverage=setting.coverage.share,
        remarks=tuple(coverage_remarks(config, setting.knowledge, setting.coverage)),
        steps=stream.steps,
        batch_size=stream.batch_size,
        accumulation=accumulation,
        exposures=stream.exposures,
        learning_rate=plan.choose_learning_rate(
            config.train, parameters=parameters, batch_size=stream.batch_size
        ),
        tokens=tokens,
        padding=1 - tokens / positions,
        parameters=parameters,
        device=str(device),
        precision="bf16" if bf16 else "fp32",
        seconds=plan.estimate_seconds(
            tokens=tokens, parameters=parameters, flops_per_second=rate, dtype=dtype
        ),
        memory_bytes=plan.estimate_memory(config.train, parameters=parameters, micro_batch_tokens=largest),
    )


class _Tokens(NamedTuple):
    real: int
    positions: int  # with padding
    largest: int  # positions of the largest micro-batch


def _count_tokens(
    stream: "ExposureStream[Passage]", micro_batches: Iterable[range], *, packed: bool
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

    real = positions = largest = 0
    for micro_batch in micro_batches:
        lengths = [count(place) for place in micro_batch]
        size = sum(lengths) if packed else max(lengths) * len(lengths)
        real, positions, largest = real + sum(lengths), positions + size, max(largest, size)
    return _Tokens(real, positions, largest)


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
    cut = split_documents(config, knowledge.documents, tokenizer, architecture)
    folder.write_rows(rundir.PASSAGES, advancing(cut, progress))
    passages = folder.open_records(rundir.PASSAGES, Passage)
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
