"""Attention by products gives what the formula gives, as nearly as bfloat16 lets PyTorch's own do."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from demask.models.acceleration.packing import PACKED, attend_short, is_short, using_attention
from demask.models.acceleration.target_logits import score_targets
from demask.objectives.batches import pack
from demask.records import Example

Tensors = list[Tensor]


def draw(length: int, heads: int = 6, groups: int = 2, width: int = 16) -> Tensors:
    generator = torch.Generator().manual_seed(length)
    shapes = [(1, heads, length, width), (1, groups, length, width), (1, groups, length, width)]
    return [torch.randn(shape, generator=generator).bfloat16() for shape in shapes]


def run(attend, inputs: Tensors) -> Tensors:
    """Output and gradients of queries, keys and values, in float64."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = attend(*leaves)
    out.backward(torch.linspace(-1, 1, out.numel()).view(out.shape).to(out.dtype))
    return [out.detach().double(), *(x.grad.double() for x in leaves)]


@pytest.mark.parametrize("length", [1, 7, 40])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scale", [None, 0.4])
def test_values_and_gradients_are_those_of_the_formula(length: int, causal: bool, scale: float | None):
    def formula(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return scaled_dot_product_attention(query, key, value, is_causal=causal, scale=scale, enable_gqa=True)

    inputs = draw(length)
    exact = run(formula, [x.double() for x in inputs])
    ours = run(lambda q, k, v: attend_short(q, k, v, causal=causal, scale=scale), inputs)
    theirs = run(formula, inputs)
    for mine, usual, true in zip(ours, theirs, exact, strict=True):
        assert mine.shape == true.shape
        error = (mine - true).pow(2).mean().sqrt()
        assert error <= 2 * (usual - true).pow(2).mean().sqrt() + 1e-3 * true.std(correction=0)


def test_a_later_token_moves_nothing_before_it():
    query, key, value = draw(12)
    out = attend_short(query, key, value, causal=True, scale=None)
    key[:, :, 8:], value[:, :, 8:] = 9.0, 9.0
    changed = attend_short(query, key, value, causal=True, scale=None)
    assert torch.equal(out[:, :, :8], changed[:, :, :8])
    assert not torch.equal(out[:, :, 8:], changed[:, :, 8:])


def test_only_short_sequences_in_bfloat16_on_a_cpu_go_this_way():
    short = torch.empty(1, 2, 256, 4, dtype=torch.bfloat16)
    assert is_short(short)
    assert not is_short(torch.empty(1, 2, 257, 4, dtype=torch.bfloat16))
    assert not is_short(short.float())
    assert not is_short(short.to("meta"))


def test_packed_training_in_bfloat16_goes_this_way_and_dropout_does_not(make_model, monkeypatch):
    seen: list[int] = []

    def note(query: Tensor, *rest: Tensor, **how: Any) -> Tensor:
        seen.append(query.shape[2])
        return attend_short(query, *rest, **how)

    monkeypatch.setattr("demask.models.acceleration.packing.attend_short", note)
    texts = [tuple(range(5, 25)), tuple(range(9, 20))]
    batch = pack([Example(str(n), ids, ids, (True,) * len(ids)) for n, ids in enumerate(texts)])
    for model, expected in ((make_model(), [20, 11] * 2), (make_model(attention_dropout=0.5), [])):
        seen.clear()
        model.train()
        with using_attention(model, PACKED), torch.autocast("cpu", torch.bfloat16):
            score_targets(model, batch, head_of=model).nats_N.mean().backward()
        assert seen == expected
