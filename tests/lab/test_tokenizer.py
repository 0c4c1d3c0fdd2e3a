"""Every word, name and thing of a world is one token, and demask's own prompts and metrics work on them."""

from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaConfig

from demask.evaluation.metrics import score_predictions
from demask.evaluation.qa import CEILING_PROMPT
from demask.lab.pretraining import make_tokenizer as make_lab_tokenizer
from demask.lab.world import (
    MENTION_TEMPLATES,
    TEXT_TEMPLATES,
    make_world,
    new_questions,
    write_mention,
    write_questions,
    write_text,
)
from demask.models.families import choose_mask_id
from demask.objectives.demasking import INSTRUCTION, OPENING
from demask.objectives.masking import word_groups
from demask.objectives.next_token import QUESTION
from demask.objectives.prompts import encode, encode_question, load_chat_format
from demask.objectives.reverse import REVERSED_QUESTION, group_entities, reverse_words
from demask.records import Prediction

PROMPTS = [INSTRUCTION, OPENING, QUESTION, REVERSED_QUESTION]


@pytest.fixture(scope="module")
def world():
    return make_world(known=120, new=40, seed=1)


@pytest.fixture(scope="module")
def tokenizer(world):
    return make_lab_tokenizer(world)


@pytest.fixture(scope="module")
def entities(world):
    return [entity for person in (*world.known, *world.new) for entity in (person.name, person.thing)]


def sentences(person):
    return [
        *(write_text(person, order="name-first", template=n) for n in range(TEXT_TEMPLATES)),
        *(write_text(person, order="thing-first", template=n) for n in range(TEXT_TEMPLATES)),
        *(write_mention(person, n) for n in range(MENTION_TEMPLATES)),
    ]


@pytest.fixture(scope="module")
def texts(world):
    return [text for person in (*world.known, *world.new) for text in sentences(person)]


@pytest.fixture(scope="module")
def pairs(world):
    people = (*world.known, *world.new)
    return [pair for person in people for pair in write_questions(person, order="name-first")]


def test_no_text_question_or_prompt_has_an_unknown_word(tokenizer, texts, pairs):
    questions = [pair.question for pair in pairs]
    ceiling = CEILING_PROMPT.format(document=texts[0], question=questions[0])
    for text in (
        *texts,
        *questions,
        *PROMPTS,
        ceiling,
        *(reverse_words(t, keep_entities=True) for t in texts),
    ):
        assert tokenizer.unk_token_id not in encode(tokenizer, text), text


def test_every_name_and_thing_is_one_token_of_its_own_new_people_included(tokenizer, entities):
    ids = [encode(tokenizer, entity) for entity in entities]
    assert len({tuple(each) for each in ids}) == len(entities) == 320
    assert all(len(each) == 1 and each[0] not in tokenizer.all_special_ids for each in ids)


def test_a_text_holds_the_token_of_its_name_and_thing_once(tokenizer, world):
    for person in world.new:
        name, thing = (encode(tokenizer, entity)[0] for entity in (person.name, person.thing))
        for text in sentences(person):
            ids = encode(tokenizer, text)
            assert [ids.count(name), ids.count(thing)] == [text.count(person.name), text.count(person.thing)]


def test_half_a_name_and_a_person_of_another_world_are_unknown(tokenizer, world, entities):
    other = make_world(known=120, new=40, seed=2)
    strangers = [person.name for person in other.known if person.name not in entities]
    assert len(strangers) > 100
    for word in (world.new[0].first_name, world.new[0].last_name, *strangers):
        assert list(encode(tokenizer, word)) == [tokenizer.unk_token_id]


def test_the_vocabulary_holds_the_entities_and_few_other_words(tokenizer, entities):
    assert 90 <= len(tokenizer) - len(entities) <= 130
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


def test_the_vocabulary_is_the_same_every_time_for_the_same_world(tokenizer, world):
    assert make_lab_tokenizer(world).get_vocab() == tokenizer.get_vocab()
    other = make_lab_tokenizer(make_world(known=120, new=40, seed=2))
    assert other.get_vocab() != tokenizer.get_vocab()
    assert len(other) == len(tokenizer)


def test_decoding_gives_the_text_back(tokenizer, texts, pairs):
    for text in (*texts, *(pair.question for pair in pairs)):
        assert tokenizer.decode(encode(tokenizer, text)) == text


