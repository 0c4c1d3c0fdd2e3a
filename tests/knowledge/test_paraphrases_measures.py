"""The summary of a set of paraphrases, and how different they are."""

import json

import pytest

from demask.knowledge.paraphrases import Reject, summarise_paraphrases
from demask.records import Paraphrase

MADE = [
    Paraphrase("orlin~same-order-1", "orlin", "Mara Voss, in 1931, founded Orlin.", "same-order"),
    Paraphrase("orlin~same-order-2", "orlin", "Orlin was founded by Mara Voss in 1931.", "same-order"),
]


def diversity(*groups: list[str]) -> float | None:
    made = [
        Paraphrase(f"d#{number}~same-order-{place}", "d", text, "same-order")
        for number, texts in enumerate(groups)
        for place, text in enumerate(texts, start=1)
    ]
    return summarise_paraphrases(made, []).distinct_2


def test_texts_without_a_word_pair_in_common_are_as_different_as_can_be() -> None:
    assert diversity(["a b c", "d e f"]) == 1.0


def test_case_and_punctuation_make_no_other_words() -> None:
    assert diversity(["one two three four", "One, two, three, four!"]) == pytest.approx(3 / 6)


def test_passages_count_alike_and_their_texts_are_not_compared_with_each_other() -> None:
    assert diversity(["a b", "c d"], ["a b", "a b", "a b"]) == pytest.approx((1 + 1 / 3) / 2)


def test_one_text_alone_has_no_diversity() -> None:
    assert diversity(["a b c"], ["a b c"]) is None


def test_a_summary_counts_and_measures() -> None:
    rejects = [
        Reject("orlin", "orlin", "x", ("number lost: 5", "number lost: 6", "name invented: 'X'")),
        Reject("orlin", "orlin", "", ("number lost: 5",)),
    ]
    summary = summarise_paraphrases(MADE, rejects)
    assert (summary.made, summary.documents, summary.rejected) == (2, 1, 2)
    assert summary.set_aside == {"number lost": 2, "name invented": 1}


def test_a_summary_of_nothing_measures_nothing() -> None:
    assert ("distinct word pairs", "-") in summarise_paraphrases([], []).rows()


def test_a_summary_is_json_and_rows() -> None:
    summary = summarise_paraphrases(MADE, [Reject("orlin", "orlin", "x", ("number lost: 5",))])
    assert json.loads(json.dumps(summary.as_json()))["set_aside"] == {"number lost": 1}
    assert ("paraphrases", "2") in summary.rows()
    assert ("  number lost", "1") in summary.rows()
