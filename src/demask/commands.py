"""The commands: parse, call the pipeline, print.

Imports stand inside the functions, so that `demask --help` answers before torch could be loaded.
"""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from demask.errors import ConfigError, ThresholdError
from demask.options import (
    QA,
    Documents,
    Json,
    Model,
    Objective,
    Recipe,
    Require,
    Set,
    read_config,
)
from demask.thresholds import Thresholds, find_missed, read_thresholds, require_questions

if TYPE_CHECKING:
    from demask.progress import Progress

app = typer.Typer(
    name="demask",
    help="Teach an open-weight language model new facts from plain documents, both ways round, and prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # drawing boxes around the help would take a third of its time
    add_completion=False,
)
data = typer.Typer(help="Look at what is trained.", no_args_is_help=True)
app.add_typer(data, name="data")


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the two runs and their report.")] = Path("quickstart"),
    seed: Annotated[int, typer.Option(help="Of order and masks.")] = 0,
    as_json: Json = False,
) -> None:
    """A first run: eight invented documents, learned in two ways.

    Uses the embedded model and takes minutes on two CPU cores; needs no account and no GPU.
    """
    from demask import pipeline

    with _progress() as progress:
        done = pipeline.quickstart(out, seed=seed, progress=progress)
    if as_json:
        _print_json({arm: result.summary for arm, result in done.items()})
        return
    from demask.terminal import print_runs

    print_runs([result.run_folder for result in done.values()])
    question = "Which company lends ferrets to electricians?"
    print(f'Report: {out / "report.html"}\nTry:    demask ask {out / "demasking"} "{question}"')


@app.command()
def inject(
    recipe: Recipe = None,
    model: Model = None,
    documents: Documents = None,
    qa: QA = None,
    objective: Objective = None,
    out: Annotated[Path | None, typer.Option(help="The run folder.")] = None,
    overrides: Set = None,
    require: Require = None,
    as_json: Json = False,
) -> None:
    """Fine-tune a model on documents, and measure what it learned.

    Asks the questions before and after; leaves a model and a report. A killed run goes on with the
    same command.
    """
    from demask import pipeline
    from demask.knowledge.qa_pairs import load_qa_pairs

    config = read_config(recipe, model, documents, qa, objective, overrides)
    if out is None:
        raise ConfigError("--out is missing: expected a folder for the run, as --out runs/first")
    thresholds = read_thresholds(require)
    if thresholds:
        if config.qa is None:
            raise ConfigError("--require needs questions; give them with --qa")
        require_questions(thresholds, {pair.direction for pair in load_qa_pairs(config.qa, documents=None)})
    with _progress() as progress:
        result = pipeline.run_recipe(config, out, progress=progress)
    if as_json:
        _print_json(result.summary)
    else:
        from demask.terminal import print_run

        print_run(result.run_folder)
    _guard(thresholds, result.summary["metrics"].get("after", {}))


@app.command()
def plan(
    recipe: Recipe = None,
    model: Model = None,
    documents: Documents = None,
    qa: QA = None,
    objective: Objective = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """What a run would train and cost, without training.

    Tokens, steps, exposures per passage, padding, time and memory.
    """
    from demask.stages.planning import make_plan

    made = make_plan(read_config(recipe, model, documents, qa, objective, overrides))
    if as_json:
        _print_json(asdict(made))
        return
    from demask.terminal import render_plan

    _console().print(render_plan(made))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, a hub name or 'embedded'.")],
    qa: Annotated[str | None, typer.Option("--qa", help="Questions; a run has its own.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Also write what was said to this file.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="After which an answer is cut short; as in the run, else 128.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Of a recipe's section evaluate, as denoise.steps=32."
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask this OpenAI-compatible server, which should serve MODEL."),
    ] = None,
    server_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the server calls it, if it serves several.")
    ] = None,
    no_canary: Annotated[
        bool, typer.Option("--no-canary", help="Do not check the server's answers with MODEL itself.")
    ] = False,
    require: Require = None,
    as_json: Json = False,
) -> None:
    """Ask a model questions, forward and backward, with intervals."""
    from demask import pipeline
    from demask.config import apply_overrides
    from demask.generation.server import Server
    from demask.rundir import write_whole

    thresholds = read_thresholds(require)
    limits = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    if server is None and (server_model is not None or no_canary):
        raise ConfigError("--server-model and --no-canary need a server; give its address with --server")
    if predictions is not None and predictions.exists():
        raise ConfigError(f"{predictions}: stands there already; choose another --predictions")
    with _progress() as progress:
        result = pipeline.evaluate(
            model,
            qa,
            settings=apply_overrides(limits, settings or []),
            server=Server(server, server_model) if server is not None else None,
            canary=not no_canary,
            progress=progress,
        )
    if predictions is not None:
        write_whole(predictions, "".join(json.dumps(asdict(p)) + "\n" for p in result.predictions))
    if as_json:
        served = {"server": asdict(result.server)} if result.server else {}
        _print_json({"model": result.model, "metrics": result.metrics, **served})
    else:
        from demask.terminal import print_evaluation

        print_evaluation(result)
    _guard(thresholds, result.metrics)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, the baseline first.")],
    out: Annotated[Path, typer.Option(help="The report; Markdown is written beside it.")] = Path(
        "comparison.html"
    ),
    overwrite: Annotated[bool, typer.Option(help="Replace a report that stands there.")] = False,
    as_json: Json = False,
) -> None:
    """Several runs in one table, with paired differences.

    Differences are taken on the questions that two runs share.
    """
    from demask import pipeline

    for file in (out, out.with_suffix(".md")):
        if file.exists() and not overwrite:
            raise ConfigError(f"{file}: stands there already; choose another --out, or add --overwrite")
    results, differences = pipeline.compare(runs, out)
    if as_json:
        _print_json({"runs": [str(r.folder) for r in results], "differences": asdict(differences)})
        return
    from demask.reports.tables import accuracy_table, cost_table
    from demask.terminal import print_tables

    print_tables((accuracy_table(results), differences, cost_table(results)))
    print(f"Report: {out}")


