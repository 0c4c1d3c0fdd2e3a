"""What else training changed: the base model is asked before, the trained one after, and both are judged.

    measure_base(config, run, material, load, progress)         # retention-before.jsonl, and its targets
    measure_tuned(config, run, material, load, progress)        # retention-after.jsonl
    judged = judge_stage(config, run, material, answers)        # retention.json

What a base model says to prompts that do not depend on the documents is kept in the user's cache, as are
the conversations that it writes, so that the next run with it pays half.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demask.environment import cache_folder
from demask.errors import RunError
from demask.progress import Progress
from demask.recipe.fine_tuning import TaskConfig
from demask.recipe.sections import Evaluate
from demask.records import Document, Passage, Prediction, QAPair
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.evaluation.retention.asking import Reply
    from demask.evaluation.retention.drift import Targets
    from demask.evaluation.retention.suite import Probe, SizeName, Sources, Suite
    from demask.models.load import LoadedModel


@dataclass(frozen=True)
class Material:
    """What a run is about.

    Attributes:
        documents: whole ones, for the prompt.
        passages: what was trained, for finding it in replies.
        pairs: the questions.
        searched: whether replies are searched for passages.
    """

    documents: Sequence[Document]
    passages: Sequence[Passage]
    pairs: Sequence[QAPair]
    searched: bool = True


# Of runs that are trained on samples: there are no documents, and what is learned may be said anywhere.
SAMPLES = Material((), (), (), searched=False)


RETENTION_FILES = (
    file_names.RETENTION_BEFORE,
    file_names.RETENTION_TARGETS,
    file_names.RETENTION_AFTER,
    file_names.RETENTION_UNGATED,
    file_names.RETENTION,
    file_names.RETENTION_TASKS,
    file_names.BENCHMARK,
)


# What a trained model is judged by without the gate of its run.
UNGATED = ("leak", "near_miss", "known", "known_related", "drift", "text_drift")


class _Texts:
    """Passages as texts, read anew each time."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages

    def __iter__(self) -> Iterator[str]:
        return (passage.training_text for passage in self._passages)


def read_material(run: RunFolder) -> Material:
    """Of a run whose earlier stages are done."""
    if run.has(file_names.DATA):
        return SAMPLES
    pairs = run.read_records(file_names.QA_PAIRS, QAPair) if run.has(file_names.QA_PAIRS) else []
    return Material(
        run.open_records(file_names.DOCUMENTS, Document),
        run.open_records(file_names.PASSAGES, Passage),
        pairs,
    )


def forget_other_sizes(run: RunFolder, measure: "SizeName") -> None:
    """Drop what was measured with another suite; its version, texts or size differ."""
    from demask.evaluation.retention.suite import load_suite

    if not run.has(file_names.RETENTION):
        return
    if run.read_json(file_names.RETENTION)["suite"] != load_suite(measure).describe():
        run.remove(*RETENTION_FILES)


def is_measured(run: RunFolder) -> bool:
    """Whether both models have been asked."""
    return run.has(file_names.RETENTION_BEFORE) and run.has(file_names.RETENTION_AFTER)


def measure_base(
    config: TaskConfig,
    run: RunFolder,
    material: Material,
    load: Callable[[], "LoadedModel"],
    progress: Progress,
) -> None:
    """Ask the base model, and have it write the conversations that drift is measured on."""
    if config.measure == "none" or run.has(file_names.RETENTION_BEFORE):
        return
    from demask.evaluation.retention.asking import ask_probes
    from demask.evaluation.retention.drift import write_targets
    from demask.evaluation.retention.suite import base_probes, load_suite

    loaded, suite = load(), load_suite(config.measure)
    probes = _fitting(loaded, base_probes(suite, _sources(config, suite, material, loaded)), config, progress)
    progress.begin("Measuring the base model", len(probes) + _conversations(suite, loaded), unit="questions")
    replies = ask_probes(loaded, probes, config.evaluate, keep=True, on_done=progress.advance)
    if loaded.diffusion is None:
        targets = _make_targets(config, suite, loaded, progress)
        write_targets(run.file(file_names.RETENTION_TARGETS), targets)
        replies += targets.texts
    run.write_rows(file_names.RETENTION_BEFORE, replies)


