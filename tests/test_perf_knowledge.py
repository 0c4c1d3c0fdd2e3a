"""What a fact costs is counted as perf/knowledge.py says, in slices that go on from each other."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PERF = Path(__file__).parents[1] / "perf"
ARMS = ("keep", "gated", "fast", "paper", "lora", "next-token-paraphrases", "trl")
pytestmark = pytest.mark.filterwarnings("default")  # TRL and peft have some of their own


@pytest.fixture(autouse=True)
def _perf_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PERF))


@pytest.fixture(scope="module")
def model(
    make_model: Callable[..., Any], shared_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tiny model with room for the quickstart's documents."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_model(max_position_embeddings=1024).save_pretrained(folder)
    shared_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def measured(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The script, its parts in this process."""
    import knowledge
    import knowledge_arms

    def run_part(part: str, name: str, options: argparse.Namespace) -> None:
        knowledge.PARTS[part](knowledge_arms.ARMS[name], options)

    monkeypatch.setattr(knowledge, "run_part", run_part)

    def measure(*words: str, out: str = "out") -> dict[str, Any]:
        given = ["--tiny", "--device=cpu", f"--model={model}", f"--out={tmp_path / out}", *words]
        found: dict[str, Any] = knowledge.measure(knowledge.parse(given))
        return found

    return measure


