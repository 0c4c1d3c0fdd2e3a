"""The measurements count what they say they count; their timings are not tested."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PERF = Path(__file__).parents[1] / "perf"
NAMES = (
    "training",
    "generation",
    "preparation",
    "startup",
    "curves",
    "diffusion",
    "guard",
    "input_side",
    "busy",
    "page",
    "gpu",
    "knowledge",
)
SCRIPTS = tuple(f"{name}.py" for name in NAMES)


@pytest.fixture(autouse=True)
def _perf_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PERF))


def test_every_measurement_has_a_help_page_and_a_json_form() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, str(PERF / script), "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for script in SCRIPTS
    ]
    for script, process in zip(SCRIPTS, running, strict=True):
        out, errors = process.communicate()
        assert process.returncode == 0, f"{script}: {errors.decode()}"
        assert b"--json" in out


def test_a_ratio_has_moved_when_it_differs_by_more_than_fifteen_percent_or_is_gone() -> None:
    from guard import find_moved

    recorded = {"same": 2.0, "a little": 2.0, "slower": 2.0, "faster": 2.0, "gone": 1.0}
    found = {"same": 2.0, "a little": 2.2, "slower": 1.6, "faster": 2.5, "new": 1.0}
    assert find_moved(recorded, found) == ["slower", "faster", "gone", "new"]


def test_the_record_holds_ratios_and_where_they_were_measured() -> None:
    record = json.loads((PERF / "recorded.json").read_text(encoding="utf-8"))
    assert record["machine"]["processor"]
    assert {"full: speed over TRL", "full: memory over TRL", "bare question: speed over generate"} <= set(
        record["ratios"]
    )


@pytest.mark.parametrize(("method", "passes"), [("full", 3), ("lora", 2)])
def test_operations_are_those_of_a_model_counted_by_pytorch(method: str, passes: int) -> None:
    import torch
    from shapes import SHAPES, count_flops
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    width, layers, heads, kv_heads, mlp, vocabulary = 24, 2, 4, 2, 40, 60
    SHAPES["tiny"] = (width, layers, heads, kv_heads, mlp, vocabulary)
    eager: dict[str, Any] = {"attn_implementation": "eager"}
    config = LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=mlp,
        vocab_size=vocabulary,
        **eager,
    )
    length = 10
    sample = {"input_ids": [1] * length, "labels": [-100, *[1] * (length - 1)]}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        LlamaForCausalLM(config)(input_ids=torch.tensor([sample["input_ids"]]))
    forward = counter.get_total_flops()
    # PyTorch counts all of the attention, of which half is seen, and the output layer at the last position.
    attention = 2 * 2 * layers * width * length**2
    expected = passes * (forward - attention - 2 * width * vocabulary) + 3 * attention / 2
    assert count_flops([sample], shape="tiny", method=method) == pytest.approx(expected, rel=1e-6)


def test_the_rate_beside_other_work_is_taken_within_a_round() -> None:
    import argparse

    from busy import DEFAULT, POLICY, summarise

    # Seconds of blocks of two steps; the machine became half as fast in the second round.
    seconds = {DEFAULT: {0: [2.0, 4.0], 1: [6.0, 12.0]}, POLICY: {0: [2.0, 4.0], 1: [3.0, 6.0]}}
    found = summarise(argparse.Namespace(block_steps=2, method="full", batch=8), seconds)
    assert found["ratios"] == {
        f"{DEFAULT}: quiet over default quiet": 1.0,
        f"{POLICY}: quiet over default quiet": 1.0,
        f"{DEFAULT}: 1 busy over quiet": pytest.approx(1 / 3),
        f"{POLICY}: 1 busy over quiet": pytest.approx(2 / 3),
    }
    assert found["step_seconds"][DEFAULT][0] == [1.0, 2.0]


def test_neighbours_are_gone_after_their_block() -> None:
    from busy import busy

    def children() -> set[int]:
        numbers = Path("/proc/self/task").glob("*/children")
        return {int(number) for file in numbers for number in file.read_text().split()}

    before = children()
    with busy(2):
        assert len(children() - before) == 2
    assert children() == before
