"""Tables and pages of matrices: every number with its runs, every failure with its reason."""

from pathlib import Path

import pytest
from tests.comparison.matrix_folders import Course, write_matrix, write_run

from demask.comparison import tables
from demask.comparison.hypotheses import judge_claims
from demask.comparison.page import compare_matrices, drop_constant, make_tables, render_page, render_report
from demask.comparison.results import Matrix, load_matrix
from demask.reports.tables import Table

COURSE: Course = {0: (1, 0), 4: (10, 4), 8: (19, 18)}


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    arms = {"next-token": {0: (1, 0), 4: (8, 1), 8: (10, 1)}, "demasking": COURSE, "diffusion": "no | memory"}
    return load_matrix(write_matrix(tmp_path / "arms", arms, seeds=(0, 1), few_shot=(9, 12)))


@pytest.fixture
def ablation(tmp_path: Path) -> Matrix:
    variants = {"ratio 0": {0: (0, 0), 4: (1, 0), 8: (2, 0)}, "ratio U(.05,.95)": COURSE}
    return load_matrix(write_matrix(tmp_path / "ratio", variants, ablation="mask ratio"))


def _row(table: Table, name: str) -> dict[str, str]:
    row = next(row for row in table.rows if name in row)
    return dict(zip(table.headers, row, strict=True))


def test_every_row_is_as_wide_as_the_headers(matrix: Matrix, ablation: Matrix) -> None:
    for table in make_tables([matrix, ablation], "fixed"):
        assert {len(row) for row in table.rows} == {len(table.headers)}, table.title


def test_arms_stand_between_floor_and_ceiling(matrix: Matrix) -> None:
    table = tables.arms_table([matrix], "fixed")
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
    matrix = load_matrix(write_matrix(tmp_path, {"untouched": {0: (1, 0)}, "demasking": COURSE}))
    table = tables.arms_table([matrix], "fixed")
    assert table.rows[0][2] == "untouched"
    assert "before training" not in [row[2] for row in table.rows]
    assert _row(table, "untouched")["forward, contains"].startswith("0.05 [")


def test_failed_cells_stand_in_their_row_with_the_reason(matrix: Matrix) -> None:
    for table in (tables.arms_table([matrix], "fixed"), tables.cost_table([matrix])):
        assert _row(table, "diffusion")["failed or missing"] == "seeds 0, 1 failed: no | memory"
        assert _row(table, "demasking")["failed or missing"] == "none"


def test_what_was_chosen_on_the_test_questions_says_so(matrix: Matrix, ablation: Matrix) -> None:
    titles = {table.title for table in make_tables([matrix, ablation], "paper")}
    for title in ("Table 1: accuracy of the arms", "Table 10: ablations"):
        assert any(one.startswith(f"{title} (chosen on the test questions)") for one in titles)
    findings = tables.findings_table(judge_claims([matrix], "paper"), "paper")
    assert findings.title.endswith("(chosen on the test questions)")
    assert render_report([matrix], "paper").splitlines()[0].endswith("(chosen on the test questions)")
    assert "(chosen on the test questions)" not in render_report([matrix], "fixed")


def test_claims_that_no_run_is_about_stand_below_the_table_and_not_in_it(
    matrix: Matrix, tmp_path: Path
) -> None:
    findings = judge_claims([matrix], "fixed")
    table = tables.findings_table(findings, "fixed")
    untested = {found.claim.statement for found in findings if not found.attempted}
    assert {row[2] for row in table.rows} == {found.claim.statement for found in findings} - untested
    assert untested
    assert all(claim in table.note for claim in untested)
    alone = load_matrix(write_matrix(tmp_path / "alone", {"demasking": COURSE}))
    assert tables.findings_table(judge_claims([alone], "fixed"), "fixed").rows == ()


