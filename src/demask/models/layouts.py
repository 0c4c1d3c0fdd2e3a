"""LLaDA-8B and Dream-7B on the native classes of transformers, straight from their makers' folders.

    layout = find_layout(settings, name)                        # of a config.json
    config = native_config(settings, layout, name)              # and weights.py has the weights
    settings = makers_settings(config, layout)                  # the way back

LLaDA's blocks are those of `LlamaForCausalLM` under other names and Dream is `Qwen2ForCausalLM`, both
without the causal mask, so none of their makers' code is run. Both equal a plain forward pass of the
published equations (tests/models/test_layouts.py).

Sources: config.json and modeling_llada.py of GSAI-ML/LLaDA-8B-Instruct, modeling_dream.py of
Dream-org/Dream-v0-Instruct-7B.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from demask.errors import ModelError
from demask.models.diffusion import DiffusionForm, Layout, diffusion_form, set_diffusion_form

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_LAYOUTS: dict[str, Layout] = {"llada": "llada", "Dream": "dream"}
# Masked-diffusion models on architectures that transformers does not have.
_REMOTE_CODE = ("llada", "sdar")
_MASK_TOKEN = {"llada": 126336, "dream": 151666}
_MAKERS = {"llada": "GSAI-ML/LLaDA-8B-Base", "dream": "Dream-org/Dream-v0-Base-7B"}
_NATIVE_TYPE = {"llada": "llama", "dream": "qwen2"}


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
