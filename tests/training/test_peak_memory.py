"""What counts as the memory of training: held while it trains, not before and not by what looks on."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from demask import environment
from demask.models.precision import keep_freed_memory
from demask.training.peak_memory import PeakMemory

MEGABYTE = 2**20
CPU = torch.device("cpu")

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts anew on Linux alone")


def hold(megabytes: int) -> None:
    """Take memory, write to all of it, and let it go."""
    np.ones(megabytes * MEGABYTE // 8)


@linux
def test_what_was_held_before_does_not_count_even_where_freed_memory_is_kept() -> None:
    keep_freed_memory()
    idle = PeakMemory(CPU).note()
    hold(400)
    assert environment.peak_memory() > idle + 300 * MEGABYTE
    assert PeakMemory(CPU).note() < idle + 100 * MEGABYTE


@linux
def test_what_was_held_on_the_way_counts_though_it_is_gone() -> None:
    peak = PeakMemory(CPU)
    idle = peak.note()
    hold(400)
    assert peak.note() > idle + 300 * MEGABYTE


@linux
def test_what_looks_on_does_not_count() -> None:
    peak = PeakMemory(CPU)
    hold(100)
    trained = peak.note()
    with peak.paused():
        hold(600)
    assert trained <= peak.note() < trained + 50 * MEGABYTE
    hold(400)
    assert peak.note() > trained + 200 * MEGABYTE


def test_an_earlier_process_of_the_same_training_counts() -> None:
    assert PeakMemory(CPU, earlier=10**15).note() == 10**15


def test_where_the_system_cannot_count_anew_the_process_so_far_is_an_upper_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("demask.training.peak_memory.reset_peak_memory", lambda: False)
    so_far = environment.peak_memory()
    # The kernel's counters are some pages behind.
    assert PeakMemory(CPU).note() > so_far - MEGABYTE > 0


def test_of_a_gpu_its_own_memory_is_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(most=7)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: setattr(gpu, "most", 2))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: gpu.most)
    peak = PeakMemory(torch.device("cuda"))
    assert peak.note() == 2
    gpu.most = 5
    assert peak.note() == 5
