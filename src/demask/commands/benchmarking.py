"""Models on the field's own benchmarks: benchmark.

Imports stand inside the functions, so that `demask --help` answers before torch could be loaded.
"""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from demask.commands.app import app, going_on, print_json, show_progress
from demask.options import Json


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
    from demask.harness.asking import Asking
    from demask.harness.benchmark import run_benchmark
    from demask.harness.local_data import parse_data
    from demask.harness.tables import benchmark_tables

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
