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
    """The continuation of one prompt.

    Attributes:
        text: what was written, stripped.
        tokens: how many tokens it took, the one that ends it included.
        seconds: the wall-clock share of this continuation in its batch.
        stopped: False when the limit of tokens cut it short.
        ids: the tokens, the one that ends it included.
    """

    text: str
    tokens: int
    seconds: float
    stopped: bool
    ids: tuple[int, ...] = ()


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
    written = tuple(words) if end is None else tuple(ids[: end + 1])
    return Generated(text, len(written), seconds, end is not None, written)


def draw_tokens(logits_NV: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """One token of each row, by Gumbel's maximum; in float64, as float32 cuts off the tail of rare tokens."""
    waits_NV = torch.empty_like(logits_NV, dtype=torch.float64).exponential_(generator=generator)
    # A wait of 0 would add infinity, to the mask token's -inf too.
    gumbel_NV = -waits_NV.clamp_(min=torch.finfo(torch.float64).tiny).log_()
    return (logits_NV.double() / temperature + gumbel_NV).argmax(dim=1)
