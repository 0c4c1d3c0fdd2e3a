"""What is seen at each step: a pure function of the seed, so that resuming is exact.

    stream = ExposureStream(passages, lengths, make_example, batch_size=10, steps=120, seed=0)
    micro_batches = cut_micro_batches(stream, accumulation=2)

An exposure is one passage seen once. Exposure k of a run is the same whatever the number of
workers, ranks or micro-batches, and wherever a killed run goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
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


class ExposureStream:
    """All exposures of a run in order; item k is the example of exposure k."""

    def __init__(
        self,
        passages: Sequence[Passage],
        lengths: Sequence[int],
        make_example: ExampleMaker,
        *,
        variants: int,
        batch_size: int,
        steps: int,
        seed: int,
    ) -> None:
        """Nothing is computed here but the sizes.

        Args:
            passages: what is trained on.
            lengths: tokens of each passage, for batches of like length.
            make_example: from (passage, epoch, variant).
            variants: examples of one passage in one epoch.
            batch_size: examples per step.
            steps: updates of the run.
            seed: of the order.
        """
        self._passages = passages
        self.lengths = lengths
        self.make_example = make_example
        self._variants = variants
        self._seed = seed
        self.batch_size = batch_size
        self.steps = steps
        self._epoch = lru_cache(maxsize=2)(self._order)

    def __len__(self) -> int:
        """Exposures of the whole run."""
        return self.steps * self.batch_size

    def __getitem__(self, place: int) -> Example:
        """The example of one exposure."""
        exposure = self.exposure(place)
        return self.make_example(self._passages[exposure.passage], exposure.epoch, exposure.variant)

    @property
    def exposures(self) -> float:
        """How often each passage is seen, on average."""
        return len(self) / len(self._passages)

    def longest_example(self) -> int:
        """Tokens of the longest passage's example; a passage may stand in one step more than once."""
        passage = self._passages[max(range(len(self.lengths)), key=lambda number: self.lengths[number])]
        return max(len(self.make_example(passage, 0, variant).token_ids) for variant in range(self._variants))

    def exposure(self, place: int) -> Exposure:
        """Which passage, epoch and variant stand at this place."""
        per_epoch = len(self._passages) * self._variants
        return self._epoch(place // per_epoch)[place % per_epoch]

    def _order(self, epoch: int) -> list[Exposure]:
        return order_exposures(
            self.lengths, variants=self._variants, batch_size=self.batch_size, seed=self._seed, epoch=epoch
        )


def order_exposures(
    lengths: Sequence[int], *, variants: int, batch_size: int, seed: int, epoch: int
) -> list[Exposure]:
    """One epoch: every passage in every variant once, in batches of like length, shuffled.

    Shuffles, cuts into buckets of several batches, sorts each by length, cuts batches and
    shuffles these; only the last batch of an epoch may be shared with the next.
    """
    rng = keyed_rng(seed, "order", epoch)
    exposures = [Exposure(p, epoch, v) for p in range(len(lengths)) for v in range(variants)]
    rng.shuffle(exposures)
    bucket = _BUCKET * batch_size
    ordered: list[Exposure] = []
    for start in range(0, len(exposures), bucket):
        ordered += sorted(exposures[start : start + bucket], key=lambda e: lengths[e.passage])
    whole = len(ordered) // batch_size * batch_size
    batches = [ordered[start : start + batch_size] for start in range(0, whole, batch_size)]
    rng.shuffle(batches)
    return [exposure for batch in batches for exposure in batch] + ordered[whole:]


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
