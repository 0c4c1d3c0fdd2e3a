"""Figures are well-formed, describe themselves and put values where they belong."""

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from demask.reports.drawing import Scale, fit_scale, smooth, thin, ticks
from demask.reports.figures import accuracy_bars, accuracy_curve, learning_curves
from demask.reports.runs import LossPoint, load_run, load_runs
from demask.storage.run_folder import RunFolder

SVG = "{http://www.w3.org/2000/svg}"


def _texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_figure_is_xml_with_role_title_and_description(make_run: Callable[..., RunFolder]) -> None:
    runs = load_runs([make_run("a", objective="next-token"), make_run("b")])
    figures = [accuracy_bars(runs, "forward"), accuracy_curve(runs, "backward"), *learning_curves(runs)]
    assert len(figures) == 4
    for svg in figures:
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert [child.tag for child in root][:2] == [f"{SVG}title", f"{SVG}desc"]
        assert all(child.text for child in list(root)[:2])


def test_bars_are_as_long_as_their_values(make_run: Callable[..., RunFolder]) -> None:
    svg = accuracy_bars([load_run(make_run())], "backward")
    widths = [float(rect.get("width", "nan")) for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect")]
    assert len(widths) == 3
    assert widths[1] / widths[2] == pytest.approx(0.875, abs=0.001)
    assert "0.88 [0.65, 1.00]" in _texts(svg)


def test_floor_and_ceiling_that_arms_share_are_drawn_once(make_run: Callable[..., RunFolder]) -> None:
    runs = load_runs([make_run("a", objective="next-token"), make_run("b")])
    labels = _texts(accuracy_bars(runs, "forward"))
    assert labels.count("before") == 1
    assert "next-token, after" in labels
    assert "demasking, after" in labels


def test_what_was_not_measured_is_not_drawn(make_run: Callable[..., RunFolder]) -> None:
    run = load_run(make_run(directions=("forward",), optional=False))
    assert accuracy_bars([run], "backward") == ""
    assert accuracy_curve([run], "forward") == ""
    assert learning_curves([replace(run, losses=())]) == []


def test_hostile_labels_stay_text(make_run: Callable[..., RunFolder]) -> None:
    run = replace(load_run(make_run()), label="</text><script>\x00\"'")
    for svg in (
        *learning_curves([run]),
        accuracy_curve([run], "forward"),
        accuracy_bars([run, run], "forward"),
    ):
        assert not list(ElementTree.fromstring(svg).iter(f"{SVG}script"))
        assert any("<script>" in text for text in _texts(svg))


def test_loss_without_masked_and_copied_parts_shows_the_whole(make_run: Callable[..., RunFolder]) -> None:
    run = replace(load_run(make_run()), losses=(LossPoint(1, 2.0, None, None), LossPoint(2, 1.0, None, None)))
    (svg,) = learning_curves([run])
    assert "all tokens" in _texts(svg)


@pytest.mark.parametrize(
    ("noise", "name"), [("count", "bound on −log p"), ("ratio", "weighted loss"), (None, "weighted loss")]
)
def test_the_loss_of_diffusion_is_called_a_bound_only_where_it_is(
    make_run: Callable[..., RunFolder], noise: str | None, name: str
) -> None:
    config = {"objective": {"name": "diffusion", "noise": noise}}
    losses = (LossPoint(1, 2.0, None, None), LossPoint(2, 1.0, None, None))
    run = replace(load_run(make_run()), losses=losses, objective="diffusion", config=config)
    (svg,) = learning_curves([run])
    assert name in _texts(svg)


@pytest.mark.parametrize("values", [[math.nan, 1.0], [0.0, 0.0], [1.0], [0.0, 1e-6, 3.0]])
def test_odd_losses_are_drawn_without_odd_places(
    make_run: Callable[..., RunFolder], values: list[float]
) -> None:
    losses = tuple(LossPoint(step, value, value, None) for step, value in enumerate(values))
    (svg,) = learning_curves([replace(load_run(make_run()), losses=losses)])
    ElementTree.fromstring(svg)
    assert not re.search(r"\b(nan|inf)\b", svg)


def test_scale_is_logarithmic_only_when_values_span_more_than_tenfold() -> None:
    assert fit_scale([0.1, 3.0], 100, 0).log
    assert not fit_scale([1.0, 3.0], 100, 0).log
    scale = Scale(1.0, 100.0, 0.0, 10.0, log=True)
    assert scale.place(10.0) == pytest.approx(5.0)
    assert scale.place(1000.0) == 10.0


@pytest.mark.parametrize("high", [0.003, 1.0, 7.0, 120.0, 98765.0])
def test_linear_ticks_are_few_round_and_within(high: float) -> None:
    found = ticks(Scale(0.0, high, 0.0, 1.0))
    assert 2 <= len(found) <= 6
    assert found[0] == 0.0
    assert found[-1] <= high * (1 + 1e-9)
    steps = {round(b - a, 9) for a, b in itertools.pairwise(found)}
    assert len(steps) == 1


@pytest.mark.parametrize(("low", "high"), [(0.007, 3.9), (1e-9, 10.0), (0.9, 11.0)])
def test_log_ticks_are_few_and_within(low: float, high: float) -> None:
    found = ticks(Scale(low, high, 0.0, 1.0, log=True))
    assert 1 <= len(found) <= 6
    assert low <= found[0] <= found[-1] <= high


def test_smoothing_keeps_length_ends_and_straight_lines() -> None:
    line = [float(i) for i in range(50)]
    assert smooth(line) == pytest.approx(line)
    assert smooth([5.0]) == [5.0]


def test_thinning_keeps_both_ends() -> None:
    points = [(float(i), 0.0) for i in range(5000)]
    kept = thin(points, 400)
    assert len(kept) == 400
    assert (kept[0], kept[-1]) == (points[0], points[-1])
