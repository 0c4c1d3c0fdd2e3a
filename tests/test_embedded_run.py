"""One real run: the embedded model learns invented facts from one text each, both ways round."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

import demask
from demask import rundir

QUICKSTART = Path(demask.__file__).parent / "quickstart"
DOCUMENTS = 4


def first_lines(name: str, count: int) -> list[str]:
    return (QUICKSTART / name).read_text(encoding="utf-8").splitlines()[:count]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> demask.Injected:
    folder = tmp_path_factory.mktemp("embedded")
    lines = first_lines("documents.jsonl", DOCUMENTS)
    known = {json.loads(line)["id"] for line in lines}
    questions = [q for q in first_lines("qa_pairs.jsonl", 99) if json.loads(q)["document_id"] in known]
    (folder / "documents.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "questions.jsonl").write_text("\n".join(questions), encoding="utf-8")
    return demask.inject(
        model="embedded",
        documents=folder / "documents.jsonl",
        qa=folder / "questions.jsonl",
        out=folder / "run",
        train={"steps": 40, "learning_rate": 5e-4},
        evaluate={"max_new_tokens": 40},
    )


def contains(run: demask.Injected, stage: str, direction: str) -> float:
    return float(run.summary["metrics"][stage][direction]["contains"]["value"])


@pytest.mark.slow
@pytest.mark.parametrize(("direction", "reached"), [("forward", 0.75), ("backward", 0.6)])
def test_the_embedded_model_learns_both_directions(
    run: demask.Injected, direction: str, reached: float
) -> None:
    assert contains(run, "before", direction) <= 0.25
    assert contains(run, "after", direction) >= reached


@pytest.mark.slow
def test_the_report_of_a_real_run_names_its_numbers(run: demask.Injected) -> None:
    page = (run.run_folder / rundir.REPORT_HTML).read_text(encoding="utf-8")
    assert f"{contains(run, 'after', 'backward'):.2f}" in page
    assert "SmolLM2-135M-Instruct" in page


@pytest.mark.slow
def test_a_real_run_leaves_a_model_with_its_weights_and_template(run: demask.Injected) -> None:
    folder = run.run_folder / rundir.MODEL
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        assert "model.embed_tokens.weight" in weights.keys()  # noqa: SIM118 (not a mapping)
    assert "system prompt" not in (folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert run.tokenizer.chat_template is not None
