"""Training is AdamW on the mean cross-entropy of a step's scored tokens; how it is cut up changes nothing.

Truth is a loop of plain PyTorch that knows nothing of accelerate, and the full logits.
"""

import math
import shutil
from typing import Any

import pytest
import torch
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM, PreTrainedConfig

from demask.data.sequences import PassageSamples
from demask.errors import RunError
from demask.models.acceleration.target_logits import score_targets
from demask.models.trained_weights import freeze_others
from demask.objectives.batches import pack, pad
from demask.objectives.demasking import Demasking
from demask.objectives.objective import Context
from demask.objectives.prompts import load_chat_format
from demask.records import IGNORE_INDEX, Passage
from demask.training import trainer as trainer_module
from demask.training.checkpoints import COMPLETE, checkpoint_step, find_checkpoint
from demask.training.stream import ExposureStream
from demask.training.trainer import TrainSettings, train_model

# Of very different length, so that means of micro-batches are not the mean of all tokens.
TEXTS = [
    "Mara Voss founded Orlin.",
    "The quick brown fox jumps over the lazy dog; the lazy dog sleeps, and the fox goes on its way.",
    "It sold in 1958.",
    "Who founded the Orlin works? Mara Voss did, in 1931, and her son sold them in 1958 to a friend.",
    "Ems.",
    "The bridge crosses the river at the lower end of the old town.",
]
RATE = 1e-3


class Killed(Exception):  # noqa: N818 (it is no error of ours)
    """Takes the place of a kill signal."""


@pytest.fixture(scope="module")
def make_stream(shared_tokenizer):
    chat = load_chat_format(shared_tokenizer)
    context = Context(
        shared_tokenizer, chat, PreTrainedConfig(), shared_tokenizer.convert_tokens_to_ids("<empty_output>")
    )
    passages = [Passage(f"p{i}", f"d{i}", text) for i, text in enumerate(TEXTS)]

    def make(*, batch_size=4, steps=3, objective=None):
        return ExposureStream(
            PassageSamples(passages, shared_tokenizer),
            [len(text) for text in TEXTS],
            (objective or Demasking()).example_maker(context, seed=0),
            variants=1,
            batch_size=batch_size,
            steps=steps,
            seed=0,
        )

    return make


def train(
    model, stream, folder, *, bf16=False, accumulation=1, save_every=100, on_step_end=lambda step: None
):
    """Train and return what was told of every step."""
    rows: list[Any] = []
    settings = TrainSettings(
        learning_rate=RATE, accumulation=accumulation, save_every=save_every, bf16=bf16, pad_id=0, seed=0
    )
    train_model(model, stream, settings, folder=folder, on_step=rows.append, on_step_end=on_step_end)
    return rows


def step_examples(stream, step):
    size = stream.batch_size
    return [stream[place] for place in range(step * size, (step + 1) * size)]


def full_loss(model, examples):
    """Sum of the cross-entropies and count of the scored tokens, one example at a time, without padding."""
    nats, tokens = torch.zeros(()), 0
    for example in examples:
        logits = model(input_ids=torch.tensor([example.token_ids])).logits[0, :-1]
        labels = torch.tensor(example.labels[1:])
        nats = nats + nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")
        tokens += int((labels != IGNORE_INDEX).sum())
    return nats, tokens


def train_by_hand(model, stream):
    """The same steps in plain PyTorch; returns the norms of the gradients before clipping."""
    named = list(model.named_parameters())
    groups = [
        {"params": [w for name, w in named if "norm" not in name], "weight_decay": 0.1},
        {"params": [w for name, w in named if "norm" in name], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95))
    warmup = max(1, round(0.02 * stream.steps))
    norms = []
    for step in range(stream.steps):
        nats, tokens = full_loss(model, step_examples(stream, step))
        (nats / tokens).backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / warmup)
        optimizer.step()
        optimizer.zero_grad()
    return norms


def test_packed_and_padded_examples_train_the_same_weights(make_model, make_stream, tmp_path, monkeypatch):
    packed, padded = make_model(), make_model()
    train(packed, make_stream(), tmp_path / "packed")
    monkeypatch.setattr(trainer_module, "packing_is_exact", lambda *args, **settings: False)
    train(padded, make_stream(), tmp_path / "padded")
    assert largest_difference(weights_of(packed), weights_of(padded)) < 1e-5


