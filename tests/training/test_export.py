"""What is stored is what was trained and asked, for weights and adapters, in the format the model came in."""

import dataclasses
import json

import pytest
import torch
import yaml
from safetensors import SafetensorError

from demask.errors import ModelError, RunError
from demask.models.load import load_model
from demask.training.export import add_adapter, describe_adapter, round_weights, save_adapter, save_model

IDS = torch.arange(4, 24).reshape(2, 10)


@torch.no_grad()
def logits_of(model):
    return model(input_ids=IDS).logits


def spoil_adapter(adapter):
    """Give the factors that start at zero some weight, as training does."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, weights in adapter.named_parameters():
            if "lora_B" in name:
                weights.data.normal_(std=0.1)


def reload(folder):
    return load_model(str(folder), device="cpu")


@pytest.mark.parametrize("tied", [True, False])
def test_a_stored_model_says_the_same(tiny_loaded, make_model, tmp_path, tied):
    loaded = dataclasses.replace(tiny_loaded, model=make_model(tie_word_embeddings=tied))
    save_model(loaded, tmp_path / "model")
    assert torch.equal(logits_of(reload(tmp_path / "model").model), logits_of(loaded.model))


def test_tokenizer_and_template_are_stored_with_it(tiny_loaded, tmp_path):
    save_model(tiny_loaded, tmp_path / "model")
    stored = reload(tmp_path / "model")
    assert stored.tokenizer.chat_template == tiny_loaded.tokenizer.chat_template
    assert stored.chat == tiny_loaded.chat


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_in_memory_after_rounding_is_what_is_stored(tiny_loaded, make_model, tmp_path, tied):
    model = make_model(tie_word_embeddings=tied)
    exact = logits_of(model)
    loaded = dataclasses.replace(tiny_loaded, model=model, stored_dtype=torch.bfloat16)
    round_weights(loaded.model, torch.bfloat16)
    save_model(loaded, tmp_path / "model")
    assert not torch.equal(logits_of(loaded.model), exact)
    assert torch.equal(logits_of(reload(tmp_path / "model").model), logits_of(loaded.model))


def test_weights_are_stored_in_the_format_they_came_in(tiny_loaded, tmp_path):
    loaded = dataclasses.replace(tiny_loaded, stored_dtype=torch.bfloat16)
    save_model(loaded, tmp_path / "model")
    assert reload(tmp_path / "model").stored_dtype == torch.bfloat16
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    size = (tmp_path / "model" / "model.safetensors").stat().st_size
    assert 2 * loaded.parameters < size < 3 * loaded.parameters


def test_storing_leaves_the_model_in_float32(tiny_loaded, tmp_path):
    before = logits_of(tiny_loaded.model)
    save_model(dataclasses.replace(tiny_loaded, stored_dtype=torch.bfloat16), tmp_path / "model")
    assert torch.equal(logits_of(tiny_loaded.model), before)
    assert tiny_loaded.model.dtype == torch.float32


def test_rounding_to_float32_changes_nothing(tiny_model):
    before = logits_of(tiny_model)
    round_weights(tiny_model, torch.float32)
    assert torch.equal(logits_of(tiny_model), before)


def test_rounding_twice_is_rounding_once(tiny_model):
    round_weights(tiny_model, torch.bfloat16)
    once = logits_of(tiny_model)
    round_weights(tiny_model, torch.bfloat16)
    assert torch.equal(logits_of(tiny_model), once)


def test_a_new_adapter_changes_nothing_yet(make_model):
    adapter = add_adapter(make_model(), rank=4, seed=0).eval()
    assert torch.equal(logits_of(adapter), logits_of(make_model()))


def test_only_the_adapter_is_trained_on_all_linear_layers_but_the_output(make_model):
    adapter = add_adapter(make_model(tie_word_embeddings=False), rank=4, seed=0)
    trained = {name for name, weights in adapter.named_parameters() if weights.requires_grad}
    assert all("lora_" in name for name in trained)
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in trained}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_an_adapter_is_a_function_of_its_seed(make_model):
    first, same, other = (
        dict(add_adapter(make_model(), rank=4, seed=seed).named_parameters()) for seed in (0, 0, 1)
    )
    assert all(torch.equal(weights, same[name]) for name, weights in first.items())
    assert not all(torch.equal(weights, other[name]) for name, weights in first.items())


def test_making_an_adapter_draws_nothing_from_the_global_generator(make_model):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    add_adapter(make_model(), rank=4, seed=0)
    assert torch.equal(torch.rand(1), expected)


def test_a_merged_adapter_says_the_same_after_reloading(tiny_loaded, make_model, tmp_path):
    adapter = add_adapter(make_model(), rank=4, seed=0).eval()
    spoil_adapter(adapter)
    wanted = logits_of(adapter)
    merged = dataclasses.replace(tiny_loaded, model=adapter.merge_and_unload())
    save_model(merged, tmp_path / "model")
    found = logits_of(reload(tmp_path / "model").model)
    assert torch.equal(found, logits_of(merged.model))
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not torch.allclose(found, logits_of(make_model()), atol=1e-2)


def test_a_stored_adapter_says_the_same_on_its_base_model(make_model, tmp_path):
    from peft import PeftModel

    adapter = add_adapter(make_model(), rank=4, seed=0).eval()
    spoil_adapter(adapter)
    save_adapter(adapter, tmp_path / "adapter")
    again = PeftModel.from_pretrained(make_model(), tmp_path / "adapter").eval()
    assert torch.equal(logits_of(again), logits_of(adapter))


def test_the_page_of_an_adapter_replaces_the_form_of_peft(make_model, tmp_path):
    save_adapter(add_adapter(make_model(), rank=4, seed=0), tmp_path / "adapter")
    page = (tmp_path / "adapter" / "README.md").read_text()
    assert "More Information Needed" not in page
    assert "rank 4" in page


@pytest.mark.parametrize("revision", ["abc123", None])
def test_the_page_of_an_adapter_names_its_base_model_and_revision(make_model, revision):
    config = add_adapter(make_model(), rank=4, seed=0).peft_config["default"]
    config.base_model_name_or_path, config.revision = "owner/base", revision
    front, text = describe_adapter(config).split("---\n")[1:]
    assert yaml.safe_load(front)["base_model"] == "owner/base"
    assert ("from_pretrained('owner/base', revision='abc123')" in text) == (revision is not None)


def test_the_page_of_an_adapter_claims_no_hub_model_for_a_folder(make_model, tmp_path):
    config = add_adapter(make_model(), rank=4, seed=0).peft_config["default"]
    config.base_model_name_or_path = str(tmp_path)
    front, text = describe_adapter(config).split("---\n")[1:]
    assert "base_model" not in yaml.safe_load(front)
    assert f"from_pretrained('{tmp_path}')" in text


MASK = 3


def rows_of(model):
    return model.get_input_embeddings().weight.detach().clone()


def train_a_little(adapter):
    """Some steps that reach every weight that is trained."""
    trained = [weights for weights in adapter.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1)
    ids = torch.tensor([[5, MASK, 7, MASK, 9]])
    for _ in range(3):
        optimizer.zero_grad()
        adapter(input_ids=ids, labels=torch.tensor([[5, 6, 7, 8, 9]])).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("tied", [True, False])
def test_the_row_of_one_token_learns_with_an_adapter_and_no_other(tiny_loaded, make_model, tmp_path, tied):
    model = make_model(tie_word_embeddings=tied)
    before, head = rows_of(model), model.get_output_embeddings().weight.detach().clone()
    adapter = add_adapter(model, rank=4, seed=0, trained_token=MASK)
    trained = {name for name, weights in adapter.named_parameters() if weights.requires_grad}
    assert sum("lora_" not in name for name in trained) == 1
    train_a_little(adapter)
    wanted = logits_of(adapter.eval())
    merged = adapter.merge_and_unload()
    others = torch.arange(len(before)) != MASK
    after = rows_of(merged)
    assert torch.equal(after[others], before[others])
    assert not torch.allclose(after[MASK], before[MASK], atol=1e-3)
    output = merged.get_output_embeddings().weight
    assert torch.equal(output, after if tied else head)
    loaded = dataclasses.replace(tiny_loaded, model=merged)
    assert torch.allclose(logits_of(merged), wanted, atol=1e-4)
    save_model(loaded, tmp_path / "model")
    assert torch.equal(logits_of(reload(tmp_path / "model").model), logits_of(merged))


@pytest.mark.parametrize("tied", [True, False])
def test_a_stored_adapter_keeps_the_row(make_model, tmp_path, tied):
    from peft import PeftModel

    adapter = add_adapter(make_model(tie_word_embeddings=tied), rank=4, seed=0, trained_token=MASK)
    train_a_little(adapter)
    save_adapter(adapter, tmp_path / "adapter")
    again = PeftModel.from_pretrained(make_model(tie_word_embeddings=tied), tmp_path / "adapter").eval()
    ids = torch.tensor([[5, MASK, 7]])
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, adapter.eval()(input_ids=ids).logits)


def test_a_layout_of_others_is_refused_before_anything_is_written(tiny_loaded, tmp_path):
    with pytest.raises(ModelError, match="autoregressive, expected a masked-diffusion model for the layout"):
        save_model(tiny_loaded, tmp_path / "model", layout="dream")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")]
)
def test_a_failed_write_leaves_no_folder(tiny_loaded, tmp_path, monkeypatch, error):
    def fail(*args, **rest):
        raise error

    monkeypatch.setattr(tiny_loaded.tokenizer, "save_pretrained", fail)
    with pytest.raises(RunError, match=r"the model cannot be written .*No space left.*free some space"):
        save_model(tiny_loaded, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_model_can_be_stored_again_over_one_of_a_killed_run(tiny_loaded, make_model, tmp_path):
    save_model(tiny_loaded, tmp_path / "model")
    other = dataclasses.replace(tiny_loaded, model=make_model(seed=1))
    save_model(other, tmp_path / "model")
    assert torch.equal(logits_of(reload(tmp_path / "model").model), logits_of(other.model))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
