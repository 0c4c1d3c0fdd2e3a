"""Paraphrases by rules: sentences turned by grammar, words swapped, frames, and what cannot be done."""

import builtins
import random
from collections.abc import Callable, Sequence

import pytest

from demask.errors import RunError
from demask.knowledge.english import load_english
from demask.knowledge.paraphrasing.checks import check_paraphrase
from demask.knowledge.paraphrasing.grammar import move_dates, turn_sentences
from demask.knowledge.paraphrasing.paraphrases import Reject
from demask.knowledge.paraphrasing.rules import make_paraphrases_by_rules
from demask.knowledge.paraphrasing.wording import (
    frame_text,
    is_linked,
    lower_first,
    place_date,
    split_dateline,
    swap_words,
)
from demask.records import Order, Paraphrase, Passage, QAPair

BRICS = Passage("brics", "brics", "6 January 2025: Indonesia becomes the tenth member to join BRICS.")
TOWN = Passage(
    "town",
    "town",
    "Voters outside the city rejected annexation plans in six referendums. The council built a bridge over "
    "the river Tarn in 1931. It was soon closed. However, traders from Osk kept stalls in the old hall.",
)


@pytest.fixture(scope="module")
def parse() -> Callable:
    return load_english()


def make(
    parse: Callable,
    *passages: Passage,
    count: int = 3,
    order: Order = "reversed",
    seed: int = 0,
    pairs: Sequence[QAPair] = (),
) -> tuple[list[Paraphrase], list[Reject]]:
    rejects: list[Reject] = []
    made = make_paraphrases_by_rules(
        passages, count=count, order=order, seed=seed, pairs=pairs, parse=parse, on_rejected=rejects.append
    )
    return list(made), rejects


@pytest.mark.parametrize(
    ("sentence", "turned"),
    [
        ("Mara Voss founded Orlin.", "Orlin was founded by Mara Voss."),
        ("Colossal showcases three grey wolves.", "Three grey wolves are showcased by Colossal."),
        ("In 1931, Mara Voss wrote the letter.", "In 1931, the letter was written by Mara Voss."),
        ("The letter was written by Mara Voss in 1931.", "Mara Voss wrote the letter in 1931."),
        ("Orlin was founded by Mara Voss.", "Mara Voss founded Orlin."),
        ("Indonesia becomes the tenth member to join BRICS.", "The tenth member to join BRICS is Indonesia."),
        ("Paris is the capital of France.", "The capital of France is Paris."),
        ("Marie Curie was a chemist.", "A chemist was what Marie Curie was."),
        ("The Shah fled before the town fell.", "Before the town fell, the Shah fled."),
        ("Margaret Thatcher resigns as leader.", "The one who resigns as leader is Margaret Thatcher."),
        ("The council has kept the old bridge.", "The old bridge is what the council has kept."),
    ],
)
def test_a_sentence_is_turned(parse: Callable, sentence: str, turned: str) -> None:
    assert turned in turn_sentences(parse(sentence))


@pytest.mark.parametrize(
    "sentence",
    [
        "He saw her.",
        "It rained.",
        "She has a house.",
        "Did Mara Voss found Orlin?",
        'Mara Voss said: "Orlin is mine."',
        "The rain, leading to floods, and the wind, which came from the sea, did not stop; people left.",
        "No full stop",
        "",
    ],
)
def test_a_sentence_that_no_rule_fits_is_left_alone(parse: Callable, sentence: str) -> None:
    assert turn_sentences(parse(sentence)) == []


def test_a_result_is_not_told_before_its_cause(parse: Callable) -> None:
    turned = turn_sentences(parse("The tax base dissipated, leading to problems with schools."))
    assert not any(text.startswith("Leading") for text in turned)


def test_a_possessive_is_not_told_before_its_owner(parse: Callable) -> None:
    assert turn_sentences(parse("The firm launched its rocket.")) == []


