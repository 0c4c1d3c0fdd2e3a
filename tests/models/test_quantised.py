"""Base models in four bits: what bitsandbytes makes of them, and that an adapter on them is trained."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from demask.errors import ModelError
from demask.models.quantised import (
    count_bytes,
    count_weights,
    dequantise,
    dequantise_layers,
    is_quantised,
    kept_as,
    quantise_layers,
)
from demask.training.export import add_adapter, merge_adapter

bitsandbytes = pytest.importorskip("bitsandbytes")
CPU = torch.device("cpu")


@pytest.fixture
def make_wide(make_model: Callable[..., Any]) -> Callable[..., Any]:
    """The tiny model with rows as wide as a block."""
    return lambda **changes: make_model(**{"hidden_size": 64, "intermediate_size": 128, **changes})


def quantise(model: Any, compute: torch.dtype = torch.float32) -> Any:
    quantise_layers(model, CPU, compute=compute)
    return model


def ids() -> torch.Tensor:
    return torch.arange(5, 29)[None]


def take_steps(model: Any, count: int = 4) -> list[float]:
    """The losses of a few steps of training one text."""
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    model.train()
    for _ in range(count):
        logits = model(input_ids=ids()).logits[0, :-1]
        loss = functional.cross_entropy(logits.float(), ids()[0, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def spoil(adapted: Any) -> None:
    """Give an adapter something to say."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "lora_" in name:
                weights.copy_(0.1 * torch.randn(weights.shape, generator=generator))


def test_a_model_in_four_bits_is_close_to_itself_and_far_smaller(make_wide):
    whole, model = make_wide(), quantise(make_wide())
    layer, weights = model.model.layers[0].mlp.up_proj, whole.model.layers[0].mlp.up_proj.weight
    assert is_quantised(model)
    assert not is_quantised(whole)
    assert layer.weight.dtype == torch.uint8
    error = (dequantise(layer) - weights).norm() / weights.norm()
    assert 0.05 < error < 0.12  # of normal numbers in NF4 0.09
    assert count_weights(model) == count_weights(whole)


def test_the_output_layer_and_the_embedding_stay_as_they_are(make_wide):
    model, whole = quantise(make_wide(tie_word_embeddings=False)), make_wide(tie_word_embeddings=False)
    assert type(model.lm_head) is nn.Linear
    for part in ("lm_head", "model.embed_tokens", "model.norm"):
        assert torch.equal(model.get_submodule(part).weight, whole.get_submodule(part).weight)


def test_layers_whose_rows_are_no_whole_blocks_are_left_alone(make_wide):
    # 96 numbers to a row: bitsandbytes reads those wrongly on a CPU.
    model = quantise(make_wide(intermediate_size=96))
    layer = model.model.layers[0].mlp
    assert type(layer.down_proj) is nn.Linear
    assert layer.up_proj.weight.dtype == torch.uint8


def test_the_forward_is_that_of_the_weights_that_it_stands_for(make_wide):
    model = quantise(make_wide()).eval()
    plain = dequantise_layers(quantise(make_wide()), torch.float32).eval()
    assert not is_quantised(plain)
    with torch.no_grad():
        assert torch.allclose(model(input_ids=ids()).logits, plain(input_ids=ids()).logits, atol=1e-5)
    assert kept_as(model) == kept_as(plain) == "nf4"


