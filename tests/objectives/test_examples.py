"""An example is a function of seed, passage, epoch and variant, whatever the objective."""

import dataclasses

import pytest
from transformers import PreTrainedConfig

from demask.data.sequences import make_sample
from demask.objectives.demasking import INSTRUCTION, INSTRUCTIONS, RANDOM_TOKEN, Demasking, ordinary_tokens
from demask.objectives.masking import (
    draw_masking,
    draw_ratio,
    entity_groups,
    find_mentions,
    keyed_rng,
    word_groups,
)
from demask.objectives.next_token import NextToken
from demask.objectives.objective import Context
from demask.objectives.prompts import encode, encode_question
from demask.objectives.reverse import Reverse, reverse_words
from demask.recipe.sections import PRESETS
from demask.records import IGNORE_INDEX, Passage

TEXT = "Mara Voss founded the Orlin works in 1931, and in 1958 her son sold them."
PASSAGE = Passage("d1", "d1", TEXT)
OTHER = Passage("d2", "d2", "The quick brown fox jumps over the lazy dog; the lazy dog sleeps.")
MASK = "<empty_output>"
PAPER = Demasking(**PRESETS["paper"]["objective"])
OBJECTIVES = {
    "demasking": Demasking(),
    "demasking-varied": Demasking(
        unit="entity", entity="always", instruction="varied", mask_token=RANDOM_TOKEN, copies=3
    ),
    "next-token": NextToken(),
    "next-token-raw": NextToken(question=None),
    "reverse": Reverse(),
    "reverse-raw": Reverse(questions=None, unit="word"),
}
each_objective = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


@pytest.fixture
def maker(tiny_tokenizer, tiny_chat):
    def make(objective, seed=0):
        mask_id = tiny_tokenizer.convert_tokens_to_ids(MASK)
        context = Context(tiny_tokenizer, tiny_chat, PreTrainedConfig(), mask_id)
        example = objective.example_maker(context, seed=seed)
        return lambda passage, epoch, variant: example(make_sample(passage, tiny_tokenizer), epoch, variant)

    return make


def scored(example):
    return tuple(label for label in example.labels if label != IGNORE_INDEX)


def completion_mask(example, tokens):
    """The mask over the passage: its tokens stand last but for the end of turn."""
    return example.masked[-tokens - 1 : -1]


def test_demasking_example_is_the_closed_form_of_the_paper(maker, tiny_tokenizer, tiny_chat):
    example = maker(PAPER)(PASSAGE, 3, 0)
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
    objective = Reverse(questions=("Say it.", "Say it backwards."))
    for variant, question in enumerate(("Say it.", "Say it backwards.")):
        prompt = encode_question(tiny_tokenizer, question)
        assert maker(objective)(PASSAGE, 0, variant).token_ids[: len(prompt)] == prompt


def test_reverse_words_keep_no_entity(maker, tiny_tokenizer, tiny_chat):
    backward = encode(tiny_tokenizer, reverse_words(TEXT, keep_entities=False))
    assert scored(maker(Reverse(unit="word"))(PASSAGE, 0, 1)) == (*backward, *tiny_chat.end)


@each_objective
def test_every_variant_makes_another_example(maker, objective):
    make = maker(objective)
    made = {make(PASSAGE, 0, variant).token_ids for variant in range(objective.variants)}
    wanted = 2 if objective.name == "reverse" else getattr(objective, "copies", 1)
    assert len(made) == objective.variants == wanted
    assert objective.together == getattr(objective, "copies", 1)


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
    for variant in range(objective.variants):
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
    make, tokens = maker(PAPER), len(encode(tiny_tokenizer, TEXT))
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
    make = maker(Demasking(unit="word", mask_ratio=(0.5, 0.5)))
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
    example = maker(Demasking(mask_ratio=(0.0, 0.0)))(passage, 0, 0)
    assert scored(example).count(tiny_chat.end[-1]) == 1
    assert tiny_tokenizer.convert_tokens_to_ids(MASK) not in example.token_ids


def test_demasking_without_a_mask_token_is_refused(tiny_tokenizer, tiny_chat):
    with pytest.raises(ValueError, match="needs a mask token"):
        Demasking().example_maker(Context(tiny_tokenizer, tiny_chat, PreTrainedConfig(), None), seed=0)


def test_raw_text_stands_between_the_model_s_own_marks(maker, tiny_tokenizer, tiny_chat):
    raw = (*tiny_chat.bos, *encode(tiny_tokenizer, TEXT), *tiny_chat.end)
    assert maker(NextToken(question=None))(PASSAGE, 0, 0).token_ids == raw
    assert maker(Reverse(questions=None))(PASSAGE, 0, 0).token_ids == raw