def _conversations(suite: "Suite", loaded: "LoadedModel") -> int:
    """Conversations that are written, second replies included; masked-diffusion models write none."""
    if loaded.diffusion is not None:
        return 0
    return len(suite.openings) + sum(opening.follow_up is not None for opening in suite.openings)


def _make_targets(config: TaskConfig, suite: "Suite", loaded: "LoadedModel", progress: Progress) -> "Targets":
    """From the user's cache where this base model has written them before."""
    from demask.evaluation.qa import answers_key
    from demask.evaluation.retention.drift import make_targets, read_targets, targets_prompts, write_targets

    prompts = targets_prompts(loaded, suite.openings, suite.texts)
    key = answers_key(loaded, prompts, Evaluate(batch_size=config.evaluate.batch_size))
    file: Path | None = cache_folder() / "retention" / f"{key}.safetensors" if key else None
    if file is not None and file.exists():
        try:
            return read_targets(file)
        except RunError as error:
            progress.say(f"{error}; made again now")
    targets = make_targets(
        loaded,
        suite.openings,
        suite.texts,
        batch_size=config.evaluate.batch_size,
        on_done=progress.advance,
    )
    if file is not None:
        try:
            write_targets(file, targets)
        except RunError as error:  # the run goes on without it
            progress.say(f"the base model's conversations are written again in the next run ({error})")
    return targets


def measure_tuned(
    config: TaskConfig,
    run: RunFolder,
    material: Material,
    load: Callable[[], "LoadedModel"],
    progress: Progress,
) -> None:
    """Ask the trained model, and measure how far it has drifted."""
    if config.measure == "none" or run.has(file_names.RETENTION_AFTER):
        return
    from demask.evaluation.retention.asking import Reply, ask_probes
    from demask.evaluation.retention.drift import measure_divergence, measure_texts, read_targets
    from demask.evaluation.retention.judging import right_facts
    from demask.evaluation.retention.suite import known_facts, load_suite, tuned_probes
    from demask.models.gated import without_gate

    loaded, suite = load(), load_suite(config.measure)
    before = run.read_records(file_names.RETENTION_BEFORE, Reply)
    known = known_facts(suite.facts, right_facts(before, suite.facts))
    sources = _sources(config, suite, material, loaded)
    probes = _fitting(loaded, tuned_probes(suite, sources, known), config, progress)
    progress.begin("Measuring the trained model", len(probes), unit="questions")
    alone = without_gate(loaded)
    replies = ask_probes(alone, probes, config.evaluate, on_done=progress.advance)
    drifted = [loaded] if loaded is alone else [alone, loaded]
    drifts: list[list[Reply]] = [[] for _ in drifted]
    if loaded.diffusion is None:
        talks = read_targets(run.file(file_names.RETENTION_TARGETS)).conversations
        drifts = [[*measure_divergence(one, talks), *measure_texts(one, suite.texts)] for one in drifted]
    if loaded.gated is not None:
        run.write_rows(file_names.RETENTION_UNGATED, [*replies, *drifts[0]])
        replies = _through_gate(loaded, probes, replies, before, config)
    run.write_rows(file_names.RETENTION_AFTER, [*replies, *drifts[-1]])


