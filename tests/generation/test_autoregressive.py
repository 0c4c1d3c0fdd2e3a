"""Decoding is greedy, stops at the end of turn, and does not depend on what is decoded beside it."""

import dataclasses
import functools
import inspect
from typing import Any

import pytest
import torch
from transformers import ContinuousBatchingConfig

from demask.generation import autoregressive
from demask.generation.autoregressive import generate_texts
from demask.objectives.prompts import encode_question

pytestmark = pytest.mark.smoke

QUESTIONS = [
    "Who founded it?",
    "Tell me a fact about the bridge over the river at the lower end of the old town.",
    "Ems",
    "Which river does the bridge cross, and when was it built?",
    "Who?",
]


@pytest.fixture
def loaded(tiny_loaded, make_model):
    """Weights so large that the model says something else at every step."""
    lively = make_model(initializer_range=0.5, tie_word_embeddings=False)
    return dataclasses.replace(tiny_loaded, model=lively)


@pytest.fixture
def prompts(loaded):
    return [encode_question(loaded.tokenizer, question) for question in QUESTIONS]


@torch.no_grad()
def greedy(loaded, prompt, limit):
    """Brute force: the whole prompt anew for every token."""
    ids = list(prompt)
    for _ in range(limit):
        ids.append(int(loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == loaded.chat.end[-1]:
            break
    return ids[len(prompt) :]


def make_stop(loaded, token):
    """The same model, whose turns end with a token that it does say."""
    loaded.tokenizer.eos_token = loaded.tokenizer.convert_ids_to_tokens(token)
    return dataclasses.replace(loaded, chat=dataclasses.replace(loaded.chat, end=(token,)))


def words(loaded, ids):
    return loaded.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_ragged_prompts_together_say_what_each_says_alone(loaded, prompts):
    together = generate_texts(loaded, prompts, max_new_tokens=8, batch_size=5)
    alone = [generate_texts(loaded, [p], max_new_tokens=8, batch_size=1)[0] for p in prompts]
    assert [row.text for row in together] == [row.text for row in alone]


@pytest.mark.parametrize("batch_size", [2, 5])
def test_texts_are_those_of_brute_force_in_the_order_of_the_prompts(loaded, prompts, batch_size):
    found = generate_texts(loaded, prompts, max_new_tokens=8, batch_size=batch_size)
    expected = [words(loaded, greedy(loaded, prompt, 8)) for prompt in prompts]
    assert [row.text for row in found] == expected
    assert len(set(expected)) > 1


def test_decoding_stops_at_the_end_of_turn(loaded, prompts):
    said = greedy(loaded, prompts[0], 8)
    place = next(i for i, token in enumerate(said) if token != said[0])
    loaded = make_stop(loaded, said[place])
    (row,) = generate_texts(loaded, prompts[:1], max_new_tokens=8, batch_size=1)
    assert row.stopped
    assert row.tokens == place + 1
    assert row.text == words(loaded, said[:place])


def test_a_row_that_stops_early_is_not_continued_beside_a_longer_one(loaded, prompts):
    said = [greedy(loaded, prompt, 8) for prompt in prompts]
    loaded = make_stop(loaded, said[0][1])
    found = generate_texts(loaded, prompts, max_new_tokens=8, batch_size=5)
    expected = [greedy(loaded, prompt, 8) for prompt in prompts]
    assert [row.tokens for row in found] == [len(ids) for ids in expected]
    assert len({row.tokens for row in found}) > 1


def test_a_text_cut_by_the_limit_says_so(loaded, prompts):
    (row,) = generate_texts(loaded, prompts[:1], max_new_tokens=3, batch_size=1)
    assert not row.stopped
    assert row.tokens == 3


def test_an_end_of_turn_at_the_limit_is_no_cut(loaded, prompts):
    said = greedy(loaded, prompts[0], 8)
    place = next(i for i, token in enumerate(said) if token != said[0])
    loaded = make_stop(loaded, said[place])
    (row,) = generate_texts(loaded, prompts[:1], max_new_tokens=place + 1, batch_size=1)
    assert row.stopped


def test_a_checkpoints_own_habits_are_ignored(loaded, prompts):
    before = generate_texts(loaded, prompts[:2], max_new_tokens=8, batch_size=2)
    own = loaded.model.generation_config
    own.do_sample, own.repetition_penalty, own.suppress_tokens = True, 3.0, list(range(4, 200))
    after = generate_texts(loaded, prompts[:2], max_new_tokens=8, batch_size=2)
    assert [row.text for row in after] == [row.text for row in before]
    assert loaded.model.generation_config is own


def test_an_adapter_in_training_decodes_without_habits_too(loaded, prompts):
    from demask.training.export import add_adapter

    before = generate_texts(loaded, prompts[:2], max_new_tokens=8, batch_size=2)
    loaded.model.generation_config.repetition_penalty = 3.0
    adapted = dataclasses.replace(loaded, model=add_adapter(loaded.model, rank=2, seed=0).eval())
    after = generate_texts(adapted, prompts[:2], max_new_tokens=8, batch_size=2)
    assert [row.text for row in after] == [row.text for row in before]
    assert adapted.model.merge_and_unload().generation_config.repetition_penalty == 3.0


def test_every_finished_batch_is_told(loaded, prompts):
    counts: list[int] = []
    generate_texts(loaded, prompts, max_new_tokens=2, batch_size=2, on_done=counts.append)
    assert counts == [2, 2, 1]


def test_no_prompts_no_texts(loaded):
    assert generate_texts(loaded, [], max_new_tokens=2, batch_size=2) == []


DOCUMENT = "Mara Voss founded the Orlin works in 1931, and in 1958 her son sold them. The bridge stands."


@pytest.fixture
def prompts_with_document(loaded):
    """Some begin with the same document, as those of the ceiling; one stands alone."""
    texts = [f"{DOCUMENT} {question}" for question in ("Who?", "Where was that?", "Ems")]
    return [encode_question(loaded.tokenizer, text) for text in [*texts, QUESTIONS[3], *texts[:1]]]


@pytest.fixture
def columns_read(loaded, monkeypatch):
    """Rows times columns that the model was given, one entry a call."""
    sizes, forward = [], loaded.model.forward

    def count(*args, **inputs):
        sizes.append(inputs["input_ids"].numel())
        return forward(*args, **inputs)

    monkeypatch.setattr(count, "__signature__", inspect.signature(forward), raising=False)
    monkeypatch.setattr(loaded.model, "forward", count)
    return sizes


def test_what_prompts_begin_with_together_is_read_once(loaded, prompts_with_document, columns_read):
    found = generate_texts(loaded, prompts_with_document, max_new_tokens=1, batch_size=5)
    assert sum(columns_read) < 0.75 * sum(map(len, prompts_with_document))
    expected = [words(loaded, greedy(loaded, prompt, 1)) for prompt in prompts_with_document]
    assert [row.text for row in found] == expected


def test_rows_that_went_on_from_a_shared_beginning_say_what_each_says_alone(loaded, prompts_with_document):
    found = generate_texts(loaded, prompts_with_document, max_new_tokens=8, batch_size=5)
    expected = [words(loaded, greedy(loaded, prompt, 8)) for prompt in prompts_with_document]
    assert [row.text for row in found] == expected
    assert len(set(expected)) == 4


def test_a_row_that_has_ended_is_not_computed_any_more(loaded, prompts, columns_read):
    said = [greedy(loaded, prompt, 8) for prompt in prompts]
    loaded = make_stop(loaded, said[0][1])
    lengths = [len(greedy(loaded, prompt, 8)) for prompt in prompts]
    columns_read.clear()
    generate_texts(loaded, prompts, max_new_tokens=8, batch_size=5)
    steps = [sum(length > step for length in lengths) for step in range(1, max(lengths))]
    assert columns_read[1:] == [rows for rows in steps if rows]
    assert min(steps) < 5


WINDOWED: dict[str, Any] = {"sliding_window": 6, "head_dim": 8, "hidden_size": 32, "intermediate_size": 64}


@pytest.fixture
def windowed(loaded):
    """A model whose first layer sees six tokens back, less than its prompts have."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Gemma3TextConfig(
            **WINDOWED,
            vocab_size=len(loaded.tokenizer),
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            layer_types=["sliding_attention", "full_attention"],
            initializer_range=0.5,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
        return dataclasses.replace(loaded, model=Gemma3ForCausalLM(config).eval())


def test_a_model_with_a_window_says_the_same_beside_others(windowed, prompts_with_document):
    found = generate_texts(windowed, prompts_with_document, max_new_tokens=8, batch_size=5)
    expected = [words(windowed, greedy(windowed, prompt, 8)) for prompt in prompts_with_document]
    assert [row.text for row in found] == expected


def test_a_model_that_knows_absolute_positions_says_the_same_beside_others(loaded, prompts_with_document):
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=len(loaded.tokenizer),
            n_positions=256,
            n_embd=32,
            n_layer=2,
            n_head=4,
            initializer_range=0.5,
            bos_token_id=None,
            eos_token_id=None,
        )
        absolute = dataclasses.replace(loaded, model=GPT2LMHeadModel(config).eval())
    found = generate_texts(absolute, prompts_with_document, max_new_tokens=8, batch_size=5)
    expected = [words(absolute, greedy(absolute, prompt, 8)) for prompt in prompts_with_document]
    assert [row.text for row in found] == expected


@pytest.mark.parametrize("decode", [autoregressive._generate, autoregressive._generate_continuously])
def test_decoders_of_transformers_say_the_same_as_ours(
    loaded, prompts, prompts_with_document, monkeypatch, decode
):
    many = [*prompts, *prompts_with_document]
    ours = generate_texts(loaded, many, max_new_tokens=6, batch_size=3)
    monkeypatch.setattr(autoregressive, "_choose_decoder", lambda loaded, *, many: decode)
    # Left alone it takes most of the memory there is, and half a minute to do so.
    little = functools.partial(
        loaded.model.generate_batch, continuous_batching_config=ContinuousBatchingConfig(num_blocks=64)
    )
    monkeypatch.setattr(loaded.model, "generate_batch", little)
    theirs = generate_texts(loaded, many, max_new_tokens=6, batch_size=3)
    assert [row.text for row in theirs] == [row.text for row in ours]


def test_a_model_with_another_kind_of_memory_is_left_to_transformers(loaded):
    from transformers import MambaConfig, MambaForCausalLM

    assert autoregressive._choose_decoder(loaded, many=True) is autoregressive._decode
    recurrent = MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1))
    other = dataclasses.replace(loaded, model=recurrent)
    assert autoregressive._choose_decoder(other, many=False) is autoregressive._generate
