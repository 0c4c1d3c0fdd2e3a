"""The method on one screen: documents in, a model that answers both ways round, and the proof.

    result = inject(model="embedded", documents="facts/", qa="questions.jsonl", out="runs/first")
    result.summary["metrics"]["after"]["backward"]["contains"]["value"]
    result.model.generate(...)

Every stage leaves a file in the run folder and is skipped when the file is there, so a run that
was killed goes on with the same command.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from demask.progress import Progress, Silent, Stoppable
from demask.recipe.launch import ALONE, Launch, split_launch
from demask.recipe.sections import RunConfig, make_config
from demask.records import Paraphrase, Passage, Prediction, QAPair
from demask.reports.runs import FEW_SHOT, QUANTISED, STAGES, UNGATED
from demask.stages.apart import REPLIES, ask_apart, is_asked, keep_apart, read_apart
from demask.stages.callbacks import EvaluationCallback
from demask.stages.documents import (
    Coverage,
    Knowledge,
    coverage_stage,
    keep_knowledge,
    read_knowledge,
    settle_knowledge,
)
from demask.stages.forgetting import (
    MODELS,
    check_forgetting,
    end_when_forgotten,
    forget_stage,
    forgets,
    forgetting_stages,
    judge_forgetting,
)
from demask.stages.gate import gated_once, make_gate_stage
from demask.stages.line import REMOVED_STAGES, add_line, ask_removed
from demask.stages.lineage import (
    Origin,
    add_old_passages,
    keep_lineage,
    load_start,
    load_unmerged,
    read_earlier,
    read_lineage,
    read_new,
    split_passages,
)
from demask.stages.loading import load_base
from demask.stages.paraphrases import paraphrase_stage
from demask.stages.passages import add_paraphrases, check_method, check_objective, check_weights, split_stage
from demask.stages.predictions import (
    ask_base,
    ask_retrieved,
    ask_tuned,
    is_quantised_run,
    score_stage,
    summarise_stage,
)
from demask.stages.questions import check_maker, question_stage
from demask.stages.recall import check_recall, choose_old_passages, recall_stage
from demask.stages.replay import add_replay, make_pool
from demask.stages.retained import Retained, keep_retained, read_retained
from demask.stages.retention import (
    RETENTION_FILES,
    Material,
    is_measured,
    judge_stage,
    measure_base,
    measure_tuned,
)
from demask.stages.retrieval import check_retrieval, retrieval_stages, retrieve_stage
from demask.stages.training import TrainingData, check_share, only_helped, train_stage
from demask.storage import file_names
from demask.storage.locks import end_if_stop_requested
from demask.storage.progress_file import recording
from demask.storage.run_folder import (
    RunFolder,
    claim_run_folder,
    is_run_folder,
    locked_run_folder,
)
from demask.tasks.evaluate import ask_field_tasks, write_report
from demask.tracking.mirror import tracking
from demask.tracking.trackers import check_tracker

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from demask.models.load import LoadedModel
    from demask.objectives.objective import Context
    from demask.stages.callbacks import Callback
    from demask.stages.training import Stream
    from demask.training.stream import ExposureStream


@dataclass(frozen=True)
class Injected:
    """A finished run."""

    run_folder: Path
    summary: Mapping[str, Any]

    @cached_property
    def _loaded(self) -> "LoadedModel":
        from demask.models.load import load_model

        return load_model(str(self.run_folder / file_names.MODEL))

    @property
    def model(self) -> "PreTrainedModel":
        """The trained model without its gate, loaded on first use."""
        return self._loaded.model

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Its tokenizer."""
        return self._loaded.tokenizer


