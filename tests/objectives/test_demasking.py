"""Every field of a demasking example, by hand; what is shown, what is scored, what is counted."""

import itertools

import pytest

from demask.models.context import make_context
from demask.objectives.demasking import Demasking, DemaskingForm, make_demasking_example
from demask.objectives.prompts import ChatFormat, encode
from demask.records import IGNORE_INDEX, Sample

pytestmark = pytest.mark.smoke

NONE = IGNORE_INDEX
CHAT = ChatFormat(user=(1, 2), assistant=(3, 4), end=(5,), bos=(9,))
FORM = DemaskingForm(CHAT, mask_id=7, instruction=(20, 21), opening=(30,))
IDS = (100, 101, 102, 103)
MASKED = (True, True, False, True)
PROMPT = 2 + 4 + 2 + 2 + 1
each_masking = pytest.mark.parametrize("masked", list(itertools.product([False, True], repeat=4)))


def make(masked=MASKED, *, form=FORM, loss_on="all"):
    return make_demasking_example(IDS, masked, id="d1", form=form, loss_on=loss_on)


def test_token_ids_are_masked_prompt_then_original_then_end():
    shown = (7, 7, 102, 7)
    assert make().token_ids == (1, 2, *shown, 20, 21, 3, 4, 30, *IDS, 5)


def test_loss_on_all_scores_the_whole_passage_and_the_end():
    assert make().labels == (*(NONE,) * PROMPT, *IDS, 5)


def test_loss_on_masked_scores_masked_tokens_and_the_end():
    assert make(loss_on="masked").labels == (*(NONE,) * PROMPT, 100, 101, NONE, 103, 5)


@pytest.mark.parametrize("loss_on", ["all", "masked"])
def test_masked_marks_the_tokens_of_the_completion_that_the_prompt_hides(loss_on):
    assert make(loss_on=loss_on).masked == (*(False,) * PROMPT, True, True, False, True, False)


def test_id_is_kept():
    assert make().id == "d1"


@pytest.mark.parametrize("loss_on", ["all", "masked"])
@each_masking
def test_prompt_is_never_masked_and_never_counted(masked, loss_on):
    example = make(masked, loss_on=loss_on)
    assert set(example.labels[:PROMPT]) == {NONE}
    assert set(example.masked[:PROMPT]) == {False}


@each_masking
def test_template_instruction_and_opening_stand_whatever_is_masked(masked):
    ids = make(masked).token_ids
    assert (ids[:2], ids[6:PROMPT]) == ((1, 2), (20, 21, 3, 4, 30))


@pytest.mark.parametrize("loss_on", ["all", "masked"])
@pytest.mark.parametrize("masked", [(False,) * 4, MASKED, (True,) * 4])
def test_end_of_turn_always_carries_loss(masked, loss_on):
    assert make(masked, loss_on=loss_on).labels[-1] == 5


def test_every_token_of_a_long_end_of_turn_carries_loss():
    form = DemaskingForm(ChatFormat((1,), (3,), (40, 41), ()), 7, (), ())
    example = make(form=form)
    assert example.labels[-2:] == (40, 41)
    assert example.masked[-2:] == (False, False)


@each_masking
def test_one_mask_token_per_masked_token_and_runs_are_never_merged(masked):
    example = make(masked)
    assert example.token_ids.count(7) == sum(masked)
    assert len(example.token_ids) == PROMPT + 4 + 1


@pytest.mark.parametrize("loss_on", ["all", "masked"])
def test_labels_are_the_token_ids_where_there_is_loss(loss_on):
    example = make(loss_on=loss_on)
    pairs = zip(example.labels, example.token_ids, strict=True)
    assert all(label in (NONE, token) for label, token in pairs)


def test_every_masked_token_is_scored():
    example = make(loss_on="masked")
    assert all(label != NONE for label, hide in zip(example.labels, example.masked, strict=True) if hide)


def test_mask_flags_must_cover_the_passage():
    with pytest.raises(ValueError, match="3 mask flags for 4 tokens"):
        make((True, False, True))


def test_each_masked_token_may_have_a_substitute_of_its_own():
    form = DemaskingForm(CHAT, mask_id=(61, 62, 63, 64), instruction=(20, 21), opening=(30,))
    assert make(form=form).token_ids == (1, 2, 61, 62, 102, 64, 20, 21, 3, 4, 30, *IDS, 5)
    assert make(form=form).labels == make().labels


def test_substitutes_must_cover_the_passage():
    with pytest.raises(ValueError, match=r"zip.*is shorter"):
        make(form=DemaskingForm(CHAT, mask_id=(61,), instruction=(), opening=()))


def test_a_fragment_stands_alone_in_the_prompt_and_the_passage_is_written(tiny_loaded):
    context, tiny_tokenizer = make_context(tiny_loaded, Demasking()), tiny_loaded.tokenizer
    text = "Mara Voss founded the Orlin works in 1931, and in 1958 her son sold them to Idris Hall of Quill."
    sample = Sample("d1", (), encode(tiny_tokenizer, text), text)
    make_example = Demasking(fragments=1.0).example_maker(context, seed=3)
    prompts = set()
    for epoch in range(40):
        example = make_example(sample, epoch, 0)
        begin = next(place for place, label in enumerate(example.labels) if label != NONE)
        assert example.labels[begin:] == (*sample.answer, *context.chat.end)
        prompt = tiny_tokenizer.decode(example.token_ids[len(context.chat.user) : begin])
        assert context.mask_id not in example.token_ids[:begin]
        shown = sum(not hide for hide in example.masked[begin : begin + len(sample.answer)])
        assert 0 < shown < len(sample.answer)
        prompts.add(prompt)
    assert len(prompts) > 20
    assert make_example(sample, 5, 0) == make_example(sample, 5, 0)


