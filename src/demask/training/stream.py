"""What is seen at each step: a pure function of the seed, so that resuming is exact.

    stream = make_stream(config, context, samples)
    stream = MixedStream((stream, replay), more_terms=(Term("kl-to-base", kl, on="replay"),))
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
from typing import Any, Generic, Protocol, TypeVar

from demask.data.sequences import Samples, count_examples
from demask.data.streaming import StreamedSamples, batch_by_length
from demask.losses.terms import Term
from demask.objectives.masking import keyed_rng
from demask.objectives.objective import Context
from demask.recipe.fine_tuning import TaskConfig
from demask.records import Example, Sample
from demask.training.plan import make_schedule

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")  # what is trained on: passages, or samples


class Indexed(Protocol[T_co]):
    """What is trained on, in an order that does not change."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, place: int, /) -> T_co:
        """One of them."""


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
        in_front: tokens that may stand in front of an example besides.
    """

    passages: Indexed[T]
    lengths: Sequence[int]
    make_example: Callable[[T, int, int], Example]
    _: KW_ONLY
    variants: int
    batch_size: int
    steps: int
    seed: int
    copies: int = 1
    in_front: int = 0

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
        examples = (self.make_example(passage, 0, variant) for variant in range(self.variants))
        return self.in_front + max(len(example.token_ids) for example in examples)

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


@dataclass(frozen=True, eq=False)
class MixedStream:
    """Every step has the examples of the first part's step, then those of the second's, and so on.

    Attributes:
        parts: of equally many steps; what is learned comes first.
        more_terms: of the loss, beside the cross-entropy on what is learned.
    """

    parts: Sequence[ExposureStream[Any] | StreamedSamples]
    more_terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        steps = {part.steps for part in self.parts}
        if len(steps) != 1:
            raise ValueError(f"parts of {sorted(steps)} steps, expected as many of each")

    @property
    def learned(self) -> ExposureStream[Any] | StreamedSamples:
        """The part that is learned."""
        return self.parts[0]

    @property
    def batch_size(self) -> int:
        """Examples per step, of all parts."""
        return sum(part.batch_size for part in self.parts)

    @property
    def steps(self) -> int:
        """Updates of the run."""
        return self.learned.steps

    @property
    def seed(self) -> int:
        """Of what is learned."""
        return self.learned.seed

    def __len__(self) -> int:
        """Examples of the whole run."""
        return self.steps * self.batch_size

    def __getitem__(self, place: int) -> Example:
        """The example at one place."""
        step, slot = divmod(range(len(self))[place], self.batch_size)
        for part in self.parts:
            if slot < part.batch_size:
                return part[step * part.batch_size + slot]
            slot -= part.batch_size
        raise IndexError(place)

    def longest_example(self) -> int:
        """Tokens of the longest one."""
        return max(part.longest_example() for part in self.parts)


def learned_part(stream: Any) -> Any:
    """Of a stream that mixes, the part that is learned; any other is learned as a whole."""
    return stream.learned if isinstance(stream, MixedStream) else stream


def make_stream(config: TaskConfig, context: Context, samples: Samples) -> ExposureStream[Sample]:
    """Every exposure of a run, in order.

    Args:
        config: of the run.
        context: of the model that is trained.
        samples: what is trained on.
    """
    objective = config.objective
    schedule = make_schedule(
        config.train, passages=len(samples), copies=objective.together, length=config.length
    )
    return ExposureStream(
        samples,
        count_examples(objective.example_length(context), samples),
        objective.example_maker(context, seed=config.seed),
        variants=objective.variants,
        batch_size=schedule.batch_size,
        steps=schedule.steps,
        seed=config.seed,
        copies=objective.together,
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
