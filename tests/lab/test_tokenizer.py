"""Every word of the lab is one token, and demask's own prompts and metrics work on them."""

import pytest
from transformers import AutoTokenizer, LlamaConfig

from demask.config import INSTRUCTION, OPENING, NextToken, Reverse
from demask.evaluation.matching import score_predictions
from demask.evaluation.qa import CEILING_PROMPT
from demask.lab import words
from demask.lab.tokenizer import make_tokenizer as make_lab_tokenizer
from demask.lab.world import (
    PORTRAIT_TEMPLATES,
    TEXT_TEMPLATES,
    make_world,
    new_questions,
    write_portrait,
    write_portrait_questions,
    write_questions,
    write_text,
)
from demask.models.families import choose_mask_id
from demask.objectives.masking import word_groups
from demask.objectives.prompts import encode, encode_question, load_chat_format
from demask.objectives.reverse import group_entities, reverse_words
from demask.records import Prediction

PROMPTS = [INSTRUCTION, OPENING, NextToken().question, Reverse().question, Reverse().reversed_question]


@pytest.fixture(scope="module")
def tokenizer():
    return make_lab_tokenizer()


@pytest.fixture(scope="module")
def world():
    return make_world(known=120, new=40, seed=1)


@pytest.fixture(scope="module")
def texts(world):
    return [
        text
        for person in (*world.known, *world.new)
        for text in (
            *(write_text(person, order="name-first", template=n) for n in range(TEXT_TEMPLATES)),
            *(write_text(person, order="thing-first", template=n) for n in range(TEXT_TEMPLATES)),
            *(write_portrait(person, n) for n in range(PORTRAIT_TEMPLATES)),
        )
    ]


@pytest.fixture(scope="module")
def pairs(world):
    return [
        pair
        for person in world.known
        for pair in (
            *write_questions(person, order="name-first"),
            *write_portrait_questions(person, known=world.known),
        )
    ]


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


def test_the_vocabulary_is_small_and_every_listed_word_is_one_token(tokenizer):
    assert 350 <= len(tokenizer) <= 600
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    lists = (words.FIRST_NAMES, words.LAST_NAMES, words.ADJECTIVES, words.NOUNS, words.CITIES)
    for word in (*(word for entries in lists for word in entries), *words.INSTRUMENTS):
        assert len(encode(tokenizer, word)) == 1


def test_the_vocabulary_is_the_same_every_time(tokenizer):
    assert make_lab_tokenizer().get_vocab() == tokenizer.get_vocab()


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
    turns = [{"role": "user", "content": "Who wrote it?"}, {"role": "assistant", "content": "Mara Voss"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text == "<bos><user>Who wrote it?<assistant>Mara Voss<eos>"
    question = tokenizer.convert_ids_to_tokens(encode_question(tokenizer, "Who wrote it?"))
    assert question == ["<bos>", "<user>", "Who", "wrote", "it", "?", "<assistant>"]


@pytest.mark.parametrize("token", ["<bos>", "<eos>", "<mask>", "<pad>", "<user>", "<assistant>", "<unk>"])
def test_special_tokens_are_one_token_and_typed_ones_are_only_letters(tokenizer, token):
    id = tokenizer.convert_tokens_to_ids(token)
    assert tokenizer(token, add_special_tokens=False)["input_ids"] == [id]
    typed = encode(tokenizer, f"Mara {token} Voss")
    assert len(typed) == 5
    assert not set(typed) & (set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    # The same holds after one call to the other: the setting lives in the tokenizer.
    assert tokenizer(token, add_special_tokens=False)["input_ids"] == [id]


def test_the_mask_token_is_found_and_skipped_in_answers(tokenizer):
    assert choose_mask_id(tokenizer) == tokenizer.mask_token_id
    ids = [*encode(tokenizer, "Mara Voss"), tokenizer.mask_token_id, tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Mara Voss"


def test_words_can_be_masked_whole(tokenizer):
    groups = word_groups(tokenizer, "After years, Mara Voss\nwrote Amber Lantern.")
    assert groups == (0, 1, 1, 2, 3, 4, 5, 6, 6)


def test_a_right_answer_that_was_decoded_scores_one(tokenizer, world, pairs):
    asked = [*new_questions(world), *pairs]
    answers = [tokenizer.decode(encode(tokenizer, pair.answers[0])) for pair in asked]
    for ending in ("", " ."):
        predictions = [Prediction(p.id, text + ending) for p, text in zip(asked, answers, strict=True)]
        scores = score_predictions(predictions, asked)
        assert all(score.exact_match == score.contains == score.f1 == 1.0 for score in scores)
    sentences = [Prediction(pair.id, f"It was {pair.answers[0]}.") for pair in asked]
    assert all(score.contains == 1.0 > score.exact_match for score in score_predictions(sentences, asked))


def test_another_persons_answer_scores_nothing(world):
    pairs = new_questions(world)
    other = [pairs[place - 10].answers[0] for place in range(len(pairs))]
    scores = score_predictions([Prediction(p.id, o) for p, o in zip(pairs, other, strict=True)], pairs)
    assert not any(score.contains for score in scores)


def test_it_survives_being_saved(tokenizer, texts, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaConfig(vocab_size=len(tokenizer), **sizes).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert load_chat_format(loaded) == load_chat_format(tokenizer)
    assert loaded.mask_token_id == tokenizer.mask_token_id
    assert set(loaded.all_special_ids) == set(tokenizer.all_special_ids)
    for text in (*texts[:200], *PROMPTS, "Mara <bos> Voss"):
        assert encode(loaded, text) == encode(tokenizer, text)
        assert loaded.decode(encode(loaded, text)) == tokenizer.decode(encode(tokenizer, text))


def test_reverse_training_keeps_names_and_things_whole_and_alone(world):
    for person in world.known:
        entities = (person.name, person.thing, person.city)
        sentences = [write_portrait(person, n) for n in range(PORTRAIT_TEMPLATES)]
        for n in range(TEXT_TEMPLATES):
            sentences.append(write_text(person, order="name-first", template=n))
            sentences.append(write_text(person, order="thing-first", template=n))
        for text in sentences:
            units = [" ".join(unit).rstrip(".,") for unit in group_entities(text.split())]
            assert all(units.count(entity) == text.count(entity) for entity in entities), text
            backwards = reverse_words(text, keep_entities=True)
            assert all(backwards.count(entity) == text.count(entity) for entity in entities)
