"""New people are new combinations of known words, and texts and questions keep to their order."""

import re

import pytest

from demask.errors import ConfigError
from demask.lab import words
from demask.lab.world import (
    PORTRAIT_TEMPLATES,
    TEXT_TEMPLATES,
    Person,
    choose_order,
    known_questions,
    make_world,
    new_documents,
    new_questions,
    write_portrait,
    write_portrait_questions,
    write_questions,
    write_text,
)

ORDERS = ("name-first", "thing-first")


@pytest.fixture(scope="module")
def world():
    return make_world(known=300, new=60, seed=3)


@pytest.fixture(params=words.RELATIONS, ids=lambda relation: relation.kind)
def person(request):
    return Person("p0", "Mara", "Voss", request.param, "Amber Lantern", "Lisbon", "cello")


def words_of(person):
    titles = person.thing.split()
    return {person.first_name, person.last_name, *titles, person.city, person.instrument, person.relation}


def test_every_word_stands_in_one_list_only_and_the_lists_have_their_sizes():
    lists = [
        words.FIRST_NAMES,
        words.LAST_NAMES,
        words.ADJECTIVES,
        words.NOUNS,
        words.CITIES,
        words.INSTRUMENTS,
    ]
    assert [len(entries) for entries in lists] == [50, 60, 45, 55, 30, 20]
    entries = [entry.lower() for entries in lists for entry in entries]
    assert len(set(entries)) == len(entries)
    assert all(entry.isalpha() for entry in entries)


def test_people_have_ids_names_and_things_of_their_own(world):
    people = [*world.known, *world.new]
    assert (len(world.known), len(world.new)) == (300, 60)
    for values in ([p.id for p in people], [p.name for p in people], [p.thing for p in people]):
        assert len(set(values)) == 360


@pytest.mark.parametrize("known", [12, 40, 300])
def test_every_word_of_a_new_person_is_known(known):
    world = make_world(known=known, new=10, seed=known)
    seen = set().union(*map(words_of, world.known))
    assert all(words_of(person) <= seen for person in world.new)


def test_a_world_is_a_function_of_its_seed(world):
    assert make_world(known=300, new=60, seed=3) == world
    other = make_world(known=300, new=60, seed=4)
    for field in ("name", "thing", "relation", "city", "instrument"):
        drawn = [[getattr(person, field) for person in people] for people in (world.known, other.known)]
        assert drawn[0] != drawn[1]


def test_more_new_people_leave_the_first_ones_alone(world):
    larger = make_world(known=300, new=90, seed=3)
    assert larger.known == world.known
    assert larger.new[:60] == world.new


def test_what_a_person_did_says_nothing_about_the_rest():
    people = make_world(known=2000, new=1, seed=0).known
    for relation in words.RELATIONS:
        group = [person for person in people if person.relation == relation]
        assert 260 < len(group) < 410
        for values, number in (
            ([p.city for p in group], 30),
            ([p.instrument for p in group], 20),
            ([p.first_name for p in group], 50),
            ([p.thing.split()[1] for p in group], 55),
        ):
            assert len(set(values)) >= 0.95 * number
            assert max(map(values.count, values)) < 4 * len(group) / number


@pytest.mark.parametrize(("known", "new"), [(0, 5), (5, 0), (5, 500), (2476, 1), (3001, 1)])
def test_a_world_that_cannot_be_is_refused(known, new):
    with pytest.raises(ConfigError, match=f"a world of {known} known and {new} new people"):
        make_world(known=known, new=new, seed=0)


@pytest.mark.parametrize("template", range(TEXT_TEMPLATES))
def test_texts_mention_name_and_thing_once_and_in_order(person, template):
    for order in ORDERS:
        text = write_text(person, order=order, template=template)
        assert text.count(person.name) == text.count(person.thing) == 1
        name_is_first = text.index(person.name) < text.index(person.thing)
        assert name_is_first == (order == "name-first")
        assert "Lisbon" not in text
        assert "cello" not in text
        relation = person.relation
        assert {relation.past, relation.participle, relation.role} & set(re.findall(r"\w+", text))


def test_there_are_at_least_twelve_wordings_and_all_differ(person):
    assert len(words.NAME_FIRST) == len(words.THING_FIRST) == TEXT_TEMPLATES >= 12
    texts = {write_text(person, order=order, template=n) for order in ORDERS for n in range(TEXT_TEMPLATES)}
    assert len(texts) == 2 * TEXT_TEMPLATES
    assert len({write_portrait(person, n) for n in range(PORTRAIT_TEMPLATES)}) == PORTRAIT_TEMPLATES
    assert write_portrait(person, PORTRAIT_TEMPLATES) == write_portrait(person, 0)


def test_portraits_mention_name_city_and_instrument_in_both_orders(person):
    texts = [write_portrait(person, template) for template in range(PORTRAIT_TEMPLATES)]
    for text in texts:
        assert text.count(person.name) == text.count("Lisbon") == text.count("cello") == 1
        assert person.thing not in text
    name_first = [text.index(person.name) < text.index("Lisbon") for text in texts]
    assert 3 <= sum(name_first) <= PORTRAIT_TEMPLATES - 3


