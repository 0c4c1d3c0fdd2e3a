"""Load a causal language model by name, folder, file or `embedded`, ready to train and to ask.

    loaded = load_model("embedded", device="cpu")
    loaded.model, loaded.tokenizer, loaded.chat

Weights are float32 (the masters of training), or as `frozen` says, and come from safetensors only. No code
from a checkpoint is run: LLaDA and Dream are read as the native classes that they equal (layouts.py).
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

from demask.errors import ModelError
from demask.models.adapters import is_adapter, open_adapter
from demask.models.chat_templates import settle_template
from demask.models.checks import (
    check_folder,
    check_numbers,
    check_report,
    check_settings,
    check_tokens,
    check_vocabulary_files,
)
from demask.models.diffusion import DiffusionForm, Layout, diffusion_form, vocabulary_size
from demask.models.embedded import EMBEDDED, fetch_embedded_model
from demask.models.families import (
    PROCESSOR_FILES,
    PROCESSOR_TEMPLATE,
    choose_loader,
    freeze_other_senses,
    is_multimodal,
)
from demask.models.formats import GGUF, OLLAMA, Opened, find_ollama, open_gguf, split_revision
from demask.models.layouts import find_layout, native_config, read_weights
from demask.models.precision import choose_bf16, keep_freed_memory, keeps_stored
from demask.models.quantised import check_quantising, count_weights, quantise_layers
from demask.models.reading import Reading
from demask.objectives.prompts import ChatFormat, load_chat_format
from demask.recipe.sections import Frozen

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from demask.models.gated import Gated

# Of a maker's folder on the hub; its code stays there.
_TOKENIZER_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
_WEIGHT_FILES = ("*.safetensors",)
_EXPECTED = (
    "expected a model folder, a GGUF file, 'ollama:NAME', a hub name (which '@REVISION' may follow), "
    "or 'embedded'"
)
# What families call the longest text that they were made for; GPT-2's n_positions is known by the first.
_CONTEXT_NAMES = ("max_position_embeddings", "max_seq_len", "seq_length", "max_sequence_length")


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
        processor_files: what prepares images for the model, where it sees them; stored again with it.
        gated: its base, which answers prompts that are not about the documents; None: it answers all.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    chat: ChatFormat
    name: str
    source: str
    stored_dtype: torch.dtype
    processor_files: tuple[Path, ...] = ()
    gated: "Gated | None" = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def pad_id(self) -> int:
        """Fills short rows of a batch; never seen by a real token and never scored."""
        pad = self.tokenizer.pad_token_id
        known = isinstance(pad, int) and pad < vocabulary_size(self.model.config)
        return int(pad) if known else self.chat.end[-1]

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
        return count_weights(self.model)


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

    source = locate_model(name)
    layout, settings = _read_settings(name, source)
    place, how = _from(source)
    with Reading(name, "tokenizer"):
        tokenizer = (
            AutoTokenizer.from_pretrained(place, **how, trust_remote_code=False)
            if layout == "native"
            else _load_makers_tokenizer(_fetch(source, _TOKENIZER_FILES), layout)
        )
    if layout != "native" and tokenizer.mask_token_id is None:
        form = diffusion_form(native_config(settings, layout, name))
        tokenizer.mask_token = form and tokenizer.convert_ids_to_tokens(form.mask_token_id)
    if Path(source).is_dir():
        check_vocabulary_files(Path(source), type(tokenizer).vocab_files_names.values(), name)
    # Stored with it, the next to load the tokenizer would be asked to run its makers' code.
    tokenizer.init_kwargs.pop("auto_map", None)
    settle_template(tokenizer, None if tokenizer.chat_template else _processor_template(name, source))
    return tokenizer


def _processor_template(name: str, source: str) -> str | None:
    """The chat template where processors had it; None where there is none."""
    from transformers.utils.hub import cached_file

    place, how = _from(source)
    with Reading(name, "chat template"):
        path = cached_file(
            place,
            PROCESSOR_TEMPLATE,
            **how,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))["chat_template"]


def _load_makers_tokenizer(folder: Path, layout: Layout) -> Any:
    """As a class of transformers: Dream's own is a copy of Qwen2's, LLaDA's whole is its tokenizer.json."""
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
        raise FileNotFoundError("no tokenizer.json and no vocab.json there")
    kind: Any = PreTrainedTokenizerFast if layout == "llada" else Qwen2Tokenizer
    return kind.from_pretrained(folder)


