"""Prompts and completions carry exactly the ids of the rendered template, and bad templates are refused."""

import pytest

from demask.errors import ModelError
from demask.objectives.prompts import (
    PLAIN_TEMPLATE,
    encode,
    encode_question,
    load_chat_format,
    render_question,
)

QUESTION = "Who founded the Orlin works?"
ANSWER = "Mara Voss founded the Orlin works in 1931."

# Qwen3: without thinking, an empty think block opens the assistant's turn.
THINKING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
# Hybrid models before Qwen3-2507: the block stands in the prompt only.
THINKING_IN_PROMPT_ONLY = THINKING.replace(" and loop.last", " and false")


def ids_of(tokenizer, text):
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def rendered(tokenizer, question, answer):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return tokenizer.apply_chat_template(turns, tokenize=False, enable_thinking=False)


def reassembled(tokenizer, question, answer):
    chat = load_chat_format(tokenizer)
    turns = (*chat.user, *encode(tokenizer, question), *chat.assistant, *encode(tokenizer, answer))
    return (*turns, *chat.end)


def test_cut_format_reassembles_to_the_ids_of_the_rendered_template(tiny_tokenizer):
    whole = rendered(tiny_tokenizer, QUESTION, ANSWER).rstrip("\n")
    assert reassembled(tiny_tokenizer, QUESTION, ANSWER) == ids_of(tiny_tokenizer, whole)


@pytest.mark.parametrize("text", [QUESTION, "Naïve 名前 🙂?", "two\nlines, 1931", "A"])
def test_question_has_the_ids_that_training_put_before_the_completion(tiny_tokenizer, text):
    chat = load_chat_format(tiny_tokenizer)
    trained_on = (*chat.user, *encode(tiny_tokenizer, text), *chat.assistant)
    assert encode_question(tiny_tokenizer, text) == trained_on


def test_turn_ends_with_one_special_token_and_nothing_after_it(tiny_tokenizer):
    end = tiny_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert load_chat_format(tiny_tokenizer).end == (end,)


def test_what_stands_before_the_special_token_belongs_to_the_end_of_turn(tiny_tokenizer):
    tiny_tokenizer.chat_template = tiny_tokenizer.chat_template.replace("+ '<|im_end|>'", "+ '\n<|im_end|>'")
    assert load_chat_format(tiny_tokenizer).end == ids_of(tiny_tokenizer, "\n<|im_end|>")


def test_raw_text_begins_with_bos_where_the_tokenizer_has_one(make_tokenizer):
    tokenizer = make_tokenizer(bos_token="<|endoftext|>")
    assert load_chat_format(tokenizer).bos == (tokenizer.convert_tokens_to_ids("<|endoftext|>"),)
    assert load_chat_format(make_tokenizer()).bos == ()


def test_one_bos_in_the_template_is_accepted(make_tokenizer):
    tokenizer = make_tokenizer(bos_token="<|endoftext|>")
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    chat = load_chat_format(tokenizer)
    assert chat.user[:1] == chat.bos
    assert chat.bos[0] not in chat.user[1:]


def test_two_bos_tokens_are_refused(make_tokenizer):
    tokenizer = make_tokenizer(bos_token="<|endoftext|>")
    tokenizer.chat_template = "{{ bos_token }}{{ bos_token }}" + tokenizer.chat_template
    with pytest.raises(ModelError, match="begins with two BOS tokens"):
        load_chat_format(tokenizer)


def test_prompt_that_is_no_prefix_is_refused(tiny_tokenizer):
    template = tiny_tokenizer.chat_template
    tiny_tokenizer.chat_template = template.replace("'<|im_start|>assistant\n'", "'<|im_start|>bot\n'")
    with pytest.raises(ModelError, match="not a prefix"):
        load_chat_format(tiny_tokenizer)


def test_turn_without_a_special_token_at_its_end_is_refused(tiny_tokenizer):
    tiny_tokenizer.chat_template = tiny_tokenizer.chat_template.replace("'<|im_end|>'", "'\n'")
    with pytest.raises(ModelError, match="expected a special token such as '<|im_end|>'".replace("|", r"\|")):
        load_chat_format(tiny_tokenizer)


def test_template_that_drops_the_users_turn_is_refused(tiny_tokenizer):
    tiny_tokenizer.chat_template = "{{ '<|im_start|>assistant\n' }}"
    with pytest.raises(ModelError, match="drops or repeats a turn"):
        load_chat_format(tiny_tokenizer)


def test_template_that_repeats_the_users_turn_is_refused(tiny_tokenizer):
    tiny_tokenizer.chat_template = "{{ messages[0]['content'] }}" + tiny_tokenizer.chat_template
    with pytest.raises(ModelError, match="drops or repeats a turn"):
        load_chat_format(tiny_tokenizer)


def test_template_that_raises_is_refused_in_one_line(tiny_tokenizer):
    tiny_tokenizer.chat_template = "{{ raise_exception('a system turn is needed') }}"
    with pytest.raises(ModelError, match="a system turn is needed"):
        load_chat_format(tiny_tokenizer)


@pytest.mark.parametrize("template", [THINKING, THINKING_IN_PROMPT_ONLY])
def test_empty_think_block_is_part_of_the_prompt_and_carries_no_loss(tiny_tokenizer, template):
    tiny_tokenizer.chat_template = template
    chat = load_chat_format(tiny_tokenizer)
    assert chat.assistant == ids_of(
        tiny_tokenizer, "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert encode_question(tiny_tokenizer, QUESTION)[-len(chat.assistant) :] == chat.assistant


def test_special_tokens_named_in_a_document_are_only_letters(tiny_tokenizer):
    ids = encode(tiny_tokenizer, "It prints <|im_end|> and <empty_output>.")
    assert not set(ids) & set(tiny_tokenizer.all_special_ids)
    end, mask = (tiny_tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<empty_output>"))
    assert end not in ids
    assert mask not in ids
    assert tiny_tokenizer.decode(ids) == "It prints <|im_end|> and <empty_output>."


def test_encoding_adds_neither_bos_nor_eos(tiny_tokenizer):
    assert encode(tiny_tokenizer, "") == ()
    assert tiny_tokenizer.decode(encode(tiny_tokenizer, ANSWER)) == ANSWER


@pytest.fixture
def plain(make_tokenizer):
    return make_tokenizer(chat_template=PLAIN_TEMPLATE, bos_token="<|endoftext|>")


def test_plain_template_begins_with_one_bos_and_ends_with_eos(plain):
    chat = load_chat_format(plain)
    assert chat.user[: len(chat.bos)] == chat.bos
    assert chat.end == (plain.eos_token_id,)


def test_plain_template_reassembles_to_the_ids_of_the_rendered_template(plain):
    whole = rendered(plain, QUESTION, ANSWER).rstrip("\n")
    assert reassembled(plain, QUESTION, ANSWER) == ids_of(plain, whole)


def test_plain_template_works_without_bos(make_tokenizer):
    tokenizer = make_tokenizer(chat_template=PLAIN_TEMPLATE)
    assert load_chat_format(tokenizer).bos == ()
    assert render_question(tokenizer, QUESTION).startswith("User:")


def test_special_tokens_that_stand_in_a_question_are_letters(tiny_tokenizer):
    plain = encode_question(tiny_tokenizer, "Who")
    odd = encode_question(tiny_tokenizer, "Who <|im_end|>")
    end = tiny_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert odd.count(end) == plain.count(end)
