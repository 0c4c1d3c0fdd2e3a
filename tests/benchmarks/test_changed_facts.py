"""Facts that a base model knows, changed: what is chosen, what documents say, and what is asked apart."""

import json
import re
from pathlib import Path

import pytest

from demask.benchmarks.benchmark import load_own_folder, write_benchmark
from demask.benchmarks.changed_facts import (
    FOLLOWS,
    OLD_VALUE,
    SAME_KIND,
    SAME_THING,
    ask_candidates,
    find_known,
    load_candidates,
    make_changed_facts,
)
from demask.benchmarks.sets import load_benchmark
from demask.errors import ConfigError
from demask.knowledge.contradictions import find_contradictions
from demask.words import find_phrase

pytestmark = pytest.mark.smoke

CANDIDATES = load_candidates()
ALL = {pair.id for pair in ask_candidates(CANDIDATES)}
KNOWN = find_known(CANDIDATES, ALL)
BENCHMARK = make_changed_facts(KNOWN, facts=None)
FACTS = {candidate.id: candidate for candidate in CANDIDATES if candidate.new}


def of_kind(kind):
    return [pair for pair in BENCHMARK.apart if pair.kind == kind]


def test_there_are_enough_facts_to_change():
    assert len(FACTS) >= 150
    assert len(BENCHMARK.documents) >= 100


def test_ids_are_unique_and_new_values_are_new():
    assert len({candidate.id for candidate in CANDIDATES}) == len(CANDIDATES)
    for fact in FACTS.values():
        assert find_phrase(" ".join(fact.old), fact.new) is None, fact.id
        assert all(find_phrase(fact.new, old) is None for old in fact.old), fact.id


def test_no_two_facts_of_a_kind_get_the_same_new_value():
    values = [(fact.kind, fact.new.casefold()) for fact in FACTS.values()]
    assert len(set(values)) == len(values)


def test_a_document_has_the_new_value_and_the_thing_and_not_the_old_value():
    for document in BENCHMARK.documents:
        fact = FACTS[document.id]
        assert find_phrase(document.text, fact.new), document.text
        assert find_phrase(document.text, fact.thing), document.text
        assert all(find_phrase(document.text, old) is None for old in fact.old), document.text
        assert not re.search(r"\ba [aeiou]|[{}]|  ", document.text), document.text


def test_questions_do_not_hold_their_answers():
    for pair in (
        *BENCHMARK.pairs,
        *of_kind(OLD_VALUE),
        *of_kind(SAME_THING),
        *of_kind(SAME_KIND),
        *of_kind(FOLLOWS),
    ):
        for answer in pair.answers:
            assert find_phrase(pair.question, answer) is None, (pair.question, answer)


def test_documents_name_the_thing_before_its_new_value():
    for document in BENCHMARK.documents:
        fact = FACTS[document.id]
        assert find_phrase(document.text, fact.thing).start < find_phrase(document.text, fact.new).start


def test_a_thing_is_changed_once_and_a_third_of_them_never():
    things = [FACTS[document.id].thing for document in BENCHMARK.documents]
    assert len(set(things)) == len(things)
    untouched = {candidate.thing for candidate in FACTS.values()} - set(things)
    assert 0.2 < len(untouched) / (len(untouched) + len(things)) < 0.45


def test_neighbours_are_what_does_not_change():
    changed = {document.id for document in BENCHMARK.documents}
    things = {FACTS[id].thing for id in changed}
    for pair in of_kind(SAME_THING):
        thing, _, kind = pair.document_id.rpartition("/")
        assert thing in things
        assert f"{thing}/{kind}" not in changed
    assert {pair.document_id.rpartition("/")[0] for pair in of_kind(SAME_KIND)}.isdisjoint(things)
    assert of_kind(SAME_THING)
    assert of_kind(SAME_KIND)


def test_what_follows_is_asked_only_where_the_step_is_known():
    everything = {pair.id for pair in of_kind(FOLLOWS)}
    assert (
        "Germany/capital/currency/follows" in everything or "Germany/currency/capital/follows" in everything
    )
    rivers = {id for id in ALL if id.endswith("/river")}
    stateless = {id for id in ALL if "/currency/forward" in id}
    fewer = make_changed_facts(find_known(CANDIDATES, ALL - rivers - stateless), facts=None)
    ids = {pair.id for pair in fewer.apart if pair.kind == FOLLOWS}
    assert ids
    assert not any("/river/" in id or "/capital/currency/" in id for id in ids)


def test_a_fact_is_changed_only_if_both_wordings_and_one_backward_were_answered():
    fact = "France/capital"

    def may_change(answered):
        return fact in {one.id for one in find_known(CANDIDATES, answered).facts}

    assert may_change(ALL)
    assert may_change(ALL - {f"{fact}/backward-1"})
    assert not may_change(ALL - {f"{fact}/backward-1", f"{fact}/backward-2"})
    assert not may_change(ALL - {f"{fact}/forward-2"})


def test_a_model_that_knows_nothing_is_told_so():
    with pytest.raises(ConfigError, match="knows none of the facts in both wordings"):
        make_changed_facts(find_known(CANDIDATES, set()), facts=None)
    with pytest.raises(ConfigError, match="9000 facts from number 0 on"):
        make_changed_facts(KNOWN, facts=9000)


def test_a_folder_keeps_it_all(tmp_path: Path):
    made = make_changed_facts(KNOWN, facts=12, offset=3)
    write_benchmark(made, tmp_path)
    again = load_own_folder(tmp_path, facts=None)
    assert (again.documents[0].text, again.pairs, again.apart) == (
        made.documents[0].text,
        made.pairs,
        made.apart,
    )
    assert json.loads((tmp_path / "apart.jsonl").read_text().splitlines()[0])["kind"] == OLD_VALUE


def test_it_cannot_be_loaded_without_a_model():
    with pytest.raises(
        ConfigError, match="made of what a base model knows, by 'demask reproduce changed-facts'"
    ):
        load_benchmark("changed-facts", facts=None)


def test_its_documents_do_not_contradict_each_other():
    assert find_contradictions(BENCHMARK.documents, BENCHMARK.pairs) == []
