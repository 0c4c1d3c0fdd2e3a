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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from demask.objectives.masking import RATIO_RANGE, draw_masking, draw_ratio, keyed_rng
from demask.objectives.next_token import QUESTION, count_around
from demask.objectives.objective import Context, ExampleMaker, Needs, Objective
from demask.records import IGNORE_INDEX, Example, Sample
from demask.section import read_range

# Tokens that an answer of LLaDA is filled up to a multiple of, with `end: block`.
END_BLOCK = 32
_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"noise": "ratio", "mask_ratio": RATIO_RANGE, "form": "raw", "end": "one"},
    # LLaDA draws t in (0, 1) and masks with chance (1 - eps) t + eps, eps = 0.001.
    "llada": {"noise": "ratio", "mask_ratio": (0.001, 1.0), "form": "chat", "end": "block"},
    "count": {"noise": "count", "mask_ratio": None, "form": "raw", "end": "one"},
}


class Diffusion(Objective):
    """Tokens are masked where they stand; needs a masked-diffusion model.

    A preset sets what is left open. paper: Pan et al. 2025; t stays away from 0 and 1, so that its loss is no
    bound on -log p. llada: Nie et al. 2025, section 2.3. count: a bound, the one that t uniform in (0, 1)
    gives in expectation, with less variance.
    """

    name: Literal["diffusion"] = "diffusion"
    preset: Literal["paper", "llada", "count"] = Field("paper", description="what is not given below")
    noise: Literal["ratio", "count"] | None = Field(
        None, description="ratio: each token with chance t, weight 1/t; count: l of L tokens, weight L/l"
    )
    mask_ratio: tuple[float, float] | None = Field(None, description="range of t, above 0")
    form: Literal["raw", "chat"] | None = Field(None, description="chat: the answer to a clean prompt")
    question: str = Field(QUESTION, description="the user's turn in the chat form")
    end: Literal["none", "one", "block"] | None = Field(
        None, description="end tokens learned: none, one, or as many as fill a block of 32"
    )

    @field_validator("mask_ratio", mode="before")
    @classmethod
    def _one_number_is_a_fixed_ratio(cls, value: Any) -> Any:
        return read_range(value)

    @model_validator(mode="before")
    @classmethod
    def _filled_by_the_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        filled = {key: value for key, value in values.items() if value is not None}
        return {**_PRESETS.get(values.get("preset", "paper"), {}), **filled}

    @model_validator(mode="after")
    def _ratio_within_bounds(self) -> "Diffusion":
        low, high = self.mask_ratio or (1.0, 1.0)
        if not 0.0 < low <= high <= 1.0:
            raise ValueError(f"mask_ratio: expected 0 < low <= high <= 1, got {low} and {high}")
        return self

    @property
    def loss_is_bound(self) -> bool:
        """Whether the mean loss is an upper bound on -log p per token, whatever the model.

        Not with ratios: what a model says of masks beyond the range is left out, and the rest is scaled up.
        Of llada only t below 0.001 is missing, which lowers the mean of no model that gains from context.
        """
        return self.noise == "count"

    @property
    def needs(self) -> Needs:
        """A masked-diffusion model, which has a mask token of its own."""
        return Needs(diffusion=True)

    def example_length(self, context: Context) -> Callable[[int, int], int]:
        """The text after its question, filled up where a block is to be."""
        around = count_around(context.chat) + len(context.encode(self.question))
        around += END_BLOCK if self.end == "block" else 0
        return lambda prompt, completion: around + completion

    def example_maker(self, context: Context, *, seed: int) -> ExampleMaker:
        """Draws which tokens are masked."""
        tokenizer, chat, mask_id = context.tokenizer, context.chat, context.needed_mask_id
        noise = Noise(self.mask_ratio if self.noise == "ratio" else None)
        eos = tokenizer.eos_token_id
        fill = int(eos) if isinstance(eos, int) else chat.end[-1]
        if self.form == "chat":
            before, end = (*chat.user, *context.encode(self.question), *chat.assistant), chat.end
        else:
            # Where a model has no BOS the end token stands in, as between texts in pre-training: the first
            # token needs something before it in models that predict one place ahead.
            before, end = chat.bos or (fill,), (fill,)

        end = () if self.end == "none" else end
        block = END_BLOCK if self.end == "block" else None

        def make(sample: Sample, epoch: int, variant: int) -> Example:
            answer = end_answer(sample.answer, end=end, fill=fill, block=block)
            rng = keyed_rng(seed, sample.id, epoch, variant)
            return make_diffusion_example(
                before,
                answer,
                draw_noise(rng, length=len(answer), noise=noise),
                id=f"{sample.id}@{epoch}.{variant}",
                mask_id=mask_id,
            )

        return make


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
