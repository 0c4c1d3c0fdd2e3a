"""Diffusion trains the weighted loss per token, however a step is cut up."""

import itertools
import math
import multiprocessing
import signal
import socket
from typing import Any

import pytest
import torch
from tests.training.train_on_ranks import train_on_rank
from torch import nn
from transformers import PreTrainedConfig

from demask.data.sequences import PassageSamples
from demask.models.acceleration.target_logits import score_targets
from demask.models.diffusion import DiffusionForm, set_diffusion_form
from demask.objectives.batches import pack, pad
from demask.objectives.diffusion import Diffusion, Masking, make_diffusion_example
from demask.objectives.objective import Context
from demask.objectives.prompts import load_chat_format
from demask.records import IGNORE_INDEX, Passage
from demask.training import trainer as trainer_module
from demask.training.stream import ExposureStream
from demask.training.trainer import TrainSettings, train_model

MASK = 3
TEXTS = [
    "Mara Voss founded Orlin.",
    "It sold in 1958, and the lazy dog sleeps by the river.",
    "Ems.",
    "A bridge.",
]


@pytest.fixture(params=[0, 1], ids=["alignment-0", "alignment-1"])
def make_denoiser(request, make_model):
    def make():
        model = make_model()
        set_diffusion_form(model.config, DiffusionForm(MASK, request.param))
        return model

    return make


@pytest.fixture
def make_stream(shared_tokenizer):
    def make(*, steps=2, **options):
        context = Context(shared_tokenizer, load_chat_format(shared_tokenizer), PreTrainedConfig(), MASK)
        make_example = Diffusion(**options).example_maker(context, seed=0)
        passages = [Passage(f"p{i}", f"d{i}", text) for i, text in enumerate(TEXTS)]
        samples = PassageSamples(passages, shared_tokenizer)
        lengths = [len(text) for text in TEXTS]
        return ExposureStream(samples, lengths, make_example, variants=1, batch_size=4, steps=steps, seed=0)

    return make


def train(model, stream, folder, *, accumulation=1, save_every=100, on_step_end=lambda step: None):
    rows: list[Any] = []
    settings = TrainSettings(1e-3, accumulation, save_every, bf16=False, pad_id=0, seed=0)
    train_model(model, stream, settings, folder=folder, on_step=rows.append, on_step_end=on_step_end)
    return rows


def full_loss(model, examples):
    """Weighted nats over supervised tokens, one example at a time, from all logits."""
    alignment = model.config.diffusion["alignment"]
    nats, tokens = torch.zeros(()), 0
    for example in examples:
        logits = model(input_ids=torch.tensor([example.token_ids])).logits[0]
        logits[:, MASK] = -torch.inf
        for place, label in enumerate(example.labels):
            if label != IGNORE_INDEX:
                log_p = torch.log_softmax(logits[place - alignment], dim=-1)[label]
                nats = nats - example.weight * log_p
        tokens += example.supervised
    return nats, tokens


@pytest.mark.parametrize("accumulation", [1, 2, 4])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_gradients_are_those_of_the_weighted_sum_over_supervised_tokens(
    make_denoiser, make_stream, tmp_path, monkeypatch, accumulation, layout
):
    if layout == "padded":
        monkeypatch.setattr(trainer_module, "packing_is_exact", lambda *_, **__: False)
    model, reference = make_denoiser(), make_denoiser()
    seen: dict[int, Any] = {}
    monkeypatch.setattr(
        nn.utils,
        "clip_grad_norm_",
        lambda weights, *_, **__: (
            seen.update(enumerate(w.grad.clone() for w in weights)) or torch.tensor(1.0)
        ),
    )
    stream = make_stream(steps=1, preset="count")
    (row,) = train(model, stream, tmp_path, accumulation=accumulation)
    nats, tokens = full_loss(reference, [stream[place] for place in range(4)])
    (nats / tokens).backward()
    assert row.loss == pytest.approx(float(nats.detach()) / tokens, abs=1e-5)
    assert len(seen) == len(list(reference.parameters()))
    for found, weights in zip(seen.values(), reference.parameters(), strict=True):
        assert torch.allclose(found, weights.grad, atol=1e-6)


def test_examples_are_packed_because_that_is_exact(make_denoiser, make_stream):
    settings = TrainSettings(1e-3, 1, 100, bf16=False, pad_id=0, seed=0)
    stream = make_stream(preset="count")
    layout = trainer_module.choose_layout(make_denoiser(), [stream[0], stream[1]], settings)
    assert layout.func is pack


