"""Tables and pages of grids: every number with its runs, every failure with its reason."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.comparison.grid_folders import Course, write_grid, write_run

from demask.comparison import tables
from demask.comparison.claims import judge_claims
from demask.comparison.figures import make_figures
from demask.comparison.page import make_tables, render_page, render_report, report_grids
from demask.comparison.results import CellResult, Grid, load_grid
from demask.evaluation.metrics import Estimate, Retention
from demask.reports.tables import Table
from demask.reports.wording import MISSING

COURSE: Course = {0: (1, 0), 4: (10, 4), 8: (19, 18)}


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    arms: dict[str, Course | str | None] = {
        "next-token": {0: (1, 0), 4: (8, 1), 8: (10, 1)},
        "demasking": COURSE,
        "diffusion": "no | memory",
    }
    return load_grid(write_grid(tmp_path / "arms", arms, seeds=(0, 1), few_shot=(9, 12)))


@pytest.fixture
def ablation(tmp_path: Path) -> Grid:
    variants = {"ratio 0": {0: (0, 0), 4: (1, 0), 8: (2, 0)}, "ratio U(.05,.95)": COURSE}
    return load_grid(write_grid(tmp_path / "ratio", variants, ablation="mask ratio"))


def _row(table: Table, name: str) -> dict[str, str]:
    row = next(row for row in table.rows if name in row)
    return dict(zip(table.headers, row, strict=True))


def test_every_row_is_as_wide_as_the_headers(grid: Grid, ablation: Grid) -> None:
    for table in make_tables([grid, ablation], "fixed"):
        assert {len(row) for row in table.rows} == {len(table.headers)}, table.title


def test_arms_stand_between_floor_and_ceiling(grid: Grid) -> None:
    table = tables.arms_table([grid], "fixed")
    assert [row[2] for row in table.rows] == [
        "before training",
        "next-token",
        "demasking",
        "diffusion",
        "ceiling: document in the prompt",
    ]
    row = _row(table, "demasking")
    assert row["forward, contains"] == "0.95 [0.75, 0.99] (seeds 0.95–0.95)"
    assert row["backward, ROUGE-1 recall"].startswith("0.90 [")
    assert row["paper, forward / backward"] == ".905 / .929"
    assert row["runs"] == "seed-0, seed-1"


def test_untouched_arm_is_the_floor_itself(tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path, {"untouched": {0: (1, 0)}, "demasking": COURSE}))
    table = tables.arms_table([grid], "fixed")
    assert table.rows[0][2] == "untouched"
    assert "before training" not in [row[2] for row in table.rows]
    assert _row(table, "untouched")["forward, contains"].startswith("0.05 [")


def test_failed_cells_stand_in_their_row_with_the_reason(grid: Grid) -> None:
    for table in (tables.arms_table([grid], "fixed"), tables.cost_table([grid])):
        assert _row(table, "diffusion")["failed or missing"] == "seeds 0, 1 failed: no | memory"
        assert _row(table, "demasking")["failed or missing"] == "none"


def test_what_was_chosen_on_the_test_questions_says_so(grid: Grid, ablation: Grid) -> None:
    titles = {table.title for table in make_tables([grid, ablation], "paper")}
    for title in ("Table 1: accuracy of the arms", "Table 10: ablations"):
        assert any(one.startswith(f"{title} (chosen on the test questions)") for one in titles)
    findings = tables.findings_table(judge_claims([grid], "paper"), "paper")
    assert findings.title.endswith("(chosen on the test questions)")
    assert render_report([grid], "paper").splitlines()[0].endswith("(chosen on the test questions)")
    assert "(chosen on the test questions)" not in render_report([grid], "fixed")


def test_claims_that_no_run_is_about_stand_below_the_table_and_not_in_it(grid: Grid, tmp_path: Path) -> None:
    findings = judge_claims([grid], "fixed")
    table = tables.findings_table(findings, "fixed")
    untested = {found.claim.statement for found in findings if not found.attempted}
    assert {row[2] for row in table.rows} == {found.claim.statement for found in findings} - untested
    assert untested
    assert all(claim in table.note for claim in untested)
    alone = load_grid(write_grid(tmp_path / "alone", {"demasking": COURSE}))
    assert tables.findings_table(judge_claims([alone], "fixed"), "fixed").rows == ()


def test_columns_that_tell_rows_nothing_move_into_the_title(grid: Grid) -> None:
    table = Table(
        "T",
        ("benchmark", "model", "arm", "failed or missing"),
        (("b", "m", "x", "none"), ("b", "m", "y", "none")),
    )
    assert tables.drop_constant(table) == Table("T: b, m", ("arm",), (("x",), ("y",)))
    several = Table("T", ("benchmark", "model", "arm"), (("a", "m", "x"), ("b", "m", "x")))
    assert tables.drop_constant(several) == Table("T: m", ("benchmark", "arm"), (("a", "x"), ("b", "x")))


def test_few_shot_table_has_only_arms_that_were_asked_so(grid: Grid, tmp_path: Path) -> None:
    table = tables.few_shot_table([grid])
    assert [row[2] for row in table.rows] == ["next-token", "demasking"]
    assert _row(table, "demasking")["backward, contains"].startswith("0.60 [")
    without = load_grid(write_grid(tmp_path / "without", {"demasking": COURSE}))
    assert tables.few_shot_table([without]).rows == ()


def test_cost_is_per_step_and_beside_next_token(tmp_path: Path) -> None:
    folder = write_grid(tmp_path, {"next-token": COURSE, "demasking": None})
    write_run(folder / "embedded/demasking/seed-0", COURSE, tokens_per_step=250)
    grid = load_grid(folder)
    row = _row(tables.cost_table([grid]), "demasking")
    assert row["tokens"] == "250 (× 2.50)"
    assert row["TFLOP"] == "0.0015 (× 2.50)"  # 6 x 1,000,000 parameters x 250 tokens
    assert row["seconds"] == "2.00 (× 1.00)"
    counted = tables.cost_table([grid], lambda cell: 3e12)
    assert _row(counted, "demasking")["TFLOP"] == "3 (× 1.00)"
    assert "6 N" not in counted.note


def test_level_table_says_when_and_whether_a_level_was_reached(grid: Grid) -> None:
    table = tables.level_table([grid])
    assert _row(table, "demasking")["forward, steps"] == "8"
    assert _row(table, "demasking")["forward, tokens"] == "800"
    assert _row(table, "next-token")["backward, steps"] == "not reached by 8"


def test_fit_that_is_not_there_gives_its_reason(grid: Grid) -> None:
    assert _row(tables.fits_table([grid]), "demasking")["k per step, contains"] == "2 points, a fit needs 3"


def test_ablations_are_no_arms_and_arms_are_no_ablations(grid: Grid, ablation: Grid) -> None:
    assert "ratio 0" not in {row[2] for row in tables.arms_table([grid, ablation], "fixed").rows}
    table = tables.ablation_table([grid, ablation], "fixed")
    assert [row[3] for row in table.rows] == ["ratio 0", "ratio U(.05,.95)"]


def test_report_holds_every_table_and_no_markup_of_a_reason(grid: Grid, ablation: Grid) -> None:
    report = render_report([grid, ablation], "fixed")
    for table in make_tables([grid, ablation], "fixed"):
        assert f"## {table.title}\n\n| " in report
    assert "no \\| memory" in report
    assert "name-description, 20 facts (mask ratio): 2 of 2 runs done" in report


def test_page_escapes_reasons_and_loads_nothing(tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path, {"demasking": COURSE, "reverse": "<script>x</script>"}))
    page = render_page([grid], "fixed")
    assert "<script>" not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_comparison_is_written_with_its_figures(grid: Grid, ablation: Grid, tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = report_grids([grid.folder, ablation.folder], out, "fixed")
    figures = make_figures([grid, ablation], "fixed")
    assert files.markdown.read_text() == render_report([grid, ablation], "fixed", figures)
    assert [file.stem for file in files.figures] == [figure.name for figure in figures]
    for file in files.figures:
        assert f"](figures/{file.name})" in files.markdown.read_text()
    assert len(files.figures) == 5
    assert files.html.read_text().count('role="img"') == sum(len(figure.panels) for figure in figures) == 10


def test_what_else_training_changed_stands_beside_the_arms_that_measured_it(grid: Grid) -> None:
    def measured(cell: CellResult) -> CellResult:
        if cell.run is None or cell.arm != "demasking":
            return cell
        measures = {"leak": Estimate(0.25, 0.1, 0.4, 20), "drift": Estimate(0.031, 0.02, 0.04, 48)}
        retention = Retention({}, measures, {}, {}, {}, "person", ())
        return replace(cell, run=replace(cell.run, retention=retention))

    assert tables.retention_table([grid]).rows == ()
    changed = replace(grid, cells=tuple(map(measured, grid.cells)))
    table = tables.retention_table([changed])
    assert [row[3] for row in table.rows] == ["demasking"]
    row = dict(zip(table.headers, table.rows[0], strict=True))
    assert row["unrelated prompts that leak"] == "0.25 (0.25–0.25)"
    assert row["known facts kept"] == MISSING
    assert any(made.title.startswith(table.title) for made in make_tables([changed], "fixed"))