def test_names_are_masked_whole_and_all_else_by_words(maker, tiny_tokenizer):
    groups = entity_groups(tiny_tokenizer, TEXT)
    words = word_groups(tiny_tokenizer, TEXT)
    make = maker(Demasking(unit="entity", mask_ratio=(0.5, 0.5)))
    masks = [completion_mask(make(PASSAGE, epoch, 0), len(groups)) for epoch in range(60)]
    for mask in masks:
        assert len(set(zip(groups, mask, strict=True))) == len(set(groups))
    together = {
        (a, b): all(m[words.index(a)] == m[words.index(b)] for m in masks) for a, b in [(0, 1), (2, 3)]
    }
    assert together == {(0, 1): True, (2, 3): False}  # Mara Voss; founded, the


@pytest.mark.parametrize("entity", ["never", "always"])
@pytest.mark.parametrize("unit", ["token", "word", "entity"])
def test_what_the_text_is_about_is_always_shown_or_always_hidden(maker, tiny_tokenizer, entity, unit):
    passage = Passage("d1", "d1", TEXT, entity="Mara Voss")
    mentions = find_mentions(tiny_tokenizer, TEXT, "Mara Voss")
    assert any(mentions)
    make = maker(Demasking(entity=entity, unit=unit))
    as_others = maker(Demasking(unit=unit))
    for epoch in range(20):
        mask, drawn = (completion_mask(m(passage, epoch, 0), len(mentions)) for m in (make, as_others))
        expected = [entity == "always" if its else hide for its, hide in zip(mentions, drawn, strict=True)]
        assert list(mask) == expected


def test_a_passage_that_names_no_entity_is_masked_as_any(maker):
    plain = maker(Demasking())(PASSAGE, 0, 0)
    assert maker(Demasking(entity="always"))(PASSAGE, 0, 0) == plain


def test_a_random_token_stands_for_each_masked_one_and_is_never_special(maker, tiny_tokenizer, tiny_chat):
    ids = encode(tiny_tokenizer, TEXT)
    ordinary = ordinary_tokens(tiny_tokenizer)
    assert set(ordinary).isdisjoint(tiny_tokenizer.all_special_ids)
    assert len(ordinary) == len(tiny_tokenizer) - 4  # of which all are special
    make, start = maker(Demasking(mask_token=RANDOM_TOKEN, mask_ratio=(1.0, 1.0))), len(tiny_chat.user)
    shown = [make(PASSAGE, epoch, 0).token_ids[start : start + len(ids)] for epoch in range(100)]
    drawn = [token for row in shown for token in row]
    assert set(drawn) <= set(ordinary)
    assert len(set(drawn)) > 0.95 * len(ordinary)  # all but a share of exp(-100 * len(ids) / len(ordinary))
    assert len(set(shown)) == 100


def test_random_tokens_change_neither_masks_nor_what_is_learned(maker, tiny_tokenizer, tiny_chat):
    plain, random = (maker(Demasking(mask_token=token)) for token in (None, RANDOM_TOKEN))
    start, tokens = len(tiny_chat.user), len(encode(tiny_tokenizer, TEXT))
    for epoch in range(10):
        one, other = plain(PASSAGE, epoch, 0), random(PASSAGE, epoch, 0)
        assert (one.labels, one.masked) == (other.labels, other.masked)
        hidden = completion_mask(one, tokens)
        pairs = zip(one.token_ids[start:], other.token_ids[start:], hidden, strict=False)
        assert all(a == b for a, b, hide in pairs if not hide)


def test_random_tokens_need_no_mask_token(tiny_tokenizer, tiny_chat):
    objective = Demasking(mask_token=RANDOM_TOKEN)
    make = objective.example_maker(Context(tiny_tokenizer, tiny_chat, PreTrainedConfig(), None), seed=0)
    assert make(make_sample(PASSAGE, tiny_tokenizer), 0, 0).labels[-1] == tiny_chat.end[-1]


def test_every_instruction_is_drawn_and_masks_stay_as_they_were(maker, tiny_tokenizer):
    plain, varied = maker(Demasking(instruction=INSTRUCTION)), maker(Demasking(instruction="varied"))
    tokens, seen = len(encode(tiny_tokenizer, TEXT)), set()
    for epoch in range(100):
        one, other = plain(PASSAGE, epoch, 0), varied(PASSAGE, epoch, 0)
        assert completion_mask(one, tokens) == completion_mask(other, tokens)
        prompt = tiny_tokenizer.decode(other.token_ids[: -tokens - 1])
        seen |= {wording for wording in INSTRUCTIONS if f"{wording}<|im_end|>" in prompt}
    assert seen == set(INSTRUCTIONS)


def test_copies_of_one_exposure_are_masked_differently(maker):
    make = maker(Demasking(copies=4))
    assert len({make(PASSAGE, 0, copy).masked for copy in range(4)}) == 4
    assert make(PASSAGE, 0, 0) == maker(Demasking())(PASSAGE, 0, 0)
