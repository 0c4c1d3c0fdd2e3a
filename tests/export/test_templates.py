"""A chat template as turns: the same text, or none at all."""

import pytest

from demask.export.templates import make_turns
from demask.objectives.prompts import PLAIN_TEMPLATE

pytestmark = pytest.mark.smoke

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n\n{{ m['content'] | trim }}<|eot|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n\n{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "[{{ m['role'] }}]{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
COUNTS = (
    "{% for m in messages %}{{ loop.index }}. {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}> {% endif %}"
)
GO = "{% for m in messages %}{{ '{{' + m['role'] + '}}' }}{{ m['content'] }}{% endfor %}"


def turns_of(tokenizer, template, **changes):
    tokenizer.chat_template = template
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return make_turns(tokenizer, stop="<|im_end|>")


def rendered(tokenizer, roles, words):
    messages = [{"role": role, "content": word} for role, word in zip(roles, words, strict=True)]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize("template", [None, LLAMA3, PLAIN_TEMPLATE])
def test_turns_say_what_the_template_says_but_for_the_beginning_of_a_text(tiny_tokenizer, template):
    tiny_tokenizer.bos_token = "<|endoftext|>"
    turns = turns_of(tiny_tokenizer, template or tiny_tokenizer.chat_template)
    roles, words = ("system", "user", "assistant", "user"), ("Be brief.", "Who?", "Mara.", "When?")
    whole = rendered(tiny_tokenizer, roles, words)
    assert turns.render(roles, words) == whole.removeprefix("<|endoftext|>")
    assert set(turns.around) == {"system", "user", "assistant"}


def test_a_template_without_a_place_for_a_system_prompt_gets_none(tiny_tokenizer):
    turns = turns_of(tiny_tokenizer, NO_SYSTEM)
    assert turns is not None
    assert set(turns.around) == {"user", "assistant"}


@pytest.mark.parametrize("template", [COUNTS, GO])
def test_a_template_that_does_more_is_not_taken_apart(tiny_tokenizer, template):
    assert turns_of(tiny_tokenizer, template) is None


def test_a_template_of_go_has_a_case_for_each_role_and_ends_where_the_reply_begins(tiny_tokenizer):
    text = turns_of(tiny_tokenizer, tiny_tokenizer.chat_template).as_go()
    assert text.startswith('{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n')
    assert text.count("{{ end }}") == 4
    assert text.endswith("{{ end }}<|im_start|>assistant\n")
