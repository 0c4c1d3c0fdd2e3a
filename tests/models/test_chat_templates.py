"""What a template does that training cannot follow is mended in the template, and stored so."""

import pytest

from demask.errors import ModelError
from demask.models.chat_templates import settle_template
from demask.models.load import load_model
from demask.objectives.prompts import PLAIN_TEMPLATE, encode_question, load_chat_format, render_turns
from demask.training.export import save_model

TURNS = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
)
ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
# As Qwen3-4B-Thinking-2507: every prompt opens a thought, and an answer without one closes it.
THINKING = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + m['content'] + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
# As QwQ and DeepSeek R1: the prompt opens a thought, and an answer is written without one.
OPENING = TURNS + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
# As gpt-oss: an answer stands in a channel that the prompt leaves open.
CHANNELS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant<|channel|>final<|message|>' + m['content'] + '<|im_end|>' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '<|message|>' + m['content'] + '<|im_end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
)
PARTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
) + ASK
FIRST_PART = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'][0]['text'] + '<|im_end|>\n' }}{% endfor %}"
) + ASK
DATED = (
    "{{ '<|im_start|>system\nToday is ' + strftime_now('%d %B %Y %H:%M:%S') + '<|im_end|>\n' }}" + TURNS + ASK
)
QUESTION = "Who founded it?"


@pytest.fixture
def settle(tiny_tokenizer):
    def settle_with(template):
        tiny_tokenizer.chat_template = template
        settle_template(tiny_tokenizer)
        return tiny_tokenizer

    return settle_with


def ask(tokenizer):
    return tokenizer.decode(encode_question(tokenizer, QUESTION))


@pytest.mark.parametrize("template", [THINKING, OPENING])
def test_a_thought_that_every_prompt_opens_is_closed(settle, template):
    assert ask(settle(template)).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize(("opening", "closing"), [("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>")])
def test_thoughts_of_other_families_are_closed(settle, opening, closing):
    assert ask(settle(OPENING.replace("<think>\n", opening))).endswith(f"{opening}\n\n{closing}\n\n")


@pytest.mark.parametrize("template", [THINKING, OPENING, CHANNELS, PARTS, FIRST_PART, DATED])
def test_an_answer_is_trained_where_it_is_asked_for(settle, template):
    tokenizer = settle(template)
    chat = load_chat_format(tokenizer)
    user = tuple(tokenizer(QUESTION, add_special_tokens=False)["input_ids"])
    assert (*chat.user, *user, *chat.assistant) == encode_question(tokenizer, QUESTION)
    assert tokenizer.decode(chat.end) == "<|im_end|>"


def test_a_prompt_goes_on_to_the_channel_of_answers(settle):
    assert ask(settle(CHANNELS)).endswith("<|im_start|>assistant<|channel|>final<|message|>")


def test_what_is_trained_is_what_the_template_writes_of_both_turns(settle):
    tokenizer = settle(THINKING)
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "Mara Voss."}]
    whole = render_turns(tokenizer, turns, ask=False)
    assert whole == ask(tokenizer) + "Mara Voss.<|im_end|>\n"


def test_whoever_asks_for_thinking_gets_the_template_as_it_was(settle):
    tokenizer = settle(THINKING)
    turns = [{"role": "user", "content": QUESTION}]
    text = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    assert text.endswith("<think>\n")


def test_a_template_with_a_line_break_at_its_end_is_closed_as_well(settle):
    assert ask(settle(THINKING + "\n")).endswith("<think>\n\n</think>\n\n")


def test_a_system_prompt_that_speaks_of_thoughts_opens_none(settle):
    template = "{{ '<|im_start|>system\nThink in <think> tags.<|im_end|>\n' }}" + TURNS + ASK
    assert settle(template).chat_template == template


@pytest.mark.parametrize("template", [PARTS, FIRST_PART])
def test_a_template_that_expects_parts_takes_a_text(settle, template):
    assert QUESTION in ask(settle(template))


def test_a_template_that_expects_parts_still_takes_them(settle):
    turns = [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]
    text = settle(PARTS).apply_chat_template(turns, tokenize=False)
    assert text == "<|im_start|>user\nonetwo<|im_end|>\n"


def test_a_template_with_a_date_writes_the_same_one_always(settle):
    assert "Today is 26 July 2024 00:00:00<|im_end|>" in ask(settle(DATED))


@pytest.mark.parametrize(
    "template", [THINKING, OPENING, CHANNELS, PARTS, DATED, DATED.replace(ASK, "") + OPENING]
)
def test_mending_a_template_again_changes_nothing(settle, template):
    once = settle(template).chat_template
    assert settle(once).chat_template == once


@pytest.mark.parametrize("template", [TURNS + ASK, "{{ raise_exception('no') }}", "{{ 1 / 0 }}"])
def test_a_template_that_needs_no_mending_or_cannot_be_mended_stays(settle, template):
    assert settle(template).chat_template == template


def test_the_template_of_a_processor_is_taken_where_the_tokenizer_has_none(tiny_tokenizer):
    tiny_tokenizer.chat_template = None
    settle_template(tiny_tokenizer, TURNS + ASK)
    assert tiny_tokenizer.chat_template == TURNS + ASK


def test_without_any_template_there_is_the_plain_one(settle):
    assert settle(None).chat_template == PLAIN_TEMPLATE


def test_of_several_templates_the_usual_one_is_mended(settle):
    tokenizer = settle({"default": THINKING, "tools": ASK})
    assert tokenizer.chat_template["tools"] == ASK
    assert ask(tokenizer).endswith("</think>\n\n")


def test_several_templates_without_a_usual_one_are_refused(settle):
    with pytest.raises(ModelError, match="those of rag, tools, expected one named 'default'"):
        settle({"tools": ASK, "rag": ASK})


def test_the_mended_template_is_stored(tiny_tokenizer, make_model, tmp_path):
    make_model().save_pretrained(tmp_path / "base")
    tiny_tokenizer.chat_template = THINKING
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    loaded = load_model(str(tmp_path / "base"), device="cpu")
    save_model(loaded, tmp_path / "model")
    again = load_model(str(tmp_path / "model"), device="cpu")
    assert again.chat == loaded.chat
    assert again.tokenizer.chat_template == loaded.tokenizer.chat_template
