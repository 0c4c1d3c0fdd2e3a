"""Every knob of a run, with its unit and the source of its default.

    config = make_config({"model": "embedded", "documents": ["facts/"]})
    config = make_config(load_recipe("recipe.yaml"), source="recipe.yaml")        # recipe_file

What an objective may be told stands with it (`objectives/`).
Unknown keys are errors that name the nearest known key. Model and documents have no default.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from pydantic import Field, field_validator, model_validator

from demask.errors import ConfigError
from demask.objectives.demasking import (
    FAST_INSTRUCTION,
    FAST_OPENING,
    FAST_RATIO,
    FAST_UNIT,
    INSTRUCTION,
    OPENING,
    Demasking,
)
from demask.objectives.masking import RATIO_RANGE
from demask.objectives.objective import Objective
from demask.objectives.registry import objective_of
from demask.recipe.errors import check_values
from demask.recipe.file import merge_values
from demask.section import Section


@dataclass(frozen=True)
class Length:
    """How long a run is whose recipe says neither steps nor epochs.

    Attributes:
        epochs: exposures of each passage.
        least_steps: few documents make short epochs, and the backward direction, which comes last, takes as
            many updates however few the documents (docs/benchmarks.md).
    """

    epochs: float
    least_steps: int


# 56 updates are 28 exposures of ten documents in batches of five, the fewest for which preset `fast` was
# confirmed; 140 are 70 exposures of eight in batches of four, with which `keep` was searched.
DEFAULT_LENGTH = Length(28.0, 56)
REPLAY_LENGTH = Length(40.0, 140)
# Where replay is too light to hold the model, which is then asked behind a gate; the exposures are those with
# which `gated` was confirmed.
LIGHT_REPLAY_LENGTH = Length(35.0, 56)
DEFAULT_BATCH_SIZE = 5
DEFAULT_DECAY = 0.5
# From this weight on replay holds the model to its base. Below, steps are as large as without.
HOLDING_WEIGHT = 0.5
# Of the default learning rate where replay holds the model: at the whole of it a step moves the model
# further than those of the next step bring it back (docs/retention.md). Feed-forward layers alone take more.
REPLAY_RATE_SHARE = 0.14
REPLAY_RATE_SHARE_MLP = 0.4


# Which weights are trained; or a range of layers, or the feed-forward networks of one.
ALL_WEIGHTS = "all"
WEIGHTS = (ALL_WEIGHTS, "no-embedding", "mlp", "mlp-and-values")
_LAYERS = re.compile(r"(?:layers|mlp) (\d+)-(\d+)")


def read_layer_range(weights: str) -> tuple[int, int] | None:
    """The first and the last layer of `layers 8-24` or `mlp 8-24`, from 0; None of any other choice."""
    found = _LAYERS.fullmatch(weights)
    return (int(found[1]), int(found[2])) if found else None


# One of those that learn from documents.
if TYPE_CHECKING:
    DocumentObjective = Objective
else:
    DocumentObjective = objective_of("documents")

# How much is measured beside accuracy, see evaluation.retention.
Measured: TypeAlias = Literal["brief", "quick", "full", "none"]


def default_measure() -> Any:
    """`quick`, unless the machine's owner says otherwise, as for tests that are about something else."""
    return os.environ.get("DEMASK_MEASURE") or "quick"


# How weights are kept in memory that are not trained: in bfloat16, if they are stored so and that pays on the
# device; or in four bits.
Frozen: TypeAlias = Literal["as-stored", "nf4"]
Method: TypeAlias = Literal["full", "lora", "qlora"]
# The one that takes most memory first.
METHODS: tuple[Method, ...] = get_args(Method)


