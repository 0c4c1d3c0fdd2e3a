"""Every knob of a run, with its unit and the source of its default.

    config = make_config({"model": "embedded", "documents": ["facts/"]})
    config = make_config(load_recipe("recipe.yaml"), source="recipe.yaml")        # recipe_file

Unknown keys are errors that name the nearest known key. Model and documents have no default.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from demask.errors import ConfigError

# Pan et al. 2025 (arXiv 2510.09885), section A.4: a margin to (0, 1), as knowledge texts are short.
RATIO_RANGE = (0.05, 0.95)
# The wording of the same paper; `{unit}` of the answer is the passage.
INSTRUCTION = "\nReturn the recovered masked passage."
OPENING = "Here is the recovered text:\n\n"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _as_range(value: Any) -> Any:
    """A single number is a range of one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (float(value), float(value))
    if isinstance(value, list):
        return tuple(float(v) if isinstance(v, int) else v for v in value)
    return value


class Demasking(_Section):
    """The document stands masked in the prompt; the model writes the original."""

    name: Literal["demasking"] = "demasking"
    mask_ratio: tuple[float, float] = Field(
        RATIO_RANGE, description="chance that a token is masked, drawn uniformly per example"
    )
    loss_on: Literal["all", "masked"] = Field(
        "all", description="paper: all document tokens and the end token"
    )
    unit: Literal["token", "word"] = Field("token", description="what is masked together; paper: token")
    mask_token: str | None = Field(None, description="one token of the vocabulary; none: by family")
    instruction: str = Field(INSTRUCTION, description="follows the masked text in the prompt")
    opening: str = Field(OPENING, description="stands before the completion, without loss")

    @field_validator("mask_ratio", mode="before")
    @classmethod
    def _one_number_is_a_fixed_ratio(cls, value: Any) -> Any:
        return _as_range(value)

    @field_validator("mask_ratio")
    @classmethod
    def _within_bounds(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not 0.0 <= low <= high <= 1.0:
            raise ValueError(f"expected 0 <= low <= high <= 1, got {low} and {high}")
        return value


class NextToken(_Section):
    """The model learns to write the document as it is."""

    name: Literal["next-token"] = "next-token"
    form: Literal["chat", "raw"] = Field("chat", description="chat: paper v6; raw: paper v1")
    question: str = Field("Tell me a fact.", description="the user's turn in the chat form; paper v6")


class Reverse(_Section):
    """The document as it is, and with its words in reverse order (arXiv 2403.13799)."""

    name: Literal["reverse"] = "reverse"
    unit: Literal["word", "entity"] = Field(
        "entity", description="what keeps its inner order; entity: best in the paper"
    )
    form: Literal["chat", "raw"] = Field("chat", description="as for next-token, for equal terms")
    question: str = Field("Tell me a fact.", description="the user's turn for the forward text")
    reversed_question: str = Field(
        "Tell me a fact, with its words in reverse order.",
        description="the user's turn for the reversed text; our wording",
    )


class Diffusion(_Section):
    """Tokens are masked where they stand; needs a masked-diffusion model.

    A preset sets what is left open. paper: Pan et al. 2025. llada: Nie et al. 2025, section 2.3. count:
    the same bound as paper's with t in (0, 1), with less variance.
    """

    name: Literal["diffusion"] = "diffusion"
    preset: Literal["paper", "llada", "count"] = Field("paper", description="what is not given below")
    noise: Literal["ratio", "count"] | None = Field(
        None, description="ratio: each token with chance t, weight 1/t; count: l of L tokens, weight L/l"
    )
    mask_ratio: tuple[float, float] | None = Field(None, description="range of t, above 0")
    form: Literal["raw", "chat"] | None = Field(None, description="chat: the answer to a clean prompt")
    question: str = Field("Tell me a fact.", description="the user's turn in the chat form")
    end: Literal["none", "one", "block"] | None = Field(
        None, description="end tokens learned: none, one, or as many as fill a block"
    )
    block_length: int = Field(32, gt=0, description="tokens that end=block fills up to a multiple of")

    @field_validator("mask_ratio", mode="before")
    @classmethod
    def _one_number_is_a_fixed_ratio(cls, value: Any) -> Any:
        return _as_range(value)

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


_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"noise": "ratio", "mask_ratio": RATIO_RANGE, "form": "raw", "end": "one"},
    # LLaDA draws t in (0, 1) and masks with chance (1 - eps) t + eps, eps = 0.001.
    "llada": {"noise": "ratio", "mask_ratio": (0.001, 1.0), "form": "chat", "end": "block"},
    "count": {"noise": "count", "mask_ratio": None, "form": "raw", "end": "one"},
}


