"""Models in other forms than a folder of safetensors: a GGUF file, a blob of Ollama, a pinned hub name.

    open_gguf(Path("model-Q4_K_M.gguf"), "model-Q4_K_M.gguf").folder      # converted once, kept in the cache
    find_ollama("ollama:llama3.2:1b")                                     # the GGUF file among Ollama's blobs
    split_revision("owner/name@v1.0")                                     # ("owner/name", "v1.0")

Weights of a GGUF file are de-quantised: numbers of the file, in float16 (float32 and bfloat16 where the file
has these). transformers does it; what it would read otherwise than llama.cpp, or not at all, is refused by
name. Tried against files that llama.cpp's own converter made of the families that are listed here.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from demask.environment import cache_folder
from demask.errors import ModelError, RunError
from demask.models.checks import check_fetched, check_report
from demask.models.fingerprints import digest_file
from demask.models.reading import Reading, say_error

OLLAMA = "ollama:"
GGUF = ".gguf"
# In a folder of the cache: what is to be said of the model whenever it is loaded.
REMARK = "remark.json"
_MAGIC = b"GGUF"
# Architectures, as GGUF names them, whose logits came out as those of the model that was converted.
FAMILIES = ("llama", "qwen2", "qwen3")
# Pre-tokenizers that split as GPT-2's does, where no merge joins digits; transformers builds it for them.
_AS_GPT2 = frozenset({"gpt-2", "mpt", "olmo", "phi-2", "refact", "smollm", "starcoder"})
# Frequencies that are computed from the scaling, and no weights.
_ROPE_FACTORS = "rope_freqs.weight"
# Llama 3.1 and 3.2: how the frequencies of positions are scaled, which a file has as factors alone.
_LLAMA3_FACTORS = (8.0, 32.0)
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_MANIFESTS, _BLOBS = "manifests", "blobs"
_MODEL_LAYER, _ADAPTER_LAYER = "application/vnd.ollama.image.model", "application/vnd.ollama.image.adapter"


class Opened(NamedTuple):
    """A model in another form, made into a folder.

    Attributes:
        folder: in the cache; holds what `load_model` reads.
        remark: what was done with it, in a line.
    """

    folder: Path
    remark: str


def split_revision(name: str) -> tuple[str, str | None]:
    """A name on the hub and the revision that it is pinned to; None without one, or of a place on disk."""
    head, at, revision = name.rpartition("@")
    if not at or Path(name).exists() or head.count("/") > 1 or head.startswith((".", "/", "~", OLLAMA)):
        return name, None
    return head, revision


def keep_in_cache(name: str, make: Any) -> Path:
    """The folder of this name in the cache, made whole or not at all.

    Args:
        name: of the folder.
        make: writes into the folder that it is given.

    Raises:
        RunError: the cache cannot be written.
    """
    folder = cache_folder() / "models" / name
    if folder.exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".made-") as scratch:
            made = Path(scratch) / "model"
            made.mkdir()
            make(made)
            if not folder.exists():
                os.replace(made, folder)
    except OSError as error:
        raise RunError(
            f"{folder.parent}: a model cannot be kept there ({error.strerror or error}); free some space or "
            "set DEMASK_CACHE to another folder"
        ) from error
    return folder


def read_remark(folder: Path) -> str:
    """What `keep_in_cache` was told to remember of a model."""
    return str(json.loads((folder / REMARK).read_text(encoding="utf-8")))


def write_remark(folder: Path, text: str) -> None:
    """Remember what was done with a model, beside it."""
    (folder / REMARK).write_text(json.dumps(text, ensure_ascii=False), encoding="utf-8")


def open_gguf(path: Path, name: str) -> Opened:
    """A GGUF file as a folder of safetensors, converted on first use.

    Args:
        path: of the file.
        name: as the user gave it.

    Raises:
        ModelError: it is no GGUF file, is damaged, or holds what cannot be de-quantised exactly.
        RunError: the cache cannot be written.
    """
    _check_magic(path, name)
    key = f"gguf-{digest_file(path)[:16]}"
    folder = keep_in_cache(key, lambda made: _convert(path, name, made))
    return Opened(folder, f"{name}: {read_remark(folder)}")


def _check_magic(path: Path, name: str) -> None:
    check_fetched(path)
    with path.open("rb") as file:
        begins = file.read(len(_MAGIC))
    if begins != _MAGIC:
        raise ModelError(
            f"{name}: not a GGUF file (it begins with {begins!r}); expected a model folder, a GGUF file, "
            "a name "
            "on the hub, or 'embedded'"
        )


def _convert(path: Path, name: str, target: Path) -> None:
    """Write the weights of a GGUF file as safetensors, with its tokenizer and its chat template."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    found = _inspect(path, name)
    # Its numbers fit into float16 but for rounding far below the steps of any quantised type.
    stored = {"F32": torch.float32, "BF16": torch.bfloat16}.get(found.weights, torch.float16)
    with tempfile.TemporaryDirectory(prefix="demask-") as scratch:
        place = Path(scratch) / "model.gguf"  # a blob of Ollama has no ending
        place.symlink_to(path.resolve())
        with Reading(name, "model"):
            config = AutoConfig.from_pretrained(scratch, gguf_file=place.name)
            if found.head_size:
                config.head_dim = found.head_size
            if found.rope:
                config.rope_parameters = {**config.rope_parameters, **found.rope}
            loader: Any = AutoModelForCausalLM
            model, report = loader.from_pretrained(
                scratch,
                config=config,
                gguf_file=place.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=stored,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report
            )
            tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file=place.name)
    check_report(report, name)
    held = sum(weights.numel() for weights in model.parameters())
    if held != found.numbers:
        raise ModelError(
            f"{name}: the file has {found.numbers:,} numbers, and a {model.config.model_type} of these sizes "
            f"{held:,}; some would be lost, so give the model that it was made of"
        )
    # Without this it would be taken for a quantised model.
    for attribute in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, attribute):
            delattr(model.config, attribute)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    kind = found.weights if found.weights in ("F32", "F16", "BF16") else f"{found.weights}, de-quantised"
    write_remark(
        target, f"a GGUF file of architecture {found.architecture} ({kind}); read as {str(stored)[6:]}"
    )