def test_a_date_goes_to_the_other_end(parse: Callable) -> None:
    assert move_dates(parse("In 1931, Mara Voss founded Orlin.")) == ["Mara Voss founded Orlin in 1931."]
    assert move_dates(parse("The commission approved the deal in 1931.")) == [
        "In 1931, the commission approved the deal."
    ]


def test_a_date_stays_with_the_first_of_two_statements(parse: Callable) -> None:
    assert move_dates(parse("In 1931, Mara Voss founded Orlin and left the country.")) == []


def test_a_passage_of_one_sentence_is_reworded_in_different_ways(parse: Callable) -> None:
    made, rejects = make(parse, BRICS, count=5, order="same-order")
    assert rejects == []
    assert len({paraphrase.text for paraphrase in made}) == 5
    assert {paraphrase.made_by for paraphrase in made} == {"rules"}


def test_a_reversed_passage_of_one_sentence_is_turned(parse: Callable) -> None:
    made, _ = make(parse, BRICS)
    assert made
    assert all("he tenth member to join BRICS is Indonesia" in paraphrase.text for paraphrase in made)


def test_what_cannot_be_reversed_gives_nothing_and_is_reported(parse: Callable) -> None:
    made, rejects = make(parse, Passage("rain", "rain", "It rained for days."))
    assert made == []
    assert rejects == [
        Reject("rain", "rain", "", ("rules exhausted: 0 different reversed texts, asked for 3",))
    ]


def test_fewer_texts_than_asked_for_are_reported(parse: Callable) -> None:
    made, rejects = make(parse, Passage("rain", "rain", "It rained for days."), count=60, order="same-order")
    assert 0 < len(made) < 60
    assert len({paraphrase.text for paraphrase in made}) == len(made)
    assert rejects[0].reasons == (f"rules exhausted: {len(made)} different same-order texts, asked for 60",)


@pytest.mark.parametrize("order", ["same-order", "reversed"])
def test_every_text_passes_the_checks(parse: Callable, order: Order) -> None:
    made, _ = make(parse, TOWN, BRICS, order=order)
    texts = {passage.id: passage.text for passage in (TOWN, BRICS)}
    assert len(made) == 6
    for paraphrase in made:
        assert check_paraphrase(texts[paraphrase.document_id], paraphrase.text, pairs=(), order=order) == []


def test_the_same_order_keeps_the_sentences_in_their_order(parse: Callable) -> None:
    for paraphrase in make(parse, TOWN, order="same-order")[0]:
        places = [
            paraphrase.text.lower().index(word) for word in ("annexation", "bridge", "closed", "stalls")
        ]
        assert places == sorted(places)


def test_the_last_sentence_comes_first_and_what_leans_on_another_stays_behind_it(parse: Callable) -> None:
    for paraphrase in make(parse, TOWN, order="reversed")[0]:
        bridge, closed, stalls, plans = (
            paraphrase.text.lower().index(word) for word in ("bridge", "closed", "stalls", "annexation")
        )
        assert bridge < closed < stalls < plans


def test_pairs_decide_the_order_where_there_are_any(parse: Callable) -> None:
    turns = QAPair("q", "brics", "Who becomes the tenth member to join BRICS?", ("Indonesia",), "backward")
    keeps = QAPair("q", "brics", "What does the tenth member join?", ("BRICS",), "forward")
    assert make(parse, BRICS, pairs=[turns])[0]
    assert make(parse, BRICS, pairs=[keeps])[0] == []


def test_the_seed_decides(parse: Callable) -> None:
    assert make(parse, TOWN, order="same-order") == make(parse, TOWN, order="same-order")
    assert make(parse, TOWN, order="same-order") != make(parse, TOWN, order="same-order", seed=1)


def test_passages_of_one_text_are_not_reworded_alike(parse: Callable) -> None:
    made, _ = make(parse, TOWN, Passage("twin", "twin", TOWN.text), order="same-order")
    assert [one.text for one in made[:3]] != [other.text for other in made[3:]]


def test_a_passage_is_reworded_alike_whatever_stands_beside_it(parse: Callable) -> None:
    assert make(parse, BRICS, TOWN)[0][-1] == make(parse, TOWN)[0][-1]


