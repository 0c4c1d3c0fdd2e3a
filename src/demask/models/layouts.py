"""LLaDA-8B and Dream-7B on the native classes of transformers, straight from their makers' folders.

    layout = find_layout(settings, name)                        # of a config.json
    config = native_config(settings, layout, name)
    settings = makers_settings(config, layout)                  # the way back
    read = read_weights(folder, outline, layout="llada", dtype=None)      # read.tensors by native names
    write_weights(tensors, folder, layout="llada")

LLaDA's blocks are those of `LlamaForCausalLM` under other names and Dream is `Qwen2ForCausalLM`, both
without the causal mask, so none of their makers' code is run. Both equal a plain forward pass of the
published equations (tests/models/test_layouts.py).

Tensors that are wanted as they are stored stay memory-mapped: loading them took 1.02 times the size of
the files at most, in bfloat16 and in float32. `key_mapping` of transformers reads as sparingly, but a
model loaded with it is saved under its makers' names, whoever saves it; hence a reader here.

Sources: config.json and modeling_llada.py of GSAI-ML/LLaDA-8B-Instruct, modeling_dream.py of
Dream-org/Dream-v0-Instruct-7B.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from demask.errors import ModelError
from demask.models.diffusion import DiffusionForm, Layout, diffusion_form, set_diffusion_form

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_LAYOUTS: dict[str, Layout] = {"llada": "llada", "Dream": "dream"}
# Masked-diffusion models on architectures that transformers does not have.
_REMOTE_CODE = ("llada", "sdar")
_MASK_TOKEN = {"llada": 126336, "dream": 151666}
_MAKERS = {"llada": "GSAI-ML/LLaDA-8B-Base", "dream": "Dream-org/Dream-v0-Base-7B"}
_NATIVE_TYPE = {"llada": "llama", "dream": "qwen2"}
# What a config.json of LLaDA says besides sizes, for models that did not come with one.
_LLADA_OTHERS = {
    "attention_layer_norm_with_affine": True,
    "alibi_bias_max": 8.0,
    "embedding_dropout": 0.0,
    "flash_attention": False,
    "init_cutoff_factor": None,
    "init_device": "meta",
    "init_fn": "mitchell",
    "init_std": 0.02,
    "mlp_ratio": 4,
    "multi_query_attention": None,
    "precision": "amp_bf16",
    "residual_dropout": 0.0,
    "rope_full_precision": True,
    "use_cache": False,
}
# Native name and LLaDA's name of what every LLaDA must say.
_LLADA_SIZES = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "max_position_embeddings": "max_sequence_length",
    "rms_norm_eps": "rms_norm_eps",
}
_DREAM_SIZES = (
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "vocab_size",
)
_DREAM_OTHERS = (
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "initializer_range",
    "max_window_layers",
    "pad_token_id",
)
# What makes two configurations one architecture.
_SHAPE = (
    *_DREAM_SIZES,
    "attention_bias",
    "hidden_act",
    "rope_parameters",
    "tie_word_embeddings",
)
INDEX = "model.safetensors.index.json"
# As transformers 4 wrote, in which LLaDA and Dream came; a loader holds one shard at a time.
SHARD_SIZE = "5GB"
# LLaDA's names and native ones.
_OUTSIDE = {
    "model.transformer.wte": "model.embed_tokens",
    "model.transformer.ln_f": "model.norm",
    "model.transformer.ff_out": "lm_head",
}
_BLOCK, _NATIVE_BLOCK = "model.transformer.blocks", "model.layers"
_IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "ff_norm": "post_attention_layernorm",
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
}


class _Setting(NamedTuple):
    """What an entry of config.json may be, and what its makers' code takes where it does not stand."""

    supported: tuple[Any, ...]
    default: Any


_LLADA_SETTINGS = {
    "block_type": _Setting(("llama",), "sequential"),
    "block_group_size": _Setting((1,), 1),
    "rope": _Setting((True,), False),
    "alibi": _Setting((False,), False),
    "layer_norm_type": _Setting(("rms",), "default"),
    "layer_norm_with_affine": _Setting((True,), True),
    "bias_for_layer_norm": _Setting((False, None), None),
    "attention_layer_norm": _Setting((False,), False),
    "input_emb_norm": _Setting((False,), False),
    "scale_logits": _Setting((False,), False),
    "activation_type": _Setting(("silu",), "swiglu"),
    "include_bias": _Setting((False,), False),
    "include_qkv_bias": _Setting((False,), False),
}
_DREAM_SETTINGS = {
    "block_size": _Setting((None,), None),  # Dream's later, block-causal models
    "head_dim": _Setting((None,), None),
    "rope_scaling": _Setting((None,), None),
    "use_mrope": _Setting((False, None), False),
    "use_sliding_window": _Setting((False, None), False),
}


