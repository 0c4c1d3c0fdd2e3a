"""LLaDA and Dream as native classes say what the equations of their makers say, and are saved as they came.

Truth is a forward pass in plain torch, written from the published blocks. The folders are small, with
the makers' names, code that must not run, shards, and tokenizers of the makers' kind.
"""

import json
import math
import shutil
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaForCausalLM, Qwen2ForCausalLM

from demask.errors import ModelError
from demask.models.diffusion import DiffusionForm, diffusion_form, predict_masked
from demask.models.layouts import INDEX, find_layout, makers_name, makers_settings, native_config, native_name
from demask.models.load import load_architecture, load_model, load_tokenizer, outline_model
from demask.training.export import save_model

ROWS = 448
EXPLODING = "raise SystemExit('code of a checkpoint was run')\n"
# As in GSAI-ML/LLaDA-8B-Instruct, but for the sizes.
LLADA = {
    "activation_type": "silu",
    "alibi": False,
    "alibi_bias_max": 8.0,
    "architectures": ["LLaDAModelLM"],
    "attention_dropout": 0.0,
    "attention_layer_norm": False,
    "attention_layer_norm_with_affine": True,
    "auto_map": {
        "AutoConfig": "configuration_llada.LLaDAConfig",
        "AutoModelForCausalLM": "modeling_llada.LLaDAModelLM",
        "AutoModel": "modeling_llada.LLaDAModelLM",
    },
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "d_model": 32,
    "embedding_dropout": 0.0,
    "embedding_size": ROWS,
    "eos_token_id": 1,
    "flash_attention": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "init_cutoff_factor": None,
    "init_device": "meta",
    "init_fn": "mitchell",
    "init_std": 0.02,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "mask_token_id": 5,
    "max_sequence_length": 64,
    "mlp_hidden_size": 48,
    "mlp_ratio": 4,
    "model_type": "llada",
    "multi_query_attention": None,
    "n_heads": 4,
    "n_kv_heads": 4,
    "n_layers": 2,
    "pad_token_id": 1,
    "precision": "amp_bf16",
    "residual_dropout": 0.0,
    "rms_norm_eps": 1e-05,
    "rope": True,
    "rope_full_precision": True,
    "rope_theta": 500000.0,
    "scale_logits": False,
    "transformers_version": "4.46.3",
    "use_cache": False,
    "vocab_size": 400,
    "weight_tying": False,
}
LLADA_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + "
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
DREAM = {
    "architectures": ["DreamModel"],
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_dream.DreamConfig",
        "AutoModel": "modeling_dream.DreamModel",
    },
    "bos_token_id": 300,
    "eos_token_id": 300,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "mask_token_id": 304,
    "max_position_embeddings": 64,
    "max_window_layers": 2,
    "model_type": "Dream",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 300,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.46.2",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": ROWS,
}
DREAM_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|beginoftext|>", "<|mask|>")


def llada_shapes(settings):
    d, inner, rows = settings["d_model"], settings["mlp_hidden_size"], settings["embedding_size"]
    narrow = d // settings["n_heads"] * settings["n_kv_heads"]
    block = {
        "attn_norm": (d,),
        "ff_norm": (d,),
        "q_proj": (d, d),
        "k_proj": (narrow, d),
        "v_proj": (narrow, d),
        "attn_out": (d, d),
        "ff_proj": (inner, d),
        "up_proj": (inner, d),
        "ff_out": (d, inner),
    }
    shapes = {"wte.weight": (rows, d), "ln_f.weight": (d,)}
    if not settings["weight_tying"]:
        shapes["ff_out.weight"] = (rows, d)
    for layer in range(settings["n_layers"]):
        shapes |= {f"blocks.{layer}.{name}.weight": shape for name, shape in block.items()}
    return {f"model.transformer.{name}": shape for name, shape in shapes.items()}