def inject(
    *,
    model: str,
    documents: str | Path | Sequence[str | Path],
    out: str | Path,
    qa: str | Path | None = None,
    objective: str | Mapping[str, Any] = "demasking",
    progress: Progress | None = None,
    **settings: Any,
) -> Injected:
    """Teach a model the facts of documents, and measure what it can answer before and after.

    Args:
        model: `embedded`, a folder, or a hub name.
        documents: files, folders, patterns and data sets (`hf://OWNER/NAME?split=train&column=text`).
        out: the run folder; a run that was killed there goes on.
        qa: JSON Lines file of QA pairs; without it they are made of the documents; `no`: nothing is asked.
        objective: `demasking`, `next-token` or `reverse`, or a mapping with its options.
        progress: told how far the work is.
        settings: any other key of a recipe, as in `train={"steps": 100}, seed=1`.

    Raises:
        DemaskError: something is wrong with recipe, data, model or machine; one line says what.
    """
    values = {"model": str(model), "documents": documents, "objective": objective, **settings}
    if qa is not None:
        values["qa"] = str(qa)
    values, launch = split_launch(values, source="inject")
    config = make_config(values, source="inject")
    return run_recipe(config, out, progress=progress or Silent(), launch=launch)


def run_recipe(
    config: RunConfig,
    out: str | Path,
    *,
    progress: Progress,
    launch: Launch = ALONE,
    origin: Origin | None = None,
) -> Injected:
    """Do a whole run, or what is left of it; nodes but the first only train, and have no summary.

    Args:
        config: of the run.
        out: its folder.
        progress: told how far it is.
        launch: the recipe's section.
        origin: the run whose model is trained on; None: the base model is, or the folder says which.
    """
    if only_helped(config.train, config.device, Path(out), launch, progress):
        return Injected(Path(out), {})
    with locked_run_folder(out), recording(progress, Path(out)) as told:
        stoppable = Stoppable(told, partial(end_if_stop_requested, Path(out)))
        begun = read_lineage(RunFolder(Path(out)))
        return _run_here(config, out, stoppable, launch, origin or (begun.origin if begun else None))


def _run_here(
    config: RunConfig, out: str | Path, progress: Progress, launch: Launch, origin: Origin | None
) -> Injected:
    if launch.track is not None:
        check_tracker(launch.track)
    begun = _begin(config, out, progress, origin)
    with tracking(launch.track, begun.run, config.model_dump(mode="json"), progress) as told:
        return _train_and_measure(config, begun, progress=told, launch=launch)


def _train_and_measure(config: RunConfig, begun: "_Begun", *, progress: Progress, launch: Launch) -> Injected:
    """What is left of a run whose documents are read."""
    run, knowledge, retained = begun
    if _is_complete(run, config):
        progress.say(f"{run.path}: already complete, nothing is done again")
        return Injected(run.path, run.read_json(file_names.SUMMARY))

    lineage = read_lineage(run)
    untouched = partial(load_base, config, progress)
    base = untouched()
    pairs = question_stage(config, run, knowledge, progress)
    paraphrases = paraphrase_stage(config, run, knowledge, pairs, progress)
    passages = split_stage(config, run, knowledge, base, progress)
    fresh, old = split_passages(lineage, passages)
    coverage = coverage_stage(config, run, knowledge, fresh, progress)
    check_share(config, launch, samples=len(fresh or old) + len(paraphrases))
    answers = ask_base(config, run, pairs, knowledge.documents, passages, base, progress)
    material = Material(knowledge.documents, passages, pairs)
    retrieval = retrieve_stage(config.evaluate, run, pairs, passages, base, progress)
    answers |= ask_retrieved(config, run, "before", pairs, retrieval, base, progress)
    ask_apart(config, run, "before", base, progress)
    measure_base(config, run, material, base, progress)
    make_pool(config, run, retained, base, progress, passages)
    make_gate_stage(config, run, passages, base, progress)
    start = base if lineage is None else load_start(config, run, progress)
    forget_stage(config, run, lineage, base, start, progress)
    recall_stage(config, run, lineage, old, start, progress)
    if lineage is not None or launch.ranks > 1:
        base = untouched()  # lets go of the model, whose memory training needs, or the workers
        start = base if lineage is None else load_start(config, run, progress)
    tuned = train_stage(
        config, run, start, document_data(config, run, progress), progress=progress, launch=launch
    )
    return finish_run(
        config, run, material, answers, coverage=coverage, tuned=lambda: tuned, progress=progress
    )


