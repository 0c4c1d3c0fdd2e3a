"""What every decoder begins and ends with: prompts side by side, and new tokens as a text.

    ids_BT, real_BT = align_prompts(prompts, loaded)
    generated = finish_text(loaded, new_ids, seconds)

B rows, T positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from demask.models.load import LoadedModel


@dataclass(frozen=True)
class Generated:
    """The continuation of one prompt; `stopped` is False when the limit of tokens cut it short."""

    text: str
    tokens: int
    seconds: float
    stopped: bool


def align_prompts(prompts: Sequence[Sequence[int]], loaded: LoadedModel) -> tuple[Tensor, Tensor]:
    """Ids with padding on the left, and 1 where they are real."""
    length = max(map(len, prompts))
    ids = [[*[loaded.pad_id] * (length - len(row)), *row] for row in prompts]
    real = [[*[0] * (length - len(row)), *[1] * len(row)] for row in prompts]
    return torch.tensor(ids, device=loaded.device), torch.tensor(real, device=loaded.device)


def stop_ids(loaded: LoadedModel) -> list[int]:
    """The tokens that end a text: the end of turn, and the tokenizer's own end."""
    eos = loaded.tokenizer.eos_token_id
    return sorted({loaded.chat.end[-1]} | ({int(eos)} if isinstance(eos, int) else set()))


def finish_text(loaded: LoadedModel, ids: Sequence[int], seconds: float) -> Generated:
    """The text of new tokens, up to the first that ends it."""
    stops = stop_ids(loaded)
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    words = ids if end is None else ids[:end]
    text = str(loaded.tokenizer.decode(list(words), skip_special_tokens=True)).strip()
    return Generated(text, len(words) + (end is not None), seconds, end is not None)
