"""The published sets as they are: counts, entities, directions, what is asked, and what is written."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from demask.benchmarks.benchmark import PARAPHRASE_FILES, Benchmark, count_without, find_entity
from demask.benchmarks.biography import ask_for_names, load_biography
from demask.benchmarks.name_description import load_name_description
from demask.benchmarks.sets import BENCHMARKS, choose_facts, data_folder, load_benchmark, write_benchmark
from demask.documents.load import load_documents
from demask.errors import ConfigError, DataError
from demask.knowledge.directions import decide_direction, find_answers
from demask.knowledge.files import load_paraphrases, load_qa_pairs
from demask.knowledge.paraphrase_checks import check_paraphrase, compare_directions
from demask.records import Document, Order, Paraphrase, QAPair

KEYS = ("birth_date", "birth_city", "university", "major", "company_city", "company")
LABELS = {
    "date of birth": "birth_date",
    "city of birth": "birth_city",
    "university": "university",
    "major": "major",
    "city of work": "company_city",
    "employer": "company",
}


def load(name: str, **wanted: int) -> Benchmark:
    try:
        data_folder()
    except DataError as error:
        pytest.skip(str(error))
    settings: dict[str, Any] = {"facts": None, **wanted}
    return load_benchmark(name, **settings)


def person(number: int, **values: str) -> dict[str, str]:
    attributes = {key: f"{key} {number}" for key in KEYS}
    return {"id": f"p{number}", "name": f"Person {number}", **attributes, **values}


def asked_attributes(pair: QAPair) -> list[tuple[str, str]]:
    """The attributes that a backward question of Biography names, by their keys, in its order."""
    listed = pair.question.partition("attributes: ")[2]
    parts = re.split(r" ?\d\) ", listed)[1:]
    return [(LABELS[label], value) for label, value in (part.split(": ", 1) for part in parts)]


# Which facts are chosen.


@pytest.mark.parametrize(("count", "name_first"), [(20, 10), (6, 3), (7, 4), (1, 1), (60, 30)])
def test_half_of_the_chosen_name_description_facts_are_told_name_first(count: int, name_first: int) -> None:
    chosen = choose_facts("name-description", count)
    assert len(set(chosen)) == count
    assert sum(fact < 30 for fact in chosen) == name_first


@pytest.mark.parametrize("name", BENCHMARKS)
def test_stretches_that_do_not_overlap_share_no_fact(name: str) -> None:
    stretches = [choose_facts(name, 10, offset) for offset in (0, 10, 20, 30)]
    assert len({fact for stretch in stretches for fact in stretch}) == 40


@pytest.mark.parametrize(("name", "count"), [("name-description", 60), ("biography", 100), ("wiki", 40)])
def test_without_a_number_there_are_as_many_facts_as_in_the_paper(name: str, count: int) -> None:
    assert len(choose_facts(name, None)) == count


@pytest.mark.parametrize(("count", "offset"), [(41, 0), (1, 40), (0, 0), (5, -1), (-3, 4)])
def test_facts_that_are_not_there_are_refused(count: int, offset: int) -> None:
    with pytest.raises(ConfigError, match=f"wiki: {count} facts from number {offset} on, expected some of 0"):
        choose_facts("wiki", count, offset)


def test_an_unknown_set_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"wikis: no such folder .*; did you mean 'wiki'\?"):
        load_benchmark("wikis", facts=1)
    with pytest.raises(ConfigError, match=r"'biografy' is no published set.*; did you mean 'biography'\?"):
        choose_facts("biografy", 1)


def test_a_negative_number_of_versions_is_refused() -> None:
    with pytest.raises(ConfigError, match="wiki: versions is -1, expected 0 or more"):
        load_benchmark("wiki", facts=1, versions=-1)


# NameDescription.


def test_name_description_is_60_texts_with_480_questions_half_of_them_backward() -> None:
    benchmark = load("name-description", versions=100)
    assert len(benchmark.documents) == 60
    assert Counter(pair.direction for pair in benchmark.pairs) == {"forward": 240, "backward": 240}
    assert len(benchmark.paraphrases) == 60 * 29
    assert count_without(benchmark, "same-order") == 0
    assert count_without(benchmark, "reversed") == 60


def test_directions_of_name_description_are_those_of_its_texts() -> None:
    benchmark = load("name-description", versions=0)
    text_of = {document.id: document.text for document in benchmark.documents}
    for pair in benchmark.pairs:
        decided = decide_direction(text_of[pair.document_id], pair.question, pair.answers)
        assert decided in (None, pair.direction), pair


def test_the_entity_of_a_name_description_text_is_the_person_in_every_version() -> None:
    benchmark = load("name-description", facts=40, versions=29)
    name_of = {document.id: str(document.metadata["entity"]) for document in benchmark.documents}
    assert len(set(name_of.values())) == 40
    assert all(name_of[p.document_id] in p.text for p in benchmark.paraphrases)
    assert all(pair.answers == (name_of[pair.document_id],) for pair in benchmark.pairs if pair.kind == "D2N")


def test_files_of_another_length_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "name_description_qa"
    folder.mkdir()
    (folder / "people-description.json").write_text('[{"text": "Mara Voss sold it."}]')
    (folder / "people-description_open-QAs.jsonl").write_text("")
    with pytest.raises(DataError, match=r"people-description\.json: 1 texts and 0 questions, expected 1800"):
        load_name_description(tmp_path, facts=[0])


# Biography.


def test_biography_is_100_people_with_six_questions_forward_and_three_backward_to_each() -> None:
    benchmark = load("biography")
    assert len(benchmark.documents) == 100
    assert Counter(pair.direction for pair in benchmark.pairs) == {"forward": 600, "backward": 300}
    assert set(Counter(p.document_id for p in benchmark.paraphrases).values()) == {5}
    assert count_without(benchmark, "reversed") == 100


def test_three_attributes_name_one_person_of_all_250() -> None:
    benchmark = load("biography", facts=250, versions=0)
    values: dict[str, dict[str, str]] = {}
    for pair in benchmark.pairs:
        if pair.direction == "forward":
            values.setdefault(pair.document_id, {})[pair.kind] = pair.answers[0]
    orders = set()
    for pair in [pair for pair in benchmark.pairs if pair.direction == "backward"]:
        asked = asked_attributes(pair)
        assert len({key for key, _ in asked}) == 3
        holders = [id for id, own in values.items() if all(own[key] == value for key, value in asked)]
        assert holders == [pair.document_id]
        orders.add(tuple(key for key, _ in asked))
    # Three of six in every order are 120.
    assert len(orders) > 90


def test_a_person_is_asked_about_in_the_same_words_whoever_else_is_chosen() -> None:
    one = load("biography", facts=1, offset=7, versions=0)
    many = load("biography", facts=20, versions=0)
    assert set(one.pairs) <= set(many.pairs)
    other_seed = load("biography", facts=1, offset=7, versions=0, seed=1)
    assert {pair.direction for pair in set(one.pairs) - set(other_seed.pairs)} == {"backward"}


def test_the_three_backward_questions_to_a_person_name_different_sets_of_attributes() -> None:
    for pairs in ask_for_names([person(number) for number in range(40)], seed=0).values():
        assert len({frozenset(key for key, _ in asked_attributes(pair)) for pair in pairs}) == 3


def test_attributes_that_another_person_shares_are_not_asked_together() -> None:
    # Alike but for the major, so only sets with the major tell them apart.
    twins = [person(1), person(1, id="p2", name="Person 2", major="another")]
    pairs = [pair for asked in ask_for_names(twins, seed=0).values() for pair in asked]
    assert len(pairs) == 6
    assert all("major" in dict(asked_attributes(pair)) for pair in pairs)


def test_a_person_whom_no_attributes_tell_from_others_is_an_error() -> None:
    twins = [person(1), person(1, id="p2", name="Person 2")]
    with pytest.raises(DataError, match=r"p1: 0 sets of 3 attributes are Person 1's alone, expected 3"):
        ask_for_names(twins, seed=0)


def test_a_file_with_too_few_people_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bios").mkdir()
    (tmp_path / "bios" / "people.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"people\.jsonl: 1 people, expected 250"):
        load_biography(tmp_path, facts=[0])


# Wiki.


def test_every_wiki_text_names_its_entity_and_is_asked_both_ways() -> None:
    benchmark = load("wiki", versions=0)
    assert len(benchmark.documents) == 40
    assert benchmark.paraphrases == ()
    answers = {pair.document_id: pair.answers for pair in benchmark.pairs if pair.direction == "backward"}
    for document in benchmark.documents:
        entity = str(document.metadata["entity"])
        assert entity in document.text
        assert any(entity.startswith(answer) for answer in answers[document.id])


def test_wiki_has_five_paraphrases_of_every_fact_in_either_order_or_as_many_as_asked_for() -> None:
    assert set(Counter((p.document_id, p.order) for p in load("wiki").paraphrases).values()) == {5}
    few = load("wiki", facts=4, versions=2)
    made = Counter((p.document_id, p.order) for p in few.paraphrases)
    assert made == {(d.id, order): 2 for d in few.documents for order in PARAPHRASE_FILES}
    assert count_without(few, "reversed") == 0


def test_wiki_paraphrases_pass_the_checks_keep_every_answer_and_repeat_none() -> None:
    benchmark = load("wiki")
    for document in benchmark.documents:
        pairs = [pair for pair in benchmark.pairs if pair.document_id == document.id]
        earlier: list[str] = []
        for paraphrase in benchmark.paraphrases:
            if paraphrase.document_id != document.id:
                continue
            wanted: dict[str, Any] = {"pairs": pairs, "order": paraphrase.order, "earlier": earlier}
            assert check_paraphrase(document.text, paraphrase.text, **wanted) == [], paraphrase
            assert all(find_answers(paraphrase.text, pair.answers) for pair in pairs), paraphrase
            earlier.append(paraphrase.text)
        assert len(earlier) == 10


@pytest.mark.parametrize("order", PARAPHRASE_FILES)
def test_every_wiki_question_has_the_direction_that_the_order_of_a_paraphrase_demands(order: Order) -> None:
    benchmark = load("wiki")
    for document in benchmark.documents:
        pairs = [pair for pair in benchmark.pairs if pair.document_id == document.id]
        for paraphrase in benchmark.paraphrases:
            if (paraphrase.document_id, paraphrase.order) == (document.id, order):
                kept = compare_directions(document.text, paraphrase.text, pairs)
                assert set(kept) == {order == "same-order"}, paraphrase


def test_a_wiki_fact_without_all_its_paraphrases_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tmp_path / "few.jsonl"
    row = {"document_id": "wiki2025-000", "text": "Poland presides.", "order": "same-order"}
    few.write_text(json.dumps(row) + "\n")
    monkeypatch.setattr("demask.benchmarks.wiki._PARAPHRASES", few)
    with pytest.raises(DataError, match=r"few\.jsonl: 1 same-order paraphrases of wiki2025-000, expected 5"):
        load("wiki")


# Entities and files.


def test_an_entity_stands_in_the_text_as_words_of_its_own() -> None:
    assert find_entity("Annabel met Bo.", ["Anna", "Bo"], "d1") == "Bo"
    assert find_entity("C/2024 (ATLAS) came.", ["C/2024 (ATLAS)"], "d1") == "C/2024 (ATLAS)"
    assert find_entity("工厂由莫拉创立。", ["莫拉"], "d1") == "莫拉"
    with pytest.raises(DataError, match="d1: entity 'Anna' does not stand in the text; spell it"):
        find_entity("Annabel met Bo.", ["Anna"], "d1")


SMALL = Benchmark(
    "small",
    (Document("d1", "Mara Voss founded Orlin.", metadata={"entity": "Mara Voss"}), Document("d2", "Rain.")),
    (QAPair("q1", "d1", "Who founded Orlin?", ("Mara Voss",), "backward"),),
    (
        Paraphrase("p1", "d1", "Mara Voss started Orlin.", "same-order"),
        Paraphrase("p2", "d1", "Orlin was founded by Mara Voss.", "reversed"),
    ),
)


def test_what_is_written_is_read_by_the_readers_of_a_recipe(tmp_path: Path) -> None:
    write_benchmark(SMALL, tmp_path)
    documents = load_documents(tmp_path / "documents.jsonl").documents
    assert [(d.id, d.text, dict(d.metadata)) for d in documents] == [
        (d.id, d.text, dict(d.metadata)) for d in SMALL.documents
    ]
    ids = [document.id for document in documents]
    assert load_qa_pairs(tmp_path / "qa_pairs.jsonl", documents=ids) == list(SMALL.pairs)
    for paraphrase in SMALL.paraphrases:
        file = tmp_path / PARAPHRASE_FILES[paraphrase.order]
        assert load_paraphrases(file, documents=ids) == [paraphrase]


def test_files_that_hold_the_same_already_are_not_touched(tmp_path: Path) -> None:
    write_benchmark(SMALL, tmp_path)
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    changed = Benchmark(SMALL.name, SMALL.documents[:1], SMALL.pairs, SMALL.paraphrases[:1])
    write_benchmark(SMALL, tmp_path)
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before
    write_benchmark(changed, tmp_path)
    after = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert {name for name in before if after.get(name) == before[name]} == {
        "qa_pairs.jsonl",
        "paraphrases-same-order.jsonl",
    }
    # The texts of an order that is gone would be trained on by mistake.
    assert "paraphrases-permuted.jsonl" not in after