class _Begun(NamedTuple):
    """A run folder with what is to be learned in it."""

    run: RunFolder
    knowledge: Knowledge
    retained: Retained


def _begin(config: RunConfig, out: str | Path, progress: Progress, origin: Origin | None) -> _Begun:
    """Read everything before there is a folder, and write it there."""
    with TemporaryDirectory(prefix="demask-") as place:
        folder = RunFolder(Path(place))
        progress.begin("Reading documents", 1)
        earlier = None if origin is None else read_earlier(origin)
        knowledge = (
            settle_knowledge(config, read_knowledge(config, folder), folder, progress)
            if earlier is None
            else read_new(config, earlier, folder, progress)
        )
        retained, apart = read_retained(config, progress), read_apart(config)
        if not is_run_folder(out):  # before there is a folder that belongs to a recipe which cannot be run
            _check(config)
            check_recall(config, origin)
            check_forgetting(config, origin)
        run = claim_run_folder(out, config.model_dump(mode="json"))
        if earlier is not None:
            keep_lineage(run, earlier, knowledge.new)
        _forget_stale(run, config)
        knowledge = keep_knowledge(run, knowledge)
        keep_retained(run, retained)
        keep_apart(run, apart)
        return _Begun(run, knowledge, retained)


def finish_run(
    config: RunConfig,
    run: RunFolder,
    material: Material,
    answers: Mapping[str, Sequence[Prediction]],
    *,
    coverage: Coverage,
    tuned: "Callable[[], LoadedModel]",
    progress: Progress,
) -> Injected:
    """Ask and measure a trained model, and write the report.

    Args:
        config: of the run.
        run: has all that comes before, the model and `training.json` among it.
        material: what the run is about.
        answers: of the base model, by stage.
        coverage: of the documents.
        tuned: gives the trained model, called only when it is needed; it is put behind the run's gate.
        progress: told how far the work is.
    """
    pairs, alone = material.pairs, tuned
    tuned = gated_once(config, run, tuned, progress)
    retrieval = retrieve_stage(config.evaluate, run, pairs, material.passages, tuned, progress)
    answers = {
        **answers,
        **ask_tuned(config, run, pairs, tuned, progress, partial(load_unmerged, config, run, progress)),
        **ask_retrieved(config, run, "after", pairs, retrieval, tuned, progress),
    }
    ask_removed(config, run, alone, progress)  # what is no longer taught, no gate would show
    ask_apart(config, run, "after", tuned, progress)
    measure_tuned(config, run, material, tuned, progress)
    ask_field_tasks(config, run, progress)
    scores = score_stage(run, pairs, answers)
    judged = judge_stage(config, run, material, answers)
    summary = summarise_stage(run, config, coverage, pairs, answers, scores, judged)
    summary = add_line(run, summary, judge_forgetting(config, run, alone, progress))
    write_report(run)
    return Injected(run.path, summary)


def _check(config: RunConfig) -> None:
    """See whether the recipe can be run here, as far as that shows without loading the model."""
    check_objective(config)
    check_weights(config)
    check_method(config)
    check_maker(config)
    check_retrieval(config.evaluate)


def document_data(config: RunConfig, run: RunFolder, progress: Progress) -> TrainingData:
    """What is trained and asked on the way, of a run whose earlier stages are done.

    Args:
        config: of the run.
        run: its folder.
        progress: told the accuracies on the way.

    Raises:
        RunError: a file is missing.
    """
    passages = run.open_records(file_names.PASSAGES, Passage)
    paraphrases = run.open_records(file_names.PARAPHRASES, Paraphrase) if config.paraphrases else ()
    pairs = run.read_records(file_names.QA_PAIRS, QAPair) if run.has(file_names.QA_PAIRS) else ()
    lineage = read_lineage(run)

    def make_exposures(context: "Context", device: "torch.device") -> "Stream":
        from demask.data.sequences import PassageSamples
        from demask.training.stream import make_stream

        fresh, old = split_passages(lineage, passages)
        texts = add_paraphrases(config, fresh or old, paraphrases, context)
        stream = make_stream(config, context, PassageSamples(texts, context.tokenizer))
        replayed = choose_old_passages(run, lineage, old) if fresh else ()
        beside = add_old_passages(config, stream, replayed, context)
        return add_replay(config, run, beside, context, device)

    def make_callback(
        loaded: "LoadedModel", context: "Context", learned: "ExposureStream[Any]"
    ) -> "Callback":
        callback = EvaluationCallback(config, run, loaded, context, learned, pairs, progress)
        return end_when_forgotten(config, run, callback, loaded, others=pairs, steps=learned.steps)

    return TrainingData(make_exposures, make_callback)


