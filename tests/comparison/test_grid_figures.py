"""Figures of grids: one file each, the same bytes again, arms that look alike in both panels."""

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from tests.comparison.grid_folders import Course, write_grid

from demask.comparison.figures import make_figures
from demask.comparison.page import report_grids
from demask.comparison.results import load_grid

COURSE = {0: (1, 0), 1: (2, 0), 2: (4, 1), 4: (10, 4), 8: (16, 12), 16: (19, 18)}


def _strokes(panel: str) -> dict[str, str]:
    """How the line of each arm is drawn, from the legend."""
    return {
        name: style
        for style, name in re.findall(r'<path d="M0 \d+H26" style="([^"]*)"/><text [^>]*>([^<]*)<', panel)
    }


def test_curves_are_drawn_over_steps_and_over_tokens(tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path / "m", {"demasking": COURSE, "reverse": None}))
    steps, tokens = make_figures([grid], "fixed")
    assert steps.title == "Accuracy over steps: embedded on name-description, 20 facts"
    assert "forward, demasking: 0.95 [0.75, 0.99] at step 16" in steps.words
    assert len(steps.panels) == 2
    assert "steps, log scale" in steps.panels[0]
    assert ">1,000<" in tokens.panels[0]


def test_files_are_the_same_bytes_when_drawn_again_and_stand_on_their_own(tmp_path: Path) -> None:
    folder = write_grid(tmp_path / "m", {"ratio 0": COURSE}, ablation="mask ratio", seeds=(0, 1))
    first, second = (report_grids([folder], tmp_path / out, "fixed").figures for out in "ab")
    assert len(first) == 3
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert ElementTree.fromstring(one.read_text()).get("width") == "884"


def test_nine_arms_look_unlike_each_other_and_the_same_in_both_panels(tmp_path: Path) -> None:
    rows = {f"arm {i}": COURSE for i in range(9)}
    forward, backward = make_figures([load_grid(write_grid(tmp_path, rows))], "fixed")[0].panels
    assert _strokes(forward) == _strokes(backward)
    assert list(_strokes(forward)) == list(rows)
    assert len(set(_strokes(forward).values())) == 9


def test_curve_is_drawn_in_doublings(tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path, {"demasking": COURSE}))
    dots = re.findall(r'<circle cx="([\d.]+)"', make_figures([grid], "fixed")[0].panels[0])
    apart = [float(b) - float(a) for a, b in pairwise(dots)]
    assert len(dots) == 5
    assert max(apart) - min(apart) < 0.2


def test_variant_that_failed_keeps_its_row(tmp_path: Path) -> None:
    variants: dict[str, Course | str | None] = {"ratio 0": COURSE, "ratio 1": "out of memory"}
    grid = load_grid(write_grid(tmp_path, variants, ablation="mask ratio"))
    forward = make_figures([grid], "fixed")[-1].panels[0]
    texts = re.findall(r"<text [^>]*>([^<]*)<", forward)
    assert texts[texts.index("ratio 0") + 1] == "0.95 [0.75, 0.99]"
    assert texts[texts.index("ratio 1") + 1] == "not measured"
