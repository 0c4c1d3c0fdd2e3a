"""A step that does not fit into memory is made again with less of it, to the same numbers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from demask.errors import RunError
from demask.records import Example
from demask.training import trainer
from demask.training.export import add_adapter
from demask.training.saving_memory import MemorySavings
from demask.training.trainer import TrainSettings, drop_partial_moments, train_model

STEPS, BATCH = 3, 4


class Stream:
    """The same four texts in each step."""

    batch_size, steps = BATCH, STEPS

    def __len__(self) -> int:
        return STEPS * BATCH

    def __getitem__(self, place: int) -> Example:
        ids = tuple(range(5, 25 + place % BATCH))
        return Example(str(place), ids, ids, (True,) * len(ids))


def train(model: Any, folder: Path, checkpointing: Any = "auto") -> tuple[list[float], list[str]]:
    """The losses, and what was said."""
    losses: list[float] = []
    said: list[str] = []
    settings = TrainSettings(
        learning_rate=1e-2,
        accumulation=1,
        save_every=100,
        bf16=False,
        pad_id=0,
        seed=0,
        gradient_checkpointing=checkpointing,
        say=said.append,
    )
    stream: Any = Stream()
    train_model(model, stream, settings, folder=folder, on_step=lambda step: losses.append(step.loss))
    return losses, said


@contextmanager
def _no_room(monkeypatch: pytest.MonkeyPatch, fits: Callable[[Any, int], bool]) -> Iterator[None]:
    """Backward ends for want of memory, but where it is told to fit: by the model and the tokens."""
    usual: Any = vars(trainer)["predict_targets"]

    def predict(wrapped: Any, batch: Any, *, head_of: Any) -> Any:
        scored = usual(wrapped, batch, head_of=head_of)
        if not fits(head_of, batch["input_ids"].numel()):
            scored.logits_NV.sum().backward(retain_graph=True)  # leaves gradients behind
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore of it.")
        return scored

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "predict_targets", predict)
        yield


def recomputes(model: Any) -> str:
    """Which activations are kept: all, selective or none."""
    layers = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    on = [layer for layer in layers if layer.gradient_checkpointing]
    if not on:
        return "all"
    given = getattr(on[0]._gradient_checkpointing_func, "keywords", {})
    return "selective" if "context_fn" in given else "none"


@pytest.mark.parametrize("wanted", ["selective", "none"])
@pytest.mark.parametrize("adapted", [False, True])
def test_layers_are_computed_twice_where_that_is_what_it_takes(
    make_model: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    adapted: bool,
) -> None:
    def make() -> Any:
        return add_adapter(make_model(), rank=4, seed=0) if adapted else make_model()

    expected, silent = train(make(), tmp_path / "a")
    model = make()
    order = ["all", "selective", "none"]
    with _no_room(monkeypatch, lambda m, tokens: order.index(recomputes(m)) >= order.index(wanted)):
        found, said = train(model, tmp_path / "b")
    assert found == expected
    assert silent == []
    assert len(said) == order.index(wanted)
    assert said[0].startswith("step 1 did not fit into memory; from here on what is cheap in a layer is")
    assert recomputes(model) == "all"  # at the end it is as it came


def test_micro_batches_are_halved_last(
    make_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = train(make_model(), tmp_path / "a")
    with _no_room(monkeypatch, lambda model, tokens: recomputes(model) == "none" and tokens < 2 * 20):
        found, said = train(make_model(), tmp_path / "b")
    assert found == pytest.approx(expected, rel=1e-5)
    assert [line.rpartition("from here on ")[2] for line in said[2:]] == [
        "a step is cut into 2 micro-batches",
        "a step is cut into 4 micro-batches",
    ]


def test_what_does_not_fit_at_all_is_said_in_one_line(
    make_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        _no_room(monkeypatch, lambda model, tokens: False),
        pytest.raises(RunError, match=r"step 1: does not fit into memory.*use train\.method=lora") as raised,
    ):
        train(make_model(), tmp_path / "run")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("checkpointing", [False, True, "selective"])
def test_what_is_asked_for_is_kept_to(
    make_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpointing: Any
) -> None:
    with (
        _no_room(monkeypatch, lambda model, tokens: False),
        pytest.raises(torch.OutOfMemoryError),
    ):
        train(make_model(), tmp_path / "run", checkpointing)


def test_a_model_whose_layers_cannot_be_computed_twice_goes_on_with_smaller_micro_batches(
    make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    savings = MemorySavings(model, "auto", accumulation=1, batch_size=3, alone=True)
    with savings:
        said = [savings.save_more() for _ in range(3)]
    assert said == ["a step is cut into 2 micro-batches", "a step is cut into 3 micro-batches", None]


def test_several_processes_save_nothing_by_themselves(make_model: Callable[..., Any]) -> None:
    savings = MemorySavings(make_model(), "auto", accumulation=1, batch_size=3, alone=False)
    assert not savings.is_able
    assert savings.save_more() is None


def test_moments_that_are_half_made_are_made_anew() -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    whole = optimizer.state[layer.weight]
    del optimizer.state[layer.bias]["exp_avg_sq"]
    drop_partial_moments(optimizer)
    assert list(optimizer.state) == [layer.weight]
    assert optimizer.state[layer.weight] is whole
