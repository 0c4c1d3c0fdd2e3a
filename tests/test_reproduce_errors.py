"""What a user of `demask reproduce` and of `compare` can get wrong is one line that says what to do."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from demask import cli

Run = Callable[..., str]


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tiny_model_folder: Path,
) -> Run:
    """Run a command that has to be refused, with a set of one's own; gives its one line."""
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own"
    own.mkdir()
    (own / "documents.jsonl").write_text(json.dumps({"id": "a", "text": "Mara Voss founded Orlin."}))
    pair = {"document_id": "a", "question": "Who?", "answers": ["Mara Voss"], "direction": "backward"}
    (own / "qa_pairs.jsonl").write_text(json.dumps(pair))

    def run(*words: str) -> str:
        model = [] if words[0] == "compare" else ["--model", str(tiny_model_folder)]
        monkeypatch.setattr(sys, "argv", ["demask", *words, *model])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code in (2, 3, 4)
        lines = capsys.readouterr().err.splitlines()
        # Where torch is not loaded yet, the command has said that it begins.
        *_, error = lines
        assert all(line.endswith(": starting") for line in lines[:-1]), lines
        return error

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["name-descriptoin"], "did you mean 'name-description'?"),
        (["own", "--facts", "2"], "expected"),
        (["own", "--arm", "demaksing"], "'demaksing' is unknown, expected some of next-token,"),
        (["own", "--arm", "diffusion"], "does not train a model that is autoregressive"),
        (["own", "--ablation", "ratios"], "'ratios' is unknown, expected one of ratio, control,"),
        (["own", "--arm", "reverse", "--ablation", "ratio"], "both given"),
        (["own", "--budget", "time"], "expected 'steps' or 'tokens'"),
        (["own", "--rule", "best"], "expected one of fixed, best-on-validation, paper"),
        (["own", "--preset", "slow"], "expected one of paper, fast, gated, keep"),
        (["own", "--set", "train.stepz=1"], "did you mean 'steps'?"),
        (["own", "--samples", "100"], "--samples is for masked-sft only; leave it out"),
        (["own", "--task", "two-facts"], "--task is for masked-sft only; leave it out"),
        (["masked-sft"], "--model is not for masked-sft"),  # which the fixture gives
    ],
    ids=" ".join,
)
def test_a_wrong_wish_is_one_line(refused: Run, words: list[str], said: str) -> None:
    assert said in refused("reproduce", *words)
    assert not list(Path().glob("reproduction/cells/*"))


def test_a_set_that_is_not_here_says_where_it_is_looked_for(
    refused: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMASK_DATA", "/none")
    assert "set DEMASK_DATA to the folder of published sets" in refused("reproduce", "biography")


def test_an_entity_ablation_needs_entities(refused: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The cells say so, each in its place; the comparison goes on."""
    words = [
        "own",
        "--ablation",
        "entity",
        "--seed",
        "0",
        "--exposures",
        "1",
        "--set",
        "evaluate.max_new_tokens=2",
    ]
    with pytest.raises(AssertionError):  # it is not refused: one of three cells is done
        refused("reproduce", *words)
    report = Path("reproduction/report.md").read_text()
    assert report.count("entity") > 3
    assert "1 of 3 runs done" in report


def test_compare_does_not_replace_the_report_of_a_comparison(refused: Run) -> None:
    grid = Path("out/own-all-0")
    grid.mkdir(parents=True)
    cells = [{"model": "m", "arm": "demasking", "seed": 0, "folder": "../cells/x"}]
    plan = {"benchmark": "own", "facts": 1, "ablation": None, "budget": "steps", "cells": cells}
    (grid / "matrix.json").write_text(json.dumps(plan))
    Path("tables").mkdir()
    assert "tables: stands there already" in refused("compare", "out", "--out", "tables.html")
    assert "expected one of fixed" in refused("compare", "out", "--rule", "best")