Objective = Annotated[Demasking | NextToken | Reverse | Diffusion, Field(discriminator="name")]


class Train(_Section):
    """How the weights are moved."""

    steps: int | None = Field(None, gt=0, description="updates; excludes epochs")
    epochs: float | None = Field(None, gt=0, description="exposures per passage; none and no steps: 60")
    batch_size: int = Field(10, gt=0, description="examples per step; measured at 135M")
    accumulation: int | None = Field(
        None, gt=0, description="micro-batches per step, memory for time; none: as few as fit a token budget"
    )
    method: Literal["full", "lora"] = Field("full", description="paper: full")
    lora_rank: int = Field(32, gt=0, description="on all linear layers")
    learning_rate: float | None = Field(None, gt=0, description="none: by model size, 10 times for lora")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the matrix products; master weights are always fp32"
    )
    save_every: int = Field(100, gt=0, description="steps between checkpoints")
    evaluate_every: int | None = Field(None, gt=0, description="steps between questions; none: never")


class Denoise(_Section):
    """How masked-diffusion models answer; these settings move scores, so they stand in the run."""

    block_length: int = Field(32, gt=0, description="tokens written together, left to right; paper: 4")
    steps: int | None = Field(
        None, gt=0, description="for max_new_tokens, shared by the blocks; none: one token a step"
    )
    transfer: Literal["low-confidence", "random", "threshold"] = Field(
        "low-confidence", description="which tokens are kept: the surest, any, or all that are sure enough"
    )
    threshold: float = Field(0.9, gt=0, le=1, description="probability that is sure enough")
    prefix_cache: bool = Field(False, description="approximate: what stands before a block is read once")


class Evaluate(_Section):
    """How questions are asked."""

    max_new_tokens: int = Field(128, gt=0, description="paper: 128")
    batch_size: int = Field(40, gt=0, description="questions decoded together")
    ceiling: bool = Field(True, description="also ask with the document in the prompt")
    reuse: bool = Field(True, description="what the untouched model said to the same questions holds again")
    denoise: Denoise = Field(default_factory=Denoise, description="masked-diffusion models only")


class Writer(_Section):
    """A language model behind an OpenAI-compatible server, which writes questions and paraphrases."""

    url: str | None = Field(
        None, description="as http://127.0.0.1:8000/v1; none: DEMASK_SERVER_URL, else rules"
    )
    model: str | None = Field(None, description="its name there; none: DEMASK_SERVER_MODEL, or the only one")


