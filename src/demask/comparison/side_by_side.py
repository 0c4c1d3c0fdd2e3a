"""Finished runs in one report, and the quickstart, which makes two of them first.

runs, table = compare_runs(["runs/next-token", "runs/demasking"], Path("comparison.html"))
quickstart(Path("quickstart"), progress=progress)
"""

from collections.abc import Sequence
from pathlib import Path

from demask.comparison.arms import Arm
from demask.comparison.grid import Cell, make_recipe
from demask.comparison.running import run_here
from demask.errors import ConfigError
from demask.evaluation.statistics import compare_paired
from demask.progress import Progress, Silent
from demask.recipe.sections import Measured
from demask.reports.page import render_html, render_markdown
from demask.reports.runs import RunResult, load_runs
from demask.reports.tables import Table, difference_table
from demask.storage import file_names
from demask.storage.atomic import write_text
from demask.storage.run_folder import open_run_folder
from demask.tasks.evaluate import measure_run
from demask.tasks.inject import Injected


def compare_runs(
    folders: Sequence[str | Path],
    out: Path,
    *,
    title: str = "",
    measure: Measured | None = None,
    progress: Progress | None = None,
) -> tuple[list[RunResult], Table]:
    """Several runs in one report, with paired differences on the questions they share.

    Args:
        folders: the baseline first.
        out: the HTML file; the same as Markdown stands beside it.
        title: heads the report.
        measure: what else training changed, for the runs that have not measured it; None: as their recipes
            say.
        progress: told how far the measurements are.

    Raises:
        ConfigError: `out` is the name of the Markdown file.
        RunError: a folder is no finished run, or the report cannot be written.
    """
    if out.suffix == ".md":
        raise ConfigError(f"{out}: expected a name in .html; the same in Markdown is written beside it")
    opened = [open_run_folder(folder) for folder in folders]
    for run in opened:
        if run.has(file_names.MODEL) and not run.has(file_names.RETENTION):
            measure_run(run, measure, progress=progress or Silent())
    runs = load_runs(opened)
    table = difference_table(runs, compare_paired)
    title = title or " and ".join(run.label for run in runs)
    write_text(out, render_html(runs, title=title, comparison=table))
    write_text(out.with_suffix(".md"), render_markdown(runs, title=title, comparison=table))
    return runs, table


# Enough for both directions with every seed tried, and few enough for minutes on two cores
# (docs/benchmarks.md).
_SHORT = {"steps": 30, "batch_size": 8}
# Next-token first: a comparison reads as what the later arm adds to the earlier. Its learning rate was chosen
# for it on other facts (docs/benchmarks.md).
QUICKSTART_ARMS = (
    Arm(
        "next-token",
        {"preset": "fast", "objective": "next-token", "train": {**_SHORT, "learning_rate": 2.5e-4}},
    ),
    # The default, `keep`, takes five times as long (docs/retention.md). 35 steps, with which `gated` was
    # searched, and a smaller pool, as it is drawn before the first step; 70 conversations are replayed.
    Arm(
        "gated",
        {
            "preset": "gated",
            "objective": "demasking",
            "train": {"steps": 35, "learning_rate": 5e-4},
            "retain": {"pool": 256},
        },
    ),
)


def quickstart(out: str | Path, *, seed: int = 0, progress: Progress) -> dict[str, Injected]:
    """Eight invented documents, learned two ways on the embedded model, and one report on all."""
    out, here = Path(out), Path(__file__).parents[1] / "quickstart"
    own = {*(arm.name for arm in QUICKSTART_ARMS), file_names.REPORT_HTML, file_names.REPORT_MARKDOWN}
    others = [path.name for path in out.glob("*") if path.name not in own]
    if others:
        raise ConfigError(f"{out}: holds other files ({others[0]}); choose another --out")
    shared = {
        "model": "embedded",
        "documents": str(here / "documents.jsonl"),
        "qa": str(here / "qa_pairs.jsonl"),
        "seed": seed,
        "evaluate": {"max_new_tokens": 48, "apart": str(here / "apart.jsonl")},
        "measure": "brief",
    }
    cells = [Cell("embedded", a.name, seed, make_recipe(a, shared), folder=a.name) for a in QUICKSTART_ARMS]
    done = run_here(cells, out, progress)
    compare_runs(
        [out / folder for folder in done],
        out / file_names.REPORT_HTML,
        title="Eight invented documents, learned two ways",
    )
    return done