def test_columns_that_tell_rows_nothing_move_into_the_title(matrix: Matrix) -> None:
    table = Table(
        "T",
        ("benchmark", "model", "arm", "failed or missing"),
        (("b", "m", "x", "none"), ("b", "m", "y", "none")),
    )
    assert drop_constant(table) == Table("T: b, m", ("arm",), (("x",), ("y",)))
    several = Table("T", ("benchmark", "model", "arm"), (("a", "m", "x"), ("b", "m", "x")))
    assert drop_constant(several) == Table("T: m", ("benchmark", "arm"), (("a", "x"), ("b", "x")))


def test_few_shot_table_has_only_arms_that_were_asked_so(matrix: Matrix, tmp_path: Path) -> None:
    table = tables.few_shot_table([matrix])
    assert [row[2] for row in table.rows] == ["next-token", "demasking"]
    assert _row(table, "demasking")["backward, contains"].startswith("0.60 [")
    without = load_matrix(write_matrix(tmp_path / "without", {"demasking": COURSE}))
    assert tables.few_shot_table([without]).rows == ()


def test_cost_is_per_step_and_beside_next_token(tmp_path: Path) -> None:
    folder = write_matrix(tmp_path, {"next-token": COURSE, "demasking": None})
    write_run(folder / "embedded/demasking/seed-0", COURSE, tokens_per_step=250)
    matrix = load_matrix(folder)
    row = _row(tables.cost_table([matrix]), "demasking")
    assert row["tokens"] == "250 (× 2.50)"
    assert row["TFLOP"] == "0.0015 (× 2.50)"  # 6 x 1,000,000 parameters x 250 tokens
    assert row["seconds"] == "2.00 (× 1.00)"
    counted = tables.cost_table([matrix], lambda cell: 3e12)
    assert _row(counted, "demasking")["TFLOP"] == "3 (× 1.00)"
    assert "6 N" not in counted.note


def test_level_table_says_when_and_whether_a_level_was_reached(matrix: Matrix) -> None:
    table = tables.level_table([matrix])
    assert _row(table, "demasking")["forward, steps"] == "8"
    assert _row(table, "demasking")["forward, tokens"] == "800"
    assert _row(table, "next-token")["backward, steps"] == "not reached by 8"


def test_fit_that_is_not_there_gives_its_reason(matrix: Matrix) -> None:
    assert _row(tables.fits_table([matrix]), "demasking")["k per step, contains"] == "2 points, a fit needs 3"


def test_ablations_are_no_arms_and_arms_are_no_ablations(matrix: Matrix, ablation: Matrix) -> None:
    assert "ratio 0" not in {row[2] for row in tables.arms_table([matrix, ablation], "fixed").rows}
    table = tables.ablation_table([matrix, ablation], "fixed")
    assert [row[3] for row in table.rows] == ["ratio 0", "ratio U(.05,.95)"]


def test_report_holds_every_table_and_no_markup_of_a_reason(matrix: Matrix, ablation: Matrix) -> None:
    report = render_report([matrix, ablation], "fixed")
    for table in make_tables([matrix, ablation], "fixed"):
        assert f"## {table.title}\n\n| " in report
    assert "no \\| memory" in report
    assert "name-description, 20 facts (mask ratio): 2 of 2 runs done" in report


def test_page_escapes_reasons_and_loads_nothing(tmp_path: Path) -> None:
    matrix = load_matrix(write_matrix(tmp_path, {"demasking": COURSE, "reverse": "<script>x</script>"}))
    page = render_page([matrix], "fixed")
    assert "<script>" not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_comparison_is_written_with_its_figures(matrix: Matrix, ablation: Matrix, tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = compare_matrices([matrix.folder, ablation.folder], out, "fixed")
    assert files.markdown.read_text() == render_report([matrix, ablation], "fixed", files.figures)
    for figure in files.figures:
        assert f"](figures/{figure.svg.name})" in files.markdown.read_text()
    assert files.html.read_text().count("data:image/svg+xml;base64,") == len(files.figures) == 5


def test_without_matplotlib_the_tables_are_written_all_the_same(
    matrix: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demask.comparison.page.can_draw", lambda: False)
    files = compare_matrices([matrix.folder], tmp_path / "out", "fixed")
    assert files.figures == ()
    assert "No figures: they need matplotlib (pip install 'demask[figures]')" in files.markdown.read_text()
