"""Running text is cut into blocks without losing a token."""

import pytest

from demask.data.samples import find_end_of_text, make_blocks
from demask.errors import ModelError
from demask.objectives.prompts import encode
from demask.records import Document

TEXTS = ["Mara Voss founded the Orlin works.", "a", "Which river does the bridge cross? " * 9, "<|im_end|>"]


def cut(tokenizer, texts, length):
    documents = [Document(f"d{n}", text, source=f"line {n}") for n, text in enumerate(texts)]
    end = find_end_of_text(tokenizer)
    return list(make_blocks(documents, tokenizer=tokenizer, end=end, length=length))


@pytest.mark.parametrize("length", [1, 3, 7, 64, 10_000])
def test_blocks_joined_are_all_texts_each_with_its_end(tiny_tokenizer, length):
    end = tiny_tokenizer.convert_tokens_to_ids("<|endoftext|>")
    whole = [token for text in TEXTS for token in (*encode(tiny_tokenizer, text), end)]
    blocks = [placed.sample for placed in cut(tiny_tokenizer, TEXTS, length)]
    assert [token for block in blocks for token in block.answer] == whole
    assert {len(block.answer) for block in blocks[:-1]} <= {length}
    assert 0 < len(blocks[-1].answer) <= length
    assert len({block.id for block in blocks}) == len(blocks)
    assert not any(block.prompt for block in blocks)


def test_a_block_is_placed_where_its_first_token_stands(tiny_tokenizer):
    texts = ["a", "b", "c"]  # two tokens each, with their ends
    assert [placed.source for placed in cut(tiny_tokenizer, texts, 3)] == ["line 0", "line 1"]
    assert [placed.source for placed in cut(tiny_tokenizer, texts, 2)] == ["line 0", "line 1", "line 2"]


def test_cutting_does_not_depend_on_what_is_tokenised_together(tiny_tokenizer, monkeypatch):
    at_once = cut(tiny_tokenizer, TEXTS, 5)
    monkeypatch.setattr("demask.data.samples._CHARACTERS", 1)
    assert cut(tiny_tokenizer, TEXTS, 5) == at_once


def test_the_end_of_a_text_is_not_the_end_of_a_turn(tiny_tokenizer, make_tokenizer):
    assert find_end_of_text(tiny_tokenizer) == tiny_tokenizer.convert_tokens_to_ids("<|endoftext|>")
    other = make_tokenizer(special=("<stop>",), eos_token="<stop>", pad_token=None)
    assert find_end_of_text(other) == other.convert_tokens_to_ids("<stop>")


def test_a_tokenizer_without_an_end_is_refused(make_tokenizer):
    with pytest.raises(ModelError, match="no token ends a text"):
        find_end_of_text(make_tokenizer(special=("<mask>",), eos_token=None, pad_token=None))
