"""What stands in front of a prompt: of each kind, cut by the template, without loss."""

import random

import pytest

from demask.generation.conversations import Conversation
from demask.generation.surroundings import LONGEST, make_surroundings, put_behind
from demask.models.context import make_context
from demask.objectives.demasking import Demasking
from demask.objectives.next_token import NextToken
from demask.records import IGNORE_INDEX, Sample


@pytest.fixture
def context(tiny_loaded):
    return make_context(tiny_loaded, Demasking())


@pytest.fixture
def talks(context):
    def say(number, question, answer):
        prompt = (*context.chat.user, *context.encode(question), *context.chat.assistant)
        return Conversation(f"self-{number}", prompt, (*context.encode(answer), *context.chat.end))

    texts = [("Who?", "It."), ("Which river?", "Quill."), ("Hello", "Hi."), ("Why?", "So. And so.")]
    return [say(number, *text) for number, text in enumerate(texts)]


def example_of(context, objective, text="Mara Voss founded the works in 1931."):
    sample = Sample("d1", (), context.encode(text), text)
    return objective.example_maker(context, seed=1)(sample, 0, 0)


def test_there_is_every_kind(context, talks):
    systems, exchanges, shots = make_surroundings(context, talks).kinds
    texts = [context.tokenizer.decode(list(kind[0])) for kind in (systems, exchanges, shots)]
    assert texts[0].startswith("<|im_start|>system\n")
    assert (
        texts[1]
        == "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nIt.<|im_end|>\n<|im_start|>user\n"
    )
    assert texts[2] == (
        "<|im_start|>user\nQuestion: Who?\nAnswer: It.\n\nQuestion: Which river?\nAnswer: Quill.\n\n"
    )
    assert all(len(ids) <= LONGEST for kind in (systems, exchanges, shots) for ids in kind)


def test_the_example_is_the_same_behind_other_words_and_only_it_carries_loss(context, talks):
    example, surroundings = example_of(context, Demasking()), make_surroundings(context, talks)
    user = len(context.chat.user)
    for seed in range(20):
        front = surroundings.draw(random.Random(seed), None)
        made = put_behind(example, front, context)
        assert made.token_ids == (*front, *example.token_ids[user:])
        assert made.labels == (*(IGNORE_INDEX,) * len(front), *example.labels[user:])
        assert made.masked == (*(False,) * len(front), *example.masked[user:])
        assert (made.id, made.source) == (example.id, example.source)


def test_another_document_can_stand_in_front(context, talks):
    other = example_of(context, Demasking(), "Idris Hall sells ink.")
    surroundings = make_surroundings(context, talks)
    fronts = {surroundings.draw(random.Random(seed), other) for seed in range(60)}
    (behind_other,) = (front for front in fronts if front[: len(other.token_ids)] == other.token_ids)
    text = context.tokenizer.decode(list(behind_other))
    assert text.endswith("Idris Hall sells ink.<|im_end|>\n<|im_start|>user\n")


def test_raw_text_stays_bare(context, talks):
    raw = example_of(context, NextToken(question=None))
    front = make_surroundings(context, talks).draw(random.Random(0), None)
    assert put_behind(raw, front, context) is raw
