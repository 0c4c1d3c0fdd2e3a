"""Settings of a stored model as servers read them: with transformers 4 as with 5, and where an answer ends.

    complete_settings(folder, loaded)       # config.json, tokenizer_config.json, generation_config.json

Transformers 5 renamed what transformers 4 reads, and servers built on that (vLLM up to 0.19, Ollama's
importer) read the old names only, some without a word: a missing `rope_theta` counts as 10,000 there. So
both are written.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from demask.generation.texts import stop_ids

if TYPE_CHECKING:
    from demask.models.load import LoadedModel

# In both generations the class that takes tokenizer.json as it is.
TOKENIZER_CLASS = "PreTrainedTokenizerFast"
# Of rope_parameters, by the names of transformers 4; what is left over there was called rope_scaling.
_FULL, _LOCAL = "full_attention", "sliding_attention"
_ROPE_NAMES = {"rope_theta": "rope_theta", "partial_rotary_factor": "partial_rotary_factor"}
_NEOX_NAMES = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
_NEOX_TYPES = ("gpt_neox", "gpt_neox_japanese")
# Hybrids that transformers 4 knows by other names of their layers, and the key that these stand under.
_OLD_LAYERS = {"granitemoehybrid": "layer_types", "zamba2": "layers_block_type"}
_OLD_LAYER_NAMES = {"linear_attention": "mamba", "full_attention": "attention"}
# Phi 3 refused any other key beside these.
_LONGROPE = {"rope_type": "type", "short_factor": "short_factor", "long_factor": "long_factor"}


def complete_settings(folder: Path, loaded: "LoadedModel") -> None:
    """Add to the files that transformers 5 has written.

    Args:
        folder: with weights, configuration and tokenizer.
        loaded: the model that is stored there.
    """
    untied = {"tie_word_embeddings": False} if _is_apart(loaded.model) else {}
    _change_json(
        folder / "config.json", lambda config: {**_stored_config(config, loaded.stored_dtype), **untied}
    )
    _add_older_names(folder / "config.json")
    date_tokenizer(folder / "tokenizer_config.json", TOKENIZER_CLASS, loaded.tokenizer.model_input_names)
    _change_json(folder / "generation_config.json", lambda habits: _with_ends(habits, loaded))


def _is_apart(model: Any) -> bool:
    """Whether the output layer has other weights than the embedding.

    Two that differ are left apart by transformers 5, whatever config.json says, and not by transformers 4.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and not torch.equal(head.weight, embedding.weight)


def date_tokenizer(path: Path, kind: str, inputs: list[str]) -> None:
    """Let transformers 4 read a tokenizer_config.json of transformers 5, too.

    Args:
        path: of the file.
        kind: the class that both know.
        inputs: what the tokenizer gives a model; transformers 4 would add token types.
    """

    def change(settings: dict[str, Any]) -> dict[str, Any]:
        settings = {**settings, "tokenizer_class": kind, "model_input_names": inputs}
        if isinstance(settings.get("extra_special_tokens"), list):
            settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
        return settings

    _change_json(path, change)


def write_json(settings: Mapping[str, Any], path: Path) -> None:
    """Write a settings file as transformers does."""
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _change_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(change(settings), path)


def _stored_config(config: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """With the dtype on disk, from which servers choose theirs, at every level.

    Without the way to a maker's code: it is not stored, and the weights are named as transformers has them.
    """
    name = str(dtype).removeprefix("torch.")
    inner = {
        key: _stored_config(value, dtype) if _is_inner(key, value) else value
        for key, value in config.items()
        if key != "auto_map"
    }
    return {**inner, "dtype": name, "torch_dtype": name} if "model_type" in config else inner


def _add_older_names(path: Path) -> None:
    """Write the names of transformers 4 as well, where this one reads the same with them as without."""
    from transformers import AutoConfig

    own = json.loads(path.read_text(encoding="utf-8"))
    both = _with_older_names(own)
    before = _read_rope(AutoConfig.from_pretrained(path.parent))
    write_json(both, path)
    try:
        same = _read_rope(AutoConfig.from_pretrained(path.parent)) == before
    except (ValueError, TypeError, KeyError):
        same = False
    if not same:
        write_json(own, path)


def _read_rope(config: Any) -> list[Any]:
    """Of a model and its text part, without the older name of the rope's type."""
    parts = [
        getattr(part, "rope_parameters", None) for part in (config, config.get_text_config(decoder=True))
    ]
    return [part and {key: value for key, value in part.items() if key != "type"} for part in parts]


def _with_older_names(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration, and those inside it, with the keys of transformers 4."""
    both = {
        key: _with_older_names(value) if _is_inner(key, value) else _untagged(value)
        for key, value in config.items()
    }
    rope = config.get("rope_parameters")
    if isinstance(rope, dict):
        both |= _rope_keys(rope, config)
    layers = _OLD_LAYERS.get(str(config.get("model_type")))
    if layers in config:
        both[layers] = [_OLD_LAYER_NAMES.get(name, name) for name in config[layers]]
    if "num_local_experts" in config:  # Qwen's and OLMo's mixtures
        both.setdefault("num_experts", config["num_local_experts"])
    if "tie_word_embeddings" in config and _is_inner("text_config", config.get("text_config")):
        # Whether the output layer is the embedding: transformers 4 asks the inner configuration.
        both["text_config"]["tie_word_embeddings"] = config["tie_word_embeddings"]
    return both


def _untagged(value: Any) -> Any:
    """Infinity as Python's JSON has it, where transformers 5 writes an object."""
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    return float(value["__float__"]) if isinstance(value, dict) and value.keys() == {"__float__"} else value


def _is_inner(key: str, value: object) -> bool:
    return key.endswith("_config") and isinstance(value, dict)


def _rope_keys(rope: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of transformers 4 that are not there yet."""
    local = rope.get(_LOCAL)
    rope = rope.get(_FULL) or rope
    if not isinstance(rope.get("rope_type"), str):
        return {}
    names = _NEOX_NAMES if config.get("model_type") in _NEOX_TYPES else _ROPE_NAMES
    keys = {old: rope[new] for new, old in names.items() if rope.get(new) is not None}
    if isinstance(local, dict) and "rope_theta" in local:
        keys["rope_local_base_freq"] = local["rope_theta"]
    scaling = {key: value for key, value in rope.items() if key not in names}
    if rope["rope_type"] == "longrope":
        if "original_max_position_embeddings" in rope:
            keys["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
        scaling = {old: rope[new] for new, old in _LONGROPE.items() if new in rope}
    if scaling != {"rope_type": "default"}:
        keys["rope_scaling"] = scaling
    return {key: value for key, value in keys.items() if config.get(key) is None}


def _with_ends(habits: dict[str, Any], loaded: "LoadedModel") -> dict[str, Any]:
    """Decoding settings that stop at the end of the template's turn, as training taught it.

    Servers stop at these tokens and at no others. Those that the model came with stay.
    """
    known = habits.get("eos_token_id")
    given = known if isinstance(known, list) else [known]
    ends = [loaded.chat.end[-1], *(id_ for id_ in given if isinstance(id_, int)), *stop_ids(loaded)]
    # Of what a masked-diffusion model has read, nothing can be kept.
    cache = {} if loaded.diffusion is None else {"use_cache": False}
    return {**habits, "eos_token_id": list(dict.fromkeys(ends)), **cache}
