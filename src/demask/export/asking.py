"""What exporting cost: the run's own questions, and prompts of the retention suite, asked again in llama.cpp.

    cost = ask_again(run, Path("out/first-q8_0.gguf"), progress=progress)
    cost.changes["backward"]["contains"].difference

Drift and the forms of asking are not measured again: llama.cpp gives no probabilities of a whole vocabulary,
and leaks and known facts show first what a quantisation breaks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demask.evaluation.metrics import MEASURES, Change, Estimate, score_predictions
from demask.evaluation.served import Canary, compare_texts
from demask.export.llama_server import Chat, ChatReply, ask_gguf
from demask.progress import Progress
from demask.recipe.sections import RunConfig, make_stored_config
from demask.records import Prediction, QAPair
from demask.reports.runs import UNGATED, read_estimate
from demask.reports.tables import Table, changes, format_measure
from demask.reports.wording import count, interval
from demask.stages.retention import read_material
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

# Of the suite; see above.
KINDS = ("everyday", "near-miss", "known")
KEPT = ("leak", "near_miss", "known")


@dataclass(frozen=True)
class ExportCost:
    """What a model says in llama.cpp, beside what it said when the run was made.

    Attributes:
        file: the GGUF file.
        texts: how many answers are the same, word for word.
        before: every metric of the run by direction, with `value`, `low`, `high` and `n`.
        after: the same of the file.
        changes: paired, by direction and metric.
        kept: of the run and of the file, by name of the measure; empty where the run did not measure.
    """

    file: str
    texts: Canary
    before: Mapping[str, Mapping[str, Any]]
    after: Mapping[str, Mapping[str, Any]]
    changes: Mapping[str, Mapping[str, Any]]
    kept: Mapping[str, tuple[Estimate, Estimate]]


def read_run_config(run: RunFolder) -> RunConfig:
    """The recipe of a run.

    Raises:
        ConfigError: another version of demask has written it, with keys that this one does not know.
    """
    return make_stored_config(run.read_json(file_names.CONFIG), source=str(run.file(file_names.CONFIG)))


def can_ask(run: RunFolder) -> bool:
    """Whether a run has questions with answers of its trained model."""
    name = file_names.predictions_file("after")
    return run.has(file_names.QA_PAIRS) and run.has(name) and bool(run.file(name).stat().st_size)


def ask_again(run: RunFolder, model: Path, *, adapter: Path | None = None, progress: Progress) -> ExportCost:
    """Ask a GGUF file what the run has asked its trained model.

    Args:
        run: finished, with questions.
        model: a GGUF file of it, or of its base model.
        adapter: a GGUF file of its adapter, put on the model.
        progress: told how far the work is.

    Raises:
        RunError: a file of the run is missing, or xllamacpp is.
        ModelError: llama.cpp cannot load the file.
    """
    from demask.evaluation.statistics import summarise, summarise_changes

    config = read_run_config(run)
    pairs = run.read_records(file_names.QA_PAIRS, QAPair)
    # A file has no gate, so it is compared with the trained model alone.
    alone = file_names.predictions_file(UNGATED)
    stage = alone if run.has(alone) else file_names.predictions_file("after")
    before = run.read_records(stage, Prediction)
    limit = config.evaluate.max_new_tokens
    chats = [Chat((("user", pair.question),), limit) for pair in pairs]
    probes = _choose_probes(run, config, pairs)
    chats += [Chat(tuple((turn.role, turn.content) for turn in probe.turns), most) for probe, most in probes]
    progress.begin("Asking llama.cpp", len(chats))
    said = ask_gguf(model, chats, adapter=adapter, on_done=progress.advance)
    after = [_as_prediction(pair.id, reply) for pair, reply in zip(pairs, said, strict=False)]
    scores = {name: score_predictions(answers, pairs) for name, answers in (("b", before), ("a", after))}
    return ExportCost(
        file=model.name,
        texts=compare_texts(after, before),
        before=summarise(scores["b"], pairs),
        after=summarise(scores["a"], pairs),
        changes=summarise_changes(scores["b"], scores["a"], pairs),
        kept=_judge_kept(run, config, pairs, [probe for probe, _ in probes], said[len(pairs) :]),
    )


def _as_prediction(id: str, reply: ChatReply) -> Prediction:
    return Prediction(id, reply.text, reply.tokens, reply.seconds, reply.stopped)


def _choose_probes(run: RunFolder, config: RunConfig, pairs: Sequence[QAPair]) -> list[tuple[Any, int]]:
    """Prompts of the suite, with the limits of their replies; none where the run has not measured."""
    if config.measure == "none" or not (
        run.has(file_names.RETENTION_BEFORE) and run.has(file_names.RETENTION)
    ):
        return []
    from demask.evaluation.retention.asking import Reply, limit_of
    from demask.evaluation.retention.judging import right_facts
    from demask.evaluation.retention.suite import Sources, known_facts, load_suite, tuned_probes

    suite = load_suite(config.measure)
    base = run.read_records(file_names.RETENTION_BEFORE, Reply)
    known = known_facts(suite.facts, right_facts(base, suite.facts))
    # The trained model was asked these; of the other prompts some did not fit its context.
    asked = {
        (reply.kind, reply.id, reply.form) for reply in run.read_records(file_names.RETENTION_AFTER, Reply)
    }
    return [
        (probe, limit_of(probe, config.evaluate))
        for probe in tuned_probes(suite, Sources(pairs, {}), known)
        if probe.kind in KINDS and (probe.kind, probe.id, probe.form) in asked
    ]


def _judge_kept(
    run: RunFolder,
    config: RunConfig,
    pairs: Sequence[QAPair],
    probes: Sequence[Any],
    replies: Sequence[ChatReply],
) -> dict[str, tuple[Estimate, Estimate]]:
    if not probes or config.measure == "none":
        return {}
    from demask.evaluation.retention.asking import Reply, make_reply
    from demask.evaluation.retention.judging import Asked, judge_retention
    from demask.evaluation.retention.suite import load_suite

    tuned = [
        make_reply(probe, _as_prediction(probe.id, reply))
        for probe, reply in zip(probes, replies, strict=True)
    ]
    found = judge_retention(
        Asked(
            suite=load_suite(config.measure),
            pairs=pairs,
            documents=[passage.training_text for passage in read_material(run).passages],
            base=run.read_records(file_names.RETENTION_BEFORE, Reply),
            tuned=tuned,
            after=(),
            ceiling=(),
        )
    ).measures
    judged = run.read_json(file_names.RETENTION)
    before = judged.get("ungated") or judged["measures"]
    return {
        name: (read_estimate(before[name]), found[name]) for name in KEPT if name in before and name in found
    }


def cost_tables(cost: ExportCost) -> tuple[Table, ...]:
    """What people want to know before they use the file."""
    rows = []
    for direction, metrics in cost.after.items():
        before, after = (read_estimate(found[direction]["contains"]) for found in (cost.before, cost.after))
        (change,) = changes([Change(**cost.changes[direction]["contains"])])
        rows.append(
            (direction, interval(before), interval(after), change, count(int(metrics["contains"]["n"])))
        )
    note = (
        f"Share of questions answered, with 95% intervals. {cost.texts.equal} of {cost.texts.asked} answers "
        "are the same, word for word."
    )
    tables = [
        Table(
            f"What {cost.file} answers", ("direction", "run", "llama.cpp", "change", "n"), tuple(rows), note
        )
    ]
    if cost.kept:
        kept = [
            (MEASURES[name].label, format_measure(name, before), format_measure(name, after), f"{after.n:,}")
            for name, (before, after) in cost.kept.items()
        ]
        tables.append(Table("What else it says", ("measure", "run", "llama.cpp", "n"), tuple(kept)))
    return tuple(tables)


def describe_cost(cost: ExportCost) -> dict[str, Any]:
    """For programs: the fields of `ExportCost`."""
    return asdict(cost)
