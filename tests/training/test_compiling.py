"""Compiled layers train what plain ones do, compile once, and are plain again wherever somebody looks on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from demask.errors import ModelError
from demask.models.acceleration.layers import compiled_layers, plain_layers
from demask.records import Example
from demask.training.trainer import TrainSettings, train_model

# PyTorch's compiler warns of what it does itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

STEPS = 4


class Stream:
    """Two examples a step, whose lengths are others in every step."""

    batch_size, steps = 2, STEPS

    def __len__(self) -> int:
        return self.batch_size * self.steps

    def __getitem__(self, place: int) -> Example:
        ids = tuple(7 + (5 * place + token) % 60 for token in range(9 + 4 * place))
        return Example(str(place), ids, ids, (True,) * len(ids))


def train(model: Any, folder: Path, *, compile: bool = True, **how: Any) -> list[float]:
    """Train to the end; the loss of every step that was taken."""
    losses: list[float] = []
    settings = TrainSettings(
        1e-3, accumulation=1, save_every=2, bf16=False, pad_id=0, seed=0, compile=compile
    )
    stream: Any = Stream()
    train_model(model, stream, settings, folder=folder, on_step=lambda step: losses.append(step.loss), **how)
    return losses


def compiled_modules(model: torch.nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if module._compiled_call_impl is not None]


@pytest.mark.slow
def test_losses_are_those_of_plain_layers_and_one_graph_serves_all_shapes_and_layers(
    make_model: Callable, tmp_path: Path
) -> None:
    torch._dynamo.reset()
    graphs: list[int] = []

    def note(step: int) -> None:
        assert not compiled_modules(model), "who looks on sees plain layers"
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    plain = train(make_model(), tmp_path / "plain", compile=False)
    begun = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    model = make_model()
    losses = train(model, tmp_path / "compiled", on_step_end=note)
    assert losses == pytest.approx(plain, abs=1e-4)
    assert graphs[0] > begun
    assert graphs == [graphs[0]] * STEPS


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(make_model: Callable, tmp_path: Path) -> None:
    class Killed(Exception):  # noqa: N818 (it is no error of ours)
        """Takes the place of a kill signal."""

    def kill(step: int) -> None:
        if step == 3:
            raise Killed

    whole, killed, again = make_model(), make_model(), make_model()
    train(whole, tmp_path / "whole")
    with pytest.raises(Killed):
        train(killed, tmp_path / "killed", on_step_end=kill)
    assert not compiled_modules(killed)
    torch._dynamo.reset()  # as a new process would begin
    assert len(train(again, tmp_path / "killed")) == STEPS - 2
    pairs = zip(whole.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_layers_are_plain_for_a_while_and_compiled_again(make_model: Callable) -> None:
    model = make_model()
    with compiled_layers(model):
        assert compiled_modules(model) == ["model.layers.0", "model.layers.1"]
        with plain_layers(model):
            assert not compiled_modules(model)
        assert compiled_modules(model) == ["model.layers.0", "model.layers.1"]
    assert not compiled_modules(model)


def test_a_compiler_that_fails_is_one_line(make_model: Callable) -> None:
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    with (
        pytest.raises(ModelError, match=r"^torch.compile failed: .*No working C.* leave out launch.compile$"),
        compiled_layers(make_model()),
    ):
        raise InductorError(InvalidCxxCompiler(), None)
    with pytest.raises(ValueError, match="of something else"), compiled_layers(make_model()):
        raise ValueError("of something else")


def test_layers_without_a_name_are_not_quietly_left_plain(
    make_model: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    monkeypatch.setattr(model, "_no_split_modules", None)
    with (
        pytest.raises(ModelError, match=r"LlamaForCausalLM: .* leave out launch.compile"),
        compiled_layers(model),
    ):
        pass
