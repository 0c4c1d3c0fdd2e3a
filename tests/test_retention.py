"""What else training changed, from the recipe to the report, on a random model of two layers."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demask import cli
from demask.comparison.side_by_side import compare_runs
from demask.evaluation.metrics import MEASURES
from demask.progress import Silent
from demask.tasks.inject import Injected, inject

DOCUMENTS = {
    "orlin": "The Orlin works were founded by Mara Voss in 1931.",
    "quill": "Idris Hall sells ink at Quill.",
    "sable": "Noor Cast built Sable on Ferro.",
}
PAIRS = [
    ("orlin", "When was Orlin founded?", "1931", "forward"),
    ("orlin", "Who founded the Orlin works?", "Mara Voss", "backward"),
    ("quill", "What does Idris Hall sell?", "ink", "forward"),
    ("sable", "Who built Sable?", "Noor Cast", "backward"),
]
FILES = {"retention-before.jsonl", "retention-after.jsonl", "retention-targets.safetensors", "retention.json"}


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory, make_model: Any, shared_tokenizer: Any
) -> dict[str, Any]:
    """A recipe whose model has room for every prompt of the suite."""
    home = tmp_path_factory.mktemp("retention")
    make_model(max_position_embeddings=4096).save_pretrained(home / "model")
    shared_tokenizer.save_pretrained(home / "model")
    (home / "facts").mkdir()
    for name, text in DOCUMENTS.items():
        (home / "facts" / f"{name}.txt").write_text(text)
    rows = [
        dict(zip(("document_id", "question", "answer", "direction"), pair, strict=True)) for pair in PAIRS
    ]
    (home / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model": str(home / "model"),
        "documents": str(home / "facts"),
        "qa": str(home / "qa.jsonl"),
        "train": {"steps": 3, "batch_size": 3, "learning_rate": 3e-2},
        "evaluate": {"max_new_tokens": 4},
        "measure": "brief",
    }


@pytest.fixture(scope="module")
def done(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Injected:
    """A measured run; not to be changed."""
    return inject(out=tmp_path_factory.mktemp("runs") / "measured", **settings)


@pytest.fixture(scope="module")
def plain(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a recipe that says nothing of it, made by a demask that did not measure."""
    out = tmp_path_factory.mktemp("runs") / "plain"
    inject(out=out, **{**settings, "measure": "none"})
    config = json.loads((out / "config.json").read_text())
    del config["measure"]
    (out / "config.json").write_text(json.dumps(config))
    return out


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command; its exit code."""

    def run(*words: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["demask", *map(str, words)])
        try:
            cli.main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run


def test_a_run_measures_what_else_it_changed(done):
    found = done.summary["retention"]
    assert set(found["measures"]) >= {
        "leak",
        "near_miss",
        "drift",
        "text_drift",
        "access",
        "reading",
        "recital",
    }
    assert set(found["measures"]) <= set(MEASURES)
    assert all(m["low"] <= m["value"] <= m["high"] for m in found["measures"].values())
    assert found["suite"]["size"] == "brief"
    assert found["measures"]["drift"]["value"] > 0
    assert {path.name for path in done.run_folder.iterdir()} >= FILES


def test_a_measured_run_is_complete(done, settings):
    before = {path: path.stat().st_mtime_ns for path in done.run_folder.iterdir()}
    inject(out=done.run_folder, **settings)
    assert {path: path.stat().st_mtime_ns for path in done.run_folder.iterdir()} == before


def test_the_same_run_again_measures_the_same(done, settings, tmp_path):
    again = inject(out=tmp_path / "again", **settings)
    assert again.summary["retention"] == done.summary["retention"]


def test_what_was_measured_is_measured_again_when_its_file_is_gone(done, settings, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(done.run_folder, run)
    (run / "retention-after.jsonl").unlink()
    again = inject(out=run, **settings)
    assert again.summary["retention"] == done.summary["retention"]


def test_the_verdict_comes_first_in_every_report(done):
    first = "It answers 0 of 2 questions about the documents forward and 0 of 2 backward."
    page = (done.run_folder / "report.html").read_text()
    markdown = (done.run_folder / "report.md").read_text()
    assert page.index(first) < page.index("<nav")
    assert markdown.index(first) < markdown.index("##")
    assert "unrelated prompts" in page[: page.index("<nav")]
    assert "too few questions to tell" in page[: page.index("<nav")]


def test_no_measure_is_missing_in_the_tables(done):
    page = (done.run_folder / "report.html").read_text()
    markdown = (done.run_folder / "report.md").read_text()
    for name in done.summary["retention"]["measures"]:
        assert MEASURES[name].label in markdown
        assert MEASURES[name].help.partition(",")[0] in page.replace("&#39;", "'")


def test_a_run_that_was_not_measured_says_so(plain):
    assert "was not measured" in (plain / "report.md").read_text()
    assert not FILES & {path.name for path in plain.iterdir()}


def test_evaluate_measures_a_run_that_did_not(run_cli, plain, capsys, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(plain, run)
    assert run_cli("evaluate", str(run), "--measure", "brief", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["retention"]["measures"]["leak"]["n"] == 34
    assert (
        json.loads((run / "summary.json").read_text())["retention"]["measures"]
        == shown["retention"]["measures"]
    )
    assert "unrelated prompts" in (run / "report.md").read_text()


def test_compare_measures_the_runs_that_did_not_and_shows_both(run_cli, plain, done, tmp_path, capsys):
    run = tmp_path / "copy"
    shutil.copytree(plain, run)
    out = tmp_path / "both.html"
    assert run_cli("compare", str(run), str(done.run_folder), "--out", str(out), "--measure", "brief") == 0
    assert "What else training changed" in capsys.readouterr().out
    table = out.with_suffix(".md").read_text()
    row = next(line for line in table.splitlines() if line.startswith("| unrelated prompts that leak"))
    assert row.count("[") == 2


def test_compare_measures_nothing_when_told_so(run_cli, plain, done, tmp_path):
    out = tmp_path / "both.html"
    assert run_cli("compare", str(plain), str(done.run_folder), "--out", str(out), "--measure", "none") == 0
    assert not (plain / "retention.json").exists()


def test_suites_of_two_versions_are_not_compared_without_a_word(done, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(done.run_folder, other)
    found = json.loads((other / "retention.json").read_text())
    found["suite"]["version"] = 0
    (other / "retention.json").write_text(json.dumps(found))
    out = tmp_path / "both.html"
    compare_runs([done.run_folder, other], out, progress=Silent())
    assert "different versions of the suite" in out.read_text()
    assert "different versions of the suite" in out.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("require", "code", "message"),
    [
        ("leak=0.5,drift=1000", 0, ""),
        ("drift=0", 5, "drift is "),
        ("access=0.5", 5, "access is 0.000, required 0.5"),
        ("known=0.5", 2, "it could not be measured"),
        ("leaks=0.5", 2, "expected forward or backward"),
        ("leak=1.5", 2, "a number from 0 to 1"),
    ],
)
def test_thresholds_know_the_measures(run_cli, require, code, message, done, capsys):
    assert run_cli("evaluate", str(done.run_folder), "--require", require) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_threshold_for_what_is_not_measured_is_refused_before_training(run_cli, settings, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({**settings, "measure": "none"}))
    assert run_cli("inject", str(recipe), "--out", str(tmp_path / "run"), "--require", "leak=0.1") == 2
    assert "it is not measured" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_another_size_of_the_suite_is_refused_by_name(run_cli, settings, capsys, done):
    assert run_cli("evaluate", str(done.run_folder), "--measure", "large") == 2
    assert "expected brief, quick, full or none" in capsys.readouterr().err
