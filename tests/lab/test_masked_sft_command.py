"""`demask reproduce masked-sft` from the command line: plan, run, go on, and what is refused."""

import json
from pathlib import Path

import pytest

from demask.cli import main

SIZES = {
    "pretraining.known": 40,
    "pretraining.width": 32,
    "pretraining.layers": 1,
    "pretraining.autoregressive_steps": 1,
    "questions": 6,
    "held_out": 3,
    "exposures": 32,
    "fact_exposures": 32,
    "search_seeds": 1,
    "least_epochs": 1,
    "rates": "[1e-3]",
    "max_new_tokens": 4,
}


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder; gives its exit code, what it printed, and what went to stderr."""
    monkeypatch.chdir(tmp_path)
    sizes = [word for key, value in SIZES.items() for word in ("--set", f"{key}={value}")]

    def call(*words):
        monkeypatch.setattr("sys.argv", ["demask", "reproduce", "masked-sft", *sizes, *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return call


CHOSEN = ("--task", "word-problems", "--samples", "12", "--seed", "0", "--arm", "masked-sft", "--out", "out")


def test_it_runs_writes_what_came_out_and_does_nothing_twice(run):
    code, printed, told = run(*CHOSEN)
    assert (code, "2 of 2 cells are done." in printed) == (0, True)
    assert "word-problems, 12 samples: masked-sft at 0.001, seed 0: done in" in told
    report = Path("out/masked-sft.md").read_text(encoding="utf-8")
    assert "| split | samples | sft | masked-sft |" in report
    numbers = json.loads(Path("out/masked-sft.json").read_text(encoding="utf-8"))
    assert [trial["arm"] for trial in numbers["trials"]] == ["sft", "masked-sft"]
    assert {"in distribution", "templates", "numbers", "steps", "known facts"} == set(
        numbers["trials"][0]["accuracy"]
    )
    assert not list(Path("out/cells").glob("*/model"))

    code, printed, told = run(*CHOSEN, "--json")
    assert (code, json.loads(printed)["done"]) == (0, 2)
    assert "done in" not in told


def test_a_plan_counts_and_times_and_leaves_nothing(run):
    code, printed, _ = run(*CHOSEN, "--plan")
    assert code == 0
    assert "from a few real steps" in " ".join(printed.split())
    assert not Path("out").exists()
    code, printed, _ = run(*CHOSEN, "--plan", "--json")
    rows = json.loads(printed)
    assert all(row["tokens"] > 0 and row["seconds"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arm", "masked"], "--arm: 'masked' is unknown, expected some of sft, masked-sft,"),
        (["--task", "gsm8k"], "--task: 'gsm8k' is unknown, expected some of word-problems, two-facts"),
        (["--set", "width=3"], "--set width is unknown; known are batch_size,"),
        (["--set", "pretraining.width=33"], "--set pretraining.width is 33"),
        (["--facts", "3"], "--facts is not for masked-sft"),
        (["--preset", "fast"], "--preset is not for masked-sft"),
        (["--ablation", "ratio"], "--ablation is not for masked-sft"),
        (["--samples", "0"], "--samples"),
        (["--set", "rates=[]"], "--set rates"),
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_said_in_one_line(run, words, said):
    code, _, told = run(*words)
    assert code == 2
    assert said in " ".join(told.split())
    assert "Traceback" not in told
