"""`demask sft` from data to a model, on a tiny one: what is trained, measured, resumed and refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from demask.errors import ConfigError, DataError, ThresholdError
from demask.models.context import make_context
from demask.objectives.cpt import Cpt, MaskedCpt
from demask.objectives.sft import MaskedSft, Sft
from demask.progress import Silent
from demask.recipe.fine_tuning import make_sft_config
from demask.recipe.launch import Launch
from demask.stages.samples import prepare
from demask.storage.run_folder import RunFolder
from demask.tasks.evaluate import measure_run
from demask.tasks.fine_tune import fine_tune, run_sft
from demask.tasks.planning import make_plan, preview_examples
from demask.training.plan import choose_learning_rate

SUMS = [
    {"question": f"How much is {a} and {b}?", "answer": f"{a} and {b} make {a + b}."}
    for a in range(6)
    for b in range(5)
]
TEXT = "Mara Voss founded the Orlin works in 1931, and in 1958 her son sold them. "


@pytest.fixture
def sums(tmp_path: Path) -> str:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in SUMS))
    return str(path)


@pytest.fixture
def texts(tmp_path: Path) -> str:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": TEXT * n}) + "\n" for n in (1, 3, 2)))
    return str(path)


def recipe(model: Path, data: str, **changes: Any) -> dict[str, Any]:
    train = {"steps": 4, "batch_size": 5, "learning_rate": 1e-3, "precision": "fp32", "save_every": 2}
    return {
        "model": str(model),
        "data": [data],
        "train": {**train, **changes.pop("train", {})},
        "device": "cpu",
        **changes,
    }


def run(values: dict[str, Any], out: Path) -> dict[str, Any]:
    return dict(run_sft(make_sft_config(values), out, progress=Silent(), launch=Launch()).summary)


@pytest.mark.parametrize("objective", ["sft", "masked-sft"])
def test_a_run_leaves_a_model_and_says_what_it_did(
    objective: str, tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    summary = run(recipe(tiny_model_folder, sums, objective=objective, held_out=6), out)
    assert (summary["objective"], summary["steps"], summary["batch_size"]) == (objective, 4, 5)
    assert (summary["data"]["samples"], summary["data"]["held_out"]) == (24, 6)
    assert summary["held_out_loss"]["after"] < summary["held_out_loss"]["before"]
    assert json.loads((out / "summary.json").read_text()) == summary
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_model_folder, out / "model"))
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_report_has_the_held_out_loss_both_curves_and_the_settings(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    summary = run(recipe(tiny_model_folder, sums, held_out=6), out)
    html, markdown = (out / "report.html").read_text(), (out / "report.md").read_text()
    before, after = (f"{summary['held_out_loss'][stage]:.3f}" for stage in ("before", "after"))
    assert f"Its loss on 6 samples that it was not trained on fell from {before} to {after}" in markdown
    assert f"| masked-sft | 6 | {before} | {after} |" in markdown
    assert "| learning rate | 0.001 |" in markdown
    assert "peak memory" in markdown
    assert "Held-out loss over training steps" in html
    assert "Loss over training steps, masked-sft" in html
    assert "No questions were asked" not in html + markdown


def test_a_deleted_report_is_made_again_without_held_out_samples_too(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    values, out = recipe(tiny_model_folder, sums), tmp_path / "run"
    run(values, out)
    markdown = (out / "report.md").read_text()
    assert "No samples were held out" in markdown
    (out / "report.md").unlink()
    run(values, out)
    assert (out / "report.md").read_text() == markdown


@pytest.mark.parametrize("objective", ["cpt", "masked-cpt"])
def test_running_text_is_learned_in_blocks(
    objective: str, tiny_model_folder: Path, texts: str, tmp_path: Path
) -> None:
    values = recipe(tiny_model_folder, texts, objective={"name": objective, "block_length": 32})
    summary = run(values, tmp_path / "run")
    assert summary["data"]["prompt_tokens"] == 0
    assert summary["data"]["samples"] == -(-summary["data"]["answer_tokens"] // 32)


def test_a_finished_run_is_not_done_again(tiny_model_folder: Path, sums: str, tmp_path: Path) -> None:
    values, out = recipe(tiny_model_folder, sums), tmp_path / "run"
    run(values, out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    run(values, out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == stamps


def test_another_recipe_in_the_same_folder_is_refused(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    run(recipe(tiny_model_folder, sums), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"objective.name is 'masked-sft' there and 'sft' here"):
        run(recipe(tiny_model_folder, sums, objective="sft"), tmp_path / "run")


def test_the_same_recipe_and_seed_give_the_same_bits(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        run(recipe(tiny_model_folder, sums, seed=3), tmp_path / name)
    a, b = (load_file(tmp_path / name / "model/model.safetensors") for name in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_held_out_samples_are_the_same_whatever_the_seed_and_are_not_trained(
    tiny_model_folder: Path, sums: str, tiny_loaded: Any
) -> None:
    chosen = []
    for seed in (0, 1):
        config = make_sft_config(recipe(tiny_model_folder, sums, seed=seed, held_out=7))
        made = prepare(config, make_context(tiny_loaded, config.objective), Silent())
        chosen.append([sample.id for sample in made.held_out])
        assert {sample.id for sample in made.trained}.isdisjoint(chosen[-1])
        assert len(made.trained) + len(made.held_out) == len(SUMS)
    assert chosen[0] == chosen[1]


def test_a_stream_trains_without_samples_on_disk(
    tiny_model_folder: Path, sums: str, tmp_path: Path, cache: Path
) -> None:
    kept = set((cache / "samples").glob("*"))
    summary = run(recipe(tiny_model_folder, sums, stream=True), tmp_path / "run")
    assert summary["steps"] == 4
    assert summary["data"]["stream"]
    assert set((cache / "samples").glob("*")) == kept


def test_a_plan_counts_the_tokens_that_the_run_then_takes(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    values = recipe(tiny_model_folder, sums, train={"steps": None, "epochs": 2.0})
    plan = make_plan(make_sft_config(values))
    summary = run(values, tmp_path / "run")
    assert (plan.tokens, plan.steps) == (summary["tokens"], summary["steps"])
    assert plan.seconds == pytest.approx(plan.tokens / plan.tokens_per_second)


def test_fewer_samples_than_a_step_asks_for_take_the_rate_of_those_that_there_are(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    values = recipe(tiny_model_folder, sums, held_out=len(SUMS) - 3, train={"learning_rate": None})
    config = make_sft_config(values)
    plan = make_plan(config)
    wanted = choose_learning_rate(
        config.train, parameters=plan.parameters, batch_size=3, rate_share=config.objective.rate_share
    )
    assert (plan.batch_size, plan.learning_rate) == (3, wanted)
    assert run(values, tmp_path / "run")["learning_rate"] == wanted


def test_more_processes_than_samples_are_refused_before_they_are_started(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    config = make_sft_config(recipe(tiny_model_folder, sums, held_out=len(SUMS) - 1))
    with pytest.raises(ConfigError, match="a step has 1 examples, expected one at least for each of 2"):
        run_sft(config, tmp_path / "run", launch=Launch(processes=2), progress=Silent())


def test_a_plan_of_a_stream_takes_as_many_tokens_a_step_as_it_has_seen(
    tiny_model_folder: Path, sums: str, cache: Path
) -> None:
    kept = set((cache / "samples").glob("*"))
    values = recipe(tiny_model_folder, sums, stream=True, train={"steps": 40})
    plan = make_plan(make_sft_config(values))
    assert (plan.about.samples, plan.about.epochs) == (None, None)
    assert plan.tokens == pytest.approx(40 * 5 * 62, rel=0.1)
    assert set((cache / "samples").glob("*")) == kept
    assert len(preview_examples(make_sft_config(values), count=2)) == 2


def test_a_plan_of_a_mixture_counts_both_kinds(tiny_model_folder: Path, sums: str) -> None:
    def tokens(**objective: Any) -> int:
        values = recipe(tiny_model_folder, sums, objective=objective, train={"steps": 6})
        return make_plan(make_sft_config(values)).tokens

    whole, none = tokens(name="masked-sft"), tokens(name="sft")
    assert none < tokens(name="masked-sft", share=0.5) < whole


def test_the_preview_shows_question_mask_and_answer(tiny_model_folder: Path, sums: str) -> None:
    values = recipe(tiny_model_folder, sums, objective={"mask_ratio": 0.5})
    for preview in preview_examples(make_sft_config(values), count=3):
        roles = {piece.role for piece in preview.pieces}
        assert roles == {"prompt", "mask", "masked", "copied"} - ({"copied"} - roles)
        assert "How much is" in preview.pieces[0].text


def test_a_sample_that_is_too_long_is_named_or_counted(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    Path(sums).write_text(
        Path(sums).read_text() + json.dumps({"question": "Why?", "answer": "So. " * 300}) + "\n"
    )
    with pytest.raises(
        DataError, match=r"sums.jsonl line 31: .* tokens of prompt and .* of answer, expected at most"
    ):
        run(recipe(tiny_model_folder, sums), tmp_path / "a")
    summary = run(recipe(tiny_model_folder, sums, too_long="leave-out"), tmp_path / "b")
    assert (summary["data"]["samples"], summary["data"]["left_out"]) == (30, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": 30}, "held_out is 30, expected less than the 30 samples"),
        ({"max_tokens": 100_000}, "max_tokens is 100000, expected at most 256"),
        ({"objective": {"name": "cpt", "block_length": 1000}}, "block_length is 1000"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is_done(
    changes: dict[str, Any], message: str, tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(recipe(tiny_model_folder, sums, **changes), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"objective": "demasking"},
            "objective is 'demasking', expected one of cpt, masked-cpt, masked-sft, sft",
        ),
        ({"documents": "x"}, "unknown key documents"),
        ({"train": {"stop": 0.5}}, "train.stop is for facts"),
        ({"stream": True, "train": {"steps": None}}, "stream needs train.steps"),
        ({"objective": {"mask_ratio": 0}}, "objective.mask_ratio: expected more than 0, got 0.0"),
        ({"objective": {"name": "sft", "mask_ratio": 0.5}}, "unknown key objective.mask_ratio: known are"),
        ({"columns": {"promt": "x"}}, "unknown key columns.promt: did you mean 'prompt'"),
        ({"data": []}, "data is empty; expected files of prompts and responses"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_sft_config({**recipe(Path("m"), "d"), **changes})


@pytest.mark.parametrize("kind", [Sft, MaskedSft, Cpt, MaskedCpt])
def test_an_objective_may_be_given_by_its_name(kind: Callable[[], Any]) -> None:
    name = kind().name
    assert make_sft_config({"model": "m", "data": "d", "objective": name}).objective == kind()


def test_the_stored_configuration_reads_back_as_itself() -> None:
    config = make_sft_config(recipe(Path("m"), "d", objective="masked-cpt"))
    assert make_sft_config(config.model_dump(mode="json")) == config


def test_from_python_it_is_one_call(tiny_model_folder: Path, sums: str, tmp_path: Path) -> None:
    result = fine_tune(
        model=str(tiny_model_folder),
        data=sums,
        out=tmp_path / "run",
        objective="sft",
        train={"steps": 1, "precision": "fp32"},
        device="cpu",
    )
    assert result.summary["steps"] == 1
    assert result.model.num_parameters() > 0


@pytest.mark.parametrize("option", ["--documents", "--qa", "--preset"])
@pytest.mark.parametrize("command", [["plan"], ["data", "preview"]])
def test_an_option_that_means_nothing_for_data_is_not_ignored(
    command: list[str], option: str, sums: str, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from demask.cli import app

    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: m\ndata: {sums}\n")
    result = CliRunner().invoke(app, [*command, str(path), option, "fast"])
    assert isinstance(result.exception, ConfigError)
    assert f"{option}: {path} is a recipe for 'demask sft'" in str(result.exception)


def test_the_preview_names_the_keys_that_are_not_trained(tiny_model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "Why?", "answer": "So.", "notes": "An old saying."}) + "\n")
    values = recipe(tiny_model_folder, str(path))
    said: list[str] = []
    progress: Any = Silent()
    progress.say = said.append
    preview_examples(make_sft_config(values), count=1, progress=progress)
    assert [line.partition(";")[0] for line in said] == ["not trained: 'notes' (14 characters)"]
    ignored = make_sft_config({**values, "columns": {"ignore": "notes"}})
    preview_examples(ignored, count=1, progress=progress)
    assert len(said) == 1


RETAIN = {"conversations": 2, "pool": 32}


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))


def terms(out: Path) -> list[dict[str, float]]:
    return [json.loads(line)["terms"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def stored(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("objective", ["masked-sft", "cpt"])
def test_the_loss_of_fine_tuning_holds_the_model_to_its_base(
    objective: str, tiny_model_folder: Path, sums: str, texts: str, tmp_path: Path
) -> None:
    how = {"name": "cpt", "block_length": 32} if objective == "cpt" else objective
    faster = {"learning_rate": 1e-2}
    values = recipe(tiny_model_folder, texts if objective == "cpt" else sums, objective=how, train=faster)
    summary = run({**values, "retain": {**RETAIN, "weight": 5.0}}, tmp_path / "kept")
    run(values, tmp_path / "plain")
    rows = terms(tmp_path / "kept")
    assert all(row.keys() == {"cross-entropy", "kl-to-base"} for row in rows)
    assert rows[0]["kl-to-base"] == pytest.approx(0.0, abs=1e-4)  # it is still the base
    assert rows[-1]["kl-to-base"] > 1e-4
    assert not any(terms(tmp_path / "plain"))  # of a loss of one term
    kept, plain = stored(tmp_path / "kept"), stored(tmp_path / "plain")
    assert any(not torch.equal(kept[name], plain[name]) for name in kept)
    assert (summary["replayed"], summary["drift_conversations"]) == (2, 2)
    assert summary["drift"] > 0
    assert f"drifted by {summary['drift']:.3f} nats per token" in (tmp_path / "kept/report.md").read_text()
    assert "drifted" not in (tmp_path / "plain/report.md").read_text()


@pytest.mark.usefixtures("own_cache")
def test_samples_that_are_streamed_are_mixed_with_replay_too(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    values = recipe(tiny_model_folder, sums, stream=True, retain=RETAIN)
    plan = make_plan(make_sft_config(values))
    assert plan.replay is not None
    assert (plan.replay.conversations, plan.replay.pool) == (2, 32)
    summary = run(values, tmp_path / "run")
    assert (summary["batch_size"], summary["replayed"]) == (5, 2)
    assert len(terms(tmp_path / "run")) == 4


@pytest.mark.usefixtures("own_cache")
def test_fine_tuning_goes_back_to_its_budget_and_replays_a_file(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    chats = tmp_path / "chats.jsonl"
    turns = [{"role": "user", "content": "Who sleeps?"}, {"role": "assistant", "content": "The lazy dog."}]
    chats.write_text(json.dumps({"messages": turns}) + "\n")
    retain = {**RETAIN, "data": str(chats), "budget": 1e-3}
    values = recipe(tiny_model_folder, sums, retain=retain, train={"learning_rate": 5e-2, "steps": 8})
    summary = run(values, tmp_path / "run")
    assert summary["interpolation"][-1]["share"] < 1
    assert summary["drift"] == summary["interpolation"][-1]["drift"]
    chats.write_text(json.dumps({"messages": turns[:1]}) + "\n")
    with pytest.raises(ConfigError, match=r"conversations of retain.data have changed"):
        run(values, tmp_path / "run")


def test_samples_are_not_wrapped(tiny_model_folder: Path, sums: str) -> None:
    with pytest.raises(ConfigError, match=r"retain.wrapped is 0.5, expected 0: it is for documents"):
        make_sft_config(recipe(tiny_model_folder, sums, retain={**RETAIN, "wrapped": 0.5}))
    with pytest.raises(ConfigError, match=r"retain.conversations is 9, expected at most retain.pool \(4\)"):
        make_sft_config(recipe(tiny_model_folder, sums, retain={"conversations": 9, "pool": 4}))


@pytest.mark.usefixtures("own_cache")
def test_what_else_fine_tuning_changed_is_measured_and_reported(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    values = recipe(tiny_model_folder, sums, measure="brief", held_out=3, train={"learning_rate": 3e-2})
    summary = run(values, out)
    drift = summary["retention"]["measures"]["drift"]
    assert drift["value"] > 0
    assert not {"leak", "near_miss", "access"} & summary["retention"]["measures"].keys()  # of documents
    said = [json.loads(line) for line in (out / "retention-after.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in said} <= {"known", "conversation", "text"}
    markdown, html = ((out / f"report.{kind}").read_text() for kind in ("md", "html"))
    assert "What else training changed" in markdown
    assert "was not measured" not in markdown
    assert "about the documents" not in html
    before = (out / "retention-before.jsonl").stat().st_mtime_ns
    shutil.rmtree(out / "model")
    (out / "training.json").unlink()
    assert run(values, out)["retention"]["measures"]["drift"] == drift  # trained and measured anew, alike
    assert (out / "retention-before.jsonl").stat().st_mtime_ns == before
    (out / "retention.json").unlink()
    assert run(values, out)["retention"] == summary["retention"]


@pytest.mark.usefixtures("own_cache")
def test_a_finished_fine_tuning_can_be_measured_later(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    run(recipe(tiny_model_folder, sums, measure="none"), tmp_path / "run")
    assert "What else training changed was not measured." in (tmp_path / "run/report.md").read_text()
    found = measure_run(RunFolder(tmp_path / "run"), "brief", progress=Silent())
    assert found["measures"]["drift"]["n"] > 0
    assert "was not measured" not in (tmp_path / "run/report.md").read_text()
    assert "drift" in json.loads((tmp_path / "run/summary.json").read_text())["retention"]["measures"]


@pytest.mark.usefixtures("own_cache")
def test_a_threshold_guards_what_fine_tuning_keeps(
    tiny_model_folder: Path, sums: str, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from demask.cli import app

    path = tmp_path / "recipe.yaml"
    path.write_text(
        json.dumps(recipe(tiny_model_folder, sums, measure="brief", train={"learning_rate": 3e-2}))
    )
    command = ["sft", str(path), "--out", str(tmp_path / "run"), "--require"]
    for wanted, said in (
        ("leak=0.1", "--require leak: fine-tuning on samples measures known, drift, text_drift"),
        ("forward=0.9", "--require forward: fine-tuning on samples measures"),
    ):
        result = CliRunner().invoke(app, [*command, wanted])
        assert isinstance(result.exception, ConfigError)
        assert said in str(result.exception)
        assert not (tmp_path / "run").exists()
    missed = CliRunner().invoke(app, [*command, "drift=0"])
    assert isinstance(missed.exception, ThresholdError)
    assert CliRunner().invoke(app, [*command, "drift=50"]).exit_code == 0
