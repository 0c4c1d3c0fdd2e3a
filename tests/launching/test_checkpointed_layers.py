"""Layers that are computed twice give the same loss and the same gradients."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.checkpoint import CheckpointPolicy
from torch.utils.flop_counter import FlopCounterMode

from demask.errors import ModelError
from demask.models.acceleration.layers import _choose, checkpointed_layers
from demask.models.acceleration.packing import PACKED, using_attention
from demask.models.acceleration.target_logits import score_targets
from demask.objectives.batches import Batch, pack
from demask.records import Example

Gradients = dict[str, torch.Tensor]


def make_batch() -> Batch:
    texts = [tuple(range(5, 25)), tuple(range(9, 20))]
    return pack([Example(str(n), ids, ids, (True,) * len(ids)) for n, ids in enumerate(texts)])


def backward(model) -> tuple[float, Gradients, int]:
    """Loss and gradients of a packed batch in training mode, and how often the first layer was computed."""
    calls: list[None] = []
    hook = model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(None))
    model.train()
    with using_attention(model, PACKED):
        loss = score_targets(model, make_batch(), head_of=model).nats_N.mean()
        loss.backward()
    hook.remove()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return float(loss.detach()), gradients, len(calls)


def test_loss_and_gradients_are_those_of_layers_that_are_kept(make_model: Callable) -> None:
    model = make_model()
    loss, gradients, once = backward(model)
    with checkpointed_layers(model):
        again, others, twice = backward(model)
    assert (once, twice) == (1, 2)
    assert again == loss
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)


def test_products_that_are_kept_are_computed_once_and_all_else_twice(make_model: Callable) -> None:
    model = make_model()
    with FlopCounterMode(display=False) as usual:
        loss, gradients, _ = backward(model)
    with checkpointed_layers(model, keep_products=True), FlopCounterMode(display=False) as kept:
        again, others, twice = backward(model)
    with checkpointed_layers(model), FlopCounterMode(display=False) as not_kept:
        backward(model)
    assert twice == 2
    assert kept.get_total_flops() == usual.get_total_flops() < not_kept.get_total_flops()
    assert again == loss
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)


def test_products_and_attention_are_told_by_their_names() -> None:
    aten = torch.ops.aten
    dear = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten._scaled_dot_product_flash_attention_for_cpu)
    cheap = (aten.mul, aten._to_copy, aten.silu, aten.rsqrt, aten.cat, aten.native_layer_norm)
    assert {_choose(None, op.default) for op in dear} == {CheckpointPolicy.MUST_SAVE}
    assert {_choose(None, getattr(op, op.overloads()[0])) for op in cheap} == {
        CheckpointPolicy.PREFER_RECOMPUTE
    }


def test_afterwards_layers_are_computed_once_again(make_model: Callable) -> None:
    model = make_model()
    with checkpointed_layers(model):
        pass
    assert backward(model)[2] == 1


def test_a_model_that_cannot_is_named(make_model: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with (
        pytest.raises(ModelError, match=r"LlamaForCausalLM: .* leave out launch.gradient_checkpointing"),
        checkpointed_layers(model),
    ):
        pass
