"""The script for a GPU does all its parts on a CPU, tiny, and keeps what it had when it is cut."""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PERF = Path(__file__).parents[1] / "perf"


@pytest.fixture(autouse=True)
def _perf_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PERF))


@pytest.fixture(scope="module")
def model(
    make_model: Callable[..., Any], shared_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tiny model with rows as wide as a block of four bits, and room for a word problem."""
    folder = tmp_path_factory.mktemp("models") / "wide"
    sizes = {"hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 1024}
    make_model(**sizes).save_pretrained(folder)
    shared_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def options(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> argparse.Namespace:
    import gpu

    words = ["--tiny", "--device=cpu", f"--model={model}", f"--out={tmp_path / 'gpu.json'}"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    return gpu.parse()


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's processor is quicker at, which decides between float32 and bfloat16."""
    monkeypatch.setattr("demask.models.precision.choose_bf16", lambda *given: False)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_packing_resuming_and_an_evaluation_before_training_are_checked(
    options: argparse.Namespace, method: str
) -> None:
    from gpu import check_method

    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    options.part = f"correctness, {method}"
    found = check_method(options)
    assert found["wrong"] is False
    assert found["resumed_bits_equal"] is True
    assert found["losses_after_an_evaluation_differ_by"] == 0.0
    assert 0 <= found["packing"]["largest_difference"] < 1e-3
    assert found["packing"]["scored_tokens"] > 0
    assert len(found["losses"]) == 6


@pytest.mark.usefixtures("in_float32")
def test_what_is_off_by_more_than_rounding_counts_as_wrong(
    options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu

    off = {"largest_difference": 0.02, "scored_tokens": 9, "dtype": "torch.float32"}
    monkeypatch.setattr(gpu, "measure_packing", lambda *given, **named: off)
    options.part = "correctness, full"
    found = gpu.check_method(options)
    assert found["wrong"] is True
    assert gpu.say({**found, "wall_seconds": 3.0}) == "WRONG in 3 s"


def test_facts_are_taught_with_the_plan_beside_what_it_took(options: argparse.Namespace) -> None:
    from gpu import measure_injection

    found = measure_injection(options)
    assert (found["facts"], found["method"]) == ("quickstart", "full")
    assert 0.5 < found["plan_memory_over_peak"] < 2.0
    assert {"before", "after"} <= set(found["metrics"])


def test_word_problems_are_trained_plainly_and_masked(options: argparse.Namespace) -> None:
    from gpu import measure_word_problems

    found = measure_word_problems(options)
    assert set(found["right"]) == {"before", "sft", "masked-sft"}
    assert all(0 <= share <= 1 for share in found["right"].values())


def test_decoding_is_timed_and_what_is_not_there_is_said(
    options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpu import measure_decoding

    monkeypatch.delenv("DEMASK_SERVER_URL", raising=False)
    found = measure_decoding(options)
    assert found["demask"]["tokens_per_second"] > 0
    assert found["transformers"] == {"left_out": "needs a GPU"}
    assert found["server"] == {"left_out": "DEMASK_SERVER_URL names none"}


def test_each_part_is_in_the_file_as_soon_as_it_ends(
    options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu

    seen: list[tuple[str, list[str]]] = []

    def run_part(part: Any, options: argparse.Namespace, left: float) -> dict[str, Any]:
        kept = json.loads(options.out.read_text())["parts"] if options.out.exists() else {}
        seen.append((part.name, list(kept)))
        if part.name == "decoding":
            raise KeyboardInterrupt
        return {"failed": "no luck"} if part.name == "correctness, lora" else {"memory_bytes": 10**12}

    monkeypatch.setattr(gpu, "run_part", run_part)
    with pytest.raises(KeyboardInterrupt):
        gpu.measure(options)
    names = [name for name, _ in seen]
    assert [kept for _, kept in seen] == [names[:count] for count in range(len(names))]
    # What is there is not done again, what failed and what is missing is.
    seen.clear()
    options.go_on = True
    with pytest.raises(KeyboardInterrupt):
        gpu.measure(options)
    assert [name for name, _ in seen] == ["correctness, lora", "decoding"]


def test_what_does_not_fit_into_the_minutes_or_the_memory_is_left_out(options: argparse.Namespace) -> None:
    from gpu import Part, make_parts, run_part

    late = run_part(Part("late", 30.0, command=("training.py",)), options, 12.0)
    assert late == {"left_out": "12 s were left, and it takes about 30"}
    options.shapes, options.tiny = ["llama-8b"], False
    parts = {part.name: part for part in make_parts(options, memory=24 * 10**9)}
    full = run_part(parts["training, llama-8b, full"], options, 600.0)
    assert full == {"left_out": "needs 128 GB"}
    assert all(parts["training, llama-8b, lora"].needs.values())


def test_the_shapes_have_as_many_weights_as_their_names_say() -> None:
    from gpu import count_weights

    for shape, size in (("llama-1b", 1.24e9), ("llama-3b", 3.21e9), ("llama-8b", 8.03e9)):
        assert math.isclose(count_weights(shape), size, rel_tol=0.01)


def test_training_is_compared_in_processes_of_their_own(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("trl")
    command = [sys.executable, str(PERF / "gpu.py"), "--tiny", "--device=cpu", f"--model={model}"]
    command += [f"--out={tmp_path / 'gpu.json'}", "--only", "training, tiny, qlora"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads((tmp_path / "gpu.json").read_text())["parts"]["training, tiny, qlora"]
    assert done.returncode == 0, found
    assert set(found["arms"]) == {"demask", "TRL, tuned"}
    assert found["same_losses"] is True
    assert all(arm["tokens_per_second"][0] > 0 for arm in found["arms"].values())
    assert "| tiny, qlora" in done.stdout


def test_an_unknown_part_is_said_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu

    monkeypatch.setattr(sys, "argv", ["gpu.py", "--only", "speed"])
    with pytest.raises(SystemExit):
        gpu.parse()
    assert "--only: 'speed' is no part, expected one of machine, correctness, full" in capsys.readouterr().err
