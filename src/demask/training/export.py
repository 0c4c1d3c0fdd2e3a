"""Adapters on and off, and a trained model on disk that any server can load.

model = add_adapter(loaded.model, rank=32, seed=0)
save_model(loaded, run.file("model"))
"""

import copy
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import yaml
from safetensors import SafetensorError

from demask.errors import ModelError, RunError
from demask.models.diffusion import Layout
from demask.models.families import find_adapter_layers
from demask.models.layouts import makers_settings, write_weights
from demask.models.load import LoadedModel
from demask.models.quantised import as_linear, dequantise, is_quantised
from demask.training.settings_files import complete_settings, date_tokenizer, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# By which the transformers of LLaDA and Dream (4.46) knows the tokenizers that are saved with them.
_TOKENIZER_CLASSES = {"llada": "PreTrainedTokenizerFast", "dream": "Qwen2Tokenizer"}


def add_adapter(model: "PreTrainedModel", *, rank: int, seed: int, trained_token: int | None = None) -> Any:
    """A low-rank adapter on all linear layers that read text but the output layer, in float32.

    Scaled by alpha = rank, hence by one, so that the learning rate means the same at every rank.

    Args:
        model: gets the adapter inside it.
        rank: of the adapter.
        seed: of its first weights.
        trained_token: whose row of the embedding is trained, too: the mask token of a model that was
            just converted, since no linear layer reaches it.

    Raises:
        ModelError: no adapter can be put on this architecture.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=find_adapter_layers(model),
        task_type="CAUSAL_LM",
        trainable_token_indices=None if trained_token is None else [trained_token],
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            adapter = get_peft_model(model, config)
        except ValueError as error:
            raise ModelError(
                f"{type(model).__name__}: peft puts no adapter on it ({error}); use train.method=full"
            ) from error
    # As the loader of peft will look for it, from whatever folder that is called.
    base = model.name_or_path or ""
    config.base_model_name_or_path = str(Path(base).resolve()) if base and Path(base).is_dir() else base
    config.revision = getattr(model.config, "_commit_hash", None)
    return adapter


def count_adapter(model: "PreTrainedModel", *, rank: int) -> int:
    """How many weights an adapter of this rank has on a model, which may be without its own."""
    shapes = (model.get_parameter(f"{name}.weight").shape for name in find_adapter_layers(model))
    return sum(rank * sum(shape) for shape in shapes)


def put_adapter(model: "PreTrainedModel", folder: Path) -> Any:
    """An adapter that `save_adapter` wrote, on its base model, to be asked."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(folder)).eval()


@torch.no_grad()
def merge_adapter(adapted: Any, dtype: torch.dtype) -> "PreTrainedModel":
    """The base model with its adapter in its weights, layer by layer: summed in float32, then rounded once.

    Args:
        adapted: of `add_adapter`; is taken apart. Layers in four bits are de-quantised.
        dtype: of the merged weights; a model that is in float32 as a whole stays so.

    Returns:
        A model without peft and bitsandbytes: where it was, or in main memory if some of it was in four bits,
        as it needs four times as much room there.
    """
    four_bits = is_quantised(adapted)
    if not four_bits and all(weights.dtype == torch.float32 for weights in adapted.parameters()):
        merged: PreTrainedModel = adapted.merge_and_unload()
        return merged
    for layer in [module for module in adapted.modules() if hasattr(module, "get_delta_weight")]:
        base = layer.get_base_layer()
        weights_OI = dequantise(base).add_(layer.get_delta_weight("default").float()).to(dtype)
        layer.base_layer = as_linear(base, weights_OI.cpu() if four_bits else weights_OI)
    merged = adapted.unload()
    merged.is_loaded_in_4bit = False  # type: ignore[assignment]
    return merged.cpu() if four_bits else merged


@torch.no_grad()
def round_weights(model: "PreTrainedModel", dtype: torch.dtype) -> None:
    """Round float32 weights to what `dtype` can hold, so that what is asked is what is stored."""
    for weights in model.parameters():
        weights.copy_(weights.to(dtype))


