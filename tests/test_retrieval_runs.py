"""Retrieval beside training: in a run's report, and with any model, on a random model of two layers."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import demask
from demask import cli
from demask.errors import ConfigError
from demask.evaluation.qa import CEILING_PROMPT
from demask.objectives.prompts import encode_question
from demask.progress import Silent
from demask.recipe.sections import make_config
from demask.records import Prediction
from demask.reports.runs import load_run
from demask.reports.tables import retrieval_table
from demask.stages.retrieval import find_break_even, measure_cost
from demask.storage.run_folder import RunFolder
from demask.tasks.evaluate import evaluate_retrieval

FACTS = {
    "orlin": ("Mara Voss founded the Orlin works.", "Who founded the Orlin works?", "Mara Voss", "backward"),
    "quill": ("Idris Hall sells ink at Quill.", "What does Idris Hall sell?", "ink", "forward"),
    "sable": ("Noor Cast built Sable on Ferro.", "Who built Sable?", "Noor Cast", "backward"),
}
ZEBRA = ("sable", "Zebra?", "Ferro", "forward")
STAGES = [f"{model}-retrieval-{top}" for model in ("before", "after") for top in (1, 2)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `facts/` and `qa.jsonl`; not to be changed."""
    home = tmp_path_factory.mktemp("home")
    (home / "facts").mkdir()
    for name, (text, *_) in FACTS.items():
        (home / "facts" / f"{name}.txt").write_text(text)
    asked = [(name, question, answer, way) for name, (_, question, answer, way) in FACTS.items()] + [ZEBRA]
    rows = [
        {"id": f"q{number}", "document_id": name, "question": question, "answers": [answer], "direction": way}
        for number, (name, question, answer, way) in enumerate(asked)
    ]
    (home / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


@pytest.fixture(scope="module")
def settings(home: Path, tiny_model_folder: Path) -> dict[str, Any]:
    return {
        "model": str(tiny_model_folder),
        "documents": str(home / "facts"),
        "qa": str(home / "qa.jsonl"),
        "train": {"steps": 2, "batch_size": 2, "learning_rate": 3e-3},
        "evaluate": {"max_new_tokens": 4, "retrieval": [2, 1]},
    }


@pytest.fixture(scope="module")
def finished(home: Path, settings: dict[str, Any]) -> demask.Injected:
    return demask.inject(**settings, out=home / "finished")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_both_models_are_asked_with_the_passages_that_were_found(
    finished: demask.Injected, tiny_loaded: Any
) -> None:
    found = {row["qa_id"]: row for row in rows(finished.run_folder / "retrieved.jsonl")}
    assert found["q0"]["documents"][0] == "orlin"
    assert found["q3"]["passages"] == []
    prompt = CEILING_PROMPT.format(document=FACTS["orlin"][0], question=FACTS["orlin"][1])
    lengths = {"q0": len(encode_question(tiny_loaded.tokenizer, prompt))}
    lengths["q3"] = len(encode_question(tiny_loaded.tokenizer, "Zebra?"))  # nothing found: asked bare
    for model in ("before", "after"):
        said = rows(finished.run_folder / f"predictions-{model}-retrieval-1.jsonl")
        assert {row["qa_id"]: row["prompt_tokens"] for row in said if row["qa_id"] in lengths} == lengths


def test_the_summary_has_recall_costs_and_a_break_even(finished: demask.Injected) -> None:
    found = finished.summary["retrieval"]
    assert found["recall"]["1"]["backward"]["value"] == 1.0
    assert found["recall"]["2"]["forward"]["value"] == 0.5  # "Zebra?" finds nothing
    assert found["nothing_found"] == 1
    assert set(found["costs"]) == {"before", "after", "ceiling", *STAGES}
    assert set(STAGES) <= set(finished.summary["metrics"])
    base, tuned = found["costs"]["before-retrieval-1"], found["costs"]["after"]
    less = base["prompt_tokens"] + base["tokens"] - tuned["prompt_tokens"] - tuned["tokens"]
    expected = finished.summary["tokens"] / less
    assert expected <= found["break_even"]["1"]["tokens"] < expected + 1


def test_the_report_shows_retrieval_beside_training(finished: demask.Injected) -> None:
    run = load_run(RunFolder(finished.run_folder))
    table = retrieval_table([run])
    assert [row[1] for row in table.rows] == [
        "before",
        "before, 1 passage retrieved",
        "before, 2 passages retrieved",
        "after",
        "after, 1 passage retrieved",
        "after, 2 passages retrieved",
        "ceiling",
    ]
    assert run.retrieval is not None
    assert f"after {run.retrieval.break_even[1].tokens:,} questions training has paid" in table.note
    for name in ("report.html", "report.md"):
        assert "2 passages retrieved" in (finished.run_folder / name).read_text()
    assert not retrieval_table([replace(run, retrieval=None)]).rows


def test_a_run_goes_on_with_what_was_found_and_without_passages_finds_anew(
    finished: demask.Injected, settings: dict[str, Any], tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(finished.run_folder, tmp_path / "copied"))
    kept = (copied / "retrieved.jsonl").stat().st_mtime_ns
    (copied / "predictions-after-retrieval-2.jsonl").unlink()
    demask.inject(**settings, out=copied)
    assert (copied / "retrieved.jsonl").stat().st_mtime_ns == kept
    first, again = (
        [row["text"] for row in rows(run / "predictions-after-retrieval-2.jsonl")]
        for run in (finished.run_folder, copied)
    )
    assert first == again
    (copied / "passages.jsonl").unlink()
    demask.inject(**settings, out=copied)
    assert (copied / "retrieved.jsonl").stat().st_mtime_ns != kept


def test_passages_that_do_not_fit_the_context_are_left_out_from_the_worst_on_and_counted(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    words = [f"{name} {'fox ' * 30}" for name in ("Orlin", "Orlin Quill", "Orlin Quill Sable")]
    for number, text in enumerate(words):
        (tmp_path / f"d{number}.txt").write_text(text)
    pair = {
        "id": "q",
        "document_id": "d2",
        "question": "Orlin Quill Sable?",
        "answers": ["x"],
        "direction": "forward",
    }
    (tmp_path / "qa.jsonl").write_text(json.dumps(pair) + "\n")
    found = evaluate_retrieval(
        str(tiny_model_folder),
        tmp_path / "qa.jsonl",
        [str(tmp_path / "d*.txt")],
        settings={"retrieval": [1, 3], "max_new_tokens": 100},
        progress=Silent(),
    ).retrieval
    assert found["shortened"] == {"1": 0, "3": 1}
    assert found["costs"]["before-retrieval-3"]["prompt_tokens"] <= 256 - 100


def run_command(*words: str | Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["demask", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_any_model_is_evaluated_with_passages_of_documents(
    home: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[str | Path] = [
        "evaluate",
        tiny_model_folder,
        "--qa",
        home / "qa.jsonl",
        "--documents",
        home / "facts",
    ]
    words += ["--retrieve", "1", "--max-new-tokens", "3"]
    assert run_command(*words, "--json", monkeypatch=monkeypatch) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["retrieval"]["recall"]["1"]["backward"]["value"] == 1.0
    assert said["retrieval"]["break_even"] == {}
    assert set(said["retrieval"]["metrics"]) == {"before", "before-retrieval-1"}
    monkeypatch.setenv("COLUMNS", "200")  # a long path leaves little room for the table
    assert run_command(*words, monkeypatch=monkeypatch) == 0
    assert "1 passage retrieved" in " ".join(capsys.readouterr().out.split())


def test_a_run_is_evaluated_with_its_own_passages(
    finished: demask.Injected, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run_command("evaluate", finished.run_folder, "--retrieve=2", "--json", monkeypatch=monkeypatch) == 0
    )
    said = json.loads(capsys.readouterr().out)["retrieval"]
    there = finished.summary["retrieval"]["costs"]["after-retrieval-2"]
    assert said["costs"]["after-retrieval-2"]["prompt_tokens"] == there["prompt_tokens"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--retrieve", "3"], "--documents is missing"),
        (["--documents", "x.txt"], "add --retrieve"),
        (["--retrieve", "3", "--documents", "x.txt", "--measure", "quick"], "leave out --measure"),
        (["--retrieve", "3", "--documents", "x.txt", "--server", "http://127.0.0.1:1"], "leave out --server"),
    ],
)
def test_options_that_have_no_meaning_together_end_in_a_line(
    home: Path,
    tiny_model_folder: Path,
    words: list[str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str | Path] = ["evaluate", tiny_model_folder, "--qa", home / "qa.jsonl", *words]
    assert run_command(*asked, monkeypatch=monkeypatch) == 2
    assert problem in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("given", "read"), [(3, (3,)), ([3, 1, 3], (1, 3)), (0, None), ([], None), (None, None)]
)
def test_a_number_or_a_list_says_how_many_passages(given: Any, read: Any) -> None:
    values = {"model": "embedded", "documents": "x", "evaluate": {"retrieval": given}}
    assert make_config(values).evaluate.retrieval == read


@pytest.mark.parametrize("given", [-1, True, False, "3", 1.5, [0], [True]])
def test_anything_else_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.retrieval"):
        make_config({"model": "embedded", "documents": "x", "evaluate": {"retrieval": given}})


def test_break_even_is_the_price_over_what_each_answer_saves() -> None:
    cheap = {"prompt_tokens": 20.0, "tokens": 5.0, "seconds": 0.5}
    dear = {"prompt_tokens": 120.0, "tokens": 15.0, "seconds": 0.75}
    price = {"tokens": 1101, "seconds": 10.0}
    assert find_break_even(dear, cheap, price) == {"tokens": 11, "seconds": 40}
    assert find_break_even(cheap, dear, price) == {"tokens": None, "seconds": None}
    assert find_break_even({**dear, "prompt_tokens": None}, cheap, price)["tokens"] is None


def test_the_cost_of_an_answer_is_a_mean_and_unknown_where_a_prompt_is() -> None:
    said = [Prediction("a", "", 2, 1.0, True, 10), Prediction("b", "", 4, 3.0, True, 30)]
    assert measure_cost(said) == {"prompt_tokens": 20.0, "tokens": 3.0, "seconds": 2.0}
    assert measure_cost([*said, Prediction("c", "")])["prompt_tokens"] is None
