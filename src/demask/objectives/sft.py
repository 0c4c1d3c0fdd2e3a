"""Supervised fine-tuning: the model learns to write an answer after its prompt, plainly or unmasking it.

    user:       How many apples are 2 and 3?            <- shown as it is
                2 + ## = ##
                Return the recovered masked answer.
    assistant:  2 + 3 = 5<end of turn>                  <- the masked tokens carry loss, and the end

Source: masked supervised fine-tuning of Pan et al. 2025 (arXiv 2510.09885). The line break between question
and masked answer is ours.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from demask.objectives.demasking import DemaskingForm, make_demasking_example
from demask.objectives.masking import RATIO_RANGE, draw_masking, draw_ratio, keyed_rng
from demask.objectives.next_token import make_next_token_example
from demask.objectives.objective import Context, ExampleMaker, Needs, Objective, Reads
from demask.records import Example, Sample
from demask.section import RatioRange

if TYPE_CHECKING:
    import random

# The paper's, section A.4, for answers.
ANSWER_INSTRUCTION = "\nReturn the recovered masked answer."
# Between a question and the masked copy of its answer.
SEPARATOR = "\n"
# Facts of a few documents take large steps. On GSM8K at 135M the held-out loss after 20 steps was lower at
# 1e-4 than at 3e-4 (docs/benchmarks.md), and the paper took 2e-6 at 4B.
RATE_SHARE = 0.2


class Sft(Objective):
    """The model learns to write the answer after its question."""

    reads: ClassVar[Reads] = "answers"
    rate_share: ClassVar[float] = RATE_SHARE

    name: Literal["sft"] = "sft"
    learn_end: bool = Field(True, description="also score the end of the answer, by which decoding stops")

    def example_length(self, context: Context) -> Callable[[int, int], int]:
        """Prompt and answer in the template."""
        around = len(context.chat.assistant) + len(context.chat.end)
        return lambda prompt, completion: prompt + completion + around

    def example_maker(self, context: Context, *, seed: int) -> ExampleMaker:
        """Draws nothing."""

        def make(sample: Sample, epoch: int, variant: int) -> Example:
            return make_next_token_example(
                sample.answer,
                id=f"{sample.id}@{epoch}",
                chat=replace(context.chat, user=sample.prompt),
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
    share: float = Field(
        1.0, ge=0, le=1, description="of the exposures that are masked; the others are learned plainly"
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
        return self.share in (0, 1)

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

        def make(sample: Sample, epoch: int, variant: int) -> Example:
            if keyed_rng(seed, "form", sample.id, epoch).random() >= self.share:
                return make_plain(sample, epoch, variant)
            before = (*sample.prompt, *separator) if sample.prompt else context.chat.user
            rng = keyed_rng(seed, sample.id, epoch, variant)
            return make_demasking_example(
                sample.answer,
                draw_answer_mask(len(sample.answer), self.mask_ratio, rng),
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


def draw_answer_mask(length: int, ratio: tuple[float, float], rng: "random.Random") -> tuple[bool, ...]:
    """Mask each token with a chance drawn from a range; at least one, as a mere copy would teach nothing."""
    masked = draw_masking(range(length), draw_ratio(rng, *ratio), rng)
    if any(masked):
        return masked
    chosen = rng.randrange(length)
    return tuple(place == chosen for place in range(length))
