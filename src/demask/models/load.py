"""Load a causal language model by name, folder or `embedded`, ready to train and to ask.

    loaded = load_model("embedded", device="cpu")
    loaded.model, loaded.tokenizer, loaded.chat

Weights are float32 (the masters of training) and come from safetensors only. No code from a
checkpoint is run: LLaDA and Dream are read as the native classes that they equal (layouts.py).
"""

import json
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
from demask.models.diffusion import DiffusionForm, Layout, diffusion_form
from demask.models.embedded import fetch_embedded_model
from demask.models.layouts import find_layout, native_config
from demask.models.precision import keep_freed_memory
from demask.models.weights import read_weights
from demask.objectives.prompts import PLAIN_TEMPLATE, ChatFormat, load_chat_format

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = "embedded"
# Of a maker's folder on the hub; its code stays there.
_TOKENIZER_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
_WEIGHT_FILES = ("*.safetensors",)


@dataclass(frozen=True)
class LoadedModel:
    """A model with what is needed to talk to it.

    Attributes:
        model: a causal language model, or a masked-diffusion one; in evaluation mode, and in float32
            unless it was asked for otherwise.
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
    def diffusion(self) -> DiffusionForm | None:
        """How the model denoises; None when it is autoregressive."""
        return diffusion_form(self.model.config)

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
    layout, settings = _read_settings(name, source)
    try:
        tokenizer = (
            AutoTokenizer.from_pretrained(source, **_access(source))
            if layout == "native"
            else _load_makers_tokenizer(_fetch(source, _TOKENIZER_FILES), layout)
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _cannot_load(name, "tokenizer", error) from error
    if layout != "native" and tokenizer.mask_token_id is None:
        form = diffusion_form(native_config(settings, layout, name))
        tokenizer.mask_token = form and tokenizer.convert_ids_to_tokens(form.mask_token_id)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def _load_makers_tokenizer(folder: Path, layout: Layout) -> Any:
    """As a class of transformers: Dream's own is a copy of Qwen2's, LLaDA's whole is its tokenizer.json."""
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
        raise FileNotFoundError("no tokenizer.json and no vocab.json there")
    kind: Any = PreTrainedTokenizerFast if layout == "llada" else Qwen2Tokenizer
    tokenizer = kind.from_pretrained(folder)
    # Saved with it, the next to load the tokenizer would be asked to run its makers' code.
    tokenizer.init_kwargs.pop("auto_map", None)
    return tokenizer


def load_architecture(name: str) -> "PretrainedConfig":
    """The model's own configuration: sizes and context, without its weights.

    Raises:
        ModelError: it cannot be found or read.
    """
    from transformers import AutoConfig

    source = _locate(name)
    layout, settings = _read_settings(name, source)
    if layout != "native":
        return native_config(settings, layout, name)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(source, **_access(source))
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _cannot_load(name, "configuration", error) from error
    diffusion_form(config)
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


def count_parameters(name: str) -> int:
    """Weights of a model, from its configuration alone."""
    return sum(weights.numel() for weights in outline_model(load_architecture(name)).parameters())


def load_model(name: str, *, device: str = "auto", dtype: torch.dtype | None = torch.float32) -> LoadedModel:
    """A model, its tokenizer and its chat format.

    Args:
        name: `embedded`, a folder, or a name on the Hugging Face hub.
        device: `auto`, `cpu` or `cuda`.
        dtype: of the weights in memory; training needs float32. None: as stored.

    Raises:
        ModelError: it cannot be found, has no weights, is neither a causal language model nor a
            masked-diffusion model, or its chat template fails the self-test.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    place = choose_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    tokenizer = load_tokenizer(name)
    source = _locate(name)
    config = load_architecture(name)
    form = diffusion_form(config)
    if form is None or form.layout == "native":
        stored = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
        model = _load_native(name, config, dtype)
    else:
        model, stored = _load_makers(name, config, form.layout, dtype)
    return LoadedModel(model.to(place).eval(), tokenizer, load_chat_format(tokenizer), name, source, stored)


def _load_native(name: str, config: "PretrainedConfig", dtype: torch.dtype | None) -> Any:
    from transformers import AutoModelForCausalLM

    source = _locate(name)
    loader: Any = AutoModelForCausalLM
    try:
        model, found = loader.from_pretrained(
            source,
            config=config,
            dtype="auto" if dtype is None else dtype,
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
    return model


def _load_makers(
    name: str, config: "PretrainedConfig", layout: Layout, dtype: torch.dtype | None
) -> tuple[Any, torch.dtype]:
    """A model in a maker's layout, and the number format that it is stored in."""
    try:
        folder = _fetch(_locate(name), (*_TOKENIZER_FILES, *_WEIGHT_FILES))
    except (OSError, ValueError) as error:
        raise _cannot_load(name, "model", error) from error
    outline = outline_model(config)
    read = read_weights(folder, outline, layout=layout, dtype=dtype)
    loader: Any = type(outline)
    # Without a folder transformers takes the tensors as they are, and computes the rotary buffers.
    model = loader.from_pretrained(None, config=config, state_dict=read.tensors, dtype=dtype or read.stored)
    return model, read.stored


def _read_settings(name: str, source: str) -> tuple[Layout, dict[str, Any]]:
    """The config.json of a model, and the layout that it tells of."""
    from transformers.utils.hub import cached_file

    try:
        path = cached_file(source, "config.json", local_files_only=_access(source)["local_files_only"])
        settings = json.loads(Path(str(path)).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _cannot_load(name, "configuration", error) from error
    if not isinstance(settings, dict):
        raise ModelError(f"{name}: config.json: holds a {type(settings).__name__}, expected an object")
    return find_layout(settings, name), settings


def _fetch(source: str, files: tuple[str, ...]) -> Path:
    """The folder with these files, which come from the hub where `source` is no folder."""
    if Path(source).exists():
        return Path(source)
    from huggingface_hub import snapshot_download

    offline = _access(source)["local_files_only"]
    return Path(snapshot_download(source, allow_patterns=list(files), local_files_only=offline))


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