class _Inspected(NamedTuple):
    """What a GGUF file says of itself.

    Attributes:
        architecture: as GGUF names it.
        weights: the type of most of its numbers, as `Q4_K`.
        numbers: all of them, but for what is computed.
        head_size: of a head of attention, where the file says; transformers does not read it everywhere.
        rope: scaling of positions, which transformers does not read.
    """

    architecture: str
    weights: str
    numbers: int
    head_size: int
    rope: Mapping[str, Any]


def _inspect(path: Path, name: str) -> _Inspected:
    """Read the head of a GGUF file, and refuse what would come out otherwise.

    Raises:
        ModelError: it is damaged, or cannot be de-quantised exactly.
    """
    from gguf import GGUFReader

    with _Damaged(name):
        reader = GGUFReader(path)
        sizes: dict[str, int] = {}
        factors = None
        for tensor in reader.tensors:
            if tensor.name == _ROPE_FACTORS:
                factors = tensor.data
            else:
                sizes[tensor.tensor_type.name] = sizes.get(tensor.tensor_type.name, 0) + int(
                    tensor.n_elements
                )
        values = _Values(reader)
        architecture = str(values.get("general.architecture"))
        _check_kind(architecture, values, name)
    _check_tokenizer(values, name)
    rope = {} if factors is None else _find_llama3_scaling(factors, architecture, values, name)
    most = max(sizes, key=lambda kind: sizes[kind])
    head_size = int(values.get(f"{architecture}.attention.key_length") or 0)
    return _Inspected(architecture, most, sum(sizes.values()), head_size, rope)


class _Values:
    """The values of a GGUF file by key."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def get(self, key: str) -> Any:
        """A number or a text; None where there is none, the length of a list."""
        field = self._reader.fields.get(key)
        if field is None:
            return None
        value = field.contents() if len(field.types) == 1 else len(field.data)
        return value


class _Damaged(Reading):
    """What the reader raises at a file that is cut short: an IndexError or a ValueError of numpy's."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "GGUF file")

    def _explain(self, error: Exception) -> str:
        return f"{self.name}: the GGUF file is damaged or cut short ({say_error(error)}); fetch it again"


def _check_kind(architecture: str, values: _Values, name: str) -> None:
    """Refuse what is no whole model of a family that is known here."""
    kind, parts = values.get("general.type"), values.get("split.count")
    if kind not in (None, "model"):
        raise ModelError(f"{name}: a GGUF file with {kind!r}, expected a whole model")
    if parts and int(parts) > 1:
        raise ModelError(
            f"{name}: one of {parts} parts; join them with llama.cpp's 'llama-gguf-split --merge', or "
            "give the "
            "model that it was made of"
        )
    if architecture not in FAMILIES:
        raise ModelError(
            f"{name}: a GGUF file of architecture {architecture!r}, expected one of "
            f"{', '.join(FAMILIES)}; give "
            "the model that it was made of"
        )
    scaling = values.get(f"{architecture}.rope.scaling.type")
    if scaling not in (None, "none"):
        raise ModelError(
            f"{name}: a GGUF file whose positions are scaled ({architecture}.rope.scaling.type is "
            f"{scaling!r}), "
            "which transformers does not read; give the model that it was made of"
        )
    if values.get(f"{architecture}.expert_count"):
        raise ModelError(
            f"{name}: a GGUF file with a mixture of experts, expected {', '.join(FAMILIES)} without; give "
            "the "
            "model that it was made of"
        )


