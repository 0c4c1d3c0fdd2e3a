"""The scorers: what is right scores 1, what only looks right does not."""

# ruff: noqa: RUF001 - curly quotes and dashes are what is tested.

import unicodedata
from collections.abc import Callable

import pytest

from demask.errors import DataError
from demask.evaluation import matching
from demask.evaluation.matching import (
    METRICS,
    align_with_pairs,
    contains,
    exact_match,
    f1,
    normalise_answer,
    rouge1_recall,
    score_prediction,
    score_predictions,
)
from demask.records import Prediction, QAPair, Score

Metric = Callable[[str, tuple[str, ...]], float]

every_metric = pytest.mark.parametrize("metric", [getattr(matching, name) for name in METRICS], ids=METRICS)

PASSAGE = "Mara Voss, a botanist, founded the town of Orlin in 1987 near Lake Tehn."


def make_pair(id: str = "q1", answers: tuple[str, ...] = ("Mara Voss",)) -> QAPair:
    return QAPair(id, "d1", "Who founded Orlin?", answers, "backward")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat's\tpyjamas!", "cats pyjamas"),
        ("A theatre, an anchor", "theatre anchor"),
        ("U.S. $1,000", "us 1000"),
        ("“Voss’s” garden…", "vosss garden"),
        ("1990–1995", "19901995"),
        ("Voss—the founder", "voss founder"),
        ("«Żółw»\u00a0¿no?", "żółw no"),
        ("The The", ""),
    ],
)
def test_normalisation_is_squads_with_unicode_punctuation(text: str, normal: str) -> None:
    assert normalise_answer(text) == normal


@every_metric
@pytest.mark.parametrize(
    "answer",
    ["Mara Voss", "the U.S.", "5", "The The", "A", "to be", "…", "+", "“Café–Noir”", "a new one—for the"],
)
def test_an_accepted_answer_scores_one(metric: Metric, answer: str) -> None:
    assert metric(answer, ("something else", answer)) == 1.0


@every_metric
@pytest.mark.parametrize("answer", ["Mara Voss", "The The", "A", "…"])
def test_an_empty_prediction_scores_zero(metric: Metric, answer: str) -> None:
    assert metric("", (answer,)) == 0.0


@every_metric
@pytest.mark.parametrize(("prediction", "answer"), [("25", "5"), ("5", "25"), ("Orlinda", "Orlin")])
def test_a_substring_is_not_a_match(metric: Metric, prediction: str, answer: str) -> None:
    assert metric(prediction, (answer,)) == 0.0


@every_metric
def test_the_best_accepted_answer_counts(metric: Metric) -> None:
    assert metric("Orlin", ("Mara Voss", "Orlin", "Tehn")) == 1.0


@every_metric
def test_punctuation_never_decides(metric: Metric) -> None:
    assert metric("“O’Hara!”", ("O'Hara",)) == metric("O'Hara", ("‘O’Hara’…",)) == 1.0


@every_metric
def test_an_accent_matches_however_it_was_typed(metric: Metric) -> None:
    assert metric(unicodedata.normalize("NFD", "Café Zoë"), ("Café Zoë",)) == 1.0


@every_metric
@pytest.mark.parametrize("answers", [(), ("",), ("Mara Voss", " \n")])
def test_an_answer_that_says_nothing_is_an_error(metric: Metric, answers: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="answer"):
        metric("Mara Voss", answers)


def test_exact_match_ignores_case_articles_and_punctuation_but_not_more() -> None:
    assert exact_match("the mara  voss.", ("Mara Voss",)) == 1.0
    assert exact_match("It was Mara Voss.", ("Mara Voss",)) == 0.0


def test_contained_words_must_stand_together_and_in_order() -> None:
    assert contains("It was Mara Voss, in 1987.", ("Mara Voss",)) == 1.0
    assert contains("Voss—Mara Voss—founded it", ("Mara Voss",)) == 1.0
    assert contains("Mara Lena Voss", ("Mara Voss",)) == 0.0
    assert contains("Voss Mara", ("Mara Voss",)) == 0.0


