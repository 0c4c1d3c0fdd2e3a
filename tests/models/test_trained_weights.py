"""Which weights are trained: found by family, frozen for good, and refused where there are none."""

import pytest
import torch

from demask.errors import ConfigError, ModelError
from demask.models.acceleration.layers import memory_efficient_layers
from demask.models.acceleration.target_logits import score_targets
from demask.models.load import outline_model
from demask.models.trained_weights import count_trained, freeze_others
from demask.objectives.batches import pad
from demask.recipe.sections import Train, make_config
from demask.records import Example
from demask.training.trainer import TrainSettings, make_optimizer

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
MORE = {
    "GPT2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "n_inner": 64},
    "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "Qwen3Moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
    "GptOss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
    "Mamba": {"state_size": 8},
}


def make_outline(kind, **changes):
    import transformers

    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **MORE.get(kind, {}), **changes})
    return outline_model(config)


def trained(model, wanted):
    """Names of what is trained, without the numbers of layers."""
    freeze_others(model, wanted)
    names = [name for name, weights in model.named_parameters() if weights.requires_grad]
    return {".".join(part for part in name.split(".")[-3:] if not part.isdigit()) for name in names}


LLAMA_MLP = {"mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"}
GPT2_MLP = {"mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"}
EXPERTS = {"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("Llama", LLAMA_MLP),
        ("Gemma3Text", LLAMA_MLP),
        ("GPT2", GPT2_MLP),
        ("OPT", {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}),
        ("Qwen3Moe", EXPERTS),  # and not the router
        ("GptOss", EXPERTS | {"mlp.experts.gate_up_proj_bias", "mlp.experts.down_proj_bias"}),
    ],
)
def test_mlps_are_found_by_family(kind, names):
    assert {name.removeprefix("layers.") for name in trained(make_outline(kind), "mlp")} == names


def test_values_join_the_mlps():
    assert trained(make_outline("Llama"), "mlp-and-values") == LLAMA_MLP | {"self_attn.v_proj.weight"}


def test_tied_embeddings_are_frozen_in_both_uses_and_an_output_layer_of_its_own_is_not():
    tied = make_outline("Llama", tie_word_embeddings=True)
    assert not trained(tied, "no-embedding") & {"model.embed_tokens.weight", "lm_head.weight"}
    assert not tied.get_output_embeddings().weight.requires_grad
    names = trained(make_outline("Llama", tie_word_embeddings=False), "no-embedding")
    assert "lm_head.weight" in names
    assert "model.embed_tokens.weight" not in names
    assert not {"wte", "wpe"} & {
        name.split(".")[-2] for name in trained(make_outline("GPT2"), "no-embedding")
    }


@pytest.mark.parametrize(("kind", "layers"), [("Llama", "model.layers"), ("GPT2", "transformer.h")])
def test_a_range_of_layers_counts_from_zero_and_has_both_ends(kind, layers):
    model = make_outline(kind)
    freeze_others(model, "layers 1-2")
    for name, weights in model.named_parameters():
        assert weights.requires_grad == name.startswith((f"{layers}.1.", f"{layers}.2.")), name


def test_the_feed_forward_networks_of_some_layers_are_those_and_no_others():
    model = make_outline("Llama")
    freeze_others(model, "mlp 1-2")
    for name, weights in model.named_parameters():
        assert weights.requires_grad == name.startswith(("model.layers.1.mlp.", "model.layers.2.mlp.")), name


def test_more_layers_than_the_model_has_are_refused():
    with pytest.raises(ModelError, match=r"'layers 2-3', expected layers from 0 to 2"):
        freeze_others(make_outline("Llama"), "layers 2-3")


@pytest.mark.parametrize(
    ("kind", "wanted", "why"),
    [
        ("Mamba", "mlp", "no feed-forward network is known"),
        ("GPT2", "mlp-and-values", "its values are no weights of their own; use mlp"),
    ],
)
def test_an_architecture_without_them_is_refused_by_name(kind, wanted, why):
    with pytest.raises(ModelError, match=rf"'{wanted}' and the model a {kind}\w+: {why}"):
        freeze_others(make_outline(kind), wanted)


def test_what_is_frozen_already_stays_frozen(tiny_model):
    tiny_model.model.layers[0].mlp.up_proj.weight.requires_grad_(False)
    before = count_trained(tiny_model, "all")
    freeze_others(tiny_model, "mlp")
    assert not tiny_model.model.layers[0].mlp.up_proj.weight.requires_grad
    assert 0 < count_trained(tiny_model, "mlp") == count_trained(tiny_model, "all") < before


@pytest.mark.parametrize("wanted", ["mlp", "no-embedding", "layers 1-1"])
def test_frozen_weights_have_no_gradient_and_nothing_in_the_optimizer(make_model, wanted):
    model = make_model(num_hidden_layers=2).train()
    freeze_others(model, wanted)
    optimizer = make_optimizer(model, TrainSettings(1e-2, 1, 1, bf16=False, pad_id=0, seed=0))
    kept = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    ids = torch.arange(5, 25)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    held = {id(weights) for weights in optimizer.state}
    for name, weights in model.named_parameters():
        assert (weights.grad is not None) == weights.requires_grad == (id(weights) in held), name
        assert torch.equal(weights, kept[name]) != weights.requires_grad, name
    moments = sum(v.numel() for state in optimizer.state.values() for v in state.values() if v.dim())
    assert moments == 2 * count_trained(model, wanted)


@pytest.mark.parametrize("wanted", ["mlp-and-values", "layers 1-1", "mlp 1-1"])
def test_memory_efficient_layers_give_the_trained_weights_the_same_gradients(make_model, wanted):
    model = make_model(num_hidden_layers=2).train()
    ids = [tuple(5 + (7 * row + 3 * place) % 50 for place in range(12)) for row in range(3)]
    batch = pad([Example(str(n), row, row, (True,) * 12) for n, row in enumerate(ids)], pad_id=0)

    def score():
        with torch.autocast("cpu", torch.bfloat16):
            return score_targets(model, batch, head_of=model).nats_N

    def gradients():
        with memory_efficient_layers(model, score=torch.no_grad()(score)):
            score().mean().backward()
        found = {name: weights.grad for name, weights in model.named_parameters() if weights.grad is not None}
        model.zero_grad()
        return found

    whole = gradients()
    freeze_others(model, wanted)
    part = gradients()
    assert part.keys() == {name for name, weights in model.named_parameters() if weights.requires_grad}
    assert all(torch.equal(whole[name], gradient) for name, gradient in part.items())


@pytest.mark.parametrize("wrong", ["mpl", "layers 4", "layers 5-3", "layers -1-3", "8-24", "mlp 5-3"])
def test_an_unknown_choice_is_named_with_those_that_there_are(wrong):
    with pytest.raises(ConfigError, match=r"train.weights: expected all, no-embedding, mlp.* 'layers 8-24'"):
        make_config({"model": "m", "documents": "d", "train": {"weights": wrong}})


def test_an_adapter_beside_it_is_refused():
    with pytest.raises(ConfigError, match=r"weights is 'mlp' and method 'lora', expected all"):
        make_config({"model": "m", "documents": "d", "train": {"weights": "mlp", "method": "lora"}})
    assert Train(method="lora").weights == "all"
