"""What a base model said, kept in the user's cache, so that it is asked the same only once.

    key = answers_key(loaded, prompts, settings)
    predictions = recall(key, ids) or ask(...)
    remember(key, predictions)

The key covers what greedy words depend on: what the model's files hold, prompts token by token, limits, and
the versions that compute them, the decoder's own among them. A model that is about to be trained is asked
before and with its documents at hand, which takes as long in the tenth run on the same documents as in the
first.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import demask
from demask.environment import cache_folder
from demask.recipe.sections import Evaluate
from demask.records import Prediction
from demask.storage.atomic import write_text

if TYPE_CHECKING:
    from demask.models.load import LoadedModel


def answers_key(loaded: "LoadedModel", prompts: Sequence[Sequence[int]], settings: Evaluate) -> str | None:
    """Names the answers of a model to these prompts; None when the model's files cannot be told."""
    import torch
    import transformers

    from demask.generation.answers import DECODER_VERSION
    from demask.models.fingerprints import fingerprint_model

    model = fingerprint_model(loaded.source, getattr(loaded.model.config, "_commit_hash", None))
    if model is None:
        return None
    return _digest(
        {
            "model": model,
            "demask": demask.__version__,  # by which weights are read and prepared
            "decoder": DECODER_VERSION,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "device": loaded.device.type,
            "max_new_tokens": settings.max_new_tokens,
            "batch_size": settings.batch_size,
            "denoise": settings.denoise.model_dump() if loaded.diffusion else None,
            "prompts": [list(prompt) for prompt in prompts],
        }
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def recall(key: str | None, ids: Sequence[str]) -> list[Prediction] | None:
    """What was said, under these ids; None when that was never asked, or cannot be read."""
    if key is None or not _file(key).exists():
        return None
    try:
        rows: list[dict[str, Any]] = json.loads(_file(key).read_text(encoding="utf-8"))
        said = [Prediction(**row) for row in rows]
    except (OSError, ValueError, TypeError):  # cut by hand, or of another version
        return None
    if len(said) != len(ids):
        return None
    return [replace(one, qa_id=id) for one, id in zip(said, ids, strict=True)]


def remember(key: str | None, predictions: Sequence[Prediction]) -> None:
    """Keep what was said.

    Raises:
        RunError: the cache cannot be written.
    """
    if key is not None:
        write_text(_file(key), json.dumps([asdict(one) for one in predictions], ensure_ascii=False))


def _file(key: str) -> Path:
    return cache_folder() / "answers" / f"{key}.json"
