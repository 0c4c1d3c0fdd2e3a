"""Every command works with a masked-diffusion model, and says where an objective does not fit the model."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from demask import cli
from demask.models.load import load_model

Command = Callable[..., tuple[int, str, str]]
QUESTIONS = [
    {"document_id": "a", "question": "When was Orlin founded?", "answers": ["1931"], "direction": "forward"},
    {"document_id": "a", "question": "Who founded Orlin?", "answers": ["Mara Voss"], "direction": "backward"},
]
QUICK = [
    *(
        "--set",
        "train.steps=2",
        "--set",
        "evaluate.max_new_tokens=6",
        "--set",
        "evaluate.denoise.block_length=3",
    ),
    *("--documents", "facts", "--qa", "qa.jsonl"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "facts").mkdir()
    (home / "facts" / "a.txt").write_text("The Orlin works were founded by Mara Voss in 1931.")
    (home / "facts" / "b.txt").write_text("Noor Cast built Sable.")
    (home / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    return home


@pytest.fixture
def demask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path) -> Command:
    """Run a command in the folder with the documents: exit code, standard output, standard error."""
    monkeypatch.chdir(home)

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["demask", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def converted(demask: Command, home: Path, tiny_model_folder: Path) -> Path:
    """The tiny model as a masked-diffusion one; made once."""
    if not (home / "converted").exists():
        code, out, _ = demask("convert", tiny_model_folder, "--to", "diffusion", "--out", "converted")
        assert (code, out) == (0, "Model: converted\n")
    return home / "converted"


def read_texts(file: Path) -> list[str]:
    return [json.loads(line)["text"] for line in file.read_text().splitlines()]


def inject(demask: Command, model: Path, out: str, *more: str) -> dict[str, Any]:
    words = ["--model", str(model), "--objective", "diffusion", *QUICK, "--out", out, "--json", *more]
    code, printed, err = demask("inject", *words)
    assert code == 0, err
    summary: dict[str, Any] = json.loads(printed)
    return summary


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("preset", ["paper", "llada", "count"])
def test_a_diffusion_model_goes_from_documents_to_a_report(
    demask: Command, home: Path, converted: Path, method: str, preset: str
) -> None:
    out = f"run-{preset}-{method}"
    more = ["--set", f"objective.preset={preset}", "--set", f"train.method={method}"]
    summary = inject(demask, converted, out, *more)
    assert summary["objective"] == "diffusion"
    assert set(summary["metrics"]) == {"before", "after", "ceiling"}
    (first, _) = [json.loads(line) for line in (home / out / "metrics.jsonl").read_text().splitlines()]
    assert len(first["loss_by_ratio"]) == 5
    assert first["loss_copied"] is None
    trained = load_model(str(home / out / "model"))
    assert trained.diffusion == load_model(str(converted)).diffusion
    assert (home / out / "report.html").exists()
    assert json.loads((home / out / "config.json").read_text())["evaluate"]["denoise"]["block_length"] == 3
    rows = [
        load_model(str(folder)).model.get_parameter("model.embed_tokens.weight")[
            trained.diffusion.mask_token_id
        ]
        for folder in (converted, home / out / "model")
    ]
    assert not torch.equal(*rows)


def test_a_trained_diffusion_model_is_asked_compared_and_planned(
    demask: Command, home: Path, converted: Path
) -> None:
    inject(demask, converted, "run")
    inject(demask, converted, "other", "--set", "seed=1")
    said = [
        json.loads(line)["text"] for line in (home / "run/predictions-after.jsonl").read_text().splitlines()
    ]
    code, out, _ = demask("evaluate", "run", "--json", "--predictions", "again.jsonl")
    again = read_texts(home / "again.jsonl")
    assert (code, again) == (0, said)
    assert json.loads(out)["metrics"]["forward"]["contains"]["n"] == 1
    code, out, _ = demask(
        "evaluate", "run", "--set", "denoise.steps=2", "--set", "max_new_tokens=3", "--json"
    )
    assert code == 0
    code, out, _ = demask("ask", "run", "Who founded Orlin?", "--json")
    assert (code, json.loads(out)[0]["after"]) == (0, said[1])
    code, out, _ = demask("compare", "run", "other", "--out", "both.html", "--json")
    assert (code, len(json.loads(out)["runs"])) == (0, 2)
    words = ["--model", str(converted), "--objective", "diffusion", *QUICK]
    code, out, _ = demask("plan", *words, "--json")
    assert (code, json.loads(out)["objective"]) == (0, "diffusion")


def test_a_preview_shows_what_is_masked_and_what_was_there(demask: Command, converted: Path) -> None:
    words = ["--model", str(converted), "--objective", "diffusion", *QUICK]
    code, out, _ = demask("data", "preview", *words, "--json")
    assert code == 0
    examples = json.loads(out)
    _, shown, _ = demask("data", "preview", *words)
    assert "masked where it stands; it alone carries loss" in shown
    assert any(piece["role"] == "masked" for example in examples for piece in example["pieces"])
    for example in examples:
        assert {piece["role"] for piece in example["pieces"]} <= {"prompt", "masked"}
        text = "".join(piece["text"] for piece in example["pieces"])
        assert "Orlin works were founded by Mara Voss" in text or "Noor Cast built Sable." in text


def test_objectives_of_the_other_kind_are_refused_before_anything_is_asked(
    demask: Command, home: Path, converted: Path, tiny_model_folder: Path
) -> None:
    for command in (["inject", "--out", "wrong"], ["plan"], ["data", "preview"]):
        name, *rest = command
        words = [name, *([rest.pop(0)] if name == "data" else []), *rest, *QUICK]
        code, _, err = demask(*words, "--model", tiny_model_folder, "--objective", "diffusion")
        assert code == 2
        assert "is autoregressive, expected a masked-diffusion model" in err
        assert f"make one with 'demask convert {tiny_model_folder} --to diffusion --out FOLDER'" in err
    for objective in ("demasking", "next-token", "reverse"):
        code, _, err = demask(
            "inject", *QUICK, "--model", converted, "--objective", objective, "--out", "wrong"
        )
        assert code == 2
        assert f"objective '{objective}': {converted} is a masked-diffusion model" in err
        assert "objective: diffusion" in err
    assert not (home / "wrong").exists()


def test_what_cannot_be_converted_is_refused(
    demask: Command, home: Path, converted: Path, tiny_model_folder: Path
) -> None:
    for words, expected in (
        ([converted, "--to", "diffusion", "--out", "new"], "masked-diffusion"),
        ([tiny_model_folder, "--to", "llama", "--out", "new"], "--to: 'llama', expected 'diffusion'"),
        ([tiny_model_folder, "--to", "diffusion", "--out", "converted"], "converted: stands there already"),
        ([tiny_model_folder, "--to", "llada", "--out", "new"], "autoregressive"),
        (["nowhere/at/all", "--to", "diffusion", "--out", "new"], "nowhere/at/all: no such folder"),
    ):
        code, _, err = demask("convert", *words)
        (line,) = [line for line in err.splitlines() if line.startswith("demask: ")]
        assert code in (2, 4), line
        assert expected in line
        assert not (home / "new").exists()


def test_layouts_there_and_back(demask: Command, home: Path, tiny_model_folder: Path) -> None:
    code, *_ = demask(
        "convert", tiny_model_folder, "--to", "diffusion", "--alignment", "0", "--out", "aligned"
    )
    assert code == 0
    code, _, err = demask("convert", "aligned", "--to", "llada", "--out", "as-llada")
    assert code == 0, err
    assert json.loads((home / "as-llada" / "config.json").read_text())["model_type"] == "llada"
    code, *_ = demask("convert", "as-llada", "--to", "native", "--out", "back")
    assert code == 0
    there, back = (load_model(str(home / name)).model.state_dict() for name in ("aligned", "back"))
    assert all(torch.equal(back[name], weights) for name, weights in there.items())


def test_answers_are_remembered_for_the_settings_they_were_written_with(
    demask: Command, converted: Path
) -> None:
    words = ["inject", "--model", converted, "--objective", "diffusion", *QUICK]
    told = "answers as in an earlier run with this model"
    for number, (settings, known) in enumerate(
        [((), False), ((), True), (("--set", "evaluate.denoise.steps=2"), False)]
    ):
        code, _, err = demask(*words, *settings, "--out", f"remembered-{number}")
        assert code == 0, err
        assert (told in " ".join(err.split())) == known
