"""What goes on from a finished run: update, forget, undo, history.

Imports stand inside the functions, so that `demask --help` answers before torch could be loaded.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demask.commands.app import (
    Documents,
    Json,
    Only,
    Require,
    Set,
    add_only,
    app,
    going_on,
    guard,
    print_guarded_json,
    print_json,
    print_plan,
    show_progress,
)
from demask.errors import ConfigError

if TYPE_CHECKING:
    from demask.tasks.inject import Injected

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")]
Out = Annotated[Path | None, typer.Option(help="The new run folder.")]


@app.command()
def update(
    run: Run,
    documents: Documents = None,
    qa: Annotated[
        str | None,
        typer.Option("--qa", metavar="FILE", help="Questions about the new ones; made if left out."),
    ] = None,
    replaces: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A document of before that no longer holds. May be repeated."),
    ] = None,
    without_old_texts: Annotated[
        bool,
        typer.Option("--without-old-texts", help="Replay what the run's model says of the old documents."),
    ] = False,
    out: Out = None,
    only: Only = None,
    overrides: Set = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it would take, and stop.")] = False,
    require: Require = None,
    as_json: Json = False,
) -> None:
    """Teach a finished run new documents.

    In a run folder of its own, which remembers its parent: old passages are replayed beside the new ones, and
    all questions so far are asked. A killed update goes on with the same command.
    """
    from demask.evaluation.thresholds import read_thresholds
    from demask.tasks import update as task

    if not documents:
        raise ConfigError("--documents is missing: expected files or folders with what is new")
    overrides = add_only(overrides, only)
    news = task.News(documents, qa, replaces or (), old_texts=not without_old_texts)
    if plan:
        with show_progress() as progress:
            made = task.plan_update(run, news, overrides=overrides or (), progress=progress)
        print_plan(made, as_json=as_json)
        return
    place = _require_out(out, "runs/update")
    thresholds = read_thresholds(require)
    with going_on(place), show_progress() as progress:
        result = task.update(run, news, out=place, overrides=overrides or (), progress=progress)
    _print_result(result, as_json=as_json, require=require)
    guard(thresholds, result.summary["metrics"].get("after", {}), result.summary["retention"])


def _require_out(out: Path | None, example: str) -> Path:
    if out is None:
        raise ConfigError(f"--out is missing: expected a folder for the new run, as --out {example}")
    return out


def _print_result(result: "Injected", *, as_json: bool, require: str | None) -> None:
    from demask.evaluation.thresholds import read_thresholds
    from demask.terminal import print_run

    if not result.summary:  # a node other than the first has trained, and the first one has the rest
        return
    if as_json:
        metrics = result.summary["metrics"].get("after", {})
        print_guarded_json(result.summary, read_thresholds(require), metrics, result.summary["retention"])
    else:
        print_run(result.run_folder)


@app.command()
def forget(
    run: Run,
    document: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="What is taken back. May be repeated.")
    ] = None,
    out: Out = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Train a document back out of a finished run.

    To what the base model says to its prompts and questions, while the other documents are replayed. What is
    left is measured, which is no proof: data that must not be there ask for training anew without them.
    """
    from demask.tasks import update as task

    if not document:
        raise ConfigError("--document is missing: expected the id of a document; 'demask history' lists them")
    place = _require_out(out, "runs/forgotten")
    with going_on(place), show_progress() as progress:
        result = task.forget(run, document, out=place, overrides=overrides or (), progress=progress)
    _print_result(result, as_json=as_json, require=None)


@app.command()
def undo(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(help="A new model folder; where the parent's model belongs if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give back the model before a run, to the bit.

    That of its parent, or the base model. It is there, or is made of what the run has kept
    (train.keep_delta). RUN stays as it is.
    """
    from demask.tasks import undo as task

    done = task.undo(run, out=out)
    if as_json:
        print_json(asdict(done))
        return
    whose = f"the model of {done.parent}" if done.parent else "the base model"
    said = {
        "kept": "it was there, and was not written again",
        "copied": "copied from there",
        "delta": f"made of the model of {run} and its delta",
        "adapters": "made of an earlier model of the line and the adapters of the runs since",
    }
    print(f"Model:  {done.model}\n        {whose}, to the bit: {said[done.how]}")
    for name, digest in done.weights.items():
        print(f"        {name} sha256 {digest}")


@app.command()
def history(run: Run, as_json: Json = False) -> None:
    """The line of runs that one goes on from.

    Their documents, and how much each knew of all of them, and had kept of the base model.
    """
    from demask.tasks import undo as task

    rows = task.read_history(run)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    from demask.reports.line import history_table, removed_table, triangle_table
    from demask.terminal import print_tables

    triangle = triangle_table(rows if len(rows) > 1 else ())
    print_tables([history_table(rows), triangle, removed_table(rows)])
