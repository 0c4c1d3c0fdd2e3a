"""What asks models and shows what they said: evaluate, compare, ask, report, benchmark.

Imports stand inside the functions, so that `demask --help` answers before torch could be loaded.
"""

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from demask.commands.app import (
    Json,
    Measure,
    Require,
    app,
    going_on,
    guard,
    print_guarded_json,
    print_json,
    read_measure,
    show_progress,
)
from demask.errors import ConfigError


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
    documents: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="To retrieve from; a run has its own. May be repeated."),
    ] = None,
    retrieve: Annotated[
        list[int] | None,
        typer.Option(
            metavar="NUMBER",
            min=1,
            help="Also ask with so many passages in the prompt that BM25 finds. May be repeated.",
        ),
    ] = None,
    measure: Measure = None,
    require: Require = None,
    as_json: Json = False,
) -> None:
    """Ask a model questions, forward and backward, with intervals.

    Of a run, also measure what else training changed, unless that was done or passages are retrieved.
    """
    from demask.evaluation.thresholds import read_thresholds
    from demask.generation.server import Server
    from demask.recipe.file import apply_overrides
    from demask.storage.atomic import write_text
    from demask.tasks import evaluate as task

    thresholds = read_thresholds(require)
    limits = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    if server is None and (server_model is not None or no_canary):
        raise ConfigError("--server-model and --no-canary need a server; give its address with --server")
    if predictions is not None and predictions.exists():
        raise ConfigError(f"{predictions}: stands there already; choose another --predictions")
    changes = apply_overrides({**limits, **({"retrieval": retrieve} if retrieve else {})}, settings or [])
    retrieves = bool(changes.get("retrieval"))
    _check_retrieving(retrieves, documents, server=server, measure=measure)
    with show_progress() as progress:
        if retrieves:
            result = task.evaluate_retrieval(model, qa, documents or (), settings=changes, progress=progress)
        else:
            result = task.evaluate(
                model,
                qa,
                settings=changes,
                server=Server(server, server_model) if server is not None else None,
                canary=not no_canary,
                measure=read_measure(measure),
                progress=progress,
            )
    if predictions is not None:
        write_text(predictions, "".join(json.dumps(asdict(p)) + "\n" for p in result.predictions))
    if as_json:
        served = {"server": asdict(result.server)} if result.server else {}
        retention = {"retention": result.retention} if result.retention else {}
        retrieval = {"retrieval": result.retrieval} if result.retrieval else {}
        print_guarded_json(
            {"model": result.model, "metrics": result.metrics, **retention, **retrieval, **served},
            thresholds,
            result.metrics,
            result.retention,
        )
    else:
        from demask.terminal import print_evaluation

        print_evaluation(result)
    guard(thresholds, result.metrics, result.retention)


def _check_retrieving(
    retrieves: bool, documents: list[str] | None, *, server: str | None, measure: str | None
) -> None:
    """Refuse options that have no meaning together."""
    if documents and not retrieves:
        raise ConfigError("--documents are retrieved from; add --retrieve 3, or leave them out")
    for name, value in (("--server", server), ("--measure", measure)):
        if retrieves and value is not None:
            raise ConfigError(f"--retrieve asks the model itself, and nothing else; leave out {name}")


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, the baseline first.")],
    out: Annotated[Path, typer.Option(help="The report; Markdown is written beside it.")] = Path(
        "comparison.html"
    ),
    overwrite: Annotated[bool, typer.Option(help="Replace a report that stands there.")] = False,
    rule: Annotated[
        str, typer.Option(help="Of comparisons: the step that counts; fixed, best-on-validation or paper.")
    ] = "fixed",
    measure: Measure = None,
    as_json: Json = False,
) -> None:
    """Several runs in one table, with paired differences.

    Differences are taken on the questions that two runs share. Folders of `demask reproduce` give the
    paper's tables and figures again, from their runs alone.
    """
    from demask.comparison.grid import find_grids
    from demask.comparison.page import report_grids
    from demask.comparison.results import check_rule
    from demask.comparison.side_by_side import compare_runs

    chosen_rule = check_rule(rule)
    grids = find_grids(runs)
    if grids:
        folder = out.with_suffix("")
        if folder.exists() and not overwrite:
            raise ConfigError(f"{folder}: stands there already; choose another --out, or add --overwrite")
        page = report_grids(grids, folder, chosen_rule).html
        print_json({"report": str(page)}) if as_json else print(f"Report: {page}")
        return
    for file in (out, out.with_suffix(".md")):
        if file.exists() and not overwrite:
            raise ConfigError(f"{file}: stands there already; choose another --out, or add --overwrite")
    with show_progress() as progress:
        results, differences = compare_runs(runs, out, measure=read_measure(measure), progress=progress)
    if as_json:
        print_json({"runs": [str(r.folder) for r in results], "differences": asdict(differences)})
        return
    from demask.reports.tables import access_table, accuracy_table, cost_table, retention_table
    from demask.terminal import print_results, print_tables

    print_results(results)
    tables = (accuracy_table(results), differences, retention_table(results), access_table(results))
    print_tables((*tables, cost_table(results)))
    print(f"Report: {out}")


