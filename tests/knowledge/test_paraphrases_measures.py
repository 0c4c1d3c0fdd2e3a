"""The summary of a set of paraphrases, and how different they are."""

import json

import pytest

from demask.knowledge.paraphrasing.measures import summarise_paraphrases
from demask.knowledge.paraphrasing.paraphrases import Reject
from demask.records import Paraphrase, Passage, QAPair

PASSAGE = Passage("orlin", "orlin", "Mara Voss founded Orlin in 1931, they say.")
PAIR = QAPair("q", "orlin", "Who founded Orlin?", ("Mara Voss",), "backward")
KEPT = Paraphrase("orlin~same-order-1", "orlin", "Mara Voss, in 1931, founded Orlin.", "same-order")
TURNED = Paraphrase("orlin~same-order-2", "orlin", "Orlin was founded by Mara Voss in 1931.", "same-order")
LOST = Paraphrase("orlin~same-order-3", "orlin", "A town was founded.", "same-order")


def diversity(*groups: list[str]) -> float | None:
    made = [
        Paraphrase(f"d#{number}~same-order-{place}", "d", text, "same-order")
        for number, texts in enumerate(groups)
        for place, text in enumerate(texts, start=1)
    ]
    return summarise_paraphrases(made, [], passages=[]).distinct_2


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
    summary = summarise_paraphrases([KEPT, TURNED, LOST], rejects, passages=[PASSAGE], pairs=[PAIR])
    assert (summary.made, summary.documents, summary.rejected) == (3, 1, 2)
    assert summary.set_aside == {"number lost": 2, "name invented": 1}
    assert summary.answers_kept == pytest.approx(2 / 3)
    assert summary.order_agreement == pytest.approx(1 / 2)


def test_a_direction_that_turns_agrees_with_a_reversed_order() -> None:
    made = Paraphrase("orlin~reversed-1", "orlin", TURNED.text, "reversed")
    assert summarise_paraphrases([made], [], passages=[PASSAGE], pairs=[PAIR]).order_agreement == 1.0


def test_without_pairs_the_words_tell_the_order() -> None:
    words = "amber birch cedar daisy elder ferns grass hazel irises jasmine"
    made = Paraphrase("d~reversed-1", "d", " ".join(reversed(words.split())), "reversed")
    summary = summarise_paraphrases([made], [], passages=[Passage("d", "d", words)])
    assert summary.order_agreement == 1.0
    assert summary.answers_kept is None


def test_a_summary_of_nothing_has_no_shares() -> None:
    summary = summarise_paraphrases([], [], passages=[])
    assert summary.answers_kept is None
    assert ("answers kept", "-") in summary.rows()


def test_a_summary_is_json_and_rows() -> None:
    reject = Reject("orlin", "orlin", "x", ("number lost: 5",))
    summary = summarise_paraphrases([KEPT, TURNED], [reject], passages=[PASSAGE], pairs=[PAIR])
    assert json.loads(json.dumps(summary.as_json()))["set_aside"] == {"number lost": 1}
    rows = summary.rows()
    assert ("paraphrases", "2") in rows
    assert ("  number lost", "1") in rows
    assert ("answers kept", "100.0%") in rows
