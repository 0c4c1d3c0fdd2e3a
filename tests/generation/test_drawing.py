"""Texts that go on from each other are drawn as if each prompt were read anew."""

import random

import pytest
import torch

from demask.generation import drawing, self_chats
from demask.generation.conversations import Conversation, score_replies, top_targets
from demask.generation.drawing import Wanted, draw_by_inversion, draw_scripts, expect_rows
from demask.generation.self_chats import count_drawn, draw_self_chats, expect_lengths


@pytest.mark.parametrize("vocabulary", [5, 128, 300])
def test_numbers_of_equal_distance_draw_every_token_as_often_as_it_is_likely(vocabulary):
    logits_V = torch.randn(vocabulary, generator=torch.Generator().manual_seed(3)) * 2
    logits_V[1] = -torch.inf
    count = 20_000
    uniforms = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    drawn = draw_by_inversion(logits_V.expand(count, -1), torch.full((count,), 0.7), uniforms)
    shares = torch.bincount(drawn, minlength=vocabulary) / count
    expected = (logits_V.double() / 0.7).softmax(dim=0)
    assert (shares - expected).abs().max() < 2 / count
    assert shares[1] == 0


def test_the_ends_of_the_range_draw_tokens_that_can_be_drawn():
    logits_BV = torch.full((2, 130), -torch.inf)
    logits_BV[:, 7] = logits_BV[:, 9] = 0.0
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64).nextafter(torch.tensor(0.5, dtype=torch.float64))
    assert draw_by_inversion(logits_BV, torch.ones(2), ends).tolist() == [7, 9]


def draw(loaded, rows):
    return draw_self_chats(loaded, size=32, seed=5, rows=rows)


@pytest.mark.parametrize("rows", [3, 64])
def test_targets_are_those_of_whole_conversations(tiny_loaded, rows):
    talks = draw(tiny_loaded, rows)
    assert len(talks) > 20
    for talk, logp_NV in score_replies(tiny_loaded, talks):
        ids_NK, kept_NK, drawn_N = top_targets(talk)
        assert torch.allclose(kept_NK, logp_NV.gather(1, ids_NK), atol=1e-4)
        assert torch.allclose(drawn_N, logp_NV.gather(1, torch.tensor(talk.reply)[:, None])[:, 0], atol=1e-4)
        assert (kept_NK[:, :1] >= logp_NV.amax(dim=1, keepdim=True) - 1e-4).all()


def test_what_is_drawn_does_not_depend_on_what_is_drawn_beside_it(tiny_loaded):
    few, many = draw(tiny_loaded, 3), draw(tiny_loaded, 64)
    assert [(talk.id, talk.prompt, talk.reply) for talk in few] == [
        (talk.id, talk.prompt, talk.reply) for talk in many
    ]


def test_scripts_may_go_back_and_begin_otherwise(tiny_loaded):
    ends = {}

    def script(number, prompts):
        for prompt in prompts:
            drawn = yield Wanted(tuple(prompt), 3, targets=True)
            ends[number, tuple(prompt)] = drawn

    rng = random.Random(1)
    ids = [rng.choices(range(20, 80), k=30) for _ in range(6)]
    prompts = [
        [one[:20], one[:5], one, other[:10], one[:1]]
        for one, other in zip(ids, ids[1:] + ids[:1], strict=True)
    ]
    draw_scripts(tiny_loaded, [script(n, p) for n, p in enumerate(prompts)], seed=0, rows=4)
    assert len(ends) == 30
    talks = [Conversation(str(n), prompt, drawn.said.ids) for (n, prompt), drawn in ends.items()]
    for (talk, logp_NV), drawn in zip(score_replies(tiny_loaded, talks), ends.values(), strict=True):
        said = torch.tensor(talk.reply)[:, None]
        assert torch.allclose(drawn.targets.drawn_M, logp_NV.gather(1, said)[:, 0], atol=1e-4)


def test_progress_is_told_token_by_token_and_comes_to_the_end(tiny_loaded):
    told: list[int] = []
    talks = draw_self_chats(tiny_loaded, size=16, seed=1, rows=8, on_drawn=told.append)
    assert len(told) > 40
    assert sum(told) <= count_drawn(16)
    if len(talks) == 16:
        assert sum(told) == count_drawn(16)


@pytest.mark.parametrize("rows", [1, 4, 16, 64])
def test_as_many_rows_are_expected_in_each_step_as_there_are(tiny_loaded, monkeypatch, rows):
    lengths = random.Random(rows).choices(range(1, 9), k=40)
    made: list[int] = []
    step = drawing._Batch.step

    def look(batch):
        made.append(len(batch._rows))
        return step(batch)

    def script(tokens):
        yield Wanted((20, 30, 40), tokens)

    monkeypatch.setattr(drawing._Batch, "step", look)
    monkeypatch.setattr(drawing, "stop_ids", lambda loaded: ())
    draw_scripts(tiny_loaded, [script(tokens) for tokens in lengths], seed=5, rows=rows)
    assert made == list(expect_rows(lengths, rows=rows))


def test_a_pool_is_expected_to_take_as_many_tokens_as_may_be_drawn_and_the_template():
    first, shots = expect_lengths(160)
    stages = len(first) + len(shots)
    assert 0 < sum(first) + sum(shots) - count_drawn(160) <= 6 * 2 * stages


def test_models_of_another_memory_draw_in_rounds(tiny_loaded, monkeypatch):
    monkeypatch.setattr(drawing, "can_forget", lambda loaded: False)
    talks = draw(tiny_loaded, 4)
    assert len(talks) > 20
    for talk, logp_NV in score_replies(tiny_loaded, talks):
        ids_NK, kept_NK, _ = top_targets(talk)
        assert torch.allclose(kept_NK, logp_NV.gather(1, ids_NK), atol=1e-4)


@pytest.mark.parametrize("together", [True, False])
def test_what_does_not_fit_into_the_context_is_left_out(tiny_loaded, monkeypatch, together):
    monkeypatch.setattr(drawing, "can_forget", lambda loaded: together)
    context = tiny_loaded.context
    longest = context - self_chats.REPLY_TOKENS
    prompts = [(1,) * length for length in (4, longest, longest + 1, context + 9)]
    drawn = self_chats.draw_replies(tiny_loaded, prompts, name="x", seed=0, rows=2)
    assert [talk.prompt for talk in drawn] == prompts[:2]
