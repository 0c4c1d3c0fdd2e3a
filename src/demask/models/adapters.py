"""A PEFT adapter as a model: its base is found and loaded, the adapter merged into it, and the whole kept.

    open_adapter(Path("runs/first/adapter"), "runs/first/adapter", load_model).folder

Merged in float32 and kept in the dtype of the base model, as `model/` of a run is.
"""

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demask.errors import DemaskError, ModelError
from demask.models.checks import check_fetched
from demask.models.fingerprints import fingerprint_model
from demask.models.formats import Opened, keep_in_cache, read_remark, write_remark
from demask.models.reading import Reading

if TYPE_CHECKING:
    from demask.models.load import LoadedModel

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLED = "adapter_model.bin"
# Files of a tokenizer that a trainer has left beside its adapter.
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / CONFIG).is_file()


def open_adapter(folder: Path, name: str, load: "Callable[..., LoadedModel]") -> Opened:
    """An adapter merged into its base model, on first use.

    Args:
        folder: of the adapter, as PEFT saves it.
        name: as the user gave it.
        load: `load_model`; gives the base model in float32.

    Raises:
        ModelError: it is no LoRA, its base model cannot be had, or the two do not fit.
        RunError: the cache cannot be written.
    """
    settings = _read_settings(folder, name)
    base = _find_base(folder, settings, name)
    # Of the adapter with its own tokenizer, and of the base where it is a folder; else by its name.
    parts = [fingerprint_model(str(folder)), fingerprint_model(base) or base]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    made = keep_in_cache(f"merged-{key}", lambda target: _merge(folder, name, base, load, target))
    return Opened(made, f"{name}: {read_remark(made)}")


def _read_settings(folder: Path, name: str) -> dict[str, Any]:
    """What `adapter_config.json` says, of a LoRA whose weights are there.

    Raises:
        ModelError: it is another kind of adapter, or cannot be read.
    """
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = settings.get("peft_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{name}: {CONFIG} cannot be read ({error}); expected that of a PEFT adapter"
        ) from error
    if kind != "LORA":
        raise ModelError(
            f"{name}: an adapter of kind {kind!r}, expected LORA; merge it with peft and give the whole model"
        )
    if not (folder / WEIGHTS).exists():
        pickled = (
            f", and {_PICKLED} is pickled, which runs code when it is opened"
            if (folder / _PICKLED).exists()
            else ""
        )
        raise ModelError(f"{name}: an adapter without its weights; expected {WEIGHTS}{pickled}")
    check_fetched(folder / WEIGHTS)
    return dict(settings)


def _find_base(folder: Path, settings: dict[str, Any], name: str) -> str:
    """The name of the base model: a folder, seen from here or from the adapter, or one on the hub.

    Raises:
        ModelError: the adapter does not say, or names itself or another adapter.
    """
    base, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{name}: {CONFIG}: base_model_name_or_path is {base!r}, expected its base model")
    place = next((path for path in (Path(base), folder / base) if path.is_dir()), None)
    if place is None:
        return f"{base}@{revision}" if revision and "/" in base and not base.startswith(("/", ".")) else base
    if place.resolve() == folder.resolve():
        raise ModelError(
            f"{name}: an adapter in the folder of its own base model; move {CONFIG} and {WEIGHTS} into "
            "another"
        )
    if is_adapter(place):
        raise ModelError(
            f"{name}: an adapter on another one ({place}); merge that first and give the whole model"
        )
    return str(place)


def _merge(folder: Path, name: str, base: str, load: "Callable[..., LoadedModel]", target: Path) -> None:
    """Write the merged model with its tokenizer."""
    from peft import PeftModel
    from peft.utils import get_peft_model_state_dict
    from safetensors import safe_open
    from transformers import AutoTokenizer

    try:
        loaded = load(base, device="cpu")
    except DemaskError as error:
        raise ModelError(
            f"{name}: an adapter on {base!r} ({CONFIG}), which cannot be loaded ({error}); set "
            "base_model_name_or_path to where it is"
        ) from error
    own = all((folder / file).is_file() for file in _TOKENIZER)
    with Reading(name, "adapter"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft warns of is looked for below
        adapted: Any = PeftModel.from_pretrained(loaded.model, str(folder))
        wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            found = set(file.keys())
        tokenizer = AutoTokenizer.from_pretrained(folder) if own else loaded.tokenizer
    _check_keys(wanted, found, name, base)
    _check_embeddings(adapted, found, name)
    with Reading(name, "adapter"):
        model = adapted.merge_and_unload()
    model.to(loaded.stored_dtype).save_pretrained(target)
    tokenizer.save_pretrained(target)
    said = "with the adapter's own tokenizer and chat template" if own else "with the base model's tokenizer"
    write_remark(target, f"a LoRA adapter, merged into {base} {said}")


def _check_keys(wanted: set[str], found: set[str], name: str, base: str) -> None:
    """Refuse an adapter of another model: peft would leave out what has no place."""
    if lost := sorted(found - wanted):
        raise ModelError(
            f"{name}: {len(lost)} of the adapter's weights have no place in {base}, such as {lost[0]}; "
            "give the "
            "base model that it was trained on"
        )
    if missing := sorted(wanted - found):
        raise ModelError(
            f"{name}: {len(missing)} of the adapter's weights are missing, such as {missing[0]}; fetch it "
            "again"
        )


def _check_embeddings(adapted: Any, found: set[str], name: str) -> None:
    """Refuse whole embeddings on a model that ties them: stored, one of the two would be lost."""
    whole = sorted(key for key in found if any(f".{part}." in f".{key}." for part in _EMBEDDINGS))
    if adapted.config.get_text_config().tie_word_embeddings and whole:
        raise ModelError(
            f"{name}: an adapter that changes the embedding ({whole[0]}) of a model that ties it to its "
            "output "
            "layer; merge it with peft and give the whole model"
        )