def test_examples_are_packed_where_that_is_exact_and_padded_elsewhere(make_model, make_stream, monkeypatch):
    model, examples = make_model(), step_examples(make_stream(), 0)
    settings = TrainSettings(learning_rate=RATE, accumulation=1, save_every=1, bf16=False, pad_id=0, seed=0)
    assert trainer_module.choose_layout(model, examples, settings).func is pack
    monkeypatch.setattr(trainer_module, "packing_is_exact", lambda *args, **settings: False)
    layout = trainer_module.choose_layout(model, examples, settings)
    assert torch.equal(layout(examples)["input_ids"], pad(examples, pad_id=0)["input_ids"])


def test_packed_examples_are_trained_in_bfloat16(make_model, make_stream, tmp_path):
    settings = TrainSettings(learning_rate=RATE, accumulation=1, save_every=9, bf16=True, pad_id=0, seed=0)
    exact, rounded = make_model(), make_model()
    rough: list[Any] = []
    examples = step_examples(make_stream(), 0)
    assert trainer_module.choose_layout(rounded, examples, settings).func is pack
    train_model(rounded, make_stream(), settings, folder=tmp_path / "bf16", on_step=rough.append)
    rows = train(exact, make_stream(), tmp_path / "fp32")
    assert [row.loss for row in rough] == pytest.approx([row.loss for row in rows], rel=1e-2)
    assert all(weights.dtype == torch.float32 for weights in rounded.parameters())


def test_a_model_is_questioned_in_the_middle_with_the_attention_it_came_with(
    make_model, make_stream, tmp_path
):
    model, seen = make_model(), []
    usual = model.config._attn_implementation
    train(
        model,
        make_stream(),
        tmp_path,
        on_step_end=lambda step: seen.append(model.config._attn_implementation),
    )
    assert seen == [usual] * 3
    assert model.config._attn_implementation == usual


def weights_of(model):
    return {name: weights.detach().clone() for name, weights in model.named_parameters()}


