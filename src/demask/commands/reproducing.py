"""The paper's comparison on one's own model: reproduce.

Imports stand inside the functions, so that `demask --help` answers before torch could be loaded.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from demask.commands.app import Json, app, going_on, open_terminal, print_json, show_progress
from demask.errors import ConfigError
from demask.progress import Status, describe_values

if TYPE_CHECKING:
    from demask.benchmarks.benchmark import Benchmark
    from demask.comparison.grid import Order, PlannedArm

_BUDGETS = ("steps", "tokens")
_MASKED_SFT = "masked-sft"
# Options that it does not have, each with what it is when it is left out.
_NOT_OF_SFT = (
    ("--model", None),
    ("--ablation", None),
    ("--facts", None),
    ("--offset", 0),
    ("--exposures", None),
    ("--budget", _BUDGETS[0]),
    ("--preset", "paper"),
    ("--rule", "fixed"),
)
_SETS = "name-description, biography, wiki, changed-facts, or a folder of the same form; or masked-sft."


@app.command()
def reproduce(
    benchmark: Annotated[str, typer.Argument(help=_SETS)],
    out: Annotated[Path, typer.Option(help="Folder for data, runs and report.")] = Path("reproduction"),
    models: Annotated[
        list[str] | None, typer.Option("--model", help="May be repeated; 'embedded' if left out.")
    ] = None,
    arms: Annotated[
        list[str] | None, typer.Option("--arm", metavar="NAME", help="May be repeated; all if left out.")
    ] = None,
    ablations: Annotated[
        list[str] | None,
        typer.Option("--ablation", metavar="NAME", help="In place of the arms; may be repeated, or 'all'."),
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", min=0, help="May be repeated (0, 1, 2).")
    ] = None,
    facts: Annotated[
        int | None, typer.Option(min=1, help="How many texts are taught; all if left out.")
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="Leave out as many texts before.")] = 0,
    exposures: Annotated[
        float | None, typer.Option(min=1, help="Of each text; as the preset has it if left out.")
    ] = None,
    budget: Annotated[
        str, typer.Option(metavar="steps|tokens", help="What every arm gets as much of.")
    ] = "steps",
    preset: Annotated[str, typer.Option(help="Of demasking: paper, fast, gated or keep.")] = "paper",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of a recipe, for every cell."),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="NAME", help="Of masked-sft; may be repeated, all if left out."),
    ] = None,
    samples: Annotated[
        list[int] | None,
        typer.Option("--samples", min=1, help="Of masked-sft: how many are trained (100, 300, 1000)."),
    ] = None,
    rule: Annotated[
        str, typer.Option(help="Which step is reported: fixed, best-on-validation or paper.")
    ] = "fixed",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Cells at a time on each GPU, or on the processor (1).")
    ] = None,
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Keep trained weights.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it would take, and stop.")] = False,
    as_json: Json = False,
) -> None:
    """The paper's comparison on your model.

    Or its ablations, or (masked-sft) whether masking helps fine-tuning, on tiny models of its own. Every
    cell (model, arm, seed) is a run of its own. What is done is skipped, what was killed goes on with the
    same command, and a cell that fails does not stop the others.
    """
    from demask.commands.masked_sft import Wanted, compare_sft
    from demask.comparison.grid import (
        CELLS,
        check_order,
        distinct_cells,
        find_grids,
        plan_cells,
        plan_grids,
        time_models,
    )
    from demask.comparison.page import report_grids
    from demask.comparison.results import check_rule
    from demask.comparison.running import find_slots, run_cells
    from demask.storage.locks import holding

    if benchmark == _MASKED_SFT:
        given = (models, ablations, facts, offset, exposures, budget, preset, rule)
        _refuse(dict(zip(_NOT_OF_SFT, given, strict=True)), "is not for masked-sft, which has its own")
        wanted = Wanted(arms, seeds, tasks, samples, settings or [])
        compare_sft(out, wanted, jobs=jobs, keep_models=keep_models, plan=plan, as_json=as_json)
        return
    _refuse({("--task", None): tasks, ("--samples", None): samples}, "is for masked-sft only")
    chosen_rule = check_rule(rule)
    order = _make_order(models, seeds, exposures, budget, preset, settings)
    device = check_order(order, arms=arms, ablations=ablations)
    sets = _choose_sets(benchmark, order, out, device, facts=facts, offset=offset)
    grids = [
        grid
        for one in sets
        for grid in plan_grids(one.order, one.taught, one.data, out, arms=arms, ablations=ablations)
    ]
    unique = distinct_cells([cell for grid in grids for cell in grid.cells])
    with show_progress() as progress:  # a run tells on the way how long it takes
        planned = plan_cells(unique, out / CELLS, rate=time_models(progress) if plan else None)
    slots = find_slots(unique[0].config.device, jobs)
    if not as_json:
        _print_plan(planned, sets, order, slots, plan=plan)
    if plan:
        if as_json:
            print_json([asdict(row) for row in planned])
        return
    watch = CellTable(cells=len(unique))
    with going_on(out), holding(out):
        with watch:
            outcome = run_cells(unique, out / CELLS, slots=slots, watch=watch, keep_models=keep_models)
        report = report_grids(find_grids([out]), out, chosen_rule).html
    tell_outcome(outcome.done, outcome.failed, len(unique), report, as_json=as_json)


def tell_outcome(done: int, failed: Mapping[str, str], cells: int, report: Path, *, as_json: bool) -> None:
    """How many cells are done, why the others are not, and where the report is.

    Args:
        done: how many are.
        failed: reasons, by the folder of the cell.
        cells: how many there are.
        report: its file.
        as_json: as JSON.
    """
    if as_json:
        print_json({"done": done, "failed": failed, "report": str(report)})
        return
    print(f"{done} of {cells} cells are done" + (":" if failed else "."))
    for folder, reason in failed.items():
        print(f"  {folder}: {reason}")
    print(f"Report: {report}")


def _make_order(
    models: list[str] | None,
    seeds: list[int] | None,
    exposures: float | None,
    budget: str,
    preset: str,
    settings: list[str] | None,
) -> "Order":
    """What is compared, of the options as they are given."""
    from demask.comparison.grid import Order
    from demask.recipe.file import apply_overrides

    if budget not in _BUDGETS:
        raise ConfigError(f"--budget: {budget!r}, expected 'steps' or 'tokens'")
    return Order(
        models=tuple(models or ["embedded"]),
        seeds=tuple(seeds or (0, 1, 2)),
        exposures=exposures,
        budget="tokens" if budget == "tokens" else "steps",
        preset=preset,
        settings=apply_overrides({}, settings or []),
    )


def _refuse(given: Mapping[tuple[str, Any], Any], why: str) -> None:
    """Refuse options that do not belong; each stands with what it is when it is left out."""
    for (option, left_out), value in given.items():
        if value != left_out:
            raise ConfigError(f"{option} {why}; leave it out")


class _Set(NamedTuple):
    """A benchmark with the models that are taught it."""

    order: "Order"
    taught: "Benchmark"
    data: Path


def _choose_sets(
    benchmark: str,
    order: "Order",
    out: Path,
    device: Literal["auto", "cpu", "cuda"],
    *,
    facts: int | None,
    offset: int,
) -> list[_Set]:
    """The benchmark for all models; or one for each, where it is made of what the model knows."""
    from demask.benchmarks.changed_facts import NAME
    from demask.benchmarks.sets import load_benchmark, write_benchmark
    from demask.comparison.changed_facts import prepare_changed_facts
    from demask.comparison.grid import DATA

    part = f"{facts or 'all'}-{offset}"
    if benchmark != NAME:
        taught = load_benchmark(benchmark, facts=facts, offset=offset)
        data = out / DATA / f"{Path(benchmark).name}-{part}"
        write_benchmark(taught, data)
        return [_Set(order, taught, data)]
    sets = []
    for model in order.models:
        data = out / DATA / f"{NAME}-{Path(model).name}-{part}"
        with show_progress() as progress:
            made = prepare_changed_facts(
                model, data, facts=facts, offset=offset, device=device, progress=progress
            )
        sets.append(_Set(replace(order, models=(model,)), made, data))
    return sets


def _print_plan(
    planned: "Sequence[PlannedArm]",
    sets: Sequence[_Set],
    order: "Order",
    slots: "Sequence[int | None]",
    *,
    plan: bool,
) -> None:
    from rich.table import Table

    from demask.comparison.grid import seconds_left
    from demask.terminal import duration

    table = Table(
        title="; ".join(map(_describe_set, sets)) + f", seeds {', '.join(map(str, order.seeds))}",
        title_justify="left",
        box=None,
    )
    problems: list[str] = []
    timed = any(row.seconds is not None for row in planned)
    names = ["model", "arm", "cells", "done", "steps", "tokens", *(["training each"] if timed else [])]
    for name in names:
        table.add_column(name, justify="left" if name in ("model", "arm") else "right")
    for row in planned:
        if row.problem:
            problems.append(f"{row.model}, {row.arm}: not run: {row.problem}")
            continue
        seconds = "" if row.seconds is None else f"about {duration(row.seconds)}"
        numbers = map(str, (row.cells, row.done, row.steps))
        table.add_row(row.model, row.arm, *numbers, f"{row.tokens:,}", *([seconds] if timed else []))
    console = open_terminal()
    console.print(table)
    for problem in problems:
        console.print(problem, soft_wrap=True)
    left = seconds_left(planned, slots)
    if left == 0:
        told = "Nothing is left to train."
    elif left is not None:
        told = (
            f"What is left to train takes about {duration(left)} with {len(slots)} at a time, from a few "
            "real steps of each model; questions and what is drawn for replay come on top."
        )
    elif plan:
        told = "How long it takes is not known: a model does not fit into the memory of this machine."
    else:
        told = "demask reproduce --plan times it."
    console.print(
        f"Every arm gets as many {'optimizer steps' if order.budget == 'steps' else 'tokens'}. {told}\n",
        soft_wrap=True,
    )


def _describe_set(one: _Set) -> str:
    taught = one.taught
    apart = f", {len(taught.apart)} asked apart" if taught.apart else ""
    return f"{taught.name}: {len(taught.documents)} texts, {len(taught.pairs)} questions{apart}"


class _Row:
    """One process; a `Progress`."""

    def __init__(self, name: str) -> None:
        self._name, self._begun = name, time.monotonic()
        self._status = Status()
        self.begin, self.advance = self._status.begin, self._status.advance

    def say(self, text: str) -> None:
        """Remarks stand in the log of the process."""

    def took(self) -> str:
        """Since its beginning."""
        from demask.terminal import duration

        return duration(time.monotonic() - self._begun)

    def columns(self) -> tuple[str, ...]:
        """What the table shows."""
        status = self._status
        far = f"{status.done}/{status.total}" if status.phase else ""
        return self._name, status.phase, far, self.took(), describe_values(status.values)


class CellTable:
    """Who works on what, while it is worked on; lines in a log file."""

    def __init__(self, *, cells: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._rows: dict[str, _Row] = {}
        self._ended, self._failed, self._cells = 0, 0, cells
        self._begun = time.monotonic()
        watched = self._console.is_terminal
        self._live: Any = (
            Live(console=self._console, get_renderable=self._render, refresh_per_second=2, transient=True)
            if watched
            else nullcontext()
        )

    def __enter__(self) -> "CellTable":
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)

    def started(self, name: str) -> _Row:
        """A row appears."""
        self._rows[name] = _Row(name)
        return self._rows[name]

    def ended(self, name: str, reason: str, *, is_cell: bool) -> None:
        """A row becomes a line."""
        took = self._rows.pop(name).took()
        self._ended += is_cell
        self._failed += is_cell and bool(reason)
        self._console.print(f"{name}: {f'FAILED: {reason}' if reason else f'done in {took}'}", soft_wrap=True)

    def _render(self) -> Any:
        from rich.console import Group
        from rich.table import Table

        table = Table(box=None)
        for name in ("cell", "stage", "", "", ""):
            table.add_column(name, no_wrap=True)
        for row in self._rows.values():
            table.add_row(*row.columns())
        return Group(self._headline(), table)

    def _headline(self) -> str:
        from demask.terminal import duration

        words = f"{self._ended} of {self._cells} cells ended, {self._failed} failed"
        if self._ended in (0, self._cells):
            return words
        each = (time.monotonic() - self._begun) / self._ended
        return f"{words}; about {duration(each * (self._cells - self._ended))} left"