def _check_tokenizer(values: _Values, name: str) -> None:
    """Refuse a tokenizer that transformers would build in another way than the file says."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    kind, split = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre")
    if not values.get("tokenizer.ggml.tokens"):
        raise ModelError(f"{name}: a GGUF file without a tokenizer; give the model that it was made of")
    known = kind == "llama" or (kind == "gpt2" and (split in _AS_GPT2 or split in GGUF_PRE_TOKENIZER_SPLITS))
    if not known:
        raise ModelError(
            f"{name}: a GGUF file whose tokenizer ({kind}, tokenizer.ggml.pre {split!r}) transformers "
            "does not "
            "build; give the model that it was made of"
        )


def _find_llama3_scaling(factors: Any, architecture: str, values: _Values, name: str) -> dict[str, Any]:
    """The scaling of Llama 3 that these factors come from.

    Raises:
        ModelError: they come from none that is known.
    """
    import numpy as np

    base = float(values.get(f"{architecture}.rope.freq_base") or 10_000.0)
    size = 2 * len(factors)
    frequencies = base ** -(np.arange(0, size, 2) / size)
    waves = 2 * np.pi / frequencies
    low = _LLAMA3["original_max_position_embeddings"] / _LLAMA3["low_freq_factor"]
    high = _LLAMA3["original_max_position_embeddings"] / _LLAMA3["high_freq_factor"]
    between = (_LLAMA3["original_max_position_embeddings"] / waves - _LLAMA3["low_freq_factor"]) / (
        _LLAMA3["high_freq_factor"] - _LLAMA3["low_freq_factor"]
    )
    for factor in _LLAMA3_FACTORS:
        smooth = 1 / ((1 - between) / factor + between)
        expected = np.where(waves < high, 1.0, np.where(waves > low, factor, smooth))
        if np.allclose(np.asarray(factors, dtype=np.float64), expected, rtol=1e-3):
            return {"rope_type": "llama3", "factor": factor, **_LLAMA3}
    raise ModelError(
        f"{name}: a GGUF file whose positions are scaled ({_ROPE_FACTORS}) otherwise than in Llama 3; "
        "give the "
        "model that it was made of"
    )


def find_ollama(name: str) -> Path:
    """The GGUF file of a model that Ollama has fetched.

    Args:
        name: as `ollama:llama3.2:1b`; without a tag `latest`.

    Raises:
        ModelError: it is not there, or is more than a model.
    """
    wanted, _, tag = name.removeprefix(OLLAMA).partition(":")
    if ":" in tag:  # a registry with a port
        wanted, _, tag = name.removeprefix(OLLAMA).rpartition(":")
    parts = wanted.split("/")
    parts = [*("registry.ollama.ai", "library")[: max(0, 3 - len(parts))], *parts]
    parts.append(tag or "latest")
    is_name = not {"", ".", ".."} & set(parts)
    places = (folder for folder in _ollama_folders() if folder.joinpath(_MANIFESTS, *parts).is_file())
    place = next(places, None) if is_name else None
    if place is None:
        raise ModelError(f"{name}: Ollama has no such model; {_list_ollama()}")
    manifest = place.joinpath(_MANIFESTS, *parts)
    with Reading(name, "manifest"):
        layers = json.loads(manifest.read_text(encoding="utf-8"))["layers"]
        digests = {layer["mediaType"]: str(layer["digest"]) for layer in layers}
    if _ADAPTER_LAYER in digests:
        raise ModelError(
            f"{name}: an adapter on another model, which Ollama joins when it answers; give that one"
        )
    if _MODEL_LAYER not in digests:
        raise ModelError(
            f"{name}: its manifest ({manifest}) names no GGUF file; fetch it again with 'ollama pull'"
        )
    blob = place / _BLOBS / digests[_MODEL_LAYER].replace(":", "-")
    if not blob.is_file():
        raise ModelError(f"{name}: {blob}: no such file; fetch it again with 'ollama pull'")
    return blob


def _ollama_folders() -> list[Path]:
    """Where Ollama keeps models: what it is told, the user's, and that of the service on Linux."""
    told = os.environ.get("OLLAMA_MODELS")
    if told:
        return [Path(told)]
    return [Path.home() / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")]


def _list_ollama() -> str:
    """What there is, for the end of a message."""
    found = [
        path.relative_to(folder / _MANIFESTS).parts
        for folder in _ollama_folders()
        for path in sorted((folder / _MANIFESTS).glob("*/*/*/*"))
    ]
    if not found:
        folders = " or ".join(map(str, _ollama_folders()))
        return f"there is none in {folders}; set OLLAMA_MODELS where they are elsewhere"
    names = [f"{'' if owner == 'library' else owner + '/'}{model}:{tag}" for _, owner, model, tag in found]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"it has {', '.join(names[:8])}{more}"
