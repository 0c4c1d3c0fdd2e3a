"""Runs with a gate: the base model answers what is not about the documents, in the run and afterwards."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import demask
from demask.cli import app
from demask.errors import ConfigError, ModelError, RunError
from demask.export.model_card import Publishing, write_card
from demask.models.load import LoadedModel, load_model
from demask.progress import Silent
from demask.recipe.fine_tuning import make_sft_config
from demask.recipe.sections import make_config
from demask.reports.runs import load_run
from demask.reports.wording import clean
from demask.storage import file_names
from demask.storage.run_folder import open_run_folder
from demask.tasks.evaluate import ask, evaluate_retrieval
from demask.tasks.retain import retain
from demask.tasks.update import News, update

ABOUT, OTHER = "What did Mara Voss found?", "Why do lazy dogs sleep?"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversations that no other test has drawn."""
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make_run(tiny_model_folder: Path, tmp_path: Path) -> Callable[..., demask.Injected]:
    """A run that goes far from its base."""
    rows = ["The Orlin works were founded by Mara Voss.", "Idris Hall sells ink at Quill."]
    lines = [json.dumps({"id": str(number), "text": text}) for number, text in enumerate(rows)]
    (tmp_path / "facts.jsonl").write_text("\n".join(lines))
    pair = {"id": "f", "document_id": "0", "question": ABOUT, "answers": ["Orlin"], "direction": "forward"}
    (tmp_path / "qa.jsonl").write_text(json.dumps(pair))

    def make(name: str, retain: dict[str, Any] | None = None, **changes: Any) -> demask.Injected:
        settings: dict[str, Any] = {
            "preset": "fast",
            "train": {"steps": 30, "batch_size": 2, "learning_rate": 1e-2, "precision": "fp32"},
            "evaluate": {"max_new_tokens": 12},
            "retain": retain if retain is not None else {"gate": True, "pool": 40},
            **changes,
        }
        return demask.inject(
            model=str(tiny_model_folder),
            documents=str(tmp_path / "facts.jsonl"),
            qa=str(tmp_path / "qa.jsonl"),
            out=tmp_path / name,
            **settings,
        )

    return make


def read_rows(run: demask.Injected, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.run_folder / name).read_text().splitlines()]


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("method", ["full", "lora"])
def test_behind_a_gate_the_base_model_answers_what_is_about_something_else(
    method: str, make_run: Callable[..., demask.Injected]
) -> None:
    rate = 3e-2 if method == "full" else 0.3
    train = {"steps": 30, "batch_size": 2, "learning_rate": rate, "precision": "fp32", "method": method}
    open_run = make_run("open", retain={}, train=train)
    gated = make_run("gated", train=train)
    assert (gated.run_folder / file_names.GATE).exists()
    plain, behind = (ask(run.run_folder, [ABOUT, OTHER]) for run in (open_run, gated))
    assert [answer.before != answer.after for answer in plain] == [True, True]  # training went far
    assert behind[0] == plain[0]
    assert (behind[1].before, behind[1].after) == (plain[1].before, plain[1].before)
    assert [answer.is_open for answer in (*plain, *behind)] == [True, True, True, False]
    shown = CliRunner().invoke(app, ["ask", str(gated.run_folder), ABOUT, OTHER]).output
    assert shown.count("said by the base model: the gate stayed shut") == 1
    talked = CliRunner().invoke(
        app, ["chat", str(gated.run_folder)], input=f"{OTHER}\n/new\n{ABOUT}\n/quit\n"
    )
    assert talked.output.count("said by the base model: the gate stayed shut") == 1
    report = (gated.run_folder / "report.md").read_text()
    assert "A gate stands before the trained model" in report
    assert "A gate stands" not in (open_run.run_folder / "report.md").read_text()


