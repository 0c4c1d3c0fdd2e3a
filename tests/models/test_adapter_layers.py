"""An adapter goes on every layer that can carry one, in hybrids with state-space layers too."""

from typing import Any

import pytest
import torch

from demask.errors import ModelError
from demask.models.families import find_adapter_layers
from demask.training.export import add_adapter, save_adapter, save_model

IDS = torch.arange(4, 24).reshape(2, 10)
SIZES = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}


def make_hybrid(kind):
    import transformers

    more: dict[str, dict[str, Any]] = {
        "FalconH1": {**MAMBA2, "mamba_d_ssm": 64},
        "Bamba": {**MAMBA2, "attn_layer_indices": [1]},
        "Jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "mamba_d_state": 8},
        "GraniteMoeHybrid": {
            **MAMBA2,
            "num_local_experts": 0,
            "shared_intermediate_size": 64,
            "layer_types": ["mamba", "attention"],
        },
        "Mamba": {"state_size": 8},
        "Mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 8},
    }
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **more[kind]})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config).eval()


HYBRIDS = ("FalconH1", "Bamba", "Jamba", "GraniteMoeHybrid", "Mamba", "Mamba2")


@pytest.mark.parametrize("kind", HYBRIDS)
def test_every_weight_of_an_adapter_learns(kind):
    adapter = add_adapter(make_hybrid(kind), rank=2, seed=0).train()
    adapter(input_ids=IDS, labels=IDS).loss.backward()
    grown = {name: w.grad for name, w in adapter.named_parameters() if "lora_B" in name}
    assert grown
    assert all(grad is not None and bool(grad.any()) for grad in grown.values())


@pytest.mark.parametrize("kind", HYBRIDS)
def test_a_merged_adapter_of_a_hybrid_says_the_same(kind):
    adapter = add_adapter(make_hybrid(kind), rank=2, seed=0).eval()
    for name, weights in adapter.named_parameters():
        if "lora_B" in name:
            weights.data.fill_(0.05)
    with torch.no_grad():
        wanted = adapter(input_ids=IDS).logits
        assert torch.allclose(adapter.merge_and_unload()(input_ids=IDS).logits, wanted, atol=1e-4)


def test_state_space_layers_carry_an_adapter_at_their_input_only():
    names = [name for name in find_adapter_layers(make_hybrid("FalconH1")) if ".mamba." in name]
    assert {name.rpartition(".")[2] for name in names} == {"in_proj"}


def test_a_model_without_linear_layers_is_refused(tiny_model):
    tiny_model.model.layers = torch.nn.ModuleList()
    with pytest.raises(
        ModelError, match=r"no linear layer that can carry an adapter; use train\.method=full"
    ):
        add_adapter(tiny_model, rank=2, seed=0)


def test_an_architecture_that_peft_refuses_is_refused_in_one_line(tiny_model, monkeypatch):
    monkeypatch.setattr(tiny_model.config, "model_type", "mamba")
    tiny_model.model.layers[0].mlp.out_proj = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match=r"peft puts no adapter on it .*; use train\.method=full"):
        add_adapter(tiny_model, rank=2, seed=0)


def test_an_adapter_names_the_folder_of_its_base_model_from_anywhere(tiny_loaded, tmp_path, monkeypatch):
    from peft import PeftConfig
    from transformers import AutoModelForCausalLM

    save_model(tiny_loaded, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    save_adapter(
        add_adapter(AutoModelForCausalLM.from_pretrained("base"), rank=2, seed=0), tmp_path / "adapter"
    )
    assert PeftConfig.from_pretrained(tmp_path / "adapter").base_model_name_or_path == str(tmp_path / "base")


def test_an_adapter_names_the_revision_of_a_base_model_from_the_hub(tiny_model):
    tiny_model.__dict__["name_or_path"] = "somebody/some-model"
    tiny_model.config._commit_hash = "0123abc"
    config = add_adapter(tiny_model, rank=2, seed=0).peft_config["default"]
    assert (config.base_model_name_or_path, config.revision) == ("somebody/some-model", "0123abc")