class Train(Section):
    """How the weights are moved."""

    steps: int | None = Field(None, gt=0, description="updates; excludes epochs")
    epochs: float | None = Field(
        None,
        gt=0,
        description="exposures per passage; none and no steps: 28, at least 56 steps; beside replay 40, 140, "
        "where its weight is below 0.5 35, 56",
    )
    batch_size: int = Field(
        DEFAULT_BATCH_SIZE, gt=0, description="examples per step; measured at 135M, paper: 64 at 8B"
    )
    accumulation: int | None = Field(
        None, gt=0, description="micro-batches per step, memory for time; none: as few as fit a token budget"
    )
    method: Method = Field(
        "full", description="lora: an adapter; qlora: an adapter on a base model in four bits; paper: full"
    )
    lora_rank: int = Field(32, gt=0, description="on all linear layers")
    weights: str = Field(
        ALL_WEIGHTS,
        description="which are trained, the others stay: all; no-embedding (and no output layer that is tied "
        "to it); mlp; mlp-and-values; a range of layers from 0, both included, as 'layers 8-24', or of the "
        "feed-forward networks in it, as 'mlp 8-24'; full only",
    )
    learning_rate: float | None = Field(
        None, gt=0, description="none: by model size and batch, 10 times for an adapter"
    )
    decay: float = Field(
        DEFAULT_DECAY,
        ge=0,
        le=1,
        description="share of the steps, the last ones, over which the learning rate falls to zero; paper: 0",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the matmuls; master weights are always fp32"
    )
    save_every: int = Field(100, gt=0, description="steps between checkpoints")
    keep_delta: bool = Field(
        False,
        description="keep beside the model what gives the one before training back, to the bit, for "
        "`demask undo`; as large as the weights that were trained",
    )
    evaluate_every: int | Literal["doubling"] | None = Field(
        None, description="steps between questions; doubling: at 8, 16, 32, ...; none: never"
    )
    stop: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the texts of which either half must be written from the other, after which "
        "training stops; none: never",
    )

    @property
    def has_adapter(self) -> bool:
        """Whether an adapter is trained, and the model's own weights stay as they are."""
        return self.method != "full"

    @property
    def frozen(self) -> Frozen | None:
        """How the base model is kept in memory; None: in float32, as it is trained or multiplied."""
        if self.method == "qlora":
            return "nf4"
        return "as-stored" if self.method == "lora" and self.precision != "fp32" else None

    @property
    def merged(self) -> Frozen | None:
        """The same of the trained model, into which an adapter is merged."""
        return "as-stored" if self.has_adapter and self.precision != "fp32" else None

    @field_validator("evaluate_every", mode="before")
    @classmethod
    def _a_number_or_doubling(cls, value: Any) -> Any:
        a_number = isinstance(value, int) and not isinstance(value, bool) and value > 0
        if a_number or value in ("doubling", None):
            return value
        raise ValueError(f"expected a number of steps above 0, or 'doubling', got {value!r}")

    @field_validator("weights")
    @classmethod
    def _known_weights(cls, value: str) -> str:
        layers = read_layer_range(value)
        if value in WEIGHTS or (layers is not None and layers[0] <= layers[1]):
            return value
        known = f"{', '.join(WEIGHTS)} or a range as 'layers 8-24' or 'mlp 8-24'"
        raise ValueError(f"expected {known}, got {value!r}")

    @model_validator(mode="after")
    def _an_adapter_stands_on_all_layers(self) -> "Train":
        if self.has_adapter and self.weights != ALL_WEIGHTS:
            raise ValueError(
                f"weights is {self.weights!r} and method {self.method!r}, expected all: an adapter leaves "
                "the model's own weights as they are; leave one of the two out"
            )
        if self.method == "qlora" and self.keep_delta:
            raise ValueError(
                "keep_delta is true and method 'qlora', expected false: the base model is in four bits, and "
                "what leads back to it is as large as it is; keep the base model, or use method lora"
            )
        return self


class Denoise(Section):
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


class Evaluate(Section):
    """How questions are asked."""

    max_new_tokens: int = Field(128, gt=0, description="paper: 128")
    batch_size: int = Field(40, gt=0, description="questions decoded together")
    ceiling: bool = Field(True, description="also ask with the document in the prompt")
    shots: int = Field(
        0,
        ge=0,
        description="also ask the trained model with so many answered questions about other documents in "
        "front; 0: do not",
    )
    retrieval: tuple[int, ...] | None = Field(
        None,
        description="also ask with so many passages in the prompt that BM25 finds, as 3 or [1, 3], the base "
        "model and the trained one; none: do not, as each number adds two rounds of questions to three",
    )
    apart: str | None = Field(
        None,
        description="JSON Lines file of further questions, asked before and after and reported by their "
        "kind: what must stay, what follows, what must be gone",
    )
    denoise: Denoise = Field(default_factory=Denoise, description="masked-diffusion models only")

    @field_validator("retrieval", mode="before")
    @classmethod
    def _numbers_of_passages(cls, value: Any) -> Any:
        numbers = [] if value in (None, 0) and value is not False else value
        numbers = [numbers] if isinstance(numbers, int) else numbers
        if isinstance(numbers, list | tuple) and all(type(one) is int and one > 0 for one in numbers):
            return tuple(sorted(set(numbers))) or None
        raise ValueError(f"expected a number of passages, or a list of such as [1, 3], got {value!r}")