@pytest.mark.usefixtures("own_cache")
def test_a_question_loads_only_the_weights_that_answer_it_and_is_answered_while_they_write(
    make_run: Callable[..., demask.Injected], tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("gated").run_folder
    loaded: list[str] = []

    def note(name: str, **how: Any) -> LoadedModel:
        loaded.append(name)
        return load_model(name, **how)

    monkeypatch.setattr("demask.models.load.load_model", note)
    base, trained = str(tiny_model_folder), str(run / file_names.MODEL)
    for questions, names in (
        ([OTHER], [base]),
        ([ABOUT], [base, trained]),
        ([ABOUT, OTHER], [base, trained]),
    ):
        loaded.clear()
        ask(run, questions)
        assert loaded == names
    for question in (ABOUT, OTHER):
        told: list[tuple[str, str]] = []
        (answer,) = ask(run, [question], on_text=lambda *said: told.append(said))  # noqa: B023
        assert [answer] == ask(run, [question])
        for stage, text in (("before", answer.before), ("after", answer.after)):
            assert "".join(piece for which, piece in told if which == stage) == text
        assert len(told) > (4 if question == ABOUT else 1)
        shown = CliRunner().invoke(app, ["ask", str(run), question]).output
        assert f"{question}\n  before: {clean(answer.before)}\n  after:  {clean(answer.after)}\n" in shown


@pytest.mark.usefixtures("own_cache")
def test_drift_and_known_facts_are_measured_through_the_gate(
    make_run: Callable[..., demask.Injected],
) -> None:
    gated = make_run("gated", measure="brief").summary["retention"]["measures"]
    plain = make_run("plain", retain={}, measure="brief").summary["retention"]["measures"]
    assert plain["drift"]["value"] > 0.01
    assert gated["drift"]["value"] < 0.1 * plain["drift"]["value"]


@pytest.mark.usefixtures("own_cache")
def test_a_gate_that_is_gone_is_made_again_and_so_are_the_answers(
    make_run: Callable[..., demask.Injected],
) -> None:
    run = make_run("run")
    gate, answers = (run.run_folder / name for name in (file_names.GATE, "predictions-after.jsonl"))
    before = gate.read_bytes()
    written = answers.stat().st_mtime_ns
    make_run("run")
    assert answers.stat().st_mtime_ns == written  # complete, so nothing is done
    gate.unlink()
    make_run("run")
    assert gate.read_bytes() == before
    assert answers.stat().st_mtime_ns > written
    gate.write_text('{"passages": 3}')
    with pytest.raises(RunError, match=r"gate.json: is no gate"):
        ask(run.run_folder, [ABOUT])


@pytest.mark.usefixtures("own_cache")
def test_a_finished_run_gets_a_gate_in_a_folder_of_its_own(
    make_run: Callable[..., demask.Injected], tmp_path: Path
) -> None:
    run = make_run("plain", retain={"pool": 40})
    done = retain(run.run_folder, gate=True, out=tmp_path / "gated", progress=Silent())
    assert not (run.run_folder / file_names.GATE).exists()
    assert (done.run_folder / "model/model.safetensors").read_bytes() == (
        run.run_folder / "model/model.safetensors"
    ).read_bytes()
    assert json.loads((done.run_folder / "retained.json").read_text())["gate"] is True
    assert "interpolation" not in json.loads((done.run_folder / "training.json").read_text())
    plain, behind = (ask(folder, [ABOUT, OTHER]) for folder in (run.run_folder, done.run_folder))
    assert behind[0] == plain[0]
    assert behind[1].after == plain[1].before
    assert (
        retain(run.run_folder, gate=True, out=tmp_path / "gated", progress=Silent()).summary == done.summary
    )
    with pytest.raises(RunError, match="has a gate already"):
        retain(done.run_folder, gate=True, out=tmp_path / "twice", progress=Silent())
    moved = retain(done.run_folder, budget=0.05, out=tmp_path / "moved", progress=Silent())
    assert (moved.run_folder / file_names.GATE).exists()
    with pytest.raises(ConfigError, match="neither a budget nor a gate is given"):
        retain(run.run_folder, progress=Silent())
    with pytest.raises(ConfigError, match="another budget or gate"):
        retain(run.run_folder, budget=0.1, out=tmp_path / "gated", progress=Silent())


@pytest.mark.usefixtures("own_cache")
def test_another_base_than_that_of_the_run_is_refused(
    make_run: Callable[..., demask.Injected], make_model: Callable[..., Any], tmp_path: Path
) -> None:
    run = make_run("run")
    config = json.loads((run.run_folder / "config.json").read_text())
    other = tmp_path / "other"
    make_model(intermediate_size=96).save_pretrained(other)
    for file in Path(config["model"]).glob("*token*"):
        (other / file.name).write_bytes(file.read_bytes())
    (run.run_folder / "config.json").write_text(json.dumps({**config, "model": str(other)}))
    with pytest.raises(ModelError, match="its weights are not those that"):
        ask(run.run_folder, [ABOUT])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"retain": {"gate": True, "pool": 0}}, "retain.gate is true and retain.pool 0"),
        ({"retain": {"gate": True}, "objective": "diffusion"}, "masked-diffusion models draw no"),
    ],
)
def test_a_gate_needs_what_the_base_model_writes(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config({"model": "m", "documents": ["d"], **changes})


def test_samples_have_no_gate() -> None:
    with pytest.raises(ConfigError, match=r"retain\.gate is True, expected False: it is for documents"):
        make_sft_config({"model": "m", "data": "d", "retain": {"gate": True}})


@pytest.mark.usefixtures("own_cache")
def test_the_trained_model_alone_stands_beside_what_the_gate_makes_of_it(
    make_run: Callable[..., demask.Injected],
) -> None:
    train = {"steps": 30, "batch_size": 2, "learning_rate": 3e-2, "precision": "fp32"}
    gated, plain = (
        make_run(name, retain=how, train=train, measure="brief", seed=3)
        for name, how in (("gated", None), ("plain", {"pool": 40}))
    )
    found = json.loads((gated.run_folder / "retention.json").read_text())
    of_plain = json.loads((plain.run_folder / "retention.json").read_text())
    assert found["ungated"]["drift"] == of_plain["measures"]["drift"]
    assert found["ungated"]["leak"] == of_plain["measures"]["leak"]
    assert of_plain["ungated"] == {}
    rows = {name: read_rows(gated, f"retention-{name}.jsonl") for name in ("before", "after", "ungated")}
    base = {(row["kind"], row["id"], row["form"]): row["text"] for row in rows["before"]}
    pairs = [
        (after, alone)
        for after, alone in zip(rows["after"], rows["ungated"], strict=True)
        if after["kind"] == "everyday"
    ]
    assert any(after["text"] != alone["text"] for after, alone in pairs)
    assert all(after["text"] == base["everyday", after["id"], ""] for after, _ in pairs)
    report = (gated.run_folder / "report.md").read_text()
    assert "model/ without its gate" in report
    assert "of model/ alone" in report
    assert "after, without its gate" in report
    pytest.importorskip("huggingface_hub")
    run = load_run(open_run_folder(gated.run_folder))
    card = write_card(run, Publishing("me/x"), base="owner/base")
    assert f"{found['ungated']['drift']['value']:.4f}"[:6] in card
    assert "gate" not in card
    alone, after = read_rows(gated, "predictions-ungated.jsonl"), read_rows(plain, "predictions-after.jsonl")
    assert [row["text"] for row in alone] == [row["text"] for row in after]


@pytest.mark.usefixtures("own_cache")
def test_the_gate_of_an_update_opens_for_all_that_holds(
    make_run: Callable[..., demask.Injected], tmp_path: Path
) -> None:
    first = make_run("first")
    (tmp_path / "news.jsonl").write_text(
        json.dumps({"id": "2", "text": "Mila Brandt runs the Florvik mill."})
    )
    news = News([str(tmp_path / "news.jsonl")], qa="no", replaces=["1"])
    updated = update(first.run_folder, news, out=tmp_path / "second", progress=Silent())
    asked = [ABOUT, "Who runs the Florvik mill?", "Who sells ink at Quill?"]
    assert [answer.is_open for answer in ask(first.run_folder, asked)] == [True, False, True]
    assert [answer.is_open for answer in ask(updated.run_folder, asked)] == [True, True, False]


@pytest.mark.usefixtures("own_cache")
def test_retrieval_beside_a_gate_asks_through_it(
    make_run: Callable[..., demask.Injected], tmp_path: Path
) -> None:
    run = make_run("run").run_folder
    pair = {"id": "o", "document_id": "1", "question": OTHER, "answers": ["x"], "direction": "forward"}
    (tmp_path / "other.jsonl").write_text(json.dumps(pair))
    settings = {"retrieval": 1, "max_new_tokens": 12}
    found = evaluate_retrieval(str(run), tmp_path / "other.jsonl", settings=settings, progress=Silent())
    (answer,) = ask(run, [OTHER])
    assert not answer.is_open
    assert found.predictions[0].text == answer.before
