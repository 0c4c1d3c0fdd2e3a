from dataclasses import replace

import pytest
import torch

from demask.errors import RunError
from demask.evaluation.retention import drift
from demask.evaluation.retention.drift import (
    Targets,
    make_targets,
    measure_divergence,
    measure_texts,
    read_targets,
    targets_prompts,
    write_conversations,
    write_targets,
)
from demask.evaluation.retention.suite import Opening, Prose
from demask.generation import conversations
from demask.generation.conversations import add_targets
from demask.generation.texts import Turn, turn_encoder
from demask.losses.kl_to_base import TopTargets, divergence

OPENINGS = (
    Opening("one", None, "Tell me a fact.", None),
    Opening("two", "You are kind.", "Which river?", None),
    Opening("three", None, "Who founded it?", "And when?"),
)
TEXTS = (
    Prose("a", "news", "A", "The quick brown fox jumps over the lazy dog."),
    Prose("b", "news", "B", "Sold."),
)


@pytest.fixture(autouse=True)
def _short_replies(monkeypatch):
    """The tiny model's context holds no others."""
    monkeypatch.setattr(drift, "REPLY_TOKENS", 48)


@pytest.fixture
def shaken(tiny_loaded, make_model):
    """The tiny model with other weights."""
    return replace(tiny_loaded, model=make_model(seed=7))


@pytest.fixture
def talks(tiny_loaded):
    return write_conversations(tiny_loaded, OPENINGS, seed=1, batch_size=2)


def test_an_unchanged_model_has_not_drifted(tiny_loaded, talks):
    rows = measure_divergence(tiny_loaded, add_targets(tiny_loaded, talks))
    assert [row.nats for row in rows] == pytest.approx([0.0] * 3, abs=1e-5)
    assert [row.tokens for row in rows] == [len(talk.reply) for talk in talks]


def test_another_model_has(tiny_loaded, shaken, talks):
    rows = measure_divergence(shaken, add_targets(tiny_loaded, talks))
    assert all(row.nats > 0 for row in rows)


def test_with_every_token_as_target_the_divergence_is_the_exact_one(tiny_loaded, shaken, talks, monkeypatch):
    monkeypatch.setattr(conversations, "TOP_K", 10_000)
    rows = measure_divergence(shaken, add_targets(tiny_loaded, talks))
    for row, talk in zip(rows, talks, strict=True):
        ids = torch.tensor([[*talk.prompt, *talk.reply]])
        places = slice(len(talk.prompt) - 1, -1)
        with torch.no_grad():
            p, q = (m.model(ids).logits[0, places].double().log_softmax(-1) for m in (tiny_loaded, shaken))
        assert row.nats == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-4)


@pytest.mark.parametrize("kept", [1, 4, 16])
def test_with_fewer_targets_the_mean_over_draws_is_the_exact_divergence(kept):
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(1, 20, generator=generator).log_softmax(-1).expand(20_000, 20) for _ in range(2))
    drawn = torch.multinomial(p.exp(), 1, generator=generator)[:, 0]
    top = p.topk(kept)
    found = divergence(q, drawn, TopTargets(top.indices, top.values, p.gather(1, drawn[:, None])[:, 0]))
    error = float(found.std()) / len(found) ** 0.5
    exact = float((p.exp() * (p - q)).sum(-1)[0])
    assert float(found.mean()) == pytest.approx(exact, abs=4 * error + 1e-6)


def test_conversations_are_drawn_and_the_same_seed_draws_the_same(tiny_loaded, talks):
    again = write_conversations(tiny_loaded, OPENINGS, seed=1, batch_size=3)
    assert [talk.reply for talk in again] == [talk.reply for talk in talks]
    other = write_conversations(tiny_loaded, OPENINGS, seed=2, batch_size=3)
    assert [talk.reply for talk in other] != [talk.reply for talk in talks]


def test_the_second_reply_counts_where_the_user_goes_on(tiny_loaded, talks):
    said = tiny_loaded.tokenizer.decode(talks[2].prompt)
    assert "And when?" in said
    assert said.index("Who founded it?") < said.index("And when?")


def test_a_text_is_as_unlikely_as_the_model_says(tiny_loaded):
    row = measure_texts(tiny_loaded, TEXTS)[0]
    ids = torch.tensor([tiny_loaded.tokenizer(TEXTS[0].text)["input_ids"]])
    with torch.no_grad():
        loss = tiny_loaded.model(ids, labels=ids).loss
    assert row.nats / row.tokens == pytest.approx(float(loss), rel=1e-4)
    assert row.tokens == ids.shape[1] - 1


def test_targets_survive_a_file(tiny_loaded, shaken, tmp_path):
    made = make_targets(tiny_loaded, OPENINGS, TEXTS, batch_size=2)
    write_targets(tmp_path / "t.safetensors", made)
    again = read_targets(tmp_path / "t.safetensors")
    assert again.texts == made.texts
    by_id = {row.id: row for row in measure_divergence(shaken, again.conversations)}
    assert all(by_id[row.id] == row for row in measure_divergence(shaken, made.conversations))


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "t.safetensors").write_bytes(b"nothing")
    with pytest.raises(RunError, match="delete it to have it made again"):
        read_targets(tmp_path / "t.safetensors")


def test_other_openings_have_another_name_in_the_cache(tiny_loaded):
    other = (replace(OPENINGS[0], follow_up="Why?"), *OPENINGS[1:])
    assert targets_prompts(tiny_loaded, OPENINGS, ()) != targets_prompts(tiny_loaded, other, ())
    assert Targets((), ()).texts == ()


def test_shorter_conversations_have_another_name_in_the_cache(tiny_loaded, monkeypatch):
    before = targets_prompts(tiny_loaded, OPENINGS, ())
    monkeypatch.setattr(drift, "REPLY_TOKENS", 3)
    assert targets_prompts(tiny_loaded, OPENINGS, ()) != before


def test_conversations_that_do_not_fit_into_the_context_are_left_out(tiny_loaded, monkeypatch):
    first = len(turn_encoder(tiny_loaded)([Turn("user", OPENINGS[0].user)]))
    monkeypatch.setattr(drift, "REPLY_TOKENS", tiny_loaded.context - first)
    kept = write_conversations(tiny_loaded, OPENINGS, seed=1, batch_size=2)
    assert {talk.id for talk in kept} <= {"one"}  # a system prompt and a second turn are too much