class Retain(Section):
    """What holds the model to what it was: conversations of its own, replayed with KL to the base."""

    conversations: int = Field(
        0, ge=0, description="replayed per step beside the examples, drawn by the base model itself; 0: none"
    )
    weight: float = Field(1.0, gt=0, description="of their KL in the loss; that of the documents is 1")
    budget: float | None = Field(
        None,
        gt=0,
        description="drift, nats per token: after training the weights go back towards the base until they "
        "keep it, on a sixteenth of the pool that is not replayed; needs conversations",
    )
    wrapped: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the documents' examples that stand after a system prompt, other turns, "
        "answered questions or another document; needs conversations",
    )
    near_misses: float = Field(
        0.0,
        ge=0,
        le=1,
        description="conversations about near misses of the documents (other names in their places), as a "
        "share of pool and beside it; fewer strangers are answered with a document, and fewer questions "
        "backward; needs conversations",
    )
    pool: int = Field(
        256, ge=0, description="different conversations, drawn once per base model; 0: only those of data"
    )
    data: str | None = Field(
        None,
        description="JSON Lines file of your own conversations that must stay as they are, each once in the "
        "pool beside those that the base model draws; needs conversations",
    )
    gate: bool = Field(
        False,
        description="the base model answers prompts that share no rare words with a passage; in demask only, "
        "as other programs load the trained model alone; needs a pool",
    )


def check_retain(retain: Retain, objective: Objective) -> None:
    """See whether the keys of a section go together, and with the objective.

    Raises:
        ValueError: they do not.
    """
    count = retain.conversations
    if count > retain.pool and retain.data is None:
        raise ValueError(f"retain.conversations is {count}, expected at most retain.pool ({retain.pool})")
    for key in ("wrapped", "near_misses", "budget", "data"):
        if (wanted := getattr(retain, key)) and not count:
            raise ValueError(f"retain.{key} is {wanted} and retain.conversations 0, expected some a step")
    if retain.budget is not None and not retain.pool:
        raise ValueError(
            f"retain.budget is {retain.budget} and retain.pool 0, expected some: drift is measured on "
            "conversations of the base model's own, as those of retain.data are all replayed"
        )
    if retain.gate and not retain.pool:
        raise ValueError(
            "retain.gate is true and retain.pool 0, expected some: which words are rare is told from "
            "conversations of the base model's own"
        )
    if retain.near_misses and not objective.shows_text:
        raise ValueError(
            f"retain.near_misses is {retain.near_misses}, expected 0: objective {objective.name} shows no "
            "documents in its prompts"
        )
    if count and objective.needs.diffusion:
        raise ValueError(
            f"retain.conversations is {count}, expected 0: masked-diffusion models cannot replay yet"
        )
    if retain.gate and objective.needs.diffusion:
        raise ValueError(
            "retain.gate is true, expected false: masked-diffusion models draw no conversations yet"
        )


