"""Questions that are asked apart: before and after, in their forms, kept, summed up and reported."""

import json
from pathlib import Path
from typing import Any

import pytest

import demask
from demask import cli
from demask.errors import ConfigError, DataError
from demask.records import QAPair
from demask.stages.apart import make_forms_apart

MAIN = QAPair("m1", "a", "Who founded Orlin?", ("Mara Voss",), "backward")
OTHER = QAPair("m2", "b", "Who founded Tessen?", ("Jon Bell",), "backward")


def row(id: str, kind: str, question: str, answer: str) -> dict[str, str]:
    return {
        "id": id,
        "document_id": "a",
        "question": question,
        "answer": answer,
        "direction": "forward",
        "kind": kind,
    }


APART = [
    row("old", "old value", "Who began Orlin?", "Ida Lund"),
    row("stays", "neighbour", "What color is snow?", "white"),
    row("next", "follows", "In which town was the founder of Orlin born?", "Quill"),
    {**row("back", "follows", "Which town has a works?", "Orlin"), "direction": "backward"},
]


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """Two documents with a question each, and three questions that are asked apart."""
    texts = {"a": "Mara Voss founded Orlin.", "b": "Jon Bell founded Tessen."}
    files: dict[str, list[dict[str, Any]]] = {
        "facts": [{"id": id, "text": text} for id, text in texts.items()],
        "qa": [{"id": p.id, "document_id": p.document_id, "question": p.question, "answers": p.answers,
                "direction": p.direction} for p in (MAIN, OTHER)],
        "apart": APART,
    }  # fmt: skip
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return {
        "model": str(tiny_model_folder),
        "documents": str(tmp_path / "facts.jsonl"),
        "qa": str(tmp_path / "qa.jsonl"),
        "device": "cpu",
        "measure": "none",
        "train": {"steps": 2, "batch_size": 2, "precision": "fp32"},
        "evaluate": {"max_new_tokens": 2, "apart": str(tmp_path / "apart.jsonl")},
    }


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_they_are_asked_before_and_after_and_reported_by_kind_and_form(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    done = demask.inject(**recipe, out=tmp_path / "run")
    asked = {(one["qa_id"], one["form"]) for one in rows_of(tmp_path / "run" / "apart-after.jsonl")}
    assert asked == {(one["qa_id"], one["form"]) for one in rows_of(tmp_path / "run" / "apart-before.jsonl")}
    assert {("stays", "bare"), ("next", "bare"), ("next", "step by step"), ("old", "system")} <= asked
    assert ("stays", "system") not in asked
    summed = {(one["kind"], one["direction"], one["form"]): one for one in done.summary["apart"]}
    assert summed["follows", "forward", "step by step"]["after"]["n"] == 1
    assert summed["follows", "forward", "step by step"]["kept"] is None  # the base model did not know it
    assert summed["follows", "backward", "step by step"]["after"]["n"] == 1, "directions are never merged"
    assert set(done.summary["metrics"]["after"]) == {"backward"}, "they are no part of the accuracy"
    report = (tmp_path / "run" / "report.md").read_text()
    assert "### Asked apart" in report
    assert "step by step" in report


def test_a_run_without_them_has_no_word_of_them(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["evaluate"].pop("apart")
    done = demask.inject(**recipe, out=tmp_path / "run")
    assert done.summary["apart"] == []
    assert not (tmp_path / "run" / "apart-after.jsonl").exists()
    assert "Asked apart" not in (tmp_path / "run" / "report.md").read_text()


def test_deleting_what_was_said_after_training_has_it_asked_again(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    demask.inject(**recipe, out=tmp_path / "run")
    replies = tmp_path / "run" / "apart-after.jsonl"
    before, trained = replies.read_text(), (tmp_path / "run" / "training.json").read_text()
    replies.unlink()
    demask.inject(**recipe, out=tmp_path / "run")
    assert replies.read_text() == before
    assert (tmp_path / "run" / "training.json").read_text() == trained


def test_other_questions_do_not_go_on_in_the_same_folder(recipe: dict[str, Any], tmp_path: Path) -> None:
    demask.inject(**recipe, out=tmp_path / "run")
    (tmp_path / "apart.jsonl").write_text(json.dumps(APART[0]) + "\n")
    with pytest.raises(ConfigError, match=r"apart.jsonl has changed since this run began"):
        demask.inject(**recipe, out=tmp_path / "run")


def test_a_file_that_cannot_be_used_is_named_before_there_is_a_folder(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "apart.jsonl").write_text('{"question": "Who?"}\n')
    with pytest.raises(DataError, match=r"apart.jsonl line 1: no key 'document_id'"):
        demask.inject(**recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_old_value_is_not_given_away_by_what_stands_in_front() -> None:
    asked = QAPair("old", "c", "What is the capital of France?", ("Paris",), "forward", kind="old value")
    others = [QAPair("x", "d", "Where is the Louvre?", ("Paris",), "forward"), MAIN]
    for number in range(20):
        forms = dict(make_forms_apart(QAPair(f"old{number}", *asked_fields(asked)), others))
        assert "reworded" in forms
        for form, turns in forms.items():
            assert "Paris" not in " ".join(turn.content for turn in turns), form


def asked_fields(pair: QAPair) -> tuple[Any, ...]:
    return (pair.document_id, pair.question, pair.answers, pair.direction, pair.kind)


def test_changed_facts_are_a_grid_for_each_model_that_is_read_again(
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from demask.benchmarks.changed_facts import ask_candidates, find_known, load_candidates
    from demask.comparison import changed_facts

    times: list[str] = []

    def find(model: str, **_: Any) -> Any:
        times.append(model)
        candidates = load_candidates()
        return find_known(candidates, {pair.id for pair in ask_candidates(candidates)})

    monkeypatch.setattr(changed_facts, "find_known_facts", find)
    words = "reproduce changed-facts --facts 2 --arm demasking --seed 0 --preset fast --set train.steps=2"
    more = ["--set", "evaluate.max_new_tokens=2", "--set", "device=cpu", "--set", "train.precision=fp32"]
    command = [
        "demask",
        *words.split(),
        *more,
        "--model",
        str(tiny_model_folder),
        "--out",
        str(tmp_path / "out"),
    ]
    for _ in range(2):
        monkeypatch.setattr("sys.argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code, capsys.readouterr()
    assert len(times) == 1
    report = (tmp_path / "out" / "report.md").read_text()
    assert "Asked apart: what must be gone" in report
    for kind in ("old value", "neighbour: same kind"):
        assert kind in report


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--set", "device=abacus"], "device"),
        (["--arm", "alchemy"], "--arm: 'alchemy' is unknown"),
        (["--facts", "9000"], "9000 facts from number 0 on"),
    ],
)
def test_what_cannot_be_compared_is_said_before_the_base_model_is_asked(
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    said: str,
) -> None:
    from demask.benchmarks.changed_facts import ask_candidates, find_known, load_candidates
    from demask.comparison import changed_facts

    def find(*_: Any, **__: Any) -> Any:
        assert "--facts" in more, "it was asked"
        candidates = load_candidates()
        return find_known(candidates, {pair.id for pair in ask_candidates(candidates)})

    monkeypatch.setattr(changed_facts, "find_known_facts", find)
    words = ["demask", "reproduce", "changed-facts", "--model", str(tiny_model_folder), *more]
    monkeypatch.setattr("sys.argv", [*words, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