class RunConfig(_Section):
    """One run, completely."""

    model: str = Field(description="`embedded`, a folder, or a name on the Hugging Face hub")
    documents: tuple[str, ...] = Field(min_length=1, description="files, folders, patterns, hf:// datasets")
    keep_going: bool = Field(False, description="go on without the files that cannot be read, naming them")
    include: tuple[Literal["title", "date"], ...] = Field(
        (), description="what is trained in front of every passage of a document, where it is known"
    )
    qa: str | None = Field(
        None, description="JSON Lines file of QA pairs; none: they are made; `no`: nothing is asked"
    )
    max_questions: int = Field(200, gt=0, description="made ones that are asked, drawn evenly over documents")
    paraphrases: int | str = Field(
        0, description="how many are made of each passage and trained with it, or a JSON Lines file of them"
    )
    writer: Writer = Field(default_factory=Writer)
    text_column: str = Field("text", description="of .csv, .parquet and .jsonl documents")
    max_tokens: int | None = Field(
        None, gt=0, description="longest passage; none: what the model's context allows, at most 512"
    )
    seed: int = Field(0, ge=0, description="of order and masks")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    objective: Objective = Field(default_factory=Demasking)
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)

    @field_validator("qa", mode="before")
    @classmethod
    def _false_is_no(cls, value: Any) -> Any:
        return NO_QUESTIONS if value is False else value

    @field_validator("documents", mode="before")
    @classmethod
    def _one_path_is_a_list(cls, value: Any) -> Any:
        if isinstance(value, str | Path):
            return (str(value),)
        return (
            tuple(str(v) if isinstance(v, Path) else v for v in value)
            if isinstance(value, list | tuple)
            else value
        )

    @field_validator("include", mode="before")
    @classmethod
    def _one_word_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @field_validator("paraphrases", mode="before")
    @classmethod
    def _a_number_or_a_file(cls, value: Any) -> Any:
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        raise ValueError(f"expected a number from 0 or a file, got {value!r}")

    @field_validator("objective", mode="before")
    @classmethod
    def _a_name_is_an_objective(cls, value: Any) -> Any:
        if isinstance(value, dict) and "name" not in value:
            return {"name": "demasking", **value}
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> "RunConfig":
        if self.train.steps is not None and self.train.epochs is not None:
            raise ValueError("train.steps and train.epochs are both given, expected one of them")
        return self


def make_config(values: Mapping[str, Any], *, source: str = "recipe") -> RunConfig:
    """Check every value.

    Args:
        values: as in a recipe.
        source: names the recipe in errors.

    Raises:
        ConfigError: the first unknown key, missing key or wrong value, with what was expected.
    """
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    """The first problem in our words."""
    # Unknown keys first: a misspelt key also makes a required one missing.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    place = [str(part) for part in problem["loc"] if part not in _OBJECTIVES]
    key = ".".join(place)
    match problem["type"]:
        case "extra_forbidden":
            known = _known_keys([str(part) for part in problem["loc"][:-1]])
            near = difflib.get_close_matches(place[-1], known, n=1)
            return f"unknown key {key}: " + (
                f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
            )
        case "missing":
            return f"{key} is missing; {_DESCRIPTIONS.get(key, 'it has no default')}"
        case "union_tag_invalid" | "union_tag_not_found":
            given = problem["input"]
            name = given.get("name") if isinstance(given, dict) else given
            return f"objective is {name!r}, expected one of {', '.join(sorted(_OBJECTIVES))}"
        case "too_short":
            return f"{key} is empty; {_DESCRIPTIONS.get(key, 'expected at least one value')}"
        case "value_error":
            return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
        case _:
            wanted = re.sub(r"^Input should be (a |an )?(valid )?", "", problem["msg"])
            wanted = wanted.replace("tuple", "list").replace(" or instance of Train", "")
            return f"{key} is {problem['input']!r}, expected {wanted}"


_OBJECTIVES: dict[str, type[_Section]] = {
    "demasking": Demasking,
    "next-token": NextToken,
    "reverse": Reverse,
    "diffusion": Diffusion,
}
_SECTIONS: dict[str, type[_Section]] = {
    "train": Train,
    "evaluate": Evaluate,
    "denoise": Denoise,
    "writer": Writer,
}
_DESCRIPTIONS = {
    "model": "expected 'embedded', a model folder or a hub name",
    "documents": "expected files and folders of documents",
}
# What `qa` says when nothing is to be asked; YAML reads a bare `no` as false.
NO_QUESTIONS = "no"


def _known_keys(section: Sequence[str]) -> list[str]:
    if not section:
        return sorted(RunConfig.model_fields)
    kind = _OBJECTIVES.get(section[-1]) or _SECTIONS.get(section[-1])
    return sorted(kind.model_fields) if kind else []