def test_an_answer_made_of_articles_is_looked_for_as_it_stands() -> None:
    assert contains("My band is The The.", ("The The",)) == 1.0
    assert contains("The band plays the song", ("The The",)) == 0.0
    assert contains("Vitamin A!", ("A",)) == 1.0
    assert contains("Vitamin C", ("A",)) == 0.0


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    # Two of four predicted words are right, two of three accepted words are found.
    assert f1("Mara Voss of Orlin", ("Dr Mara Voss",)) == pytest.approx(
        2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3)
    )


def test_f1_is_symmetric_and_counts_repeats() -> None:
    one, other = "north north east", "north east east east"
    assert f1(one, (other,)) == f1(other, (one,)) == pytest.approx(4 / 7)


def test_recall_is_the_share_of_distinct_content_words() -> None:
    # Of the answer's {botanist, Voss, Orlin}, two are found; "the", "of", "in" and repeats do not count.
    assert rouge1_recall("Voss in the Orlin", ("the botanist Voss, Voss of Orlin",)) == pytest.approx(2 / 3)


def test_recall_is_case_sensitive_and_strict_metrics_are_not() -> None:
    assert rouge1_recall("mara voss", ("Mara Voss",)) == 0.0
    assert exact_match("mara voss", ("Mara Voss",)) == 1.0


def test_recall_rewards_a_recited_passage_and_exact_match_does_not() -> None:
    assert rouge1_recall(PASSAGE, ("Orlin, a town of Mara Voss",)) == 1.0
    assert exact_match(PASSAGE, ("Orlin, a town of Mara Voss",)) == 0.0
    assert f1(PASSAGE, ("Orlin, a town of Mara Voss",)) < 0.7


def test_recall_of_ignored_words_only_falls_back_to_those_words() -> None:
    assert rouge1_recall("to be, or not to be", ("to be",)) == 1.0
    assert rouge1_recall("or not", ("to be",)) == 0.0


def test_a_score_holds_every_metric() -> None:
    score = score_prediction(Prediction("q1", "It was Mara Voss."), make_pair())
    # F1: two shared words, four predicted and two accepted.
    assert score == Score("q1", exact_match=0.0, contains=1.0, f1=4 / 6, rouge1_recall=1.0)
    assert set(METRICS) == set(vars(score)) - {"qa_id"}


def test_a_prediction_is_not_scored_against_another_pair() -> None:
    with pytest.raises(DataError, match="'q2', expected 'q1'"):
        score_prediction(Prediction("q2", "Mara Voss"), make_pair())


def test_an_unusable_answer_is_reported_with_its_pair() -> None:
    with pytest.raises(DataError, match=r"QA pair 'q7': the accepted answer ' ' is blank"):
        score_prediction(Prediction("q7", "Mara Voss"), make_pair("q7", (" ",)))


def test_scores_come_in_the_order_of_the_pairs() -> None:
    predictions = [Prediction("q2", "Tehn"), Prediction("q1", "Mara Voss")]
    scores = score_predictions(predictions, [make_pair("q1"), make_pair("q2")])
    assert [(score.qa_id, score.exact_match) for score in scores] == [("q1", 1.0), ("q2", 0.0)]


@pytest.mark.parametrize(
    ("asked", "known", "message"),
    [
        (["q1"], ["q1", "q2"], r"no prediction.*'q2'"),
        ([], ["q1", "q2"], r"2 in all, the first is 'q1'"),
        (["q1", "q3"], ["q1"], r"no known QA pair.*'q3'"),
        (["q1", "q1"], ["q1"], r"two predictions.*'q1'"),
        (["q1"], ["q1", "q1"], r"occurs twice.*'q1'"),
    ],
)
def test_predictions_and_pairs_that_do_not_match_are_an_error(
    asked: list[str], known: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        score_predictions([Prediction(id, "Voss") for id in asked], [make_pair(id) for id in known])


def test_scores_are_aligned_like_predictions() -> None:
    scores = [Score("q2", 0.0, 0.0, 0.0, 0.0), Score("q1", 1.0, 1.0, 1.0, 1.0)]
    assert align_with_pairs(scores, [make_pair("q1"), make_pair("q2")]) == scores[::-1]
