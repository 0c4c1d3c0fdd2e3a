"""What an objective is: a section of a recipe, what it needs of a model, and how its examples are made.

    make_example = config.objective.example_maker(context, seed=0)
    example = make_example(sample, epoch, variant)

Each objective is one file of this package, and stands in the list of `registry.py`. An example is a pure
function of (seed, sample, epoch, variant): nothing is stored, and a new mask is drawn at every exposure.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, TypeAlias

from demask.objectives.prompts import ChatFormat, encode
from demask.records import IGNORE_INDEX, Example, Sample
from demask.section import Section

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

# Texts of which what an objective found out about them is kept. With more of them an epoch goes through all
# before one comes again; to tokenise, mask and pack one takes 0.2 ms, and to train on it 450 ms on two cores
# (docs/benchmarks.md).
KEPT = 4096

# What an objective learns from: passages of documents; prompts with answers; blocks of running text.
Reads = Literal["documents", "answers", "text"]
ExampleMaker: TypeAlias = Callable[[Sample, int, int], Example]  # of (sample, epoch, variant)


@dataclass(frozen=True)
class Context:
    """How a model reads and writes, made once per model (`models.context`).

    Attributes:
        tokenizer: of the model.
        chat: its template cut into token ids.
        architecture: sizes and kind of the model, without its weights.
        mask_id: the token that stands for a masked one; None where the objective needs none.
    """

    tokenizer: "PreTrainedTokenizerBase"
    chat: ChatFormat
    architecture: "PretrainedConfig"
    mask_id: int | None

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text."""
        return encode(self.tokenizer, text)

    @property
    def needed_mask_id(self) -> int:
        """The mask token, for those that cannot do without.

        Raises:
            ValueError: there is none.
        """
        if self.mask_id is None:
            raise ValueError("this objective needs a mask token")
        return self.mask_id


class Needs(NamedTuple):
    """What an objective needs of a model.

    Attributes:
        diffusion: whether a masked-diffusion model, or else an autoregressive one.
        mask: whether a token stands for masked ones in the prompt.
        mask_token: which, as the recipe names it; None: by family.
    """

    diffusion: bool = False
    mask: bool = False
    mask_token: str | None = None


@dataclass(frozen=True)
class Piece:
    """A run of tokens of one example that share a role."""

    text: str
    role: Literal["prompt", "mask", "masked", "copied"]


@dataclass(frozen=True)
class Preview:
    """One example as the model sees it; pieces in order make up the whole text."""

    id: str
    tokens: int
    scored: int
    pieces: tuple[Piece, ...]


class Objective(Section):
    """What is learned of a sample: the section `objective` of a recipe, by its `name`."""

    reads: ClassVar[Reads] = "documents"
    rate_share: ClassVar[float] = 1.0  # of the default learning rate
    shows_text: ClassVar[bool] = False  # a prompt shows some of the text that is learned

    name: str

    @property
    def needs(self) -> Needs:
        """What the model must have; an autoregressive one without a mask token will do."""
        return Needs()

    @property
    def variants(self) -> int:
        """Examples of one sample in one epoch."""
        return 1

    @property
    def together(self) -> int:
        """Variants that always stand in one step, side by side."""
        return 1

    @property
    def steady(self) -> bool:
        """Whether all examples of a sample in a variant have as many tokens, but for the wording drawn."""
        return True

    @abstractmethod
    def example_length(self, context: Context) -> Callable[[int, int], int]:
        """From the tokens of a prompt and of a completion to those of the longest example of them."""

    @abstractmethod
    def example_maker(self, context: Context, *, seed: int) -> ExampleMaker:
        """A function from (sample, epoch, variant) to an example.

        Args:
            context: of the model that is trained.
            seed: keys the draws, together with sample, epoch and variant.

        Raises:
            ValueError: there is no mask token, but this objective needs one.
            ModelError: the tokenizer cannot tell where words stand, but this objective must know.
        """

    def preview(self, context: Context, example: Example) -> Preview:
        """An example in pieces that each have one role."""
        runs: list[tuple[Literal["prompt", "mask", "masked", "copied"], list[int]]] = []
        for token, label, masked in zip(example.token_ids, example.labels, example.masked, strict=True):
            unscored: Literal["prompt", "mask"] = "mask" if token == context.mask_id else "prompt"
            role = unscored if label == IGNORE_INDEX else "masked" if masked else "copied"
            if not runs or runs[-1][0] != role:
                runs.append((role, []))
            # Of what is masked where it stands, what is to be written there tells more.
            runs[-1][1].append(label if masked and token == context.mask_id else token)
        return Preview(
            id=example.id,
            tokens=len(example.token_ids),
            scored=sum(label != IGNORE_INDEX for label in example.labels),
            pieces=tuple(Piece(str(context.tokenizer.decode(ids)), role) for role, ids in runs),
        )
