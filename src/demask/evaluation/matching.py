"""Judge what a model said against the accepted answers: pure functions from text to [0, 1].

    score = score_prediction(prediction, pair)          # one Score
    scores = score_predictions(predictions, pairs)      # all of them, in the order of the pairs

Four metrics, because no single one can be trusted: recall and contains reward a model that recites the
whole passage, exact match punishes one that answers in a sentence. Every metric is called as
`metric(prediction_text, answers)` and takes the best over the accepted answers.

Punctuation is what SQuAD drops (ASCII, `$` and `+` included) and every character of a Unicode
punctuation category (P*), because models write curly quotes and dashes that SQuAD's list misses.
It is deleted, as SQuAD does, so "U.S." is "US" and "1,000" is "1000". Only the em dash becomes a
space: it stands between words without spaces, and "Voss—a founder" names Voss.
Texts are compared in Unicode form NFC, so that an accent matches however it was typed.

Sources: Rajpurkar et al. 2016 (SQuAD v1.1, evaluate-v1.1.py) for normalisation, exact match and
F1; Pan et al. 2025 (arXiv 2510.09885) for ROUGE-1 recall.
"""

import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from demask.errors import DataError
from demask.records import Prediction, QAPair, Score

METRICS = ("contains", "exact_match", "f1", "rouge1_recall")

# SQuAD v1.1.
ARTICLES = frozenset({"a", "an", "the"})
# Pan et al. 2025: the words their recall leaves out; lower case only, as their match is case-sensitive.
RECALL_IGNORES = frozenset(
    {"a", "of", "the", "and", "is", "are", "be", "to", "new", "on", "in", "at", "an", "for"}
)

# These part words, all other punctuation is deleted: em dash, horizontal bar, two- and three-em dash.
_WORD_BREAKS = frozenset("\N{EM DASH}\N{HORIZONTAL BAR}\N{TWO-EM DASH}\N{THREE-EM DASH}")

Judged = TypeVar("Judged", Prediction, Score)


class _Words(NamedTuple):
    """A prediction and one accepted answer, cut into words in the same way."""

    prediction: list[str]
    answer: list[str]


def normalise_answer(text: str) -> str:
    """SQuAD v1.1 normalisation: lower case, no punctuation, no articles, single spaces.

    Differs from SQuAD in what counts as punctuation; the module docstring says how.
    """
    return " ".join(word for word in _split_words(text.lower()) if word not in ARTICLES)


def exact_match(prediction: str, answers: tuple[str, ...]) -> float:
    """1.0 when the prediction is an accepted answer after normalisation, else 0.0.

    Raises:
        DataError: there is no answer, or one is blank; so do the other metrics.
    """
    return _best_over(answers, lambda answer: _is_same(_normal_words(prediction, answer)))


def contains(prediction: str, answers: tuple[str, ...]) -> float:
    """1.0 when an accepted answer stands in the prediction as a run of whole words, else 0.0.

    Both are normalised first. Whole words, so "25" does not contain "5".
    """
    return _best_over(answers, lambda answer: _is_contained(_normal_words(prediction, answer)))


def f1(prediction: str, answers: tuple[str, ...]) -> float:
    """SQuAD token F1: harmonic mean of precision and recall over normalised words, with repeats."""
    return _best_over(answers, lambda answer: _token_f1(_normal_words(prediction, answer)))


def rouge1_recall(prediction: str, answers: tuple[str, ...]) -> float:
    """The paper's accuracy: the share of an answer's distinct words found in the prediction.

    Case-sensitive, without punctuation and the words in `RECALL_IGNORES`. A recited passage
    scores 1 on every question it answers, so report a strict metric beside this one.
    """
    return _best_over(
        answers, lambda answer: _unique_recall(_comparable_words(prediction, answer, RECALL_IGNORES))
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
    return max(judge(answer) for answer in answers)


def _is_same(words: _Words) -> float:
    return float(words.prediction == words.answer)


def _is_contained(words: _Words) -> float:
    length = len(words.answer)
    starts = range(len(words.prediction) - length + 1)
    return float(any(words.prediction[start : start + length] == words.answer for start in starts))


def _token_f1(words: _Words) -> float:
    # 2PR / (P + R) with P = shared / predicted and R = shared / accepted, simplified.
    shared = (Counter(words.prediction) & Counter(words.answer)).total()
    return 2 * shared / (len(words.prediction) + len(words.answer))


def _unique_recall(words: _Words) -> float:
    wanted = set(words.answer)
    return len(wanted & set(words.prediction)) / len(wanted)


def _normal_words(prediction: str, answer: str) -> _Words:
    return _comparable_words(prediction.lower(), answer.lower(), ARTICLES)


def _comparable_words(prediction: str, answer: str, ignored: frozenset[str]) -> _Words:
    """Both texts as words, without punctuation and without those in `ignored`.

    When that leaves nothing of the answer ("The The", "A", "?"), both keep their ignored words,
    and if need be their punctuation: otherwise an empty prediction would match exactly.
    """

    def content_words(text: str) -> list[str]:
        return [word for word in _split_words(text) if word not in ignored]

    for split in (content_words, _split_words, str.split):
        answer_words = split(answer)
        if answer_words:
            return _Words(split(prediction), answer_words)
    raise DataError(f"the accepted answer {answer!r} is blank: remove it or fill it in")


def _split_words(text: str) -> list[str]:
    return "".join(map(_without_punctuation, unicodedata.normalize("NFC", text))).split()


def _without_punctuation(character: str) -> str:
    if character in _WORD_BREAKS:
        return " "
    is_punctuation = character in string.punctuation or unicodedata.category(character).startswith("P")
    return "" if is_punctuation else character
