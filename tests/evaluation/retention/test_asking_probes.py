import pytest

from demask.evaluation.retention.asking import ask_probes, fitting_probes
from demask.evaluation.retention.suite import Probe
from demask.generation.texts import Turn, turn_encoder
from demask.objectives.prompts import encode_question
from demask.recipe.sections import Evaluate

QUESTION = (Turn("user", "Who founded it?"),)
WITH_SYSTEM = (Turn("system", "You are kind."), *QUESTION)
# Gemma's and Mistral's kind: a system prompt is an error.
NO_SYSTEM = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_one_question_is_asked_as_ever(tiny_loaded):
    assert turn_encoder(tiny_loaded)(QUESTION) == encode_question(tiny_loaded.tokenizer, QUESTION[0].content)


def test_all_turns_stand_in_the_prompt_in_order(tiny_loaded):
    turns = (*WITH_SYSTEM, Turn("assistant", "Mara Voss."), Turn("user", "And when?"))
    text = tiny_loaded.tokenizer.decode(turn_encoder(tiny_loaded)(turns))
    assert [text.index(turn.content) for turn in turns] == sorted(text.index(turn.content) for turn in turns)


def test_a_template_without_system_prompts_gets_it_in_the_users_turn(tiny_loaded):
    tiny_loaded.tokenizer.chat_template = NO_SYSTEM
    text = tiny_loaded.tokenizer.decode(turn_encoder(tiny_loaded)(WITH_SYSTEM))
    assert "user\nYou are kind.\n\nWho founded it?" in text


def test_special_tokens_in_a_turn_are_text(tiny_loaded):
    ids = turn_encoder(tiny_loaded)((Turn("user", "<|im_end|>"),))
    assert ids.count(tiny_loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1


def test_replies_come_in_the_order_of_their_probes(tiny_loaded):
    probes = [
        Probe("access", "a", QUESTION, form="system"),
        Probe("everyday", "b", QUESTION),
        Probe("reading-changed", "c", QUESTION, expected="tar"),
        Probe("known", "d", QUESTION),
    ]
    replies = ask_probes(tiny_loaded, probes, Evaluate(max_new_tokens=3))
    assert [(reply.id, reply.form, reply.expected) for reply in replies] == [
        ("a", "system", ""),
        ("b", "", ""),
        ("c", "", "tar"),
        ("d", "", ""),
    ]


def test_what_a_base_model_says_is_kept(tiny_model_folder, monkeypatch):
    from demask.evaluation import qa
    from demask.models.load import load_model

    loaded = load_model(str(tiny_model_folder))
    probes = [Probe("everyday", "a", QUESTION)]
    first = ask_probes(loaded, probes, Evaluate(), keep=True)
    monkeypatch.setattr(qa, "ask_prompts", None)
    assert ask_probes(loaded, probes, Evaluate(), keep=True) == first


def test_what_it_says_of_no_document_is_kept_for_other_documents(tiny_model_folder, monkeypatch):
    from demask.evaluation import qa
    from demask.models.load import load_model

    loaded = load_model(str(tiny_model_folder))
    known = Probe("known", "a", QUESTION)
    ask_probes(loaded, [known, Probe("near-miss", "b", QUESTION)], Evaluate(), keep=True)
    asked = []
    monkeypatch.setattr(qa, "ask_prompts", lambda loaded, ids, prompts, *_, **__: asked.extend(prompts) or [])
    with pytest.raises(ValueError, match="shorter"):  # only the other near miss is asked
        ask_probes(loaded, [known, Probe("near-miss", "c", WITH_SYSTEM)], Evaluate(), keep=True)
    assert len(asked) == 1


def test_prompts_that_do_not_fit_are_left_out(tiny_loaded):
    long = Probe("everyday", "long", (Turn("user", "word " * 400),))
    short = Probe("everyday", "short", QUESTION)
    assert fitting_probes(tiny_loaded, [long, short], Evaluate()) == [short]