def dream_shapes(settings):
    d, inner, rows = settings["hidden_size"], settings["intermediate_size"], settings["vocab_size"]
    narrow = d // settings["num_attention_heads"] * settings["num_key_value_heads"]
    block = {
        "input_layernorm.weight": (d,),
        "post_attention_layernorm.weight": (d,),
        "self_attn.q_proj.weight": (d, d),
        "self_attn.k_proj.weight": (narrow, d),
        "self_attn.v_proj.weight": (narrow, d),
        "self_attn.q_proj.bias": (d,),
        "self_attn.k_proj.bias": (narrow,),
        "self_attn.v_proj.bias": (narrow,),
        "self_attn.o_proj.weight": (d, d),
        "mlp.gate_proj.weight": (inner, d),
        "mlp.up_proj.weight": (inner, d),
        "mlp.down_proj.weight": (d, inner),
    }
    shapes = {
        "model.embed_tokens.weight": (rows, d),
        "model.norm.weight": (d,),
        "lm_head.weight": (rows, d),
    }
    for layer in range(settings["num_hidden_layers"]):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in block.items()}
    return shapes


def draw_weights(shapes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def draw(shape):
        values = torch.randn(shape, generator=generator) * 0.3
        return (values + 1 if len(shape) == 1 else values).to(dtype)

    return {name: draw(shape) for name, shape in shapes.items()}


def write_shards(weights, folder, count=3):
    names = sorted(weights)
    bounds = [round(len(names) * part / count) for part in range(count + 1)]
    where: dict[str, str] = {}
    for part, (start, end) in enumerate(pairwise(bounds)):
        file = f"model-{part + 1:05}-of-{count:05}.safetensors"
        save_file({name: weights[name] for name in names[start:end]}, folder / file, {"format": "pt"})
        where |= dict.fromkeys(names[start:end], file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))


def write_settings(folder, settings):
    (folder / "config.json").write_text(json.dumps(settings, indent=2))


@pytest.fixture(scope="session")
def llada_tokenizer(make_tokenizer):
    names = ("start_header_id", "end_header_id", "eot_id", "mdm_mask")
    return make_tokenizer(
        special=("<|startoftext|>", "<|endoftext|>", *(f"<|{name}|>" for name in names)),
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        chat_template=LLADA_TEMPLATE,
    )


@pytest.fixture
def make_llada(llada_tokenizer, tmp_path):
    """Make a folder as LLaDA's, with changes to its config.json."""

    def make(dtype=torch.float32, **changes):
        folder = tmp_path / "LLaDA"
        folder.mkdir()
        settings = {**LLADA, **changes}
        llada_tokenizer.save_pretrained(folder)
        write_settings(folder, settings)
        write_shards(draw_weights(llada_shapes(settings), dtype), folder)
        for name in ("configuration_llada.py", "modeling_llada.py"):
            (folder / name).write_text(EXPLODING)
        return folder

    return make


@pytest.fixture
def make_dream(tmp_path):
    """Make a folder as Dream's, whose tokenizer is a class of its own in a file of its own."""

    def make(dtype=torch.float32, **changes):
        folder = tmp_path / "Dream"
        folder.mkdir()
        settings = {**DREAM, **changes}
        write_dream_tokenizer(folder)
        write_settings(folder, settings)
        write_shards(draw_weights(dream_shapes(settings), dtype), folder)
        for name in ("configuration_dream.py", "modeling_dream.py", "tokenization_dream.py"):
            (folder / name).write_text(EXPLODING)
        return folder

    return make


@pytest.fixture(params=["llada", "llada, grouped", "dream"])
def folder(request, make_llada, make_dream):
    if request.param == "dream":
        return make_dream()
    return make_llada(n_kv_heads=2) if "grouped" in request.param else make_llada()


def write_dream_tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["Which river does the bridge cross? The Orlin."] * 2, trainer)
    tokenizer.model.save(str(folder))
    first = tokenizer.get_vocab_size()
    # So that the ids are those of the config.json above.
    filling = [f"<|unused_{place}|>" for place in range(300 - first)]
    ids = {first + place: token for place, token in enumerate([*filling, *DREAM_TOKENS])}
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(place): {"content": token, **plain} for place, token in ids.items()},
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]},
        "bos_token": "<|beginoftext|>",
        "chat_template": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
        "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "errors": "replace",
        "mask_token": "<|mask|>",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "DreamTokenizer",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x, theta):
    """Rotary positions, halves of the width turned against each other (Su et al. 2021 as in GPT-NeoX)."""
    _, length, width = x.shape
    angles = torch.arange(length)[:, None] / theta ** (torch.arange(0, width, 2) / width)[None]
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


