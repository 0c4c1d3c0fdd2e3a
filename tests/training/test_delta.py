"""Two models and what leads from one to the other, to the bit."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from demask.errors import RunError
from demask.training.delta import apply_delta, read_digests, write_delta


def write_model(
    folder: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata=metadata or {"format": "pt"})
    (folder / "config.json").write_text(folder.name)
    return folder


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8])
def test_a_delta_leads_back_whatever_the_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    before, after = ((torch.randn(7, 3, generator=generator) * 50).abs().to(dtype) for _ in range(2))
    old = write_model(
        tmp_path / "old", {"moved": before, "kept": before.clone(), "one": before[0, 0].clone()}
    )
    new = write_model(tmp_path / "new", {"moved": after, "kept": before.clone(), "one": after[0, 0].clone()})
    write_delta(old, new, tmp_path / "delta")
    apply_delta(new, tmp_path / "delta", tmp_path / "back")
    assert digest(tmp_path / "back") == digest(old) == read_digests(tmp_path / "delta")["model.safetensors"]
    assert (tmp_path / "back" / "config.json").read_text() == "old"


def test_numbers_whose_difference_is_rounded_come_back(tmp_path: Path) -> None:
    """1e8 + (1 - 1e8) is 0 in float32, and -0.0 + 0.0 is 0.0."""
    values = torch.tensor([1.0, -0.0, float("nan"), float("inf"), 1e-45])
    old = write_model(tmp_path / "old", {"a": values})
    new = write_model(tmp_path / "new", {"a": torch.full((5,), 1e8)})
    write_delta(old, new, tmp_path / "delta")
    apply_delta(new, tmp_path / "delta", tmp_path / "back")
    assert digest(tmp_path / "back") == digest(old)


def test_what_training_left_alone_takes_no_place(tmp_path: Path) -> None:
    frozen = torch.randn(1000, 10)
    old = write_model(tmp_path / "old", {"a": torch.zeros(3), "frozen": frozen})
    new = write_model(tmp_path / "new", {"a": torch.ones(3), "frozen": frozen.clone()})
    write_delta(old, new, tmp_path / "delta")
    assert set(load_file(tmp_path / "delta" / "model.safetensors")) == {"a"}


def test_a_header_of_several_entries_comes_back_in_its_order(tmp_path: Path) -> None:
    metadata = {name: name * 3 for name in "zyxwvut"}
    old = write_model(tmp_path / "old", {"a": torch.zeros(3), "b": torch.zeros(2).half()}, metadata)
    new = write_model(tmp_path / "new", {"a": torch.ones(3), "b": torch.ones(2).half()})
    write_delta(old, new, tmp_path / "delta")
    apply_delta(new, tmp_path / "delta", tmp_path / "back")
    assert digest(tmp_path / "back") == digest(old)


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"a": torch.ones(4)}, "another shape or dtype"),
        ({"a": torch.ones(3).half()}, "another shape or dtype"),
        ({"b": torch.ones(3)}, "other weights"),
    ],
)
def test_models_of_other_shapes_have_no_delta(
    tensors: dict[str, torch.Tensor], problem: str, tmp_path: Path
) -> None:
    old = write_model(tmp_path / "old", {"a": torch.zeros(3)})
    new = write_model(tmp_path / "new", tensors)
    with pytest.raises(RunError, match=problem):
        write_delta(old, new, tmp_path / "delta")
    assert not (tmp_path / "delta").exists()


def test_a_delta_of_another_model_is_not_applied(tmp_path: Path) -> None:
    old = write_model(tmp_path / "old", {"a": torch.zeros(3)})
    new = write_model(tmp_path / "new", {"a": torch.ones(3)})
    other = write_model(tmp_path / "other", {"a": torch.full((3,), 2.0)})
    write_delta(old, new, tmp_path / "delta")
    with pytest.raises(RunError, match="does not give the parent's bits"):
        apply_delta(other, tmp_path / "delta", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    (tmp_path / "delta" / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(RunError, match="cannot be read"):
        apply_delta(new, tmp_path / "delta", tmp_path / "back")
