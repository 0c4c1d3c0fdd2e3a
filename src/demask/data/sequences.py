"""Samples one after another, with their lengths: passages, or some of those that were tokenised.

    samples = PassageSamples(passages, tokenizer)
    samples = ChosenSamples(file, places)
    lengths = count_examples(objective.example_length(context), samples)

A passage is a sample without a prompt.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, overload

import numpy as np

from demask.objectives.objective import KEPT
from demask.objectives.prompts import count_tokens, encode
from demask.records import Passage, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from demask.data.tokenising import SampleFile

Lengths: TypeAlias = "NDArray[Any]"  # integers, one for each sample


class Samples(Protocol):
    """What is trained on, in an order that does not change."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, place: int) -> Sample:
        """One of them."""

    @property
    def prompt_lengths(self) -> Lengths:
        """Tokens of each prompt."""

    @property
    def answer_lengths(self) -> Lengths:
        """Tokens of each answer."""


@dataclass(frozen=True, eq=False)
class PassageSamples:
    """Passages as samples, tokenised when they are asked for.

    Attributes:
        passages: of the run, paraphrases included.
        tokenizer: of the model that is trained.
    """

    passages: Sequence[Passage]
    tokenizer: "PreTrainedTokenizerBase"

    def __len__(self) -> int:
        """How many there are."""
        return len(self.passages)

    def __getitem__(self, place: int) -> Sample:
        """One of them."""
        return self._make(range(len(self))[place])

    @cached_property
    def _make(self) -> Callable[[int], Sample]:
        return lru_cache(maxsize=KEPT)(lambda place: make_sample(self.passages[place], self.tokenizer))

    @property
    def prompt_lengths(self) -> Lengths:
        """None has a prompt."""
        return np.zeros(len(self), dtype=np.int64)

    @cached_property
    def answer_lengths(self) -> Lengths:
        """Tokens of each passage."""
        texts = (passage.training_text for passage in self.passages)
        return np.asarray(count_tokens(self.tokenizer, texts), dtype=np.int64)


def make_sample(passage: Passage, tokenizer: "PreTrainedTokenizerBase") -> Sample:
    """A passage as a sample."""
    text = passage.training_text
    return Sample(passage.id, (), encode(tokenizer, text), text, passage.entity)


@dataclass(frozen=True, eq=False)
class ChosenSamples(Sequence[Sample]):
    """Some samples of a file, in its order.

    Attributes:
        file: all of them.
        places: which, as rows of the file.
    """

    file: "SampleFile"
    places: "NDArray[np.int64]"

    def __len__(self) -> int:
        """How many there are."""
        return len(self.places)

    def __iter__(self) -> Iterator[Sample]:
        """All of them, in order."""
        return (self.file[int(place)] for place in self.places)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        """One of them, or some."""
        if isinstance(place, slice):
            return [self.file[int(number)] for number in self.places[place]]
        return self.file[int(self.places[place])]

    @property
    def prompt_lengths(self) -> Lengths:
        """Tokens of each prompt."""
        return np.asarray(self.file.prompt_lengths)[self.places]

    @property
    def answer_lengths(self) -> Lengths:
        """Tokens of each answer."""
        return np.asarray(self.file.answer_lengths)[self.places]


def count_examples(count: Callable[[int, int], int], samples: Samples) -> "array[int]":
    """Tokens of the example of each sample, of the longest kind where kinds are mixed.

    Args:
        count: of `Objective.example_length`; linear in both lengths, but for a prompt of nothing.
        samples: what is trained on.
    """
    nothing, prompt, answer = count(0, 0), count(1, 0), count(1, 1)
    prompts, answers = samples.prompt_lengths, samples.answer_lengths
    around = np.where(prompts > 0, prompt - 1, nothing)
    lengths = around + prompts + (answer - prompt) * answers
    return array("I", lengths.astype("uint32").tobytes())