# Where the equations find their weights in each maker's folder.
LLADA_PARTS = {
    "block": "model.transformer.blocks",
    "embedding": "model.transformer.wte",
    "last norm": "model.transformer.ln_f",
    "head": "model.transformer.ff_out",
    "norm of attention": "attn_norm",
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "attended": "attn_out",
    "norm of MLP": "ff_norm",
    "activated": "ff_proj",
    "gated": "up_proj",
    "down": "ff_out",
}
DREAM_PARTS = {
    "block": "model.layers",
    "embedding": "model.embed_tokens",
    "last norm": "model.norm",
    "head": "lm_head",
    "norm of attention": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attended": "self_attn.o_proj",
    "norm of MLP": "post_attention_layernorm",
    "activated": "mlp.gate_proj",
    "gated": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def reference_logits(weights, ids, sizes, parts):
    """Logits of one text by the equations of the blocks."""

    def find(part, layer=None, kind="weight"):
        where = parts[part] if layer is None else f"{parts['block']}.{layer}.{parts[part]}"
        return weights.get(f"{where}.{kind}")

    def linear(x, part, layer):
        bias = find(part, layer, "bias")
        return x @ find(part, layer).T + (0.0 if bias is None else bias)

    def heads(x, part, layer, count):
        return linear(x, part, layer).view(len(ids), count, -1).transpose(0, 1)

    x = find("embedding")[ids]
    for layer in range(sizes.layers):
        y = rms_norm(x, find("norm of attention", layer), sizes.eps)
        query = rotate(heads(y, "query", layer, sizes.heads), sizes.theta)
        key = rotate(heads(y, "key", layer, sizes.key_heads), sizes.theta)
        value = heads(y, "value", layer, sizes.key_heads)
        key, value = (z.repeat_interleave(sizes.heads // sizes.key_heads, dim=0) for z in (key, value))
        attention = (query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])).softmax(dim=-1)
        mixed = (attention @ value).transpose(0, 1).reshape(len(ids), -1)
        x = x + linear(mixed, "attended", layer)
        y = rms_norm(x, find("norm of MLP", layer), sizes.eps)
        activated = torch.nn.functional.silu(linear(y, "activated", layer))
        x = x + linear(activated * linear(y, "gated", layer), "down", layer)
    head = find("embedding") if sizes.tied else find("head")
    return rms_norm(x, find("last norm"), sizes.eps) @ head.T


def stored_weights(folder):
    weights: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        weights |= load_file(path)
    return weights


def reference_of(folder):
    """What a folder's model says of a text, by the equations."""
    settings = json.loads((folder / "config.json").read_text())
    is_llada = settings["model_type"] == "llada"
    names = ("n_layers", "n_heads", "n_kv_heads", "weight_tying")
    if not is_llada:
        names = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "tie_word_embeddings")
    layers, heads, key_heads, tied = (settings[name] for name in names)
    sizes = SimpleNamespace(
        layers=layers,
        heads=heads,
        key_heads=key_heads,
        tied=tied,
        eps=settings["rms_norm_eps"],
        theta=settings["rope_theta"],
    )
    weights = {name: tensor.float() for name, tensor in stored_weights(folder).items()}
    parts = LLADA_PARTS if is_llada else DREAM_PARTS
    return lambda ids: reference_logits(weights, ids, sizes, parts)


def load(folder, **settings):
    return load_model(str(folder), device="cpu", **settings)


def draw_texts():
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, ROWS, (length,), generator=generator) for length in (9, 6, 4)]


def assert_equals_reference(model, reference):
    """Alone, padded on the right and padded on the left."""
    texts = draw_texts()
    longest = max(len(text) for text in texts)
    for text in texts:
        gap = longest - len(text)
        for left, right in ((0, 0), (gap, 0), (0, gap)):
            ids = torch.nn.functional.pad(text, (left, right), value=7)[None]
            real = torch.nn.functional.pad(torch.ones_like(text), (left, right))[None]
            places = (real.cumsum(1) - 1).clamp(min=0)
            with torch.no_grad():
                found = model(input_ids=ids, attention_mask=real, position_ids=places).logits[0]
            expected = reference(text)
            assert torch.allclose(found[left : left + len(text)], expected, rtol=0, atol=1e-5)


