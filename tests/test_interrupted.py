"""Training that is asked to stop ends after its step, says so, and goes on to the same bits."""

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch

from demask.errors import InterruptionError
from demask.objectives.diffusion import Noise, draw_noise, make_diffusion_example
from demask.objectives.masking import keyed_rng
from demask.records import Passage
from demask.signals import Noted, ending_on_sigterm, noting_signals
from demask.training import trainer as trainer_module
from demask.training.checkpoints import find_checkpoint, read_manifest
from demask.training.stream import ExposureStream
from demask.training.trainer import TrainSettings, share_tokens, train_model

pytestmark = pytest.mark.usefixtures("ctrl_c")

STEPS = 8


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.smoke
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_ends_nothing(number):
    before = signal.getsignal(number)
    with noting_signals() as noted:
        assert noted.number is None
        send(number)
        assert noted.number == number
    assert signal.getsignal(number) is before


def test_sigterm_may_come_as_often_as_it_likes():
    with noting_signals() as noted:
        for _ in range(3):
            send(signal.SIGTERM)
    assert noted.number == signal.SIGTERM


def test_ctrl_c_twice_stops_at_once():
    with noting_signals():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_ctrl_c_after_sigterm_waits_for_the_step_once():
    with noting_signals() as noted:
        send(signal.SIGTERM)
        send(signal.SIGINT)
        assert noted.number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with noting_signals() as noted:
            send(signal.SIGTERM)
        assert noted.number is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_than_the_main_one_changes_no_handlers():
    found: list[Any] = []

    def run():
        with noting_signals(), ending_on_sigterm():
            found.extend(map(signal.getsignal, (signal.SIGTERM, signal.SIGINT)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]


def test_elsewhere_sigterm_leaves_every_block_in_order():
    left = []

    def work():
        with ending_on_sigterm():
            try:
                send(signal.SIGTERM)
            finally:
                left.append(True)

    with pytest.raises(SystemExit) as ended:
        work()
    assert (ended.value.code, left) == (143, [True])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_command_that_sigterm_ends_says_so_in_one_line():
    code = "import os, demask.cli as cli; cli.app = lambda **how: os.kill(os.getpid(), 15); cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    said = "demask: stopped by SIGTERM; the same command begins anew\n"
    assert (done.returncode, done.stderr) == (143, said)


@pytest.fixture(scope="module")
def stream():
    lengths = (3, 9, 5, 14, 7, 4)

    def make_example(passage, epoch, variant):
        length = lengths[int(passage.id)]
        answer = tuple(5 + (7 * place + length) % 40 for place in range(length))
        masking = draw_noise(keyed_rng(0, passage.id, epoch, variant), length=length, noise=Noise(None))
        return make_diffusion_example((1,), answer, masking, id=passage.id, mask_id=3)

    passages = [Passage(str(number), str(number), "") for number in range(len(lengths))]
    return ExposureStream(passages, lengths, make_example, variants=1, batch_size=4, steps=STEPS, seed=0)


def train(model, stream, folder, **looking):
    settings = TrainSettings(1e-2, accumulation=1, save_every=3, bf16=False, pad_id=0, seed=0)
    train_model(model, stream, settings, folder=folder, on_step=lambda step: None, **looking)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def whole(make_model, stream, tmp_path_factory):
    """Weights of a training that nobody disturbs."""
    return train(make_model(), stream, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    ("number", "code", "step"),
    [
        (signal.SIGTERM, 143, 1),  # before a checkpoint is due
        (signal.SIGINT, 130, 3),  # when one is due
        (signal.SIGTERM, 143, STEPS),
    ],
)
def test_training_stops_after_its_step_and_goes_on_to_the_same_bits(
    make_model, stream, tmp_path, whole, number, code, step
):
    name = signal.Signals(number).name
    message = f"stopped at step {step} by {name}; the checkpoint is whole, the same command goes on"
    with pytest.raises(InterruptionError, match=message) as stopped:
        train(make_model(), stream, tmp_path, on_step_end=lambda now: send(number) if now == step else None)
    assert stopped.value.exit_code == code
    checkpoint = find_checkpoint(tmp_path)
    assert checkpoint == tmp_path / f"checkpoint-{step}"
    assert checkpoint is not None
    assert not read_manifest(checkpoint).the_end
    resumed = train(make_model(seed=1), stream, tmp_path)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_signal_when_there_was_enough_ends_in_the_model_that_was_enough(make_model, stream, tmp_path):
    def should_stop(step):
        return step == 4 and not send(signal.SIGTERM)

    with pytest.raises(InterruptionError, match="stopped at step 4"):
        train(make_model(), stream, tmp_path, should_stop=should_stop)
    steps: list[Any] = []
    train(make_model(seed=1), stream, tmp_path, on_step_end=steps.append)
    assert steps == []


def test_a_signal_is_not_lost_where_nothing_is_left_to_train(make_model, stream, tmp_path, monkeypatch):
    train(make_model(), stream, tmp_path)

    def find(folder):
        send(signal.SIGTERM)
        return find_checkpoint(folder)

    monkeypatch.setattr(trainer_module, "find_checkpoint", find)
    with pytest.raises(InterruptionError):
        train(make_model(), stream, tmp_path)


class TwoProcesses:
    """Accelerate in the first of two, the second of which has counted 7 and 2 tokens."""

    num_processes = 2

    def __init__(self, other_signal=0):
        self.other = torch.tensor([[7, 2, other_signal]])

    def gather(self, mine):
        return torch.cat([mine, self.other])


def test_processes_share_their_tokens_and_the_signal_that_came_to_one_of_them():
    counted = torch.tensor([10, 3])
    for mine, other, expected in ((None, 0, 0), (None, 15, 15), (15, 0, 15)):
        tokens_S, told = share_tokens(TwoProcesses(other), counted, Noted(mine))
        assert told is not None
        assert (tokens_S.tolist(), int(told)) == ([17, 5], expected)


def test_several_processes_stop_where_the_log_is_read_when_one_got_the_signal(
    make_model, stream, tmp_path, monkeypatch
):
    """Looking at what was told waits for the GPU, so it is looked at where the log waits for it anyway."""

    def share(accelerator, tokens_S, noted):
        told.append(signal.SIGTERM if len(told) >= 1 else 0)  # from step 2 on
        return tokens_S, torch.tensor(told[-1])

    told = []
    monkeypatch.setattr(trainer_module, "share_tokens", share)
    settings = TrainSettings(1e-2, 1, save_every=100, bf16=False, pad_id=0, seed=0, log_every=3)
    with pytest.raises(InterruptionError, match="stopped at step 3 by SIGTERM"):
        train_model(make_model(), stream, settings, folder=tmp_path, on_step=lambda step: None)
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
