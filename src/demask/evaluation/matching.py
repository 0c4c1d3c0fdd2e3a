"""Judge what a model said against the accepted answers: pure functions from text to [0, 1].

    score = score_prediction(prediction, pair)          # one Score
    scores = score_predictions(predictions, pairs)      # all of them, in the order of the pairs

Four metrics, because no single one can be trusted: recall and contains reward a model that recites the
whole passage, exact match punishes one that answers in a sentence. Every metric is called as
`metric(prediction_text, answers)` and takes the best over the accepted answers.

Words are those of `demask.words`: SQuAD's without punctuation and articles, but signs and separators that
change what is said stay, so "1.5" is not "15", "-5" not "5" and "C++" not "C". "1,200" is "1200", "25.0" is
"25", "U.S." is "US" and "Berlin/Hamburg" names both. Scripts without spaces are compared by character. A
currency, percent or possessive sign that only one of two words has makes no difference.

Sources: Rajpurkar et al. 2016 (SQuAD v1.1, evaluate-v1.1.py) for normalisation, exact match and
F1; Pan et al. 2025 (arXiv 2510.09885) for ROUGE-1 recall.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from demask.errors import DataError
from demask.records import Prediction, QAPair, Score
from demask.words import ARTICLES, Word, find_phrase, keys, read_alike, split_words

METRICS = ("contains", "exact_match", "f1", "rouge1_recall")

# Pan et al. 2025: the words their recall leaves out; lower case only, as their match is case-sensitive.
RECALL_IGNORES = frozenset(
    {"a", "of", "the", "and", "is", "are", "be", "to", "new", "on", "in", "at", "an", "for"}
)

Judged = TypeVar("Judged", Prediction, Score)


def normalise_answer(text: str) -> str:
    """SQuAD v1.1 normalisation, with the words of `demask.words`: no case, punctuation and articles."""
    return " ".join(word.text for word in split_words(text) if word.text not in ARTICLES)


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


def score_prediction(prediction: Prediction, pair: QAPair) -> Score:
    """Judge one prediction by all four metrics.

    Raises:
        DataError: the prediction belongs to another QA pair, or the pair has no usable answer.
    """
    if prediction.qa_id != pair.id:
        raise DataError(
            f"prediction is for QA pair {prediction.qa_id!r}, expected {pair.id!r}: pair them by id"
        )
    try:
        return Score(
            qa_id=pair.id,
            exact_match=exact_match(prediction.text, pair.answers),
            contains=contains(prediction.text, pair.answers),
            f1=f1(prediction.text, pair.answers),
            rouge1_recall=rouge1_recall(prediction.text, pair.answers),
        )
    except DataError as error:
        raise DataError(f"QA pair {pair.id!r}: {error}") from error


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
