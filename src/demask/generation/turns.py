"""Turns of a conversation as token ids, in a model's own chat format, cut as in training.

write_turns = turn_writer(loaded)
prompt = turn_encoder(loaded)([Turn("user", "Who founded Orlin?")])      # up to where the answer begins
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from demask.data.conversations import Role
from demask.data.samples import template_cutter
from demask.errors import DataError
from demask.models.load import LoadedModel
from demask.objectives.prompts import encode


class Turn(NamedTuple):
    """Who speaks, and what is said."""

    role: Role
    content: str


TurnWriter = Callable[[Sequence[Turn]], tuple[int, ...]]


def turn_writer(loaded: LoadedModel) -> TurnWriter:
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
