"""The bound is what enumeration says it is, its estimate is not biased, and its error not too small."""

import dataclasses
import itertools
import math
import statistics

import numpy as np
import pytest
import torch

from demask.errors import DataError, ModelError
from demask.generation.likelihood import (
    LogLikelihood,
    Masker,
    Request,
    combine_draws,
    draw_mask_set,
    estimate_log_likelihood,
    measure_bounds,
    rank_options,
    spread_sizes,
)

TEXTS = list(itertools.product(range(3), repeat=4))
ALL = 15  # masks of four tokens


def bound(toy, requests, *, draws=ALL, seed=0, batch_tokens=64):
    masker = Masker(toy, 3, 0, torch.device("cpu"))
    return measure_bounds(masker, requests, draws=draws, batch_tokens=batch_tokens, seed=seed)


def subsets(length):
    return [m for size in range(1, length + 1) for m in itertools.combinations(range(length), size)]


def by_order(toy, text):
    """The chain rule, in every order."""
    chains = [
        sum(nats_of_one(toy, text, order[step:], place) for step, place in enumerate(order))
        for order in itertools.permutations(range(4))
    ]
    return -statistics.fmean(chains)


def nats_of_one(toy, text, mask, place):
    pattern = tuple(3 if where in mask else word for where, word in enumerate(text))
    return -float(toy.logits[pattern][place].log_softmax(dim=0)[text[place]])


def by_ratio(toy, text):
    """The integral over mask ratios; its integrand is a polynomial, so that three points are exact."""
    points, weights = np.polynomial.legendre.leggauss(6)
    total = 0.0
    for t, weight in zip((points + 1) / 2, weights / 2, strict=True):
        chances = {m: t ** len(m) * (1 - t) ** (4 - len(m)) for m in subsets(4)}
        total += weight / t * sum(chance * toy.nats(text, m) for m, chance in chances.items())
    return -total


def test_three_forms_of_the_bound_agree(make_toy):
    toy = make_toy(1, consistent=False)
    found = bound(toy, [Request((), text) for text in TEXTS])
    for text, one in zip(TEXTS, found, strict=True):
        assert one.error == 0
        assert one.nats == pytest.approx(by_order(toy, text), abs=1e-10)
        assert one.nats == pytest.approx(by_ratio(toy, text), abs=1e-10)


def test_a_consistent_model_reaches_the_likelihood(make_toy):
    toy = make_toy(2, consistent=True)
    found = bound(toy, [Request((), text) for text in TEXTS])
    for text, one in zip(TEXTS, found, strict=True):
        assert one.nats == pytest.approx(math.log(toy.joint[text]), abs=1e-10)
        assert one.tokens == 4


def test_another_model_stays_below_what_it_would_reach(make_toy):
    # The chance that its chains give all texts together, on average over orders, is one.
    toy = make_toy(3, consistent=False)
    assert sum(math.exp(one.nats) for one in bound(toy, [Request((), text) for text in TEXTS])) < 1


@pytest.mark.parametrize("split", [(1, 2), (2, 3), (0, 3), (1, 4)])
def test_an_answer_in_its_context_has_its_conditional_likelihood(make_toy, split):
    toy, (start, end) = make_toy(2, consistent=True), split
    text = (2, 0, 1, 1)
    around = tuple(slice(None) if start <= p < end else word for p, word in enumerate(text))
    expected = math.log(toy.joint[text] / toy.joint[around].sum())
    (one,) = bound(toy, [Request(text[:start], text[start:end], text[end:])])
    assert one.nats == pytest.approx(expected, abs=1e-10)
    assert one.error == 0


def test_numbers_of_masked_tokens_are_exactly_uniform():
    for length in range(1, 33):
        for draws in range(1, 33):
            starts = [spread_sizes(length, draws, start) for start in range(length)]
            for drawn in zip(*starts, strict=True):  # of one draw
                assert sorted(drawn) == list(range(1, length + 1))
            for sizes in starts:
                counts = [sizes.count(size) for size in range(1, length + 1)]
                assert max(counts) - min(counts) <= 1


def test_masks_of_a_size_are_equally_likely():
    counts = dict.fromkeys(subsets(4), 0)
    for seed in range(600):
        for mask in draw_mask_set(4, 8, seed).masks:
            counts[mask] += 1
    for mask, count in counts.items():
        chance = 1 / (4 * math.comb(4, len(mask)))
        assert abs(count - 4800 * chance) < 4 * math.sqrt(4800 * chance * (1 - chance))


