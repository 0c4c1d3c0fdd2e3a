"""Adapters on and off, and a trained model on disk that any server can load.

model = add_adapter(loaded.model, rank=32, seed=0)
save_model(loaded, run.file("model"))
"""

import copy
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from demask.errors import RunError
from demask.models.load import LoadedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_adapter(model: "PreTrainedModel", *, rank: int, seed: int) -> Any:
    """A low-rank adapter on all linear layers but the output layer, in float32.

    Scaled by alpha = rank, hence by one, so that the learning rate means the same at every rank.
    """
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(
            model,
            LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM"),
        )


@torch.no_grad()
def round_weights(model: "PreTrainedModel", dtype: torch.dtype) -> None:
    """Round float32 weights to what `dtype` can hold, so that what is asked is what is stored."""
    for weights in model.parameters():
        weights.copy_(weights.to(dtype))


def save_model(loaded: LoadedModel, folder: Path) -> None:
    """Write weights, tokenizer and chat template; the folder appears whole or not at all.

    Weights are stored in the number format that the model came in.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    _save_whole(folder, lambda place: _write_model(loaded, place))


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter alone, for servers that put adapters on a base model.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    _save_whole(folder, lambda place: model.save_pretrained(place))


def _write_model(loaded: LoadedModel, place: Path) -> None:
    weights = {name: tensor.to(loaded.stored_dtype) for name, tensor in loaded.model.state_dict().items()}
    loaded.model.save_pretrained(place, state_dict=weights)
    # Transformers writes the format that is in memory, from which servers choose theirs.
    config = copy.deepcopy(loaded.model.config)
    config.dtype = loaded.stored_dtype
    config.save_pretrained(place)
    loaded.tokenizer.save_pretrained(place)


def _save_whole(folder: Path, write: Any) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        # There is one when the process was killed between storing the model and saying so.
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RunError(
            f"{folder}: the model cannot be written ({error}); "
            "free some space and start the same command again"
        ) from error