def save_model(loaded: LoadedModel, folder: Path, *, layout: Layout | None = None) -> None:
    """Write weights, tokenizer and chat template; the folder appears whole or not at all.

    Weights are stored in the dtype that the model came in.

    Args:
        loaded: the model.
        folder: appears whole or not at all; one of the same name is replaced.
        layout: of config and weights; None: the one that the model came in. In a maker's layout its
            code is copied along from a local folder, and never run.

    Raises:
        ModelError: the model cannot be had in this layout.
        RunError: the disk is full or the folder cannot be written.
    """
    form = loaded.diffusion
    wanted = layout or (form.layout if form else "native")
    if wanted == "native":
        save_whole(folder, lambda place: _write_native(loaded, place))
        return
    settings = makers_settings(loaded.model.config, wanted)
    save_whole(folder, lambda place: _write_makers(loaded, place, wanted, settings))


def copy_model(source: Path, folder: Path) -> None:
    """Copy a model folder; it appears whole or not at all.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """

    def write(place: Path) -> None:
        for file in source.iterdir():
            if file.is_file():
                shutil.copyfile(file, place / file.name)

    save_whole(folder, write)


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter alone, for servers that put adapters on a base model.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """

    def write(place: Path) -> None:
        model.save_pretrained(place)
        # In place of peft's form, which nobody has filled in.
        (place / "README.md").write_text(describe_adapter(model.peft_config["default"]), encoding="utf-8")

    save_whole(folder, write)


def describe_adapter(config: Any) -> str:
    """The page of an adapter: its base model, and how to load it."""
    base, revision = str(config.base_model_name_or_path or ""), config.revision
    local = not base or Path(base).is_dir()
    where = {"base_model": base, "base_model_relation": "adapter"} if not local else {}
    head = {**where, "library_name": "peft", "pipeline_tag": "text-generation", "tags": ["demask", "lora"]}
    pinned = f", revision={revision!r}" if revision and not local else ""
    page = (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n# LoRA adapter of rank {config.r}\n\n"
        f"Base model: `{base or 'unknown'}`{f' at revision `{revision}`' if pinned else ''}. Made by demask, "
        "which asks with the chat template of `model/`, where adapter and base are merged; the base model's "
        "own template may differ.\n"
    )
    load = (
        "\n```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f"base = AutoModelForCausalLM.from_pretrained({base!r}{pinned})\n"
        'model = PeftModel.from_pretrained(base, "FOLDER OF THIS ADAPTER")\n```\n'
    )
    return page + load if base else page


def _write_native(loaded: LoadedModel, place: Path) -> None:
    loaded.model.save_pretrained(place, state_dict=_stored_weights(loaded))
    if loaded.diffusion is not None:
        config = cast("Any", copy.deepcopy(loaded.model.config))
        config.diffusion = {**config.diffusion, "layout": "native"}
        config.save_pretrained(place)
    loaded.tokenizer.save_pretrained(place)
    complete_settings(place, loaded)
    for path in loaded.processor_files:
        shutil.copyfile(path, place / path.name)


def _write_makers(loaded: LoadedModel, place: Path, layout: Layout, settings: dict[str, Any]) -> None:
    """As the makers of LLaDA or Dream do, for their tools."""
    weights = _stored_weights(loaded)
    if loaded.model.config.get_text_config().tie_word_embeddings:
        del weights["lm_head.weight"]
    write_weights(weights, place, layout=layout)
    name = "dtype" if "dtype" in settings else "torch_dtype"
    settings = {**settings, name: str(loaded.stored_dtype).removeprefix("torch.")}
    write_json(settings, place / "config.json")
    loaded.tokenizer.save_pretrained(place, save_jinja_files=False)
    # As the transformers that their makers' code was written for reads it.
    inputs = loaded.tokenizer.model_input_names
    date_tokenizer(place / "tokenizer_config.json", _TOKENIZER_CLASSES[layout], inputs)
    for code in Path(loaded.source).glob("*.py"):
        shutil.copyfile(code, place / code.name)


def _stored_weights(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    """Numbers in the format that the model came in; counters and indices stay whole."""
    return {
        name: tensor.to(loaded.stored_dtype) if tensor.is_floating_point() else tensor
        for name, tensor in loaded.model.state_dict().items()
    }


def save_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Have a folder written; it appears whole or not at all.

    Args:
        folder: one of the same name is replaced.
        write: is given the folder to write to, which gets its name afterwards.

    Raises:
        RunError: the disk is full or the folder cannot be written. What `write` raises goes on.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        # There is one when the process was killed between storing the model and saying so.
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except RunError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RunError(
            f"{folder}: the model cannot be written ({error}); "
            "free some space and start the same command again"
        ) from error
