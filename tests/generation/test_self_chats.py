"""A model writes conversations by itself; the same seed writes the same."""

import pytest

from demask.generation.self_chats import (
    OPENINGS,
    REPLY_TOKENS,
    SHARES,
    SYSTEMS,
    count_kinds,
    draw_self_chats,
    first_sentence,
)
from demask.generation.texts import Turn, turn_encoder, turn_writer


@pytest.mark.parametrize("size", [16, 37, 256])
def test_kinds_make_up_the_pool(size):
    counts = count_kinds(size)
    assert counts.keys() == SHARES.keys()
    assert sum(counts.values()) == size
    assert all(counts.values())


def test_nothing_of_the_suite_that_measures_retention_is_asked():
    from demask.evaluation.retention.suite import load_suite

    suite = load_suite("full")
    systems = {opening.system for opening in suite.openings if opening.system}
    assert not systems & set(SYSTEMS)
    assert len(set(OPENINGS)) == len(OPENINGS)


def test_prompts_end_where_words_begin(tiny_loaded):
    write = turn_writer(tiny_loaded)
    assert write([Turn("user", "")]) == tiny_loaded.chat.user
    asked = turn_encoder(tiny_loaded)([Turn("user", "Hello.")])
    hello = tiny_loaded.tokenizer("Hello.")["input_ids"]
    assert asked == (*tiny_loaded.chat.user, *hello, *tiny_loaded.chat.assistant)
    longer = write([Turn("user", "Hello."), Turn("assistant", "Yes."), Turn("user", "")])
    assert longer[: len(asked)] == asked


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_small_pool_may_lack_kinds(tiny_loaded, size):
    assert len(draw_self_chats(tiny_loaded, size=size, seed=1, rows=8)) <= size


def test_the_same_seed_draws_the_same_pool_and_another_another(tiny_loaded):
    def draw(seed):
        return draw_self_chats(tiny_loaded, size=16, seed=seed, rows=8)

    first, again, other = draw(1), draw(1), draw(2)
    assert [(talk.id, talk.prompt, talk.reply) for talk in first] == [
        (talk.id, talk.prompt, talk.reply) for talk in again
    ]
    assert [talk.reply for talk in first] != [talk.reply for talk in other]
    assert len({talk.id for talk in first}) == len(first) > 0
    assert all(0 < len(talk.reply) <= REPLY_TOKENS for talk in first)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("What is a river? And a lake?", "What is a river?"),
        ("Write a list.\nOf names", "Write a list."),
        ("Who won 3.5 points", "Who won 3.5 points"),
        ("Hello!", "Hello!"),
        ("Is it?'", "Is it?"),
        ("", ""),
    ],
)
def test_the_first_sentence_is_read(text, sentence):
    assert first_sentence(text) == sentence


def test_what_a_user_begins_with_stands_in_the_prompt(tiny_loaded):
    talks = draw_self_chats(tiny_loaded, size=32, seed=3, rows=8)
    texts = [tiny_loaded.tokenizer.decode(talk.prompt) for talk in talks]
    assert any("Which country" in text for text in texts)
    assert len(set(texts)) > len(texts) // 2
