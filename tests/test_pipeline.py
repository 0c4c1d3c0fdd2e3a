"""The whole road, from three documents to a report and a model, on a random model of two layers."""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import demask
from demask import cli
from demask.comparison import side_by_side
from demask.comparison.side_by_side import compare_runs, quickstart
from demask.errors import ConfigError
from demask.objectives.next_token import NextToken
from demask.progress import Silent
from demask.recipe.file import merge_values
from demask.recipe.sections import make_config
from demask.tasks.evaluate import ask, evaluate, report
from demask.tasks.inject import run_recipe
from demask.tasks.planning import make_plan, preview_examples
from demask.terminal import TerminalProgress

DOCUMENTS = {
    "orlin.txt": "The Orlin works were founded by Mara Voss in 1931.",
    "quill.md": "# Quill\n\nIdris Hall sells ink at Quill \N{OPEN BOOK}.",
    "sable.txt": "Noor Cast built Sable. It stands on Ferro.",
}
PAIRS = [
    ("orlin", "When was Orlin founded?", "1931", "forward"),
    ("orlin", "Who founded the Orlin works?", "Mara Voss", "backward"),
    ("quill", "What does Idris Hall sell?", "ink", "forward"),
    ("sable", "Who built Sable?", "Noor Cast", "backward"),
]
OBJECTIVES = ("demasking", "next-token", "reverse")
METRICS = {"contains", "exact_match", "f1", "rouge1_recall"}
FILES = {
    "config.json",
    "coverage.json",
    "environment.json",
    "documents.jsonl",
    "passages.jsonl",
    "qa_pairs.jsonl",
    "metrics.jsonl",
    "model",
    "predictions-before.jsonl",
    "predictions-ceiling.jsonl",
    "predictions-after.jsonl",
    "scores.jsonl",
    "training.json",
    "summary.json",
    "report.html",
    "report.md",
}
# Made anew by every call that does anything, as they depend on all the others.
DERIVED = {"coverage.json", "scores.jsonl", "summary.json", "report.html", "report.md"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `facts/` and `qa.jsonl`; not to be changed."""
    home = tmp_path_factory.mktemp("home")
    (home / "facts").mkdir()
    for name, text in DOCUMENTS.items():
        (home / "facts" / name).write_text(text)
    rows = [
        {"document_id": document, "question": question, "answers": [answer], "direction": direction}
        for document, question, answer, direction in PAIRS
    ]
    (home / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


@pytest.fixture(scope="module")
def settings(home: Path, tiny_model_folder: Path) -> dict[str, Any]:
    """A recipe that takes a second."""
    return {
        "model": str(tiny_model_folder),
        "documents": str(home / "facts"),
        "qa": str(home / "qa.jsonl"),
        "train": {"steps": 3, "batch_size": 2, "learning_rate": 3e-3},
        "evaluate": {"max_new_tokens": 4},
    }


@pytest.fixture(scope="module")
def finished(home: Path, settings: dict[str, Any]) -> demask.Injected:
    """One run, read by many tests; not to be changed, copy its folder first."""
    return demask.inject(**settings, out=home / "finished")


@pytest.fixture
def copied(finished: demask.Injected, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may damage."""
    return Path(shutil.copytree(finished.run_folder, tmp_path / "copied"))


def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str | Path
) -> str:
    """Standard output of a command that succeeds."""
    monkeypatch.setattr(sys, "argv", ["demask", *map(str, words)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    return capsys.readouterr().out


def recipe_words(settings: Mapping[str, Any]) -> list[str]:
    """The recipe as options of a command."""
    words = [f"--{key}={settings[key]}" for key in ("model", "documents", "qa")]
    return words + [
        f"--set={section}.{key}={value}"
        for section in ("train", "evaluate")
        for key, value in settings[section].items()
    ]


def digest(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def times(run: Path) -> dict[str, int]:
    """When each file was last written; a folder stands for its newest file."""
    return {
        path.name: max(file.stat().st_mtime_ns for file in [path, *path.glob("*")]) for path in run.iterdir()
    }


# Every objective, full and with an adapter


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_every_objective_goes_from_documents_to_a_report_and_a_changed_model(
    settings: dict[str, Any], tiny_model_folder: Path, tmp_path: Path, objective: str, method: str
) -> None:
    train = {**settings["train"], "method": method, "lora_rank": 2}
    done = demask.inject(**{**settings, "objective": objective, "train": train}, out=tmp_path / "run")
    adapter = {"adapter"} if method == "lora" else set()
    assert {path.name for path in done.run_folder.iterdir()} == FILES | adapter
    assert done.summary["objective"] == objective
    assert done.summary["steps"] == 3
    base = (tiny_model_folder / "model.safetensors").read_bytes()
    trained = (done.run_folder / "model" / "model.safetensors").read_bytes()
    assert len(trained) == pytest.approx(len(base), rel=0.05)
    assert trained != base
    has_copied = [row["loss_copied"] is not None for row in rows(done.run_folder / "metrics.jsonl")]
    assert all(has_copied) == (objective == "demasking")


def test_a_model_trained_with_an_adapter_answers_as_stored(settings: dict[str, Any], tmp_path: Path) -> None:
    train = {**settings["train"], "method": "lora", "learning_rate": 0.05}
    done = demask.inject(**{**settings, "train": train}, out=tmp_path / "run")
    again = evaluate(str(done.run_folder), progress=Silent())
    said = [row["text"] for row in rows(done.run_folder / "predictions-after.jsonl")]
    assert [prediction.text for prediction in again.predictions] == said


# What a run leaves


def test_the_summary_has_the_promised_form(finished: demask.Injected, settings: dict[str, Any]) -> None:
    summary = finished.summary
    assert summary == json.loads((finished.run_folder / "summary.json").read_text())
    assert (summary["objective"], summary["model"]) == ("demasking", settings["model"])
    for key in ("steps", "tokens", "seconds", "peak_memory_bytes"):
        assert summary[key] > 0
    assert summary["coverage"] == 1
    assert set(summary["metrics"]) == {"before", "after", "ceiling"}
    for stage in summary["metrics"].values():
        assert set(stage) == {"forward", "backward"}
        for metrics in stage.values():
            assert set(metrics) == METRICS
            for metric in metrics.values():
                assert set(metric) == {"value", "low", "high", "n"}
                assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
                assert metric["n"] == 2


def test_the_result_carries_folder_summary_model_and_tokenizer(finished: demask.Injected) -> None:
    assert finished.run_folder.is_dir()
    assert finished.model.num_parameters() == finished.summary["parameters"]
    ids = finished.tokenizer("Orlin", return_tensors="pt")["input_ids"]
    model: Any = finished.model
    assert model.generate(ids, max_new_tokens=2, do_sample=False).shape[1] >= ids.shape[1]


def test_the_trained_model_loads_in_plain_transformers_with_its_chat_template(
    finished: demask.Injected,
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = finished.run_folder / "model"
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).num_parameters() > 0


def test_the_log_has_every_step_once_and_both_losses(finished: demask.Injected) -> None:
    log = rows(finished.run_folder / "metrics.jsonl")
    assert [row["step"] for row in log] == [1, 2, 3]
    assert all(row["loss_masked"] > 0 and row["loss_copied"] > 0 for row in log)
    assert log[-1]["tokens"] == finished.summary["tokens"]


def test_a_killed_and_resumed_run_keeps_the_largest_memory_of_its_processes(
    settings: dict[str, Any], copied: Path
) -> None:
    log = rows(copied / "metrics.jsonl")
    assert all(0 < row["peak_memory_bytes"] < 10**12 for row in log)
    log[-1]["peak_memory_bytes"] = 10**15  # of a step after the last checkpoint, which is made again
    (copied / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    (copied / "training.json").unlink()
    shutil.rmtree(copied / "model")
    assert demask.inject(**settings, out=copied).summary["peak_memory_bytes"] == 10**15
    assert [row["step"] for row in rows(copied / "metrics.jsonl")] == [1, 2, 3]


def test_the_learning_rate_falls_over_the_last_half_of_the_steps(
    settings: dict[str, Any], finished: demask.Injected, tmp_path: Path
) -> None:
    def rates(run: demask.Injected) -> list[float]:
        return [row["learning_rate"] / 3e-3 for row in rows(run.run_folder / "metrics.jsonl")]

    assert rates(finished) == pytest.approx([1, 1, 0.5])
    as_published = demask.inject(**settings, preset="paper", out=tmp_path / "paper")
    assert rates(as_published) == pytest.approx([1, 1, 1])


def test_every_question_is_answered_at_every_stage_and_judged(finished: demask.Injected) -> None:
    ids = {row["id"] for row in rows(finished.run_folder / "qa_pairs.jsonl")}
    scores = rows(finished.run_folder / "scores.jsonl")
    for stage in ("before", "after", "ceiling"):
        assert {row["qa_id"] for row in rows(finished.run_folder / f"predictions-{stage}.jsonl")} == ids
        assert {row["qa_id"] for row in scores if row["stage"] == stage} == ids


def test_accuracy_is_measured_on_the_way_where_asked_and_does_not_change_the_weights(
    settings: dict[str, Any], finished: demask.Injected, tmp_path: Path
) -> None:
    train = {**settings["train"], "evaluate_every": 2}
    done = demask.inject(**{**settings, "train": train}, out=tmp_path / "run")
    accuracy = rows(done.run_folder / "accuracy.jsonl")
    assert {(row["step"], row["direction"]) for row in accuracy} == {(2, "forward"), (2, "backward")}
    assert digest(done.run_folder) == digest(finished.run_folder)


def test_without_questions_there_is_still_a_model_and_a_report(
    settings: dict[str, Any], finished: demask.Injected, tmp_path: Path
) -> None:
    stages: list[str] = []

    class Listening(Silent):
        def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
            stages.append(phase)

    done = demask.inject(**{**settings, "qa": "no"}, out=tmp_path / "run", progress=Listening())
    assert "Training" in stages
    assert not [stage for stage in stages if "Asking" in stage]
    assert done.summary["metrics"] == {}
    assert digest(done.run_folder) == digest(finished.run_folder)
    assert "It was not asked any questions" in (done.run_folder / "report.md").read_text()


def test_questions_in_one_direction_only_are_enough(settings: dict[str, Any], tmp_path: Path) -> None:
    lines = Path(settings["qa"]).read_text().splitlines()
    (tmp_path / "qa.jsonl").write_text("\n".join(line for line in lines if "backward" in line))
    done = demask.inject(**{**settings, "qa": tmp_path / "qa.jsonl"}, out=tmp_path / "run")
    assert set(done.summary["metrics"]["after"]) == {"backward"}


def test_training_that_moves_nothing_is_called_out_in_the_report(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    train = {**settings["train"], "learning_rate": 1e-12}
    done = demask.inject(**{**settings, "train": train}, out=tmp_path / "run")
    for name in ("report.md", "report.html"):
        assert "predictions before and after are identical" in (done.run_folder / name).read_text()


# The same again


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    settings: dict[str, Any], finished: demask.Injected, tmp_path: Path
) -> None:
    same = demask.inject(**settings, out=tmp_path / "same")
    other = demask.inject(**settings, seed=1, out=tmp_path / "other")
    assert digest(same.run_folder) == digest(finished.run_folder) != digest(other.run_folder)


def test_micro_batches_change_memory_and_not_the_result(
    settings: dict[str, Any], finished: demask.Injected, tmp_path: Path
) -> None:
    train = {**settings["train"], "accumulation": 2}
    done = demask.inject(**{**settings, "train": train}, out=tmp_path / "run")
    losses = [row["loss"] for row in rows(done.run_folder / "metrics.jsonl")]
    assert losses == pytest.approx(
        [row["loss"] for row in rows(finished.run_folder / "metrics.jsonl")], rel=1e-4
    )


TRAINED = {"training.json", "model", "metrics.jsonl", "predictions-after.jsonl"}
CEILING = "predictions-ceiling.jsonl"


def test_a_second_call_does_nothing_again(settings: dict[str, Any], finished: demask.Injected) -> None:
    before = times(finished.run_folder)
    again = demask.inject(**settings, out=finished.run_folder)
    assert times(finished.run_folder) == before
    assert again.summary == finished.summary


@pytest.mark.parametrize(
    ("deleted", "made"),
    [
        ("passages.jsonl", {"passages.jsonl", "environment.json", *TRAINED}),
        ("predictions-before.jsonl", {"predictions-before.jsonl"}),
        ("predictions-ceiling.jsonl", {"predictions-ceiling.jsonl"}),
        ("predictions-after.jsonl", {"predictions-after.jsonl"}),
        ("documents.jsonl", {"documents.jsonl", "passages.jsonl", "environment.json", CEILING, *TRAINED}),
        ("training.json", TRAINED),
        ("model", TRAINED),
        ("scores.jsonl", set()),
        ("summary.json", set()),
        ("report.html", set()),
        ("report.md", set()),
    ],
)
def test_deleting_a_file_redoes_its_stage_and_what_was_made_from_it(
    settings: dict[str, Any], copied: Path, deleted: str, made: set[str]
) -> None:
    before, bits = times(copied), digest(copied)
    shutil.rmtree(copied / deleted) if (copied / deleted).is_dir() else (copied / deleted).unlink()
    demask.inject(**settings, out=copied)
    after = times(copied)
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == made | DERIVED
    assert digest(copied) == bits


def test_the_report_is_made_again_from_the_folder_alone(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = {name: (copied / name).read_text() for name in ("report.html", "report.md")}
    for name in ("report.html", "report.md"):
        (copied / name).unlink()
    shutil.rmtree(copied / "model")
    report(copied)
    assert {name: (copied / name).read_text() for name in reports} == {
        name: text.replace("finished", "copied") for name, text in reports.items()
    }


def test_a_file_replaced_by_hand_is_taken_as_it_is(settings: dict[str, Any], copied: Path) -> None:
    said = rows(copied / "predictions-after.jsonl")
    answers = {row["id"]: row["answers"][0] for row in rows(copied / "qa_pairs.jsonl")}
    by_hand = [{**row, "text": answers[row["qa_id"]]} for row in said]
    (copied / "predictions-after.jsonl").write_text("".join(json.dumps(row) + "\n" for row in by_hand))
    (copied / "summary.json").unlink()
    done = demask.inject(**settings, out=copied)
    assert done.summary["metrics"]["after"]["backward"]["exact_match"]["value"] == 1


def test_evaluating_a_run_gives_the_numbers_that_the_run_gave(finished: demask.Injected) -> None:
    again = evaluate(str(finished.run_folder), progress=Silent())
    assert again.metrics == finished.summary["metrics"]["after"]


def test_two_runs_are_compared_on_the_questions_they_share(
    settings: dict[str, Any], finished: demask.Injected, tmp_path: Path
) -> None:
    other = demask.inject(**{**settings, "objective": "next-token"}, out=tmp_path / "other")
    runs, table = compare_runs([other.run_folder, finished.run_folder], tmp_path / "page.html")
    assert [run.label for run in runs] == ["next-token", "demasking"]
    assert [row[:2] for row in table.rows] == [
        ("demasking − next-token", "forward"),
        ("demasking − next-token", "backward"),
    ]
    assert (tmp_path / "page.html").exists()
    assert (tmp_path / "page.md").exists()


def test_asking_a_run_gives_the_answers_of_the_base_model_and_of_the_trained_one(
    finished: demask.Injected,
) -> None:
    question = PAIRS[1][1]
    (answer,) = ask(finished.run_folder, [question])
    pairs = {row["question"]: row["id"] for row in rows(finished.run_folder / "qa_pairs.jsonl")}
    for stage, said in (("before", answer.before), ("after", answer.after)):
        kept = rows(finished.run_folder / f"predictions-{stage}.jsonl")
        assert said == next(row["text"] for row in kept if row["qa_id"] == pairs[question])


# Before training: the plan and the preview


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_plan_counts_the_tokens_that_training_then_logs(
    settings: dict[str, Any], tmp_path: Path, objective: str
) -> None:
    values = {**settings, "objective": objective, "qa": "no"}
    planned = make_plan(make_config(values)).as_json()
    done = demask.inject(**values, out=tmp_path / "run")
    summary = done.summary
    for key in ("tokens", "steps", "exposures", "parameters", "learning_rate", "document_tokens", "coverage"):
        assert planned[key] == summary[key], key


def test_the_default_rate_is_that_of_the_examples_a_step_has_not_of_those_asked_for(
    settings: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    from demask.training.plan import choose_learning_rate

    values = {**settings, "documents": str(home / "facts" / "orlin.txt"), "qa": "no"}
    values["train"] = {"steps": 2, "batch_size": 5}  # of one document
    config = make_config(values)
    made = make_plan(config)
    wanted = choose_learning_rate(config.train, parameters=made.parameters, batch_size=1)
    assert (made.batch_size, made.learning_rate) == (1, wanted)
    assert demask.inject(**values, out=tmp_path / "run").summary["learning_rate"] == wanted


def test_each_objective_takes_its_share_of_the_default_rate(settings: dict[str, Any], tmp_path: Path) -> None:
    rates = {}
    for objective in ("demasking", "next-token"):
        values = {**settings, "objective": objective, "qa": "no", "train": {"steps": 1}}
        rates[objective] = demask.inject(**values, out=tmp_path / objective).summary["learning_rate"]
    assert rates["next-token"] == NextToken.rate_share * rates["demasking"] < rates["demasking"]
    assert make_plan(make_config(values)).learning_rate == rates["next-token"]


def test_more_processes_than_examples_in_a_step_are_refused_before_anything_is_asked(
    settings: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    values = {**settings, "documents": str(home / "facts" / "orlin.txt"), "qa": "no"}
    with pytest.raises(ConfigError, match="a step has 1 examples, expected one at least for each of 2"):
        demask.inject(**values, launch={"processes": 2}, out=tmp_path / "run")
    assert not (tmp_path / "run" / "predictions-before.jsonl").exists()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_preview_shows_the_whole_text_and_counts_what_the_trainer_scores(
    settings: dict[str, Any], objective: str
) -> None:
    from demask.data.sequences import PassageSamples
    from demask.models.context import load_context
    from demask.objectives.batches import pad
    from demask.records import IGNORE_INDEX, Passage
    from demask.training.stream import make_stream

    config = make_config({**settings, "objective": objective})
    context = load_context(config.model, config.objective)
    tokenizer = context.tokenizer
    passages = [Passage(Path(name).stem, Path(name).stem, text) for name, text in sorted(DOCUMENTS.items())]
    stream = make_stream(config, context, PassageSamples(passages, tokenizer))
    previews = preview_examples(config, count=4)
    batch = pad([stream[place] for place in range(4)], pad_id=0)
    for row, preview in enumerate(previews):
        ids = batch["input_ids"][row, : preview.tokens].tolist()
        pieces = preview.pieces
        assert "".join(piece.text for piece in pieces) == tokenizer.decode(ids)
        assert preview.scored == int((batch["labels"][row] != IGNORE_INDEX).sum())
        assert preview.tokens == int(batch["lengths"][row])
    roles = {piece.role for preview in previews for piece in preview.pieces}
    assert roles == {"prompt", "masked"} | ({"mask", "copied"} if objective == "demasking" else set())


# The commands


def test_json_is_all_that_stands_on_standard_output(
    settings: dict[str, Any],
    finished: demask.Injected,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ask_for_json(*words: str | Path) -> Any:
        return json.loads(run_command(monkeypatch, capsys, *words, "--json"))

    recipe = recipe_words(settings)
    summary = ask_for_json("inject", *recipe, "--out", tmp_path / "run")
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert ask_for_json("inject", *recipe, "--out", tmp_path / "run") == summary
    assert ask_for_json("plan", *recipe)["tokens"] == summary["tokens"]
    assert len(ask_for_json("data", "preview", *recipe, "--count", "2")) == 2
    assert ask_for_json("evaluate", tmp_path / "run")["metrics"] == summary["metrics"]["after"]
    assert ask_for_json("ask", tmp_path / "run", "Who?", "When?")[1]["question"] == "When?"
    assert Path(ask_for_json("report", tmp_path / "run")["html"]).exists()
    compared = ask_for_json("compare", finished.run_folder, tmp_path / "run", "--out", tmp_path / "page.html")
    assert set(compared) == {"runs", "differences"}
    assert ask_for_json("doctor")["packages"]["torch"]


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_tables_keep_to_the_width_of_the_terminal_and_never_cut_a_number(
    finished: demask.Injected,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    columns: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    recipe = recipe_words(settings)
    shown = run_command(monkeypatch, capsys, "inject", *recipe, "--out", finished.run_folder)
    lines = [line for line in shown.splitlines() if not line.startswith(("Model:", "Report:", "Warning:"))]
    assert max(map(len, lines)) <= columns
    assert "…" not in shown
    assert "arm" not in shown.split("\n")[1].split(), "one run: its name in every row says nothing"
    metric = finished.summary["metrics"]["before"]["forward"]["contains"]
    assert f"[{metric['low']:.2f}, {metric['high']:.2f}]" in shown


@pytest.mark.smoke
def test_where_nobody_watches_progress_is_few_lines_and_never_no_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    clock = iter(range(0, 100_000, 7))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with TerminalProgress(Console(stderr=True)) as progress:
        progress.begin("Training", 60, done=50, unit="steps")
        for _ in range(10):
            progress.advance(1, {"loss": 1.0, "tokens/s": 640.2})
        progress.begin("Asking", 0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Training: goes on after 50 of 60 steps"
    assert [line.split(" left")[0] for line in lines[1:-2]] == [
        "Training: 53 of 60 steps, about 49 s",
        "Training: 56 of 60 steps, about 28 s",
        "Training: 59 of 60 steps, about 7 s",
    ]
    assert all(line.endswith(" left; loss 1.000, tokens/s 640") for line in lines[1:-2])
    assert all(line.endswith(" s") for line in lines[-2:])


@pytest.mark.smoke
def test_time_left_does_not_count_what_comes_before_the_first_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    clock = iter((0.0, 0.0, 120.0, 130.0, 141.0, 142.0, 142.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with TerminalProgress(Console(stderr=True)) as progress:
        progress.begin("Drawing", 1000, unit="tokens")
        for parts in (4, 10, 11, 975):
            progress.advance(parts)
    assert capsys.readouterr().err.splitlines() == [
        "Drawing: 4 of 1000 tokens",
        "Drawing: 25 of 1000 tokens, about 16 min left",
        "Drawing: 142.0 s",
    ]


def test_the_quickstart_compares_two_objectives_and_asks_the_base_model_once(
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import transformers

    from demask.models import load

    # The bundled documents need a longer context than the tiny model's.
    stand_in = Path(shutil.copytree(tiny_model_folder, tmp_path / "stand-in"))
    config = transformers.AutoConfig.from_pretrained(stand_in)
    config.max_position_embeddings = 4096
    config.save_pretrained(stand_in)
    monkeypatch.setattr(load, "fetch_embedded_model", lambda: stand_in)
    short: dict[str, Any] = {"train": {"steps": 1, "batch_size": 2}}
    arms = []
    for arm in side_by_side.QUICKSTART_ARMS:
        less = short | ({"retain": {"pool": 16, "conversations": 2}} if arm.name == "gated" else {})
        arms.append(replace(arm, recipe=merge_values(arm.recipe, less)))
    monkeypatch.setattr(side_by_side, "QUICKSTART_ARMS", tuple(arms))
    out = run_command(monkeypatch, capsys, "quickstart", "--out", tmp_path / "quick", "--json")
    assert set(json.loads(out)) == {"gated", "next-token"}
    assert (tmp_path / "quick" / "report.html").exists()
    before = {(tmp_path / "quick" / arm.name / "predictions-before.jsonl").read_bytes() for arm in arms}
    assert len(before) == 1


def test_several_processes_are_refused_rather_than_run_as_another_experiment(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(demask.ConfigError, match=r"WORLD_SIZE is set, .* set launch.processes"):
        demask.inject(**settings, out=tmp_path / "run")


def asked_again(settings: dict[str, Any], out: Path) -> list[str]:
    """The stages at which a run asks, rather than remembers."""
    stages: list[str] = []

    class Listening(Silent):
        def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
            if phase.startswith("Asking"):
                stages.append(phase.partition("(")[2].rstrip(")"))

    run_recipe(make_config(settings), out, progress=Listening())
    return stages


def test_an_untouched_model_is_asked_the_same_questions_once(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked_again(settings, tmp_path / "first") == ["before", "ceiling", "after"]
    other = {**settings, "objective": "next-token"}
    assert asked_again(other, tmp_path / "second") == ["after"]
    before = [(tmp_path / run / "predictions-before.jsonl").read_bytes() for run in ("first", "second")]
    assert before[0] == before[1]


@pytest.mark.parametrize("change", [{"max_new_tokens": 5}, {"batch_size": 2}])
def test_an_untouched_model_is_asked_again_when_it_is_asked_otherwise(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    asked_again(settings, tmp_path / "first")
    other = {**settings, "evaluate": {**settings["evaluate"], **change}}
    assert asked_again(other, tmp_path / "second") == ["before", "ceiling", "after"]


def test_answers_of_a_model_are_not_those_of_one_that_took_its_place(
    settings: dict[str, Any], tmp_path: Path, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(settings["model"], folder)
    settings = {**settings, "model": str(folder)}
    asked_again(settings, tmp_path / "first")
    make_model(seed=1).save_pretrained(folder)
    assert asked_again(settings, tmp_path / "second") == ["before", "ceiling", "after"]


def test_answers_that_cannot_be_read_are_asked_for_again(
    settings: dict[str, Any], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_again(settings, tmp_path / "first")
    for file in (cache / "answers").iterdir():
        file.write_text("[{", encoding="utf-8")
    assert asked_again(settings, tmp_path / "second") == ["before", "ceiling", "after"]


def test_a_cache_that_cannot_be_written_does_not_stop_a_run(
    settings: dict[str, Any], tmp_path: Path, cache: Path
) -> None:
    (cache / "answers").write_text("a file where a folder is wanted")
    said: list[str] = []

    class Listening(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    try:
        done = run_recipe(make_config(settings), tmp_path / "run", progress=Listening())
    finally:
        (cache / "answers").unlink()
    assert done.summary["metrics"]["after"]
    assert any("before: these answers are asked for again" in line for line in said)


def test_passages_that_were_never_seen_are_said(settings: dict[str, Any], tmp_path: Path) -> None:
    short = {**settings, "train": {"steps": 1, "batch_size": 1}}
    done = demask.inject(**short, out=tmp_path / "run")
    assert any("never trained on" in warning for warning in done.summary["warnings"])


def test_a_quickstart_does_not_write_into_a_folder_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(demask.ConfigError, match=r"holds other files \(thesis.txt\)"):
        quickstart(tmp_path, progress=Silent())
