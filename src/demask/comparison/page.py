"""The comparison on one page: tables, the paper's pattern and figures, as Markdown and as HTML.

    files = compare_matrices(["out/name-description", "out/ratio"], "comparison", "fixed")
    files.html, files.markdown, files.figures

Without matplotlib the page has its tables and says what the figures need.
"""

import base64
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import demask
from demask.comparison import tables
from demask.comparison.figures import FigureFiles, can_draw, draw_figures
from demask.comparison.hypotheses import judge_claims
from demask.comparison.published import PAPER
from demask.comparison.results import Matrix, Rule, load_matrix
from demask.reports.page import TEMPLATES as REPORT_TEMPLATES
from demask.reports.tables import Table, escape_markdown, to_markdown
from demask.reports.wording import clean
from demask.storage import file_names
from demask.storage.atomic import write_text

TEMPLATES = Path(__file__).parent / "templates"
FIGURES = "figures"
TITLE = f"The comparison of {PAPER}, run here"
_OFTEN_CONSTANT = ("benchmark", "model", "failed or missing")
NO_FIGURES = "No figures: they need matplotlib (pip install 'demask[figures]')."
NO_CURVES = "No figures: no run was asked while it was trained."


class ComparisonFiles(NamedTuple):
    """What was written."""

    html: Path
    markdown: Path
    figures: tuple[FigureFiles, ...]


def compare_matrices(folders: Sequence[str | Path], out: str | Path, rule: Rule) -> ComparisonFiles:
    """Write `report.html`, `report.md` and `figures/` about one or several matrices.

    Args:
        folders: of the matrices, one per benchmark or ablation.
        out: a folder, made where it is missing.
        rule: which checkpoint is reported.

    Raises:
        ConfigError: a folder holds no matrix.
        RunError: a run cannot be read, the rule cannot be applied, or `out` cannot be written.
    """
    matrices = [load_matrix(folder) for folder in folders]
    out = Path(out)
    figures = draw_figures(matrices, rule, out / FIGURES) if can_draw() else []
    files = ComparisonFiles(out / file_names.REPORT_HTML, out / file_names.REPORT_MARKDOWN, tuple(figures))
    write_text(files.html, render_page(matrices, rule, figures))
    write_text(files.markdown, render_report(matrices, rule, figures))
    return files


def render_report(matrices: Sequence[Matrix], rule: Rule, figures: Sequence[FigureFiles] = ()) -> str:
    """The page as Markdown; figures are linked beside it, as `figures/NAME.svg`."""
    return _templates(html=False).get_template("matrix.md.jinja").render(_context(matrices, rule, figures))


def render_page(matrices: Sequence[Matrix], rule: Rule, figures: Sequence[FigureFiles] = ()) -> str:
    """The page as HTML, with the figures in it."""
    return _templates(html=True).get_template("matrix.html.jinja").render(_context(matrices, rule, figures))


def make_tables(matrices: Sequence[Matrix], rule: Rule) -> list[Table]:
    """All tables of the page that have rows, in its order."""
    made = [
        tables.arms_table(matrices, rule),
        tables.findings_table(judge_claims(matrices, rule), rule),
        tables.few_shot_table(matrices),
        tables.cost_table(matrices),
        tables.fits_table(matrices),
        tables.level_table(matrices),
        tables.ablation_table(matrices, rule),
        tables.cells_table(matrices),
    ]
    return [drop_constant(table) for table in made if table.rows]


def _context(matrices: Sequence[Matrix], rule: Rule, figures: Sequence[FigureFiles]) -> dict[str, Any]:
    return {
        "title": tables.mark_title(TITLE, rule),
        "introduction": tables.RULE_NOTES[rule],
        "state": _say_state(matrices),
        "sections": make_tables(matrices, rule),
        "figures": figures,
        "no_figures": NO_CURVES if can_draw() else NO_FIGURES,
        "folders": ", ".join(str(matrix.folder) for matrix in matrices),
        "version": demask.__version__,
    }


def _say_state(matrices: Sequence[Matrix]) -> list[str]:
    """A line per matrix: what it has, and how much of it is done."""
    return [
        f"{matrix.setting}{f' ({matrix.ablation})' if matrix.ablation else ''}: "
        f"{sum(cell.status == 'done' for cell in matrix.cells)} of {len(matrix.cells)} runs done, "
        f"the same number of {matrix.budget} for all"
        for matrix in matrices
    ]


def drop_constant(table: Table) -> Table:
    """The table without the columns that tell its rows nothing: one benchmark, one model, nothing failed."""
    columns = list(zip(table.headers, *table.rows, strict=True))
    kept = [column for column in columns if column[0] not in _OFTEN_CONSTANT or len(set(column[1:])) > 1]
    headers, *rows = zip(*kept, strict=True)
    said = [column[1] for column in columns if column not in kept and column[1] != "none"]
    title = f"{table.title}: {', '.join(said)}" if said else table.title
    return replace(table, title=title, headers=headers, rows=tuple(rows))


@cache
def _templates(*, html: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([TEMPLATES, REPORT_TEMPLATES]),
        autoescape=html,
        undefined=StrictUndefined,
        finalize=lambda value: clean(value) if type(value) is str else value,
        keep_trailing_newline=True,
    )
    environment.filters.update(cell=escape_markdown, table=to_markdown, embed=_embed)
    return environment


def _embed(figure: FigureFiles) -> str:
    """The drawing as an address, so that the page is one file."""
    return f"data:image/svg+xml;base64,{base64.b64encode(figure.svg.read_bytes()).decode()}"