def test_a_makers_folder_says_what_its_equations_say(folder):
    assert_equals_reference(load(folder).model, reference_of(folder))


def test_padding_in_one_batch_changes_nothing(folder):
    model = load(folder).model
    texts = draw_texts()
    longest = max(len(text) for text in texts)
    rows = [torch.nn.functional.pad(text, (longest - len(text), 0)) for text in texts]
    real = torch.stack([torch.arange(longest) >= longest - len(text) for text in texts]).long()
    reference = reference_of(folder)
    form = diffusion_form(model.config)
    lasts = torch.arange(1, len(texts) + 1) * longest - 1
    with torch.no_grad():
        found = predict_masked(model, torch.stack(rows), real, lasts)
    for text, logits in zip(texts, found, strict=True):
        expected = reference(text)[len(text) - 1 - form.alignment]
        others = torch.arange(ROWS) != form.mask_token_id
        assert torch.allclose(logits[others], expected[others], rtol=0, atol=1e-5)
        assert logits[form.mask_token_id] == -torch.inf


@pytest.mark.parametrize("layout", ["native", None])
def test_after_saving_it_says_the_same(folder, tmp_path, layout):
    reference = reference_of(folder)
    save_model(load(folder), tmp_path / "saved", layout=layout)
    assert_equals_reference(load(tmp_path / "saved").model, reference)


def test_native_classes_are_loaded(make_llada, make_dream):
    llada, dream = load(make_llada()), load(make_dream())
    assert (type(llada.model), type(dream.model)) == (LlamaForCausalLM, Qwen2ForCausalLM)
    assert llada.diffusion == DiffusionForm(5, 0, "llada")
    assert dream.diffusion == DiffusionForm(304, 1, "dream")
    assert not llada.model.config.is_causal
    assert llada.context == 64


def test_every_row_of_llada_learns_the_one_it_pads_with_too(make_llada):
    model = load(make_llada()).model
    model(input_ids=torch.tensor([[1, 9]]), labels=torch.tensor([[1, 9]])).loss.backward()
    assert model.model.embed_tokens.weight.grad[LLADA["pad_token_id"]].any()


def test_an_outline_has_the_shapes_of_the_model(folder):
    outline = outline_model(load_architecture(str(folder)))
    loaded = load(folder)
    assert [w.shape for w in outline.parameters()] == [w.shape for w in loaded.model.parameters()]


def test_the_makers_defaults_stand_in_for_what_config_json_leaves_out(make_llada):
    folder = make_llada()
    settings = {name: value for name, value in LLADA.items() if name not in ("n_kv_heads", "mlp_hidden_size")}
    del settings["mask_token_id"], settings["embedding_size"]
    settings |= {"vocab_size": 126464, "multi_query_attention": True}
    write_settings(folder, settings)
    config = load_architecture(str(folder))
    assert (config.num_key_value_heads, config.intermediate_size, config.vocab_size) == (1, 128, 126464)
    assert diffusion_form(config).mask_token_id == 126336
    write_settings(folder, {**DREAM, "vocab_size": 152064, "mask_token_id": None})
    assert diffusion_form(load_architecture(str(folder))).mask_token_id == 151666


def test_llada_with_tied_embeddings(make_llada, tmp_path):
    folder = make_llada(weight_tying=True)
    loaded = load(folder)
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert_equals_reference(loaded.model, reference_of(folder))
    save_model(loaded, tmp_path / "saved")
    assert set(stored_weights(tmp_path / "saved")) == set(stored_weights(folder))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saving_back_is_lossless(make_llada, make_dream, tmp_path, dtype):
    for folder in (make_llada(dtype), make_dream(dtype)):
        for through_native in (False, True):
            loaded = load(folder)
            if through_native:
                save_model(loaded, tmp_path / "native", layout="native")
                loaded = load(tmp_path / "native")
                assert loaded.diffusion.layout == "native"
            back = tmp_path / "back"
            save_model(loaded, back, layout=find_layout(json.loads((folder / "config.json").read_text()), ""))
            expected, found = stored_weights(folder), stored_weights(back)
            assert expected.keys() == found.keys()
            assert all(torch.equal(weights, found[name]) for name, weights in expected.items())
            assert {weights.dtype for weights in found.values()} == {dtype}
            before, after = (json.loads((f / "config.json").read_text()) for f in (folder, back))
            assert after == {**before, "torch_dtype": str(dtype).removeprefix("torch.")}


