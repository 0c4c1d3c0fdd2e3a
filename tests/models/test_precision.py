"""In which dtype a processor multiplies: asked of its flags, timed once, and kept."""

import json
from pathlib import Path

import pytest
import torch

from demask.models import precision
from demask.models.precision import bf16_is_faster, choose_bf16

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """A processor with bfloat16 instructions; the speeds that it will be found to have."""
    speeds: list[float] = []
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path))
    monkeypatch.setattr(precision, "processor_flags", lambda: frozenset({"avx512_bf16", "avx2"}))
    monkeypatch.setattr(precision, "time_bf16", lambda: speeds.pop(0))
    bf16_is_faster.cache_clear()
    return speeds


@pytest.mark.parametrize(("speed", "chosen"), [(0.54, False), (1.05, False), (1.2, True), (4.0, True)])
def test_it_is_what_this_processor_does_faster(machine: list[float], speed: float, chosen: bool) -> None:
    machine.append(speed)
    assert choose_bf16("auto", CPU) is chosen
    assert choose_bf16("bf16", CPU)
    assert not choose_bf16("fp32", CPU)


def test_it_is_timed_once_for_all_processes(machine: list[float], tmp_path: Path) -> None:
    machine.append(0.54)
    assert not bf16_is_faster()
    bf16_is_faster.cache_clear()  # as in another process, in which nothing more is timed
    assert not bf16_is_faster()
    (kept,) = json.loads((tmp_path / "precision.json").read_text()).items()
    assert kept[1] == 0.54
    assert "avx512_bf16" in kept[0]


@pytest.mark.parametrize("damaged", ["{", "[]", "3", '{"a": "b"}', ""])
def test_a_damaged_file_is_written_anew(machine: list[float], tmp_path: Path, damaged: str) -> None:
    (tmp_path / "precision.json").write_text(damaged)
    machine.append(2.0)
    assert bf16_is_faster()
    assert json.loads((tmp_path / "precision.json").read_text())


def test_without_the_instructions_nothing_is_timed(
    machine: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "processor_flags", lambda: frozenset({"avx2"}))
    assert not choose_bf16("auto", CPU)


def test_both_are_really_timed() -> None:
    assert precision.time_bf16(rounds=1) > 0


@pytest.fixture(autouse=True)
def _forget() -> None:
    bf16_is_faster.cache_clear()