def load_architecture(name: str) -> "PretrainedConfig":
    """The model's own configuration: sizes and context, without its weights.

    Raises:
        ModelError: it cannot be found or read.
    """
    from transformers import AutoConfig

    source = locate_model(name)
    layout, settings = _read_settings(name, source)
    if layout != "native":
        return native_config(settings, layout, name)
    place, how = _from(source)
    with Reading(name, "configuration"):
        config: PretrainedConfig = AutoConfig.from_pretrained(place, **how, trust_remote_code=False)
        text = config.get_text_config(decoder=True)
    lacks = "no vocabulary" if not isinstance(getattr(text, "vocab_size", None), int) else ""
    if lacks or config.is_encoder_decoder:
        raise ModelError(
            f"{name}: its model cannot be loaded ({config.model_type} has {lacks or 'an encoder, too'}); "
            "expected a causal language model"
        )
    diffusion_form(config)
    return config


def context_length(config: "PretrainedConfig") -> int:
    """How many tokens a model was made for; of one that also sees images, its text part."""
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    known = (getattr(text, name, None) for name in _CONTEXT_NAMES)
    return next((length for length in known if isinstance(length, int) and length > 0), 2048)


def outline_model(config: "PretrainedConfig") -> "PreTrainedModel":
    """A model without its weights: their shapes and its class, for plans."""
    loader = choose_loader(config)
    with Reading(config.name_or_path or "model", "architecture"), torch.device("meta"):
        model: PreTrainedModel = loader.from_config(config)
    return model


def count_parameters(name: str) -> int:
    """Weights of a model, from its configuration alone."""
    return sum(weights.numel() for weights in outline_model(load_architecture(name)).parameters())


def choose_frozen_dtype(config: "PretrainedConfig", device: torch.device, frozen: Frozen) -> torch.dtype:
    """In which dtype weights are kept that are neither trained nor quantised."""
    # Of a converted masked-diffusion model a row of the embedding is trained beside the adapter; and in four
    # bits only small parts are left.
    if diffusion_form(config) is not None or (frozen == "nf4" and device.type == "cpu"):
        return torch.float32
    stored = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    parameters = sum(weights.numel() for weights in outline_model(config).parameters())
    return stored if keeps_stored(stored, device, parameters=parameters) else torch.float32


# Of a GPU's memory, what the weights of a model that is asked may take; keys and values need some, too. Ours.
_ASKED_SHARE = 0.9


def place_to_ask(name: str, device: str, frozen: Frozen | None, *, copies: int = 1) -> str:
    """Where a model can be asked: `cpu` where its weights do not fit into the GPU that `auto` would take.

    Args:
        name: as `load_model` takes it.
        device: `auto`, `cpu` or `cuda`, which stays what it is.
        frozen: as of `load_model`.
        copies: of the weights that are there at once.
    """
    place = choose_device(device)
    if device != "auto" or place.type != "cuda":
        return device
    config = load_architecture(name)
    dtype = torch.float32 if frozen is None else choose_frozen_dtype(config, place, frozen)
    weights = dtype.itemsize * sum(part.numel() for part in outline_model(config).parameters())
    return device if copies * weights <= _ASKED_SHARE * torch.cuda.mem_get_info(place)[1] else "cpu"


def load_model(
    name: str,
    *,
    device: str = "auto",
    dtype: torch.dtype | None = torch.float32,
    frozen: Frozen | None = None,
) -> LoadedModel:
    """A model, its tokenizer and its chat format.

    Args:
        name: `embedded`, a folder, or a name on the Hugging Face hub; other forms: see `locate_model`.
        device: `auto`, `cpu` or `cuda`.
        dtype: of the weights in memory; training all of them needs float32. None: as stored.
        frozen: how weights that stay as they are are kept, see `Frozen`; None: in `dtype`.

    Raises:
        ModelError: it cannot be found, has no weights, is neither a causal language model nor a
            masked-diffusion model, or its chat template fails the self-test.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    place = choose_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    source, config = locate_model(name), load_architecture(name)
    if frozen == "nf4":
        check_quantising(config, name)
    if frozen is not None:
        dtype = choose_frozen_dtype(config, place, frozen)
    tokenizer = load_tokenizer(name)
    form = diffusion_form(config)
    if form is None or form.layout == "native":
        stored = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
        model = _load_native(name, config, dtype)
    else:
        model, stored = _load_makers(name, config, form.layout, dtype)
    chat = load_chat_format(tokenizer)
    check_tokens(tokenizer, chat, vocabulary_size(model.config), name)
    check_numbers(model, name)
    freeze_other_senses(model)
    if frozen == "nf4":
        bf16 = choose_bf16("auto", place)
        quantise_layers(model, place, compute=torch.bfloat16 if bf16 else torch.float32)
    files = _fetch_processor(name, source) if is_multimodal(config) else ()
    return LoadedModel(model.to(place).eval(), tokenizer, chat, name, source, stored, files)


def _load_native(name: str, config: "PretrainedConfig", dtype: torch.dtype | None) -> Any:
    place, how = _from(locate_model(name))
    loader = choose_loader(config)
    with Reading(name, "model"):
        model, report = loader.from_pretrained(
            place,
            config=config,
            dtype="auto" if dtype is None else dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report, and said better
            trust_remote_code=False,
            **how,
        )
    check_report(report, name)
    return model


def _fetch_processor(name: str, source: str) -> tuple[Path, ...]:
    """Before training, since the hub may not answer when the model is stored."""
    with Reading(name, "processor"):
        folder = _fetch(source, PROCESSOR_FILES)
    return tuple(folder / file for file in PROCESSOR_FILES if (folder / file).is_file())


def _load_makers(
    name: str, config: "PretrainedConfig", layout: Layout, dtype: torch.dtype | None
) -> tuple[Any, torch.dtype]:
    """A model in a maker's layout, and the dtype that it is stored in."""
    with Reading(name, "model"):
        folder = _fetch(locate_model(name), (*_TOKENIZER_FILES, *_WEIGHT_FILES))
    outline = outline_model(config)
    read = read_weights(folder, outline, layout=layout, dtype=dtype)
    loader: Any = type(outline)
    # Without a folder transformers takes the tensors as they are, and computes the rotary buffers.
    model = loader.from_pretrained(None, config=config, state_dict=read.tensors, dtype=dtype or read.stored)
    return model, read.stored