class Writer(Section):
    """Who writes questions and paraphrases: a language model behind an OpenAI-compatible server, or one here.

    `writer: self` is short for `writer: {by: self}`.
    """

    by: str | None = Field(
        None,
        description="self (the model of the run), another model here, or rules (questions only); none: the "
        "server of url or DEMASK_SERVER_URL, else the model itself if it passes an entrance test, else rules",
    )
    url: str | None = Field(None, description="as http://127.0.0.1:8000/v1; none: DEMASK_SERVER_URL")
    model: str | None = Field(None, description="its name there; none: DEMASK_SERVER_MODEL, or the only one")

    @model_validator(mode="before")
    @classmethod
    def _a_name_says_who(cls, value: Any) -> Any:
        return {"by": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_writer(self) -> "Writer":
        if self.by is not None and (self.url or self.model) is not None:
            raise ValueError(
                f"writer.by is {self.by!r} and writer.url or writer.model is given, expected one writer; "
                "leave the other out"
            )
        return self


class RunConfig(Section):
    """One run, completely."""

    model: str = Field(
        description="`embedded`, a folder, a name on the Hugging Face hub, a GGUF file or an adapter"
    )
    documents: tuple[str, ...] = Field(min_length=1, description="files, folders, patterns, hf:// datasets")
    keep_going: bool = Field(False, description="go on without the files that cannot be read, naming them")
    duplicates: Literal["keep-first", "keep-all"] = Field(
        "keep-first",
        description="which are read of files that say the same in several formats, as HTML beside PDF",
    )
    only: tuple[str, ...] = Field(
        (),
        description="headings, or parts of them in whole words, as 'Chapter 3': of each document only the "
        "sections below them are learned; none: all",
    )
    include: tuple[Literal["section", "title", "date"], ...] = Field(
        ("section",),
        description="what is trained in front of every passage, where it is known; section: the headings "
        "that it stands under, of a document that is cut, at its headings first",
    )
    prefer: Literal["newest", "both"] | None = Field(
        None,
        description="where documents contradict each other; newest: train what the newest says (by its date, "
        "a date in its text, or the time of its file); both: train both; none: stop",
    )
    qa: str | None = Field(
        None, description="JSON Lines file of QA pairs; none: they are made; `no`: nothing is asked"
    )
    max_questions: int = Field(200, gt=0, description="made ones that are asked, drawn evenly over documents")
    paraphrases: int | str = Field(
        0,
        description="how many the language model of `writer` makes of each passage, to train with it; or a "
        "JSON Lines file of them",
    )
    writer: Writer = Field(default_factory=Writer)
    text_column: str = Field("text", description="of .csv, .parquet and .jsonl documents")
    max_tokens: int | None = Field(
        None, gt=0, description="longest passage; none: what the model's context allows, at most 512"
    )
    seed: int = Field(0, ge=0, description="of order and masks")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    measure: Measured = Field(
        default_factory=default_measure,
        validate_default=True,
        description="leaks, known facts, drift and forms of asking; brief: a third, full: more of each, and "
        "benchmark tasks; not given: DEMASK_MEASURE, else quick",
    )
    objective: DocumentObjective = Field(default_factory=Demasking)
    train: Train = Field(default_factory=Train)
    retain: Retain = Field(default_factory=Retain)
    evaluate: Evaluate = Field(default_factory=Evaluate)

    @property
    def held(self) -> bool:
        """Whether replay holds the model to its base, so that steps are small and many."""
        return self.retain.conversations > 0 and self.retain.weight >= HOLDING_WEIGHT

    @property
    def length(self) -> Length:
        """How long is trained, where the recipe does not say."""
        if self.held:
            return REPLAY_LENGTH
        return LIGHT_REPLAY_LENGTH if self.retain.conversations else DEFAULT_LENGTH

    @property
    def rate_share(self) -> float:
        """Of the default learning rate, what this objective takes, and less of it where replay holds on."""
        share = self.objective.rate_share
        if self.held:
            share *= REPLAY_RATE_SHARE_MLP if self.train.weights == "mlp" else REPLAY_RATE_SHARE
        return share

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

    @field_validator("only", mode="before")
    @classmethod
    def _one_heading_is_a_list(cls, value: Any) -> Any:
        wanted = (value,) if isinstance(value, str) else value or ()
        if isinstance(wanted, list | tuple) and all(isinstance(one, str) and one.strip() for one in wanted):
            return tuple(wanted)
        raise ValueError(f"expected texts of headings, as 'Chapter 3', got {value!r}")

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

    @model_validator(mode="after")
    def _what_is_retained_goes_together(self) -> "RunConfig":
        check_retain(self.retain, self.objective)
        return self

    @model_validator(mode="after")
    def _a_stop_has_masks_to_probe_with(self) -> "RunConfig":
        objective = self.objective
        able = isinstance(objective, Demasking) and objective.needs.mask
        if self.train.stop is not None and not able:
            raise ValueError(
                "train.stop needs objective demasking with a mask token; leave it out, or set steps"
            )
        return self

    @model_validator(mode="after")
    def _copies_fill_a_step(self) -> "RunConfig":
        copies = self.objective.together
        if self.train.batch_size % copies:
            raise ValueError(
                f"train.batch_size is {self.train.batch_size}, expected a multiple of objective.copies, "
                f"which is {copies}"
            )
        return self


def make_config(values: Mapping[str, Any], *, source: str = "recipe") -> RunConfig:
    """Check every value.

    Args:
        values: as in a recipe; `preset` names values of `PRESETS` that hold where nothing else is said.
        source: names the recipe in errors.

    Raises:
        ConfigError: the first unknown key, missing key or wrong value, with what was expected.
    """
    return make_stored_config(_over_preset(values, source), source=source)


def make_stored_config(values: Mapping[str, Any], *, source: str) -> RunConfig:
    """Check every value; of no preset, as in a run folder, which has all that was known when the run began.

    Args:
        values: by key.
        source: names the folder in errors.

    Raises:
        ConfigError: the first unknown key, missing key or wrong value, with what was expected.
    """
    return check_values(
        RunConfig,
        values,
        source=source,
        required=_REQUIRED,
        former=_FORMER,
        also=("preset", "launch", "track"),
    )


_FAST_OBJECTIVE: dict[str, Any] = {
    "unit": FAST_UNIT,
    "mask_ratio": FAST_RATIO,
    "loss_on": "all",
    "entity": "as-others",
    "instruction": FAST_INSTRUCTION,
    "opening": FAST_OPENING,
    "fragments": 0.0,
    "copies": 1,
    "complementary": False,
    "spans": 0.0,
}
# `paper`: masked fine-tuning of Pan et al. 2025. `fast`: facts as quickly as they go in (docs/benchmarks.md).
# `gated`: facts as quickly, to be asked in any form, behind a gate that keeps the rest; alone it recites.
# `keep`: small steps for long, with what the model is replayed beside them (docs/retention.md).
DEFAULT_PRESET = "keep"
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "objective": {
            "unit": "token",
            "mask_ratio": RATIO_RANGE,
            "loss_on": "all",
            "entity": "as-others",
            "instruction": INSTRUCTION,
            "opening": OPENING,
            "fragments": 0.0,
            "copies": 1,
            "complementary": False,
            "spans": 0.0,
        },
        "train": {"method": "full", "epochs": 60.0, "batch_size": 10, "decay": 0.0},
    },
    "fast": {
        "objective": _FAST_OBJECTIVE,
        "train": {"method": "full", "batch_size": DEFAULT_BATCH_SIZE, "decay": DEFAULT_DECAY},
    },
    "gated": {
        "objective": {**_FAST_OBJECTIVE, "fragments": 0.5},
        "train": {"method": "full", "weights": ALL_WEIGHTS, "batch_size": 8, "decay": 0.9},
        "retain": {"conversations": 2, "weight": 0.3, "pool": 384, "wrapped": 0.35, "gate": True},
    },
    "keep": {
        "objective": {**_FAST_OBJECTIVE, "fragments": 0.75},
        "train": {"method": "full", "weights": "mlp", "batch_size": 4, "decay": 0.9},
        "retain": {"conversations": 8, "weight": 3.0, "pool": 1024, "wrapped": 0.35, "gate": True},
    },
}


