"""An autoregressive model comes out looking both ways in every layer, with a mask token, or is refused."""

import copy
import json
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoConfig,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from demask.errors import ModelError
from demask.models.acceleration.packing import PACKED, packed_inputs, using_attention
from demask.models.convert import NEW_MASK_TOKEN, convert_to_diffusion
from demask.models.diffusion import DiffusionForm, predict_masked
from demask.models.load import LoadedModel, load_model
from demask.objectives.batches import pack
from demask.objectives.prompts import load_chat_format
from demask.records import Example
from demask.training.export import save_model

SIZES: dict[str, Any] = {
    "vocab_size": 448,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "initializer_range": 0.3,  # positions must matter for a leak to show
}
HEAD: dict[str, Any] = {"head_dim": 8}
LAYERS: dict[str, Any] = {"layer_types": ["sliding_attention", "full_attention"]}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, **HEAD),
    "mistral": MistralConfig(**SIZES, **HEAD, sliding_window=None),
    # The window is shorter than the texts below.
    "mistral, window": MistralConfig(**SIZES, **HEAD, sliding_window=4),
    "gemma3": Gemma3TextConfig(**SIZES, **HEAD, **LAYERS, sliding_window=4),
    "gpt2": GPT2Config(
        vocab_size=448,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=None,
        eos_token_id=None,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        initializer_range=0.3,
    ),
}
# Some of whose layers look back only, whatever the configuration says.
RECURRENT = {
    "mamba": MambaConfig(vocab_size=448, hidden_size=32, num_hidden_layers=2, state_size=4, use_cache=False),
    "lfm2": Lfm2Config(**SIZES, layer_types=["full_attention", "conv"]),
}
TEXT = torch.arange(20, 30)[None]


@pytest.fixture
def make_loaded(make_tokenizer):
    """Make a random model of some architecture, as `load_model` gives it."""

    def make(config=CONFIGS["llama"], special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), **changes):
        config = copy.deepcopy(config)
        for name, value in changes.items():
            setattr(config, name, value)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config).eval()
        tokenizer = make_tokenizer(special=special)
        return LoadedModel(model, tokenizer, load_chat_format(tokenizer), "tiny", "tiny", torch.float32)

    return make


@torch.no_grad()
def sees(model, early, late):
    """Whether what is said at one place changes with the token at another."""
    changed = TEXT.clone()
    changed[0, late] = 200
    before, after = (model(input_ids=ids, use_cache=False).logits[0, early] for ids in (TEXT, changed))
    return not torch.equal(before, after)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_converted_model_sees_what_comes_later_and_before_it_did_not(make_loaded, name, attention):
    loaded = make_loaded(CONFIGS[name])
    loaded.model.set_attn_implementation(attention)
    last = TEXT.shape[1] - 1
    assert not sees(loaded.model, 0, last)
    assert sees(loaded.model, last, 0) or "window" in name
    converted = convert_to_diffusion(loaded)
    # Two layers of a window of four reach six places.
    reach = 6 if "window" in name else last
    assert sees(converted.model, 0, reach)
    assert sees(converted.model, last, last - reach)
    assert sees(converted.model, 0, 1)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_packed_texts_are_seen_as_each_alone(make_loaded, name):
    model = convert_to_diffusion(make_loaded(CONFIGS[name])).model
    texts = [list(range(20, 30)), list(range(50, 57)), [30, 31, 90]]
    batch = pack([make_example(text) for text in texts], shift=0)
    with using_attention(model, PACKED):
        found = model(**packed_inputs(batch, causal=False), use_cache=False).logits[0]
    alone = [model(input_ids=torch.tensor([text]), use_cache=False).logits[0] for text in texts]
    assert torch.allclose(found, torch.cat(alone), atol=1e-5)


def make_example(text):
    return Example("id", tuple(text), labels=tuple(text), masked=(False,) * len(text))


@pytest.mark.parametrize("name", RECURRENT)
def test_an_architecture_that_looks_back_only_is_refused_and_left_as_it_was(make_loaded, name):
    loaded = make_loaded(RECURRENT[name])
    tokens = len(loaded.tokenizer)
    before = getattr(loaded.model.config, "is_causal", None)
    with pytest.raises(
        ModelError, match=r"look at earlier tokens only, such as layer \d; expected"
    ) as caught:
        convert_to_diffusion(loaded)
    assert "\n" not in str(caught.value)
    assert getattr(loaded.model.config, "is_causal", None) == before
    assert (loaded.diffusion, len(loaded.tokenizer)) == (None, tokens)


def test_one_layer_that_looks_back_is_enough_to_be_refused(make_loaded):
    loaded = make_loaded(RECURRENT["lfm2"])
    with pytest.raises(ModelError, match=r"1 layers of Lfm2ForCausalLM .*such as layer 1;"):
        convert_to_diffusion(loaded)


def test_an_architecture_that_ignores_the_flag_is_refused(make_loaded):
    config = GPTNeoConfig(
        vocab_size=448,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=4,
    )
    with pytest.raises(ModelError, match="2 layers of GPTNeoForCausalLM look at earlier tokens only"):
        convert_to_diffusion(make_loaded(config))


def test_a_diffusion_model_is_refused(make_loaded):
    converted = convert_to_diffusion(make_loaded())
    with pytest.raises(
        ModelError, match="is a masked-diffusion model already, expected an autoregressive one"
    ):
        convert_to_diffusion(converted)


