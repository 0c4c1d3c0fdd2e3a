"""Runs whose base model stays as it is: in four bits (QLoRA), or in bfloat16 as it is stored."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import demask
from demask.cli import app
from demask.errors import ConfigError, InterruptionError, ModelError, RunError
from demask.models import precision
from demask.models.load import LoadedModel, load_model
from demask.models.quantised import is_quantised
from demask.progress import Silent
from demask.recipe.sections import Train, make_config
from demask.tasks.evaluate import ask, evaluate
from demask.tasks.planning import make_plan
from demask.tasks.retain import retain
from demask.tasks.update import News, update

pytest.importorskip("bitsandbytes")
ABOUT, OTHER = "What did Mara Voss found?", "Why do lazy dogs sleep?"
TRAIN = {"steps": 6, "batch_size": 2, "learning_rate": 3e-2, "precision": "fp32", "method": "qlora"}


@pytest.fixture(scope="module")
def model_folder(
    make_model: Callable[..., Any], shared_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model with rows as wide as a block of four bits, stored in bfloat16."""
    folder = tmp_path_factory.mktemp("models") / "wide"
    make_model(hidden_size=64, intermediate_size=128).to(torch.bfloat16).save_pretrained(folder)
    shared_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def settings(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A recipe that takes a second."""
    home = tmp_path_factory.mktemp("home")
    texts = {"a": "The Orlin works were founded by Mara Voss.", "b": "Idris Hall sells ink at Quill."}
    lines = [json.dumps({"id": id_, "text": text}) for id_, text in texts.items()]
    (home / "facts.jsonl").write_text("\n".join(lines))
    pairs = [("a", ABOUT, "Orlin", "forward"), ("b", "Who sells ink?", "Idris Hall", "backward")]
    keys = ("document_id", "question", "answers", "direction")
    rows = [dict(zip(keys, (id_, question, [answer], d), strict=True)) for id_, question, answer, d in pairs]
    (home / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {
        "preset": "fast",
        "model": str(model_folder),
        "documents": str(home / "facts.jsonl"),
        "qa": str(home / "qa.jsonl"),
        "train": TRAIN,
        "evaluate": {"max_new_tokens": 6, "ceiling": False},
    }


@pytest.fixture(scope="module")
def finished(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> demask.Injected:
    """A run with QLoRA, read by many tests; not to be changed."""
    return demask.inject(**settings, out=tmp_path_factory.mktemp("runs") / "qlora")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def weights_of(run: Path, folder: str = "model") -> bytes:
    return next((run / folder).glob("*.safetensors")).read_bytes()


# Four bits


def test_a_run_trains_an_adapter_on_four_bits_and_stores_a_plain_model(
    finished: demask.Injected, model_folder: Path
) -> None:
    run = finished.run_folder
    model = load_model(str(run / "model"), dtype=None)
    assert model.stored_dtype == torch.bfloat16
    assert not is_quantised(model.model)
    assert "quantization_config" not in json.loads((run / "model" / "config.json").read_text())
    assert weights_of(run) != (model_folder / "model.safetensors").read_bytes()
    losses = [row["loss"] for row in rows(run / "metrics.jsonl")]
    assert losses[-1] < losses[0]
    assert finished.summary["parameters"] == model.parameters
    assert finished.summary["trained_parameters"] < model.parameters


def test_the_adapter_on_four_bits_is_asked_too_and_the_difference_is_said(finished: demask.Injected) -> None:
    run, merged = finished.run_folder, finished.summary["merged"]
    said, after = (rows(run / f"predictions-{stage}.jsonl") for stage in ("quantised", "after"))
    same = sum(one["text"] == two["text"] for one, two in zip(said, after, strict=True))
    assert merged == {"stage": "after", "questions": 2, "same_answers": same}
    assert set(finished.summary["metrics"]) == {"before", "after", "quantised"}
    report = (run / "report.md").read_text()
    assert f"gives the same answer to {same} of 2 questions (forward" in report
    assert "after, not merged, in four bits" in report


def test_a_finished_run_is_not_done_again_and_a_deleted_part_is(
    finished: demask.Injected, settings: dict[str, Any], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished.run_folder, tmp_path / "run"))
    before = rows(run / "predictions-quantised.jsonl")
    (run / "predictions-quantised.jsonl").unlink()
    again = demask.inject(**settings, out=run)
    texts = [[row["text"] for row in part] for part in (before, rows(run / "predictions-quantised.jsonl"))]
    assert texts[0] == texts[1]
    assert again.summary["merged"] == finished.summary["merged"]


def test_a_model_asked_after_the_run_answers_as_in_it(finished: demask.Injected) -> None:
    again = evaluate(str(finished.run_folder), progress=Silent())
    said = [row["text"] for row in rows(finished.run_folder / "predictions-after.jsonl")]
    assert [prediction.text for prediction in again.predictions] == said


def test_an_interrupted_run_goes_on_to_the_same_bits(
    finished: demask.Injected, settings: dict[str, Any], tmp_path: Path
) -> None:
    class Stopping(Silent):
        """Asks the run to stop after some steps."""

        def advance(self, count: int = 1, values: Any = None) -> None:
            metrics = tmp_path / "run" / "metrics.jsonl"
            if metrics.exists() and len(metrics.read_text().splitlines()) == 3:
                demask.request_stop(tmp_path / "run")

    with pytest.raises(InterruptionError):
        demask.inject(**settings, out=tmp_path / "run", progress=Stopping())
    done = demask.inject(**settings, out=tmp_path / "run")
    assert weights_of(done.run_folder) == weights_of(finished.run_folder)
    assert weights_of(done.run_folder, "adapter") == weights_of(finished.run_folder, "adapter")


def test_base_answers_in_four_bits_are_not_taken_for_those_of_the_whole_model(
    finished: demask.Injected, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    for method in ("qlora", "full"):
        demask.inject(**{**settings, "train": {**TRAIN, "method": method}}, out=tmp_path / method)
    assert len(list((tmp_path / "cache" / "answers").iterdir())) == 2


def test_behind_a_gate_what_is_about_something_else_is_answered_by_the_base(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    train = {**TRAIN, "steps": 20, "learning_rate": 0.3}
    run = demask.inject(
        **{**settings, "train": train, "retain": {"gate": True, "pool": 40}, "measure": "brief"},
        out=tmp_path / "run",
    )
    known, other = ask(run.run_folder, [ABOUT, OTHER])
    assert (known.is_open, other.is_open) == (True, False)
    assert other.before == other.after
    # The base behind the gate is the one that was measured before: drift is that of the open prompts alone.
    gated = run.summary["retention"]["measures"]["drift"]["value"]
    alone = json.loads((run.run_folder / "retention.json").read_text())["ungated"]["drift"]["value"]
    assert alone > 0.02
    assert gated < 0.1 * alone
    assert run.summary["merged"]["stage"] == "ungated"


def test_replay_and_its_budget_work_on_four_bits(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    retained = {"conversations": 2, "pool": 40, "budget": 1e-4}
    done = demask.inject(**{**settings, "retain": retained}, out=tmp_path / "run")
    assert done.summary["interpolation"][-1]["share"] < 1.0
    assert done.summary["merged"]["questions"] == 2


def test_a_run_goes_on_from_a_merged_model_and_is_moved_back(
    finished: demask.Injected, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "new.jsonl").write_text(json.dumps({"id": "c", "text": "Noor Cast built Sable."}))
    news = News(documents=(str(tmp_path / "new.jsonl"),), qa="no")
    done = update(finished.run_folder, news, out=tmp_path / "second", progress=Silent())
    assert weights_of(done.run_folder) != weights_of(finished.run_folder)
    assert not is_quantised(load_model(str(done.run_folder / "model")).model)
    moved = retain(finished.run_folder, budget=0.02, out=tmp_path / "moved", progress=Silent())
    assert moved.summary["interpolation"][-1]["share"] < 1.0
    assert moved.summary["merged"]["questions"] == 2


def test_samples_are_trained_on_four_bits(model_folder: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"Who is {n}?", "completion": f"Number {n}."}) for n in range(6)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    done = demask.fine_tune(
        model=str(model_folder),
        data=str(tmp_path / "data.jsonl"),
        out=tmp_path / "run",
        train={**TRAIN, "steps": 3},
        held_out=2,
    )
    assert done.summary["held_out_loss"]["after"] != done.summary["held_out_loss"]["before"]
    assert not is_quantised(load_model(str(done.run_folder / "model")).model)


def test_a_plan_counts_the_bytes_of_four_bits(settings: dict[str, Any], monkeypatch: Any) -> None:
    config = make_config(settings, source="test")
    plan = make_plan(config)
    assert plan.method == "qlora"
    assert plan.measured_steps > 0
    assert 0 < plan.trained_parameters < plan.parameters
    # Where it does not fit nothing is loaded, and the plan is by the count of bytes.
    monkeypatch.setattr("demask.tasks.step_costs.total_memory", lambda: 1000)
    estimates = {
        method: make_plan(make_config({**settings, "train": {**TRAIN, "method": method}}, source="test"))
        for method in ("qlora", "lora", "full")
    }
    assert all(estimate.problem for estimate in estimates.values())
    needed = [estimates[method].memory_bytes for method in ("qlora", "lora", "full")]
    assert needed == sorted(needed)
    assert len(set(needed)) == 3
    assert estimates["qlora"].trained_parameters == plan.trained_parameters
    # What would fit is said.
    monkeypatch.setattr("demask.tasks.step_costs.total_memory", lambda: needed[0] + 1)
    full = make_plan(make_config({**settings, "train": {**TRAIN, "method": "full"}}, source="test"))
    assert full.problem.endswith(f"; about {needed[0] / 1e9:.1f} GB with train.method=qlora")


def test_four_bits_are_not_cut_over_processes(settings: dict[str, Any], tmp_path: Path) -> None:
    launch = {"strategy": "fsdp", "processes": 2}
    with pytest.raises(ConfigError, match=r"launch\.strategy is fsdp.*whose four bits cannot be cut"):
        demask.inject(**settings, launch=launch, out=tmp_path / "run")


# What cannot be


def test_four_bits_and_a_kept_delta_or_chosen_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="keep_delta is true and method 'qlora', expected false"):
        make_config({"model": "m", "documents": ["d"], "train": {"method": "qlora", "keep_delta": True}})
    with pytest.raises(ConfigError, match="weights is 'mlp' and method 'qlora'"):
        make_config({"model": "m", "documents": ["d"], "train": {"method": "qlora", "weights": "mlp"}})
    config = make_config({"preset": "keep", "model": "m", "documents": ["d"], "train": {"method": "qlora"}})
    assert config.train.weights == "all"  # in place of the preset's


def test_a_missing_library_is_said_before_there_is_a_folder(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match=r"needs bitsandbytes .*pip install 'demask\[qlora\]'"):
        demask.inject(**settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    words = [f"--{key}={settings[key]}" for key in ("model", "documents", "qa")]
    shown = CliRunner().invoke(app, ["plan", *words, "--set=train.method=qlora"])
    assert isinstance(shown.exception, ModelError)


def test_a_masked_diffusion_model_in_four_bits_is_refused_before_there_is_a_folder(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    from demask.tasks.convert import convert

    convert(settings["model"], to="diffusion", out=tmp_path / "diffusion", progress=Silent())
    values = {**settings, "model": str(tmp_path / "diffusion"), "objective": "diffusion"}
    with pytest.raises(ModelError, match=r"a masked-diffusion model and train\.method is 'qlora'"):
        demask.inject(**values, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_base_of_four_bits_does_not_come_back_by_its_adapters(
    finished: demask.Injected, tmp_path: Path
) -> None:
    from demask.tasks.undo import undo

    with pytest.raises(RunError, match="no delta was kept"):
        undo(finished.run_folder)


# bfloat16 as it is stored


@pytest.fixture
def short_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose memory does not hold the tiny model twice in float32."""
    monkeypatch.setattr(precision, "total_memory", lambda: 500_000)


@pytest.mark.usefixtures("short_of_memory")
def test_frozen_weights_stay_as_stored_to_the_bit_where_memory_is_short(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from demask.stages import training

    seen: list[dict[str, torch.Tensor]] = []
    choose = training.choose_trained

    def look(train: Train, loaded: LoadedModel, *, seed: int) -> LoadedModel:
        chosen = choose(train, loaded, seed=seed)
        seen.append(dict(chosen.model.named_parameters()))
        return chosen

    monkeypatch.setattr(training, "choose_trained", look)
    train = {**TRAIN, "method": "lora", "precision": "auto"}
    done = demask.inject(**{**settings, "train": train}, out=tmp_path / "run")
    stored = load_model(settings["model"], dtype=None).model.state_dict()
    assert {weights.dtype for weights in seen[0].values() if weights.requires_grad} == {torch.float32}
    frozen = {name: weights for name, weights in seen[0].items() if not weights.requires_grad}
    assert {weights.dtype for weights in frozen.values()} == {torch.bfloat16}
    for name, weights in frozen.items():
        assert torch.equal(weights, stored[name.removeprefix("base_model.model.").replace(".base_layer", "")])
    assert load_model(str(done.run_folder / "model"), dtype=None).stored_dtype == torch.bfloat16
    again = evaluate(str(done.run_folder), progress=Silent())
    said = [row["text"] for row in rows(done.run_folder / "predictions-after.jsonl")]
    assert len(again.predictions) == len(said)


def test_with_room_for_float32_a_cpu_has_frozen_weights_in_it(settings: dict[str, Any]) -> None:
    assert load_model(settings["model"], frozen="as-stored", device="cpu").model.dtype == torch.float32


@pytest.mark.usefixtures("short_of_memory")
def test_weights_stored_in_another_format_are_float32(tiny_model_folder: Path) -> None:
    assert load_model(str(tiny_model_folder), frozen="as-stored", device="cpu").model.dtype == torch.float32


def test_how_weights_are_kept_goes_by_method_and_precision() -> None:
    kept = {
        (method, wanted): (Train(method=method, precision=wanted).frozen)
        for method in ("full", "lora", "qlora")
        for wanted in ("auto", "fp32")
    }
    assert kept == {
        ("full", "auto"): None,
        ("full", "fp32"): None,
        ("lora", "auto"): "as-stored",
        ("lora", "fp32"): None,
        ("qlora", "auto"): "nf4",
        ("qlora", "fp32"): "nf4",
    }


def test_moments_of_bitsandbytes_go_on_where_they_were(tmp_path: Path) -> None:
    from demask.models.quantised import import_bitsandbytes
    from demask.training.checkpoints import restore_state, write_state

    def make() -> tuple[Any, Any]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(8, 8)
        return layer, import_bitsandbytes().optim.AdamW(layer.parameters(), lr=0.1)

    def step(layer: Any, optimizer: Any) -> None:
        layer(torch.ones(1, 8)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    straight, optimizer = make()
    step(straight, optimizer)
    write_state(tmp_path, straight, optimizer)
    step(straight, optimizer)
    resumed, optimizer = make()
    restore_state(tmp_path, resumed, optimizer)
    step(resumed, optimizer)
    assert torch.equal(resumed.weight, straight.weight)


def test_a_model_that_does_not_fit_into_the_gpu_is_asked_on_the_cpu(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from demask.models import load

    name, size = settings["model"], 2 * load.count_parameters(settings["model"])
    assert load.place_to_ask(name, "auto", "as-stored") == "auto"  # there is no GPU
    monkeypatch.setattr(load, "choose_device", lambda wanted: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    for there, places in (
        (3 * size, ("auto", "auto")),
        (1.5 * size, ("auto", "cpu")),
        (size, ("cpu", "cpu")),
    ):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place, there=there: (0, there))
        found = [load.place_to_ask(name, "auto", "as-stored", copies=copies) for copies in (1, 2)]
        assert tuple(found) == places
        assert load.place_to_ask(name, "cuda", "as-stored") == "cuda"  # it was asked for
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (0, 1.5 * size))
    assert load.place_to_ask(name, "auto", None) == "cpu"  # in float32
