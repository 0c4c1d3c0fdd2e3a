"""The mask token: the user's choice, the tokenizer's own, or that of the model's family."""

import pytest

from demask.errors import ModelError
from demask.models.families import MASK_TOKENS, choose_mask_id

END = ("<|endoftext|>", "<|im_end|>")


@pytest.mark.parametrize("token", MASK_TOKENS)
def test_each_family_has_its_token(make_tokenizer, token):
    tokenizer = make_tokenizer(special=(*END, token))
    assert choose_mask_id(tokenizer) == tokenizer.convert_tokens_to_ids(token)


def test_tokenizers_own_mask_token_comes_first(make_tokenizer):
    tokenizer = make_tokenizer(special=(*END, "<empty_output>", "[MASK]"), mask_token="[MASK]")
    assert choose_mask_id(tokenizer) == tokenizer.convert_tokens_to_ids("[MASK]")


def test_earlier_families_come_first(make_tokenizer):
    tokenizer = make_tokenizer(special=(*END, "[]", "<empty_output>"))
    assert choose_mask_id(tokenizer) == tokenizer.convert_tokens_to_ids("<empty_output>")


def test_the_users_choice_comes_before_all(make_tokenizer):
    tokenizer = make_tokenizer(special=(*END, "<empty_output>", "[MASK]"), mask_token="[MASK]")
    assert choose_mask_id(tokenizer, "<empty_output>") == tokenizer.convert_tokens_to_ids("<empty_output>")


def test_an_ordinary_character_can_be_chosen(tiny_tokenizer):
    assert choose_mask_id(tiny_tokenizer, "#") == tiny_tokenizer("#")["input_ids"][0]


def test_a_choice_of_several_tokens_is_refused(tiny_tokenizer):
    with pytest.raises(ModelError, match=r"objective.mask_token: '<gap>' is not one token"):
        choose_mask_id(tiny_tokenizer, "<gap>")


def test_a_choice_that_is_the_unknown_token_is_refused(make_tokenizer):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "Mara": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    with pytest.raises(ModelError, match="'Voss' is not one token"):
        choose_mask_id(tokenizer, "Voss")


def test_a_tokenizer_without_any_names_the_way_out(make_tokenizer):
    with pytest.raises(ModelError, match=r"no usable mask token .* objective\.mask_token"):
        choose_mask_id(make_tokenizer(special=END))


def test_a_mask_token_without_a_row_in_the_embedding_is_passed_over(make_tokenizer):
    tokenizer = make_tokenizer(special=(*END, "<empty_output>"))
    tokenizer.add_special_tokens({"mask_token": "[NEW]"})
    rows = tokenizer.convert_tokens_to_ids("[NEW]")
    assert choose_mask_id(tokenizer, rows=rows) == tokenizer.convert_tokens_to_ids("<empty_output>")


def test_a_chosen_mask_token_without_a_row_in_the_embedding_is_refused(make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"mask_token": "[NEW]"})
    rows = tokenizer.convert_tokens_to_ids("[NEW]")
    with pytest.raises(ModelError, match=r"'\[NEW\]' is not one token of this model's vocabulary"):
        choose_mask_id(tokenizer, "[NEW]", rows=rows)
