"""Layers that hold less: the same bits forward, gradients as near to the truth, nothing left behind."""

from contextlib import nullcontext, suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from demask.models.acceleration.layers import checkpointed_layers, memory_efficient_layers
from demask.models.acceleration.target_logits import score_targets
from demask.objectives.batches import pad
from demask.records import Example
from demask.training.export import add_adapter

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "initializer_range": 0.1,
    "tie_word_embeddings": True,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),  # biases in attention
    "qwen3": Qwen3Config(**SIZES),  # norms of queries and keys
    "gemma3": Gemma3TextConfig(**SIZES, layer_types=["full_attention"] * 2),  # one is added to norms' weights
}


def make_model(name: str = "llama", *, adapted: bool = False) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).train()
    for parameter in model.parameters():  # norms of all ones, or zeros, would hide that their weights matter
        parameter.data += 0.02 * torch.randn_like(parameter)
    if not adapted:
        return model
    model = add_adapter(model, rank=4, seed=0)
    for parameter in model.parameters():  # an adapter that begins with zeros hides half of its gradients
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def make_batch():
    rows = [tuple((7 * row + 3 * place) % 50 for place in range(12)) for row in range(3)]
    return pad([Example(str(n), ids, ids, (True,) * 12) for n, ids in enumerate(rows)], pad_id=0)


def score(model: Any, *, bf16: bool = True) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return score_targets(model, make_batch(), head_of=model).nats_N


def lean(model: nn.Module):
    return memory_efficient_layers(model, score=torch.no_grad()(lambda: score(model)))


def replaced(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if "forward" in vars(module)}


def run(model: nn.Module, context, *, bf16: bool = True) -> tuple[Tensor, Tensor]:
    """Nats, and all gradients in one."""
    with context:
        nats = score(model, bf16=bf16)
        nats.mean().backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    model.zero_grad()
    return nats.detach(), gradient


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_no_bit_changes_forward_and_gradients_are_as_near_to_the_truth(name: str, adapted: bool) -> None:
    model = make_model(name, adapted=adapted)
    _, true = run(model, nullcontext(), bf16=False)
    usual, theirs = run(model, nullcontext())
    ours, mine = run(model, lean(model))
    assert torch.equal(ours, usual)
    assert not torch.equal(mine, true)
    assert (mine - true).norm() <= 1.25 * (theirs - true).norm()


@pytest.mark.parametrize("adapted", [False, True])
def test_about_half_is_held(adapted: bool) -> None:
    def held(context) -> int:
        storages: dict[int, int] = {}
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept.append(tensor)
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        kept: list[Tensor] = []
        layers = model.get_base_model().model if adapted else model.model
        ids = torch.arange(40)[None]
        in_bf16 = torch.autocast("cpu", torch.bfloat16)
        with context, in_bf16, saved_tensors_hooks(note, lambda tensor: tensor):
            layers(input_ids=ids, use_cache=False).last_hidden_state.sum().backward()
        model.zero_grad()
        return sum(storages.values())

    model = make_model(adapted=adapted)
    assert held(lean(model)) < 0.55 * held(nullcontext())


@pytest.mark.parametrize("keep_products", [False, True])
def test_layers_that_are_computed_twice_may_be_lean(keep_products: bool) -> None:
    model = make_model()
    usual, gradient = run(model, lean(model))
    with checkpointed_layers(model, keep_products=keep_products):
        again, other = run(model, lean(model))
    assert torch.equal(again, usual)
    assert torch.equal(other, gradient)


def test_without_autocast_all_is_as_usual() -> None:
    model = make_model()
    usual, gradient = run(model, nullcontext(), bf16=False)
    ours, mine = run(model, lean(model), bf16=False)
    assert torch.equal(ours, usual)
    assert torch.equal(mine, gradient)


def test_an_adapter_that_is_switched_off_is_off() -> None:
    model = make_model(adapted=True)
    with torch.no_grad(), model.disable_adapter():
        expected = score(model)
    with lean(model), torch.no_grad():
        adapted = score(model)
        with model.disable_adapter():
            bare = score(model)
    assert torch.equal(bare, expected)
    assert not torch.equal(adapted, bare)


@pytest.mark.parametrize("settings", [{"lora_alpha": 8}, {"lora_dropout": 0.5}, {"use_dora": True}])
def test_adapters_of_another_formula_stay_as_they_are(settings: dict[str, Any]) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        make_model(), LoraConfig(**{"r": 4, "lora_alpha": 4, "target_modules": ["up_proj"], **settings})
    )
    with lean(model):
        assert not any(path.endswith("up_proj") for path in replaced(model))


def test_what_is_of_another_formula_or_read_by_others_than_products_stays_as_it_is() -> None:
    model = make_model()

    class AddedTo(type(model.model.layers[0].mlp)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return x + super().forward(x)

    for layer in model.model.layers:
        layer.mlp.__class__ = AddedTo
    usual = score(model)
    with lean(model):
        kept = {path.rpartition(".")[2] for path in replaced(model)}
        assert torch.equal(score(model), usual)
    assert not kept & {"mlp", "post_attention_layernorm"}
    assert {"input_layernorm", "norm", "gate_proj"} <= kept


def test_layers_that_take_more_or_have_a_forward_of_their_own_keep_it() -> None:
    model = make_model()

    class Told(type(model.model.layers[0].mlp)):  # type: ignore[misc]
        def forward(self, x: Tensor, times: float) -> Tensor:
            return times * super().forward(x)

    class Telling(type(model.model.layers[0])):  # type: ignore[misc]
        def forward(self, hidden_states: Tensor, **settings: object) -> Tensor:
            attended = (
                hidden_states
                + self.self_attn(hidden_states=self.input_layernorm(hidden_states), **settings)[0]
            )
            return attended + self.mlp(self.post_attention_layernorm(attended), times=0.5)

    for layer in model.model.layers:
        layer.__class__, layer.mlp.__class__ = Telling, Told
    hooked = model.model.norm
    hooked.forward = lambda x, usual=hooked.forward: usual(x)
    by_hand = hooked.forward
    usual = score(model)
    with lean(model):
        kept = replaced(model)
        assert torch.equal(score(model), usual)
        assert hooked.forward is by_hand
    assert hooked.forward is by_hand
    assert "model.layers.0.mlp" not in kept
    assert "model.layers.0.post_attention_layernorm" in kept


def test_afterwards_nothing_is_replaced_even_where_it_failed() -> None:
    model = make_model()
    before = score(model)
    with suppress(KeyboardInterrupt), lean(model):
        assert replaced(model)
        raise KeyboardInterrupt
    assert not replaced(model)
    assert torch.equal(score(model), before)