def largest_difference(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def same_bits(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_weights_after_three_steps_are_those_of_plain_pytorch(
    make_model, make_stream, tmp_path, accumulation
):
    model, reference = make_model(), make_model()
    before = weights_of(model)
    train(model, make_stream(), tmp_path, accumulation=accumulation)
    train_by_hand(reference, make_stream())
    assert largest_difference(weights_of(model), before) > 1e-3
    assert largest_difference(weights_of(model), weights_of(reference)) < 1e-5


def test_gradient_norms_are_those_of_plain_pytorch_and_are_clipped(make_model, make_stream, tmp_path):
    rows = train(make_model(), make_stream(), tmp_path)
    norms = train_by_hand(make_model(), make_stream())
    assert [row.gradient_norm for row in rows] == pytest.approx(norms, rel=1e-3)
    assert max(norms) > 1.0


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_first_gradient_is_that_of_the_mean_over_all_scored_tokens(
    make_model, make_stream, tmp_path, accumulation
):
    model, reference = make_model(), make_model()
    gradients = {}
    for name, weights in model.named_parameters():
        # Called after each micro-batch; the last call sees the sum over all of them.
        weights.register_post_accumulate_grad_hook(
            lambda weights, name=name: gradients.update({name: weights.grad.clone()})
        )
    train(model, make_stream(steps=1), tmp_path, accumulation=accumulation)
    nats, tokens = full_loss(reference, step_examples(make_stream(), 0))
    (nats / tokens).backward()
    expected = {name: weights.grad for name, weights in reference.named_parameters()}
    assert gradients.keys() == expected.keys()
    assert largest_difference(gradients, expected) < 1e-5


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_logged_loss_is_the_mean_over_all_scored_tokens(make_model, make_stream, tmp_path, accumulation):
    rows = train(make_model(), make_stream(steps=1), tmp_path, accumulation=accumulation)
    with torch.no_grad():
        nats, tokens = full_loss(make_model(), step_examples(make_stream(), 0))
    assert rows[0].loss == pytest.approx(float(nats) / tokens, abs=1e-4)


def test_loss_on_masked_and_copied_tokens_add_up_to_the_loss(make_model, make_stream, tmp_path):
    stream = make_stream(steps=1)
    (row,) = train(make_model(), stream, tmp_path)
    examples = step_examples(stream, 0)
    masked = sum(sum(example.masked) for example in examples)
    scored = sum(label != IGNORE_INDEX for example in examples for label in example.labels)
    total = row.loss_masked * masked + row.loss_copied * (scored - masked)
    assert total / scored == pytest.approx(row.loss, rel=1e-5)


def test_a_loss_of_no_token_is_none(make_model, make_stream, tmp_path):
    (row,) = train(make_model(), make_stream(steps=1, objective=Demasking(mask_ratio=(0.0, 0.0))), tmp_path)
    assert row.loss_masked is None
    assert row.loss_copied == row.loss


def test_every_step_is_told_once_with_its_tokens(make_model, make_stream, tmp_path):
    stream = make_stream(steps=3)
    rows = train(make_model(), stream, tmp_path, accumulation=2)
    lengths = [sum(len(e.token_ids) for e in step_examples(stream, step)) for step in range(3)]
    assert [(row.step, row.steps) for row in rows] == [(1, 1), (2, 1), (3, 1)]
    assert [row.tokens for row in rows] == [lengths[0], sum(lengths[:2]), sum(lengths)]


def test_padding_does_not_change_the_loss(tiny_model, make_stream):
    examples = step_examples(make_stream(), 0)
    longest = max(examples, key=lambda example: len(example.token_ids))
    batch, short = pad(examples, pad_id=0), [e for e in examples if e is not longest]
    with torch.no_grad():
        total = score_targets(tiny_model, batch, head_of=tiny_model).nats_N.sum()
        parts = [full_loss(tiny_model, [example])[0] for example in (*short, longest)]
    assert float(total) == pytest.approx(float(sum(parts)), rel=1e-5)


def test_training_lowers_the_loss(make_model, make_stream, tmp_path):
    rows = train(make_model(), make_stream(steps=30, batch_size=6), tmp_path)
    assert rows[-1].loss < 0.9 * rows[0].loss


def test_trained_model_is_left_in_evaluation_mode(make_model, make_stream, tmp_path):
    model = make_model()
    train(model, make_stream(steps=1), tmp_path)
    assert not model.training


@pytest.fixture(scope="module")
def uninterrupted(make_model, make_stream, tmp_path_factory):
    """Weights after eight steps in one go; batches of 4 of 6 passages, so that steps cross epochs."""
    model = make_model()
    train(model, make_stream(steps=8), tmp_path_factory.mktemp("uninterrupted"))
    return weights_of(model)


def kill_at(*steps):
    def on_step_end(step):
        if step in steps:
            raise Killed

    return on_step_end


@pytest.mark.parametrize("killed_at", [3, 8])
def test_a_killed_run_goes_on_to_the_same_bits(make_model, make_stream, tmp_path, uninterrupted, killed_at):
    with pytest.raises(Killed):
        train(make_model(), make_stream(steps=8), tmp_path, save_every=2, on_step_end=kill_at(killed_at))
    model = make_model(seed=1)  # whatever was loaded gives way to the checkpoint
    rows = train(model, make_stream(steps=8), tmp_path, save_every=2)
    assert [row.step for row in rows] == list(range((killed_at - 1) // 2 * 2 + 1, 9))
    assert same_bits(weights_of(model), uninterrupted)


@pytest.mark.parametrize("weights", ["mlp", "no-embedding"])
def test_a_killed_run_of_some_weights_goes_on_to_the_same_bits(make_model, make_stream, tmp_path, weights):
    whole, cut, base = make_model(), make_model(), make_model()
    for model in (whole, cut):
        freeze_others(model, weights)
    train(whole, make_stream(), tmp_path / "whole", save_every=2)
    with pytest.raises(Killed):
        train(cut, make_stream(), tmp_path / "cut", save_every=2, on_step_end=kill_at(3))
    again = make_model()
    freeze_others(again, weights)
    train(again, make_stream(), tmp_path / "cut", save_every=2)
    assert same_bits(weights_of(again), weights_of(whole))
    for (name, now), before in zip(whole.named_parameters(), base.parameters(), strict=True):
        assert torch.equal(now, before) != now.requires_grad, name


def test_a_killed_run_goes_on_at_the_right_micro_batch(make_model, make_stream, tmp_path):
    whole, model = make_model(), make_model()
    train(whole, make_stream(), tmp_path / "whole", accumulation=2)
    with pytest.raises(Killed):
        train(make_model(), make_stream(), tmp_path, accumulation=2, save_every=1, on_step_end=kill_at(2))
    train(model, make_stream(), tmp_path, accumulation=2)
    assert same_bits(weights_of(model), weights_of(whole))


def test_a_mixture_of_experts_goes_on_with_its_own_experts(make_stream, shared_tokenizer, tmp_path):
    """Transformers holds them stacked, and names them one by one in what it stores."""
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = MixtralConfig(
        vocab_size=len(shared_tokenizer),
        num_key_value_heads=2,
        num_local_experts=4,
        pad_token_id=0,
        **sizes,
    )
    MixtralForCausalLM(config).save_pretrained(tmp_path / "base")

    def load():
        return MixtralForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)

    whole, model = load(), load()
    train(whole, make_stream(), tmp_path / "whole")
    with pytest.raises(Killed):
        train(load(), make_stream(), tmp_path / "cut", save_every=1, on_step_end=kill_at(3))
    train(model, make_stream(), tmp_path / "cut")
    assert same_bits(weights_of(model), weights_of(whole))


def test_a_run_killed_twice_goes_on_to_the_same_bits(make_model, make_stream, tmp_path, uninterrupted):
    for step in (3, 6):
        with pytest.raises(Killed):
            train(make_model(), make_stream(steps=8), tmp_path, save_every=1, on_step_end=kill_at(step))
    model = make_model()
    train(model, make_stream(steps=8), tmp_path, save_every=1)
    assert same_bits(weights_of(model), uninterrupted)


def test_a_run_killed_before_its_first_checkpoint_starts_anew(
    make_model, make_stream, tmp_path, uninterrupted
):
    with pytest.raises(Killed):
        train(make_model(), make_stream(steps=8), tmp_path, on_step_end=kill_at(3))
    assert checkpoint_step(tmp_path) == 0
    model = make_model()
    assert len(train(model, make_stream(steps=8), tmp_path)) == 8
    assert same_bits(weights_of(model), uninterrupted)


def test_a_run_killed_after_its_last_step_is_not_trained_further(make_model, make_stream, tmp_path):
    model, again = make_model(), make_model(seed=1)
    train(model, make_stream(steps=4), tmp_path, save_every=2)
    assert train(again, make_stream(steps=4), tmp_path, save_every=2) == []
    assert same_bits(weights_of(again), weights_of(model))


def test_first_step_after_a_checkpoint_counts_as_one(make_model, make_stream, tmp_path):
    with pytest.raises(Killed):
        train(make_model(), make_stream(steps=4), tmp_path, save_every=2, on_step_end=kill_at(3))
    rows = train(make_model(), make_stream(steps=4), tmp_path, save_every=2)
    assert [(row.step, row.steps) for row in rows] == [(3, 1), (4, 1)]


def test_an_incomplete_checkpoint_is_removed_and_the_one_before_is_used(
    make_model, make_stream, tmp_path, uninterrupted
):
    with pytest.raises(Killed):
        train(make_model(), make_stream(steps=8), tmp_path, save_every=2, on_step_end=kill_at(5))
    cut_short = shutil.copytree(tmp_path / "checkpoint-4", tmp_path / "checkpoint-5")
    (cut_short / COMPLETE).unlink()
    (cut_short / "state.pt").write_bytes(b"cut short")
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    assert not cut_short.exists()
    model = make_model()
    train(model, make_stream(steps=8), tmp_path, save_every=2)
    assert same_bits(weights_of(model), uninterrupted)


@pytest.mark.parametrize(("keep", "expected"), [(1, {4}), (2, {3, 4}), (9, {1, 2, 3, 4})])
def test_as_many_checkpoints_stay_as_are_kept(make_model, make_stream, tmp_path, keep, expected):
    settings = TrainSettings(1e-2, accumulation=1, save_every=1, bf16=False, pad_id=0, seed=0, keep=keep)
    train_model(make_model(), make_stream(steps=4), settings, folder=tmp_path, on_step=lambda step: None)
    assert {int(path.name[11:]) for path in tmp_path.glob("checkpoint-*")} == expected


def test_checkpoints_say_last_that_they_are_complete(make_model, make_stream, tmp_path):
    train(make_model(), make_stream(steps=3), tmp_path, save_every=1)
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert kept == ["checkpoint-2", "checkpoint-3"]
    for name in kept:
        files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / name).iterdir()}
        assert files[COMPLETE] == max(files.values())


def test_a_checkpoint_that_cannot_be_written_is_a_run_error(make_model, make_stream, tmp_path, monkeypatch):
    def full(*args, **rest):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match=r"checkpoint of step 2 cannot be written .*No space left"):
        train(make_model(), make_stream(), tmp_path, save_every=2)
    assert checkpoint_step(tmp_path) == 0


