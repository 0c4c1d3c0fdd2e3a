"""A model is loaded ready to train, or refused in one line that names the way out."""

import json
import shutil

import pytest
import torch
from transformers import PreTrainedConfig

from demask.errors import ModelError
from demask.models import load as load_module
from demask.models.embedded import EMBEDDED
from demask.models.load import (
    choose_device,
    context_length,
    load_architecture,
    load_model,
    load_tokenizer,
    outline_model,
)
from demask.objectives.prompts import PLAIN_TEMPLATE, load_chat_format

pytestmark = pytest.mark.smoke


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    """A model folder that a test may break."""
    return shutil.copytree(tiny_model_folder, tmp_path / "model")


def assert_one_line(caught):
    assert "\n" not in str(caught.value)


def test_loaded_model_is_the_saved_one(tiny_model_folder, tiny_model):
    loaded = load_model(str(tiny_model_folder), device="cpu")
    saved = tiny_model.state_dict()
    assert all(torch.equal(weights, saved[name]) for name, weights in loaded.model.state_dict().items())


def test_loaded_model_knows_its_sizes(tiny_model_folder, tiny_model):
    loaded = load_model(str(tiny_model_folder), device="cpu")
    assert loaded.context == 256
    assert loaded.parameters == sum(weights.numel() for weights in tiny_model.parameters())
    assert loaded.device == torch.device("cpu")
    assert not loaded.model.training


def test_loaded_model_comes_with_its_chat_format(tiny_model_folder, tiny_tokenizer):
    assert load_model(str(tiny_model_folder), device="cpu").chat == load_chat_format(tiny_tokenizer)


def test_weights_are_float32_whatever_is_stored(make_model, tiny_tokenizer, tmp_path):
    make_model().bfloat16().save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device="cpu")
    assert {weights.dtype for weights in loaded.model.parameters()} == {torch.float32}
    assert loaded.stored_dtype == torch.bfloat16


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
def test_weights_are_as_stored_on_request(make_model, tiny_tokenizer, tmp_path, stored):
    make_model().to(stored).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device="cpu", dtype=None)
    assert {weights.dtype for weights in loaded.model.parameters()} == {stored}
    assert loaded.stored_dtype == stored


def test_weights_are_in_the_wanted_format(folder):
    loaded = load_model(str(folder), device="cpu", dtype=torch.bfloat16)
    assert {weights.dtype for weights in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.stored_dtype == torch.float32


def test_an_autoregressive_model_denoises_not(folder):
    assert load_model(str(folder), device="cpu").diffusion is None


def test_a_broken_description_of_diffusion_is_refused(folder):
    settings = json.loads((folder / "config.json").read_text())
    settings["diffusion"] = {"mask_token_id": 3, "alignment": 3, "layout": "native"}
    (folder / "config.json").write_text(json.dumps({**settings, "is_causal": False}))
    for load in (load_architecture, load_model):
        with pytest.raises(ModelError, match=r"config\.json: diffusion has alignment 3") as caught:
            load(str(folder))
        assert_one_line(caught)


def test_padding_is_the_end_of_turn_where_the_tokenizer_has_none(folder):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    loaded = load_model(str(folder), device="cpu")
    assert loaded.tokenizer.pad_token_id is None
    assert loaded.pad_id == loaded.chat.end[-1]


def test_base_model_without_a_template_gets_the_plain_one(make_model, make_tokenizer, tmp_path):
    make_model().save_pretrained(tmp_path)
    make_tokenizer(chat_template=None).save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device="cpu")
    assert loaded.tokenizer.chat_template == PLAIN_TEMPLATE
    assert loaded.chat.end == (loaded.tokenizer.eos_token_id,)


def test_an_outline_has_the_shapes_of_a_model_and_no_weights(tiny_model_folder, tiny_model):
    outline = outline_model(load_architecture(str(tiny_model_folder)))
    assert all(weights.is_meta for weights in outline.parameters())
    assert [w.shape for w in outline.parameters()] == [w.shape for w in tiny_model.parameters()]


def test_context_is_2048_where_a_model_does_not_say():
    assert context_length(PreTrainedConfig()) == 2048


@pytest.mark.parametrize("name", ["./none", "/no/such/folder", "~/none", "a/b/c"])
def test_a_missing_folder_is_refused(name):
    with pytest.raises(
        ModelError, match=r"no such folder; expected a model folder, a GGUF file, .* or 'embedded'"
    ):
        load_model(name, device="cpu")


@pytest.mark.parametrize("load", [load_model, load_tokenizer, load_architecture])
def test_a_folder_without_configuration_is_refused(folder, load):
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"not a model folder \(no config.json\)"):
        load(str(folder))


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no weights there; expected \*.safetensors files"):
        load_model(str(folder), device="cpu")


def test_pickled_weights_are_no_weights(folder, tiny_model):
    (folder / "model.safetensors").unlink()
    torch.save(tiny_model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no weights there"):
        load_model(str(folder), device="cpu")


def test_weights_cut_short_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="its model cannot be loaded") as caught:
        load_model(str(folder), device="cpu")
    assert_one_line(caught)


def test_a_folder_without_tokenizer_is_refused(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="its tokenizer cannot be loaded") as caught:
        load_model(str(folder), device="cpu")
    assert_one_line(caught)


def test_an_unknown_architecture_is_refused(folder):
    (folder / "config.json").write_text('{"model_type": "perceptron-of-1958"}')
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(folder), device="cpu")


def test_a_model_that_is_no_language_model_is_refused(folder):
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match="its model cannot be loaded") as caught:
        load_model(str(folder), device="cpu")
    assert_one_line(caught)


@pytest.mark.parametrize("load", [load_model, load_tokenizer, load_architecture])
def test_a_hub_name_without_network_points_at_the_embedded_model(load):
    with pytest.raises(ModelError, match="use 'model: embedded', which needs no hub") as caught:
        load("nobody/no-such-model")
    assert_one_line(caught)


def test_embedded_is_the_fetched_folder(monkeypatch, tiny_model_folder):
    monkeypatch.setattr("demask.models.load.fetch_embedded_model", lambda: tiny_model_folder)
    loaded = load_model(EMBEDDED, device="cpu")
    assert (loaded.name, loaded.source) == ("embedded", str(tiny_model_folder))


def test_cuda_without_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="device: 'cuda' is asked for and PyTorch sees none"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("wanted", "cuda", "found"), [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu")]
)
def test_device_by_name(monkeypatch, wanted, cuda, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert choose_device(wanted).type == found


def test_a_hub_that_does_not_answer_is_asked_once_and_not_waited_for(monkeypatch):
    from huggingface_hub import constants

    asked = []

    def refuse(address, timeout):
        asked.append(address)
        raise OSError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("demask.models.load.getproxies", dict)
    load_module._hub_answers.cache_clear()
    try:
        with pytest.raises(ModelError, match="use 'model: embedded'"):
            load_module.load_tokenizer("nobody/nothing")
    finally:
        load_module._hub_answers.cache_clear()
    assert asked == [("huggingface.co", 443)]


def test_a_model_that_lacks_a_weight_is_refused_and_not_filled_with_noise(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    lost = next(name for name in sorted(weights) if "mlp" in name)
    del weights[lost]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"1 of its weights are missing, such as {lost}"):
        load_model(str(folder), device="cpu")
