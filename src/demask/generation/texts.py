"""From turns of a conversation to token ids, and from new token ids to a text; what every decoder shares.

    prompt = turn_encoder(loaded)([Turn("user", "Who founded Orlin?")])      # up to where the answer begins
    ids_BT, real_BT = align_prompts(prompts, loaded)
    generated = finish_text(loaded, new_ids, seconds)

Turns are cut in the model's own chat format, as in training. B rows, T positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from demask.data.conversations import Role
from demask.data.samples import template_cutter
from demask.errors import DataError
from demask.models.load import LoadedModel
from demask.objectives.objective import Context
from demask.objectives.prompts import encode


class Turn(NamedTuple):
    """Who speaks, and what is said."""

    role: Role
    content: str


TurnWriter = Callable[[Sequence[Turn]], tuple[int, ...]]


def turn_writer(loaded: LoadedModel | Context) -> TurnWriter:
    """A function from turns, of which the last is a user's, to token ids up to the end of its words.

    A template that has no place for a system prompt gets it in front of the user's first words.
    """
    cut = template_cutter(loaded.tokenizer, loaded.chat)

    def write_turns(turns: Sequence[Turn]) -> tuple[int, ...]:
        try:
            pieces = cut(tuple(turn.role for turn in turns), "")
        except DataError:
            if turns[0].role != "system":
                raise
            return write_turns(_without_system(turns))
        ids: list[int] = []
        for piece in pieces:
            ids += [*piece.ids, *encode(loaded.tokenizer, turns[piece.turn].content)]
        return tuple(ids)

    return write_turns


def turn_encoder(loaded: LoadedModel) -> TurnWriter:
    """As `turn_writer`, up to where the assistant's words begin."""
    write_turns = turn_writer(loaded)
    return lambda turns: (*write_turns(turns), *loaded.chat.assistant)


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    system, first, *others = turns
    return [Turn(first.role, f"{system.content}\n\n{first.content}"), *others]


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
