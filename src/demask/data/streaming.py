"""Samples read and tokenised as they come, for data that do not fit the disk.

    stream = StreamedSamples(sample_reader(data, ...), make_example, batch_size=80, steps=30_000, seed=0)
    example = stream[place]

The source is read in windows of so many samples. Each window is shuffled, cut into batches of like length,
and these are shuffled; a window ends where the source does, and then an epoch begins anew. So the order is a
function of source, seed and sizes, for any number of processes. Places are meant to grow: each process then
reads the source once an epoch. Going back restarts it, and so does going on with a killed run, which passes
over what is before its place.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import islice
from typing import Any, TypeVar

from demask.errors import DataError
from demask.objectives.masking import keyed_rng
from demask.records import Example, Sample

T = TypeVar("T")

# Batches of like length are cut from this many shuffled batches: enough to make padding rare,
# few enough that long and short passages still mix over an epoch.
_BUCKET = 16


@dataclass(frozen=True)
class _Window:
    """Samples that are in memory, in the order in which they are seen.

    Attributes:
        epoch: in which they are seen.
        number: of the window in its epoch, from 0.
        start: the place of the first of them in the run.
        samples: ordered.
    """

    epoch: int
    number: int
    start: int
    samples: tuple[Sample, ...]


@dataclass(eq=False)
class StreamedSamples:
    """All exposures of a run in order; item k is the example of exposure k.

    Attributes:
        read: from a count to the samples of the source in order, None in place of the first so many.
        make_example: from (sample, epoch, variant).
        batch_size: samples a step.
        steps: updates of the run.
        seed: of the order.
        window: samples in memory, at least a batch; rounded down to whole batches.
    """

    read: Callable[[int], Iterator[Sample | None]]
    make_example: Callable[[Sample, int, int], Example]
    _: KW_ONLY
    batch_size: int
    steps: int
    seed: int
    window: int = 10_000
    _size: int | None = field(default=None, init=False)  # samples of an epoch, once it is known
    _held: _Window | None = field(default=None, init=False, repr=False)
    _opened: Iterator[Sample | None] = field(default=iter(()), init=False, repr=False)

    def __post_init__(self) -> None:
        if self.window < self.batch_size:
            raise ValueError(f"a window of {self.window} samples for batches of {self.batch_size}")
        self.window -= self.window % self.batch_size

    def __len__(self) -> int:
        """Exposures of the whole run."""
        return self.steps * self.batch_size

    def __getitem__(self, place: int) -> Example:
        """The example of one exposure.

        Raises:
            IndexError: the run has no such place.
            DataError: the source is not usable, is empty, or has become shorter.
        """
        place = range(len(self))[place]
        held = self._find(place)
        return self.make_example(held.samples[place - held.start], held.epoch, 0)

    def longest_example(self) -> int:
        """Tokens of the longest example in the first window; later ones may be longer."""
        longest = find_longest(self._find(0).samples)
        return max(len(self.make_example(sample, 0, 0).token_ids) for sample in longest)

    def _find(self, place: int) -> _Window:
        """The window that a place stands in."""
        while True:
            held = self._held
            if held is not None and held.start <= place < held.start + len(held.samples):
                return held
            epoch, rest = divmod(place, self._size) if self._size else (0, place)
            self._load(epoch, rest // self.window)

    def _load(self, epoch: int, number: int) -> None:
        """Read a window; the source may turn out to end before it, and then its size is known."""
        held, before = self._held, number * self.window
        if held is None or (held.epoch, held.number + 1) != (epoch, number):
            self._opened = self.read(before)
            passed = sum(1 for _ in islice(self._opened, before))
        else:
            passed = before
        samples = [sample for sample in islice(self._opened, self.window) if sample is not None]
        end = passed + len(samples)
        if len(samples) < self.window or end > (self._size or end):
            self._learn_size(end)
        start = epoch * (self._size or 0) + before
        rng = keyed_rng(self.seed, "window", epoch, number)
        ordered = order_window(samples, batch_size=self.batch_size, lead=-start % self.batch_size, rng=rng)
        self._held = _Window(epoch, number, start, ordered) if samples else None

    def _learn_size(self, size: int) -> None:
        if not size:
            raise DataError("the data hold no sample that fits; add some or raise the limit")
        if self._size not in (None, size):
            raise DataError(
                f"the data held {self._size} samples and now {size}; start again when nothing writes to them"
            )
        self._size = size


def batch_by_length(
    shuffled: list[T], *, length: Callable[[T], Any], size: int, rng: random.Random
) -> list[T]:
    """Cut into buckets of several batches, sort each by length, cut batches and shuffle these.

    Args:
        shuffled: in any order that mixes lengths.
        length: what is alike within a batch.
        size: of a batch; what is left at the end comes last and is shorter.
        rng: consumed.
    """
    bucket = _BUCKET * size
    ordered = [
        item
        for start in range(0, len(shuffled), bucket)
        for item in sorted(shuffled[start : start + bucket], key=length)
    ]
    whole = len(ordered) // size * size
    starts = list(range(0, whole, size))
    rng.shuffle(starts)
    return [item for start in starts for item in ordered[start : start + size]] + ordered[whole:]


def order_window(
    samples: Sequence[Sample], *, batch_size: int, lead: int, rng: random.Random
) -> tuple[Sample, ...]:
    """Shuffled, in batches of like length, these shuffled again; the last may be a part.

    Args:
        samples: of one window.
        batch_size: of a step.
        lead: samples that fill up a step that another window began.
        rng: consumed.
    """
    shuffled = list(samples)
    rng.shuffle(shuffled)
    first, rest = shuffled[:lead], shuffled[lead:]
    return (*first, *batch_by_length(rest, length=_length, size=batch_size, rng=rng))


def find_longest(samples: Sequence[Sample]) -> list[Sample]:
    """Those than which no other has both a longer prompt and a longer answer; few.

    However prompt and answer make up an example, the longest is made of one of these.
    """
    longest: list[Sample] = []
    for sample in sorted(samples, key=lambda one: (len(one.prompt), len(one.answer)), reverse=True):
        if not longest or len(sample.answer) > len(longest[-1].answer):
            longest.append(sample)
    return longest


def _length(sample: Sample) -> int:
    return len(sample.prompt) + len(sample.answer)