def test_the_expected_loss_is_the_average_over_all_orders_of_the_chain_rule(make_denoiser):
    model, context, answer = make_denoiser(), (7, 8), (20, 30, 40, 50)
    length = len(answer)

    def nats(masked):
        example = make_diffusion_example(context, answer, Masking(masked, 1.0), id="x", mask_id=MASK)
        with torch.no_grad():
            batch = pad([example], pad_id=0, shift=model.config.diffusion["alignment"])
            return score_targets(model, batch, head_of=model).nats_N.tolist()

    every = [m for m in itertools.product([False, True], repeat=length) if any(m)]
    by_mask = {m: dict(zip([p for p in range(length) if m[p]], nats(m), strict=True)) for m in every}
    counted = sum(
        sum(by_mask[m].values()) * length / sum(m) / length / math.comb(length, sum(m)) for m in every
    )
    orders = list(itertools.permutations(range(length)))
    chained = sum(
        by_mask[tuple(p in order[done:] for p in range(length))][order[done]]
        for order in orders
        for done in range(length)
    ) / len(orders)
    # The integral over t of (1/t) t^l (1 - t)^(L - l) is Beta(l, L - l + 1).
    continuous = sum(
        sum(by_mask[m].values())
        * math.gamma(sum(m))
        * math.gamma(length - sum(m) + 1)
        / math.gamma(length + 1)
        for m in every
    )
    assert counted == pytest.approx(chained, abs=1e-10)
    assert counted == pytest.approx(continuous, abs=1e-10)


def test_a_mask_token_that_the_model_loves_costs_nothing(make_denoiser):
    model = make_denoiser()
    example = make_diffusion_example((7,), (20, 30), Masking((True, True), 1.0), id="x", mask_id=MASK)
    batch = pad([example], pad_id=0, shift=model.config.diffusion["alignment"])
    head = model.get_output_embeddings()
    usual = score_targets(model, batch, head_of=model).nats_N
    hook = head.register_forward_hook(lambda *a: a[2].index_fill(-1, torch.tensor([MASK]), 1e4))
    assert torch.equal(score_targets(model, batch, head_of=model).nats_N, usual)
    hook.remove()


def test_losses_by_ratio_add_up_to_the_loss_on_masked_tokens(make_denoiser, make_stream, tmp_path):
    stream = make_stream(steps=1)
    (row,) = train(make_denoiser(), stream, tmp_path)
    examples = [stream[place] for place in range(4)]
    counts = [0] * 5
    for example in examples:
        share = sum(example.masked) / example.supervised
        counts[min(int(share * 5), 4)] += sum(example.masked)
    assert len(row.loss_by_ratio) == 5
    assert [value is None for value in row.loss_by_ratio] == [count == 0 for count in counts]
    mean = sum(v * n for v, n in zip(row.loss_by_ratio, counts, strict=True) if n) / sum(counts)
    assert mean == pytest.approx(row.loss_masked, abs=1e-6)
    assert row.loss_copied is None


def test_a_step_in_which_nothing_is_masked_moves_nothing_and_does_not_fail(
    make_denoiser, make_stream, tmp_path
):
    stream = make_stream(steps=3, mask_ratio=0.0001)
    rows = train(make_denoiser(), stream, tmp_path)
    assert [row.loss_masked for row in rows] == [None] * 3
    assert all(row.loss == 0 for row in rows)


def test_training_lowers_the_loss(make_denoiser, make_stream, tmp_path):
    rows = train(make_denoiser(), make_stream(steps=60, preset="count"), tmp_path)
    assert sum(row.loss for row in rows[-10:]) < 0.9 * sum(row.loss for row in rows[:10])


def test_a_killed_run_goes_on_to_the_same_bits(make_denoiser, make_stream, tmp_path):
    class Killed(Exception):  # noqa: N818 (it is no error of ours)
        pass

    def kill(step):
        if step == 3:
            raise Killed

    whole, cut, model = (make_denoiser() for _ in range(3))
    train(whole, make_stream(steps=5), tmp_path / "whole")
    with pytest.raises(Killed):
        train(cut, make_stream(steps=5), tmp_path / "cut", save_every=2, on_step_end=kill)
    train(model, make_stream(steps=5), tmp_path / "cut", save_every=2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(), strict=True))


def test_two_processes_train_the_same_weights_as_one(tmp_path):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["demask.training.trainer", "tests.training.train_on_ranks"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    weights = {}
    for ranks, accumulation in ((1, 2), (2, 1)):
        out = tmp_path / str(ranks)
        out.mkdir()
        started = [
            processes.Process(target=train_on_rank, args=(out, accumulation, rank, ranks, port))
            for rank in range(ranks)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(120)
        codes = [process.exitcode for process in started]
        assert -signal.SIGSEGV not in codes, f"killed by SIGSEGV: {codes}"  # is tried once more
        assert codes == [0] * ranks
        weights[ranks] = torch.load(out / "weights.pt", weights_only=True)
    assert len(weights[1]["norms"]) == 3
    for name, expected in weights[1].items():  # norms, too: Adam forgives a gradient of the wrong size
        assert torch.allclose(weights[2][name], expected, atol=1e-5), name
