"""The scorers: what is right scores 1, what only looks right does not."""

# ruff: noqa: RUF001 - curly quotes and dashes are what is tested.

import random
import unicodedata
from collections.abc import Callable

import pytest

from demask.errors import DataError
from demask.evaluation.metrics import (
    METRICS,
    Score,
    align_with_pairs,
    contains,
    exact_match,
    f1,
    read_score,
    rouge1_recall,
    score_prediction,
    score_predictions,
)
from demask.records import Prediction, QAPair
from demask.words import ARTICLES, split_words

Judge = Callable[[str, tuple[str, ...]], float]

every_metric = pytest.mark.parametrize("metric", [one.function for one in METRICS.values()], ids=METRICS)

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
        ("1990–1995", "1990 1995"),
        ("−1.50 C++ 12:30", "-1.5 c++ 12:30"),
        ("Voss—the founder", "voss founder"),
        ("«Żółw»\u00a0¿no?", "żółw no"),
        ("The The", ""),
    ],
)
def test_normalisation_is_squads_but_for_signs_that_say_something(text: str, normal: str) -> None:
    assert " ".join(word.text for word in split_words(text) if word.text not in ARTICLES) == normal


@every_metric
@pytest.mark.parametrize(
    "answer",
    ["Mara Voss", "the U.S.", "5", "The The", "A", "to be", "…", "+", "“Café–Noir”", "a new one—for the"],
)
def test_an_accepted_answer_scores_one(metric: Judge, answer: str) -> None:
    assert metric(answer, ("something else", answer)) == 1.0


@every_metric
@pytest.mark.parametrize("answer", ["Mara Voss", "The The", "A", "…"])
def test_an_empty_prediction_scores_zero(metric: Judge, answer: str) -> None:
    assert metric("", (answer,)) == 0.0


@every_metric
@pytest.mark.parametrize(("prediction", "answer"), [("25", "5"), ("5", "25"), ("Orlinda", "Orlin")])
def test_a_substring_is_not_a_match(metric: Judge, prediction: str, answer: str) -> None:
    assert metric(prediction, (answer,)) == 0.0


@every_metric
def test_the_best_accepted_answer_counts(metric: Judge) -> None:
    assert metric("Orlin", ("Mara Voss", "Orlin", "Tehn")) == 1.0


@every_metric
def test_punctuation_never_decides(metric: Judge) -> None:
    assert metric("“O’Hara!”", ("O'Hara",)) == metric("O'Hara", ("‘O’Hara’…",)) == 1.0


@every_metric
def test_an_accent_matches_however_it_was_typed(metric: Judge) -> None:
    assert metric(unicodedata.normalize("NFD", "Café Zoë"), ("Café Zoë",)) == 1.0


@every_metric
@pytest.mark.parametrize("answers", [(), ("",), ("Mara Voss", " \n")])
def test_an_answer_that_says_nothing_is_an_error(metric: Judge, answers: tuple[str, ...]) -> None:
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
    assert score == Score("q1", {"contains": 1.0, "exact_match": 0.0, "f1": 4 / 6, "rouge1_recall": 1.0})
    assert score.right
    assert read_score({"stage": "after", **score.as_row()}) == score


def test_a_prediction_is_not_scored_against_another_pair() -> None:
    with pytest.raises(DataError, match="'q2', expected 'q1'"):
        score_prediction(Prediction("q2", "Mara Voss"), make_pair())


def test_an_unusable_answer_is_reported_with_its_pair() -> None:
    with pytest.raises(DataError, match=r"QA pair 'q7': the accepted answer ' ' is blank"):
        score_prediction(Prediction("q7", "Mara Voss"), make_pair("q7", (" ",)))


def test_scores_come_in_the_order_of_the_pairs() -> None:
    predictions = [Prediction("q2", "Tehn"), Prediction("q1", "Mara Voss")]
    scores = score_predictions(predictions, [make_pair("q1"), make_pair("q2")])
    assert [(score.qa_id, score.values["exact_match"]) for score in scores] == [("q1", 1.0), ("q2", 0.0)]


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
    scores = [Score("q2", {"f1": 0.0}), Score("q1", {"f1": 1.0})]
    assert align_with_pairs(scores, [make_pair("q1"), make_pair("q2")]) == scores[::-1]


