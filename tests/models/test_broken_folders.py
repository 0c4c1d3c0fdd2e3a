"""A folder that holds no model that can be trained is refused in one line that names what is wrong."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from demask.errors import ModelError
from demask.models.load import load_model

WEIGHTS = "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 268\n"


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    """A model folder that a test may break."""
    return shutil.copytree(tiny_model_folder, tmp_path / "model")


def set_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder, change):
    weights = load_file(folder / WEIGHTS)
    save_file(change(weights), folder / WEIGHTS, metadata={"format": "pt"})


def split_weights(folder):
    """As two files with an index, which is returned."""
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(weights)
    index: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    return index


def write_index(folder, content):
    (folder / "model.safetensors.index.json").write_text(content)


def assert_refused(folder, match):
    with pytest.raises(ModelError, match=match) as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("file", [WEIGHTS, "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_named(folder, file):
    (folder / file).write_text(POINTER)
    assert_refused(folder, rf"{file}: a pointer of Git LFS .* run 'git lfs pull'")


def test_a_link_that_leads_nowhere_is_named(folder):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(folder / "gone")
    assert_refused(folder, "no such file; a link leads nowhere")


def test_pickled_weights_are_named(folder):
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    assert_refused(folder, r"no weights there.*pytorch_model\.bin is pickled")


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x10\0\0\0\0\0\0\0not a header at all"])
def test_broken_safetensors_are_refused(folder, content):
    (folder / WEIGHTS).write_bytes(content)
    assert_refused(folder, "its model cannot be loaded")


def test_a_shard_that_is_missing_is_named(folder):
    write_index(folder, json.dumps({"metadata": {}, "weight_map": split_weights(folder)}))
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert_refused(folder, r"model-00002-of-00002\.safetensors")


def test_a_shard_that_the_index_does_not_name_is_missed(folder):
    index = split_weights(folder)
    first = {name: file for name, file in index.items() if "00001" in file}
    write_index(folder, json.dumps({"metadata": {}, "weight_map": first}))
    assert_refused(folder, "of its weights are missing")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {"a": 3}}'])
def test_a_broken_index_is_refused(folder, content):
    split_weights(folder)
    write_index(folder, content)
    assert_refused(folder, "its model cannot be loaded")


def test_shards_with_a_whole_index_are_loaded(folder, tiny_model):
    write_index(folder, json.dumps({"metadata": {}, "weight_map": split_weights(folder)}))
    weights = load_model(str(folder), device="cpu").model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in tiny_model.state_dict().items())


def test_weights_of_another_shape_are_named_with_both_shapes(folder, tiny_model):
    rows = tiny_model.config.vocab_size
    set_config(folder, vocab_size=rows + 8)
    assert_refused(folder, rf"has the shape \[{rows}, 32\], expected \[{rows + 8}, 32\] by its config.json")


def test_weights_that_have_no_place_are_refused_and_not_lost(folder):
    change_weights(folder, lambda weights: {**weights, "visual.patch.weight": torch.ones(3)})
    assert_refused(folder, r"1 of its weights have no place in the model, such as visual\.patch\.weight")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(folder, value):
    def spoil(weights):
        weights["model.layers.1.mlp.up_proj.weight"][2, 3] = value
        return weights

    change_weights(folder, spoil)
    assert_refused(folder, r"model\.layers\.1\.mlp\.up_proj\.weight holds NaN or infinity")


@pytest.mark.parametrize("place", ["outer", "inner"])
def test_quantised_checkpoints_are_refused(folder, place):
    note = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    set_config(folder, **(note if place == "outer" else {"text_config": note}))
    assert_refused(folder, r"its weights are quantised \(gptq\)")


def test_weights_stored_as_integers_are_quantised_whatever_the_configuration_says(folder):
    change_weights(folder, lambda weights: {name: w.to(torch.int8) for name, w in weights.items()})
    assert_refused(folder, r"its weights are quantised \(.* is stored as I8\)")


def test_an_architecture_of_the_checkpoints_own_code_is_refused(folder):
    set_config(folder, model_type="homemade", auto_map={"AutoConfig": "configuration_homemade.Config"})
    assert_refused(folder, r"model_type 'homemade' is known to the checkpoint's own code only \(auto_map\)")


def test_code_beside_an_architecture_that_is_known_is_not_run(folder):
    set_config(folder, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    (folder / "modeling_evil.py").write_text("raise SystemExit('was run')")
    assert type(load_model(str(folder), device="cpu").model).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize("kind", ["t5", "bart", "whisper"])
def test_a_model_with_an_encoder_is_refused(folder, kind):
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    assert_refused(folder, "has an encoder, too")


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "32"},
        {"num_attention_heads": 0},
        {"vocab_size": -4},
        {"hidden_act": "none-such"},
        {"dtype": "float99"},
        {"rope_parameters": {"rope_type": "none-such"}},
        {"model_type": 3},
    ],
)
def test_a_configuration_of_nonsense_is_refused(folder, changes):
    set_config(folder, **changes)
    assert_refused(folder, "cannot be loaded")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_broken_settings_file_is_refused(folder, file, content):
    (folder / file).write_bytes(content)
    assert_refused(folder, r"cannot be loaded|config\.json: holds a list")


def test_a_tokenizer_of_a_newer_version_is_refused(folder):
    path = folder / "tokenizer.json"
    settings = json.loads(path.read_text())
    settings["model"]["type"] = "Other"
    path.write_text(json.dumps(settings))
    assert_refused(folder, "its tokenizer cannot be loaded .* update transformers and tokenizers")


def test_a_folder_without_a_vocabulary_is_refused_and_not_given_an_empty_one(folder):
    set_config(folder, model_type="qwen2")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert_refused(folder, r"its tokenizer cannot be loaded \(no vocabulary there\)")


def test_a_template_with_a_token_that_the_embedding_lacks_is_refused(folder, tiny_tokenizer):
    tiny_tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tiny_tokenizer.chat_template = tiny_tokenizer.chat_template.replace("<|im_start|>", "<|turn|>")
    tiny_tokenizer.save_pretrained(folder)
    assert_refused(folder, r"has the token '<\|turn\|>' \(id \d+\), and its embedding \d+ rows")


def test_a_token_of_text_that_the_embedding_lacks_is_refused(folder, tiny_tokenizer):
    tiny_tokenizer.add_tokens(["Orlin"])
    tiny_tokenizer.save_pretrained(folder)
    assert_refused(folder, "has the token 'Orlin'")


def test_a_special_token_beyond_the_embedding_that_nothing_writes_is_harmless(folder, tiny_tokenizer):
    tiny_tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tiny_tokenizer.save_pretrained(folder)
    assert load_model(str(folder), device="cpu").chat.end


def test_padding_beyond_the_embedding_is_not_used(folder, tiny_tokenizer):
    tiny_tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tiny_tokenizer.save_pretrained(folder)
    loaded = load_model(str(folder), device="cpu")
    assert loaded.pad_id == loaded.chat.end[-1]


@pytest.mark.parametrize(
    "template", ["{{ 1 + 'a' }}", "{{ 1 / 0 }}", "{% for %}", "{{ raise_exception('no') }}"]
)
def test_a_template_that_cannot_be_filled_in_is_refused(folder, template):
    (folder / "chat_template.jinja").write_text(template)
    assert_refused(folder, "chat template: cannot write one user and one assistant turn")


def test_memory_that_is_out_keeps_its_error(folder, monkeypatch):
    def fail(*args, **rest):
        raise torch.OutOfMemoryError("out")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(torch.OutOfMemoryError):
        load_model(str(folder), device="cpu")


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.rotary_emb.inv_freq", "h.0.attn.masked_bias"])
def test_constants_of_older_checkpoints_are_no_weights(folder, name):
    change_weights(folder, lambda weights: {**weights, name: torch.ones(4)})
    assert load_model(str(folder), device="cpu").chat.end
