"""What is measured: one table of metrics, read by scoring, reports, thresholds and comparisons.

    METRICS["f1"].function("It was Mara Voss.", ("Mara Voss",))   # one answer judged, in [0, 1]
    scores = score_predictions(predictions, pairs)                # all of them, in the order of the pairs
    MEASURES["leak"].label, MEASURES["leak"].better               # of a model as a whole

Several metrics, because no single one can be trusted: recall and contains reward a model that recites the
whole passage, exact match punishes one that answers in a sentence. Every metric takes the best over the
accepted answers.

Words are those of `demask.words`: SQuAD's without punctuation and articles, but signs and separators that
change what is said stay, so "1.5" is not "15", "-5" not "5" and "C++" not "C". "1,200" is "1200", "25.0" is
"25", "U.S." is "US" and "Berlin/Hamburg" names both. Scripts without spaces are compared by character. A
currency, percent or possessive sign that only one of two words has makes no difference.

Sources: Rajpurkar et al. 2016 (SQuAD v1.1, evaluate-v1.1.py) for normalisation, exact match and
F1; Pan et al. 2025 (arXiv 2510.09885) for ROUGE-1 recall.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from demask.errors import DataError
from demask.records import Prediction, QAPair
from demask.words import Word, find_phrase, keys, read_alike

# Of headlines, figures and thresholds: strict about the answer, lenient about what stands around it.
HEADLINE = "contains"

# Pan et al. 2025: the words their recall leaves out; lower case only, as their match is case-sensitive.
RECALL_IGNORES = frozenset(
    {"a", "of", "the", "and", "is", "are", "be", "to", "new", "on", "in", "at", "an", "for"}
)


@dataclass(frozen=True)
class Metric:
    """How one answer is judged.

    Attributes:
        name: as in `scores.jsonl`, `summary.json` and `--require`.
        function: from a prediction's text and the accepted answers to a score in [0, 1].
        label: for tables and figures.
        help: what it says, in a sentence or two that need no others.
    """

    name: str
    function: Callable[[str, tuple[str, ...]], float]
    label: str
    help: str


@dataclass(frozen=True)
class Score:
    """One prediction judged.

    Attributes:
        qa_id: the QA pair that was asked.
        values: by name of the metric, each in [0, 1].
    """

    qa_id: str
    values: Mapping[str, float]

    @property
    def right(self) -> bool:
        """Whether the question counts as answered, by the metric of headlines."""
        return self.values[HEADLINE] >= 1

    def as_row(self) -> dict[str, str | float]:
        """As it stands in a file of scores."""
        return {"qa_id": self.qa_id, **self.values}


def read_score(row: Mapping[str, Any]) -> Score:
    """What `Score.as_row` wrote, perhaps among other keys and before a metric was added.

    Raises:
        KeyError: the id or the metric of headlines is missing.
    """
    known = {name: row[name] for name in METRICS if name in row}
    return Score(row["qa_id"], {HEADLINE: row[HEADLINE], **known})


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval.

    Attributes:
        value: a share in [0, 1], or nats per token.
        low: lower end of the interval.
        high: upper end of the interval.
        n: questions, prompts or tokens that it stands for.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Change:
    """A mean difference of scores on the same questions, after minus before.

    Attributes:
        difference: the mean, in [-1, 1].
        low: lower end of the 95% interval, in [-1, difference].
        high: upper end of the interval, in [difference, 1].
        p_value: two-sided, of no difference; see `statistics.compare_paired`.
        n: how many questions it averages.
        documents: how many documents they come from.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    documents: int


Judged = TypeVar("Judged", Prediction, Score)


def exact_match(prediction: str, answers: tuple[str, ...]) -> float:
    """1.0 when the prediction is an accepted answer after normalisation, else 0.0.

    Raises:
        DataError: there is no answer, or one is blank; so do the other metrics.
    """
    return _best_over(answers, lambda answer: _best_reading(_is_same, prediction, answer))


def contains(prediction: str, answers: tuple[str, ...]) -> float:
    """1.0 when an accepted answer stands in the prediction as a run of whole words, else 0.0.

    Both are normalised first. Whole words, so "25" does not contain "5".
    """
    return _best_over(answers, lambda answer: float(find_phrase(prediction, answer) is not None))


def f1(prediction: str, answers: tuple[str, ...]) -> float:
    """SQuAD token F1: harmonic mean of precision and recall over normalised words, with repeats."""
    return _best_over(answers, lambda answer: _best_reading(_token_f1, prediction, answer))


def rouge1_recall(prediction: str, answers: tuple[str, ...]) -> float:
    """The paper's accuracy: the share of an answer's distinct words found in the prediction.

    Case-sensitive, without punctuation and the words in `RECALL_IGNORES`. A recited passage
    scores 1 on every question it answers, so report a strict metric beside this one.
    """
    return _best_over(
        answers,
        lambda answer: max(
            _unique_recall(there, wanted)
            for there, wanted in read_alike(prediction, answer, ignored=RECALL_IGNORES, keep_case=True)
        ),
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "contains",
            contains,
            "contains",
            "1 when an accepted answer stands in the prediction as whole words, else 0; case, articles and "
            "punctuation that says nothing are ignored. “25”, “1.5” and “-5” do not contain “5”. This is the "
            "metric of headline and figures. It does not punish a model that recites the passage around the "
            "answer; exact match and F1 do.",
        ),
        Metric(
            "exact_match",
            exact_match,
            "exact match",
            "1 when the prediction is an accepted answer and nothing else, after the same normalisation.",
        ),
        Metric(
            "f1",
            f1,
            "F1",
            "Harmonic mean of precision and recall over the words of prediction and answer (SQuAD v1.1).",
        ),
        Metric(
            "rouge1_recall",
            rouge1_recall,
            "ROUGE-1 recall",
            "Share of the answer’s words that the prediction contains, as the demasking paper (arXiv "
            "2510.09885) reports it; a model that recites the whole passage scores high, so read it beside "
            "the others.",
        ),
    )
}


