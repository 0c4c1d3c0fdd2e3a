"""Diffusion examples mask what may be masked, weigh it by its chance, and leave the rest alone."""

import math
import random
from collections import Counter

import pytest
from transformers import PreTrainedConfig

from demask.data.sequences import make_sample
from demask.errors import ConfigError
from demask.objectives.diffusion import (
    Diffusion,
    Masking,
    Noise,
    draw_noise,
    end_answer,
    make_diffusion_example,
)
from demask.objectives.objective import Context
from demask.objectives.prompts import encode
from demask.recipe.sections import make_config
from demask.records import IGNORE_INDEX, Passage

TEXT = "Mara Voss founded the Orlin works in 1931, and in 1958 her son sold them."
PASSAGE = Passage("d1", "d1", TEXT)
MASK = 3
PRESETS = [
    Diffusion(),
    Diffusion(preset="llada"),
    Diffusion(preset="count"),
    Diffusion(form="chat", end="none"),
]
each_preset = pytest.mark.parametrize("objective", PRESETS, ids=["paper", "llada", "count", "no-end"])


@pytest.fixture
def maker(tiny_tokenizer, tiny_chat):
    def make(objective, seed=0):
        example = objective.example_maker(
            Context(tiny_tokenizer, tiny_chat, PreTrainedConfig(), MASK), seed=seed
        )
        return lambda passage, epoch, variant: example(make_sample(passage, tiny_tokenizer), epoch, variant)

    return make


@pytest.mark.parametrize("length", [1, 2, 5, 32])
def test_the_number_of_masked_tokens_is_uniform(length):
    rng, draws = random.Random(0), 400 * length
    counts = Counter(sum(draw_noise(rng, length=length, noise=Noise(None)).masked) for _ in range(draws))
    assert set(counts) == set(range(1, length + 1))
    spread = math.sqrt(draws / length)
    assert all(abs(count - draws / length) <= 5 * spread for count in counts.values())


def test_every_token_is_masked_as_often_as_any_other():
    rng = random.Random(0)
    draws = [draw_noise(rng, length=4, noise=Noise(None)).masked for _ in range(4000)]
    shares = [sum(masked[place] for masked in draws) / len(draws) for place in range(4)]
    assert shares == pytest.approx([0.625] * 4, abs=0.04)  # (1 + 2 + 3 + 4) / 4 of 4


@pytest.mark.parametrize("noise", [Noise(None), Noise((0.001, 1.0))], ids=["count", "ratio"])
def test_weights_make_the_masked_tokens_stand_for_all(noise):
    rng, draws = random.Random(0), 20_000
    totals = [
        m.weight * sum(m.masked) for m in (draw_noise(rng, length=6, noise=noise) for _ in range(draws))
    ]
    mean = sum(totals) / draws
    error = math.sqrt(sum((total - mean) ** 2 for total in totals)) / draws
    assert abs(mean - 6) <= 4 * error + 1e-9


def draw_losses(noise, *, length, draws=40_000):
    """Mean weighted nats, and error, of a text that costs log 2 a token until one is seen, then none."""
    rng = random.Random(0)
    losses = []
    for _ in range(draws):
        masking = draw_noise(rng, length=length, noise=noise)
        losses.append(masking.weight * length * math.log(2) if all(masking.masked) else 0.0)
    mean = sum(losses) / draws
    return mean, math.sqrt(sum((loss - mean) ** 2 for loss in losses)) / draws


@pytest.mark.parametrize("objective", PRESETS[:3], ids=["paper", "llada", "count"])
@pytest.mark.parametrize("length", [2, 4, 16])
def test_the_mean_loss_is_what_its_closed_form_says(objective, length):
    if objective.noise == "count":  # all L are masked once in L draws, with weight 1
        expected = math.log(2)
    else:  # the integral of (1/t) t^L L log 2 over the range, by its width
        low, high = objective.mask_ratio
        expected = math.log(2) * (high**length - low**length) / (high - low)
    noise = Noise(None if objective.noise == "count" else objective.mask_ratio)
    mean, error = draw_losses(noise, length=length)
    assert abs(mean - expected) <= 4 * error
    if objective.loss_is_bound:
        assert expected >= math.log(2)  # -log p of the text


def test_the_loss_of_papers_preset_is_no_bound():
    ratio = Diffusion().mask_ratio
    assert ratio is not None
    low, high = ratio
    logged = math.log(2) * (high**104 - low**104) / (high - low)
    assert logged == pytest.approx(0.0037, abs=5e-5)
    assert logged < math.log(2)
    mean, error = draw_losses(Noise((low, high)), length=16)
    assert mean + 4 * error < math.log(2)


def test_only_the_count_form_calls_its_loss_a_bound():
    assert [objective.loss_is_bound for objective in PRESETS[:3]] == [False, False, True]
    assert Diffusion(noise="count").loss_is_bound
    assert not Diffusion(preset="count", noise="ratio", mask_ratio=(0.5, 1.0)).loss_is_bound


