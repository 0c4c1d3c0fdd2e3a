"""GGUF files of tiny models as llama.cpp's converter writes them: names of `gguf`, Llama's heads permuted."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np


def write_gguf(
    path: Path, model: Any, tokenizer: Any, *, arch: str, kind: str = "F32", pre: str = "gpt-2", **more: Any
) -> Path:
    """A model and its tokenizer; `kind` is the type of the matrices, `more` are keys over the usual ones."""
    config, writer = model.config, gguf.GGUFWriter(path, arch)
    theta = config.rope_parameters["rope_theta"]
    values = {
        "general.type": "model",
        f"{arch}.context_length": config.max_position_embeddings,
        f"{arch}.embedding_length": config.hidden_size,
        f"{arch}.block_count": config.num_hidden_layers,
        f"{arch}.feed_forward_length": config.intermediate_size,
        f"{arch}.attention.head_count": config.num_attention_heads,
        f"{arch}.attention.head_count_kv": config.num_key_value_heads,
        f"{arch}.attention.key_length": getattr(config, "head_dim", None) or 0,
        f"{arch}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        f"{arch}.rope.freq_base": float(theta),
        f"{arch}.rope.dimension_count": getattr(config, "head_dim", None) or 0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
        "tokenizer.chat_template": tokenizer.chat_template,
        **more,
    }
    adders = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}
    for key, value in values.items():
        if value:
            adders[type(value)](key, value)
    _write_tokens(writer, tokenizer)
    names = gguf.get_tensor_name_map(_arch(arch), config.num_hidden_layers)
    for key, weights in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name, ending = key.rsplit(".", 1)
        array = weights.float().numpy()
        if arch == "llama" and name.endswith(("q_proj", "k_proj")):
            heads = config.num_attention_heads if name.endswith("q_proj") else config.num_key_value_heads
            array = (
                array.reshape(heads, 2, array.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)
            )
        _add(writer, f"{names.get_name(name)}.{ending}", array, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _arch(name: str) -> Any:
    return next((key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == name), gguf.MODEL_ARCH.LLAMA)


def _add(writer: Any, name: str, array: Any, kind: str) -> None:
    quant = gguf.GGMLQuantizationType[kind]
    if array.ndim < 2 or kind == "F32":
        writer.add_tensor(name, np.ascontiguousarray(array, dtype=np.float32))
    else:
        writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(array), quant), raw_dtype=quant)


def _write_tokens(writer: Any, tokenizer: Any) -> None:
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_types([3 if id in special else 1 for _, id in tokens])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
