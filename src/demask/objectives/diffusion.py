"""Masked diffusion: some tokens are masked where they stand, and the model writes them there.

    masking = draw_noise(rng, length=len(answer), noise=Noise(None))
    example = make_diffusion_example(context, answer, masking, id="d1", mask_id=mask_id)

    Mora ## founded the ## works ## 1931.      ## carry loss, weighted; the others are only seen

For an answer of L tokens, three ways of drawing bound -log p(answer) from above by the same number, in
expectation: masks of ratio t uniform in (0, 1) with weight 1/t, masks of a number l uniform in 1 .. L with
weight L/l, and the average over all orders of the chain rule. Where t is uniform in a part of (0, 1), such as
(0.05, 0.95), the mean weighted loss is no bound: it leaves out what the model says where almost all is
masked. Sources: Sahoo et al. 2024 (arXiv 2406.07524), Nie et al. 2025 (LLaDA,
arXiv 2502.09992), Ou et al. 2024 (arXiv 2406.03736).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from demask.objectives.masking import draw_masking, draw_ratio
from demask.records import IGNORE_INDEX, Example


@dataclass(frozen=True)
class Noise:
    """How masks are drawn.

    Attributes:
        ratio: (low, high) of the uniform mask ratio t, each token on its own with chance t, weight 1/t; the
            loss bounds -log p as far as the range comes near (0, 1). None: the number of masked tokens is
            uniform over 1 .. L, weight L / number; the loss bounds -log p, wastes no example on an empty mask
            and varies less.
    """

    ratio: tuple[float, float] | None


@dataclass(frozen=True)
class Masking:
    """One draw."""

    masked: tuple[bool, ...]
    weight: float


def draw_noise(rng: random.Random, *, length: int, noise: Noise) -> Masking:
    """Which of `length` tokens are masked, and what the loss of each weighs.

    Raises:
        ValueError: there is nothing to mask.
    """
    if length < 1:
        raise ValueError("an answer of no tokens cannot be masked")
    if noise.ratio is None:
        count = rng.randint(1, length)
        chosen = set(rng.sample(range(length), count))
        return Masking(tuple(place in chosen for place in range(length)), length / count)
    ratio = draw_ratio(rng, *noise.ratio)
    return Masking(draw_masking(range(length), ratio, rng), 1 / ratio)


def make_diffusion_example(
    context: Sequence[int], answer: Sequence[int], masking: Masking, *, id: str, mask_id: int
) -> Example:
    """Mask the answer where it stands; the context before it stays whole.

    Args:
        context: never masked: BOS, or a prompt.
        answer: what may be masked, padding by end-of-text included if it is to be learned.
        masking: one flag per token of the answer.
        id: names the example.
        mask_id: stands once for every masked token.

    Raises:
        ValueError: the masking does not cover the answer.
    """
    if len(masking.masked) != len(answer):
        raise ValueError(f"{len(masking.masked)} mask flags for {len(answer)} tokens")
    pairs = list(zip(answer, masking.masked, strict=True))
    unscored = (IGNORE_INDEX,) * len(context)
    return Example(
        id=id,
        token_ids=(*context, *(mask_id if hide else token for token, hide in pairs)),
        labels=(*unscored, *(token if hide else IGNORE_INDEX for token, hide in pairs)),
        masked=(*(False for _ in context), *masking.masked),
        weight=masking.weight,
        supervised=len(answer),
    )


def end_answer(answer: Sequence[int], *, end: Sequence[int], fill: int, block: int | None) -> tuple[int, ...]:
    """The answer with its end: what is learned about stopping must be said.

    Args:
        answer: tokens of the text.
        end: ends it once; empty: the end is not learned.
        fill: repeated after the end, so that the model learns to fill the rest of a block.
        block: the length is filled up to a multiple of this; None: not filled.
    """
    whole = (*answer, *end)
    missing = -len(whole) % block if block else 0
    return (*whole, *(fill,) * missing)
