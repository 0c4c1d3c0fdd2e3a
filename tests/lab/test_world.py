"""Names and things are one word and nobody else's, and texts and questions keep to their order."""

import re
from itertools import product

import pytest

from demask.errors import ConfigError
from demask.lab import world as words
from demask.lab.world import (
    MENTION_TEMPLATES,
    TEXT_TEMPLATES,
    Order,
    Person,
    choose_order,
    known_questions,
    make_world,
    new_documents,
    new_questions,
    write_mention,
    write_questions,
    write_text,
)

pytestmark = pytest.mark.smoke

ORDERS: tuple[Order, ...] = ("name-first", "thing-first")


@pytest.fixture(scope="module")
def world():
    return make_world(known=300, new=60, seed=3)


@pytest.fixture(params=words.RELATIONS, ids=lambda relation: relation.kind)
def person(request):
    return Person("p0", "Mara", "Voss", request.param, "AmberLantern")


def test_every_word_stands_in_one_list_only_and_the_lists_have_their_sizes():
    lists = [words.FIRST_NAMES, words.LAST_NAMES, words.ADJECTIVES, words.NOUNS]
    assert [len(entries) for entries in lists] == [50, 60, 45, 55]
    entries = [entry.lower() for entries in lists for entry in entries]
    assert len(set(entries)) == len(entries)
    assert all(re.fullmatch("[A-Z][a-z]+", entry) for entries in lists for entry in entries)


def test_no_two_ways_of_joining_give_the_same_word():
    pairs = [*product(words.FIRST_NAMES, words.LAST_NAMES), *product(words.ADJECTIVES, words.NOUNS)]
    assert len({"".join(pair).lower() for pair in pairs}) == len(pairs) == 3000 + 2475


def test_a_name_and_a_thing_are_one_word_that_joins_two(world, person):
    assert (person.name, person.thing) == ("MaraVoss", "AmberLantern")
    for each in (*world.known, *world.new):
        assert each.name == each.first_name + each.last_name
        adjective, noun = re.findall("[A-Z][a-z]+", each.thing)
        assert each.thing == adjective + noun
        assert adjective in words.ADJECTIVES
        assert noun in words.NOUNS


def test_people_have_ids_names_and_things_of_their_own(world):
    people = [*world.known, *world.new]
    assert (len(world.known), len(world.new)) == (300, 60)
    for values in ([p.id for p in people], [p.name for p in people], [p.thing for p in people]):
        assert len(set(values)) == 360


@pytest.mark.parametrize("known", [1, 4, 12])
def test_what_a_new_person_did_some_known_person_did_too(known):
    world = make_world(known=known, new=10, seed=known)
    assert {person.relation for person in world.new} <= {person.relation for person in world.known}


def test_a_world_is_a_function_of_its_seed(world):
    assert make_world(known=300, new=60, seed=3) == world
    other = make_world(known=300, new=60, seed=4)
    for field in ("name", "thing", "relation"):
        drawn = [[getattr(person, field) for person in people] for people in (world.known, other.known)]
        assert drawn[0] != drawn[1]


def test_more_new_people_leave_the_first_ones_alone(world):
    larger = make_world(known=300, new=90, seed=3)
    assert larger.known == world.known
    assert larger.new[:60] == world.new


def test_every_relation_is_drawn_about_as_often():
    people = make_world(known=2000, new=1, seed=0).known
    for relation in words.RELATIONS:
        group = [person for person in people if person.relation == relation]
        assert 260 < len(group) < 410


@pytest.mark.parametrize(("known", "new"), [(0, 5), (5, 0), (-1, 5), (2475, 1), (1, 2475)])
def test_a_world_that_cannot_be_is_refused(known, new):
    with pytest.raises(ConfigError, match=f"a world of {known} known and {new} new people.*at most 2475"):
        make_world(known=known, new=new, seed=0)