def find_layout(settings: Mapping[str, Any], name: str) -> Layout:
    """The layout of a config.json.

    Raises:
        ModelError: it is one of the masked-diffusion models that need their makers' code.
    """
    kind = str(settings.get("model_type"))
    if kind in _LAYOUTS:
        return _LAYOUTS[kind]
    if kind.lower().startswith(_REMOTE_CODE):
        raise ModelError(
            f"{name}: config.json: model_type is {kind!r}, which needs remote code and is not supported; "
            "expected 'llada' (LLaDA-8B), 'Dream' (Dream-7B) or a model type of transformers"
        )
    return "native"


def native_config(settings: Mapping[str, Any], layout: Layout, name: str) -> "PretrainedConfig":
    """The native configuration of what a maker's config.json describes, which stays in `diffusion`.

    Args:
        settings: the config.json.
        layout: `llada` or `dream`.
        name: of the model, for messages; where it is one on the hub, the makers' code is said to be there.

    Raises:
        ModelError: something in it is missing, or not what the native class does.
    """
    _check_settings(settings, _LLADA_SETTINGS if layout == "llada" else _DREAM_SETTINGS, name)
    read = _read_llada if layout == "llada" else _read_dream
    try:
        config = read(settings)
    except KeyError as error:
        raise ModelError(
            f"{name}: config.json: {error.args[0]} is missing; expected the config.json of its makers"
        ) from error
    stored = settings.get("dtype", settings.get("torch_dtype"))
    config.dtype = getattr(torch, str(stored), None) if stored else None
    config.name_or_path = name
    mask_token_id = settings.get("mask_token_id")
    form = DiffusionForm(
        _MASK_TOKEN[layout] if mask_token_id is None else int(mask_token_id),
        0 if layout == "llada" else 1,
        layout,
    )
    cast("Any", config).diffusion = {"original": _with_address(settings, name)}
    set_diffusion_form(config, form)
    diffusion_form(config)  # of which the mask token is one of its rows
    return config


def _check_settings(settings: Mapping[str, Any], expected: Mapping[str, _Setting], name: str) -> None:
    for key, (supported, default) in expected.items():
        found = settings.get(key, default)
        if found not in supported:
            raise ModelError(
                f"{name}: config.json: {key} is {found!r}, expected {supported[0]!r}; this model "
                "needs remote code and is not supported"
            )


def _read_llada(settings: Mapping[str, Any]) -> "PretrainedConfig":
    from transformers import LlamaConfig

    heads = settings.get("n_kv_heads")
    if heads is None:
        heads = 1 if settings.get("multi_query_attention") else settings["n_heads"]
    inner = settings.get("mlp_hidden_size")
    return LlamaConfig(
        **{native: settings[key] for native, key in _LLADA_SIZES.items()},
        num_key_value_heads=heads,
        intermediate_size=settings["mlp_ratio"] * settings["d_model"] if inner is None else inner,
        vocab_size=settings.get("embedding_size") or settings["vocab_size"],
        rope_parameters={"rope_type": "default", "rope_theta": float(settings["rope_theta"])},
        tie_word_embeddings=settings["weight_tying"],
        attention_dropout=settings.get("attention_dropout", 0.0),
        bos_token_id=settings.get("bos_token_id"),
        eos_token_id=settings.get("eos_token_id"),
        # LLaDA pads with its EOS, and transformers never trains the row that it pads with.
        pad_token_id=None,
    )


def _read_dream(settings: Mapping[str, Any]) -> "PretrainedConfig":
    from transformers import Qwen2Config

    return Qwen2Config(
        **{key: settings[key] for key in _DREAM_SIZES},
        **{key: settings[key] for key in _DREAM_OTHERS if key in settings},
        rope_parameters={"rope_type": "default", "rope_theta": float(settings["rope_theta"])},
        tie_word_embeddings=settings.get("tie_word_embeddings", False),
        use_sliding_window=False,
    )


