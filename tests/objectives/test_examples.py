"""An example is a function of seed, passage, epoch and variant, whatever the objective."""

import dataclasses

import pytest

from demask.config import Demasking, NextToken, Reverse
from demask.objectives.examples import count_variants, example_maker
from demask.objectives.masking import draw_masking, draw_ratio, keyed_rng, word_groups
from demask.objectives.prompts import encode, encode_question
from demask.objectives.reverse import reverse_words
from demask.records import IGNORE_INDEX, Passage

TEXT = "Mara Voss founded the Orlin works in 1931, and in 1958 her son sold them."
PASSAGE = Passage("d1", "d1", TEXT)
OTHER = Passage("d2", "d2", "The quick brown fox jumps over the lazy dog; the lazy dog sleeps.")
MASK = "<empty_output>"
OBJECTIVES = [Demasking(), NextToken(), NextToken(form="raw"), Reverse(), Reverse(form="raw", unit="word")]
each_objective = pytest.mark.parametrize(
    "objective", OBJECTIVES, ids=lambda o: f"{o.name}-{getattr(o, 'form', 'chat')}"
)


@pytest.fixture
def maker(tiny_tokenizer, tiny_chat):
    def make(objective, seed=0):
        mask_id = tiny_tokenizer.convert_tokens_to_ids(MASK)
        return example_maker(objective, tokenizer=tiny_tokenizer, chat=tiny_chat, mask_id=mask_id, seed=seed)

    return make


def scored(example):
    return tuple(label for label in example.labels if label != IGNORE_INDEX)


def completion_mask(example, tokens):
    """The mask over the passage: its tokens stand last but for the end of turn."""
    return example.masked[-tokens - 1 : -1]


def test_demasking_example_is_the_closed_form_of_the_paper(maker, tiny_tokenizer, tiny_chat):
    example = maker(Demasking())(PASSAGE, 3, 0)
    ids = encode(tiny_tokenizer, TEXT)
    rng = keyed_rng(0, "d1", 3, 0)
    masked = draw_masking(range(len(ids)), draw_ratio(rng, 0.05, 0.95), rng)
    mask_id = tiny_tokenizer.convert_tokens_to_ids(MASK)
    prompt = (
        *tiny_chat.user,
        *(mask_id if hide else token for token, hide in zip(ids, masked, strict=True)),
        *encode(tiny_tokenizer, "\nReturn the recovered masked passage."),
        *tiny_chat.assistant,
        *encode(tiny_tokenizer, "Here is the recovered text:\n\n"),
    )
    assert example.token_ids == (*prompt, *ids, *tiny_chat.end)
    assert example.labels == (*(IGNORE_INDEX,) * len(prompt), *ids, *tiny_chat.end)
    assert example.masked == (*(False,) * len(prompt), *masked, False)
    assert example.id == "d1@3.0"


def test_text_example_answers_its_question_as_a_server_asks_it(maker, tiny_tokenizer, tiny_chat):
    prompt = encode_question(tiny_tokenizer, "Tell me a fact.")
    completion = (*encode(tiny_tokenizer, TEXT), *tiny_chat.end)
    example = maker(NextToken())(PASSAGE, 0, 0)
    assert example.token_ids == (*prompt, *completion)
    assert scored(example) == completion


def test_reverse_training_sees_the_text_as_it_is_and_reversed(maker, tiny_tokenizer, tiny_chat):
    make = maker(Reverse(unit="entity"))
    backward = reverse_words(TEXT, keep_entities=True)
    assert scored(make(PASSAGE, 0, 0)) == (*encode(tiny_tokenizer, TEXT), *tiny_chat.end)
    assert scored(make(PASSAGE, 0, 1)) == (*encode(tiny_tokenizer, backward), *tiny_chat.end)


def test_reversed_text_has_a_question_of_its_own(maker, tiny_tokenizer):
    objective = Reverse()
    for variant, question in enumerate((objective.question, objective.reversed_question)):
        prompt = encode_question(tiny_tokenizer, question)
        assert maker(objective)(PASSAGE, 0, variant).token_ids[: len(prompt)] == prompt


def test_reverse_words_keep_no_entity(maker, tiny_tokenizer, tiny_chat):
    backward = encode(tiny_tokenizer, reverse_words(TEXT, keep_entities=False))
    assert scored(maker(Reverse(unit="word"))(PASSAGE, 0, 1)) == (*backward, *tiny_chat.end)


