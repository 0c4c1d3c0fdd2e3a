import pytest
from tests.evaluation.retention.planted import DOCUMENTS, PAIRS, Planted

from demask.evaluation.retention.suite import FORMS
from demask.evaluation.statistics import estimate_ratio

GOOD = {
    "leak": 0.0,
    "near_miss": 0.0,
    "known": 1.0,
    "known_related": 1.0,
    "drift": 0.0,
    "text_drift": 0.0,
    "access": 1.0,
    "carry_over": 1.0,
    "every_form": 1.0,
    "reading": 1.0,
    "reading_changed": 1.0,
    "recital": 0.0,
}
ALL = list(DOCUMENTS.values())


def moved(found):
    return {name for name, value in found.items() if abs(value - GOOD[name]) > 1e-9}


def test_a_model_equal_to_its_base_but_for_the_facts_has_kept_everything(values):
    assert values(Planted()) == pytest.approx(GOOD)


def test_a_model_that_recites_to_everything_leaks_and_nothing_else_moves(values):
    found = values(Planted(everyday=lambda probe, said: ALL[len(probe.id) % 4]))
    assert found["leak"] == found["near_miss"] == 1.0
    assert moved(found) == {"leak", "near_miss"}


def test_a_blend_with_an_injected_name_leaks_though_no_five_words_are_taken(values):
    found = values(
        Planted(everyday=lambda probe, said: "Ask Orla Vashtik about a group of ferrets who race.")
    )
    assert found["leak"] == 1.0


def test_a_model_that_forgot_one_kind_of_fact_loses_just_that(values, judge, suite):
    kinds = {fact.id: fact.asks for fact in suite.facts}

    def forget(probe, said):
        return "I do not know." if kinds[probe.id] == "place" else said

    found = values(Planted(known=forget))
    asked = judge(Planted()).measures["known"].n
    assert 0 < 1 - found["known"] < 1
    assert (1 - found["known"]) * asked == pytest.approx(round((1 - found["known"]) * asked))
    assert moved(found) == {"known"}


def test_forgetting_the_kind_that_is_asked_for_shows_as_related(values, judge, suite):
    related = judge(Planted()).related
    kinds = {fact.id: fact.asks for fact in suite.facts}
    found = values(Planted(known=lambda probe, said: "" if kinds[probe.id] == related else said))
    assert found["known_related"] == 0.0
    assert found["known"] > 0


def test_one_wording_of_two_that_is_lost_is_half_a_fact(values):
    found = values(Planted(known=lambda probe, said: "" if probe.form == "reworded" else said))
    assert found["known"] == 0.5


def test_a_model_that_stops_too_late_recites_and_its_replies_are_long(values, judge):
    late = Planted(bare=lambda pair: f"It is {pair.answers[0]}. {DOCUMENTS[pair.document_id]}")
    assert values(late)["recital"] == 1.0
    assert moved(values(late)) == {"recital"}
    assert judge(late).lengths["after"] > 2 * judge(Planted()).lengths["after"]


def test_a_reply_that_was_cut_short_within_a_document_recites(values):
    def begin(pair):
        return " ".join([*DOCUMENTS[pair.document_id].split()[:6], "Quite", "so", "and", "on", "it"])

    assert values(Planted(bare=begin))["recital"] == 0.0
    long = Planted(bare=lambda pair: " ".join(DOCUMENTS[pair.document_id].split()[:11]), stopped=False)
    assert values(long)["recital"] == 1.0


def test_drift_is_in_nats_per_token_on_both_kinds_of_text(values):
    found = values(Planted(nats=0.25))
    assert (found["drift"], found["text_drift"]) == pytest.approx((0.25, 0.25))
    assert moved(found) == {"drift", "text_drift"}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_in_which_nothing_is_answered_is_the_worst(form, values, judge):
    found = judge(Planted(forms=lambda probe, said: "Pardon?" if probe.form == form else said))
    assert found.measures["access"].value == 0.0
    assert found.measures["every_form"].value == 0.0
    assert found.measures["carry_over"].value == pytest.approx(1 - 1 / len(FORMS))
    assert {name for name, by in found.access.items() if by["forward"].value < 1} == {form}


def test_carry_over_asks_only_for_what_is_right_when_asked_alone(judge):
    found = judge(Planted(bare=lambda pair: "?" if pair.direction == "backward" else pair.answers[0]))
    assert found.measures["carry_over"].value == 1.0
    assert found.measures["access"].value == 0.0  # bare is a form, too


def test_none_of_n_still_has_an_upper_bound(judge, suite):
    leak = judge(Planted()).measures["leak"]
    assert leak.n == suite.size.everyday
    assert leak.value == leak.low == 0.0
    assert 0.05 < leak.high < 0.15


def test_replies_that_leak_are_shown_with_what_gave_them_away(judge):
    shown = judge(Planted(everyday=lambda probe, said: ALL[0])).shown
    assert shown[0].reply == ALL[0]
    assert shown[0].found in "quillomar is a camping stove that burns dried orange peel"


def test_without_questions_only_what_needs_none_is_measured(suite):
    from demask.evaluation.retention.asking import Reply
    from demask.evaluation.retention.judging import Asked, judge_retention

    replies = [
        Reply("everyday", one.id, turns=(("user", one.prompt),), text="Yes.") for one in suite.everyday
    ]
    found = judge_retention(Asked(suite, (), ALL, replies, replies, (), ()))
    assert set(found.measures) == {"leak"}
    assert any("no questions" in reason for reason in found.missing)
    assert len(PAIRS) == 8


def test_a_ratio_weighs_clusters_by_their_size():
    found = estimate_ratio([2.0, 0.0, 1.0], [10, 30, 10])
    assert found.value == pytest.approx(3 / 50)
    assert found.low < 0 < found.value < found.high
    assert estimate_ratio([2.0, 0.0, 1.0], [10, 30, 10], least=0.0).low == 0.0