def all_sentences(person):
    texts = [write_text(person, order=order, template=n) for order in ORDERS for n in range(TEXT_TEMPLATES)]
    texts += [write_portrait(person, template) for template in range(PORTRAIT_TEMPLATES)]
    pairs = [*write_questions(person, order="name-first"), *write_portrait_questions(person, known=[person])]
    return texts, [pair.question for pair in pairs]


def test_sentences_are_well_formed(person):
    texts, questions = all_sentences(person)
    for text in (*texts, *questions):
        assert text[0].isupper()
        assert "  " not in text
        assert not re.search(r"[{}]|\s[.,?]|\ba [aeiou]|\ban [^aeiou]", text)
        assert all(sentence[0].isupper() for sentence in text.split(". "))
    assert all(text.endswith(".") for text in texts)
    assert all(question.endswith("?") and "." not in question for question in questions)


@pytest.mark.parametrize(
    ("order", "directions"),
    [
        ("name-first", {"thing": "forward", "name": "backward"}),
        ("thing-first", {"thing": "backward", "name": "forward"}),
    ],
)
def test_what_comes_second_in_the_text_is_asked_forward(person, order, directions):
    pairs = write_questions(person, order=order)
    assert len({pair.id for pair in pairs}) == len({pair.question for pair in pairs}) == len(pairs)
    for kind, answer, cue in (("thing", person.thing, person.name), ("name", person.name, person.thing)):
        asked = [pair for pair in pairs if pair.kind == kind]
        assert len(asked) >= 4
        for pair in asked:
            assert (pair.direction, pair.answers) == (directions[kind], (answer,))
            assert pair.document_id == person.id
            assert cue in pair.question
            assert answer not in pair.question


def test_who_is_asked_of_a_portrait_only_when_it_is_one_person(person):
    other = Person("p1", "Ilja", "Hale", person.relation, "Iron Bell", "Lisbon", "cello")
    forward = [pair.kind for pair in write_portrait_questions(person)]
    assert forward == ["city"] * 4 + ["instrument"] * 4
    assert len(write_portrait_questions(person, known=[person, other])) == 8
    alone = write_portrait_questions(person, known=[person])
    assert [(p.kind, p.direction, p.answers) for p in alone[8:]] == [
        ("person", "backward", ("Mara Voss",))
    ] * 4
    assert len({pair.id for pair in (*alone, *write_questions(person, order="name-first"))}) == 22


def test_new_documents_are_half_name_first_and_of_many_wordings(world):
    documents = new_documents(world)
    assert [document.id for document in documents] == [person.id for person in world.new]
    name_first = [
        document.text.index(person.name) < document.text.index(person.thing)
        for document, person in zip(documents, world.new, strict=True)
    ]
    assert name_first == [True, False] * 30
    shapes = {
        re.sub("|".join(relation_words(person)), "", document.text)
        for document, person in zip(documents, world.new, strict=True)
    }
    assert len(shapes) == 2 * TEXT_TEMPLATES


def relation_words(person):
    relation = person.relation
    names = [person.name, person.thing, relation.a_kind, relation.kind, relation.past]
    return sorted([*names, relation.participle, relation.role], key=len, reverse=True)


def test_paraphrases_keep_the_order_and_are_all_different(world):
    documents = new_documents(world, paraphrases=TEXT_TEMPLATES - 1)
    assert len({document.id for document in documents}) == len(documents) == 60 * TEXT_TEMPLATES
    first = {document.id: document for document in new_documents(world)}
    for place, person in enumerate(world.new):
        own = documents[place * TEXT_TEMPLATES : (place + 1) * TEXT_TEMPLATES]
        assert own[0] == first[person.id]
        assert [d.id for d in own[1:3]] == [f"{person.id}-1", f"{person.id}-2"]
        assert len({document.text for document in own}) == TEXT_TEMPLATES
        orders = {d.text.index(person.name) < d.text.index(person.thing) for d in own}
        assert orders == {choose_order(place) == "name-first"}


@pytest.mark.parametrize("paraphrases", [-1, TEXT_TEMPLATES])
def test_more_paraphrases_than_wordings_are_refused(world, paraphrases):
    with pytest.raises(ConfigError, match=f"expected 0 to {TEXT_TEMPLATES - 1}"):
        new_documents(world, paraphrases=paraphrases)


def test_a_forward_question_has_its_answer_after_its_cue_in_the_document(world):
    texts = {document.id: document.text for document in new_documents(world)}
    people = {person.id: person for person in world.new}
    pairs = new_questions(world)
    assert len({pair.id for pair in pairs}) == len(pairs) == 600
    for pair in pairs:
        person, text = people[pair.document_id], texts[pair.document_id]
        cue = person.name if pair.kind == "thing" else person.thing
        assert (text.index(cue) < text.index(pair.answers[0])) == (pair.direction == "forward")
    assert sum(pair.direction == "forward" for pair in pairs) == 300


def test_known_questions_go_over_people_kinds_and_wordings(world):
    pairs = known_questions(world, 101)
    assert len({pair.id for pair in pairs}) == 101
    assert len({pair.document_id for pair in pairs}) == 51
    assert len({pair.id.split("-", 1)[1] for pair in pairs}) == 10
    assert sum(pair.direction == "forward" for pair in pairs) in (50, 51)
    assert len(known_questions(world, 10_000)) == 600
    assert known_questions(world, 0) == []
