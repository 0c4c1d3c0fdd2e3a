"""A trained model goes back towards its base, as far as the budget asks for, and no further."""

import copy

import pytest
import torch

from demask.training.interpolation import SHARES, find_share, move_between


def weights_of(model):
    return {name: weights.detach().clone() for name, weights in model.named_parameters()}


@pytest.fixture
def trained(tiny_model):
    base = weights_of(tiny_model)
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.ones_like(weights))
    return model, base


def distance(model, base):
    return max(
        float((weights.detach() - base[name]).abs().max()) for name, weights in model.named_parameters()
    )


@pytest.mark.parametrize(("budget", "share"), [(2.0, 1.0), (0.55, 0.5), (0.35, 0.3), (0.01, 0.1)])
def test_it_stops_at_the_largest_share_within_the_budget(trained, budget, share):
    model, base = trained
    points = find_share(model, base, budget=budget, drift_of=lambda: distance(model, base))
    assert points[-1].share == share
    assert [point.share for point in points] == list(SHARES[: len(points)])
    assert distance(model, base) == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize(("budget", "share"), [(0.57, 0.55), (0.53, 0.525), (0.51, 0.5), (2.0, 1.0)])
def test_halvings_find_a_larger_share_between_two_that_were_tried(trained, budget, share):
    model, base = trained
    points = find_share(model, base, budget=budget, drift_of=lambda: distance(model, base), halvings=2)
    assert points[-1].share == pytest.approx(share)
    assert points[-1].drift <= budget
    assert distance(model, base) == pytest.approx(share, abs=1e-5)
    assert len({point.share for point in points}) == len(points)


def test_at_the_ends_it_is_either_model(trained):
    model, base = trained
    tuned = weights_of(model)
    move_between(model, base, tuned, 0.0)
    assert distance(model, base) == 0
    move_between(model, base, tuned, 1.0)
    assert all(torch.allclose(weights, tuned[name]) for name, weights in model.named_parameters())


def test_weights_that_the_base_does_not_have_stay(trained):
    model, base = trained
    name = next(iter(base))
    kept = dict(model.named_parameters())[name].detach().clone()
    rest = {other: weights for other, weights in base.items() if other != name}
    find_share(model, rest, budget=0.0, drift_of=lambda: 1.0)
    assert torch.equal(dict(model.named_parameters())[name], kept)