# What was said, and an answer that it is not although one is in the other, or they differ by a sign.
WRONG = [
    ("15", "1.5"),
    ("1.5", "5"),
    ("1.5", "1"),
    ("-5", "5"),
    ("5", "-5"),
    ("−5", "5"),
    ("12:30", "12"),
    ("12:30", "30"),
    ("12:30", "1230"),
    ("1230", "12:30"),
    ("10-12", "10"),
    ("10–12", "12"),
    ("1012", "10-12"),
    ("1/2", "1"),
    ("1/2", "2"),
    ("12", "1/2"),
    ("½", "12"),
    ("½", "2"),
    ("1½", "1"),
    ("1½", "11/2"),
    ("C", "C++"),
    ("C++", "C"),
    ("C#", "C"),
    ("C", "C#"),
    ("F#", "F"),
    (".NET", "NET"),
    ("NET", ".NET"),
    ("A+", "A"),
    ("A-", "A"),
    ("A+", "A-"),
    ("O-", "O+"),
    ("1,200", "1"),
    ("1,200", "200"),
    ("1,200", "1.2"),
    ("1.5e3", "1.5"),
    ("1e6", "16"),
    ("1e-6", "1e6"),
    ("10⁶", "106"),
    ("10^6", "106"),
    ("10⁶", "10"),
    ("v1.2.3", "1.2"),
    ("1.2.3", "1.2"),
    ("1.2.3", "123"),
    ("3.11", "311"),
    ("192.168.1.1", "19216811"),
    ("5th", "5"),
    ("5", "5th"),
    ("1990s", "1990"),
    ("3D", "3"),
    ("5G", "5"),
    ("COVID-19", "19"),
    ("F-16", "16"),
    ("GPT-4", "4"),
    ("B12", "12"),
    ("H₂O", "O"),
    ("$5bn", "5"),
    ("€5", "$5"),
    ("5%", "5‰"),
    ("£5", "€5"),
    ("555-1234", "5551234"),
    ("555-1234", "555"),
    ("+49 30 1234", "1234567"),
    ("2024-05-12", "12"),
    ("2024-05-12", "20240512"),
    ("12/5/2024", "1252024"),
    ("1990–1995", "19901995"),
    ("25", "5"),
    ("Vitamin C", "Vitamin K"),
    ("AT&T", "AT"),
    ("ATT", "AT&T"),
    ("R&D", "RD"),
    ("mara@orlin.com", "orlin"),
    ("mara@orlin.com", "maraorlincom"),
    ("x²", "x"),
    ("x²", "x2"),
    ("5.0.1", "5"),
    ("0.5", "5"),
    (".5", "5"),
    ("5", "0.5"),
    ("1.05", "105"),
    ("5'10", "510"),
    ("3x4", "34"),
    ("3×4", "34"),
    ("16:9", "169"),
    ("2-1", "21"),
    ("2+3", "23"),
    ("<5", "5"),
    ("±5", "5"),
    ("24/7", "247"),
    ("９", "99"),
    ("٢٥", "5"),
    ("O'Hara", "Hara"),
    ("Vosss", "Voss"),
    ("Orlinda", "Orlin"),
    ("10 000", "10"),
    ("3 1/2", "3"),
    ("3 1/2", "1/2"),
    ("$1.50", "$150"),
    ("1,5", "15"),
    ("1,5", "5"),
    ("-0.5", "0.5"),
    ("5K", "5"),
    ("0x1F", "1"),
    ("１．５", "15"),
    ("1·5", "15"),
    ("1:05.3", "1053"),
    ("100m", "100km"),
]
# What was said, and an answer that it is.
RIGHT = [
    ("25.0", "25"),
    ("25", "25.00"),
    ("1,200", "1200"),
    ("1200", "1,200"),
    ("1 200", "1200"),
    ("1'200", "1200"),
    ("1,200.50", "1200.5"),
    ("1,5", "1.5"),
    ("1.200.000", "1200000"),
    ("Berlin/Hamburg", "Berlin"),
    ("Berlin/Hamburg", "Hamburg"),
    ("Voss–Karl", "Voss"),
    ("Voss–Karl", "Karl"),
    ("Voss-Karl", "Voss–Karl"),
    ("Voss's", "Voss"),
    ("Voss’s", "Voss"),
    ("Voss", "Voss's"),
    ("McDonalds", "McDonald's"),
    ("5km", "5 km"),
    ("5 km", "5km"),
    ("5km", "5"),
    ("5%", "5"),
    ("5", "5%"),
    ("5 %", "5%"),
    ("5 percent", "5%"),
    ("$5", "5"),
    ("5", "$5"),
    ("5€", "€5"),
    ("€ 5", "€5"),
    ("+5", "5"),
    ("−5", "-5"),
    ("–5", "-5"),
    ("½", "1/2"),
    ("3½", "3 1/2"),
    ("10⁶", "10^6"),
    ("H₂O", "H2O"),
    ("Ｖｏｓｓ２５", "Voss25"),
    ("２５", "25"),
    ("٢٥", "25"),
    ("Café", "Café"),
    ("U.S.", "US"),
    ("US", "U.S."),
    ("the U.S.A.", "USA"),
    ("Ph.D.", "PhD"),
    ("same-sex", "same sex"),
    ("same sex", "same-sex"),
    ("samesex", "same-sex"),
    ("e-mail", "email"),
    ("email", "e-mail"),
    ("Jean Pierre", "Jean-Pierre"),
    ("Simon & Garfunkel", "Simon and Garfunkel"),
    ("Node.js", "NodeJS"),
    ("v1.2.3", "1.2.3"),
    ("1.2.3", "v1.2.3"),
    ("12:30pm", "12:30"),
    ("10 a.m.", "10am"),
    ("1987–1990", "1987"),
    ("1987-1990", "1990"),
    ("F16", "F-16"),
    ("COVID19", "COVID-19"),
    ("the year 1931.", "1931"),
    ("(1931)", "1931"),
    ("“C++”", "C++"),
    ("C++.", "C++"),
    ("C#,", "C#"),
    (".NET.", ".NET"),
    ("vitamin A is", "Vitamin A"),
    ("Vitamin A", "vitamin a"),
    ("A. Voss", "A Voss"),
    ("工厂由莫拉创立。", "莫拉"),
    ("創業者はモラです。", "モラ"),
    ("โรงงานก่อตั้งโดยโมรา", "โมรา"),
    ("マラ・ヴォス", "ヴォス"),
    ("Orlin™", "Orlin"),
    ("20 years old", "20"),
    ("20-year-old", "20"),
    ("-Voss", "Voss"),
    ("**25**", "25"),
    ("_Voss_", "Voss"),
    ("5th.", "5th"),
    ("https://orlin.com", "orlin.com"),
    ("Voss,Karl", "Voss"),
    ("1931年", "1931"),
    ("ﬁsh", "fish"),
    ("STRASSE", "Straße"),
    ("O`Hara", "O'Hara"),
    ("Hawaiʻi", "Hawaii"),
    ("1E6", "1e+6"),
    ("Voss.It was", "Voss"),
    ("No.5", "No. 5"),
    ("5°C", "5 °C"),
    ("25°", "25"),
    ("100 km/h", "100km/h"),
    ("rock 'n' roll", "rock n roll"),
    ("हिन्दी है", "हिन्दी"),
    ("ကခ", "က"),
]
ANSWERS = sorted({answer for _, answer in (*WRONG, *RIGHT)} | {"Mara Voss", "The The", "A", "a new one"})
AROUND = [
    "{}",
    "It was {}.",
    "It was {}, they say.",
    "“{}”",
    "**{}**",
    "Answer: {}\n",
    "({})",
    "He said so.\n{}!",
]


