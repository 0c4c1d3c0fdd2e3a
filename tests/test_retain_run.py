"""`demask retain`: a finished run is moved back towards its base, in a folder of its own."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import demask
from demask.cli import main
from demask.errors import ConfigError, ModelError, RunError
from demask.progress import Silent
from demask.storage import file_names
from demask.tasks.retain import retain

PAIRS = (
    {"id": "f", "document_id": "0", "question": "What did Mara Voss found?", "direction": "forward"},
    {"id": "b", "document_id": "1", "question": "Who sells ink at Quill?", "direction": "backward"},
)


@pytest.fixture(scope="module")
def make_run(
    tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., demask.Injected]:
    """A finished run that went far from its base, made once for each way to train."""
    made: dict[str, demask.Injected] = {}

    def make(method: str = "full") -> demask.Injected:
        if method not in made:
            folder = tmp_path_factory.mktemp(method)
            rows = ["The Orlin works were founded by Mara Voss.", "Idris Hall sells ink at Quill."]
            lines = [json.dumps({"id": str(number), "text": text}) for number, text in enumerate(rows)]
            (folder / "facts.jsonl").write_text("\n".join(lines))
            pairs = [json.dumps({**pair, "answers": ["Orlin", "Idris Hall"]}) for pair in PAIRS]
            (folder / "qa.jsonl").write_text("\n".join(pairs))
            train = {
                "steps": 8,
                "batch_size": 2,
                "learning_rate": 1e-2,
                "precision": "fp32",
                "method": method,
            }
            made[method] = demask.inject(
                model=str(tiny_model_folder),
                documents=str(folder / "facts.jsonl"),
                qa=str(folder / "qa.jsonl"),
                preset="fast",
                train={**train, "method": method},
                evaluate={"max_new_tokens": 4},
                out=folder / "run",
            )
        return made[method]

    return make


def drift_of(run: Path) -> float:
    """As the refusal of a large budget says it."""
    with pytest.raises(RunError) as refused:
        retain(run, budget=1000, progress=Silent())
    found = re.search(r"drifts by ([\d.]+) nats", str(refused.value))
    assert found
    return float(found[1])


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_largest_share_that_keeps_the_budget_makes_a_run_of_its_own(
    make_run: Callable[..., demask.Injected], tiny_model_folder: Path, tmp_path: Path, method: str
) -> None:
    run = make_run(method).run_folder
    before = digests(run)
    budget = drift_of(run) / 3
    done = retain(run, budget=budget, out=tmp_path / "new", progress=Silent())
    assert digests(run) == before
    points = done.summary["interpolation"]
    kept = points[-1]
    assert 0 < kept["share"] < 1
    assert kept["drift"] <= budget
    assert all(point["drift"] > budget for point in points if point["share"] > kept["share"])
    asked = [point["share"] for point in points if point["accuracy"]]
    assert {1.0, 0.75, 0.5, 0.25} - {kept["share"]} <= set(asked)
    base, whole, moved = (
        weights(folder) for folder in (tiny_model_folder, run / "model", done.run_folder / "model")
    )
    for name, values in moved.items():
        assert torch.allclose(values, base[name] + kept["share"] * (whole[name] - base[name]), atol=1e-5)
    page = (done.run_folder / file_names.REPORT_HTML).read_text()
    assert "Moved back towards the base" in page
    assert f"{kept['share']:.3g}, kept" in (done.run_folder / file_names.REPORT_MARKDOWN).read_text()
    assert (done.run_folder / file_names.predictions_file("after")).exists()
    assert done.summary["metrics"]["before"] == make_run(method).summary["metrics"]["before"]
    if method == "lora":
        check_adapter(run, done.run_folder, kept["share"])


def check_adapter(run: Path, new: Path, share: float) -> None:
    whole, scaled = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (run, new))
    for name, values in scaled.items():
        assert torch.equal(values, whole[name] * share if "lora_B" in name else whole[name])


def test_the_same_command_goes_on_and_another_budget_is_refused(
    make_run: Callable[..., demask.Injected], tmp_path: Path
) -> None:
    run = make_run().run_folder
    retain(run, budget=0.02, out=tmp_path / "new", progress=Silent())
    model = digests(tmp_path / "new" / "model")
    (tmp_path / "new" / file_names.SUMMARY).unlink()
    again = retain(run, budget=0.02, out=tmp_path / "new", progress=Silent())
    assert again.summary["retained"]["budget"] == 0.02
    assert digests(tmp_path / "new" / "model") == model
    with pytest.raises(ConfigError, match="holds another run, or one with another budget"):
        retain(run, budget=0.03, out=tmp_path / "new", progress=Silent())
    with pytest.raises(ConfigError, match="the finished run itself"):
        retain(run, budget=0.03, out=run, progress=Silent())


def test_the_command_prints_the_curve_and_guards_what_is_required(
    make_run: Callable[..., demask.Injected],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = copy_run(make_run().run_folder, tmp_path / "run")
    words = ["retain", str(run), "--budget", "0.02", "--require", "forward=0.99"]
    monkeypatch.setattr("sys.argv", ["demask", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    out, error = capsys.readouterr()
    assert ended.value.code == 5
    assert "forward" in error.splitlines()[-1]
    assert "On the way from the base to the trained model" in out
    assert (tmp_path / "run-retained" / file_names.REPORT_HTML).exists()


def test_a_budget_that_is_kept_already_says_by_how_much_and_leaves_nothing(
    make_run: Callable[..., demask.Injected], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match=r"keeps the budget already: .* nats per token, .* less than 1000"):
        retain(make_run().run_folder, budget=1000, out=tmp_path / "new", progress=Silent())
    with pytest.raises(ConfigError, match=r"budget is 0, expected nats per token above 0"):
        retain(make_run().run_folder, budget=0, out=tmp_path / "new", progress=Silent())
    monkeypatch.setattr("demask.tasks.retain.measure_drift", lambda loaded, talks: 1.0)
    with pytest.raises(RunError, match=r"a tenth of what it learned drifts by 1.0000 .* at most 0.1"):
        retain(make_run().run_folder, budget=0.1, out=tmp_path / "new", progress=Silent())
    assert not (tmp_path / "new").exists()


def copy_run(run: Path, to: Path, *without: str) -> Path:
    shutil.copytree(run, to)
    for name in without:
        path = to / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return to


def test_what_is_no_finished_run_is_one_line(
    make_run: Callable[..., demask.Injected], tmp_path: Path
) -> None:
    run = make_run().run_folder
    with pytest.raises(RunError, match="not a run folder"):
        retain(tmp_path, budget=0.02, progress=Silent())
    begun = copy_run(run, tmp_path / "begun", file_names.SUMMARY)
    with pytest.raises(RunError, match=r"this run is not finished: .* start the same command again"):
        retain(begun, budget=0.02, progress=Silent())
    bare = copy_run(run, tmp_path / "bare", file_names.MODEL)
    with pytest.raises(RunError, match=r"its model/ was removed; start its command again"):
        retain(bare, budget=0.02, progress=Silent())
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith("-retained")]


def with_config(run: Path, **changes: Any) -> Path:
    config = json.loads((run / file_names.CONFIG).read_text())
    (run / file_names.CONFIG).write_text(json.dumps({**config, **changes}))
    return run


def test_a_base_model_that_is_gone_and_a_masked_diffusion_model_are_one_line(
    make_run: Callable[..., demask.Injected], tmp_path: Path
) -> None:
    run = make_run().run_folder
    gone = with_config(copy_run(run, tmp_path / "gone"), model=str(tmp_path / "no" / "model"))
    with pytest.raises(ModelError, match="no/model"):
        retain(gone, budget=0.02, progress=Silent())
    masked = with_config(copy_run(run, tmp_path / "masked"), objective={"name": "diffusion"})
    with pytest.raises(ConfigError, match="masked-diffusion model, whose drift is not measured"):
        retain(masked, budget=0.02, progress=Silent())
