"""A loss made of terms: each over the tokens of one source, with a weight.

    terms = (Term("cross-entropy", cross_entropy()), Term("kl-to-base", kl, on="replay", weight=2.0))
    parts = apply_terms(terms, scored, only=frozenset(SOURCES))      # a micro-batch
    loss = combine(terms, parts, tokens_S)            # tokens of the whole step, over all ranks

Sums and counts travel; there is one division, by the tokens of the step. So micro-batches and ranks change
memory, not results, and a term's weight means the same however many tokens its source has.

N scored tokens, V vocabulary, S sources.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from demask.records import SOURCES, Source


class TokenLoss(NamedTuple):
    """A loss kept as sum and count, so that parts add up exactly.

    Means of batches with different numbers of tokens do not average to the mean of all
    tokens. Add the sums and the counts over micro-batches and ranks, then divide once.
    """

    nats: Tensor  # () float32
    tokens: Tensor  # () int64; the tokens that `nats` stands for


class ScoredTokens(NamedTuple):
    """The tokens of a batch that carry loss, in row order.

    Attributes:
        logits_NV: as the model gives them.
        labels_N: int64, what should be predicted.
        weights_N: float32, of their losses.
        masked_N: bool, not shown to the model.
        shares_N: float32, of the tokens of their example that are masked.
        sources_N: int64, places in `SOURCES`.
        rows_N: int64, rows of a reference model's targets; -1 without one.
    """

    logits_NV: Tensor
    labels_N: Tensor
    weights_N: Tensor
    masked_N: Tensor
    shares_N: Tensor
    sources_N: Tensor
    rows_N: Tensor

    def at(self, chosen_N: Tensor) -> "ScoredTokens":
        """Some of them."""
        return ScoredTokens(*(values[chosen_N] for values in self))


# Nats of each token, (N,) float32, from the tokens of one source.
TokenFunction = Callable[[ScoredTokens], Tensor]


@dataclass(frozen=True)
class Term:
    """A part of the loss.

    Attributes:
        name: in the log.
        function: nats of each token.
        on: the source whose tokens it is about.
        weight: of its mean in the loss.
    """

    name: str
    function: TokenFunction
    on: Source = "document"
    weight: float = 1.0


class TermNats(NamedTuple):
    """What a term says of a micro-batch.

    Attributes:
        nats_N: float32, of each token, unweighted.
        tokens: those that it is about.
        weighted: () float32, the sum over the tokens, each by its weight.
    """

    nats_N: Tensor
    tokens: ScoredTokens
    weighted: Tensor


def apply_terms(terms: Sequence[Term], scored: ScoredTokens, *, only: frozenset[Source]) -> list[TermNats]:
    """Nats of each term.

    Args:
        terms: of the loss.
        scored: of one micro-batch.
        only: sources that the micro-batch has tokens of. Known beforehand, so that no step waits for a GPU to
            look, and so that tokens of a single source are not copied.
    """
    parts = []
    for term in terms:
        mine = scored if only == {term.on} else scored.at(scored.sources_N == SOURCES.index(term.on))
        nats_N = term.function(mine) if term.on in only else mine.weights_N
        parts.append(TermNats(nats_N, mine, (nats_N * mine.weights_N).sum()))
    return parts


def combine(terms: Sequence[Term], parts: Sequence[TermNats], tokens_S: Tensor) -> Tensor:
    """The loss: of each term its weight times its mean over the tokens of its source.

    Args:
        terms: of the loss, at least one.
        parts: of each term, of a micro-batch or of a whole step.
        tokens_S: int64, how many tokens of each source the step stands for, over all ranks. A source without
            tokens adds nothing.
    """
    means = [
        part.weighted / tokens_S[SOURCES.index(term.on)].clamp(min=1)
        for term, part in zip(terms, parts, strict=True)
    ]
    first, *others = (mean * term.weight for term, mean in zip(terms, means, strict=True))
    return sum(others, first)