def test_code_of_a_local_folder_is_copied_and_never_run(folder, tmp_path):
    loaded = load(folder)
    save_model(loaded, tmp_path / "back")
    code = {path.name: path.read_text() for path in (tmp_path / "back").glob("*.py")}
    assert code == {path.name: EXPLODING for path in folder.glob("*.py")}
    load(tmp_path / "back")
    save_model(loaded, tmp_path / "native", layout="native")
    assert not list((tmp_path / "native").glob("*.py"))


def test_weights_are_sharded_as_the_makers_are(make_llada, tmp_path, monkeypatch):
    monkeypatch.setattr("demask.models.layouts.SHARD_SIZE", "50KB")
    folder = make_llada()
    save_model(load(folder), tmp_path / "back")
    index = json.loads((tmp_path / "back" / INDEX).read_text())
    assert len(set(index["weight_map"].values())) > 1
    assert index["weight_map"].keys() == stored_weights(folder).keys()
    assert_equals_reference(load(tmp_path / "back").model, reference_of(folder))


def test_names_there_and_back():
    settings = {**LLADA, "n_layers": 12}
    names = list(llada_shapes(settings))
    native = [native_name(name, "llada") for name in names]
    config: Any = native_config(settings, "llada", "model")
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    assert set(native) == set(model.state_dict())
    assert [makers_name(name, "llada") for name in native] == names
    assert [native_name(name, "dream") for name in native] == native


def test_llada_8b_has_as_many_weights_as_its_makers_index_says():
    sizes = {"d_model": 4096, "n_heads": 32, "n_kv_heads": 32, "n_layers": 32, "mlp_hidden_size": 12288}
    rows = {"embedding_size": 126464, "vocab_size": 126464, "mask_token_id": 126336}
    outline = outline_model(native_config({**LLADA, **sizes, **rows}, "llada", "GSAI-ML/LLaDA-8B-Instruct"))
    # `total_size` of model.safetensors.index.json, two bytes each.
    assert 2 * sum(weights.numel() for weights in outline.parameters()) == 16_031_162_368


@pytest.mark.parametrize(
    "name", ["model.transformer.wpe.weight", "model.transformer.q_proj.weight", "ff_out.weight", "x"]
)
def test_unknown_names_stay_as_they_are(name):
    assert native_name(name, "llada") == name


def test_dtype_as_stored_or_as_wanted(make_llada, make_dream):
    for folder in (make_llada(torch.bfloat16), make_dream(torch.bfloat16)):
        for dtype, expected in ((None, torch.bfloat16), (torch.float32, torch.float32)):
            loaded = load(folder, dtype=dtype)
            assert {weights.dtype for weights in loaded.model.parameters()} == {expected}
            assert loaded.stored_dtype == torch.bfloat16


def test_llada_tokenizer_knows_its_mask_and_its_turns(make_llada, llada_tokenizer):
    folder = make_llada()
    tokenizer = load_tokenizer(str(folder))
    assert (tokenizer.mask_token, tokenizer.mask_token_id) == ("<|mdm_mask|>", 5)
    text = "Which river? <|mdm_mask|><|eot_id|>"
    assert tokenizer(text)["input_ids"] == llada_tokenizer(text)["input_ids"]
    chat = load(folder).chat
    assert chat.end == (llada_tokenizer.convert_tokens_to_ids("<|eot_id|>"),)