def test_a_count_below_one_is_refused(parse: Callable) -> None:
    with pytest.raises(ValueError, match="count is 0"):
        make(parse, BRICS, count=0)


def test_without_a_parser_the_plain_rules_still_work() -> None:
    made = list(make_paraphrases_by_rules([BRICS, TOWN], count=2, order="same-order", seed=0))
    assert len(made) == 4
    turned = list(make_paraphrases_by_rules([BRICS, TOWN], count=2, order="reversed", seed=0))
    assert {paraphrase.document_id for paraphrase in turned} == {"town"}


def test_a_missing_parser_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = builtins.__import__

    def without_spacy(name: str, *rest: object) -> object:
        if name == "spacy":
            raise ImportError(name)
        return ordinary(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_spacy)
    with pytest.raises(RunError, match=r"pip install 'demask\[questions\]'"):
        load_english.__wrapped__()  # past its cache


class Always(random.Random):
    """A draw that is always the least."""

    def random(self) -> float:
        return 0.0


class Never(random.Random):
    """A draw that is always the most."""

    def random(self) -> float:
        return 0.99


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("Mostly it is mainly rain.", "Mainly it is chiefly rain."),
        ("It is held in May.", "It takes place in May."),
        ("More than 90 of over 100.", "Over 90 of more than 100."),
        ("It is over.", "It is over."),
        ("a well-founded claim", "a well-founded claim"),
        ("In addition to rain", "Besides rain"),
        ("In addition, rain", "Besides, rain"),
    ],
)
def test_words_are_swapped_once(text: str, swapped: str) -> None:
    assert swap_words(text, Always()) == swapped
    assert swap_words(text, Never()) == text


def test_a_frame_holds_the_whole_text() -> None:
    framed = {frame_text("Orlin lies on the Tarn.", random.Random(seed)) for seed in range(60)}
    assert len(framed) > 6
    assert all("Orlin lies on the Tarn." in text for text in framed)


@pytest.mark.parametrize(
    ("text", "lowered"),
    [
        ("The town is old.", "the town is old."),
        ("Mara Voss came.", "Mara Voss came."),
        ("Rain fell on Rain.", "Rain fell on Rain."),
        ("NATO met.", "NATO met."),
        ("Rain fell.", ""),
        ("However, rain fell.", ""),
        ("In addition, rain fell.", ""),
        ('"Not Like Us" won.', ""),
        ("1931 was cold.", "1931 was cold."),
    ],
)
def test_the_first_word_keeps_its_capital_unless_it_is_no_name(text: str, lowered: str) -> None:
    assert lower_first(text) == lowered


def test_what_leans_on_the_sentence_before_is_seen() -> None:
    assert is_linked("He died.")
    assert is_linked("However, he died.")
    assert is_linked("As a result, it fell.")
    assert not is_linked("Mara Voss died.")
    assert not is_linked("Hebrew is a language.")


@pytest.mark.parametrize(
    ("sentence", "date"),
    [
        ("6 January 2025: Indonesia joins.", "6 January 2025"),
        ("March 2, 1931 – Indonesia joins.", "March 2, 1931"),
        ("1931: Indonesia joins.", "1931"),
        ("Orlin: a town.", ""),
        ("In 1931 it fell.", ""),
    ],
)
def test_a_date_before_a_sentence_is_seen(sentence: str, date: str) -> None:
    assert split_dateline(sentence).date == date


def test_a_date_is_put_before_or_behind() -> None:
    assert place_date("6 January 2025", "The bloc grows.", last=False) == (
        "The bloc grows. This was on 6 January 2025.",
        "The bloc grows. The date was 6 January 2025.",
        "On 6 January 2025, the bloc grows.",
    )
    assert place_date("1931", "The bloc grows.", last=True) == (
        "The bloc grows. This was in 1931.",
        "The bloc grows. The time was 1931.",
    )
    assert place_date("", "The bloc grows.", last=True) == ("The bloc grows.",)