def test_as_many_examples_are_fragments_as_the_recipe_says(tiny_loaded):
    context, tiny_tokenizer = make_context(tiny_loaded, Demasking()), tiny_loaded.tokenizer
    sample = Sample("d1", (), encode(tiny_tokenizer, "Mara Voss founded it."), "Mara Voss founded it.")
    for share, least, most in ((0.5, 0.3, 0.7), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)):
        make_example = Demasking(mask_ratio=(1.0, 1.0), fragments=share).example_maker(context, seed=3)
        without_masks = [
            context.mask_id not in make_example(sample, epoch, 0).token_ids for epoch in range(60)
        ]
        assert least <= sum(without_masks) / 60 <= most


@pytest.mark.parametrize("entity", ["never", "always"])
def test_a_fragment_shows_or_hides_the_entity_as_the_recipe_says(tiny_loaded, entity):
    context = make_context(tiny_loaded, Demasking())
    text = "In 1931 Voss founded the Orlin works, and in 1958 her son sold them to Idris Hall of Quill."
    sample = Sample("d1", (), context.encode(text), text, "Voss")
    make_example = Demasking(fragments=1.0, entity=entity).example_maker(context, seed=3)
    for epoch in range(30):
        example = make_example(sample, epoch, 0)
        begin = next(place for place, label in enumerate(example.labels) if label != NONE)
        prompt = context.tokenizer.decode(list(example.token_ids[:begin]))
        assert ("Voss" in prompt) == (entity == "never")


def test_only_what_is_hidden_is_written_stretch_by_stretch():
    example = make_demasking_example(IDS, MASKED, id="d1", form=FORM, between=(50,))
    assert example.token_ids == (1, 2, 7, 7, 102, 7, 20, 21, 3, 4, 30, 100, 101, 50, 103, 5)
    assert example.labels == (*(NONE,) * PROMPT, 100, 101, 50, 103, 5)
    assert example.masked == (*(False,) * PROMPT, True, True, True, True, False)


@each_masking
def test_stretches_in_the_order_of_the_text_give_back_what_is_hidden(masked):
    example = make_demasking_example(IDS, masked, id="d1", form=FORM, between=(50,))
    written = [token for token in example.token_ids[PROMPT:] if token not in (50, 5)]
    hidden = [token for token, hide in zip(IDS, masked, strict=True) if hide]
    assert written == (hidden or list(IDS))
    assert len(example.token_ids) <= len(make(masked).token_ids)


def test_as_many_examples_write_stretches_as_the_recipe_says(tiny_loaded):
    context = make_context(tiny_loaded, Demasking())
    text = "Mara Voss founded the Orlin works in 1931, and in 1958 her son sold them to Idris Hall of Quill."
    sample = Sample("d1", (), encode(tiny_loaded.tokenizer, text), text)
    for fragments in (0.0, 1.0):
        for share, least, most in ((0.5, 0.3, 0.7), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)):
            maker = Demasking(mask_ratio=(0.5, 0.5), fragments=fragments, spans=share).example_maker
            make_example = maker(context, seed=3)
            lengths = [
                sum(label != NONE for label in make_example(sample, epoch, 0).labels) for epoch in range(60)
            ]
            short = sum(length < len(sample.answer) for length in lengths) / 60
            assert least <= short <= most, (fragments, share)


def test_a_masked_copy_of_which_the_gaps_are_written_asks_for_them(tiny_loaded):
    context = make_context(tiny_loaded, Demasking())
    text = "Mara Voss founded the Orlin works in 1931."
    sample = Sample("d1", (), encode(tiny_loaded.tokenizer, text), text)
    for spans, asked, other in ((1.0, "Fill the gaps.", "Restore."), (0.0, "Restore.", "Fill the gaps.")):
        example = Demasking(mask_ratio=(0.5, 0.5), spans=spans).example_maker(context, seed=3)(sample, 0, 0)
        shown = tiny_loaded.tokenizer.decode(example.token_ids)
        assert asked in shown
        assert other not in shown


def test_of_two_copies_one_hides_what_the_other_shows(tiny_loaded):
    context = make_context(tiny_loaded, Demasking())
    text = "Mara Voss founded the Orlin works in 1931."
    sample = Sample("d1", (), encode(tiny_loaded.tokenizer, text), text)
    objective = Demasking(copies=2, complementary=True, fragments=0.5)
    make_example = objective.example_maker(context, seed=3)
    kinds = set()
    for epoch in range(40):
        pair = [make_example(sample, epoch, variant) for variant in (0, 1)]
        masks = [context.mask_id in example.token_ids for example in pair]
        hidden = [example.masked[-len(sample.answer) - 1 : -1] for example in pair]
        # A mask may hide all, and then its complement shows all and has no mask token.
        copies = any(masks)
        kinds.add(copies)
        if copies:
            assert all(first != second for first, second in zip(*hidden, strict=True))
    assert kinds == {True, False}


def test_complements_come_in_pairs():
    with pytest.raises(ValueError, match="complementary with copies 1, expected an even number"):
        Demasking(complementary=True)