def test_dream_tokenizer_needs_none_of_its_makers_code(make_dream, tmp_path):
    folder = make_dream()
    tokenizer = load_tokenizer(str(folder))
    assert (tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) == (304, 300, 303)
    ids = tokenizer("The Orlin<|mask|><|im_end|>")["input_ids"]
    assert ids[-2:] == [304, 302]
    assert tokenizer.decode(ids[:-2]) == "The Orlin"
    for layout in ("native", "dream"):
        save_model(load(folder), tmp_path / layout, layout=layout)
        shutil.rmtree(tmp_path / "only", ignore_errors=True)
        (tmp_path / "only").mkdir()
        for path in (tmp_path / layout).glob("tokenizer*"):
            shutil.copy(path, tmp_path / "only")
        again = AutoTokenizer.from_pretrained(tmp_path / "only", trust_remote_code=False)
        assert again("The Orlin<|mask|><|im_end|>")["input_ids"] == ids
        assert load(tmp_path / layout).chat == load(folder).chat


def test_tokenizers_in_a_makers_layout_can_be_read_by_older_transformers(make_llada, make_dream, tmp_path):
    for folder, name in ((make_llada(), "PreTrainedTokenizerFast"), (make_dream(), "Qwen2Tokenizer")):
        save_model(load(folder), tmp_path / "back")
        settings = json.loads((tmp_path / "back" / "tokenizer_config.json").read_text())
        assert settings["tokenizer_class"] == name
        assert "auto_map" not in settings
        assert not isinstance(settings.get("extra_special_tokens"), list)
        assert settings["chat_template"] == load(folder).tokenizer.chat_template


def refuse(folder, expected, load=load_architecture):
    with pytest.raises(ModelError, match=expected) as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"block_type": "sequential"}, "config.json: block_type is 'sequential', expected 'llama'"),
        ({"rope": False}, "rope is False, expected True"),
        ({"alibi": True}, "alibi is True, expected False"),
        ({"layer_norm_type": "default"}, "layer_norm_type is 'default', expected 'rms'"),
        ({"activation_type": "swiglu"}, "activation_type is 'swiglu', expected 'silu'"),
        ({"include_bias": True}, "include_bias is True, expected False; this model needs remote code"),
        ({"include_qkv_bias": True}, "include_qkv_bias is True, expected False"),
        ({"attention_layer_norm": True}, "attention_layer_norm is True, expected False"),
        ({"mask_token_id": 448}, "mask token 448 .*expected 0 or 1, a token below 448"),
    ],
)
def test_another_llada_is_refused(make_llada, changes, expected):
    refuse(make_llada(**changes), expected)


@pytest.mark.parametrize("name", ["block_type", "d_model", "rope_theta", "weight_tying", "n_heads"])
def test_a_config_without_a_needed_entry_is_refused(make_llada, name):
    folder = make_llada()
    write_settings(folder, {key: value for key, value in LLADA.items() if key not in (name, "n_kv_heads")})
    refuse(folder, f"config.json: {name} is (missing; expected the config.json of its makers|'sequential')")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"use_sliding_window": True}, "use_sliding_window is True, expected False"),
        ({"rope_scaling": {"type": "yarn"}}, r"rope_scaling is .*'yarn'.*, expected None"),
        ({"block_size": 32}, "block_size is 32, expected None; this model needs remote code"),
    ],
)
def test_another_dream_is_refused(make_dream, changes, expected):
    refuse(make_dream(**changes), expected)


@pytest.mark.parametrize("kind", ["llada_moe", "llada2_moe", "sdar", "SDARForCausalLM"])
def test_models_that_need_their_makers_code_are_refused(make_llada, kind):
    folder = make_llada()
    write_settings(folder, {**LLADA, "model_type": kind})
    expected = f"model_type is '{kind}', which needs remote code and is not supported; expected 'llada'"
    for load_part in (load_architecture, load_tokenizer):
        refuse(folder, expected, load_part)


@pytest.mark.parametrize("text", ["[1, 2]", "{"])
def test_a_config_that_is_none_is_refused(make_llada, text):
    folder = make_llada()
    (folder / "config.json").write_text(text)
    refuse(folder, "config.json: holds a list, expected an object|configuration cannot be loaded")


