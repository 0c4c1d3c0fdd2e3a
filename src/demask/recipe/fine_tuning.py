"""Every knob of supervised fine-tuning and continued pre-training, with its unit and source.

    config = make_sft_config({"model": "embedded", "data": ["train.jsonl"], "objective": "masked-sft"})

Model and data have no default. What moves the weights is told as in any recipe, in the section `train`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from demask.objectives.objective import Objective
from demask.objectives.registry import objective_of
from demask.objectives.sft import MaskedSft
from demask.recipe.errors import check_values
from demask.recipe.sections import (
    Evaluate,
    Length,
    Measured,
    Retain,
    RunConfig,
    Train,
    check_retain,
    default_measure,
    make_config,
    make_stored_config,
)
from demask.section import Section

LongRule = Literal["error", "leave-out"]
# One of those that learn from samples: prompts with answers, or running text.
if TYPE_CHECKING:
    SampleObjective = Objective
else:
    SampleObjective = objective_of("answers", "text")


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

    model: str = Field(
        description="`embedded`, a folder, a name on the Hugging Face hub, a GGUF file or an adapter"
    )
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
    measure: Measured = Field(
        default_factory=default_measure,
        validate_default=True,
        description="known facts and drift; brief: a third, full: more, and benchmark tasks; not given: "
        "DEMASK_MEASURE, else quick",
    )
    objective: SampleObjective = Field(
        default_factory=MaskedSft, description="sft, masked-sft, cpt, masked-cpt"
    )
    train: SftTrain = Field(default_factory=SftTrain, description="how the weights are moved")
    retain: Retain = Field(default_factory=Retain, description="what holds the model to what it was")

    @property
    def length(self) -> Length:
        """How long is trained, where the recipe does not say."""
        return Length(2.0, 0)

    @property
    def evaluate(self) -> Evaluate:
        """How the retention suite is asked: as by default."""
        return Evaluate()

    @property
    def rate_share(self) -> float:
        """Of the default learning rate, what this objective takes."""
        return self.objective.rate_share

    @property
    def is_text(self) -> bool:
        """Whether it is trained on running text, and not on answers."""
        return self.objective.reads == "text"

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

    @model_validator(mode="after")
    def _what_is_retained_goes_together(self) -> "SftConfig":
        for key in ("wrapped", "near_misses", "gate"):
            if given := getattr(self.retain, key):
                wanted = False if given is True else 0
                raise ValueError(
                    f"retain.{key} is {given}, expected {wanted}: it is for documents, and samples have "
                    "prompts of their own"
                )
        check_retain(self.retain, self.objective)
        return self


def make_sft_config(values: Mapping[str, Any], *, source: str = "recipe") -> SftConfig:
    """Check every value.

    Raises:
        ConfigError: the first unknown key, missing key or wrong value, with what was expected.
    """
    return check_values(SftConfig, values, source=source, required=_REQUIRED, also=("launch", "track"))


_REQUIRED = {
    "model": "expected 'embedded', a model folder or a hub name",
    "data": "expected files of prompts and responses, or of text",
}

# What any task has: a model, an objective, how the weights are moved, a seed and a device.
TaskConfig: TypeAlias = RunConfig | SftConfig


def make_task_config(values: Mapping[str, Any], *, source: str = "recipe") -> TaskConfig:
    """The recipe of either kind: one of fine-tuning has data in place of documents."""
    return make_sft_config(values, source=source) if "data" in values else make_config(values, source=source)


def make_stored_task_config(values: Mapping[str, Any], *, source: str) -> TaskConfig:
    """The recipe of a run folder of either kind; of no preset, see `make_stored_config`."""
    return (
        make_sft_config(values, source=source)
        if "data" in values
        else make_stored_config(values, source=source)
    )