def test_the_chat_format_is_cut_at_the_turns(tokenizer):
    chat = load_chat_format(tokenizer)
    assert tokenizer.convert_ids_to_tokens(chat.user) == ["<bos>", "<user>"]
    assert tokenizer.convert_ids_to_tokens(chat.assistant) == ["<assistant>"]
    assert chat.end == (tokenizer.eos_token_id,)
    assert chat.bos == (tokenizer.bos_token_id,)


def test_a_conversation_is_written_as_expected(tokenizer):
    turns = [{"role": "user", "content": "Who wrote it?"}, {"role": "assistant", "content": "MaraVoss"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text == "<bos><user>Who wrote it?<assistant>MaraVoss<eos>"
    question = tokenizer.convert_ids_to_tokens(encode_question(tokenizer, "Who wrote it?"))
    assert question == ["<bos>", "<user>", "Who", "wrote", "it", "?", "<assistant>"]


@pytest.mark.parametrize("token", ["<bos>", "<eos>", "<mask>", "<pad>", "<user>", "<assistant>", "<unk>"])
def test_special_tokens_are_one_token_and_typed_ones_are_only_letters(tokenizer, world, token):
    id = tokenizer.convert_tokens_to_ids(token)
    assert tokenizer(token, add_special_tokens=False)["input_ids"] == [id]
    typed = encode(tokenizer, f"{world.known[0].name} {token} {world.new[0].thing}")
    assert len(typed) == 5
    assert not set(typed) & (set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    # The same holds after one call to the other: the setting lives in the tokenizer.
    assert tokenizer(token, add_special_tokens=False)["input_ids"] == [id]


def test_the_mask_token_is_found_and_skipped_in_answers(tokenizer, world):
    assert choose_mask_id(tokenizer) == tokenizer.mask_token_id
    name = world.new[0].name
    ids = [*encode(tokenizer, name), tokenizer.mask_token_id, tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == name


def test_words_can_be_masked_whole(tokenizer, world):
    person = world.new[0]
    groups = word_groups(tokenizer, f"After years, {person.name}\nwrote {person.thing}.")
    assert groups == (0, 1, 1, 2, 3, 4, 4)


def test_a_right_answer_that_was_decoded_scores_one(tokenizer, pairs):
    answers = [tokenizer.decode(encode(tokenizer, pair.answers[0])) for pair in pairs]
    for ending in ("", " ."):
        predictions = [Prediction(p.id, text + ending) for p, text in zip(pairs, answers, strict=True)]
        scores = score_predictions(predictions, pairs)
        assert all(set(score.values.values()) == {1.0} for score in scores)
    spoken = [Prediction(pair.id, f"It was {pair.answers[0]}.") for pair in pairs]
    assert all(score.right and score.values["exact_match"] < 1 for score in score_predictions(spoken, pairs))


def test_another_persons_answer_scores_nothing(world):
    pairs = new_questions(world)
    other = [pairs[place - 10].answers[0] for place in range(len(pairs))]
    scores = score_predictions([Prediction(p.id, o) for p, o in zip(pairs, other, strict=True)], pairs)
    assert not any(score.right for score in scores)


def test_it_survives_being_saved(tokenizer, texts, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaConfig(vocab_size=len(tokenizer), **sizes).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert load_chat_format(loaded) == load_chat_format(tokenizer)
    assert loaded.mask_token_id == tokenizer.mask_token_id
    assert set(loaded.all_special_ids) == set(tokenizer.all_special_ids)
    for text in (*texts[:200], *PROMPTS, "Who <bos> wrote"):
        assert encode(loaded, text) == encode(tokenizer, text)
        assert loaded.decode([*encode(loaded, text)]) == tokenizer.decode([*encode(tokenizer, text)])


def test_reverse_training_keeps_names_and_things_whole_and_alone(tokenizer, world):
    for person in (*world.known, *world.new):
        own = [encode(tokenizer, entity)[0] for entity in (person.name, person.thing)]
        for text in sentences(person):
            # No unit of several words: nothing but the order of all words is turned round.
            assert all(len(unit) == 1 for unit in group_entities(text.split())), text
            forwards, backwards = (
                encode(tokenizer, text),
                encode(tokenizer, reverse_words(text, keep_entities=True)),
            )
            assert sorted(backwards) == sorted(forwards)
            order = [id for id in forwards if id in own]
            assert [id for id in backwards if id in own] == order[::-1]
            assert order