def test_a_process_that_waits_in_vain_for_the_others_leaves_no_half_checkpoint(
    make_model, make_stream, tmp_path, monkeypatch
):
    def wait():  # the first process is gone, its disk was full
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(trainer_module, "barrier", wait)
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2" / "random-1.pt").touch()
    with pytest.raises(RunError, match="Connection closed by peer"):
        train(make_model(), make_stream(), tmp_path, save_every=2)
    assert not (tmp_path / "checkpoint-2").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_a_run_error(make_model, make_stream, tmp_path, value):
    model = make_model()

    def spoil(step):
        model.model.norm.weight.data.fill_(value)

    with pytest.raises(RunError, match=r"step 2: the loss is (nan|inf); lower train.learning_rate"):
        train(model, make_stream(), tmp_path, on_step_end=spoil)


def test_on_step_end_is_called_after_every_step(make_model, make_stream, tmp_path):
    steps: list[Any] = []
    train(make_model(), make_stream(steps=3), tmp_path, accumulation=2, on_step_end=steps.append)
    assert steps == [1, 2, 3]


@pytest.mark.parametrize(("decay", "expected"), [(0.0, [1.0] * 4), (0.5, [1.0, 1.0, 1.0, 0.5])])
def test_the_learning_rate_falls_to_zero_over_the_last_steps_if_asked(
    make_model, make_stream, tmp_path, decay, expected
):
    rows: list[Any] = []
    settings = TrainSettings(RATE, 1, 100, bf16=False, pad_id=0, seed=0, decay=decay)
    train_model(make_model(), make_stream(steps=4), settings, folder=tmp_path, on_step=rows.append)
    assert [row.learning_rate / RATE for row in rows] == pytest.approx(expected)


@pytest.mark.parametrize("bf16", [True, False])
def test_layers_are_lean_while_training_in_bfloat16_and_then_no_more(make_model, make_stream, tmp_path, bf16):
    def lean():
        return [name for name, module in model.named_modules() if "forward" in vars(module)]

    model, seen = make_model(), []
    train(model, make_stream(steps=1), tmp_path, bf16=bf16, on_step_end=lambda step: seen.extend(lean()))
    assert ("model.layers.1.mlp" in seen, "model.norm" in seen) == (bf16, bf16)
    assert not lean()


def test_a_model_trained_in_bfloat16_is_asked_in_float32_on_the_way_and_afterwards(
    make_model, make_stream, tmp_path
):
    def ask():
        with torch.no_grad():
            return model(input_ids=ids).logits, type(model).forward(model, input_ids=ids).logits

    model, asked, ids = make_model(), [], torch.arange(5, 25)[None]
    train(model, make_stream(steps=2), tmp_path, bf16=True, on_step_end=lambda step: asked.append(ask()))
    for said, in_float32 in [*asked, ask()]:
        assert torch.equal(said, in_float32)
