"""What is seen at each step: a pure function of the seed, so that resuming is exact.

    stream = ExposureStream(passages, lengths, make_example, variants=1, batch_size=10, steps=120, seed=0)
    micro_batches = cut_micro_batches(stream, accumulation=2)

An exposure is one passage seen once; each of several copies of it in one step is an exposure. Exposure k
of a run is the same whatever the number of workers, ranks or micro-batches, and wherever a killed run
goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise

from demask.objectives.examples import ExampleMaker
from demask.objectives.masking import keyed_rng
from demask.records import Example, Passage

# Batches of like length are cut from this many shuffled batches: enough to make padding rare,
# few enough that long and short passages still mix over an epoch.
_BUCKET = 16


@dataclass(frozen=True)
class Exposure:
    """One passage, seen once in one epoch in one variant."""

    passage: int
    epoch: int
    variant: int


@dataclass(frozen=True, eq=False)
class ExposureStream:
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

    passages: Sequence[Passage]
    lengths: Sequence[int]
    make_example: ExampleMaker
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
        per_epoch = len(self.passages) * self.variants
        return self._epochs(place // per_epoch)[place % per_epoch]

    @cached_property
    def _epochs(self) -> Callable[[int], list[Exposure]]:
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
) -> list[Exposure]:
    """One epoch: every passage in every variant once, in batches of like length, shuffled.

    Shuffles, cuts into buckets of several batches, sorts each by length, cuts batches and
    shuffles these; only the last batch of an epoch may be shared with the next. What is moved are groups
    of `copies` variants, so that they stay together.

    Raises:
        ValueError: variants or examples of a step cannot be divided into groups.
    """
    if variants % copies or batch_size % copies:
        raise ValueError(f"{variants} variants and {batch_size} examples a step in groups of {copies}")
    rng = keyed_rng(seed, "order", epoch)
    groups = [Exposure(p, epoch, v) for p in range(len(lengths)) for v in range(0, variants, copies)]
    rng.shuffle(groups)
    size = batch_size // copies
    bucket = _BUCKET * size
    ordered: list[Exposure] = []
    for start in range(0, len(groups), bucket):
        ordered += sorted(groups[start : start + bucket], key=lambda e: lengths[e.passage])
    whole = len(ordered) // size * size
    batches = [ordered[start : start + size] for start in range(0, whole, size)]
    rng.shuffle(batches)
    moved = [first for batch in batches for first in batch] + ordered[whole:]
    return [replace(first, variant=first.variant + copy) for first in moved for copy in range(copies)]


def cut_micro_batches(stream: ExposureStream, *, accumulation: int) -> list[range]:
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
