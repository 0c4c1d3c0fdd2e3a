"""Whether masking helps fine-tuning: `demask reproduce masked-sft`.

Imports stand inside the functions, so that `demask --help` answers before torch could be loaded.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from demask.commands.app import going_on, open_terminal, print_json, show_progress

if TYPE_CHECKING:
    from demask.comparison.grid import PlannedArm
    from demask.comparison.running import Outcome
    from demask.lab.masked_sft import Order, Sizes, Trial

RESULTS, REPORT = "masked-sft.json", "masked-sft.md"


class Wanted(NamedTuple):
    """What is compared, as given; None: all.

    Attributes:
        arms: names.
        seeds: of samples, order and masks.
        tasks: names.
        samples: how many are trained.
        settings: sizes, as KEY=VALUE.
    """

    arms: Sequence[str] | None
    seeds: Sequence[int] | None
    tasks: Sequence[str] | None
    samples: Sequence[int] | None
    settings: Sequence[str]


def compare_sft(
    out: Path, wanted: Wanted, *, jobs: int | None, keep_models: bool, plan: bool, as_json: bool
) -> None:
    """Choose a rate for each arm, train all arms and write what came out; whatever is done is not done again.

    Args:
        out: folder of the comparison.
        wanted: what is compared.
        jobs: cells at a time.
        keep_models: whether trained weights stay.
        plan: say what it would take, and stop.
        as_json: print that, or where the results are, as JSON.
    """
    from demask.commands.reproducing import tell_outcome
    from demask.lab.masked_sft import read_sizes
    from demask.recipe.file import apply_overrides
    from demask.storage.locks import holding

    order = _make_order(wanted)
    sizes = read_sizes(apply_overrides({}, wanted.settings))
    if plan:
        _tell_plan(order, sizes, out, jobs, as_json=as_json)
        return
    with going_on(out), holding(out):
        outcomes = _run(order, sizes, out, jobs, keep_models=keep_models, quiet=as_json)
    failed = {folder: reason for one in outcomes for folder, reason in one.failed.items()}
    done = sum(one.done for one in outcomes)
    tell_outcome(done, failed, done + len(failed), out / REPORT, as_json=as_json)


def _make_order(wanted: Wanted) -> "Order":
    from demask.comparison.arms import choose_sft_arms
    from demask.lab.masked_sft import SAMPLES, SEEDS, Order, choose_tasks

    return Order(
        choose_tasks(wanted.tasks),
        choose_sft_arms(wanted.arms),
        tuple(dict.fromkeys(wanted.seeds or SEEDS)),
        tuple(sorted(set(wanted.samples or SAMPLES))),
    )


def _run(
    order: "Order", sizes: "Sizes", out: Path, jobs: int | None, *, keep_models: bool, quiet: bool
) -> "list[Outcome]":
    """Prepare, search, train, report.

    Args:
        order: what is compared.
        sizes: of everything.
        out: folder of the comparison.
        jobs: cells at a time.
        keep_models: whether trained weights stay.
        quiet: print no plan.
    """
    from demask.commands.reproducing import CellTable
    from demask.comparison.grid import CELLS
    from demask.comparison.running import find_slots, run_cells
    from demask.lab.masked_sft import choose_rates, keep_rates, load_rates, plan_search, plan_trials, prepare

    with show_progress() as progress:
        prepared = prepare(out, sizes, progress)
        search = plan_search(prepared, order)
    slots, folder = find_slots("auto", jobs), out / CELLS

    def run(trials: "Sequence[Trial]") -> "Outcome":
        with CellTable(cells=len({trial.cell.folder for trial in trials})) as watch:
            cells = [trial.cell for trial in trials]
            return run_cells(cells, folder, slots=slots, watch=watch, keep_models=keep_models)

    known = load_rates(out)
    if len(sizes.rates) == 1:  # nothing to choose
        only = {task: {arm.name: sizes.rates[0] for arm in order.arms} for task in order.tasks}
        known = {task: {**rates, **known.get(task, {})} for task, rates in only.items()}
    unknown = [trial for trial in search if trial.arm not in known.get(trial.task, {})]
    searched = [run(unknown)] if unknown else []
    rates = choose_rates(unknown, folder, known)
    keep_rates(out, rates)
    able = [arm for arm in order.arms if all(arm.name in rates.get(task, {}) for task in order.tasks)]
    order = replace(order, arms=tuple(able))
    with show_progress() as progress:
        trials = plan_trials(prepared, order, rates)
    if not quiet:
        print(f"{len(unknown)} cells chose learning rates, {len(trials)} are compared", flush=True)
    trained = run(trials)
    write_results(trials, order, out)
    return [*searched, trained]


def write_results(trials: "Sequence[Trial]", order: "Order", out: Path) -> None:
    """Write the tables, the curves, and the same as numbers.

    Args:
        trials: all that were planned.
        order: what was compared.
        out: folder of the comparison.
    """
    from demask.comparison.grid import CELLS
    from demask.lab.masked_sft_results import Results, as_json, draw_curves, make_tables
    from demask.reports.tables import to_markdown
    from demask.storage.atomic import write_text

    results = Results(trials, out / CELLS)
    tables = "\n\n".join(map(to_markdown, make_tables(results, order)))
    for task, drawing in draw_curves(results, order).items():
        write_text(out / f"{task}.svg", drawing)
    write_text(out / RESULTS, json.dumps(as_json(results, order), indent=1) + "\n")
    write_text(out / REPORT, f"# Does masking help fine-tuning?\n\n{tables}\n")


def _tell_plan(order: "Order", sizes: "Sizes", out: Path, jobs: int | None, *, as_json: bool) -> None:
    """What it would take, by a base model that has read next to nothing; leaves nothing behind."""
    from demask.comparison.grid import plan_cells, seconds_left, time_models
    from demask.comparison.running import find_slots
    from demask.lab.masked_sft import make_stand_in, plan_search, plan_trials, prepare
    from demask.terminal import duration

    middle = sizes.rates[len(sizes.rates) // 2]
    rates = {task: {arm.name: middle for arm in order.arms} for task in order.tasks}
    with TemporaryDirectory(prefix="demask-") as temporary, show_progress() as progress:
        model = make_stand_in(Path(temporary) / "reader", sizes, progress)
        prepared = prepare(Path(temporary) / "out", sizes, progress, model=model)
        trials = [*plan_search(prepared, order), *plan_trials(prepared, order, rates)]
        cells = [trial.cell for trial in trials]
        planned = plan_cells(cells, Path(temporary), rate=time_models(progress))
    if as_json:
        print_json([asdict(row) for row in planned])
        return
    open_terminal().print(_plan_table(planned))
    left = seconds_left(planned, find_slots("auto", jobs))
    print(
        f"{len(cells)} cells. Training takes about {duration(left or 0)}, from a few real steps; the base "
        f"model ({sizes.pretraining.autoregressive_steps:,} steps) and the questions come on top."
    )


def _plan_table(planned: "Sequence[PlannedArm]") -> Any:
    from rich.table import Table

    from demask.terminal import duration

    table = Table(title="masked-sft", title_justify="left", box=None)
    for name in ("cells of", "cells", "steps", "tokens", "training each"):
        table.add_column(name, justify="left" if name == "cells of" else "right")
    for row in planned:
        numbers = (str(row.cells), str(row.steps), f"{row.tokens:,}")
        table.add_row(row.arm, *numbers, "" if row.seconds is None else f"about {duration(row.seconds)}")
    return table