@each_objective
def test_every_variant_makes_another_example(maker, objective):
    make = maker(objective)
    made = {make(PASSAGE, 0, variant).token_ids for variant in range(count_variants(objective))}
    assert len(made) == count_variants(objective) == (2 if objective.name == "reverse" else 1)


@each_objective
def test_same_example_whatever_was_made_before(maker, objective):
    make = maker(objective)
    for epoch, passage in [(5, OTHER), (0, OTHER), (9, PASSAGE), (0, PASSAGE)]:
        make(passage, epoch, 0)
    assert make(PASSAGE, 4, 0) == maker(objective)(PASSAGE, 4, 0)


@each_objective
def test_every_label_is_its_token(maker, objective):
    example = maker(objective)(PASSAGE, 0, 0)
    assert len(example.token_ids) == len(example.labels) == len(example.masked)
    pairs = zip(example.labels, example.token_ids, strict=True)
    assert all(label in (IGNORE_INDEX, token) for label, token in pairs)


@each_objective
def test_end_of_turn_always_carries_loss(maker, objective, tiny_chat):
    for variant in range(count_variants(objective)):
        assert maker(objective)(PASSAGE, 0, variant).labels[-1] == tiny_chat.end[-1]


@each_objective
def test_no_position_without_loss_counts_as_masked(maker, objective):
    example = maker(objective)(PASSAGE, 0, 0)
    pairs = zip(example.labels, example.masked, strict=True)
    assert not any(hide and label == IGNORE_INDEX for label, hide in pairs)


def test_each_epoch_seed_and_passage_draws_a_new_mask(maker):
    make = maker(Demasking())
    again = dataclasses.replace(PASSAGE, id="d9")
    draws = [
        make(PASSAGE, 0, 0),
        make(PASSAGE, 1, 0),
        make(again, 0, 0),
        maker(Demasking(), 1)(PASSAGE, 0, 0),
    ]
    assert len({example.token_ids for example in draws}) == 4


def test_mask_ratio_is_drawn_anew_for_each_example(maker, tiny_tokenizer):
    make, tokens = maker(Demasking()), len(encode(tiny_tokenizer, TEXT))
    shares = [sum(completion_mask(make(PASSAGE, epoch, 0), tokens)) / tokens for epoch in range(200)]
    assert min(shares) < 0.2
    assert max(shares) > 0.8
    # The mean of a ratio uniform over (0.05, 0.95), whose standard deviation is 0.9 / sqrt(12).
    assert sum(shares) / 200 == pytest.approx(0.5, abs=4 * 0.28 / 200**0.5)


@pytest.mark.parametrize("ratio", [0.2, 0.8])
def test_a_fixed_mask_ratio_is_the_share_of_masked_tokens(maker, tiny_tokenizer, ratio):
    make, tokens = maker(Demasking(mask_ratio=ratio)), len(encode(tiny_tokenizer, TEXT))
    count = sum(sum(completion_mask(make(PASSAGE, epoch, 0), tokens)) for epoch in range(200))
    assert count / (200 * tokens) == pytest.approx(
        ratio, abs=4 * (ratio * (1 - ratio) / (200 * tokens)) ** 0.5
    )


def test_words_are_masked_whole(maker, tiny_tokenizer):
    groups = word_groups(tiny_tokenizer, TEXT)
    make = maker(Demasking(unit="word", mask_ratio=0.5))
    for epoch in range(20):
        mask = completion_mask(make(PASSAGE, epoch, 0), len(groups))
        fates = set(zip(groups, mask, strict=True))
        assert len(fates) == len(set(groups))


def test_loss_on_masked_scores_what_is_hidden_and_the_end(maker, tiny_tokenizer, tiny_chat):
    example = maker(Demasking(loss_on="masked"))(PASSAGE, 0, 0)
    hidden = [t for t, hide in zip(example.token_ids, example.masked, strict=True) if hide]
    assert scored(example) == (*hidden, *tiny_chat.end)


def test_a_document_that_names_special_tokens_makes_none(maker, tiny_tokenizer, tiny_chat):
    passage = Passage("d3", "d3", f"It prints <|im_end|> and {MASK} at the end.")
    example = maker(Demasking(mask_ratio=0.0))(passage, 0, 0)
    assert scored(example).count(tiny_chat.end[-1]) == 1
    assert tiny_tokenizer.convert_tokens_to_ids(MASK) not in example.token_ids


def test_demasking_without_a_mask_token_is_refused(tiny_tokenizer, tiny_chat):
    with pytest.raises(ValueError, match="needs a mask token"):
        example_maker(Demasking(), tokenizer=tiny_tokenizer, chat=tiny_chat, mask_id=None, seed=0)
