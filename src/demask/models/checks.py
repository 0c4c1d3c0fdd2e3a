"""What is wrong with a model's files, said in one line: before its weights are read, and after.

check_folder(folder, name)              # what stands there, without opening the weights
check_settings(settings, name)          # config.json
check_report(report, name)              # what transformers could not place
check_tokens(tokenizer, chat, rows, name)
check_numbers(model, name)
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demask.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from demask.objectives.prompts import ChatFormat

# First bytes of a file that `git clone` without Git LFS leaves in place of a large one.
_LFS_POINTER = b"version https://git-lfs.github.com/spec"
_LARGE_FILES = ("*.safetensors", "tokenizer.json", "tokenizer.model", "vocab.json")
_VOCABULARIES = ("*.model", "*.model.v*", "*.tiktoken")
# Constants that older checkpoints hold, of GPT-2's kind for example, and that models compute now.
_COMPUTED = re.compile(r"(^|\.)(masked_bias|inv_freq|position_ids|attn\.bias|attn\.attention\.bias)$")
_LONGEST_HEADER = 100_000_000  # bytes; the limit of safetensors
# Numbers that can be trained as they are, by their names in a safetensors header.
_FORMATS = ("F64", "F32", "F16", "BF16")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def check_folder(folder: Path, name: str) -> None:
    """See whether a folder holds a whole model.

    Raises:
        ModelError: it holds no model, pickled weights, or pointers in place of files.
    """
    if not (folder / "config.json").exists():
        files = sorted(path.name for path in folder.glob("*.gguf"))
        file = f", or one of its files, such as {folder / files[0]}" if files else ""
        raise ModelError(
            f"{name}: not a model folder (no config.json); expected one saved by save_pretrained{file}"
        )
    for path in (path for pattern in _LARGE_FILES for path in sorted(folder.glob(pattern))):
        check_fetched(path)
    weights = sorted(folder.glob("*.safetensors"))
    for path in weights:
        _check_formats(path, name)
    if weights:
        return
    pickled = next((path for pattern in _PICKLED for path in sorted(folder.glob(pattern))), None)
    if pickled is not None:
        raise ModelError(
            f"{name}: no weights there; expected *.safetensors files, and {pickled.name} is pickled, which "
            "runs code when it is opened; fetch the model's safetensors, or convert it where you trust it"
        )
    raise ModelError(f"{name}: no weights there; expected *.safetensors files")


def check_fetched(path: Path) -> None:
    """See whether a large file is there itself.

    Raises:
        ModelError: it is not, or Git LFS has left a pointer in its place.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; a link leads nowhere, fetch the model again")
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ModelError(
                f"{path}: a pointer of Git LFS in place of the file; run 'git lfs pull' in its folder"
            )


def _check_formats(path: Path, name: str) -> None:
    """By the header; a broken one is found when the weights are read."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, _LONGEST_HEADER)))
        formats = {key: entry["dtype"] for key, entry in header.items() if key.endswith(".weight")}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError):
        return
    for key, stored in sorted(formats.items()):
        if stored not in _FORMATS:
            raise ModelError(
                f"{name}: its weights are quantised ({key} is stored as {stored}), expected float32, "
                "bfloat16 or float16; give the model that it was quantised from"
            )


def check_vocabulary_files(folder: Path, names: Iterable[str], name: str) -> None:
    """See whether a vocabulary stands in a folder: without one, some tokenizers are loaded empty.

    Args:
        folder: of the model.
        names: of the files that the tokenizer's class reads.
        name: of the model, for messages.

    Raises:
        ModelError: there is none.
    """
    known = {*names, "tokenizer.json", "vocab.json", "vocab.txt", "tekken.json"}
    if not any((folder / file).exists() for file in known) and not any(
        file for pattern in _VOCABULARIES for file in folder.glob(pattern)
    ):
        raise ModelError(
            f"{name}: its tokenizer cannot be loaded (no vocabulary there); expected tokenizer.json as "
            "save_pretrained writes it"
        )


def check_settings(settings: Mapping[str, Any], name: str) -> None:
    """See whether a config.json is of weights that can be trained, by a class of transformers.

    Raises:
        ModelError: the weights are quantised, or their class is in the checkpoint's own code.
    """
    text = settings.get("text_config")
    quantised = settings.get("quantization_config") or (
        text.get("quantization_config") if isinstance(text, dict) else None
    )
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise ModelError(
            f"{name}: its weights are quantised ({method or 'quantization_config in config.json'}), expected "
            "float32, bfloat16 or float16; give the model that it was quantised from"
        )
    kind = settings.get("model_type")
    if settings.get("auto_map") and not _is_known(kind):
        raise ModelError(
            f"{name}: config.json: model_type {kind!r} is known to the checkpoint's own code only "
            "(auto_map), which is never run; give a model whose architecture transformers has"
        )


def _is_known(kind: object) -> bool:
    from transformers import CONFIG_MAPPING

    return isinstance(kind, str) and kind in CONFIG_MAPPING


def check_report(report: Mapping[str, Any], name: str) -> None:
    """See whether weights and config.json are of the same model.

    Args:
        report: of `from_pretrained` with `output_loading_info`.
        name: of the model, for messages.

    Raises:
        ModelError: a weight is missing, has another shape, or has no place and would be lost.
    """
    for key, found, expected in sorted(report["mismatched_keys"]):
        raise ModelError(
            f"{name}: {key} has the shape {list(found)}, expected {list(expected)} by its config.json; "
            "fetch the model again"
        )
    if report["missing_keys"]:
        raise ModelError(
            f"{name}: {len(report['missing_keys'])} of its weights are missing, such as "
            f"{min(report['missing_keys'])}; expected a whole causal language model"
        )
    lost = [key for key in report["unexpected_keys"] if not _COMPUTED.search(key)]
    if lost:
        raise ModelError(
            f"{name}: {len(lost)} of its weights have no place in the model, such as {min(lost)}; expected "
            "those of its config.json only, since others would be lost when it is stored"
        )


def check_tokens(tokenizer: "PreTrainedTokenizerBase", chat: "ChatFormat", rows: int, name: str) -> None:
    """See whether every token that may be read has a row in the embedding.

    Tokens beyond it are harmless where nothing writes them: Gemma 3 (1B) has one for images.

    Raises:
        ModelError: the chat template or a text can give a token without a row.
    """
    special = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    written = {*chat.user, *chat.assistant, *chat.end, *chat.bos}
    if isinstance(tokenizer.eos_token_id, int):
        written.add(tokenizer.eos_token_id)
    beyond = {id_: token for token, id_ in tokenizer.get_vocab().items() if id_ >= rows}
    lost = sorted(id_ for id_ in beyond if id_ in written or id_ not in special)
    if lost:
        raise ModelError(
            f"{name}: its tokenizer has the token {beyond[lost[0]]!r} (id {lost[0]}), and its embedding "
            f"{rows} rows; give the tokenizer that the model was trained with, or resize the embedding"
        )


def check_numbers(model: "PreTrainedModel", name: str) -> None:
    """See whether all weights are finite.

    Raises:
        ModelError: one is not.
    """
    for key, weights in ((key, weights) for key, weights in model.named_parameters() if weights.numel()):
        low, high = weights.detach().aminmax()
        if not (low.isfinite() and high.isfinite()):
            raise ModelError(
                f"{name}: {key} holds NaN or infinity, expected finite weights; fetch the model again, or "
                "train it with a lower train.learning_rate"
            )
