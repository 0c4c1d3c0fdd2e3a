"""How different texts are, and the summary of a set of paraphrases."""

import builtins
import json

import pytest

from demask.errors import RunError
from demask.knowledge.paraphrasing.measures import Diversity, measure_diversity, summarise_paraphrases
from demask.knowledge.paraphrasing.paraphrases import Reject
from demask.records import Paraphrase, Passage, QAPair

PASSAGE = Passage("orlin", "orlin", "Mara Voss founded Orlin in 1931, they say.")
PAIR = QAPair("q", "orlin", "Who founded Orlin?", ("Mara Voss",), "backward")
KEPT = Paraphrase("orlin~same-order-1", "orlin", "Mara Voss, in 1931, founded Orlin.", "same-order")
TURNED = Paraphrase("orlin~same-order-2", "orlin", "Orlin was founded by Mara Voss in 1931.", "same-order")
LOST = Paraphrase("orlin~same-order-3", "orlin", "A town was founded.", "same-order")


def test_texts_without_a_word_in_common_are_as_different_as_can_be() -> None:
    assert measure_diversity([["a b c", "d e f"]]) == Diversity(1.0, 1.0, 0.0)


def test_equal_texts_are_as_alike_as_can_be() -> None:
    alike = measure_diversity([["one two three four", "One, two, three, four!"] * 2])
    assert alike.distinct_1 == pytest.approx(4 / 16)
    assert alike.distinct_2 == pytest.approx(3 / 12)


def test_self_bleu_of_equal_texts_is_one() -> None:
    assert measure_diversity([["one two three four five"] * 3]).self_bleu == pytest.approx(1.0)


def test_passages_count_alike() -> None:
    some = measure_diversity([["a b", "c d"], ["a a", "a a", "a a"]])
    assert some.distinct_1 == pytest.approx((1 + 1 / 6) / 2)


def test_one_text_alone_has_no_diversity() -> None:
    assert measure_diversity([["a b c"], []]) == Diversity(None, None, None)


def test_of_many_texts_a_seeded_sample_is_compared() -> None:
    texts = [f"text number {n} of a long line about {n * n} things" for n in range(60)]
    assert measure_diversity([texts], seed=1) == measure_diversity([texts], seed=1)
    assert measure_diversity([texts], seed=1).self_bleu != measure_diversity([texts], seed=2).self_bleu


def test_missing_sacrebleu_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith("sacrebleu"):
            raise ImportError(name)
        return ordinary(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RunError, match=r"pip install 'demask\[questions\]'"):
        measure_diversity([["a", "b"]])


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


def test_paraphrases_of_two_passages_are_not_compared_with_each_other() -> None:
    made = [Paraphrase(f"d#{n}~reversed-1", "d", "the same text", "reversed") for n in (1, 2)]
    assert summarise_paraphrases(made, [], passages=[]).diversity.self_bleu is None


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
