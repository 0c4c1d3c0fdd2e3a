"""The loss is cross-entropy, in float32, and its sums add up over micro-batches."""

import math

import pytest
import torch

from demask.losses.cross_entropy import sum_loss, token_nats
from demask.losses.terms import TokenLoss

pytestmark = pytest.mark.smoke

VOCABULARY = 11


def random_logits(rows, seed=0):
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def test_an_uninformed_model_scores_log_v():
    nats = token_nats(torch.zeros(5, VOCABULARY), torch.arange(5))
    assert nats.tolist() == pytest.approx([math.log(VOCABULARY)] * 5, abs=1e-6)


def test_a_certain_model_scores_zero():
    logits = torch.full((3, VOCABULARY), -1e4)
    logits[range(3), range(3)] = 1e4
    assert token_nats(logits, torch.arange(3)).tolist() == [0, 0, 0]


def test_nats_are_minus_log_of_the_softmax():
    logits = random_logits(4)
    labels = torch.tensor([3, 0, 10, 3])
    for row, label, nats in zip(logits, labels, token_nats(logits, labels), strict=True):
        exponents = [math.exp(value) for value in row.tolist()]
        assert float(nats) == pytest.approx(-math.log(exponents[label] / sum(exponents)), abs=1e-5)


def test_bfloat16_logits_are_scored_in_float32():
    logits = random_logits(64).bfloat16()
    nats = token_nats(logits, torch.zeros(64, dtype=torch.int64))
    assert nats.dtype == torch.float32
    assert torch.equal(nats, token_nats(logits.float(), torch.zeros(64, dtype=torch.int64)))


def test_sum_and_count_are_of_the_chosen_tokens_only():
    loss = sum_loss(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([True, False, True]))
    assert (float(loss.nats), int(loss.tokens)) == (5.0, 2)


def test_an_infinite_loss_that_is_not_chosen_does_not_spoil_the_sum():
    loss = sum_loss(torch.tensor([1.0, math.inf, math.nan]), torch.tensor([True, False, False]))
    assert (float(loss.nats), int(loss.tokens)) == (1.0, 1)


def test_nothing_chosen_is_nothing_over_nothing():
    loss = sum_loss(torch.tensor([1.0]), torch.tensor([False]))
    assert (float(loss.nats), int(loss.tokens)) == (0.0, 0)


@pytest.mark.parametrize("cuts", [[12], [6, 6], [1, 2, 9], [1] * 12])
def test_loss_is_additive_over_micro_batches(cuts):
    logits, labels = random_logits(12), torch.arange(12) % VOCABULARY
    chosen = torch.arange(12) % 3 != 0
    nats = token_nats(logits, labels)
    whole = sum_loss(nats, chosen)
    parts = [
        sum_loss(token_nats(rows, ids), picked)
        for rows, ids, picked in zip(logits.split(cuts), labels.split(cuts), chosen.split(cuts), strict=True)
    ]
    total = TokenLoss(
        torch.stack([part.nats for part in parts]).sum(), torch.stack([part.tokens for part in parts]).sum()
    )
    assert float(total.nats) == pytest.approx(float(whole.nats), rel=1e-6)
    assert int(total.tokens) == int(whole.tokens)


def test_gradient_is_softmax_minus_label():
    logits = random_logits(2).requires_grad_()
    labels = torch.tensor([3, 5])
    token_nats(logits, labels).sum().backward()
    expected = logits.detach().softmax(-1) - torch.nn.functional.one_hot(labels, VOCABULARY)
    assert torch.allclose(logits.grad, expected, atol=1e-6)
