"""Models, the lab and the machine: convert, lab, doctor.

Imports stand inside the functions, so that `demask --help` answers before torch could be loaded.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from demask.commands.app import Json, app, going_on, open_terminal, print_json, show_progress


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
    from demask.tasks import convert as task

    shift: Literal[0, 1] = 1 if alignment else 0
    with show_progress() as progress:
        folder = task.convert(model, out, to=to, alignment=shift, mask_token=mask_token, progress=progress)
    if as_json:
        print_json({"model": str(folder)})
    else:
        print(f"Model: {folder}")


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
    from demask.lab.experiment import lab_table, read_sizes, run_lab, summarise_lab
    from demask.recipe.file import apply_overrides

    with going_on(out), show_progress() as progress:
        results = run_lab(
            out,
            seeds=seeds or (0, 1, 2),
            arms=arms,
            sizes=read_sizes(apply_overrides({}, sizes or [])),
            progress=progress,
        )
    if as_json:
        print_json(summarise_lab(results))
        return
    from demask.terminal import print_tables

    print_tables((lab_table(results),))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Environment, devices, versions, and a short speed probe."""
    from demask.tasks.doctor import diagnose

    findings = diagnose()
    if as_json:
        print_json(asdict(findings))
        return
    from demask.terminal import render_rows

    open_terminal().print(render_rows("demask doctor", findings.rows()))
