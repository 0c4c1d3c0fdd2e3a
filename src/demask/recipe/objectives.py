"""What may be said of an objective in a recipe, and the wordings of its prompts.

Demasking(unit="entity", mask_ratio=0.5, copies=2)
Reverse(questions=None)                             # raw text
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

# Pan et al. 2025 (arXiv 2510.09885), section A.4: a margin to (0, 1), as knowledge texts are short.
RATIO_RANGE = (0.05, 0.95)
# The wording of the same paper; `{unit}` of the answer is the passage.
INSTRUCTION = "\nReturn the recovered masked passage."
OPENING = "Here is the recovered text:\n\n"
# Ours, the preset `fast`: about as much learned from half of the tokens (docs/benchmarks.md).
FAST_UNIT: Literal["word"] = "word"
FAST_RATIO = (0.4, 0.95)
FAST_INSTRUCTION = "\nRestore."
FAST_OPENING = ""
# The paper's, and ours beside it: short and long, as questions and as orders, with and without "text".
INSTRUCTIONS = (
    INSTRUCTION,
    "\nWrite the passage above again, with every gap filled in.",
    "\nSome words of this text are missing. Give the whole text.",
    "\nWhat did it say before parts of it were hidden?",
    "\nRestore the original.",
    "\nComplete what stands above and write it out in full.",
    "\nPlease put back what was left out, and repeat everything else as it stands.",
    "\nThis is a damaged copy. What is the original?",
)
VARIED = "varied"  # stands for all of them in a recipe
# In place of a mask token: an ordinary token at random, so that the prompt does not say what is hidden.
RANDOM_TOKEN = "<random>"
# Pan et al. 2025, version 6.
QUESTION = "Tell me a fact."
REVERSED_QUESTION = "Tell me a fact, with its words in reverse order."  # ours


class Section(BaseModel):
    """Keys of a recipe that stand together: none besides them, none of another type, none changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def read_range(value: Any) -> Any:
    """A range of a recipe: a single number is a range of one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (float(value), float(value))
    if isinstance(value, list):
        return tuple(float(v) if isinstance(v, int) else v for v in value)
    return value


def _check_range(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    if not 0.0 <= low <= high <= 1.0:
        raise ValueError(f"expected 0 <= low <= high <= 1, got {low} and {high}")
    return value


# Chances between which one is drawn.
RatioRange = Annotated[tuple[float, float], BeforeValidator(read_range), AfterValidator(_check_range)]


class ObjectiveSection(Section):
    """What is learned of a document."""

    rate_share: ClassVar[float] = 1.0  # of the default learning rate


class Demasking(ObjectiveSection):
    """The document stands masked in the prompt; the model writes the original."""

    name: Literal["demasking"] = "demasking"
    mask_ratio: RatioRange = Field(
        FAST_RATIO,
        description="chance that a token is masked, or a range of it, drawn uniformly per example; "
        "paper: 0.05 to 0.95",
    )
    loss_on: Literal["all", "masked"] = Field(
        "all", description="paper: all document tokens and the end token"
    )
    unit: Literal["token", "word", "entity"] = Field(
        FAST_UNIT, description="what is masked together; entity: names whole, all else by words; paper: token"
    )
    mask_token: str | None = Field(
        None, description="one token of the vocabulary; none: by family; <random>: another one each time"
    )
    entity: Literal["as-others", "never", "always"] = Field(
        "as-others", description="whether what the document is about (its key `entity`) is masked"
    )
    instruction: str | tuple[str, ...] = Field(
        FAST_INSTRUCTION,
        description="follows the masked text; of several, or of ours (`varied`), one is drawn",
    )
    opening: str = Field(
        FAST_OPENING, description="stands before the completion, without loss; none: nothing does"
    )
    copies: int = Field(
        1, gt=0, description="masked copies of a passage in the same step; each counts as an exposure"
    )

    @property
    def wordings(self) -> tuple[str, ...]:
        """The instructions that one is drawn of."""
        return (self.instruction,) if isinstance(self.instruction, str) else self.instruction

    @field_validator("instruction", mode="before")
    @classmethod
    def _a_text_or_several(cls, value: Any) -> Any:
        if isinstance(value, str):
            return INSTRUCTIONS if value == VARIED else value
        if isinstance(value, list | tuple) and value and all(isinstance(text, str) for text in value):
            return tuple(value)
        raise ValueError(f"expected a text, a list of texts or '{VARIED}', got {value!r}")


class NextToken(ObjectiveSection):
    """The model learns to write the document as it is."""

    # Searched on ten people of NameDescription, full and LoRA (docs/benchmarks.md): at half of demasking's
    # rate it answers nearly all forward, at the same rate little more than half.
    rate_share: ClassVar[float] = 0.5

    name: Literal["next-token"] = "next-token"
    question: str | None = Field(
        QUESTION, description="the user's turn, paper v6; none: raw text between BOS and end token, paper v1"
    )


class Reverse(ObjectiveSection):
    """The document as it is, and with its words in reverse order (arXiv 2403.13799)."""

    rate_share: ClassVar[float] = NextToken.rate_share  # not searched; it writes texts as next-token does

    name: Literal["reverse"] = "reverse"
    unit: Literal["word", "entity"] = Field(
        "entity", description="what keeps its inner order; entity: best in the paper"
    )
    questions: tuple[str, str] | None = Field(
        (QUESTION, REVERSED_QUESTION),
        description="the user's turns for the text and for the reversed text; none: raw text",
    )

    @field_validator("questions", mode="before")
    @classmethod
    def _two_texts_or_none(cls, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, list | tuple) and [type(text) for text in value] == [str, str]:
            return tuple(value)
        raise ValueError(f"expected two, for the text and for the reversed text, or none; got {value!r}")


class Diffusion(ObjectiveSection):
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
        return {**_DIFFUSION_PRESETS.get(values.get("preset", "paper"), {}), **filled}

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


_DIFFUSION_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"noise": "ratio", "mask_ratio": RATIO_RANGE, "form": "raw", "end": "one"},
    # LLaDA draws t in (0, 1) and masks with chance (1 - eps) t + eps, eps = 0.001.
    "llada": {"noise": "ratio", "mask_ratio": (0.001, 1.0), "form": "chat", "end": "block"},
    "count": {"noise": "count", "mask_ratio": None, "form": "raw", "end": "one"},
}


Objective = Annotated[Demasking | NextToken | Reverse | Diffusion, Field(discriminator="name")]