def test_short_answers_are_enumerated_when_there_are_draws_enough():
    assert [draw_mask_set(4, draws, 0).drawn for draws in (14, 15, 16)] == [True, False, False]
    assert draw_mask_set(1, 2, 0).masks == ((0,),)
    every = draw_mask_set(3, 7, 0)
    assert sorted(every.masks) == sorted(subsets(3))
    # Weight times size, over all masks: each token counts once on average.
    assert sum(w * len(m) for w, m in zip(every.weights, every.masks, strict=True)) == pytest.approx(3)


@pytest.mark.parametrize("consistent", [True, False])
@pytest.mark.parametrize("draws", [2, 5, 8, 14])
def test_estimates_scatter_around_the_bound_as_their_error_says(make_toy, draws, consistent):
    toy, text, seeds = make_toy(4, consistent=consistent), (0, 2, 1, 0), 300
    table = {mask: toy.nats(text, mask) for mask in subsets(4)}
    found = []
    for seed in range(seeds):
        drawn = draw_mask_set(4, draws, seed)
        found.append(combine_draws([table[mask] for mask in drawn.masks], drawn, 4))
    (exact,) = bound(toy, [Request((), text)])
    spread = statistics.stdev(one.nats for one in found)
    assert abs(statistics.fmean(one.nats for one in found) - exact.nats) < 4 * spread / math.sqrt(seeds)
    # The variance of 300 estimates is itself known to a twelfth.
    assert statistics.fmean(one.error**2 for one in found) > 0.8 * spread**2


RISES = {
    "rising": lambda share: 1 + 3 * share,
    "falling": lambda share: 3 - 2 * share,
    "at the end": lambda share: 1 + 4 * share**6,
    "at once": lambda share: 1 + 3 * (share > 0.3),
    "flat": lambda share: 2.0,
}


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("rise", RISES.values(), ids=RISES.keys())
@pytest.mark.parametrize(("length", "draws"), [(7, 5), (7, 21), (40, 8)])
def test_the_error_is_not_too_small(length, draws, rise, noise):
    rng, template = np.random.default_rng(length * draws), draw_mask_set(length, draws, 0)
    found = []
    for start in rng.integers(length, size=300).tolist():
        masks = [range(size) for size in spread_sizes(length, draws, start)]
        drawn = template._replace(
            masks=tuple(map(tuple, masks)), weights=tuple(length / (len(m) * draws) for m in masks)
        )
        nats = [len(m) * (rise(len(m) / length) + noise * rng.standard_normal()) for m in masks]
        found.append(combine_draws(nats, drawn, length))
    variance = statistics.pvariance(one.nats for one in found)
    claimed = statistics.fmean(one.error**2 for one in found)
    assert claimed >= 0.8 * variance - 1e-12
    if noise and rise is RISES["flat"]:  # and, where nothing rises, neither too large
        assert claimed < 1.25 * variance


def test_estimates_of_a_toy_are_within_four_errors(make_toy):
    toy = make_toy(5, consistent=True)
    requests = [Request((), text) for text in TEXTS]
    found = bound(toy, requests, draws=14)
    errors = [
        (one.nats - math.log(toy.joint[text])) / one.error for text, one in zip(TEXTS, found, strict=True)
    ]
    assert max(map(abs, errors)) < 4


def test_two_draws_are_the_least(make_toy):
    with pytest.raises(ValueError, match="draws is 1, expected at least 2"):
        bound(make_toy(0, consistent=True), [Request((), (0, 0, 0, 0))], draws=1)


REQUESTS = [
    Request((5, 6, 7), (8, 9, 10)),
    Request((5,), (11, 12), (13, 14, 15, 16)),
    Request((7, 8, 9, 10, 11, 12, 13, 14), (300, 301, 302, 303, 304)),
    Request((5, 6), (20,)),
    Request((5, 6, 7), (21, 22, 23)),
]


@torch.no_grad()
def enumerate_masks(loaded, request):
    """Brute force: a forward pass and all logits for every mask."""
    form = loaded.model.config.diffusion
    total, length = 0.0, len(request.answer)
    for mask in subsets(length):
        tokens = [*request.before, *request.answer, *request.after]
        places = [len(request.before) + place for place in mask]
        labels = [tokens[place] for place in places]
        for place in places:
            tokens[place] = form["mask_token_id"]
        logits = loaded.model(input_ids=torch.tensor([tokens])).logits[0].double()
        logits[:, form["mask_token_id"]] = -torch.inf
        chances = logits.log_softmax(dim=1)
        nats = -sum(chances[p - form["alignment"], w] for p, w in zip(places, labels, strict=True))
        total -= float(nats) / (len(mask) * math.comb(length, len(mask)))
    return total


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("alignment", [0, 1])
def test_bounds_of_a_model_are_those_of_brute_force(make_diffusion, alignment, kind):
    loaded = make_diffusion(alignment, kind=kind)
    found = estimate_log_likelihood(loaded, REQUESTS, draws=31, batch_tokens=100, seed=0)
    assert [one.tokens for one in found] == [3, 2, 5, 1, 3]
    for request, one in zip(REQUESTS, found, strict=True):
        assert one.nats == pytest.approx(enumerate_masks(loaded, request), abs=1e-4)


