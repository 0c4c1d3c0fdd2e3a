"""Several streams side by side: each step takes its examples from all of them.

    stream = MixedStream((documents, replay), more_terms=(Term("kl-to-base", kl, on="replay"),))

As each part is a pure function of its seed and the place, so is the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from demask.losses.terms import Term
from demask.records import Example
from demask.training.sampler import ExposureStream


@dataclass(frozen=True, eq=False)
class MixedStream:
    """Every step has the examples of the first part's step, then those of the second's, and so on.

    Attributes:
        parts: of equally many steps; what is learned comes first.
        more_terms: of the loss, beside the cross-entropy on what is learned.
    """

    parts: Sequence[ExposureStream[Any]]
    more_terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        steps = {part.steps for part in self.parts}
        if len(steps) != 1:
            raise ValueError(f"parts of {sorted(steps)} steps, expected as many of each")

    @property
    def learned(self) -> ExposureStream[Any]:
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