def _read_settings(name: str, source: str) -> tuple[Layout, dict[str, Any]]:
    """The config.json of a model, and the layout that it tells of."""
    from transformers.utils.hub import cached_file

    with Reading(name, "configuration"):
        place, how = _from(source)
        path = cached_file(place, "config.json", **how)
        settings = json.loads(Path(str(path)).read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise ModelError(f"{name}: config.json: holds a {type(settings).__name__}, expected an object")
    layout = find_layout(settings, name)
    if layout == "native":
        check_settings(settings, name)
    return layout, settings


def _fetch(source: str, files: tuple[str, ...]) -> Path:
    """The folder with these files, which come from the hub where `source` is no folder."""
    if Path(source).exists():
        return Path(source)
    from huggingface_hub import snapshot_download

    place, how = _from(source)
    return Path(snapshot_download(place, allow_patterns=list(files), **how))


def locate_model(name: str) -> str:
    """The folder or hub name to load from; of other forms the folder that was made of them.

    Args:
        name: `embedded`; a folder of a model or of a PEFT adapter; a GGUF file; `ollama:NAME`; a hub name,
            which `@REVISION` may follow.

    Raises:
        ModelError: nothing of this name can be read.
    """
    if name == EMBEDDED:
        return str(fetch_embedded_model())
    opened = open_other_form(name)
    if opened is not None:
        return str(opened.folder)
    folder = Path(name)
    if not folder.exists():
        if name.startswith((".", "/", "~")) or name.count("/") > 1 or name.lower().endswith(GGUF):
            raise ModelError(
                f"{name}: no such {'file' if name.lower().endswith(GGUF) else 'folder'}; {_EXPECTED}"
            )
        pinned = _find_pinned(name)
        return name if pinned is None else str(pinned)
    check_folder(folder, name)
    return name


def open_other_form(name: str) -> Opened | None:
    """A model that is no folder of safetensors, made into one; None of any other.

    Raises:
        ModelError: it cannot be read.
    """
    if name.startswith(OLLAMA):
        return open_gguf(find_ollama(name), name)
    place = Path(name)
    if place.is_file():
        return open_gguf(place, name)
    return open_adapter(place, name, load_model) if is_adapter(place) else None


def describe_form(name: str) -> str | None:
    """What was done with a model that is no folder of safetensors, in a line; None where nothing was.

    Raises:
        ModelError: it cannot be read.
    """
    opened = open_other_form(name)
    return opened and opened.remark


def _from(source: str) -> tuple[str, dict[str, Any]]:
    """What to read, and how: no code of others, the pinned revision, and no hub that does not answer."""
    place, revision = split_revision(source)
    pinned = {"revision": revision} if revision else {}
    return place, {**pinned, "local_files_only": _is_offline(source)}


def _is_offline(source: str) -> bool:
    return not Path(source).exists() and not _hub_answers()


def _find_pinned(name: str) -> Path | None:
    """The folder of a pinned model that is in the hub's cache as a whole, so that nobody need be asked."""
    place, revision = split_revision(name)
    if revision is None:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(place, revision=revision, local_files_only=True))
        check_folder(folder, name)
        for index in folder.glob("*.index.json"):
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            if not all((folder / shard).exists() for shard in shards):
                return None
    except (LocalEntryNotFoundError, ModelError, ValueError, LookupError):
        return None
    return folder


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