@pytest.mark.parametrize("alignment", [0, 1])
def test_form_and_mask_are_read_back_after_saving(make_loaded, tmp_path, alignment):
    converted = convert_to_diffusion(make_loaded(), alignment=alignment)
    save_model(converted, tmp_path / "model")
    stored = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (stored["is_causal"], stored["diffusion"]["alignment"]) == (False, alignment)
    again = load_model(str(tmp_path / "model"), device="cpu")
    assert again.diffusion == converted.diffusion == DiffusionForm(again.tokenizer.mask_token_id, alignment)
    assert again.chat == converted.chat
    with torch.no_grad():
        found, expected = (one.model(input_ids=TEXT).logits for one in (again, converted))
    assert torch.equal(found, expected)


@torch.no_grad()
def test_alignment_one_says_before_training_what_the_model_said_of_the_next_token(make_loaded):
    loaded = make_loaded()
    only = torch.tensor([[20]])
    expected = loaded.model(input_ids=only).logits[0, 0]
    converted = convert_to_diffusion(loaded)
    # Where nothing comes later, to look both ways changes nothing.
    found = predict_masked(converted.model, only, None, torch.tensor([1]))[0]
    others = torch.arange(len(found)) != converted.diffusion.mask_token_id
    assert torch.allclose(found[others], expected[others], atol=1e-5)
    assert found[converted.diffusion.mask_token_id] == -torch.inf


def rows(loaded):
    return loaded.model.get_input_embeddings().weight.detach()


@pytest.mark.parametrize("tied", [True, False])
def test_an_unused_token_becomes_the_mask_at_the_mean_embedding(make_loaded, tied):
    loaded = make_loaded(
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<empty_output>"), tie_word_embeddings=tied
    )
    before = rows(loaded).clone()
    head = loaded.model.get_output_embeddings().weight.detach().clone()
    converted = convert_to_diffusion(loaded)
    mask = converted.diffusion.mask_token_id
    assert (converted.tokenizer.mask_token, mask) == ("<empty_output>", 3)
    others = torch.arange(len(before)) != mask
    assert torch.equal(rows(converted)[others], before[others])
    assert torch.allclose(rows(converted)[mask], before[others].mean(dim=0), atol=1e-6)
    if not tied:
        assert torch.equal(converted.model.get_output_embeddings().weight, head)


@pytest.mark.parametrize("tied", [True, False])
def test_without_such_a_token_a_row_is_added_at_the_mean_embedding(make_loaded, tied):
    loaded = make_loaded(tie_word_embeddings=tied)
    tokens = len(loaded.tokenizer)
    loaded = make_loaded(tie_word_embeddings=tied, vocab_size=tokens)
    before = rows(loaded).clone()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    converted = convert_to_diffusion(loaded)
    assert torch.equal(torch.rand(1), expected)
    assert (converted.tokenizer.mask_token, converted.diffusion.mask_token_id) == (NEW_MASK_TOKEN, tokens)
    assert converted.model.config.vocab_size == len(rows(converted)) == tokens + 1
    assert torch.equal(rows(converted)[:tokens], before)
    assert torch.allclose(rows(converted)[tokens], before.mean(dim=0), atol=1e-6)
    output = converted.model.get_output_embeddings().weight
    assert (output is converted.model.get_input_embeddings().weight) == tied
    assert torch.allclose(output[tokens], output[:tokens].mean(dim=0), atol=1e-6)


def test_a_new_token_takes_an_unused_row_where_there_is_one(make_loaded):
    converted = convert_to_diffusion(make_loaded())
    assert converted.diffusion.mask_token_id == len(converted.tokenizer) - 1
    assert len(rows(converted)) == 448


def test_an_ordinary_token_is_the_mask_only_if_it_is_named(make_loaded):
    loaded = make_loaded()
    before = rows(loaded).clone()
    word = loaded.tokenizer.convert_ids_to_tokens(100)
    loaded.tokenizer.add_tokens(["[]"])
    assert convert_to_diffusion(make_loaded()).tokenizer.mask_token == NEW_MASK_TOKEN
    converted = convert_to_diffusion(loaded, mask_token=word)
    assert (converted.tokenizer.mask_token_id, converted.diffusion.mask_token_id) == (100, 100)
    assert torch.equal(rows(converted), before)


def test_the_tokenizers_own_mask_keeps_its_embedding(make_loaded):
    loaded = make_loaded(special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<m>"))
    loaded.tokenizer.mask_token = "<m>"
    before = rows(loaded).clone()
    assert convert_to_diffusion(loaded).diffusion.mask_token_id == 3
    assert torch.equal(rows(loaded), before)


@pytest.mark.parametrize("token", ["<|im_end|>", "<|endoftext|>"])
def test_a_token_that_must_be_written_is_no_mask(make_loaded, token):
    loaded = make_loaded()
    with pytest.raises(ModelError, match="begins, ends or pads texts; expected a mask token that is never"):
        convert_to_diffusion(loaded, mask_token=token)
    assert loaded.diffusion is None


def test_a_word_of_several_tokens_is_no_mask(make_loaded):
    with pytest.raises(ModelError, match="'two words' is not one token of this model's vocabulary"):
        convert_to_diffusion(make_loaded(), mask_token="two words")


def test_conversion_leaves_no_hook_and_the_model_as_it_was_otherwise(make_loaded):
    loaded = make_loaded()
    loaded.model.train()
    before = {name: weights.clone() for name, weights in loaded.model.state_dict().items()}
    converted = convert_to_diffusion(loaded)
    assert converted.model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in converted.model.modules())
    mask = converted.diffusion.mask_token_id
    for name, weights in converted.model.state_dict().items():
        keep = torch.arange(len(weights)) != (mask if "embed_tokens" in name else -1)
        assert torch.equal(weights[keep], before[name][keep])
