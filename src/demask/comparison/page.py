"""The comparison on one page: tables, the paper's pattern and figures, as Markdown and as HTML.

files = report_grids(["out/name-description", "out/ratio"], "comparison", "fixed")
files.html, files.markdown, files.figures
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import demask
from demask.comparison import tables
from demask.comparison.claims import judge_claims
from demask.comparison.figures import Figure, make_figures
from demask.comparison.results import Grid, Rule, load_grid
from demask.reports.drawing import arrange
from demask.reports.page import TEMPLATES as REPORT_TEMPLATES
from demask.reports.tables import Table, escape_markdown, to_markdown
from demask.reports.wording import clean
from demask.storage import file_names
from demask.storage.atomic import write_text

TEMPLATES = Path(__file__).parent / "templates"
FIGURES = "figures"
TITLE = f"The comparison of {tables.PAPER}, run here"


class ComparisonFiles(NamedTuple):
    """What was written."""

    html: Path
    markdown: Path
    figures: tuple[Path, ...]


def report_grids(folders: Sequence[str | Path], out: str | Path, rule: Rule) -> ComparisonFiles:
    """Write `report.html`, `report.md` and `figures/` about one or several grids.

    Args:
        folders: of the grids, one per benchmark or ablation.
        out: a folder, made where it is missing.
        rule: which checkpoint is reported.

    Raises:
        ConfigError: a folder holds no grid.
        RunError: a run cannot be read, the rule cannot be applied, or `out` cannot be written.
    """
    grids = [load_grid(folder) for folder in folders]
    out = Path(out)
    figures = make_figures(grids, rule)
    drawn = {out / FIGURES / f"{figure.name}.svg": figure for figure in figures}
    for file, figure in drawn.items():
        write_text(file, arrange([figure.panels], figure.title))
    files = ComparisonFiles(out / file_names.REPORT_HTML, out / file_names.REPORT_MARKDOWN, tuple(drawn))
    write_text(files.html, render_page(grids, rule, figures))
    write_text(files.markdown, render_report(grids, rule, figures))
    return files


def render_report(grids: Sequence[Grid], rule: Rule, figures: Sequence[Figure] = ()) -> str:
    """The page as Markdown; figures are linked beside it, as `figures/NAME.svg`."""
    return _templates(html=False).get_template("comparison.md.jinja").render(_context(grids, rule, figures))


def render_page(grids: Sequence[Grid], rule: Rule, figures: Sequence[Figure] = ()) -> str:
    """The page as HTML, with the figures in it."""
    return _templates(html=True).get_template("comparison.html.jinja").render(_context(grids, rule, figures))


def make_tables(grids: Sequence[Grid], rule: Rule) -> list[Table]:
    """All tables of the page that have rows, in its order."""
    made = [
        tables.arms_table(grids, rule),
        tables.findings_table(judge_claims(grids, rule), rule),
        tables.few_shot_table(grids),
        tables.cost_table(grids),
        tables.fits_table(grids),
        tables.level_table(grids),
        tables.ablation_table(grids, rule),
        tables.apart_table(grids),
        tables.retention_table(grids),
        tables.cells_table(grids),
    ]
    return [tables.drop_constant(table) for table in made if table.rows]


def _context(grids: Sequence[Grid], rule: Rule, figures: Sequence[Figure]) -> dict[str, Any]:
    return {
        "title": tables.mark_title(TITLE, rule),
        "introduction": tables.RULE_NOTES[rule],
        "state": [_say_state(grid) for grid in grids],
        "sections": make_tables(grids, rule),
        # Panels escape what they draw.
        "figures": [figure._replace(panels=list(map(Markup, figure.panels))) for figure in figures],
        "folders": ", ".join(str(grid.folder) for grid in grids),
        "version": demask.__version__,
    }


def _say_state(grid: Grid) -> str:
    """What a grid has, and how much of it is done."""
    return (
        f"{grid.setting}{f' ({grid.ablation})' if grid.ablation else ''}: "
        f"{sum(cell.status == 'done' for cell in grid.cells)} of {len(grid.cells)} runs done, "
        f"the same number of {grid.budget} for all"
    )


@cache
def _templates(*, html: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([TEMPLATES, REPORT_TEMPLATES]),
        autoescape=html,
        undefined=StrictUndefined,
        finalize=lambda value: clean(value) if type(value) is str else value,
        keep_trailing_newline=True,
    )
    environment.filters.update(cell=escape_markdown, table=to_markdown)
    return environment