def test_gradients_are_those_of_the_same_adapter_on_dequantised_weights(make_wide):
    four_bits = add_adapter(quantise(make_wide()), rank=4, seed=0)
    plain = add_adapter(dequantise_layers(quantise(make_wide()), torch.float32), rank=4, seed=0)
    for model in (four_bits, plain):
        spoil(model)
        model(input_ids=ids(), labels=ids()).loss.backward()
    found = {n.replace(".default", ""): w.grad for n, w in four_bits.named_parameters() if w.requires_grad}
    for name, weights in plain.named_parameters():
        if weights.requires_grad:
            assert torch.allclose(found[name.replace(".default", "")], weights.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_an_evaluation_before_training_takes_no_gradients_away(make_wide, monkeypatch, compute):
    # On processors with AVX512-BF16 the layers would be packed for a kernel without gradients. The flag is
    # read when a layer is made, so that the test also holds where the processor lacks the instructions.
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)
    straight, asked = (add_adapter(quantise(make_wide(), compute), rank=4, seed=0) for _ in range(2))
    asked.eval()
    with torch.no_grad():
        asked(input_ids=ids())
    assert not any(
        getattr(layer.weight.quant_state, "packing_format_for_cpu", False)
        for layer in asked.modules()
        if isinstance(layer, bitsandbytes.nn.Linear4bit)
    )
    expected = take_steps(straight)
    assert expected[-1] < expected[0] - 0.1
    assert take_steps(asked) == expected


def test_merging_dequantises_once_and_adds_in_float32(make_wide):
    adapted = add_adapter(quantise(make_wide()), rank=4, seed=0).eval()
    spoil(adapted)
    expected = {}
    for name, layer in adapted.named_modules():
        if hasattr(layer, "get_delta_weight"):
            up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
            key = name.removeprefix("base_model.model.")
            expected[key] = (dequantise(layer.base_layer) + up @ down).to(torch.bfloat16)
    with torch.no_grad():
        said = adapted(input_ids=ids()).logits
    merged = merge_adapter(adapted, torch.bfloat16)
    assert not is_quantised(merged)
    assert expected
    for name, weights in expected.items():
        assert torch.equal(merged.get_parameter(f"{name}.weight"), weights)
    with torch.no_grad():
        again = merged.float()(input_ids=ids()).logits
    assert torch.allclose(again, said, atol=0.05)  # rounded to bfloat16 once


def test_merging_into_bfloat16_gives_the_bits_of_merging_in_float32(make_wide):
    adapters = []
    for dtype in (torch.bfloat16, torch.float32):
        model = make_wide().to(torch.bfloat16).to(dtype)
        adapted = add_adapter(model, rank=4, seed=0).eval()
        assert {w.dtype for w in adapted.parameters() if w.requires_grad} == {torch.float32}
        spoil(adapted)
        adapters.append(merge_adapter(adapted, torch.bfloat16).state_dict())
    for name, weights in adapters[0].items():
        assert weights.dtype == torch.bfloat16
        assert torch.equal(weights, adapters[1][name].to(torch.bfloat16)), name


def test_biases_are_kept_to_the_bit_through_a_forward_in_bfloat16(make_wide):
    model = make_wide(attention_bias=True)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.bias.normal_()
    bias = model.model.layers[0].self_attn.q_proj.bias.detach().clone()
    adapted = add_adapter(quantise(model, torch.bfloat16), rank=4, seed=0).eval()
    adapted(input_ids=ids())
    merged = merge_adapter(adapted, torch.float32)
    assert torch.equal(merged.model.layers[0].self_attn.q_proj.bias, bias)


def test_the_bytes_of_a_model_are_told_before_it_is_loaded(make_wide):
    model = make_wide(hidden_size=256, intermediate_size=512)
    expected = count_bytes(model, torch.float32, four_bits=True)
    quantise(model)
    found = 0
    for weights in model.parameters():
        found += weights.numel() * weights.element_size()
        state = getattr(weights, "quant_state", None)
        if state is not None:
            found += state.absmax.numel() + 4 * state.state2.absmax.numel()
    assert found == pytest.approx(expected, rel=0.01)
    assert expected < 0.4 * count_bytes(model, torch.float32, four_bits=False)


def test_a_model_without_a_layer_for_it_is_refused(make_model):
    with pytest.raises(ModelError, match="no linear layer whose inputs are a multiple of 64"):
        quantise(make_model(hidden_size=32, intermediate_size=32))


def test_a_missing_library_is_said_in_one_line(make_wide, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match=r"needs bitsandbytes .*pip install 'demask\[qlora\]'"):
        quantise(make_wide())