def _with_address(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A config.json that finds its makers' code from anywhere, if it came from the hub."""
    found = settings.get("auto_map")
    if not isinstance(found, dict) or Path(name).exists():
        return dict(settings)
    entries = {
        key: f"{name}--{entry}" if isinstance(entry, str) and "--" not in entry else entry
        for key, entry in found.items()
    }
    return {**settings, "auto_map": entries}


def makers_settings(config: "PretrainedConfig", layout: Layout) -> dict[str, Any]:
    """The config.json that a native masked-diffusion model has in a maker's layout.

    It is the one that the model came with, if there was one.

    Args:
        config: of the model.
        layout: `llada` or `dream`.

    Raises:
        ModelError: the maker's code would compute something else.
    """
    form = diffusion_form(config)
    name = config.name_or_path or "model"
    if form is None:
        raise ModelError(
            f"{name}: autoregressive, expected a masked-diffusion model for the layout {layout!r}; "
            "save it with layout 'native'"
        )
    original = cast("Any", config).diffusion.get("original")
    if not original or find_layout(original, name) != layout:
        _check_native(config, layout, name)
        original = _llada_settings(config) if layout == "llada" else _dream_settings(config)
        original["mask_token_id"] = form.mask_token_id
    again = native_config(original, layout, name)
    ours, theirs = (_shape(one) for one in (config, again))
    different = next((key for key, value in ours.items() if theirs[key] != value), None)
    if different:
        raise ModelError(
            f"{name}: {different} is {ours[different]!r}, in the layout {layout!r} it would be "
            f"{theirs[different]!r}; save it with layout 'native'"
        )
    return dict(original)


def _shape(config: "PretrainedConfig") -> dict[str, Any]:
    form = diffusion_form(config)
    shape = {key: getattr(config, key, None) for key in _SHAPE}
    shape["attention_bias"] = bool(shape["attention_bias"])
    return {**shape, "alignment": form and form.alignment, "mask_token_id": form and form.mask_token_id}


def _check_native(config: "PretrainedConfig", layout: Layout, name: str) -> None:
    """Only architectures that are the maker's can be written in its layout."""
    if config.model_type != _NATIVE_TYPE[layout]:
        raise ModelError(
            f"{name}: its model type is {config.model_type!r}, expected {_NATIVE_TYPE[layout]!r} for the "
            f"layout {layout!r}; save it with layout 'native'"
        )
    settings = cast("Any", config)
    width = getattr(config, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    odd = {
        "head_dim": width != settings.hidden_size // settings.num_attention_heads,
        "mlp_bias": getattr(config, "mlp_bias", False),
        "use_sliding_window": getattr(config, "use_sliding_window", False),
    }
    for key in (key for key, is_odd in odd.items() if is_odd):
        raise ModelError(
            f"{name}: {key} is {getattr(config, key)!r}, which the layout {layout!r} does not have; "
            "save it with layout 'native'"
        )


def _llada_settings(config: "PretrainedConfig") -> dict[str, Any]:
    settings = cast("Any", config)
    code = f"{_MAKERS['llada']}--modeling_llada.LLaDAModelLM"
    return {
        **_LLADA_OTHERS,
        **{key: setting.supported[0] for key, setting in _LLADA_SETTINGS.items()},
        **{key: getattr(config, native) for native, key in _LLADA_SIZES.items()},
        "n_kv_heads": settings.num_key_value_heads,
        "mlp_hidden_size": settings.intermediate_size,
        "vocab_size": settings.vocab_size,
        "embedding_size": settings.vocab_size,
        "rope_theta": settings.rope_parameters["rope_theta"],
        "weight_tying": settings.tie_word_embeddings,
        "attention_dropout": settings.attention_dropout,
        "bos_token_id": settings.bos_token_id,
        "eos_token_id": settings.eos_token_id,
        "pad_token_id": settings.pad_token_id,
        "model_type": "llada",
        "architectures": ["LLaDAModelLM"],
        "auto_map": {
            "AutoConfig": f"{_MAKERS['llada']}--configuration_llada.LLaDAConfig",
            "AutoModel": code,
            "AutoModelForCausalLM": code,
        },
    }


def _dream_settings(config: "PretrainedConfig") -> dict[str, Any]:
    settings = cast("Any", config)
    return {
        **{key: getattr(config, key) for key in (*_DREAM_SIZES, *_DREAM_OTHERS)},
        "rope_scaling": None,
        "rope_theta": settings.rope_parameters["rope_theta"],
        "sliding_window": None,
        "tie_word_embeddings": settings.tie_word_embeddings,
        "use_sliding_window": False,
        "model_type": "Dream",
        "architectures": ["DreamModel"],
        "auto_map": {
            "AutoConfig": f"{_MAKERS['dream']}--configuration_dream.DreamConfig",
            "AutoModel": f"{_MAKERS['dream']}--modeling_dream.DreamModel",
        },
    }


class WeightsRead(NamedTuple):
    """The weights of a folder."""

    tensors: dict[str, Tensor]  # by native name
    stored: torch.dtype  # on disk


def native_name(name: str, layout: Layout) -> str:
    """The native name of a weight; unknown ones stay as they are."""
    return _rename(name, _BLOCK, _NATIVE_BLOCK, {**_OUTSIDE, **_IN_BLOCK}) if layout == "llada" else name


def makers_name(name: str, layout: Layout) -> str:
    """The name of a weight in a maker's layout, the inverse of `native_name`."""
    if layout != "llada":
        return name
    theirs = {native: makers for makers, native in {**_OUTSIDE, **_IN_BLOCK}.items()}
    return _rename(name, _NATIVE_BLOCK, _BLOCK, theirs)


def _rename(name: str, block: str, new_block: str, names: Mapping[str, str]) -> str:
    found = re.fullmatch(rf"(?:{re.escape(block)}\.(\d+)\.)?(.+)\.weight", name)
    if found is None or found[2] not in names:
        return name
    inside = found[1] is not None
    if inside != (found[2] in {*_IN_BLOCK, *_IN_BLOCK.values()}):
        return name
    return f"{new_block}.{found[1]}.{names[found[2]]}.weight" if inside else f"{names[found[2]]}.weight"


def read_weights(
    folder: Path, outline: "PreTrainedModel", *, layout: Layout, dtype: torch.dtype | None
) -> WeightsRead:
    """All weights of a folder, by native names.

    Args:
        folder: with safetensors files.
        outline: a model of the same configuration; its weights may be on the meta device.
        layout: of the folder.
        dtype: of the weights in memory; None: as stored.

    Raises:
        ModelError: a file or a weight is missing, broken, unknown, or of another shape.
    """
    tensors: dict[str, Tensor] = {}
    stored = torch.float32
    for path in _weight_files(folder):
        try:
            for name, tensor in _read_shard(path):
                stored = tensor.dtype
                tensors[native_name(name, layout)] = tensor.to(dtype or tensor.dtype)
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{path}: cannot be read ({error}); expected safetensors, fetch the file again"
            ) from error
    _check_complete(tensors, outline, layout, folder)
    return WeightsRead(tensors, stored)


def _read_shard(path: Path) -> Iterator[tuple[str, Tensor]]:
    with safe_open(path, framework="pt") as shard:
        for name in shard.keys():  # noqa: SIM118 (not a dictionary)
            yield name, shard.get_tensor(name)


def _weight_files(folder: Path) -> list[Path]:
    """By the index, since some folders hold the same weights twice."""
    index = folder / INDEX
    if not index.exists():
        return sorted(folder.glob("*.safetensors"))
    try:
        paths = sorted({folder / name for name in json.loads(index.read_text())["weight_map"].values()})
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{index}: has no weight_map; fetch the file again") from error
    for path in (path for path in paths if not path.exists()):
        raise ModelError(f"{path}: no such file; {INDEX} expects {len(paths)} files, fetch the missing ones")
    return paths


def _check_complete(
    tensors: Mapping[str, Tensor], outline: "PreTrainedModel", layout: Layout, folder: Path
) -> None:
    expected = {name: tensor.shape for name, tensor in outline.state_dict().items()}
    if outline.config.get_text_config().tie_word_embeddings:
        del expected["lm_head.weight"]
    missing = sorted(makers_name(name, layout) for name in expected.keys() - tensors.keys())
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} of its weights are missing, such as {missing[0]}; "
            "expected a whole model, as its config.json describes it"
        )
    unknown = sorted(makers_name(name, layout) for name in tensors.keys() - expected.keys())
    if unknown:
        raise ModelError(
            f"{folder}: {len(unknown)} of its weights have no place in the model, such as {unknown[0]}; "
            "expected those of its config.json only"
        )
    for name in (name for name, shape in expected.items() if tensors[name].shape != shape):
        raise ModelError(
            f"{folder}: {makers_name(name, layout)} has the shape {list(tensors[name].shape)}, "
            f"expected {list(expected[name])} by its config.json"
        )


def write_weights(tensors: Mapping[str, Tensor], folder: Path, *, layout: Layout) -> None:
    """Write safetensors files, with an index where there are several.

    Args:
        tensors: by native name; none shares its memory with another.
        folder: exists.
        layout: whose names they get.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    named = {makers_name(name, layout): tensor.contiguous() for name, tensor in tensors.items()}
    split = split_torch_state_dict_into_shards(named, max_shard_size=SHARD_SIZE)
    for file, names in split.filename_to_tensors.items():
        save_file({name: named[name] for name in names}, folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