def _forget_stale(run: RunFolder, config: RunConfig) -> None:
    """Drop what was made from a file that is gone, so that no result outlives its source."""
    begun = run.has(file_names.PASSAGES)
    if begun and not run.has(file_names.DOCUMENTS):
        run.remove(file_names.PASSAGES, file_names.predictions_file("ceiling"), *RETENTION_FILES)
    if not run.has(file_names.APART):
        run.remove(*REPLIES.values())
    if begun and not run.has(file_names.QA_PAIRS):
        run.remove(
            *map(file_names.predictions_file, (*STAGES, FEW_SHOT)), file_names.AUDIT, file_names.REJECTS
        )
        run.remove(file_names.RETRIEVED, *RETENTION_FILES)
    if not run.has(file_names.PASSAGES):
        run.remove(file_names.RETRIEVED, file_names.GATE)
    if not run.has(file_names.RETRIEVED):
        run.remove(*map(file_names.predictions_file, retrieval_stages(config.evaluate, "before", "after")))
    if not run.has(file_names.RETENTION_BEFORE):
        run.remove(*RETENTION_FILES)
    if not run.has(file_names.PASSAGES) or (config.paraphrases and not run.has(file_names.PARAPHRASES)):
        run.remove(
            file_names.TRAINING,
            file_names.METRICS,
            file_names.ACCURACY,
            file_names.STEP_SCORES,
            file_names.CHECKPOINTS,
        )
    gone = config.retain.gate and not run.has(file_names.GATE)
    if gone or not (run.has(file_names.TRAINING) and run.has(file_names.MODEL)):
        stale = ("after", FEW_SHOT, UNGATED, QUANTISED, *REMOVED_STAGES, *forgetting_stages("after"))
        run.remove(*map(file_names.predictions_file, stale))
        run.remove(file_names.RETENTION_AFTER, file_names.RETENTION_UNGATED, file_names.APART_AFTER)
        run.remove(file_names.EXPORTED)
        run.remove(*map(file_names.predictions_file, retrieval_stages(config.evaluate, "after")))


def _is_complete(run: RunFolder, config: RunConfig) -> bool:
    """Whether every stage has left its file; deleting one has that stage done again."""
    stages = ["before", "after"]
    stages += ["ceiling"] if config.evaluate.ceiling else []
    stages += [FEW_SHOT] if config.evaluate.shots else []
    stages += [QUANTISED] if is_quantised_run(config, run) else []
    stages += retrieval_stages(config.evaluate, "before", "after")
    lineage = read_lineage(run)
    stages += REMOVED_STAGES if lineage is not None else []
    stages += forgetting_stages(*MODELS) if forgets(lineage) else []
    measured = config.measure == "none" or (is_measured(run) and run.has(file_names.RETENTION))
    measured = measured and (config.measure != "full" or run.has(file_names.RETENTION_TASKS))
    measured = measured and is_asked(run) and (run.has(file_names.GATE) or not config.retain.gate)
    files = (
        file_names.PASSAGES,
        file_names.COVERAGE,
        file_names.TRAINING,
        file_names.MODEL,
        file_names.SCORES,
        file_names.SUMMARY,
    )
    reports = (file_names.REPORT_HTML, file_names.REPORT_MARKDOWN)
    return measured and all(map(run.has, (*files, *reports, *map(file_names.predictions_file, stages))))
