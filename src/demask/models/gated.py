"""A trained model with its base beside it: which of the two answers a prompt is told by a gate.

    both = put_gate(trained, base, gate)            # generate_answers and measures of drift ask the right one
    with as_base(both): ...                         # the base model, to the bit

Kept of the base are the weights that training has changed. For a prompt that leaves the gate shut they take
the places of the trained ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from demask.errors import ModelError
from demask.knowledge.gate import Gate
from demask.objectives.prompts import ChatFormat

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from demask.models.load import LoadedModel


@dataclass(frozen=True)
class Gated:
    """What a model with a gate has besides.

    Attributes:
        gate: opens for prompts about the documents.
        base: weights of the base model by name, those that differ.
    """

    gate: Gate
    base: Mapping[str, Tensor]


def put_gate(trained: "LoadedModel", base: "LoadedModel", gate: Gate) -> "LoadedModel":
    """The trained model behind a gate; the weights of the base that did not change can be freed.

    Args:
        trained: its weights are swapped in place while a prompt leaves the gate shut.
        base: what it was trained from, with the same numbers in the weights that were not trained; may be in
            main memory where a GPU has no room for both.
        gate: told the text of each prompt.

    Raises:
        ModelError: the two have other weights.
    """
    check_same_weights(base, trained.model, trained.name)
    theirs = dict(base.model.named_parameters())
    differing = {
        name: theirs[name].detach().to(values.dtype)
        for name, values in trained.model.named_parameters()
        if not torch.equal(theirs[name].to(values.device, values.dtype), values)
    }
    return replace(trained, gated=Gated(gate, differing))


def check_same_weights(base: "LoadedModel", trained: "PreTrainedModel", name: str) -> None:
    """See that a model has weights of the names and shapes of its base.

    Args:
        base: what it should have been trained from.
        trained: the model; its numbers are not looked at, so that an outline serves.
        name: of the trained model.

    Raises:
        ModelError: it has others.
    """
    theirs, shapes = (
        {name: values.shape for name, values in model.named_parameters()} for model in (base.model, trained)
    )
    if shapes != theirs:
        raise ModelError(f"{base.name}: its weights are not those that {name} was trained from")


def without_gate(loaded: "LoadedModel") -> "LoadedModel":
    """The trained model alone, as other programs load it."""
    return loaded if loaded.gated is None else replace(loaded, gated=None)


def which_open(loaded: "LoadedModel", prompts: Sequence[Sequence[int]]) -> list[bool]:
    """Of prompts as token ids, which the trained model answers; all of them where there is no gate."""
    if loaded.gated is None:
        return [True] * len(prompts)
    return find_open(loaded.gated.gate, loaded.tokenizer, loaded.chat, prompts)


def find_open(
    gate: Gate, tokenizer: "PreTrainedTokenizerBase", chat: ChatFormat, prompts: Sequence[Sequence[int]]
) -> list[bool]:
    """To which prompts a gate opens, without any weights.

    Args:
        gate: of a run.
        tokenizer: of the trained model.
        chat: its format, by which the model's own replies are told from what it is given to read.
        prompts: as token ids.
    """

    def read(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))

    return [gate.opens(read(prompt), read(leave_out_replies(prompt, chat))) for prompt in prompts]


def leave_out_replies(prompt: Sequence[int], chat: ChatFormat) -> list[int]:
    """The token ids of a prompt without those of the model's replies to earlier turns."""
    kept: list[int] = []
    place, start, end = 0, tuple(chat.assistant), tuple(chat.end)
    while place < len(prompt):
        if start and tuple(prompt[place : place + len(start)]) == start:
            kept += start
            place += len(start)
            while place < len(prompt) and (not end or tuple(prompt[place : place + len(end)]) != end):
                place += 1
        else:
            kept.append(prompt[place])
            place += 1
    return kept


@contextmanager
def as_base(loaded: "LoadedModel") -> Iterator[None]:
    """A model behind a gate is its base for a block."""
    assert loaded.gated is not None, "there is no base to be"
    parameters, place = dict(loaded.model.named_parameters()), loaded.device
    trained: dict[str, Tensor] = {}
    try:
        # One after the other, as a base in main memory is there since both do not fit into the GPU's.
        for name, values in loaded.gated.base.items():
            trained[name] = parameters[name].data.to(values.device)
            parameters[name].data = values.to(place)
        yield
    finally:
        for name, values in trained.items():
            parameters[name].data = values.to(place)


@contextmanager
def behind_gate(loaded: "LoadedModel", *, is_open: bool) -> Iterator[None]:
    """The model that answers where the gate is open, or shut, for a block."""
    if is_open:
        yield
    else:
        with as_base(loaded):
            yield
