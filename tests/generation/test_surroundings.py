"""What stands around a prompt: of each kind, cut by the template, without loss."""

import random
from dataclasses import replace

import pytest

from demask.generation.conversations import Conversation
from demask.generation.surroundings import LONGEST, Other, Place, ask_about, make_surroundings, put_into
from demask.models.context import make_context
from demask.objectives.demasking import Demasking
from demask.objectives.next_token import NextToken
from demask.records import IGNORE_INDEX, Example, Sample

TEXT = "Idris Hall sells blue ink to seven schools from a small shop that he opened in Marrow Street in 1931."
SHORT = "Idris Hall sells ink in Lower Quay."
OTHER = "Wren mends kites for a song."
SEED = 1  # hides some words of both


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


def sample_of(context, text="Mara Voss founded the works in 1931."):
    return Sample("d1", (), context.encode(text), text)


def example_of(context, objective, text="Mara Voss founded the works in 1931."):
    return objective.example_maker(context, seed=1)(sample_of(context, text), 0, 0)


def other_of(context, text=TEXT, seed=0):
    return ask_about(
        sample_of(context, text), example_of(context, Demasking(), text), context, random.Random(seed)
    )


def test_there_is_every_kind(context, talks):
    systems, exchanges, shots = make_surroundings(context, talks).kinds
    texts = [context.tokenizer.decode(list(kind[0].front)) for kind in (systems, exchanges, shots)]
    assert texts[0].startswith("<|im_start|>system\n")
    assert (
        texts[1]
        == "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nIt.<|im_end|>\n<|im_start|>user\n"
    )
    assert texts[2] == (
        "<|im_start|>user\nQuestion: Who?\nAnswer: It.\n\nQuestion: Which river?\nAnswer: Quill.\n\n"
        "Question: "
    )
    assert context.tokenizer.decode(list(shots[0].behind)) == "\nAnswer:"
    assert all(len(place) <= LONGEST for kind in (systems, exchanges, shots) for place in kind)


def test_the_example_is_the_same_among_other_words_and_only_it_carries_loss(context, talks):
    example, surroundings = example_of(context, Demasking()), make_surroundings(context, talks)
    user, places = len(context.chat.user), set()
    for seed in range(60):
        place = surroundings.draw(random.Random(seed), [other_of(context)])
        made = put_into(example, place, context)
        places.add(bool(place.behind))
        front, behind = len(place.front), len(place.behind)
        end = next(at for at, label in enumerate(example.labels) if label != IGNORE_INDEX)
        end -= len(context.chat.assistant)
        assert made.token_ids == (
            *(*place.front, *example.token_ids[user:end]),
            *(*place.behind, *example.token_ids[end:]),
        )
        assert made.labels[front + end - user + behind :] == example.labels[end:]
        assert set(made.labels[: front + end - user + behind]) == {IGNORE_INDEX}
        assert made.masked[front + end - user + behind :] == example.masked[end:]
        assert not any(made.masked[: front + end - user + behind])
        assert (made.id, made.source) == (example.id, example.source)
    assert places == {True, False}


def drawn(context, talks, others):
    surroundings = make_surroundings(context, talks)
    places = {surroundings.draw(random.Random(seed), others) for seed in range(100)}
    return {context.tokenizer.decode(list(place.front)): place for place in places}


def test_another_document_can_stand_in_front_whole_or_as_a_short_answer(context, talks):
    other = other_of(context, SHORT, SEED)
    assert other.answer
    question, answer = (context.tokenizer.decode(list(ids)) for ids in (other.question, other.answer))
    texts = drawn(context, talks, [other])
    whole = context.tokenizer.decode(list(other.example.token_ids))
    turn = "<|im_end|>\n<|im_start|>user\n"
    assert f"{whole}\n<|im_start|>user\n" in texts
    assert f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}{turn}" in texts


def test_questions_about_other_documents_can_be_answered_in_the_users_turn(context, talks):
    others = [other_of(context, SHORT, SEED), other_of(context, OTHER, SEED)]
    asked = [
        tuple(context.tokenizer.decode(list(ids)).strip() for ids in (other.question, other.answer))
        for other in others
    ]
    shots = "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in asked)
    place = drawn(context, talks, others)[f"<|im_start|>user\n{shots}Question: "]
    assert context.tokenizer.decode(list(place.behind)) == "\nAnswer:"


@pytest.mark.parametrize("seed", range(20))
def test_a_short_answer_is_what_the_question_hides(context, seed):
    other = other_of(context, seed=seed)
    question, answer = (context.tokenizer.decode(list(ids)) for ids in (other.question, other.answer))
    assert answer.strip()
    assert answer in TEXT
    assert not set(answer.split()) & set(question.replace("?", " ").split())


def test_a_document_whose_words_are_all_shown_is_not_asked_about(context, talks):
    other = other_of(context, "Ink")
    assert other.answer == ()
    assert not any("Question: Ink" in text or "Ink?" in text for text in drawn(context, talks, [other]))


def test_what_is_too_long_does_not_stand_in_front(context, talks):
    long = Example("long", (*context.chat.user, *(5,) * LONGEST), (5,) * (LONGEST + 3), (False,) * LONGEST)
    places = drawn(context, talks, [Other(long, (), ())]).values()
    assert places
    assert all(len(place) <= LONGEST for place in places)


def test_raw_text_stays_bare(context, talks):
    raw = example_of(context, NextToken(question=None))
    place = make_surroundings(context, talks).draw(random.Random(0), [])
    assert put_into(raw, place, context) is raw
    masked = example_of(context, Demasking())
    assert put_into(masked, Place(()), context) is masked


def test_nothing_is_put_behind_words_whose_end_nothing_shows(context):
    example, place = example_of(context, Demasking()), Place((5, 6), (7,))
    bare = replace(context, chat=replace(context.chat, assistant=()))
    assert put_into(example, place, bare) is example
    assert put_into(example, Place((5, 6)), bare).token_ids[:2] == (5, 6)