def test_an_estimate_does_not_depend_on_its_batch(make_diffusion):
    loaded = make_diffusion()
    longer = [Request((4, 5), range(30, 40)), *REQUESTS, Request((), range(40, 50), (4,))]
    whole = estimate_log_likelihood(loaded, longer, draws=6, batch_tokens=10**6, seed=0)
    for batch_tokens in (1, 50):
        parts = estimate_log_likelihood(loaded, longer[::-1], draws=6, batch_tokens=batch_tokens, seed=0)
        for one, other in zip(whole, parts[::-1], strict=True):
            assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(other), abs=1e-4)
    again = estimate_log_likelihood(loaded, longer, draws=6, batch_tokens=10**6, seed=1)
    assert whole[0] != again[0]


def test_answers_of_a_length_share_their_masks(make_toy):
    class Watched:
        patterns = ()

        def __call__(self, ids, real, places):
            self.patterns += tuple((row == 3).nonzero()[:, 0].tolist() for row in ids)
            return toy(ids, real, places)

    toy, watched = make_toy(0, consistent=True), Watched()
    bound(watched, [Request((), (0, 1, 2, 0)), Request((), (2, 2, 2, 2))], draws=8)
    assert watched.patterns[:8] == watched.patterns[8:]
    assert len(set(map(tuple, watched.patterns))) > 2


def test_a_batch_keeps_to_its_tokens_and_tells_what_is_finished(make_diffusion, monkeypatch):
    loaded = make_diffusion()
    sizes: list[int] = []
    counts: list[int] = []
    forward = loaded.model.forward

    def watch(*args, **inputs):
        sizes.append(inputs["input_ids"].numel())
        return forward(*args, **inputs)

    monkeypatch.setattr(loaded.model, "forward", watch)
    estimate_log_likelihood(loaded, REQUESTS, draws=7, batch_tokens=30, seed=0, on_done=counts.append)
    assert max(sizes) <= 30
    assert len(sizes) == len(counts) < 7 + 7 + 7 + 3 + 1
    assert sum(counts) == len(REQUESTS)


def test_one_token_takes_one_forward_pass(make_diffusion, monkeypatch):
    loaded, rows = make_diffusion(1), []
    forward = loaded.model.forward
    monkeypatch.setattr(
        loaded.model, "forward", lambda **i: (rows.append(len(i["input_ids"])), forward(**i))[1]
    )
    (one,) = estimate_log_likelihood(loaded, REQUESTS[3:4], draws=99, batch_tokens=999, seed=0)
    assert rows == [1]
    assert one.error == 0


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request((1,), ()), "request 1: has no answer"),
        (Request((), (1, 2)), r"request 1: nothing stands before its answer.*\(alignment 1\)"),
        (Request((1,), (1, 3)), "request 1: the mask token 3 is in its answer, expected words"),
    ],
)
def test_requests_that_have_no_likelihood_are_refused(make_diffusion, request_, message):
    with pytest.raises(DataError, match=message):
        estimate_log_likelihood(make_diffusion(1), [REQUESTS[0], request_], draws=4, batch_tokens=99, seed=0)


def test_an_autoregressive_model_is_refused(tiny_loaded):
    with pytest.raises(ModelError, match="autoregressive, expected a masked-diffusion model"):
        estimate_log_likelihood(tiny_loaded, REQUESTS, draws=4, batch_tokens=99, seed=0)


def test_no_requests_no_bounds(make_diffusion):
    assert estimate_log_likelihood(make_diffusion(), [], draws=4, batch_tokens=99, seed=0) == []


def test_options_are_ranked_by_their_bound_or_by_its_share_a_token():
    options = [LogLikelihood(-6.0, 0, 2), LogLikelihood(-5.0, 0, 1), LogLikelihood(-6.0, 0, 3)]
    assert rank_options(options) == [1, 0, 2]
    assert rank_options(options, per_token=True) == [2, 0, 1]