def _over_preset(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The values put over those of the preset that they name, or of the default one."""
    given = dict(values)
    objective = given.get("objective", {})
    if isinstance(objective, str):
        given["objective"] = objective = {"name": objective}
    method = objective.get("name", "demasking") if isinstance(objective, Mapping) else None
    name = given.pop("preset", None)
    if name is None:
        # A masked-diffusion model cannot replay.
        name = "fast" if method == "diffusion" else os.environ.get("DEMASK_PRESET") or DEFAULT_PRESET
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"{source}: preset is {name!r}, expected one of {', '.join(PRESETS)}")
    under = dict(PRESETS[name])
    if method != "demasking":  # the preset's objective is
        under.pop("objective", None)
    train = given.get("train")
    if isinstance(train, Mapping):
        under["train"] = _leave_out_what_is_decided(under.get("train", {}), train)
    retain = given.get("retain")
    if isinstance(retain, Mapping) and retain.get("conversations") == 0:
        under.pop("retain", None)  # all of it needs some
    elif isinstance(retain, Mapping) and retain.get("pool") == 0:  # the gate needs what the base model writes
        under["retain"] = {key: value for key, value in under.get("retain", {}).items() if key != "gate"}
    return merge_values(under, given)


def _leave_out_what_is_decided(under: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The preset's training without what contradicts what is given."""
    left_out: set[str] = set()
    if given.get("steps") is not None or given.get("epochs") is not None:
        left_out |= {"steps", "epochs"}
    if given.get("method") in ("lora", "qlora"):  # an adapter leaves the model's own weights as they are
        left_out |= {"weights"}
    return {key: value for key, value in under.items() if key not in left_out}


_REQUIRED = {
    "model": "expected 'embedded', a model folder or a hub name",
    "documents": "expected files and folders of documents",
}
# Keys of earlier releases, by objective, and what says the same now.
_FORMER = {
    "next-token.form": "raw text is 'question: null'",
    "reverse.form": "raw text is 'questions: null'",
    "reverse.question": "it is the first of 'questions', a list of two",
    "reverse.reversed_question": "it is the second of 'questions', a list of two",
    "diffusion.block_length": "blocks have 32 tokens",
    "evaluate.reuse": "answers are kept; with another DEMASK_CACHE they are asked for again",
}
# What `qa` says when nothing is to be asked; YAML reads a bare `no` as false.
NO_QUESTIONS = "no"
