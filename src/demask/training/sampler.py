"""What is seen at each step: a pure function of the seed, so that resuming is exact.

    stream = ExposureStream(passages, lengths, make_example, variants=1, batch_size=10, steps=120, seed=0)
    micro_batches = cut_micro_batches(stream, accumulation=2)

An exposure is one passage, or one sample, seen once; each of several copies of it in one step is an exposure.
Exposure k of a run is the same whatever the number of workers, ranks or micro-batches, and wherever a killed
run goes on.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

from demask.objectives.masking import keyed_rng
from demask.objectives.order import batch_by_length
from demask.records import Example

T = TypeVar("T")  # what is trained on: passages, or samples


class ExampleStream(Protocol):
    """What the trainer reads: examples by their place in the run, as many to a step as `batch_size` says."""

    @property
    def batch_size(self) -> int:
        """Examples per step."""

    @property
    def steps(self) -> int:
        """Updates of the run."""

    def __len__(self) -> int:
        """Examples of the whole run."""

    def __getitem__(self, place: int) -> Example:
        """The example at one place."""

    def longest_example(self) -> int:
        """Tokens of the longest one that is known of."""


@dataclass(frozen=True)
class Exposure:
    """One passage, seen once in one epoch in one variant."""

    passage: int
    epoch: int
    variant: int


@dataclass(frozen=True, eq=False)
class ExposureStream(Generic[T]):
    """All exposures of a run in order; item k is the example of exposure k.

    Attributes:
        passages: what is trained on.
        lengths: tokens of each passage, for batches of like length.
        make_example: from (passage, epoch, variant).
        variants: examples of one passage in one epoch.
        batch_size: examples per step; a multiple of `copies`.
        steps: updates of the run.
        seed: of the order.
        copies: how many variants of a passage stand side by side in one step; divides `variants`.
    """

    passages: Sequence[T]
    lengths: Sequence[int]
    make_example: Callable[[T, int, int], Example]
    _: KW_ONLY
    variants: int
    batch_size: int
    steps: int
    seed: int
    copies: int = 1

    def __len__(self) -> int:
        """Exposures of the whole run."""
        return self.steps * self.batch_size

    def __getitem__(self, place: int) -> Example:
        """The example of one exposure."""
        exposure = self.exposure(place)
        return self.make_example(self.passages[exposure.passage], exposure.epoch, exposure.variant)

    @property
    def exposures(self) -> float:
        """How often each passage is seen, on average."""
        return len(self) / len(self.passages)

    def longest_example(self) -> int:
        """Tokens of the longest passage's example; a passage may stand in one step more than once."""
        passage = self.passages[max(range(len(self.lengths)), key=lambda number: self.lengths[number])]
        return max(len(self.make_example(passage, 0, variant).token_ids) for variant in range(self.variants))

    def exposure(self, place: int) -> Exposure:
        """Which passage, epoch and variant stand at this place."""
        epoch, place = divmod(place, len(self.passages) * self.variants)
        passage, variant = divmod(self._epochs(epoch)[place], self.variants)
        return Exposure(passage, epoch, variant)

    @cached_property
    def _epochs(self) -> "Callable[[int], array[int]]":
        """The order of an epoch; a step that is shared by two epochs reads both."""
        return lru_cache(maxsize=2)(
            lambda epoch: order_exposures(
                self.lengths,
                variants=self.variants,
                batch_size=self.batch_size,
                seed=self.seed,
                epoch=epoch,
                copies=self.copies,
            )
        )


def order_exposures(
    lengths: Sequence[int], *, variants: int, batch_size: int, seed: int, epoch: int, copies: int = 1
) -> "array[int]":
    """One epoch: every passage in every variant once, in batches of like length, shuffled.

    Only the last batch of an epoch may be shared with the next. What is moved are groups of `copies`
    variants, so that they stay together.

    Returns:
        passage * variants + variant for each exposure: four bytes each, as a million samples are not rare.

    Raises:
        ValueError: variants or examples of a step cannot be divided into groups.
    """
    if variants % copies or batch_size % copies:
        raise ValueError(f"{variants} variants and {batch_size} examples a step in groups of {copies}")
    rng = keyed_rng(seed, "order", epoch)
    firsts = list(range(0, len(lengths) * variants, copies))
    rng.shuffle(firsts)
    ordered = array(
        "I",
        batch_by_length(
            firsts,
            length=lambda first: lengths[first // variants],
            size=batch_size // copies,
            rng=rng,
        ),
    )
    if copies == 1:
        return ordered
    return array("I", [first + copy for first in ordered for copy in range(copies)])


def cut_micro_batches(stream: ExampleStream, *, accumulation: int) -> list[range]:
    """Places of the stream, `accumulation` micro-batches to a step, as even as can be.

    Raises:
        ValueError: a step has fewer examples than micro-batches.
    """
    size = stream.batch_size
    if accumulation > size:
        raise ValueError(f"{accumulation} micro-batches of {size} examples")
    cuts = [round(part * size / accumulation) for part in range(accumulation + 1)]
    return [
        range(step * size + low, step * size + high)
        for step in range(stream.steps)
        for low, high in pairwise(cuts)
    ]
