"""Ask a finished model: questions of a file with metrics, or any question before and after training.

found = evaluate("runs/first", progress=Silent())
found.metrics["backward"]["contains"]["value"]
ask("runs/first", ["Who founded Orlin?"])[0].after
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from demask.errors import ConfigError, DataError, ModelError, RunError
from demask.evaluation.metrics import Score
from demask.knowledge.files import load_qa_pairs
from demask.progress import Progress
from demask.recipe.file import merge_values
from demask.recipe.fine_tuning import TaskConfig, make_stored_task_config
from demask.recipe.sections import Evaluate, Measured, Train, make_config, make_stored_config
from demask.records import Passage, Prediction, QAPair
from demask.reports.page import ReportFiles, write_reports
from demask.reports.runs import STAGES, load_runs, retrieval_stage
from demask.reports.wording import model_name
from demask.stages.documents import read_knowledge
from demask.stages.gate import gated, read_gate_file
from demask.stages.loading import load_base, load_once
from demask.stages.passages import split_stage
from demask.stages.retention import (
    forget_other_sizes,
    judge_stage,
    measure_base,
    measure_tuned,
    read_material,
    summarise_retention,
)
from demask.stages.retrieval import check_retrieval, retrieve_stage, summarise_retrieval
from demask.storage import file_names
from demask.storage.run_folder import RunFolder, is_run_folder, open_run_folder, trained_model

if TYPE_CHECKING:
    from demask.evaluation.served import Served
    from demask.generation.server import Server
    from demask.models.load import LoadedModel


# Of `measure: full`, asked by lm-evaluation-harness; `demask benchmark` asks all of their questions.
TASKS = ("arc_easy", "arc_challenge", "hellaswag", "nq_open", "ifeval", "mmlu_pro", "gsm8k")
QUESTIONS = 200  # of each task, the first ones


@dataclass(frozen=True)
class Evaluation:
    """What a model can answer.

    Attributes:
        model: folder or name that was asked.
        metrics: by direction and name: `{"forward": {"contains": {"value", "low", "high", "n"}}}`.
        predictions: what it said.
        scores: each prediction judged.
        retention: of a run, what else training changed, as in `retention.json`; empty when not measured.
        run_folder: of the run that was asked its own questions.
        retrieval: with passages in the prompt, as in `summary.json`, and `metrics` by stage; empty without.
        server: which server was asked in the model's place, None when the model was.
    """

    model: str
    metrics: Mapping[str, Any]
    predictions: tuple[Prediction, ...]
    scores: tuple[Score, ...]
    server: "Served | None" = None
    retention: Mapping[str, Any] = field(default_factory=dict)
    run_folder: Path | None = None
    retrieval: Mapping[str, Any] = field(default_factory=dict)


def evaluate(
    model: str,
    qa: str | Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    server: "Server | None" = None,
    canary: bool = True,
    measure: Measured | None = None,
    progress: Progress,
) -> Evaluation:
    """Ask a model, or the model of a run, the questions of a file.

    Args:
        model: a run folder, a model folder, a hub name or `embedded`.
        qa: JSON Lines file of QA pairs; a run has its own.
        settings: keys of a recipe's section `evaluate`, put over those of the run or the defaults.
        server: asked in the model's place; it should serve the same model.
        canary: check that by asking the model some of the questions, too; otherwise it is not loaded
            and `model` only names what the server has.
        measure: what else training changed, of a run that is asked its own questions; None: as the run's
            recipe says. What the run has measured already is not measured again.
        progress: told how far the work is, and warned when the canary finds another model.

    Raises:
        DemaskError: the model, the server or the file is not usable.
    """
    from demask.evaluation.metrics import score_predictions
    from demask.evaluation.statistics import summarise

    if qa is None and not is_run_folder(model):
        raise ConfigError("--qa is missing: expected a JSON Lines file of questions")
    run = open_run_folder(model) if qa is None else None
    how = evaluation_settings(model, settings or {})
    # What an unfinished run lacks is said before what its files lack.
    name = trained_model(model) if server is None or canary else model
    pairs = load_qa_pairs(qa or Path(model) / file_names.QA_PAIRS, documents=None)
    load = load_once(name, device="auto", progress=progress)
    if server is None:
        from demask.evaluation.qa import ask_questions

        loaded = load()
        progress.begin("Asking", len(pairs), unit="questions")
        predictions = ask_questions(loaded, pairs, how, on_done=progress.advance)
        model, served = _shown_name(loaded), None
    else:
        from demask.evaluation.served import ask_served

        predictions, served = ask_served(server, pairs, how, load=load if canary else None, progress=progress)
    scores = score_predictions(predictions, pairs)
    retention = measure_run(run, measure, progress=progress) if run and server is None else {}
    metrics = summarise(scores, pairs)
    folder = run.path if run else None
    return Evaluation(model, metrics, tuple(predictions), tuple(scores), served, retention, folder)


def evaluate_retrieval(
    model: str,
    qa: str | Path | None = None,
    documents: Sequence[str] = (),
    *,
    settings: Mapping[str, Any],
    progress: Progress,
) -> Evaluation:
    """Ask a model the questions of a file bare, and with the passages that BM25 finds in documents.

    Args:
        model: a run folder, a model folder, a hub name or `embedded`.
        qa: JSON Lines file of QA pairs; a run has its own.
        documents: files, folders and patterns; a run has its own passages.
        settings: keys of a recipe's section `evaluate`, `retrieval` among them.
        progress: told how far the work is.

    Raises:
        DemaskError: the model, the documents or the file is not usable, or Python's SQLite has no FTS5.
    """
    from demask.evaluation.metrics import score_predictions
    from demask.evaluation.qa import ask_questions
    from demask.evaluation.statistics import summarise

    how, of_run = evaluation_settings(model, settings), is_run_folder(model)
    if qa is None and not of_run:
        raise ConfigError("--qa is missing: expected a JSON Lines file of questions")
    if not documents and not of_run:
        raise ConfigError("--documents is missing: expected files or folders to retrieve passages from")
    check_retrieval(how)
    trained_model(model)  # what an unfinished run lacks is said at once

    @cache
    def load() -> "LoadedModel":
        progress.begin(f"Loading {model}", 1)
        return load_trained_model(model, "auto")

    stage = "after" if of_run else "before"
    with TemporaryDirectory(prefix="demask-") as temporary:
        folder = RunFolder(Path(temporary))
        pairs, passages = _read_to_retrieve(model, qa, documents, folder, load, progress)
        retrieval = retrieve_stage(how, folder, pairs, passages, load, progress)
        rounds: dict[str, Mapping[str, str] | None] = {stage: None}
        rounds |= {retrieval_stage(stage, top): retrieval.contexts(top) for top in retrieval.tops}
        progress.begin("Asking", len(rounds) * len(pairs), unit="questions")
        answers = {
            name: ask_questions(load(), pairs, how, contexts=contexts, on_done=progress.advance)
            for name, contexts in rounds.items()
        }
        found = summarise_retrieval(folder, how.retrieval, pairs, answers, {})
    scores = {name: score_predictions(said, pairs) for name, said in answers.items()}
    metrics = {name: summarise(judged, pairs) for name, judged in scores.items()}
    return Evaluation(
        _shown_name(load()),
        metrics[stage],
        tuple(answers[stage]),
        tuple(scores[stage]),
        retrieval={**found, "metrics": metrics} if found else {},
    )


def _read_to_retrieve(
    model: str,
    qa: str | Path | None,
    documents: Sequence[str],
    folder: RunFolder,
    load: "Callable[[], LoadedModel]",
    progress: Progress,
) -> tuple[Sequence[QAPair], Sequence[Passage]]:
    """Questions and passages, split as training would split them; kept in a folder."""
    run = RunFolder(Path(model))
    if is_run_folder(model):
        values, source = run.read_json(file_names.CONFIG), f"{model}/{file_names.CONFIG}"
        qa = qa or run.file(file_names.QA_PAIRS)
    else:
        values, source = {"model": model}, "options"
    if not documents:
        kept = run.open_records(file_names.PASSAGES, Passage)
        return load_qa_pairs(qa or "", documents={passage.document_id for passage in kept}), kept
    values = {**values, "qa": str(qa), "documents": list(documents), "paraphrases": 0}
    progress.begin("Reading documents", 1)
    knowledge = read_knowledge(make_config(values, source=source), folder)
    if not is_run_folder(model) and load().diffusion is not None:
        values["objective"] = "diffusion"  # none but this can split for such a model
    passages = split_stage(make_config(values, source=source), folder, knowledge, load, progress)
    return knowledge.pairs or (), passages


def measure_run(run: RunFolder, measure: Measured | None = None, *, progress: Progress) -> dict[str, Any]:
    """What else training changed in a finished run; adds it to the run's summary and report.

    Args:
        run: with its model; its base model is loaded, too, unless it has been asked before.
        measure: how much; None: as the run's recipe says, and what it has measured is not measured again.
        progress: told how far the work is.

    Raises:
        ModelError: one of the two models cannot be loaded.
    """
    source = f"{run.path}/{file_names.CONFIG}"
    config = make_stored_task_config(run.read_json(file_names.CONFIG), source=source)
    if measure is not None:
        config = config.model_copy(update={"measure": measure})
    if config.measure == "none":
        return {}
    forget_other_sizes(run, config.measure)
    material = read_material(run)
    base = load_base(config, progress)
    tuned = partial(load_trained_model, str(run.path), config.device)
    measure_base(config, run, material, base, progress)
    measure_tuned(config, run, material, tuned, progress)
    ask_field_tasks(config, run, progress)
    answers = {
        stage: run.read_records(file_names.predictions_file(stage), Prediction)
        for stage in STAGES
        if run.has(file_names.predictions_file(stage))
    }
    found = judge_stage(config, run, material, answers)
    run.write_json(
        file_names.SUMMARY, {**run.read_json(file_names.SUMMARY), "retention": summarise_retention(found)}
    )
    write_report(run)
    return found


def ask_field_tasks(config: TaskConfig, run: RunFolder, progress: Progress) -> None:
    """Ask the base model and the trained one the field's tasks, with `measure: full`.

    A task whose questions cannot be had here is named with the reason, and the others are asked.
    """
    if config.measure != "full" or run.has(file_names.RETENTION_TASKS):
        return
    from demask.harness.benchmark import run_benchmark
    from demask.harness.tasks import Asking

    rows, missing = [], []
    for task in TASKS:
        try:
            found = run_benchmark(
                [config.model, str(run.path)],
                [task],
                asking=Asking(limit=QUESTIONS, device=config.device),
                out=run.file(file_names.BENCHMARK),
                progress=progress,
            )
        except (ConfigError, DataError, ModelError, RunError) as error:
            missing.append(f"{task}: {str(error).removeprefix(f'{task}: ')}")
            continue
        scores = {
            (result.model, measure.metric): measure.value
            for result in found.results
            for measure in result.measures
        }
        rows += [
            {
                "task": difference.task,
                "metric": difference.metric,
                "before": scores[difference.baseline, difference.metric],
                "after": scores[difference.model, difference.metric],
                "change": asdict(difference.change),
            }
            for difference in found.differences
        ]
    run.write_json(file_names.RETENTION_TASKS, {"tasks": rows, "missing": missing})


def report(folder: str | Path) -> ReportFiles:
    """Make the report of a run again, from its folder alone."""
    run = open_run_folder(folder)
    return write_report(run)


def write_report(run: RunFolder) -> ReportFiles:
    """Write the report of a run from its folder alone."""
    runs = load_runs([run])
    return write_reports(runs, run.path, title=f"What {model_name(runs[0])} learned")


def _shown_name(loaded: "LoadedModel") -> str:
    """Where a model was read from; of one in another form the file that the user knows, and not the cache."""
    from demask.models.load import describe_form

    return loaded.source if describe_form(loaded.name) is None else loaded.name


def load_trained_model(model: str, device: str) -> "LoadedModel":
    """The model of a run, behind its gate where it has one, or any other, by name."""
    from demask.models.load import load_model, place_to_ask

    place = trained_model(model)
    if not is_run_folder(model):
        return load_model(place, device=device)
    run = RunFolder(Path(model))
    config = run.read_json(file_names.CONFIG)
    train = Train.model_construct(**config.get("train", {}))  # an older run may have keys that are gone
    loaded = load_model(place, device=place_to_ask(place, device, train.merged), frozen=train.merged)

    def load_its_base() -> "LoadedModel":
        beside = place_to_ask(config["model"], device, train.merged, copies=2)
        return load_model(config["model"], device=beside, frozen=train.frozen)

    return gated(run, loaded, load_its_base)


def evaluation_settings(model: str, changes: Mapping[str, Any]) -> Evaluate:
    """As the run asked, so that its numbers come out again; the defaults for any other model."""
    if is_run_folder(model):
        values, source = RunFolder(Path(model)).read_json(file_names.CONFIG), f"{model}/{file_names.CONFIG}"
    else:
        values, source = {"model": model, "documents": ["none"]}, "options"
    made = make_stored_config(values, source=source)
    evaluate = merge_values(made.evaluate.model_dump(), changes)
    return make_stored_config({**values, "evaluate": evaluate}, source="options").evaluate


@dataclass(frozen=True)
class Answer:
    """One question, asked of the base model and of the trained one.

    Attributes:
        question: as it was asked.
        before: what the base model says.
        after: what the trained model says, or its base where the run's gate stays shut.
        is_open: whether the trained model answered; always, where there is no gate.
    """

    question: str
    before: str
    after: str
    is_open: bool = True


def ask(
    folder: str | Path,
    questions: Sequence[str],
    *,
    settings: Mapping[str, Any] | None = None,
    on_text: Callable[[str, str], None] | None = None,
) -> list[Answer]:
    """Ask the model of a run, and the model it was made of.

    The trained weights are loaded once the base model has answered, and only where the run's gate opens to a
    question: to the others the base model's answer stands.

    Args:
        folder: of a finished run.
        questions: as a user would type them.
        settings: keys of a recipe's section `evaluate`, put over those of the run.
        on_text: told `before` or `after`, and a piece of that answer while it is written, the first one
            empty; of a single question, as several are answered together.

    Raises:
        RunError: this is no finished run.
        ModelError: a model cannot be loaded.
    """
    from demask.models.gated import check_same_weights, find_open
    from demask.models.load import load_architecture, load_model, load_tokenizer, outline_model
    from demask.objectives.prompts import encode_question, load_chat_format

    run = open_run_folder(folder)
    name = trained_model(str(folder))  # what an unfinished run lacks is said before its base model is asked
    gate = read_gate_file(run) if run.has(file_names.GATE) else None
    how = evaluation_settings(str(folder), settings or {})
    tell = on_text if len(questions) == 1 else None
    loaded = load_trained_model(run.read_json(file_names.CONFIG)["model"], "auto")
    if gate is not None:
        check_same_weights(loaded, outline_model(load_architecture(name)), name)
    asked = [encode_question(loaded.tokenizer, question) for question in questions]
    before = _answer(loaded, asked, how, tell and partial(tell, "before"))
    del loaded  # one model at a time
    prompts, opened, after = asked, [True] * len(questions), list(before)
    if gate is not None:
        tokenizer = load_tokenizer(name)
        prompts = [encode_question(tokenizer, question) for question in questions]
        opened = find_open(gate, tokenizer, load_chat_format(tokenizer), prompts)
    # The trained model's template may make another prompt, which the base model has not been asked.
    places = [place for place, prompt in enumerate(prompts) if opened[place] or prompt != asked[place]]
    if places:
        alone = all(opened[place] for place in places)
        loaded = load_model(name) if alone else load_trained_model(str(folder), "auto")
        chosen = [encode_question(loaded.tokenizer, questions[place]) for place in places]
        texts = _answer(loaded, chosen, how, tell and partial(tell, "after"))
        for place, text in zip(places, texts, strict=True):
            after[place] = text
    elif tell is not None:
        tell("after", after[0])
    return [Answer(*row) for row in zip(questions, before, after, opened, strict=True)]


def _answer(
    loaded: "LoadedModel",
    prompts: Sequence[Sequence[int]],
    settings: Evaluate,
    on_text: Callable[[str], None] | None,
) -> list[str]:
    """Continue every prompt; where somebody listens, one after another, told while they are written."""
    from demask.generation.answers import generate_answers, stream_answer

    if on_text is None:
        return [said.text for said in generate_answers(loaded, prompts, settings)]
    on_text("")
    return [stream_answer(loaded, prompt, settings, on_text=on_text).text for prompt in prompts]