def rewrite(folder, change):
    weights = stored_weights(folder)
    change(weights)
    for path in (*folder.glob("*.safetensors"), folder / INDEX):
        path.unlink(missing_ok=True)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_missing_unknown_and_odd_weights_are_named(make_llada):
    folder = make_llada()
    lost = "model.transformer.blocks.1.up_proj.weight"
    rewrite(folder, lambda weights: weights.pop(lost))
    refuse(folder, f"1 of its weights are missing, such as {lost}; expected a whole model", load_model)
    rewrite(folder, lambda weights: weights.update({lost: torch.zeros(48, 32), "extra": torch.zeros(1)}))
    refuse(folder, "1 of its weights have no place in the model, such as extra;", load_model)
    rewrite(folder, lambda weights: (weights.pop("extra"), weights.update({lost: torch.zeros(4, 32)})))
    refuse(folder, rf"{lost} has the shape \[4, 32\], expected \[48, 32\]", load_model)


@pytest.mark.parametrize(
    ("stored", "said", "expected"), [(False, True, "no place"), (True, False, "missing")]
)
def test_tying_that_is_not_as_config_json_says_is_refused(make_llada, stored, said, expected):
    folder = make_llada(weight_tying=stored)
    write_settings(folder, {**LLADA, "weight_tying": said})
    refuse(folder, f"{expected}.*such as model.transformer.ff_out.weight", load_model)


def test_a_missing_or_broken_shard_is_named(make_llada):
    folder = make_llada()
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:100])
    refuse(folder, f"{shard.name}: cannot be read .*fetch the file again", load_model)
    shard.unlink()
    refuse(folder, f"{shard.name}: no such file; {INDEX} expects 3 files", load_model)
    (folder / INDEX).write_text("{}")
    refuse(folder, f"{INDEX}: has no weight_map", load_model)


def test_a_makers_folder_without_tokenizer_is_refused(make_dream):
    folder = make_dream()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).unlink()
    refuse(folder, "its tokenizer cannot be loaded", load_tokenizer)


def test_a_native_model_of_the_right_kind_can_be_written_in_a_makers_layout(
    make_model, tiny_loaded, tmp_path
):
    from demask.models.convert import convert_to_diffusion

    converted = convert_to_diffusion(tiny_loaded, alignment=0)
    save_model(converted, tmp_path / "llada", layout="llada")
    again = load(tmp_path / "llada")
    assert again.diffusion == DiffusionForm(converted.diffusion.mask_token_id, 0, "llada")
    assert_equals_reference_of_rows(again.model, converted.model)
    settings = json.loads((tmp_path / "llada" / "config.json").read_text())
    assert settings["auto_map"]["AutoModel"] == "GSAI-ML/LLaDA-8B-Base--modeling_llada.LLaDAModelLM"
    assert "model.transformer.wte.weight" in stored_weights(tmp_path / "llada")


def assert_equals_reference_of_rows(model, other):
    ids = torch.arange(20).reshape(2, 10)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, other(input_ids=ids).logits)


def test_qwen2_can_be_written_as_dream(tiny_loaded, tmp_path):
    import dataclasses

    from transformers import Qwen2Config

    from demask.models.convert import convert_to_diffusion

    torch.manual_seed(0)
    settings: dict[str, Any] = {
        **DREAM,
        "vocab_size": len(tiny_loaded.tokenizer),
        "pad_token_id": 0,
        "model_type": "qwen2",
    }
    model = Qwen2ForCausalLM(Qwen2Config(**settings)).eval()
    converted = convert_to_diffusion(dataclasses.replace(tiny_loaded, model=model))
    save_model(converted, tmp_path / "dream", layout="dream")
    again = load(tmp_path / "dream")
    assert again.diffusion.layout == "dream"
    assert_equals_reference_of_rows(again.model, converted.model)


def refuse_saving(loaded, tmp_path, layout, expected):
    with pytest.raises(ModelError, match=expected) as caught:
        save_model(loaded, tmp_path / "saved", layout=layout)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "saved").exists()


def test_layouts_that_a_model_cannot_have_are_refused(make_llada, make_dream, tiny_loaded, tmp_path):
    from demask.models.convert import convert_to_diffusion

    refuse_saving(load(make_llada()), tmp_path, "dream", "model type is 'llama', expected 'qwen2'")
    refuse_saving(load(make_dream()), tmp_path, "llada", "model type is 'qwen2', expected 'llama'.*'native'")
    refuse_saving(tiny_loaded, tmp_path, "llada", "autoregressive, expected a masked-diffusion model")
    converted = convert_to_diffusion(tiny_loaded, alignment=1)
    refuse_saving(converted, tmp_path, "llada", "alignment is 1, in the layout 'llada' it would be 0")