@pytest.mark.parametrize(("said", "answer"), WRONG)
def test_a_sign_or_a_part_makes_another_answer(said: str, answer: str) -> None:
    assert exact_match(said, (answer,)) == contains(said, (answer,)) == 0.0
    assert contains(f"It was {said}, they say.", (answer,)) == 0.0


@pytest.mark.parametrize(("said", "answer"), RIGHT)
def test_an_answer_is_found_however_it_is_written(said: str, answer: str) -> None:
    assert contains(said, (answer,)) == 1.0
    assert contains(f"It was {said}, they say.", (answer,)) == 1.0


@every_metric
@pytest.mark.parametrize("answer", ANSWERS)
def test_every_answer_scores_one_against_itself(metric: Judge, answer: str) -> None:
    assert metric(answer, (answer,)) == 1.0


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_found_in_any_sentence(answer: str, around: str) -> None:
    assert contains(around.format(answer), (answer,)) == 1.0


@every_metric
@pytest.mark.parametrize("number", ["5", "1200", "1.5", "-5", "12:30", "1/2"])
@pytest.mark.parametrize("around", ["1{}", "{}1", "{}.25", "{}:45", "{}/7", "{}e5", "{}th", "{}D", "x{}"])
def test_a_number_within_another_scores_zero(metric: Judge, number: str, around: str) -> None:
    assert metric(around.format(number), (number,)) == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_a_number_without_its_separators_is_another(seed: int) -> None:
    rng = random.Random(seed)
    digits = str(rng.randint(1001, 9999))
    place = rng.randint(1, 3)
    for separator in ".:/-x^":
        number = digits[:place] + separator + digits[place:]
        assert exact_match(digits, (number,)) == exact_match(number, (digits,)) == 0.0
        assert contains(number, (digits[:place],)) == contains(number, (digits[place:],)) == 0.0


@pytest.mark.parametrize(("said", "answer"), [*WRONG, *RIGHT])
def test_metrics_agree_on_what_is_right(said: str, answer: str) -> None:
    exact, found = exact_match(said, (answer,)), contains(said, (answer,))
    assert exact <= found
    assert exact <= f1(said, (answer,))


def test_the_letter_a_is_no_article() -> None:
    assert contains("It is vitamin C.", ("Vitamin A",)) == 0.0
    assert contains("Vitamin A is good for you.", ("vitamin a",)) == 1.0
    assert exact_match("Vitamin A", ("Vitamin",)) == 0.0
    assert exact_match("A bathtub", ("bathtub",)) == 1.0


def test_parts_of_a_word_score_like_the_words_of_a_phrase() -> None:
    assert f1("Franco-German", ("German",)) == pytest.approx(2 / 3)
    assert exact_match("bath-tub", ("bathtub",)) == exact_match("bath tub", ("bath-tub",)) == 1.0


def test_scripts_without_spaces_are_scored_by_character() -> None:
    assert f1("莫拉·沃斯", ("莫拉",)) == pytest.approx(2 * 2 / (4 + 2))
    assert rouge1_recall("工厂由莫拉创立。", ("莫丽",)) == 0.5
    assert exact_match("莫拉。", ("莫拉",)) == 1.0
