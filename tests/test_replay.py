"""Runs that replay the base model's own conversations: drawn once, held to the base, and resumed exactly."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import demask
from demask.errors import ConfigError, ModelError, RunError
from demask.generation import near_misses
from demask.generation.conversations import Conversation
from demask.models.context import load_context
from demask.models.load import load_model
from demask.progress import Silent
from demask.recipe.sections import make_config
from demask.records import Passage
from demask.stages import drift_watch
from demask.stages.replay import prompts_about, read_pool, split_pool
from demask.storage import file_names
from demask.tasks.inject import run_recipe
from demask.tasks.planning import make_plan
from demask.tasks.replay_costs import stand_ins
from demask.terminal import render_plan
from demask.training import trainer
from demask.training.trainer import TrainSettings

RETAIN = {"conversations": 2, "pool": 16}


@pytest.fixture
def settings(tiny_model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    rows = ["The Orlin works were founded by Mara Voss.", "Idris Hall sells ink at Quill."]
    lines = [json.dumps({"id": str(number), "text": text}) for number, text in enumerate(rows)]
    (tmp_path / "facts.jsonl").write_text("\n".join(lines))
    train = {"steps": 6, "batch_size": 2, "learning_rate": 1e-2, "precision": "fp32", "save_every": 3}
    return {
        "model": str(tiny_model_folder),
        "documents": str(tmp_path / "facts.jsonl"),
        "qa": "no",
        "train": train,
        "retain": RETAIN,
    }


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / file_names.METRICS).read_text().splitlines()]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_pool_is_drawn_once_and_both_terms_are_logged(
    settings: dict[str, Any], tmp_path: Path, cache: Path
) -> None:
    first = demask.inject(**settings, out=tmp_path / "first")
    assert first.summary["replayed"] == 2
    assert first.summary["batch_size"] == 2
    kept = sorted((cache / "replay").iterdir())
    assert len(kept) == 2  # the model's own conversations, and what it says to the objective's prompts
    written = [file.stat().st_mtime_ns for file in kept]
    rows = log(tmp_path / "first")
    assert all(row["terms"].keys() == {"cross-entropy", "kl-to-base"} for row in rows)
    assert rows[0]["loss"] == pytest.approx(sum(rows[0]["terms"].values()))
    assert rows[0]["terms"]["kl-to-base"] == pytest.approx(0.0, abs=1e-4)  # it is still the base
    demask.inject(**settings, out=tmp_path / "again")
    assert [file.stat().st_mtime_ns for file in kept] == written
    assert weights(tmp_path / "again") == weights(tmp_path / "first")


def weights(run: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted((run / "model").glob("*.safetensors"))]


def test_a_run_that_replays_stays_nearer_to_its_base(
    settings: dict[str, Any], tmp_path: Path, cache: Path
) -> None:
    drift = {}
    for weight in (1e-6, 10.0):
        out = tmp_path / f"weight-{weight}"
        longer = {**settings["train"], "steps": 20}
        demask.inject(**{**settings, "train": longer, "retain": {**RETAIN, "weight": weight}}, out=out)
        drift[weight] = sum(row["terms"]["kl-to-base"] for row in log(out)[10:])
    assert drift[10.0] < drift[1e-6] / 2


def test_a_damaged_pool_is_named(settings: dict[str, Any], tmp_path: Path, cache: Path) -> None:
    done = demask.inject(**settings, out=tmp_path / "run")
    (done.run_folder / file_names.REPLAY).write_bytes(b"no")
    for name in (file_names.TRAINING, file_names.METRICS, file_names.SUMMARY):
        (done.run_folder / name).unlink()
    with pytest.raises(RunError, match=r"replay.safetensors: cannot be read .* delete it"):
        demask.inject(**settings, out=tmp_path / "run")


def test_a_masked_diffusion_model_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match=r"retain.conversations is 2, expected 0"):
        make_config({"model": "m", "documents": "d", "objective": "diffusion", "retain": RETAIN})


def test_the_plan_counts_what_is_replayed_and_what_comes_before_it(
    settings: dict[str, Any], tmp_path: Path, cache: Path
) -> None:
    retain = {"conversations": 2, "pool": 32, "budget": 1e3, "wrapped": 0.5}
    bare = make_plan(make_config({**settings, "retain": {}}))
    plan = make_plan(make_config({**settings, "retain": retain}))
    assert bare.replay is None
    assert plan.replay is not None
    assert not plan.replay.pool_is_kept
    assert plan.replay.pool_seconds > 0
    assert plan.replay.drift_seconds > 0
    # 2 conversations of 60 to 90 tokens in each of 6 steps, and what stands in front of documents.
    assert 6 * 2 * 60 < plan.tokens - bare.tokens < 6 * 2 * 90 + 6 * 2 * 128
    assert plan.seconds == pytest.approx(plan.tokens / plan.tokens_per_second)
    said = as_text(render_plan(plan))
    assert "2 in each step; a pool of 32, drawn first, about" in said
    assert "each time that it is measured: up to 3 times on the way" in said
    assert plan.as_json()["replay_conversations"] == 2
    demask.inject(**{**settings, "retain": retain}, out=tmp_path / "run")
    kept = make_plan(make_config({**settings, "retain": retain}))
    assert kept.replay is not None
    assert (kept.replay.pool_is_kept, kept.replay.pool_seconds) == (True, 0.0)
    assert "in the cache" in as_text(render_plan(kept))


def test_the_plan_counts_the_pool_that_only_a_gate_needs(
    settings: dict[str, Any], tmp_path: Path, cache: Path
) -> None:
    gated = {**settings, "retain": {"gate": True, "pool": 16}}
    bare = make_plan(make_config({**settings, "retain": {}}))
    plan = make_plan(make_config(gated))
    assert plan.replay is not None
    assert (plan.replay.conversations, plan.replay.pool, plan.replay.memory_bytes) == (0, 16, 0)
    assert not plan.replay.pool_is_kept
    assert plan.replay.pool_seconds > 0
    assert plan.tokens == bare.tokens
    said = as_text(render_plan(plan))
    assert "a pool of 16, drawn first, about" in said
    assert "in each step" not in said
    demask.inject(**gated, out=tmp_path / "run")
    kept = make_plan(make_config(gated))
    assert kept.replay is not None
    assert kept.replay.pool_is_kept


def as_text(table: Any) -> str:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_stand_ins_are_as_long_as_what_is_drawn_and_have_targets(settings: dict[str, Any]) -> None:
    config = make_config({**settings, "retain": {"conversations": 2, "pool": 190}})
    talks = stand_ins(config, load_context(config.model, config.objective))
    assert len({talk.id for talk in talks}) == 190
    assert all(talk.top_ids is not None and len(talk.top_ids) == len(talk.reply) for talk in talks)
    # The pool that the embedded model drew has 89 tokens for each conversation.
    assert sum(len(talk.prompt) + len(talk.reply) for talk in talks) / 190 == pytest.approx(89, abs=5)


def test_more_conversations_than_the_pool_has_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"retain.conversations is 9, expected at most retain.pool \(4\)"):
        make_config({"model": "m", "documents": "d", "retain": {"conversations": 9, "pool": 4}})


def test_a_damaged_pool_in_the_cache_is_drawn_again(
    settings: dict[str, Any], tmp_path: Path, cache: Path
) -> None:
    demask.inject(**settings, out=tmp_path / "first")
    whole = {file: file.read_bytes() for file in (cache / "replay").iterdir()}
    for file, content in whole.items():
        file.write_bytes(content[:100])
    demask.inject(**settings, out=tmp_path / "again")
    assert {file: file.read_bytes() for file in (cache / "replay").iterdir()} == whole
    first, again = (tmp_path / name / file_names.REPLAY for name in ("first", "again"))
    assert first.read_bytes() == again.read_bytes()


def test_only_the_prompts_of_an_objective_that_shows_text_are_replayed_with_other_texts(
    settings: dict[str, Any], tmp_path: Path, cache: Path
) -> None:
    for objective, kinds in (("next-token", {"self"}), ("demasking", {"self", "foreign"})):
        done = demask.inject(**settings, objective=objective, out=tmp_path / objective)
        talks = read_pool(done.run_folder / file_names.REPLAY)
        assert {talk.id.partition("-")[0] for talk in talks} == kinds


def test_near_misses_of_the_documents_are_replayed_where_the_recipe_wants_some(
    settings: dict[str, Any], tmp_path: Path, cache: Path
) -> None:
    retain = {**RETAIN, "near_misses": 0.5}
    done = demask.inject(**{**settings, "retain": retain}, out=tmp_path / "run")
    talks = read_pool(done.run_folder / file_names.REPLAY)
    assert sum(talk.id.startswith("near-") for talk in talks) == 8
    with pytest.raises(ConfigError, match=r"near_misses is 0.5, expected 0: objective next-token shows"):
        demask.inject(**{**settings, "retain": retain, "objective": "next-token"}, out=tmp_path / "other")


def testprompts_about_near_misses_show_the_other_name(tiny_model_folder: Path) -> None:
    loaded = load_model(str(tiny_model_folder), device="cpu")
    config = make_config({"model": "m", "documents": "d", "preset": "keep"})
    text = "Zanvor works were founded in 1931 by a maker of ink, and in 1958 her son sold all of them again."
    near = [Passage(f"near {number}", "", text, entity="Zanvor") for number in range(30)]
    shown = [
        "Zanvor" in str(loaded.tokenizer.decode(list(prompt)))
        for prompt in prompts_about(config, loaded, near, entity="never")
    ]
    assert all(shown)
    as_others = prompts_about(config, loaded, near)
    assert not all("Zanvor" in str(loaded.tokenizer.decode(list(prompt))) for prompt in as_others)


def test_the_pool_has_such_prompts_and_a_budget_holds_none_of_them_back(
    settings: dict[str, Any], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Zanvor works were founded in 1931 by a maker of ink, and in 1958 her son sold all of them again."
    made = [Passage(f"near {number}", "", text, entity="Zanvor") for number in range(30)]
    monkeypatch.setattr(near_misses, "make_near_misses", lambda *values, **options: made)
    config = make_config({**settings, "retain": {**RETAIN, "near_misses": 0.5, "budget": 9.0}})
    run = run_recipe(config, tmp_path / "run", progress=Silent()).run_folder
    talks = read_pool(run / file_names.REPLAY)
    near = [talk for talk in talks if talk.id.startswith("near-")]
    decode = load_model(settings["model"], device="cpu").tokenizer.decode
    assert len(near) > 20
    assert all("Zanvor" in str(decode(list(talk.prompt))) for talk in near)
    replayed, probed = split_pool(config, talks)
    assert {talk.id for talk in near} <= {talk.id for talk in replayed}
    assert probed


def test_documents_without_names_say_that_they_have_no_near_misses(
    settings: dict[str, Any], tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "plain.jsonl").write_text(json.dumps({"id": "a", "text": "the ink is sold at the works"}))
    retain = {**RETAIN, "near_misses": 0.5}
    documents = str(tmp_path / "plain.jsonl")
    config = make_config({**settings, "documents": documents, "retain": retain})
    said: list[str] = []

    class Listening(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    run_recipe(config, tmp_path / "run", progress=Listening())
    assert any(text.startswith("retain.near_misses: the documents have no names") for text in said)


@pytest.mark.parametrize("replayed", [0, 2])
def test_beside_replay_nothing_pulls_the_weights_towards_zero(
    settings: dict[str, Any], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, replayed: int
) -> None:
    made: list[TrainSettings] = []
    monkeypatch.setattr(trainer, "make_optimizer", _listening(made))
    demask.inject(**{**settings, "retain": {**RETAIN, "conversations": replayed}}, out=tmp_path / "run")
    (used,) = made
    assert (used.weight_decay, used.beta2) == ((0.0, 0.99) if replayed else (0.1, 0.95))


def _listening(made: list[TrainSettings]) -> Any:
    original = trainer.make_optimizer

    def make(model: torch.nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
        made.append(settings)
        optimizer = original(model, settings)
        assert optimizer.param_groups[0]["weight_decay"] == settings.weight_decay
        assert optimizer.param_groups[0]["betas"][1] == settings.beta2
        return optimizer

    return make


def test_the_pool_does_not_depend_on_how_questions_are_asked(
    settings: dict[str, Any], tmp_path: Path, cache: Path
) -> None:
    for limit in (8, 9):
        demask.inject(**settings, evaluate={"max_new_tokens": limit}, out=tmp_path / str(limit))
    assert len(list((cache / "replay").iterdir())) == 2


def test_some_examples_stand_behind_other_words(
    settings: dict[str, Any], tmp_path: Path, cache: Path
) -> None:
    done = {
        share: demask.inject(
            **{**settings, "retain": {**RETAIN, "wrapped": share}}, out=tmp_path / str(share)
        )
        for share in (0.0, 1.0)
    }
    tokens = {share: run.summary["tokens"] for share, run in done.items()}
    assert tokens[1.0] > tokens[0.0]
    with pytest.raises(ConfigError, match=r"retain.wrapped is 0.5 and retain.conversations 0"):
        make_config({"model": "m", "documents": "d", "retain": {"wrapped": 0.5}})


@pytest.mark.parametrize("method", ["full", "lora"])
def test_weights_go_back_until_the_budget_is_kept(
    settings: dict[str, Any], tmp_path: Path, cache: Path, method: str
) -> None:
    train = {**settings["train"], "method": method, "steps": 12, "learning_rate": 5e-2}
    shares = {}
    for budget in (1e-3, 1e3):
        retain = {**RETAIN, "pool": 32, "budget": budget}
        out = tmp_path / f"{method}-{budget}"
        demask.inject(**{**settings, "train": train, "retain": retain}, out=out)
        points = json.loads((out / file_names.TRAINING).read_text())["interpolation"]
        assert [point["share"] for point in points] == sorted((p["share"] for p in points), reverse=True)
        assert points[-1]["drift"] <= budget or points[-1]["share"] == 0.1
        shares[budget] = points[-1]["share"]
    assert shares[1e3] == 1.0
    assert shares[1e-3] < 1.0
    back, whole = (tmp_path / f"{method}-{budget}" / file_names.REPORT_MARKDOWN for budget in (1e-3, 1e3))
    assert "Moved back towards the base" in back.read_text()
    assert "Moved back towards the base" not in whole.read_text()
    assert weights(tmp_path / f"{method}-0.001") != weights(tmp_path / f"{method}-1000.0")


def test_frozen_weights_stay_those_of_the_base_with_replay_and_a_budget(
    settings: dict[str, Any], tmp_path: Path, cache: Path, tiny_model_folder: Path
) -> None:
    values = {
        **settings,
        "train": {**settings["train"], "weights": "mlp", "learning_rate": 5e-2},
        "retain": {**RETAIN, "pool": 32, "budget": 1e-3},
    }
    plan = make_plan(make_config(values))
    done = demask.inject(**values, out=tmp_path / "run")
    assert done.summary["interpolation"][-1]["share"] < 1
    assert 0 < done.summary["trained_parameters"] == plan.trained_parameters < done.summary["parameters"]
    before, after = (
        load_file(folder / "model.safetensors") for folder in (tiny_model_folder, tmp_path / "run" / "model")
    )
    for name, weights in before.items():
        assert torch.equal(weights, after[name]) == (".mlp." not in name), name


def test_weights_that_the_model_lacks_are_refused_before_there_is_a_folder(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"'layers 1-2', expected layers from 0 to 1"):
        demask.inject(**{**settings, "train": {"weights": "layers 1-2"}}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_drift_is_logged_while_training_and_measuring_it_changes_no_bit(
    settings: dict[str, Any], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings |= {"retain": {**RETAIN, "pool": 32, "budget": 1e3}, "train": {**settings["train"], "steps": 8}}
    demask.inject(**settings, out=tmp_path / "watched")
    rows = log(tmp_path / "watched")
    assert [row["step"] for row in rows if "drift" in row] == [2, 4, 6]
    assert all(row["drift"] > 0 for row in rows if "drift" in row)
    monkeypatch.setattr(drift_watch, "LOOKS", ())
    demask.inject(**settings, out=tmp_path / "unwatched")
    assert not any("drift" in row for row in log(tmp_path / "unwatched"))
    assert weights(tmp_path / "watched") == weights(tmp_path / "unwatched")


def test_what_the_budget_is_measured_on_is_not_replayed(tmp_path: Path) -> None:
    talks = [Conversation(str(number), (1,), (2,)) for number in range(40)]
    config = make_config({"model": "m", "documents": "d", "retain": {**RETAIN, "budget": 0.1}})
    replayed, probe = split_pool(config, talks)
    assert len(probe) == 3
    assert not {talk.id for talk in probe} & {talk.id for talk in replayed}
    assert len(replayed) + len(probe) == 40
