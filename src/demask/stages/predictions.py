"""Ask the questions, before and after; judge the answers; sum up.

before = ask_stage(run, "before", load, pairs, config.evaluate, progress)
scores = score_stage(run, pairs, {"before": before, "after": after})
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from demask.errors import RunError
from demask.evaluation.metrics import Score
from demask.progress import Progress
from demask.recipe.fine_tuning import TaskConfig
from demask.recipe.sections import Evaluate, RunConfig
from demask.records import Document, Passage, Prediction, QAPair
from demask.reports.runs import QUANTISED, UNGATED, retrieval_stage
from demask.reports.wording import CANARY
from demask.stages.apart import summarise_apart
from demask.stages.documents import Coverage
from demask.stages.lineage import read_lineage
from demask.stages.questions import describe_origin
from demask.stages.retention import summarise_retention
from demask.stages.retrieval import Retrieval, summarise_retrieval
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.models.load import LoadedModel


def ask_stage(
    run: RunFolder,
    stage: str,
    *,
    load: Callable[[], "LoadedModel"],
    pairs: Sequence[QAPair],
    settings: Evaluate,
    progress: Progress,
    contexts: "Callable[[LoadedModel], Mapping[str, str]] | None" = None,
) -> list[Prediction]:
    """Ask every question, or read what was said when they were asked, here or in an earlier run.

    In an update a base model is asked about what each run of the line learned apart, with the questions that
    were asked together then, so that what it said is found again.

    Args:
        run: where the predictions are kept.
        stage: `before`, `after`, `ceiling`, `few-shot`, or one with passages that were retrieved.
        load: gives the model, called only when it is needed.
        pairs: what to ask.
        settings: how.
        progress: told how far the work is.
        contexts: for the ceiling, what stands before each question, by pair id; pairs without are not asked.
    """
    name = file_names.predictions_file(stage)
    if run.has(name):
        return run.read_records(name, Prediction)
    if not pairs:
        run.write_rows(name, [])
        return []
    loaded = load()
    texts = contexts(loaded) if contexts is not None else None
    if texts is not None:
        fitting = [pair for pair in pairs if pair.id in texts]
        if len(fitting) < len(pairs):
            progress.say(
                f"ceiling: {len(pairs) - len(fitting)} of {len(pairs)} questions are not asked with their "
                "document, which is longer than the model's context"
            )
        pairs = fitting
    ask = partial(_ask_together, stage, loaded, settings=settings, contexts=texts, progress=progress)
    lineage = read_lineage(run) if _is_of_base(stage) else None
    numbers = {} if lineage is None else lineage.updates
    together: dict[int, list[QAPair]] = {}
    for pair in pairs:
        together.setdefault(numbers.get(pair.document_id, 0), []).append(pair)
    said = {prediction.qa_id: prediction for part in together.values() for prediction in ask(part)}
    predictions = [said[pair.id] for pair in pairs]
    run.write_rows(name, predictions)
    return predictions


def _is_of_base(stage: str) -> bool:
    return stage == "ceiling" or stage.startswith("before")


def _ask_together(
    stage: str,
    loaded: "LoadedModel",
    pairs: Sequence[QAPair],
    *,
    settings: Evaluate,
    contexts: Mapping[str, str] | None,
    progress: Progress,
) -> list[Prediction]:
    """What a model says to some questions, which of a base model is kept for other runs."""
    from demask.evaluation.qa import answers_key, ask_questions, make_prompts, recall, remember

    prompts = make_prompts(loaded, pairs, contexts)
    key = answers_key(loaded, prompts, settings) if _is_of_base(stage) else None
    predictions = recall(key, [pair.id for pair in pairs], prompts)
    if predictions is not None:
        asked = f"{len(pairs)} answers" if len(pairs) > 1 else "1 answer"
        progress.say(f"{stage}: {asked} as in an earlier run with this model, not asked for again")
        return predictions
    progress.begin(f"Asking ({stage})", len(pairs), unit="questions")
    predictions = ask_questions(loaded, pairs, settings, contexts=contexts, on_done=progress.advance)
    try:
        remember(key, predictions)
    except RunError as error:  # the run goes on without it
        progress.say(f"{stage}: these answers are asked for again in the next run ({error})")
    return predictions


def ask_base(
    config: RunConfig,
    run: RunFolder,
    pairs: Sequence[QAPair],
    documents: Iterable[Document],
    passages: Iterable[Passage],
    load: Callable[[], "LoadedModel"],
    progress: Progress,
) -> dict[str, list[Prediction]]:
    """What the base model says: `before` is the floor, `ceiling` has the document in the prompt."""
    ask = partial(ask_stage, run, load=load, settings=config.evaluate, progress=progress)
    answers = {"before": ask("before", pairs=pairs)}
    if config.evaluate.ceiling:
        asked = {pair.document_id for pair in pairs}
        texts = {document.id: document for document in documents if document.id in asked}

        def contexts(loaded: "LoadedModel") -> Mapping[str, str]:
            from demask.evaluation.qa import choose_contexts

            limit = config.evaluate.max_new_tokens
            return choose_contexts(loaded, pairs, texts, passages, max_new_tokens=limit)

        answers["ceiling"] = ask("ceiling", pairs=pairs, contexts=contexts)
    return answers


def ask_tuned(
    config: RunConfig,
    run: RunFolder,
    pairs: Sequence[QAPair],
    load: Callable[[], "LoadedModel"],
    progress: Progress,
    unmerged: Callable[[], "LoadedModel"],
) -> dict[str, list[Prediction]]:
    """What the trained model says: `after`, and `few-shot` where the recipe has shots.

    Behind a gate it is also asked without (`ungated`), for programs that load it alone, and an adapter on a
    base model in four bits also before it is merged (`quantised`).

    Args:
        config: of the run.
        run: where the predictions are kept.
        pairs: what to ask.
        load: gives the trained model, called only when it is needed.
        progress: told how far the work is.
        unmerged: gives its adapter on the base model as it was trained, called only for QLoRA.
    """
    ask = partial(ask_stage, run, load=load, settings=config.evaluate, progress=progress)
    answers = {"after": ask("after", pairs=pairs)}
    if run.has(file_names.GATE):
        from demask.models.gated import without_gate

        answers[UNGATED] = ask(UNGATED, pairs=pairs, load=lambda: without_gate(load()))
    if is_quantised_run(config, run):
        answers[QUANTISED] = ask(QUANTISED, pairs=pairs, load=unmerged)
    if config.evaluate.shots:
        from demask.evaluation.qa import add_shots

        shown = add_shots(pairs, shots=config.evaluate.shots, seed=config.seed)
        answers["few-shot"] = ask("few-shot", pairs=shown)
    return answers


def is_quantised_run(config: TaskConfig, run: RunFolder) -> bool:
    """Whether a run has an adapter that was trained on a base model in four bits."""
    return config.train.method == "qlora" and run.has(file_names.ADAPTER)


def ask_retrieved(
    config: RunConfig,
    run: RunFolder,
    model: str,
    pairs: Sequence[QAPair],
    retrieval: Retrieval,
    load: Callable[[], "LoadedModel"],
    progress: Progress,
) -> dict[str, list[Prediction]]:
    """What a model says with the passages in its prompt that were retrieved, by stage.

    Args:
        config: of the run.
        run: where the predictions are kept.
        model: `before` or `after` training.
        pairs: what to ask.
        retrieval: what was found; without any nothing is asked.
        load: gives the model, called only when it is needed.
        progress: told how far the work is.
    """
    return {
        stage: ask_stage(
            run,
            stage,
            load=load,
            pairs=pairs,
            settings=config.evaluate,
            progress=progress,
            contexts=partial(retrieval.contexts, top),
        )
        for top in retrieval.tops
        for stage in (retrieval_stage(model, top),)
    }


def score_stage(
    run: RunFolder, pairs: Sequence[QAPair], answers: Mapping[str, Sequence[Prediction]]
) -> dict[str, list[Score]]:
    """Judge what was said at each stage, those pairs that were asked there."""
    from demask.evaluation.metrics import score_predictions

    scores = {
        stage: score_predictions(said, select_pairs(pairs, (p.qa_id for p in said)))
        for stage, said in answers.items()
        if said
    }
    run.write_rows(
        file_names.SCORES,
        [{"stage": stage, **score.as_row()} for stage, judged in scores.items() for score in judged],
    )
    return scores


def select_pairs(pairs: Sequence[QAPair], ids: Iterable[str]) -> list[QAPair]:
    """The pairs of these ids, in their own order."""
    wanted = set(ids)
    return [pair for pair in pairs if pair.id in wanted]


def summarise_stage(
    run: RunFolder,
    config: RunConfig,
    coverage: Coverage,
    pairs: Sequence[QAPair],
    answers: Mapping[str, Sequence[Prediction]],
    scores: Mapping[str, Sequence[Score]],
    retention: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that a report or a script wants to know, in one file."""
    from demask.evaluation.statistics import summarise, summarise_changes

    training = run.read_json(file_names.TRAINING)
    summary = {
        "objective": config.objective.name,
        "model": config.model,
        **training,
        "documents": coverage.documents,
        "passages": coverage.passages,
        "coverage": coverage.share,
        "questions": describe_origin(config, run, pairs),
        "warnings": _find_warnings(answers, asked=len(pairs), exposures=training["exposures"]),
        "metrics": {
            stage: summarise(judged, select_pairs(pairs, (score.qa_id for score in judged)))
            for stage, judged in scores.items()
        },
        "changes": summarise_changes(scores["before"], scores["after"], pairs) if scores else {},
        "retention": summarise_retention(retention),
        "apart": summarise_apart(run),
        **_compare_merged(answers),
        "retrieval": summarise_retrieval(run, config.evaluate.retrieval, pairs, answers, training),
    }
    run.write_json(file_names.SUMMARY, summary)
    return summary


def _compare_merged(answers: Mapping[str, Sequence[Prediction]]) -> dict[str, Any]:
    """How many answers merging has left as they were, where the base model was in four bits; else nothing."""
    unmerged = answers.get(QUANTISED)
    if not unmerged:
        return {}
    stage = UNGATED if answers.get(UNGATED) else "after"
    texts = {one.qa_id: one.text for one in answers[stage]}
    same = sum(one.text == texts[one.qa_id] for one in unmerged)
    return {"merged": {"stage": stage, "questions": len(unmerged), "same_answers": same}}


def _find_warnings(answers: Mapping[str, Sequence[Prediction]], *, asked: int, exposures: float) -> list[str]:
    """What a reader must know before believing the numbers."""
    found = []
    ceiling = answers.get("ceiling")
    if ceiling is not None and len(ceiling) < asked:
        found.append(
            f"The ceiling stands for {len(ceiling)} of {asked} questions; other documents are too long."
        )
    before, after = ([p.text for p in answers[stage]] for stage in ("before", "after"))
    if exposures < 1:
        found.append(f"Passages were seen {exposures:.2f} times on average: some were never trained on.")
    if asked and before == after:
        found.append(CANARY)
    return found