def _through_gate(
    loaded: "LoadedModel",
    probes: "Sequence[Probe]",
    replies: "Sequence[Reply]",
    before: "Sequence[Reply]",
    config: TaskConfig,
) -> "list[Reply]":
    """The same replies, but those of the base model to prompts that leave the gate shut.

    Args:
        loaded: the trained model behind its gate.
        probes: what was asked.
        replies: of the trained model alone.
        before: what the base model has said already.
        config: of the run.
    """
    from demask.evaluation.retention.asking import ask_probes
    from demask.generation.texts import turn_encoder
    from demask.models.gated import as_base, which_open, without_gate

    encode_turns = turn_encoder(loaded)
    opened = which_open(loaded, [encode_turns(probe.turns) for probe in probes])
    said = {(reply.kind, reply.id, reply.form): reply for reply in before}
    unasked = [
        probe
        for probe, is_open in zip(probes, opened, strict=True)
        if not is_open and (probe.kind, probe.id, probe.form) not in said
    ]
    with as_base(loaded):
        asked = ask_probes(without_gate(loaded), unasked, config.evaluate)
    said |= {(reply.kind, reply.id, reply.form): reply for reply in asked}
    return [
        reply if is_open else said[reply.kind, reply.id, reply.form]
        for reply, is_open in zip(replies, opened, strict=True)
    ]


def _sources(config: TaskConfig, suite: "Suite", material: Material, loaded: "LoadedModel") -> "Sources":
    from demask.evaluation.qa import choose_contexts
    from demask.evaluation.retention.suite import Sources, choose_pairs

    if not material.searched:
        return Sources((), {}, leaks=False)
    read = choose_pairs(material.pairs, suite.size.reading)
    wanted = {pair.document_id for pair in read}
    documents = {document.id: document for document in material.documents if document.id in wanted}
    texts = choose_contexts(
        loaded, read, documents, material.passages, max_new_tokens=config.evaluate.max_new_tokens
    )
    return Sources(material.pairs, texts)


def _fitting(
    loaded: "LoadedModel", probes: "list[Probe]", config: TaskConfig, progress: Progress
) -> "list[Probe]":
    from demask.evaluation.retention.asking import fitting_probes

    fitting = fitting_probes(loaded, probes, config.evaluate)
    if len(fitting) < len(probes):
        progress.say(
            f"{len(probes) - len(fitting)} of {len(probes)} prompts of the retention suite are not asked: "
            f"longer than the model's context of {loaded.context} tokens"
        )
    return fitting


def summarise_retention(found: Mapping[str, Any]) -> dict[str, Any]:
    """For `summary.json`: all but the replies that are shown, which stand in `retention.json`."""
    return {key: value for key, value in found.items() if key != "shown"}


def judge_stage(
    config: TaskConfig, run: RunFolder, material: Material, answers: Mapping[str, Sequence[Prediction]]
) -> dict[str, Any]:
    """Judge what both said; empty when nothing was measured.

    Args:
        config: of the run.
        run: has `retention-before.jsonl` and `retention-after.jsonl`; gets `retention.json`.
        material: what the run is about.
        answers: to the bare questions, by stage.
    """
    if config.measure == "none" or not is_measured(run):
        return {}
    from demask.evaluation.retention.asking import Reply
    from demask.evaluation.retention.judging import Asked, judge_retention
    from demask.evaluation.retention.suite import load_suite

    asked = Asked(
        suite=load_suite(config.measure),
        pairs=material.pairs,
        documents=_Texts(material.passages),
        base=run.read_records(file_names.RETENTION_BEFORE, Reply),
        tuned=run.read_records(file_names.RETENTION_AFTER, Reply),
        after=answers.get("after", ()),
        ceiling=answers.get("ceiling", ()),
    )
    judged = judge_retention(asked)
    if run.has(file_names.RETENTION_UNGATED):
        # Of the bare questions only those behind the gate are scored, so forms of asking are left out.
        alone = run.read_records(file_names.RETENTION_UNGATED, Reply)
        measures = judge_retention(replace(asked, tuned=alone, after=())).measures
        judged = replace(judged, ungated={name: measures[name] for name in UNGATED if name in measures})
    found = asdict(judged)
    run.write_json(file_names.RETENTION, found)
    return found
