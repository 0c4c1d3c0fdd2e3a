"""Every knob of supervised fine-tuning and continued pre-training, with its unit and source.

    config = make_sft_config({"model": "embedded", "data": ["train.jsonl"], "objective": "masked-sft"})

Model and data have no default. What moves the weights is told as in any recipe, in the section `train`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from demask.recipe.errors import check_values
from demask.recipe.objectives import INSTRUCTION, RATIO_RANGE, RatioRange, Section
from demask.recipe.sections import Train

# The paper's, section A.4 of arXiv 2510.09885 for answers.
ANSWER_INSTRUCTION = "\nReturn the recovered masked answer."
DEFAULT_EPOCHS = 2.0
LongRule = Literal["error", "leave-out"]


class Sft(Section):
    """The model learns to write the answer after its question."""

    name: Literal["sft"] = "sft"
    learn_end: bool = Field(True, description="also score the end of the answer, by which decoding stops")


class Cpt(Section):
    """The model learns to continue running text, in blocks."""

    name: Literal["cpt"] = "cpt"
    block_length: int = Field(512, gt=1, description="tokens; paper: 512")


class _Masks(Section):
    """What the objectives that mask have in common."""

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

    @field_validator("mask_ratio")
    @classmethod
    def _something_is_masked(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] == 0:
            raise ValueError(f"expected more than 0, got {value[0]}: a mere copy would teach nothing")
        return value


class MaskedSft(_Masks):
    """The answer stands masked behind its question; the model writes it in full."""

    name: Literal["masked-sft"] = "masked-sft"
    instruction: str = Field(ANSWER_INSTRUCTION, description="follows the masked answer")


class MaskedCpt(_Masks):
    """A block stands masked in the prompt; the model writes it in full."""

    name: Literal["masked-cpt"] = "masked-cpt"
    block_length: int = Field(512, gt=1, description="tokens; paper: 512")
    instruction: str = Field(INSTRUCTION, description="follows the masked block")


SftObjective = Annotated[Sft | MaskedSft | Cpt | MaskedCpt, Field(discriminator="name")]


class Columns(Section):
    """Where rows have what is trained; none: looked for by the usual names."""

    prompt: str | None = Field(None, description="as prompt, question, instruction")
    response: str | None = Field(None, description="as response, answer, completion, output")
    messages: str | None = Field(None, description="list of turns; as messages, conversations")
    text: str = Field("text", description="of continued pre-training")
    ignore: tuple[str, ...] = Field((), description="columns that are left out on purpose")

    @field_validator("ignore", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class SftTrain(Train):
    """How the weights are moved."""

    # Facts of a few documents take large steps. On GSM8K at 135M the held-out loss after 20 steps was lower
    # at 1e-4 than at 3e-4 (docs/benchmarks.md), and the paper took 2e-6 at 4B.
    _rate_share: float = PrivateAttr(0.2)

    epochs: float | None = Field(None, gt=0, description="none and no steps: 2, as the paper at 1.2M samples")
    learning_rate: float | None = Field(
        None, gt=0, description="none: by model size and batch, a fifth of what documents take"
    )
    batch_size: int = Field(32, gt=0, description="samples per step; paper: 16 to 80")
    decay: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the steps, the last ones, over which the learning rate falls to zero",
    )


class SftConfig(Section):
    """One run of supervised fine-tuning or continued pre-training, completely."""

    model: str = Field(description="`embedded`, a folder, or a name on the Hugging Face hub")
    data: tuple[str, ...] = Field(min_length=1, description="files, folders, patterns, hf:// data sets")
    columns: Columns = Field(default_factory=Columns, description="of the data")
    turns: Literal["last", "all"] = Field(
        "last", description="which of the assistant's are learned; all: each with what stands before it"
    )
    max_tokens: int | None = Field(None, gt=0, description="longest example; none: the model's context")
    too_long: LongRule = Field("error", description="what is done about longer ones")
    stream: bool = Field(False, description="read while training, for data that does not fit the disk")
    held_out: int = Field(
        0, ge=0, description="samples that are not trained; their loss is measured, to choose settings by"
    )
    seed: int = Field(0, ge=0, description="of order and masks")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where it is trained")
    objective: SftObjective = Field(default_factory=MaskedSft, description="sft, masked-sft, cpt, masked-cpt")
    train: SftTrain = Field(default_factory=SftTrain, description="how the weights are moved")

    @property
    def is_text(self) -> bool:
        """Whether it is trained on running text, and not on answers."""
        return isinstance(self.objective, Cpt | MaskedCpt)

    @field_validator("data", mode="before")
    @classmethod
    def _one_path_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @field_validator("objective", mode="before")
    @classmethod
    def _a_name_is_an_objective(cls, value: Any) -> Any:
        if isinstance(value, dict) and "name" not in value:
            return {"name": "masked-sft", **value}
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _a_length_that_can_be_told(self) -> "SftConfig":
        train = self.train
        if train.steps is not None and train.epochs is not None:
            raise ValueError("train.steps and train.epochs are both given, expected one of them")
        if train.stop is not None:
            raise ValueError("train.stop is for facts from documents; leave it out, or set steps")
        if self.stream and train.steps is None:
            raise ValueError("stream needs train.steps, since nobody knows how many samples will come")
        if self.stream and self.held_out:
            raise ValueError("stream and held_out are both given; hold samples out in a file of their own")
        return self


def make_sft_config(values: Mapping[str, Any], *, source: str = "recipe") -> SftConfig:
    """Check every value.

    Raises:
        ConfigError: the first unknown key, missing key or wrong value, with what was expected.
    """
    return check_values(SftConfig, values, source=source, required=_REQUIRED, also=("launch",))


_REQUIRED = {
    "model": "expected 'embedded', a model folder or a hub name",
    "data": "expected files of prompts and responses, or of text",
}
