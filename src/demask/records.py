"""The records that travel from documents to scores; all frozen.

Files are JSON Lines with these field names as keys:

    QAPair("q1", "d1", "Who founded Orlin?", ("Mara Voss",), "backward")
    -> {"id": "q1", "document_id": "d1", "question": ..., "answers": [...], "direction": "backward"}
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")
Order = Literal["same-order", "reversed"]

# What an example is made of: a document that is to be learned (or a paraphrase or a sample in its place), or
# what the base model itself has written, replayed so that it stays as it is.
Source = Literal["document", "replay"]
SOURCES: tuple[Source, ...] = ("document", "replay")

# Label of a position that carries no loss, as everywhere in PyTorch.
IGNORE_INDEX = -100


@dataclass(frozen=True)
class Document:
    """A source text.

    Attributes:
        id: unique within a run; masks are keyed by it.
        text: what is trained on.
        title: for people, empty when unknown.
        source: where it stands, as `file` or `file line 12`.
        metadata: whatever else the file says about it.
    """

    id: str
    text: str
    title: str = ""
    source: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Passage:
    """A part of a document that fits the context; all passages of a document make up its text.

    Attributes:
        id: unique within a run.
        document_id: the document that it is a part of.
        text: as it stands in the document.
        heading: title or date of the document and the headings that the passage stands under, trained with
            the text; ends with a line feed unless empty.
        entity: what the document is about, as its key `entity` says; empty when it does not say.
        section: where it begins: headings from the highest on, "Shell parameters > Arrays"; empty when the
            document has none.
    """

    id: str
    document_id: str
    text: str
    heading: str = ""
    entity: str = ""
    section: str = ""

    @property
    def training_text(self) -> str:
        """What the model learns to write: heading and text."""
        return self.heading + self.text


@dataclass(frozen=True)
class QAPair:
    """A test item.

    Attributes:
        id: unique within a file.
        document_id: the document that holds the answer; intervals cluster by it.
        question: asked without the document at hand.
        answers: the accepted wordings, the preferred one first.
        direction: `forward` when the answer follows the question's cues in the document,
            `backward` when it precedes them.
        kind: what sort of question, free text, for tables.
        made_by: `rules`, or the language model that wrote it; empty when a person did.
        reworded: the same question in other words, for asking it in several forms; empty: a polite frame is
            put around it.
    """

    id: str
    document_id: str
    question: str
    answers: tuple[str, ...]
    direction: Direction
    kind: str = ""
    made_by: str = ""
    reworded: str = ""


@dataclass(frozen=True)
class Paraphrase:
    """Another wording of a passage, which rival methods train on.

    Attributes:
        id: unique within a file.
        document_id: the document that it rewords.
        text: the whole rewording.
        order: `same-order` when its facts come as in the passage, `reversed` when later ones come first.
        made_by: `rules`, or the language model that wrote it; empty when a person did.
    """

    id: str
    document_id: str
    text: str
    order: Order
    made_by: str = ""


@dataclass(frozen=True)
class Sample:
    """A text to learn and what it answers, as token ids; a passage is a sample without a prompt.

    Attributes:
        id: unique within its data; masks are keyed by it.
        prompt: all that stands before the end of the user's words; empty for a passage or a block of running
            text.
        answer: the assistant's words, the passage or the block; what the chat template puts between and after
            them is no part of a sample.
        text: of a passage, which an objective may look at; else empty.
        entity: what the passage is about; empty when nobody says.
    """

    id: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    text: str = ""
    entity: str = ""


@dataclass(frozen=True)
class Example:
    """Token ids plus which of them carry loss; made by an objective, read by the trainer.

    Attributes:
        id: passage, epoch and variant it was made of.
        token_ids: prompt and completion.
        labels: the token ids to score, unshifted; `IGNORE_INDEX` where there is no loss.
        masked: True where the token at this position is scored and not shown to the model. The other
            scored tokens can be copied from the prompt.
        weight: by which the loss of every scored token is multiplied.
        supervised: tokens that the loss stands for, by whose sum over a step it is divided; None: those
            that are scored. A diffusion example stands for all tokens that might have been masked.
        source: what it is made of; terms of the loss are about one source each.
        row: of its first scored token among the targets of a reference model; the others follow. None: it has
            no targets.
    """

    id: str
    token_ids: tuple[int, ...]
    labels: tuple[int, ...]
    masked: tuple[bool, ...]
    weight: float = 1.0
    supervised: int | None = None
    source: Source = "document"
    row: int | None = None


@dataclass(frozen=True)
class Prediction:
    """What a model said to one question.

    Attributes:
        qa_id: the QA pair that was asked.
        text: what the model said, stripped.
        tokens: how many tokens it took, the end of turn included.
        seconds: the wall-clock share of this prediction in its batch.
        stopped: False when the limit of new tokens cut it short.
        prompt_tokens: of the prompt, the template's own included; None: not known.
    """

    qa_id: str
    text: str
    tokens: int = 0
    seconds: float = 0.0
    stopped: bool = True
    prompt_tokens: int | None = None
