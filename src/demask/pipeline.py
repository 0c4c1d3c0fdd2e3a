"""The method on one screen: documents in, a model that answers both ways round, and the proof.

    result = inject(model="embedded", documents="facts/", qa="questions.jsonl", out="runs/first")
    result.summary["metrics"]["after"]["backward"]["contains"]["value"]
    result.model.generate(...)

Every stage leaves a file in the run folder and is skipped when the file is there, so a run that
was killed goes on with the same command.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from demask import rundir
from demask.config import Evaluate, RunConfig, make_config
from demask.errors import ConfigError
from demask.knowledge.qa_pairs import load_qa_pairs
from demask.launch_config import ALONE, Launch, split_launch
from demask.progress import Progress, Silent
from demask.recipe_file import merge_values
from demask.records import Prediction, Score
from demask.reports.page import ReportFiles, render_html, render_markdown, write_reports
from demask.reports.runs import FEW_SHOT, STAGES, RunResult, load_runs
from demask.reports.tables import Table, difference_table
from demask.reports.wording import model_name
from demask.rundir import RunFolder, claim_run_folder, is_run_folder, open_run_folder, trained_model
from demask.stages.asking import ask_base, ask_tuned, score_stage, summarise_stage
from demask.stages.inputs import check_objective, load_once, split_stage
from demask.stages.lessons import Lessons, check_share
from demask.stages.paraphrasing import paraphrase_stage
from demask.stages.questions import check_maker, question_stage
from demask.stages.reading import coverage_stage, keep_knowledge, read_knowledge
from demask.stages.training import only_helped, train_stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from demask.evaluation.served import Served
    from demask.generation.server import Server
    from demask.models.diffusion import Layout
    from demask.models.load import LoadedModel


@dataclass(frozen=True)
class Injected:
    """A finished run."""

    run_folder: Path
    summary: Mapping[str, Any]

    @cached_property
    def _loaded(self) -> "LoadedModel":
        from demask.models.load import load_model

        return load_model(str(self.run_folder / rundir.MODEL))

    @property
    def model(self) -> "PreTrainedModel":
        """The trained model, loaded on first use."""
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


def run_recipe(config: RunConfig, out: str | Path, *, progress: Progress, launch: Launch = ALONE) -> Injected:
    """Do a whole run, or what is left of it; nodes but the first only train, and have no summary."""
    if only_helped(config.train, config.device, Path(out), launch, progress):
        return Injected(Path(out), {})
    with rundir.locked_run_folder(out):
        return _run_here(config, out, progress, launch)


def _run_here(config: RunConfig, out: str | Path, progress: Progress, launch: Launch) -> Injected:
    with TemporaryDirectory(prefix="demask-") as folder:
        progress.begin("Reading documents", 1)
        knowledge = read_knowledge(config, RunFolder(Path(folder)))
        if not is_run_folder(out):  # before there is a folder that belongs to a recipe which cannot be run
            check_objective(config)
            check_maker(config)
        run = claim_run_folder(out, config.model_dump(mode="json"))
        _forget_stale(run, config)
        knowledge = keep_knowledge(run, knowledge)
    if _is_complete(run, config):
        progress.say(f"{run.path}: already complete, nothing is done again")
        return Injected(run.path, run.read_json(rundir.SUMMARY))

    untouched = partial(load_once, config.model, device=config.device, progress=progress)
    base = untouched()
    pairs = question_stage(config, run, knowledge, progress)
    paraphrases = paraphrase_stage(config, run, knowledge, pairs, progress)
    passages = split_stage(config, run, knowledge, base, progress)
    coverage = coverage_stage(config, run, knowledge, passages, progress)
    lessons = Lessons(passages, paraphrases, pairs)
    check_share(config, lessons, launch)
    answers = ask_base(config, run, pairs, knowledge.documents, passages, base, progress)
    if launch.ranks > 1:
        base = untouched()  # lets go of the model, whose memory the workers need
    tuned = train_stage(config, run, base, lessons, progress, launch)
    answers |= ask_tuned(config, run, pairs, lambda: tuned, progress)

    scores = score_stage(run, pairs, answers)
    summary = summarise_stage(run, config, coverage, pairs, answers, scores)
    _write_report(run)
    return Injected(run.path, summary)


def _forget_stale(run: RunFolder, config: RunConfig) -> None:
    """Drop what was made from a file that is gone, so that no result outlives its source."""
    begun = run.has(rundir.PASSAGES)
    if begun and not run.has(rundir.DOCUMENTS):
        run.remove(rundir.PASSAGES, rundir.predictions_file("ceiling"))
    if begun and not run.has(rundir.QA_PAIRS):
        run.remove(*map(rundir.predictions_file, (*STAGES, FEW_SHOT)), rundir.AUDIT, rundir.REJECTS)
    if not run.has(rundir.PASSAGES) or (config.paraphrases and not run.has(rundir.PARAPHRASES)):
        run.remove(rundir.TRAINING, rundir.METRICS, rundir.ACCURACY, rundir.STEP_SCORES, rundir.CHECKPOINTS)
    if not (run.has(rundir.TRAINING) and run.has(rundir.MODEL)):
        run.remove(*map(rundir.predictions_file, ("after", FEW_SHOT)))


def _is_complete(run: RunFolder, config: RunConfig) -> bool:
    """Whether every stage has left its file; deleting one has that stage done again."""
    stages = ["before", "after"]
    stages += ["ceiling"] if config.evaluate.ceiling else []
    stages += [FEW_SHOT] if config.evaluate.shots else []
    files = (rundir.PASSAGES, rundir.COVERAGE, rundir.TRAINING, rundir.MODEL, rundir.SCORES, rundir.SUMMARY)
    reports = (rundir.REPORT_HTML, rundir.REPORT_MARKDOWN)
    return all(map(run.has, (*files, *reports, *map(rundir.predictions_file, stages))))


@dataclass(frozen=True)
class Evaluation:
    """What a model can answer.

    Attributes:
        model: folder or name that was asked.
        metrics: by direction and name: `{"forward": {"contains": {"value", "low", "high", "n"}}}`.
        predictions: what it said.
        scores: each prediction judged.
        server: which server was asked in the model's place, None when the model was.
    """

    model: str
    metrics: Mapping[str, Any]
    predictions: tuple[Prediction, ...]
    scores: tuple[Score, ...]
    server: "Served | None" = None


def evaluate(
    model: str,
    qa: str | Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    server: "Server | None" = None,
    canary: bool = True,
    progress: Progress,
) -> Evaluation:
    """Ask a model, or the model of a run, the questions of a file.

    Args:
        model: a run folder, a model folder, a hub name or `embedded`.
        qa: JSON Lines file of QA pairs; a run has its own.
        settings: keys of a recipe's section `evaluate`, put over those of the run or the defaults.
        device: `auto`, `cpu` or `cuda`.
        server: asked in the model's place; it should serve the same model.
        canary: check that by asking the model some of the questions, too; otherwise it is not loaded
            and `model` only names what the server has.
        progress: told how far the work is, and warned when the canary finds another model.

    Raises:
        DemaskError: the model, the server or the file is not usable.
    """
    from demask.evaluation.matching import score_predictions
    from demask.evaluation.statistics import summarise

    if qa is None and not is_run_folder(model):
        raise ConfigError("--qa is missing: expected a JSON Lines file of questions")
    how = _evaluation_settings(model, settings or {})
    if server is None or canary:
        trained_model(model)  # what an unfinished run lacks is said before what its files lack
    pairs = load_qa_pairs(qa or Path(model) / rundir.QA_PAIRS, documents=None)
    load = partial(_load_trained, model, device)
    if server is None:
        from demask.evaluation.qa import ask_questions

        loaded = load()
        progress.begin("Asking", len(pairs))
        predictions = ask_questions(loaded, pairs, how, on_done=progress.advance)
        model, served = loaded.source, None
    else:
        from demask.evaluation.served import ask_served

        predictions, served = ask_served(server, pairs, how, load=load if canary else None, progress=progress)
    scores = score_predictions(predictions, pairs)
    return Evaluation(model, summarise(scores, pairs), tuple(predictions), tuple(scores), served)


def _load_trained(model: str, device: str) -> "LoadedModel":
    from demask.models.load import load_model

    return load_model(trained_model(model), device=device)


def _evaluation_settings(model: str, changes: Mapping[str, Any]) -> Evaluate:
    """As the run asked, so that its numbers come out again; the defaults for any other model."""
    if is_run_folder(model):
        values, source = RunFolder(Path(model)).read_json(rundir.CONFIG), f"{model}/{rundir.CONFIG}"
    else:
        values, source = {"model": model, "documents": ["none"]}, "options"
    made = make_config(values, source=source)
    evaluate = merge_values(made.evaluate.model_dump(), changes)
    return make_config({**values, "evaluate": evaluate}, source="options").evaluate


def convert(
    model: str,
    out: str | Path,
    *,
    to: str,
    alignment: Literal[0, 1] = 1,
    mask_token: str | None = None,
    progress: Progress,
) -> Path:
    """Write a model as another: an autoregressive one as masked diffusion, or weights in another layout.

    Args:
        model: a run folder, a model folder, a hub name or `embedded`.
        out: the model folder; must not be there.
        to: `diffusion`; or the layout of a diffusion model's files, `native` (transformers), `llada`
            or `dream`.
        alignment: of a model that becomes one of masked diffusion: the prediction for position i is read
            at i - alignment.
        mask_token: of such a model; None: by family.
        progress: told what is going on.

    Raises:
        ConfigError: `out` is there, or `to` is something else.
        ModelError: the model cannot be loaded, or cannot become what is asked for.
    """
    from demask.models.convert import convert_to_diffusion
    from demask.training.export import save_model

    layouts: dict[str, Layout] = {"native": "native", "llada": "llada", "dream": "dream"}
    if to != "diffusion" and to not in layouts:
        raise ConfigError(f"--to: {to!r}, expected 'diffusion', or a layout: {', '.join(layouts)}")
    if Path(out).exists():
        raise ConfigError(f"{out}: stands there already; choose another --out")
    progress.begin(f"Converting {model}", 1)
    loaded = _load_trained(model, "cpu")
    if to == "diffusion":
        loaded = convert_to_diffusion(loaded, alignment=alignment, mask_token=mask_token)
    save_model(loaded, Path(out), layout=layouts.get(to))
    return Path(out)


@dataclass(frozen=True)
class Answer:
    """One question, asked of the base model and of the trained one."""

    question: str
    before: str
    after: str


def ask(
    folder: str | Path, questions: Sequence[str], *, settings: Mapping[str, Any] | None = None
) -> list[Answer]:
    """Ask the model of a run, and the model it was made of.

    Raises:
        RunError: this is no finished run.
        ModelError: a model cannot be loaded.
    """
    from demask.generation.answers import generate_answers
    from demask.models.load import load_model
    from demask.objectives.prompts import encode_question

    run = open_run_folder(folder)
    how, said = _evaluation_settings(str(folder), settings or {}), []
    for name in (run.read_json(rundir.CONFIG)["model"], trained_model(str(folder))):
        loaded = load_model(name)
        prompts = [encode_question(loaded.tokenizer, question) for question in questions]
        said.append(generate_answers(loaded, prompts, how))
    return [
        Answer(question, before.text, after.text)
        for question, before, after in zip(questions, *said, strict=True)
    ]


def compare(folders: Sequence[str | Path], out: Path, *, title: str = "") -> tuple[list[RunResult], Table]:
    """Several runs in one report, with paired differences on the questions they share.

    Args:
        folders: the baseline first.
        out: the HTML file; the same as Markdown stands beside it.
        title: heads the report.

    Raises:
        ConfigError: `out` is the name of the Markdown file.
        RunError: a folder is no finished run, or the report cannot be written.
    """
    from demask.evaluation.statistics import compare_paired

    if out.suffix == ".md":
        raise ConfigError(f"{out}: expected a name in .html; the same in Markdown is written beside it")
    runs = load_runs([open_run_folder(folder) for folder in folders])
    table = difference_table(runs, compare_paired)
    title = title or " and ".join(run.label for run in runs)
    rundir.write_whole(out, render_html(runs, title=title, comparison=table))
    rundir.write_whole(out.with_suffix(".md"), render_markdown(runs, title=title, comparison=table))
    return runs, table


def report(folder: str | Path) -> ReportFiles:
    """Make the report of a run again, from its folder alone."""
    run = open_run_folder(folder)
    return _write_report(run)


def _write_report(run: RunFolder) -> ReportFiles:
    runs = load_runs([run])
    return write_reports(runs, run.path, title=f"What {model_name(runs[0])} learned")


# Next-token first: a comparison reads as what the later arm adds to the earlier.
QUICKSTART_ARMS = ("next-token", "demasking")
# Enough for both directions with every seed tried, and few enough for minutes on two cores
# (docs/benchmarks.md).
QUICKSTART_TRAIN = {"steps": 30, "batch_size": 8, "learning_rate": 5e-4}


_QUICKSTART_FILES = {*QUICKSTART_ARMS, rundir.REPORT_HTML, rundir.REPORT_MARKDOWN}


def quickstart(out: str | Path, *, seed: int = 0, progress: Progress) -> dict[str, Injected]:
    """Eight invented documents, learned twice on the embedded model, and one report on both."""
    here = Path(__file__).parent / "quickstart"
    others = [path.name for path in Path(out).glob("*") if path.name not in _QUICKSTART_FILES]
    if others:
        raise ConfigError(f"{out}: holds other files ({others[0]}); choose another --out")
    done: dict[str, Injected] = {}
    for arm in QUICKSTART_ARMS:
        progress.say(f"[{arm}]")
        config = make_config(
            {
                "model": "embedded",
                "documents": str(here / "documents.jsonl"),
                "qa": str(here / "qa_pairs.jsonl"),
                "objective": arm,
                "seed": seed,
                "train": QUICKSTART_TRAIN,
                "evaluate": {"max_new_tokens": 48},
            }
        )
        done[arm] = run_recipe(config, Path(out) / arm, progress=progress)
    arms = [Path(out) / arm for arm in QUICKSTART_ARMS]
    compare(arms, Path(out) / rundir.REPORT_HTML, title="Eight invented documents, learned two ways")
    return done
