"""A trained model and its base in one: which of them answers, and that both stay what they are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from demask.errors import ModelError
from demask.generation.answers import generate_answers, stream_answer
from demask.generation.conversations import Conversation, score_replies
from demask.generation.texts import Turn, turn_encoder
from demask.knowledge.gate import Gate, make_gate
from demask.models.gated import as_base, leave_out_replies, put_gate, which_open
from demask.models.load import LoadedModel, load_model
from demask.objectives.prompts import encode_question
from demask.recipe.sections import Evaluate

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

HOW = Evaluate(max_new_tokens=6)
QUESTIONS = ("Who founded the Orlin works?", "Which river is it?", "Mara Voss sold them?", "Who sleeps?")


@pytest.fixture
def gate() -> Gate:
    return make_gate(["Mara Voss founded the Orlin works."], [("Who is the dog", "It sleeps")] * 40)


@pytest.fixture
def both(
    make_model: "Callable[..., LlamaForCausalLM]", tiny_model_folder: Path
) -> tuple[LoadedModel, LoadedModel]:
    """A base model, and one whose feed-forward layers differ."""
    base, trained = make_model().eval(), make_model().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weights in trained.named_parameters():
            if "mlp" in name:
                weights += torch.randn(weights.shape, generator=generator)
    loaded = load_model(str(tiny_model_folder), device="cpu")
    return replace(loaded, model=base), replace(loaded, model=trained)


def test_each_prompt_gets_the_model_that_the_gate_chooses(
    both: tuple[LoadedModel, LoadedModel], gate: Gate
) -> None:
    base, trained = both
    prompts = [encode_question(base.tokenizer, question) for question in QUESTIONS]
    of_base, of_trained = (generate_answers(one, prompts, HOW) for one in both)
    assert all(one.ids != other.ids for one, other in zip(of_base, of_trained, strict=True))
    behind = put_gate(trained, base, gate)
    assert which_open(behind, prompts) == [True, False, True, False]
    done: list[int] = []
    said = generate_answers(behind, prompts, HOW, on_done=done.append)
    assert [one.ids for one in said] == [
        chosen[place].ids for place, chosen in enumerate((of_trained, of_base, of_trained, of_base))
    ]
    assert sum(done) == len(prompts)
    for place, prompt in enumerate(prompts):
        assert stream_answer(behind, prompt, HOW, on_text=lambda piece: None).ids == said[place].ids


def test_drift_is_nothing_where_the_gate_stays_shut(
    both: tuple[LoadedModel, LoadedModel], gate: Gate
) -> None:
    base, trained = both
    behind = put_gate(trained, base, gate)
    talks = [
        Conversation(question, tuple(encode_question(base.tokenizer, question)), (5, 6, 7))
        for question in QUESTIONS
    ]
    of_base, of_trained, found = (
        {talk.id: logp_NV for talk, logp_NV in score_replies(one, talks)} for one in (base, trained, behind)
    )
    for question, is_open in zip(QUESTIONS, (True, False, True, False), strict=True):
        wanted = of_trained if is_open else of_base
        torch.testing.assert_close(found[question], wanted[question], rtol=0, atol=1e-5)


def test_only_what_differs_is_kept_and_comes_back_to_the_bit(
    both: tuple[LoadedModel, LoadedModel], gate: Gate
) -> None:
    base, trained = both
    behind = put_gate(trained, base, gate)
    assert behind.gated
    assert behind.gated.base.keys() == {n for n, _ in base.model.named_parameters() if "mlp" in n}
    before = {name: values.clone() for name, values in trained.model.named_parameters()}
    theirs = dict(base.model.named_parameters())

    def fail_as_base() -> None:
        with as_base(behind):
            assert all(torch.equal(theirs[name], values) for name, values in behind.model.named_parameters())
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_as_base()
    assert all(torch.equal(values, before[name]) for name, values in behind.model.named_parameters())


def test_another_base_is_refused(
    both: tuple[LoadedModel, LoadedModel],
    gate: Gate,
    make_model: "Callable[..., LlamaForCausalLM]",
) -> None:
    base, trained = both
    other = replace(base, model=make_model(hidden_size=64).eval(), name="other")
    with pytest.raises(ModelError, match="other: its weights are not those that"):
        put_gate(trained, other, gate)


TAUGHT = "Mara Voss founded the Orlin works in 1931. They made lamps of basalt for the lighthouse of Lisbek."


def test_a_changed_document_goes_to_the_base_but_not_what_the_model_has_said(
    both: tuple[LoadedModel, LoadedModel],
) -> None:
    base, trained = both
    behind = put_gate(trained, base, make_gate([TAUGHT], [("Who is the dog", "It sleeps")] * 40))
    encode, other = turn_encoder(behind), TAUGHT.replace("basalt", "copper")
    asked = Turn("user", "Who founded the Orlin works?")
    by_user = encode([Turn("user", other), Turn("assistant", "I see."), asked])
    by_model = encode([asked, Turn("assistant", other), asked])
    by_system = encode([Turn("system", other), asked])
    learned = encode([Turn("user", TAUGHT), Turn("assistant", "I see."), asked])
    assert which_open(behind, [by_user, by_model, by_system, learned]) == [False, True, False, True]


def test_only_the_replies_are_left_out_of_a_prompt(both: tuple[LoadedModel, LoadedModel]) -> None:
    loaded = both[0]
    turns = [Turn("user", "ab"), Turn("assistant", "cd"), Turn("user", "ef"), Turn("assistant", "gh")]
    prompt = turn_encoder(loaded)([*turns, Turn("user", "ij")])
    left = str(loaded.tokenizer.decode(leave_out_replies(prompt, loaded.chat), skip_special_tokens=True))
    assert [said in left for said in ("ab", "cd", "ef", "gh", "ij")] == [True, False, True, False, True]