def read_weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.parametrize("name", ARMS)
def test_slices_that_go_on_from_each_other_train_what_one_does(
    name: str, measured: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    import torch

    if name == "trl":
        pytest.importorskip("trl")
    cut, whole = (
        measured("--arms", name, "--slices", count, out=count)["arms"][name] for count in ("2", "1")
    )
    assert [row["step"] for row in cut["slices"]] == [2, 4]
    assert [part for part, _ in cut["process_seconds"]] == ["slice", "slice"]
    assert cut["tokens"] == whole["tokens"] > cut["slices"][0]["tokens"]
    assert cut["passed"] is False
    assert "kept" not in cut  # what has not passed is not measured
    assert (cut["forward"], cut["backward"]) == (whole["forward"], whole["backward"])
    assert ("alone" in cut) == (name in ("keep", "gated", "lora"))
    assert all(row["seconds"] > 0 and row["asking_seconds"] > 0 for row in cut["slices"])
    one, two = (read_weights(tmp_path / folder / name) for folder in ("2", "1"))
    assert all(torch.equal(weights, two[key]) for key, weights in one.items())
    assert not (tmp_path / "2" / name / "checkpoints").exists()
    if name != "trl":  # what demask itself has logged
        log = (tmp_path / "1" / name / "metrics.jsonl").read_text().splitlines()
        assert json.loads(log[-1])["tokens"] == whole["tokens"]


def test_arms_take_slices_in_turn_and_go_on_where_they_were_cut(
    measured: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import knowledge

    run_part = knowledge.run_part
    done: list[str] = []

    def cut(part: str, name: str, options: argparse.Namespace) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        run_part(part, name, options)
        done.append(name)

    words = ("--arms", "fast", "lora", "--slices", "2")
    monkeypatch.setattr(knowledge, "run_part", cut)
    with pytest.raises(KeyboardInterrupt):
        measured(*words)
    assert done == ["fast", "lora", "fast"]
    kept = json.loads((tmp_path / "out" / knowledge.RESULT).read_text())["arms"]
    assert {name: arm["step"] for name, arm in kept.items()} == {"fast": 4, "lora": 2}
    monkeypatch.setattr(knowledge, "run_part", run_part)
    found = measured(*words)["arms"]
    assert [len(arm["process_seconds"]) for arm in found.values()] == [2, 2]
    with pytest.raises(SystemExit, match=r"--slices was 2, not 3; choose another --out"):
        measured("--arms", "fast", "--slices", "3")


def test_a_slice_whose_checkpoint_was_lost_is_trained_and_counted_again(model: Path, tmp_path: Path) -> None:
    import shutil

    from knowledge import parse
    from knowledge_arms import ARMS as KNOWN
    from knowledge_arms import train_slice

    options = parse(["--tiny", f"--model={model}", f"--out={tmp_path}", "--slices=2"])
    rows = tmp_path / "fast" / "slices.jsonl"
    train_slice(KNOWN["fast"], options)
    shutil.rmtree(tmp_path / "fast" / "checkpoints")
    train_slice(KNOWN["fast"], options)
    assert [json.loads(line)["step"] for line in rows.read_text().splitlines()] == [2]
    train_slice(KNOWN["fast"], options)
    assert [json.loads(line)["step"] for line in rows.read_text().splitlines()] == [2, 4]


def test_an_arm_that_has_passed_stops_and_is_measured_once_in_processes_of_its_own(
    model: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(PERF / "knowledge.py"), "--tiny", "--device=cpu", f"--model={model}"]
    command += [f"--out={tmp_path}", "--arms", "lora", "--wanted", "0", "0", "--measure", "brief"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    arm = json.loads((tmp_path / "knowledge.json").read_text())["arms"]["lora"]
    assert [part for part, _ in arm["process_seconds"]] == ["slice", "kept"]
    assert (arm["passed"], arm["step"], arm["steps"]) == (True, 1, 4)
    assert set(arm["kept"]) == {"alone", "gate"}
    assert all({"leak", "drift", "in_budget"} <= set(side) for side in arm["kept"].values())
    assert "| lora | " in done.stdout
    assert "lora: rate from " in done.stdout


def test_a_question_that_leaves_the_gate_shut_has_the_answer_of_the_base_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from knowledge import parse
    from knowledge_arms import ARMS as KNOWN
    from knowledge_arms import measure_answers, prepare

    from demask.evaluation.metrics import HEADLINE
    from demask.stages import callbacks

    ready = prepare(KNOWN["lora"], parse(["--tiny", f"--model={model}", f"--out={tmp_path}"]))
    all_right = [{"qa_id": pair.id, HEADLINE: 1.0} for pair in ready.pairs]
    monkeypatch.setattr(callbacks, "measure_accuracy", lambda *given: ([], all_right))
    monkeypatch.setattr(
        "demask.models.gated.find_open",
        lambda gate, tokenizer, chat, prompts: [place > 0 for place in range(32)],
    )
    found = measure_answers(ready, ready.base(), 1)
    assert found["alone"] == {"forward": 1.0, "backward": 1.0}
    assert found["forward"] == 15 / 16  # the first question is one of these, and the base knows nothing
    assert found["backward"] == 1.0


def test_what_is_not_here_is_left_out_by_name(
    measured: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import knowledge

    from demask.quickstart import __path__ as places

    monkeypatch.setattr(knowledge, "find_spec", lambda name: None)
    found = measured("--arms", "trl")["arms"]["trl"]
    assert found["left_out"] == "TRL is not installed; pip install 'demask[perf]'"
    documents = str(Path(places[0]) / ".." / "quickstart" / "documents.jsonl")
    found = measured("--arms", "next-token-paraphrases", "--documents", documents, out="own")["arms"]
    assert found["next-token-paraphrases"]["left_out"] == "--paraphrases names no file"


def test_no_part_begins_that_takes_longer_than_is_left(
    measured: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import knowledge

    run_part, now = knowledge.run_part, [0.0]

    def take_long(part: str, name: str, options: argparse.Namespace) -> None:
        run_part(part, name, options)
        now[0] += 40.0

    monkeypatch.setattr(knowledge, "run_part", take_long)
    monkeypatch.setattr(knowledge, "time", SimpleNamespace(monotonic=lambda: now[0]))
    found = measured("--arms", "fast", "--slices", "2", "--minutes", "1")["arms"]["fast"]
    assert (found["step"], found["left_out"]) == (2, "1 minutes were over")


def test_a_part_that_fails_is_said_and_the_others_go_on(
    measured: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import knowledge

    run_part = knowledge.run_part

    def fail(part: str, name: str, options: argparse.Namespace) -> str | None:
        return "no luck" if name == "fast" else run_part(part, name, options)

    monkeypatch.setattr(knowledge, "run_part", fail)
    found = measured("--arms", "fast", "lora", "--slices", "1")["arms"]
    assert found["fast"]["failed"] == "no luck"
    assert found["lora"]["step"] == 4


def test_the_budget_is_kept_by_all_three_measures_or_not_at_all() -> None:
    from knowledge import judge

    good = {"leak": {"value": 0.02}, "known": {"value": 0.95}, "drift": {"value": 0.03}}
    assert judge({"measures": good})["alone"]["in_budget"] is True
    for name, value in (("leak", 0.03), ("known", 0.94), ("drift", 0.031)):
        assert judge({"measures": {**good, name: {"value": value}}})["alone"]["in_budget"] is False
        rest = {key: one for key, one in good.items() if key != name}
        assert judge({"measures": rest})["alone"]["in_budget"] is False
    bad = {**good, "leak": {"value": 1.0}}
    behind = judge({"measures": good, "ungated": bad})
    assert (behind["alone"]["in_budget"], behind["gate"]["in_budget"]) == (False, True)


def test_slices_are_parts_of_the_run_and_what_they_took_is_added_up() -> None:
    from knowledge import add_up
    from knowledge_arms import ARMS as KNOWN
    from knowledge_arms import slice_ends

    assert tuple(KNOWN) == ARMS
    assert slice_ends(56, 8) == [7, 14, 21, 28, 35, 42, 49, 56]
    assert slice_ends(90, 8)[-1] == 90
    assert slice_ends(2, 8) == [1, 2]
    row = {
        **{"step": 2, "steps": 4, "learning_rate": 1e-4, "tokens": 50, "passed": False},
        **{"forward": 0.5, "backward": 0.25, "seconds": 2.0, "processor_seconds": 1.0},
        **{"asking_seconds": 3.0, "asking_processor_seconds": 2.0, "peak_memory_bytes": 7},
        **{"preparing_seconds": 9.0, "preparing_processor_seconds": 8.0},
    }
    later = {"step": 4, "tokens": 100, "backward": 1.0, "peak_memory_bytes": 5, "preparing_seconds": 1.0}
    both = add_up([row, {**row, **later}])
    assert (both["step"], both["tokens"], both["backward"]) == (4, 100, 1.0)  # as the last one says
    assert (both["seconds"], both["processor_seconds"]) == (4.0, 2.0)
    assert (both["asking_seconds"], both["peak_memory_bytes"]) == (6.0, 7)
    assert both["preparing_seconds"] == 9.0  # of the one that may have drawn a pool


def test_the_paraphrases_of_the_quickstart_say_what_its_documents_say_in_their_order() -> None:
    from knowledge import PARAPHRASES, QUICKSTART

    from demask.knowledge.files import load_paraphrases, load_qa_pairs
    from demask.knowledge.paraphrase_checks import check_paraphrase

    lines = (QUICKSTART / "documents.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {row["id"]: row["text"] for row in map(json.loads, lines)}
    pairs = load_qa_pairs(QUICKSTART / "qa_pairs.jsonl", documents=set(texts))
    earlier: dict[str, list[str]] = {id: [] for id in texts}
    for one in load_paraphrases(str(PARAPHRASES), documents=set(texts)):
        about = [pair for pair in pairs if pair.document_id == one.document_id]
        seen = earlier[one.document_id]
        assert not check_paraphrase(
            texts[one.document_id], one.text, pairs=about, order="same-order", earlier=seen
        )
        seen.append(one.text)
    assert {len(seen) for seen in earlier.values()} == {5}