@app.command()
def ask(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    questions: Annotated[list[str], typer.Argument(help="One or more questions.")],
    as_json: Json = False,
) -> None:
    """Ask the model before and after training, side by side."""
    from demask.tasks import evaluate as task

    if as_json:
        print_json([asdict(answer) for answer in task.ask(run, questions)])
        return
    from demask.reports.wording import clean

    stage = ""

    def hear(which: str, text: str) -> None:
        nonlocal stage
        if which != stage:
            print("" if stage else clean(questions[0]), f"  {which + ':':<8}", sep="\n", end="")
            stage = which
        print(clean(text), end="", flush=True)

    for answer in task.ask(run, questions, on_text=hear):
        if stage:
            print()
        else:
            print(clean(f"{answer.question}\n  before: {answer.before}\n  after:  {answer.after}"))
        if not answer.is_open:
            print(
                "          (said by the base model: the gate stayed shut, as the documents do not say this)"
            )


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: Json = False,
) -> None:
    """Make the report of a run again, from its folder alone."""
    from demask.tasks import evaluate as task

    files = task.report(run)
    if as_json:
        print_json({"html": str(files.html), "markdown": str(files.markdown)})
    else:
        print(f"Report: {files.html}\n        {files.markdown}")


@app.command()
def benchmark(
    models: Annotated[
        list[str], typer.Argument(help="Run folders, model folders, hub names, 'embedded'; baseline first.")
    ],
    tasks: Annotated[str, typer.Option(metavar="NAME,NAME", help="As lm-evaluation-harness calls them.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only the first questions of each.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for figures and answers; what it has is not asked again.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=FILE", help="Questions in place of the hub's; may be repeated."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of what tasks draw; as the harness if left out.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions at a time.")] = 8,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="After which an answer is cut short; as the task if left out.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Without the chat template, for base models.")] = False,
    shots: Annotated[
        int | None, typer.Option(min=0, help="Few-shot examples in each prompt; as the task if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The field's benchmarks, such as GSM8K, with intervals.

    Prompts, filters and metrics are those of lm-evaluation-harness. Several models are asked the same
    questions and compared with the first.
    """
    from demask.harness.benchmark import run_benchmark
    from demask.harness.results import benchmark_tables
    from demask.harness.tasks import Asking, parse_data

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    asking = Asking(limit, seed, batch_size, max_new_tokens, raw, shots)
    # Without a folder the answers are lost.
    keeping = nullcontext() if out is None else going_on(out)
    with keeping, show_progress() as progress:
        found = run_benchmark(
            models, names, data=parse_data(data or [], names), asking=asking, out=out, progress=progress
        )
    if as_json:
        rows = [asdict(result) for result in found.results]
        for row in rows:
            del row["questions"]
        differences = [asdict(difference) for difference in found.differences]
        print_json({"results": rows, "differences": differences, "environment": found.environment})
        return
    from demask.terminal import print_tables

    print_tables(benchmark_tables(found))
    if out is not None:
        print(f"Results: {out}")