def score_prediction(prediction: Prediction, pair: QAPair) -> Score:
    """Judge one prediction by every metric.

    Raises:
        DataError: the prediction belongs to another QA pair, or the pair has no usable answer.
    """
    if prediction.qa_id != pair.id:
        raise DataError(
            f"prediction is for QA pair {prediction.qa_id!r}, expected {pair.id!r}: pair them by id"
        )
    try:
        values = {name: metric.function(prediction.text, pair.answers) for name, metric in METRICS.items()}
    except DataError as error:
        raise DataError(f"QA pair {pair.id!r}: {error}") from error
    return Score(pair.id, values)


def score_predictions(predictions: Sequence[Prediction], pairs: Sequence[QAPair]) -> list[Score]:
    """Judge every prediction; scores come in the order of the pairs.

    Raises:
        DataError: predictions and pairs do not match one to one. A pair without a prediction is
            an error and not a score of 0, which would look like a wrong answer.
    """
    ordered = align_with_pairs(predictions, pairs)
    return [score_prediction(prediction, pair) for prediction, pair in zip(ordered, pairs, strict=True)]


def align_with_pairs(records: Sequence[Judged], pairs: Sequence[QAPair]) -> list[Judged]:
    """Put predictions or scores into the order of their QA pairs.

    Raises:
        DataError: a pair or a record occurs twice, a record's pair is unknown, or a pair has no record.
    """
    by_id = {record.qa_id: record for record in records}
    known = {pair.id for pair in pairs}
    kind = type(records[0]).__name__.lower() if records else "record"
    _refuse_any(_repeated(pair.id for pair in pairs), "QA pair id occurs twice: give each its own")
    _refuse_any(_repeated(r.qa_id for r in records), f"QA pair has two {kind}s: keep one")
    _refuse_any(sorted(by_id.keys() - known), f"{kind} belongs to no known QA pair: use the same file")
    _refuse_any(sorted(known - by_id.keys()), f"QA pair has no {kind}: ask the model again")
    return [by_id[pair.id] for pair in pairs]


def _repeated(ids: Iterable[str]) -> list[str]:
    return [id for id, count in Counter(ids).items() if count > 1]


def _refuse_any(ids: Sequence[str], problem: str) -> None:
    if ids:
        raise DataError(f"{problem} ({len(ids)} in all, the first is {ids[0]!r})")


def _best_over(answers: tuple[str, ...], judge: Callable[[str], float]) -> float:
    if not answers:
        raise DataError("there is no accepted answer, expected at least one: fill in 'answers'")
    for answer in answers:
        if not answer.strip():
            raise DataError(f"the accepted answer {answer!r} is blank: remove it or fill it in")
    return max(judge(answer) for answer in answers)


def _best_reading(
    judge: Callable[[Sequence[Word], Sequence[Word]], float], prediction: str, answer: str
) -> float:
    return max(judge(there, wanted) for there, wanted in read_alike(prediction, answer))


def _is_same(there: Sequence[Word], wanted: Sequence[Word]) -> float:
    return float(keys(there) == keys(wanted))


def _token_f1(there: Sequence[Word], wanted: Sequence[Word]) -> float:
    # 2PR / (P + R) with P = shared / predicted and R = shared / accepted, simplified.
    shared = (Counter(keys(there)) & Counter(keys(wanted))).total()
    return 2 * shared / (len(there) + len(wanted))


def _unique_recall(there: Sequence[Word], wanted: Sequence[Word]) -> float:
    distinct = set(keys(wanted))
    return len(distinct & set(keys(there))) / len(distinct)


# What is measured of a model as a whole, beside accuracy


@dataclass(frozen=True)
class Shown:
    """A reply that says more than a number.

    Attributes:
        measure: `leak` or `near_miss`.
        prompt: what was asked.
        reply: what the trained model said.
        found: the words of a document that gave it away.
    """

    measure: str
    prompt: str
    reply: str
    found: str


@dataclass(frozen=True)
class Retention:
    """What else training changed, as in `retention.json`.

    Attributes:
        suite: version, size and fingerprint of the prompts.
        measures: by name, as in `MEASURES`; those that could not be measured are missing.
        base: the same of the base model, where it has one: reading with and without a changed document.
        access: by form of asking, then direction; the bare question first.
        lengths: median words of a reply to a question: `after`, and of the base with the document at hand
            (`ceiling`).
        related: the kind of thing that the known facts of `known_related` ask for.
        shown: some replies that leak.
        missing: what was not measured, and why.
        ungated: measures of the trained model without the gate of its run; empty where that has none.
    """

    suite: Mapping[str, Any]
    measures: Mapping[str, Estimate]
    base: Mapping[str, Estimate]
    access: Mapping[str, Mapping[str, Estimate]]
    lengths: Mapping[str, float]
    related: str
    shown: tuple[Shown, ...]
    missing: tuple[str, ...] = ()
    ungated: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """What one number about a trained model means; `evaluation.retention` takes it.

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


MEASURES: dict[str, Measure] = {
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
