"""Supervised fine-tuning: the model learns to write an answer after its prompt, plainly or unmasking it.

    user:       How many apples are 2 and 3?            <- shown as it is
                2 + ## = ##
                Return the recovered masked answer.
    assistant:  2 + 3 = 5<end of turn>                  <- the masked tokens carry loss, and the end

Source: masked supervised fine-tuning of Pan et al. 2025 (arXiv 2510.09885). The line break between question
and masked answer is ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from demask.objectives.demasking import DemaskingForm, make_demasking_example
from demask.objectives.masking import RATIO_RANGE, draw_masking, draw_ratio, keyed_rng
from demask.objectives.next_token import make_next_token_example
from demask.objectives.objective import Context, ExampleMaker, Needs, Objective, Reads
from demask.records import Example, Sample
from demask.section import RatioRange

if TYPE_CHECKING:
    import random

    from transformers import PreTrainedTokenizerBase

# The paper's, section A.4, for answers.
ANSWER_INSTRUCTION = "\nReturn the recovered masked answer."
# Between a question and the masked copy of its answer.
SEPARATOR = "\n"
# Facts of a few documents take large steps. On GSM8K at 135M the held-out loss after 20 steps was lower at
# 1e-4 than at 3e-4 (docs/benchmarks.md), and the paper took 2e-6 at 4B.
RATE_SHARE = 0.2


def _read_shares(value: Any) -> Any:
    """A single number stands for all epochs."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (float(value),)
    if isinstance(value, list):
        return tuple(
            float(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in value
        )
    return value


# Chances, one for each epoch; the last holds on.
Shares = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1), BeforeValidator(_read_shares)
]


class Sft(Objective):
    """The model learns to write the answer after its question."""

    reads: ClassVar[Reads] = "answers"
    rate_share: ClassVar[float] = RATE_SHARE

    name: Literal["sft"] = "sft"
    learn_end: bool = Field(True, description="also score the end of the answer, by which decoding stops")
    prompt_noise: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="chance that a token of the prompt is replaced by the mask token; a control of what "
        "noise alone does",
    )

    @property
    def needs(self) -> Needs:
        """A mask token, where prompts are noisy."""
        return Needs(mask=self.prompt_noise > 0)

    def example_length(self, context: Context) -> Callable[[int, int], int]:
        """Prompt and answer in the template."""
        around = len(context.chat.assistant) + len(context.chat.end)
        return lambda prompt, completion: prompt + completion + around

    def example_maker(self, context: Context, *, seed: int) -> ExampleMaker:
        """Draws the noise of the prompt, if any."""
        before = len(context.chat.user)

        def make(sample: Sample, epoch: int, variant: int) -> Example:
            prompt = sample.prompt
            if self.prompt_noise:
                rng = keyed_rng(seed, "noise", sample.id, epoch)
                noisy = draw_masking(range(len(prompt) - before), self.prompt_noise, rng)
                words = zip(prompt[before:], noisy, strict=True)
                masked = (context.needed_mask_id if hide else token for token, hide in words)
                prompt = (*prompt[:before], *masked)
            return make_next_token_example(
                sample.answer,
                id=f"{sample.id}@{epoch}",
                chat=replace(context.chat, user=prompt),
                question=(),
                learn_end=self.learn_end,
            )

        return make


