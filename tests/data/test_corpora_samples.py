"""A sample's prompt is what the model sees when it is asked; what a template cannot write is refused."""

import pytest

from demask.data.conversations import Conversation, Turn
from demask.data.samples import LeftOut, Limit, Placed, keep_fitting, make_samples, template_cutter
from demask.errors import DataError, ModelError
from demask.objectives.prompts import encode, encode_question, load_chat_format
from demask.records import Sample

pytestmark = pytest.mark.smoke

TURNS = (
    Turn("system", "Be brief."),
    Turn("user", "Who founded Orlin?"),
    Turn("assistant", "Mara Voss."),
    Turn("user", "When? 名前 🙂"),
    Turn("assistant", "In 1931."),
)
# Mistral's later ones: the system's words stand in the last user's turn.
SYSTEM_LAST = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if loop.last and message['role'] == 'user' %}{{ system }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make(tokenizer, *conversations, turns="last"):
    placed = make_samples(
        [Conversation(f"c{n}", its, f"f.jsonl line {n}") for n, its in enumerate(conversations, start=1)],
        turns=turns,
        tokenizer=tokenizer,
        cut=template_cutter(tokenizer, load_chat_format(tokenizer)),
    )
    return [one.sample for one in placed]


def asked(tokenizer, turns):
    """The ids of the whole prompt, as a server makes them."""
    text = tokenizer.apply_chat_template(
        [{"role": turn.role, "content": turn.text} for turn in turns],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def whole_prompt(tokenizer, sample):
    return (*sample.prompt, *load_chat_format(tokenizer).assistant)


@pytest.mark.parametrize("template", [None, SYSTEM_LAST])
def test_prompt_has_the_ids_of_the_rendered_turns_before_the_answer(tiny_tokenizer, template):
    tiny_tokenizer.chat_template = template or tiny_tokenizer.chat_template
    [sample] = make(tiny_tokenizer, TURNS)
    assert whole_prompt(tiny_tokenizer, sample) == asked(tiny_tokenizer, TURNS[:4])
    assert sample.answer == encode(tiny_tokenizer, "In 1931.")
    assert sample.id == "c1"


def test_every_answer_is_a_sample_with_what_stands_before_it(tiny_tokenizer):
    first, second = make(tiny_tokenizer, TURNS, turns="all")
    assert whole_prompt(tiny_tokenizer, first) == asked(tiny_tokenizer, TURNS[:2])
    assert first.answer == encode(tiny_tokenizer, "Mara Voss.")
    assert second == Sample(
        "c1#5", *(make(tiny_tokenizer, TURNS)[0].__dict__[key] for key in ("prompt", "answer"))
    )
    assert first.id == "c1#3"


def test_a_single_question_has_the_ids_that_it_is_asked_with(tiny_tokenizer):
    [sample] = make(tiny_tokenizer, TURNS[1:3])
    assert whole_prompt(tiny_tokenizer, sample) == encode_question(tiny_tokenizer, "Who founded Orlin?")


def test_turns_after_the_last_answer_are_not_used(tiny_tokenizer):
    assert make(tiny_tokenizer, TURNS[:4], turns="all") == make(tiny_tokenizer, TURNS[:3], turns="all")


def test_special_tokens_in_a_text_are_only_letters(tiny_tokenizer):
    marked = "a<|im_end|>b"
    [sample] = make(tiny_tokenizer, (Turn("user", marked), Turn("assistant", marked)))
    end = tiny_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end not in sample.prompt
    assert end not in sample.answer
    assert tiny_tokenizer.decode(sample.answer) == marked


def test_order_is_kept_over_parts_that_are_tokenised_together(tiny_tokenizer, monkeypatch):
    pairs = [(Turn("user", "a"), Turn("assistant", f"{n}")) for n in range(23)]
    at_once = make(tiny_tokenizer, *pairs)
    monkeypatch.setattr("demask.data.samples._AT_ONCE", 5)
    assert make(tiny_tokenizer, *pairs) == at_once
    assert [tiny_tokenizer.decode(one.answer) for one in at_once] == [f"{n}" for n in range(23)]


def test_the_template_is_rendered_once_for_each_sequence_of_roles(tiny_tokenizer, monkeypatch):
    rendered = []
    apply = tiny_tokenizer.apply_chat_template
    cut = template_cutter(tiny_tokenizer, load_chat_format(tiny_tokenizer))
    monkeypatch.setattr(
        tiny_tokenizer, "apply_chat_template", lambda *a, **k: rendered.append(a) or apply(*a, **k)
    )
    conversations = [Conversation(f"{n}", turns, "f") for n in range(9) for turns in (TURNS, TURNS[1:])]
    assert len(list(make_samples(conversations, turns="last", tokenizer=tiny_tokenizer, cut=cut))) == 18
    assert len(rendered) == 2


def test_turns_that_the_template_cannot_write_are_named(tiny_tokenizer):
    tiny_tokenizer.chat_template = (
        "{% for message in messages %}"
        "{% if loop.index0 and messages[loop.index0 - 1]['role'] == message['role'] %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + tiny_tokenizer.chat_template
    )
    twice = (TURNS[1], *TURNS[1:3])
    message = r"f.jsonl line 2: the chat template cannot write the turns user, user \(roles must alternate\)"
    with pytest.raises(DataError, match=message):
        make(tiny_tokenizer, TURNS, twice)


def test_a_turn_that_the_template_drops_is_named(tiny_tokenizer):
    tiny_tokenizer.chat_template = tiny_tokenizer.chat_template.replace(
        "{% for message in messages %}", "{% for message in messages if message['role'] != 'system' %}"
    )
    with pytest.raises(DataError, match="line 1: the chat template drops or repeats the system's turn"):
        make(tiny_tokenizer, TURNS)


def test_a_template_that_asks_otherwise_after_several_turns_is_refused(tiny_tokenizer):
    tiny_tokenizer.chat_template += "{% if messages | length > 1 and add_generation_prompt %}So: {% endif %}"
    with pytest.raises(ModelError, match="not what it writes after a single question"):
        make(tiny_tokenizer, TURNS)


def test_more_turns_than_letters_are_told_apart(tiny_tokenizer):
    many = (*TURNS[1:3] * 40, TURNS[3], TURNS[4])
    [sample] = make(tiny_tokenizer, many)
    assert whole_prompt(tiny_tokenizer, sample) == asked(tiny_tokenizer, many[:-1])


LONG = Placed(Sample("b", (1, 2), (3, 4, 5)), "f.jsonl line 2")
SHORT = Placed(Sample("a", (1, 2), (3,)), "f.jsonl line 1")


def test_a_sample_that_is_too_long_is_named_with_its_tokens():
    limit = Limit(lambda prompt, answer: prompt + answer <= 4, "at most 4 tokens")
    with pytest.raises(
        DataError, match="line 2: 2 tokens of prompt and 3 of answer, expected at most 4 tokens"
    ):
        list(keep_fitting([SHORT, LONG], limit, LeftOut()))


def test_samples_that_are_left_out_are_counted_and_the_first_are_listed():
    left_out = LeftOut()
    limit = Limit(lambda prompt, answer: prompt + answer <= 4, "at most 4 tokens", "leave-out")
    assert list(keep_fitting([LONG] * 30 + [SHORT], limit, left_out)) == [SHORT]
    assert left_out.count == 30
    assert left_out.first == ("f.jsonl line 2: 2 tokens of prompt and 3 of answer",) * 10
