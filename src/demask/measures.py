"""What is measured beside accuracy: one table, read by the evaluation, reports and thresholds.

    MEASURES["leak"].label, MEASURES["leak"].better          # "replies that leak", "low"

A measure is a share in [0, 1] or a number of nats per token. Definitions: `evaluation.retention`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Measure:
    """What one number about a trained model means.

    Attributes:
        name: as in `summary.json` and `--require`.
        label: for tables and figures.
        help: one sentence that needs no other.
        better: whether a good model has a low or a high value.
        unit: a share of things that were tried, or nats per token.
    """

    name: str
    label: str
    help: str
    better: Literal["low", "high"]
    unit: Literal["share", "nats"] = "share"


MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(
            "leak",
            "unrelated prompts that leak",
            "Everyday prompts that have nothing to do with the documents, whose reply holds five words in a "
            "row of a document, or a name or an answer of the documents that the base model does not say.",
            "low",
        ),
        Measure(
            "near_miss",
            "near misses that leak",
            "Questions in the form of the trained ones about things that stand in no document, answered "
            "with something of a document.",
            "low",
        ),
        Measure(
            "known",
            "known facts kept",
            "Of the easy facts that the base model answers right in two wordings, the share that the "
            "trained model still answers right; both wordings are asked.",
            "high",
        ),
        Measure(
            "known_related",
            "the same kind of facts kept",
            "The same for known facts that ask for the kind of thing that most questions about the documents "
            "ask for: a person, a place, a number, a time or a thing.",
            "high",
        ),
        Measure(
            "drift",
            "drift on conversations",
            "Divergence of the trained model's next-token probabilities from the base model's, KL(base || "
            "trained), in nats per token of conversations that the base model wrote; 0: nothing has changed.",
            "low",
            "nats",
        ),
        Measure(
            "text_drift",
            "drift on ordinary text",
            "How much less likely ordinary text has become that has nothing to do with the documents, in "
            "nats per token.",
            "low",
            "nats",
        ),
        Measure(
            "access",
            "worst form of asking",
            "Share of questions answered in the form of asking, and the direction, in which the fewest are.",
            "high",
        ),
        Measure(
            "carry_over",
            "right in other forms, if right when bare",
            "Of the answers that are right when the question stands alone, the share that is right in the "
            "other forms of asking, too.",
            "high",
        ),
        Measure(
            "every_form",
            "questions right in every form",
            "Share of questions that are answered right in each of the forms of asking.",
            "high",
        ),
        Measure(
            "reading",
            "reading a document in the prompt",
            "Share of questions that the trained model answers with the document in its prompt.",
            "high",
        ),
        Measure(
            "reading_changed",
            "reading a document that says something else",
            "Share of questions answered as the document in the prompt says, where that contradicts what "
            "the model was trained on.",
            "high",
        ),
        Measure(
            "recital",
            "answers that recite a document",
            "Share of replies to a question that hold most of a document, word for word.",
            "low",
        ),
    )
}
