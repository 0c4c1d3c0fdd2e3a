"""Supervised fine-tuning and continued pre-training: sft.

Imports stand inside the functions, so that `demask --help` answers before torch could be loaded.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demask.commands.app import app, going_on, open_terminal, print_json, show_progress
from demask.errors import ConfigError
from demask.options import Data, Json, Model, Recipe, Set, read_sft_config

if TYPE_CHECKING:
    from demask.recipe.fine_tuning import SftConfig
    from demask.recipe.launch import Launch


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
    as_json: Json = False,
) -> None:
    """Fine-tune on prompts with answers, masked or plain.

    Or go on pre-training on running text. Leaves a model; a killed run goes on with the same command.
    """
    config, launch = read_sft_config(recipe, model, data, objective, overrides)
    if plan:
        print_sft_plan(config, launch, as_json=as_json)
        return
    if out is None:
        raise ConfigError("--out is missing: expected a folder for the run, as --out runs/sft")
    from demask.fine_tuning import run_sft

    with going_on(out), show_progress() as progress:
        result = run_sft(config, out, launch=launch, progress=progress)
    if not result.summary:  # a node other than the first has trained, and the first one has the rest
        return
    if as_json:
        print_json(result.summary)
        return
    from demask.terminal import describe_sft, render_rows

    open_terminal().print(render_rows("Fine-tuned", describe_sft(result.summary)))
    print(f"Model:  {out / 'model'}\nTry:    demask benchmark {out} --tasks gsm8k --limit 100")


def print_sft_plan(config: "SftConfig", launch: "Launch", *, as_json: bool) -> None:
    """What a run of `demask sft` would train and cost; a few of its steps are made to see."""
    from demask.stages.sft_planning import make_sft_plan

    with show_progress() as progress:
        made = make_sft_plan(config, launch, progress=progress)
    if as_json:
        print_json(asdict(made))
        return
    from demask.terminal import render_sft_plan

    open_terminal().print(render_sft_plan(made))
