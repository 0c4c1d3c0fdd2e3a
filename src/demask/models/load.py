"""Load a causal language model by name, folder or `embedded`, ready to train and to ask.

    loaded = load_model("embedded", device="cpu")
    loaded.model, loaded.tokenizer, loaded.chat

Weights are float32 (the masters of training) and come from safetensors only. No code from a
checkpoint is run.
"""

import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from safetensors import SafetensorError

from demask.errors import ModelError
from demask.models.embedded import fetch_embedded_model
from demask.models.precision import keep_freed_memory
from demask.objectives.prompts import PLAIN_TEMPLATE, ChatFormat, load_chat_format

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = "embedded"


@dataclass(frozen=True)
class LoadedModel:
    """A model with what is needed to talk to it.

    Attributes:
        model: a causal language model in float32, in evaluation mode.
        tokenizer: its tokenizer; has a chat template, `PLAIN_TEMPLATE` when it came without.
        chat: the template cut into token ids, tested.
        name: as the user gave it.
        source: the folder or hub name that the name stands for.
        stored_dtype: of the weights on disk; what training makes is stored in it again.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    chat: ChatFormat
    name: str
    source: str
    stored_dtype: torch.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def pad_id(self) -> int:
        """Fills short rows of a batch; never seen by a real token and never scored."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if isinstance(pad, int) else self.chat.end[-1]

    @property
    def context(self) -> int:
        """How many tokens the model was made for."""
        return context_length(self.model.config)

    @property
    def parameters(self) -> int:
        """How many weights the model has."""
        return sum(p.numel() for p in self.model.parameters())


def choose_device(wanted: str) -> torch.device:
    """The device by name; `auto` takes CUDA where there is one.

    Raises:
        ModelError: CUDA is asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("device: 'cuda' is asked for and PyTorch sees none; use 'auto' or 'cpu'")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def load_tokenizer(name: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model, with a chat template.

    Raises:
        ModelError: it cannot be found or read.
    """
    from transformers import AutoTokenizer

    source = _locate(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **_access(source))
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _cannot_load(name, "tokenizer", error) from error
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def load_architecture(name: str) -> "PretrainedConfig":
    """The model's own configuration: sizes and context, without its weights.

    Raises:
        ModelError: it cannot be found or read.
    """
    from transformers import AutoConfig

    source = _locate(name)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(source, **_access(source))
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _cannot_load(name, "configuration", error) from error
    return config


def context_length(config: "PretrainedConfig") -> int:
    """How many tokens a model was made for."""
    return int(getattr(config, "max_position_embeddings", None) or 2048)


def outline_model(config: "PretrainedConfig") -> "PreTrainedModel":
    """A model without its weights: their shapes and its class, for plans."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def load_model(name: str, *, device: str = "auto") -> LoadedModel:
    """A model, its tokenizer and its chat format.

    Args:
        name: `embedded`, a folder, or a name on the Hugging Face hub.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ModelError: it cannot be found, has no weights, is not a causal language model, or its
            chat template fails the self-test.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    place = choose_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    tokenizer = load_tokenizer(name)
    source = _locate(name)
    config = load_architecture(name)
    stored = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    loader: Any = AutoModelForCausalLM
    try:
        model, found = loader.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **_access(source),
        )
    except (OSError, ValueError, ImportError, KeyError, SafetensorError) as error:
        raise _cannot_load(name, "model", error) from error
    if found["missing_keys"]:
        raise ModelError(
            f"{name}: {len(found['missing_keys'])} of its weights are missing, such as "
            f"{min(found['missing_keys'])}; expected a whole causal language model"
        )
    return LoadedModel(model.to(place).eval(), tokenizer, load_chat_format(tokenizer), name, source, stored)


def _locate(name: str) -> str:
    """The folder or hub name to load from.

    Raises:
        ModelError: a folder of this name is no model folder.
    """
    if name == EMBEDDED:
        return str(fetch_embedded_model())
    folder = Path(name)
    if not folder.exists():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ModelError(f"{name}: no such folder; expected a model folder, a hub name, or 'embedded'")
        return name
    if not (folder / "config.json").exists():
        raise ModelError(
            f"{name}: not a model folder (no config.json); expected one saved by save_pretrained"
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{name}: no weights there; expected *.safetensors files")
    return name


def _access(source: str) -> dict[str, bool]:
    """How to read a folder or the hub: no code of others, and no hub that does not answer."""
    return {"trust_remote_code": False, "local_files_only": not Path(source).exists() and not _hub_answers()}


@cache
def _hub_answers() -> bool:
    """Whether the hub can be reached: a quick look, since its client tries for most of a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies():  # a proxy answers in the hub's stead
        return True
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def _cannot_load(name: str, what: str, error: Exception) -> ModelError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if Path(name).exists() or name == EMBEDDED:
        return ModelError(f"{name}: its {what} cannot be loaded ({reason})")
    return ModelError(
        f"{name}: its {what} cannot be had from the Hugging Face hub ({reason}); "
        "check name and network, give a model folder, or use 'model: embedded', which needs no hub"
    )