def test_the_largest_world_uses_every_thing_once():
    world = make_world(known=2000, new=475, seed=0)
    things = [person.thing for person in (*world.known, *world.new)]
    assert sorted(things) == sorted(map("".join, product(words.ADJECTIVES, words.NOUNS)))


@pytest.mark.parametrize("template", range(TEXT_TEMPLATES))
def test_texts_mention_name_and_thing_once_and_in_order(person, template):
    for order in ORDERS:
        text = write_text(person, order=order, template=template)
        assert text.count(person.name) == text.count(person.thing) == 1
        name_is_first = text.index(person.name) < text.index(person.thing)
        assert name_is_first == (order == "name-first")
        relation = person.relation
        assert {relation.past, relation.participle, relation.role} & set(re.findall(r"\w+", text))


def test_there_are_at_least_twelve_wordings_and_all_differ(person):
    assert len(words.NAME_FIRST) == len(words.THING_FIRST) == TEXT_TEMPLATES >= 12
    texts = {write_text(person, order=order, template=n) for order in ORDERS for n in range(TEXT_TEMPLATES)}
    assert len(texts) == 2 * TEXT_TEMPLATES
    for order in ORDERS:
        first = write_text(person, order=order, template=0)
        assert write_text(person, order=order, template=TEXT_TEMPLATES) == first


def test_a_mention_is_of_the_name_alone_or_the_thing_alone(person):
    mentions = [write_mention(person, template) for template in range(MENTION_TEMPLATES)]
    for text in mentions:
        assert sorted([text.count(person.name), text.count(person.thing)]) == [0, 1]
        # A form of what was done would tell half of the fact.
        said = set(re.findall(r"\w+", text))
        assert not {person.relation.base, person.relation.past, person.relation.participle} & said
        assert person.relation.role not in said
    of_name = [text for text in mentions if person.name in text]
    assert len(of_name) == len(words.MENTIONS_NAME) == MENTION_TEMPLATES - len(words.MENTIONS_THING)
    assert not any(person.relation.kind in text for text in of_name)


def test_mentions_all_differ_and_begin_again_after_the_last(person):
    mentions = [write_mention(person, template) for template in range(2 * MENTION_TEMPLATES)]
    assert len(set(mentions)) == MENTION_TEMPLATES
    assert mentions[MENTION_TEMPLATES:] == mentions[:MENTION_TEMPLATES]


def all_sentences(person):
    mentions = [write_mention(person, template) for template in range(MENTION_TEMPLATES)]
    texts = [write_text(person, order=order, template=n) for order in ORDERS for n in range(TEXT_TEMPLATES)]
    return [*texts, *mentions], [pair.question for pair in write_questions(person, order="name-first")]


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


def test_new_documents_are_half_name_first(world):
    documents = new_documents(world)
    assert [document.id for document in documents] == [person.id for person in world.new]
    name_first = [
        document.text.index(person.name) < document.text.index(person.thing)
        for document, person in zip(documents, world.new, strict=True)
    ]
    assert name_first == [True, False] * 30


def shape(text, person):
    relation = person.relation
    own = [person.name, person.thing, relation.a_kind, relation.kind, relation.past]
    longest_first = sorted([*own, relation.participle, relation.role], key=len, reverse=True)
    return re.sub("|".join(longest_first), "", text)


def test_the_wording_does_not_tell_new_people_apart(world):
    documents = new_documents(world, paraphrases=TEXT_TEMPLATES - 1)
    shapes = []
    for number in range(TEXT_TEMPLATES):
        texts = [document.text for document in documents[number::TEXT_TEMPLATES]]
        for order in ORDERS:
            of_order = [
                (text, person)
                for place, (text, person) in enumerate(zip(texts, world.new, strict=True))
                if choose_order(place) == order
            ]
            assert len(of_order) == 30
            shapes.append({shape(text, person) for text, person in of_order})
            assert len(shapes[-1]) == 1
            assert all(text == write_text(p, order=order, template=number) for text, p in of_order)
    assert len(set().union(*shapes)) == 2 * TEXT_TEMPLATES


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
