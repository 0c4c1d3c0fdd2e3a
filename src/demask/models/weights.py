"""Weights of a model folder, read and written under its makers' names.

    read = read_weights(folder, outline, layout="llada", dtype=None)      # read.tensors by native names
    write_weights(tensors, folder, layout="llada")

Tensors that are wanted as they are stored stay memory-mapped: loading them took 1.02 times the size of
the files at most, in bfloat16 and in float32. `key_mapping` of transformers reads as sparingly, but a
model loaded with it is saved under its makers' names, whoever saves it; hence a reader here.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from demask.errors import ModelError
from demask.models.diffusion import Layout

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
