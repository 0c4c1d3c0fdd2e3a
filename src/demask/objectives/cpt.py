"""Continued pre-training: the model learns to write on running text, in blocks, plainly or unmasking them.

Source: Pan et al. 2025 (arXiv 2510.09885). A block is cut anywhere, so that no turn ends with it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from demask.objectives.demasking import INSTRUCTION
from demask.objectives.next_token import make_next_token_example
from demask.objectives.objective import Context, ExampleMaker, Objective, Reads
from demask.objectives.sft import RATE_SHARE, MaskedObjective
from demask.records import Example, Sample

BLOCK_LENGTH = 512


class Cpt(Objective):
    """The model learns to continue running text, in blocks."""

    reads: ClassVar[Reads] = "text"
    rate_share: ClassVar[float] = RATE_SHARE

    name: Literal["cpt"] = "cpt"
    block_length: int = Field(BLOCK_LENGTH, gt=1, description="tokens; paper: 512")

    def example_length(self, context: Context) -> Callable[[int, int], int]:
        """The block after BOS."""
        before = len(context.chat.bos)
        return lambda prompt, completion: before + completion

    def example_maker(self, context: Context, *, seed: int) -> ExampleMaker:
        """Draws nothing."""
        raw = replace(context.chat, end=())

        def make(sample: Sample, epoch: int, variant: int) -> Example:
            return make_next_token_example(sample.answer, id=f"{sample.id}@{epoch}", chat=raw, question=None)

        return make


class MaskedCpt(MaskedObjective):
    """A block stands masked in the prompt; the model writes it in full."""

    reads: ClassVar[Reads] = "text"

    name: Literal["masked-cpt"] = "masked-cpt"
    block_length: int = Field(BLOCK_LENGTH, gt=1, description="tokens; paper: 512")
    instruction: str = Field(INSTRUCTION, description="follows the masked block")

    @property
    def plain(self) -> Objective:
        """The block as it is."""
        return Cpt(block_length=self.block_length)