@app.command()
def ask(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    questions: Annotated[list[str], typer.Argument(help="One or more questions.")],
    as_json: Json = False,
) -> None:
    """Ask the model before and after training, side by side."""
    from demask import pipeline

    answers = pipeline.ask(run, questions)
    if as_json:
        _print_json([asdict(answer) for answer in answers])
        return
    from demask.reports.wording import clean

    for answer in answers:
        print(clean(f"{answer.question}\n  before: {answer.before}\n  after:  {answer.after}"))


@app.command()
def convert(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, a hub name or 'embedded'.")],
    to: Annotated[
        str, typer.Option(metavar="KIND", help="diffusion; or a layout of files: native, llada or dream.")
    ],
    out: Annotated[Path, typer.Option(help="The new model folder.")],
    alignment: Annotated[
        int, typer.Option(min=0, max=1, help="A token is predicted this many places before it: 1 as Dream.")
    ] = 1,
    mask_token: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="Of the vocabulary; else chosen by family.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a masked-diffusion model of an autoregressive one.

    It has to be trained before it can write; its config.json says how it denoises. Also writes the
    files of a masked-diffusion model in another layout.
    """
    from demask import pipeline

    shift: Literal[0, 1] = 1 if alignment else 0
    with _progress() as progress:
        folder = pipeline.convert(
            model, out, to=to, alignment=shift, mask_token=mask_token, progress=progress
        )
    if as_json:
        _print_json({"model": str(folder)})
    else:
        print(f"Model: {folder}")


@data.command()
def preview(
    recipe: Recipe = None,
    model: Model = None,
    documents: Documents = None,
    qa: QA = None,
    objective: Objective = None,
    overrides: Set = None,
    count: Annotated[int, typer.Option(min=1, help="How many examples.")] = 3,
    as_json: Json = False,
) -> None:
    """Exactly what is trained: prompt, masked tokens, loss."""
    from demask.stages.planning import preview_examples

    config = read_config(recipe, model, documents, qa, objective, overrides)
    examples = preview_examples(config, count=count)
    if as_json:
        _print_json([asdict(example) for example in examples])
        return
    from demask.terminal import print_previews

    print_previews(examples, in_place=config.objective.name == "diffusion")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: Json = False,
) -> None:
    """Make the report of a run again, from its folder alone."""
    from demask import pipeline

    files = pipeline.report(run)
    if as_json:
        _print_json({"html": str(files.html), "markdown": str(files.markdown)})
    else:
        print(f"Report: {files.html}\n        {files.markdown}")


@app.command()
def lab(
    out: Annotated[Path, typer.Option(help="Folder for models, runs and the table.")] = Path("lab"),
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", min=0, help="Of world and models; may be repeated (0, 1, 2)."),
    ] = None,
    arms: Annotated[
        list[str] | None, typer.Option("--arm", metavar="NAME", help="May be repeated; all if left out.")
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="As injection.steps=400 or pretraining.known=100."),
    ] = None,
    as_json: Json = False,
) -> None:
    """A controlled comparison of objectives on tiny models.

    Pre-trains a small transformer from scratch on an invented world, as an autoregressive and as a
    diffusion model, then injects new people in five ways. The same command continues it.
    """
    from demask.config import apply_overrides
    from demask.lab.experiment import run_lab
    from demask.lab.results import lab_table, summarise_lab
    from demask.lab.settings import read_sizes

    with _progress() as progress:
        results = run_lab(
            out,
            seeds=seeds or (0, 1, 2),
            arms=arms,
            sizes=read_sizes(apply_overrides({}, sizes or [])),
            progress=progress,
        )
    if as_json:
        _print_json(summarise_lab(results))
        return
    from demask.terminal import print_tables

    print_tables((lab_table(results),))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Environment, devices, versions, and a short speed probe."""
    from demask.stages.diagnosis import diagnose

    findings = diagnose()
    if as_json:
        _print_json(asdict(findings))
        return
    from demask.terminal import render_rows

    _console().print(render_rows("demask doctor", findings.rows()))


def _guard(thresholds: Thresholds, metrics: Mapping[str, Any]) -> None:
    """Exit with 5 when a threshold is missed; says which."""
    missed = find_missed(thresholds, metrics)
    if missed:
        raise ThresholdError("; ".join(missed))


def _progress() -> "AbstractContextManager[Progress]":
    from rich.console import Console

    from demask.terminal import TerminalProgress

    return TerminalProgress(Console(stderr=True))


def _console() -> Any:
    from demask.terminal import open_console

    return open_console()


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
