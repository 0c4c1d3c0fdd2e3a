"""Figures of matrices: both forms, the same bytes again, names that do not print over each other."""

from itertools import pairwise
from pathlib import Path

import pytest
from tests.comparison.matrix_folders import write_matrix

pytest.importorskip("matplotlib")

from demask.comparison.curves import Curve, make_curve
from demask.comparison.figures import draw_curves, draw_figures, draw_variants
from demask.comparison.results import load_matrix, summarise_cells
from demask.errors import RunError

COURSE = {0: (1, 0), 1: (2, 0), 2: (4, 1), 4: (10, 4), 8: (16, 12), 16: (19, 18)}


LOW = {0: (0, 0), 8: (1, 0), 16: (1, 0)}


def _curves(folder: Path, arms: int, course: dict[int, tuple[int, int]] = COURSE) -> dict[str, list[Curve]]:
    matrix = load_matrix(write_matrix(folder, {f"arm {i}": course for i in range(arms)}))
    return {d: [make_curve([cell], d) for cell in matrix.cells] for d in ("forward", "backward")}


def test_figures_come_as_svg_and_png_with_words(tmp_path: Path) -> None:
    matrix = load_matrix(write_matrix(tmp_path / "m", {"demasking": COURSE, "reverse": None}))
    files = draw_figures([matrix], "fixed", tmp_path / "figures")
    assert [file.title.split(":")[0] for file in files] == ["Accuracy over steps", "Accuracy over tokens"]
    assert files[0].svg.read_text().startswith("<?xml")
    assert files[0].png.read_bytes().startswith(b"\x89PNG")
    assert "forward, demasking: 0.95 [0.75, 0.99] at step 16" in files[0].words


def test_figures_are_the_same_bytes_when_drawn_again(tmp_path: Path) -> None:
    matrix = load_matrix(
        write_matrix(tmp_path / "m", {"ratio 0": COURSE}, ablation="mask ratio", seeds=(0, 1))
    )
    first = draw_figures([matrix], "fixed", tmp_path / "a")
    second = draw_figures([matrix], "fixed", tmp_path / "b")
    assert len(first) == 3
    for one, other in zip(first, second, strict=True):
        assert one.svg.read_bytes() == other.svg.read_bytes()
        assert one.png.read_bytes() == other.png.read_bytes()


@pytest.mark.parametrize("course", [COURSE, LOW])
def test_names_of_equal_lines_stand_apart_inside_the_panel(
    tmp_path: Path, course: dict[int, tuple[int, int]]
) -> None:
    figure = draw_curves(_curves(tmp_path, 9, course), "nine alike", "steps")
    for panel in figure.axes:
        heights = sorted(text.get_position()[1] for text in panel.texts)
        assert len(heights) == 9
        assert min(b - a for a, b in pairwise(heights)) > 0.05
        assert heights[0] >= 0
        assert heights[-1] <= 1.04


def test_arm_looks_the_same_in_both_panels_and_unlike_the_others(tmp_path: Path) -> None:
    curves = _curves(tmp_path, 9)
    curves["backward"] = curves["backward"][4:]
    forward, backward = draw_curves(curves, "t", "steps").axes

    def looks(panel: object) -> dict[str, tuple[str, str]]:
        named = [line for line in panel.lines if line.get_linewidth() == 0]
        return {
            t.get_text(): (x.get_color(), x.get_marker()) for t, x in zip(panel.texts, named, strict=True)
        }

    drawn = [(line.get_color(), line.get_marker()) for line in backward.lines if line.get_linewidth() == 1.8]
    assert drawn == list(looks(forward).values())[4:]
    assert looks(backward).items() <= looks(forward).items()
    assert len(set(looks(forward).values())) == 9


def test_curve_is_drawn_in_doublings_of_what_it_is_drawn_against(tmp_path: Path) -> None:
    panel = draw_curves(_curves(tmp_path, 1), "t", "tokens").axes[0]
    assert list(panel.lines[0].get_xdata()) == [100, 200, 400, 800, 1600]
    assert panel.get_xscale() == "log"


def test_variant_that_failed_keeps_its_row(tmp_path: Path) -> None:
    variants = {"ratio 0": COURSE, "ratio 1": "out of memory"}
    matrix = load_matrix(write_matrix(tmp_path, variants, ablation="mask ratio"))
    figure = draw_variants(summarise_cells(matrix, "fixed"), "t")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ratio 0", "ratio 1"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.95", "not measured"]


def test_missing_matplotlib_is_said_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demask.comparison.figures.can_draw", lambda: False)
    with pytest.raises(RunError, match=r"needs matplotlib: pip install 'demask\[figures\]'"):
        draw_figures([], "fixed", tmp_path)