def test_a_changed_vocabulary_is_refused_in_a_makers_layout(make_llada, tmp_path):
    loaded = load(make_llada())
    loaded.model.resize_token_embeddings(ROWS + 8, mean_resizing=False)
    refuse_saving(loaded, tmp_path, "llada", f"vocab_size is {ROWS + 8}, in the layout .* would be {ROWS}")


@pytest.mark.parametrize("change", [{"attention_bias": True}, {"mlp_bias": True}, {"head_dim": 16}])
def test_a_llama_unlike_llada_is_refused(make_model, tiny_loaded, tmp_path, change):
    config = make_model(**change).config
    from demask.models.diffusion import set_diffusion_form

    set_diffusion_form(config, DiffusionForm(3, 0))
    with pytest.raises(ModelError, match=next(iter(change))):
        makers_settings(config, "llada")


def serve_hub(monkeypatch, folder, repository):
    """Let a folder stand for a repository on the hub; gives what was asked for."""
    asked = []

    def fetch(source, file, **rest):
        assert (source, file) == (repository, "config.json")
        return str(folder / file)

    def snapshot(source, *, allow_patterns, local_files_only):
        assert source == repository
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr("transformers.utils.hub.cached_file", fetch)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    return asked


def test_from_the_hub_no_code_is_fetched_and_saved_configs_find_it_there(make_llada, tmp_path, monkeypatch):
    folder = make_llada()
    asked = serve_hub(monkeypatch, folder, "GSAI-ML/LLaDA-8B-Base")
    architecture = load_architecture("GSAI-ML/LLaDA-8B-Base")
    assert (architecture.hidden_size, asked) == (32, [])
    loaded = load("GSAI-ML/LLaDA-8B-Base")
    assert not [pattern for patterns in asked for pattern in patterns if "py" in pattern]
    assert "*.safetensors" in asked[-1]
    assert "*.safetensors" not in asked[0]
    save_model(loaded, tmp_path / "back")
    settings = json.loads((tmp_path / "back" / "config.json").read_text())
    assert settings["auto_map"]["AutoModel"] == "GSAI-ML/LLaDA-8B-Base--modeling_llada.LLaDAModelLM"
    assert not list((tmp_path / "back").glob("*.py"))


def test_what_the_hub_does_not_have_is_one_line(make_llada, monkeypatch):
    serve_hub(monkeypatch, make_llada(), "a/b")

    def fail(*_, **__):
        raise OSError("cannot find it")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    for load_part in (load_tokenizer, load_model):
        refuse("a/b", "cannot be had from the Hugging Face hub .cannot find it.", load_part)


# With all of the weights looked at, since those of a mapped file are not there before.
MEASURE = """
import sys
from pathlib import Path
import torch
from demask.models.load import _load_makers, load_architecture, outline_model
from transformers.utils import logging
logging.disable_progress_bar()
folder = Path(sys.argv[1])
config = load_architecture(str(folder))
outline_model(config)
def measure(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(kind)).split()[1])
before = measure("VmRSS")
model, stored = _load_makers(str(folder), config, "llada", None)
touched = sum(w.view(torch.uint8).flatten()[3::4096].sum().item() for w in model.parameters())
size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
print((measure("VmHWM") - before) / size, stored, touched > 0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_loading_takes_little_more_memory_than_the_files(tmp_path, dtype):
    width = 896 if dtype == torch.bfloat16 else 640
    sizes = {"d_model": width, "mlp_hidden_size": 3 * width, "n_layers": 6, "embedding_size": 8192}
    settings = {**LLADA, **sizes}
    write_settings(tmp_path, settings)
    shapes = llada_shapes(settings)
    write_shards({name: torch.ones(shape, dtype=dtype) for name, shape in shapes.items()}, tmp_path, count=6)
    shown = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert shown[1:] == [str(dtype), "True"]
    assert 0.9 < float(shown[0]) < 1.2