def test_the_count_form_masks_at_least_one_token_and_wastes_nothing():
    draws = [draw_noise(random.Random(seed), length=3, noise=Noise(None)) for seed in range(50)]
    assert all(draw.weight == 3 / sum(draw.masked) for draw in draws)


def test_a_fixed_ratio_weighs_its_inverse():
    draw = draw_noise(random.Random(0), length=1000, noise=Noise((0.25, 0.25)))
    assert draw.weight == 4
    assert sum(draw.masked) == pytest.approx(250, abs=60)


def test_nothing_cannot_be_masked():
    with pytest.raises(ValueError, match="no tokens"):
        draw_noise(random.Random(0), length=0, noise=Noise(None))


def test_an_example_shows_the_context_whole_and_scores_what_it_hides():
    example = make_diffusion_example(
        (7, 8), (5, 6, 9), Masking((True, False, True), 1.5), id="x", mask_id=MASK
    )
    assert example.token_ids == (7, 8, MASK, 6, MASK)
    assert example.labels == (IGNORE_INDEX, IGNORE_INDEX, 5, IGNORE_INDEX, 9)
    assert example.masked == (False, False, True, False, True)
    assert (example.weight, example.supervised) == (1.5, 3)


def test_a_masking_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 mask flags for 3 tokens"):
        make_diffusion_example((), (5, 6, 9), Masking((True, False), 1.0), id="x", mask_id=MASK)


@pytest.mark.parametrize(
    ("length", "end", "block", "expected"),
    [(2, (9,), None, 3), (2, (), None, 2), (2, (9,), 4, 4), (3, (9,), 4, 4), (4, (9,), 4, 8), (4, (), 4, 4)],
)
def test_answers_are_filled_up_to_whole_blocks(length, end, block, expected):
    answer = end_answer((5,) * length, end=end, fill=0, block=block)
    assert len(answer) == expected
    assert answer[: length + len(end)] == (*(5,) * length, *end)
    assert set(answer[length + len(end) :]) <= {0}


@each_preset
def test_the_prompt_and_the_start_are_never_masked(maker, tiny_tokenizer, tiny_chat, objective):
    make = maker(objective)
    ids = encode(tiny_tokenizer, TEXT)
    for epoch in range(20):
        example = make(PASSAGE, epoch, 0)
        context = len(example.token_ids) - example.supervised
        assert context >= 1
        assert MASK not in example.token_ids[:context]
        assert not any(example.masked[:context])
        whole = [
            label if hide else token
            for token, label, hide in zip(example.token_ids, example.labels, example.masked, strict=True)
        ]
        assert tuple(whole[context : context + len(ids)]) == ids


@each_preset
def test_examples_are_a_function_of_seed_passage_and_epoch(maker, objective):
    example = maker(objective)(PASSAGE, 3, 0)
    assert maker(objective)(PASSAGE, 3, 0) == example
    others = [maker(objective)(PASSAGE, 4, 0), maker(objective, seed=1)(PASSAGE, 3, 0)]
    assert all(other.masked != example.masked for other in others)


def test_presets_are_what_they_are_called(maker, tiny_tokenizer, tiny_chat):
    paper, llada, count = (maker(objective)(PASSAGE, 0, 0) for objective in PRESETS[:3])
    length, end = len(encode(tiny_tokenizer, TEXT)), tiny_tokenizer.eos_token_id
    assert paper.supervised == count.supervised == length + 1
    assert 1 / 0.95 <= paper.weight <= 1 / 0.05
    assert count.weight == count.supervised / sum(count.masked)
    assert llada.supervised % 32 == 0
    assert llada.supervised > length
    assert llada.token_ids[: len(tiny_chat.user)] == tiny_chat.user
    assert end in [*paper.token_ids[-1:], *paper.labels[-1:]]


def test_a_preset_fills_what_is_not_given_and_no_more():
    config = make_config(
        {
            "model": "m",
            "documents": ["d"],
            "objective": {"name": "diffusion", "preset": "llada", "end": "one"},
        }
    )
    objective = config.objective
    assert isinstance(objective, Diffusion)
    assert (objective.form, objective.end, objective.mask_ratio) == ("chat", "one", (0.001, 1.0))
    again = make_config({**config.model_dump(mode="json")})
    assert again == config


@pytest.mark.parametrize("ratio", [0, [0.0, 1.0], [0.5, 0.2], [0.5, 1.5]])
def test_a_ratio_whose_weight_is_no_number_is_refused(ratio):
    with pytest.raises(ConfigError, match="expected 0 < low <= high <= 1"):
        make_config(
            {"model": "m", "documents": ["d"], "objective": {"name": "diffusion", "mask_ratio": ratio}}
        )
