"""What trains, and what it would train: quickstart, inject, sft, plan, data preview.

Imports stand inside the functions, so that `demask --help` answers before torch could be loaded.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demask.commands.app import (
    QA,
    App,
    Data,
    Documents,
    Json,
    Model,
    Objective,
    Only,
    Preset,
    Recipe,
    Require,
    Set,
    add_only,
    app,
    going_on,
    guard,
    open_terminal,
    print_guarded_json,
    print_json,
    print_plan,
    read_config,
    read_sft_config,
    read_task_config,
    show_progress,
)
from demask.errors import ConfigError

if TYPE_CHECKING:
    from demask.recipe.fine_tuning import TaskConfig
    from demask.recipe.launch import Launch

data = App(help="What is trained: look at it, or take it elsewhere.", no_args_is_help=True)
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
    from demask.comparison import side_by_side

    with going_on(out), show_progress() as progress:
        done = side_by_side.quickstart(out, seed=seed, progress=progress)
    if as_json:
        print_json({arm: result.summary for arm, result in done.items()})
        return
    from demask.terminal import print_runs

    print_runs([result.run_folder for result in done.values()])
    question = "Which company lends ferrets to electricians?"
    print(f'Report: {out / "report.html"}\nTry:    demask ask {out / "gated"} "{question}"')


@app.command()
def inject(
    recipe: Recipe = None,
    model: Model = None,
    documents: Documents = None,
    qa: QA = None,
    objective: Objective = None,
    preset: Preset = None,
    out: Annotated[Path | None, typer.Option(help="The run folder.")] = None,
    only: Only = None,
    overrides: Set = None,
    require: Require = None,
    as_json: Json = False,
) -> None:
    """Fine-tune a model on documents, and measure what it learned.

    Asks the questions before and after; leaves a model and a report. A killed run goes on with the
    same command.
    """
    from demask.evaluation import thresholds as required
    from demask.knowledge.files import load_qa_pairs
    from demask.recipe.sections import NO_QUESTIONS
    from demask.tasks import inject as task

    config, launch = read_config(recipe, model, documents, qa, objective, add_only(overrides, only), preset)
    if out is None:
        raise ConfigError("--out is missing: expected a folder for the run, as --out runs/first")
    thresholds = required.read_thresholds(require)
    if thresholds:
        if config.qa == NO_QUESTIONS and required.asks_questions(thresholds):
            raise ConfigError("--require needs questions; leave out --qa no")
        if config.qa not in (None, NO_QUESTIONS):
            asked = {pair.direction for pair in load_qa_pairs(config.qa, documents=None)}
            required.require_questions(thresholds, asked)
        required.require_measures(thresholds, measured=config.measure != "none")
    with going_on(out), show_progress() as progress:
        result = task.run_recipe(config, out, progress=progress, launch=launch)
    if not result.summary:  # a node other than the first has trained, and the first one has the rest
        return
    metrics = result.summary["metrics"].get("after", {})
    if as_json:
        print_guarded_json(result.summary, thresholds, metrics, result.summary["retention"])
    else:
        from demask.terminal import print_run

        print_run(result.run_folder)
    guard(thresholds, metrics, result.summary["retention"])


@app.command()
def retain(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run, which stays as it is.")],
    budget: Annotated[
        float | None, typer.Option(help="Drift that it may have, in nats per token, as 0.03.")
    ] = None,
    gate: Annotated[
        bool | None,
        typer.Option(
            "--gate/--no-gate",
            help="Let the base model answer what is not about the documents; as in RUN if left out.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The new run folder; RUN-retained if left out.")] = None,
    require: Require = None,
    as_json: Json = False,
) -> None:
    """Keep more of a run's base model.

    With a budget the trained model moves back towards its base as far as that asks for; with a gate the base
    answers what is not about the documents. Leaves a run of its own: the model, the questions asked again,
    retention measured again, and a report.
    """
    from demask.evaluation.thresholds import read_thresholds
    from demask.tasks import retain as task

    thresholds = read_thresholds(require)
    with going_on(out), show_progress() as progress:
        result = task.retain(run, budget=budget, gate=gate, out=out, progress=progress)
    metrics = result.summary["metrics"].get("after", {})
    if as_json:
        print_guarded_json(result.summary, thresholds, metrics, result.summary["retention"])
    else:
        from demask.terminal import print_run

        print_run(result.run_folder)
    guard(thresholds, metrics, result.summary["retention"])


@app.command()
def plan(
    recipe: Recipe = None,
    model: Model = None,
    documents: Documents = None,
    qa: QA = None,
    objective: Objective = None,
    preset: Preset = None,
    only: Only = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """What a run would train and cost, before it starts.

    Tokens, steps, exposures per passage, questions, padding, time and memory. A few steps are made
    to see, and thrown away.
    """
    made = read_task_config(recipe, model, documents, qa, objective, add_only(overrides, only), preset)
    _print_plan(*made, as_json=as_json)


def _print_plan(config: "TaskConfig", launch: "Launch", *, as_json: bool) -> None:
    """A few steps of the run are made to see."""
    from demask.tasks.planning import make_plan

    with show_progress() as progress:
        made = make_plan(config, launch=launch, progress=progress)
    print_plan(made, as_json=as_json)


@data.command()
def preview(
    recipe: Recipe = None,
    model: Model = None,
    documents: Documents = None,
    qa: QA = None,
    objective: Objective = None,
    preset: Preset = None,
    only: Only = None,
    overrides: Set = None,
    count: Annotated[int, typer.Option(min=1, help="How many examples.")] = 3,
    as_json: Json = False,
) -> None:
    """Exactly what is trained: prompt, masked tokens, loss."""
    from demask.tasks.planning import preview_examples

    config, _ = read_task_config(recipe, model, documents, qa, objective, add_only(overrides, only), preset)
    with show_progress() as progress:
        examples = preview_examples(config, count=count, progress=progress)
    if as_json:
        print_json([asdict(example) for example in examples])
        return
    from demask.terminal import print_previews

    print_previews(examples, in_place=config.objective.needs.diffusion)


@app.command()
def sft(
    recipe: Recipe = None,
    model: Model = None,
    data: Data = None,
    objective: Annotated[
        str | None, typer.Option(metavar="NAME", help="masked-sft (default), sft, masked-cpt or cpt.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder.")] = None,
    overrides: Set = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it would take, and stop.")] = False,
    require: Require = None,
    as_json: Json = False,
) -> None:
    """Fine-tune on prompts with answers, masked or plain.

    Or go on pre-training on running text. Leaves a model and a report, which says what else changed; a
    killed run goes on with the same command.
    """
    from demask.evaluation import thresholds as required

    config, launch = read_sft_config(recipe, model, data, objective, overrides)
    thresholds = required.read_thresholds(require)
    required.require_of_samples(thresholds)
    required.require_measures(thresholds, measured=config.measure != "none")
    if plan:
        _print_plan(config, launch, as_json=as_json)
        return
    if out is None:
        raise ConfigError("--out is missing: expected a folder for the run, as --out runs/sft")
    from demask.tasks.fine_tune import run_sft

    with going_on(out), show_progress() as progress:
        result = run_sft(config, out, launch=launch, progress=progress)
    if not result.summary:  # a node other than the first has trained, and the first one has the rest
        return
    if as_json:
        print_guarded_json(result.summary, thresholds, {}, result.summary["retention"])
    else:
        from demask.terminal import describe_sft, render_rows

        open_terminal().print(render_rows("Fine-tuned", describe_sft(result.summary)))
        print(f"Model:  {out / 'model'}\nReport: {out / 'report.html'}")
        print(f"Try:    demask benchmark {out} --tasks gsm8k --limit 100")
    guard(thresholds, {}, result.summary["retention"])