class MaskedObjective(Objective):
    """What the objectives that mask samples have in common; some of their exposures may be plain."""

    rate_share: ClassVar[float] = RATE_SHARE

    mask_ratio: RatioRange = Field(
        RATIO_RANGE, description="chance that a token is masked, drawn per sample; paper: 0.05 to 0.95"
    )
    loss_on: Literal["masked", "all"] = Field(
        "masked", description="paper: the masked tokens only; all: the whole answer"
    )
    unit: Literal["token", "step"] = Field(
        "token", description="what is masked as one; step: a sentence or a line of the answer"
    )
    share: Shares = Field(
        (1.0,),
        description="of the exposures that are masked, the others are learned plainly; or one for each "
        "epoch, the last of which holds on",
    )
    mask_token: str | None = Field(None, description="one token of the vocabulary; none: by family")
    learn_end: bool = Field(True, description="also score the end of the answer, by which decoding stops")
    instruction: str = Field(ANSWER_INSTRUCTION, description="follows the masked answer")

    @field_validator("mask_ratio")
    @classmethod
    def _something_is_masked(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] == 0:
            raise ValueError(f"expected more than 0, got {value[0]}: a mere copy would teach nothing")
        return value

    @property
    def plain(self) -> Objective:
        """What is done where nothing is masked."""
        return Sft(learn_end=self.learn_end)

    @property
    def needs(self) -> Needs:
        """A mask token."""
        return Needs(mask=True, mask_token=self.mask_token)

    @property
    def steady(self) -> bool:
        """Not where masked and plain examples are mixed."""
        return len(set(self.share)) == 1 and self.share[0] in (0, 1)

    def example_length(self, context: Context) -> Callable[[int, int], int]:
        """The prompt, the answer and its copy, with what stands around them."""
        chat = context.chat
        around = len(chat.assistant) + len(chat.end) + len(context.encode(self.instruction))
        separator = len(context.encode(SEPARATOR))
        before = len(chat.user)
        return lambda prompt, completion: (prompt + separator if prompt else before) + 2 * completion + around

    def example_maker(self, context: Context, *, seed: int) -> ExampleMaker:
        """Draws whether an exposure is masked, and then its mask."""
        mask_id, instruction = context.needed_mask_id, context.encode(self.instruction)
        separator = context.encode(SEPARATOR)
        make_plain = self.plain.example_maker(context, seed=seed)
        find_steps = step_finder(context.tokenizer)

        def make(sample: Sample, epoch: int, variant: int) -> Example:
            if (
                keyed_rng(seed, "form", sample.id, epoch).random()
                >= self.share[min(epoch, len(self.share) - 1)]
            ):
                return make_plain(sample, epoch, variant)
            before = (*sample.prompt, *separator) if sample.prompt else context.chat.user
            rng = keyed_rng(seed, sample.id, epoch, variant)
            groups = find_steps(sample.answer) if self.unit == "step" else range(len(sample.answer))
            return make_demasking_example(
                sample.answer,
                draw_answer_mask(groups, self.mask_ratio, rng),
                id=f"{sample.id}@{epoch}",
                form=DemaskingForm(replace(context.chat, user=before), mask_id, instruction, opening=()),
                loss_on=self.loss_on,
                learn_end=self.learn_end,
            )

        return make


class MaskedSft(MaskedObjective):
    """The answer stands masked behind its question; the model writes it in full."""

    reads: ClassVar[Reads] = "answers"

    name: Literal["masked-sft"] = "masked-sft"


def draw_answer_mask(
    groups: Sequence[int], ratio: tuple[float, float], rng: "random.Random"
) -> tuple[bool, ...]:
    """Mask groups of tokens with a chance drawn from a range; at least one, as a copy would teach nothing.

    Args:
        groups: one number per token; tokens of equal number are masked together.
        ratio: between which the chance is drawn.
        rng: of both draws.
    """
    masked = draw_masking(groups, draw_ratio(rng, *ratio), rng)
    if any(masked):
        return masked
    numbers = list(dict.fromkeys(groups))
    chosen = numbers[rng.randrange(len(numbers))]
    return tuple(group == chosen for group in groups)


def step_finder(tokenizer: "PreTrainedTokenizerBase") -> Callable[[Sequence[int]], tuple[int, ...]]:
    """A function from the tokens of an answer to the numbers of the steps that they belong to.

    A step ends with a line, or with a sentence; a full stop before a digit ends none, as in "3.5".
    """

    @cache
    def read(token: int) -> str:
        return str(tokenizer.decode([token]))

    def find(ids: Sequence[int]) -> tuple[int, ...]:
        texts = ["", *map(read, ids), ""]
        numbers, step = [], 0
        for place, text in enumerate(texts[1:-1], start=1):
            numbers.append(step)
            shown = (texts[place - 1] + text).rstrip()
            a_point = shown[-2:-1].isdigit() and texts[place + 1][:1].isdigit()
            ends = text.rstrip().endswith((".", "!", "?")) and not a_point
            step += ends or "\n" in text
        return tuple(numbers)

    return find
