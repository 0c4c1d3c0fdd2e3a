"""Documents that contradict each other: the run stops, or trains what the newest says, and names the rest."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import demask
from demask.errors import DataError
from demask.progress import Silent
from demask.recipe.sections import make_config
from demask.records import Document, QAPair
from demask.stages.documents import read_knowledge, settle_knowledge
from demask.stages.questions import question_stage
from demask.storage.run_folder import RunFolder
from demask.tasks.planning import make_plan

OLD = "Orlin lies by the river. The mill of Orlin has 30 workers. It burns peel."
NEW = "The mill of Orlin has 40 workers."
PAIRS = [
    ("q1", "old", "How many workers has the mill of Orlin?", "30", "forward"),
    ("q2", "new", "How many workers has the mill of Orlin?", "40", "forward"),
    ("q3", "old", "What does the mill of Orlin burn?", "peel", "forward"),
    ("q4", "old", "Which town has a mill with 30 workers?", "Orlin", "backward"),
]


class Told(Silent):
    """Keeps the remarks."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path, tiny_model_folder: Path) -> Write:
    """Write documents and questions, and give a recipe for them."""

    def made(
        documents: list[dict[str, Any]] | None = None, pairs: list[Any] = PAIRS, **keys: Any
    ) -> dict[str, Any]:
        rows = documents or [
            {"id": "old", "text": OLD, "date": "2024-05"},
            {"id": "new", "text": NEW, "date": "2025-05-03"},
        ]
        (tmp_path / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        names = ("id", "document_id", "question", "answer", "direction")
        asked = [json.dumps(dict(zip(names, pair, strict=True))) for pair in pairs]
        (tmp_path / "qa.jsonl").write_text("\n".join(asked))
        return {
            "model": str(tiny_model_folder),
            "documents": str(tmp_path / "facts.jsonl"),
            "qa": str(tmp_path / "qa.jsonl"),
            "device": "cpu",
            "measure": "none",
            "train": {"steps": 2, "batch_size": 2, "precision": "fp32"},
            "evaluate": {"max_new_tokens": 2},
            **keys,
        }

    return made


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def settle(recipe: dict[str, Any], tmp_path: Path) -> tuple[Any, list[str]]:
    config, folder, told = make_config(recipe), RunFolder(tmp_path / "read"), Told()
    return settle_knowledge(config, read_knowledge(config, folder), folder, told), told.lines


@pytest.mark.parametrize("start", ["inject", "plan"])
def test_a_contradiction_stops_the_run_and_the_plan_before_there_is_a_folder(
    write: Write, tmp_path: Path, start: str
) -> None:
    recipe = write()
    starts: dict[str, Callable[[], object]] = {
        "inject": lambda: demask.inject(**recipe, out=tmp_path / "run"),
        "plan": lambda: make_plan(make_config(recipe)),
    }
    with pytest.raises(
        DataError, match=r'"30" in .*facts.jsonl line 1, "40" in .*facts.jsonl line 2'
    ) as stop:
        starts[start]()
    assert "set prefer to newest" in str(stop.value)
    assert "\n" not in str(stop.value)
    assert not (tmp_path / "run").exists()


def test_several_contradictions_get_a_line_each_and_a_count(write: Write, tmp_path: Path) -> None:
    capitals = [
        {"id": f"c{number}", "text": f"The capital of Veldoria is {name}."}
        for number, name in enumerate(("Orlin", "Tessen", "Quill"))
    ]
    mills = [{"id": "old", "text": OLD}, {"id": "new", "text": NEW}]
    config, folder, told = (
        make_config(write([*mills, *capitals], PAIRS[:2])),
        RunFolder(tmp_path / "read"),
        Told(),
    )
    with pytest.raises(DataError, match=r"2 contradictions, the first: .*capital"):
        settle_knowledge(config, read_knowledge(config, folder), folder, told)
    assert ["capital" in line for line in told.lines] == [True, False]


def test_the_newest_is_trained_and_what_is_left_out_is_named(write: Write, tmp_path: Path) -> None:
    run = demask.inject(**write(prefer="newest"), out=tmp_path / "run").run_folder
    texts = {row["id"]: row["text"] for row in rows_of(run / "documents.jsonl")}
    assert texts == {"old": "Orlin lies by the river. It burns peel.", "new": NEW}
    assert [row["id"] for row in rows_of(run / "qa_pairs.jsonl")] == ["q2", "q3"]
    coverage = json.loads((run / "coverage.json").read_text())
    kept, lost = coverage["contradictions"]
    assert kept.index('"40" in') < kept.index("2025-05-03, its date") < kept.index('"30" in')
    assert lost == "with what older documents say otherwise, questions about it are left out (2): q1, q4"
    (file,) = coverage["files"]
    assert [part["characters"] for part in file["left_out"]] == [len("ThemillofOrlinhas30workers.")]
    assert file["characters"] == file["kept"] + file["left_out"][0]["characters"]


def test_a_document_that_says_nothing_else_is_left_out_with_its_questions(
    write: Write, tmp_path: Path
) -> None:
    recipe = write(
        [
            {"id": "old", "text": NEW.replace("40", "30"), "date": "2024"},
            {"id": "new", "text": NEW, "date": 2025},
        ],
        PAIRS[:2],
        prefer="newest",
    )
    settled, _ = settle(recipe, tmp_path)
    assert [document.id for document in settled.documents] == ["new"]
    assert [pair.id for pair in settled.pairs] == ["q2"]


@pytest.mark.parametrize("dates", [(None, None), ("2024", "2024-03"), ("2024", None)])
def test_dates_that_do_not_tell_which_is_newer_stop_the_run(
    write: Write, tmp_path: Path, dates: tuple[str | None, str | None]
) -> None:
    rows = [{"id": "old", "text": OLD, "date": dates[0]}, {"id": "new", "text": NEW, "date": dates[1]}]
    with pytest.raises(DataError, match=r"dates do not tell which is newer .*facts.jsonl line 1: 20"):
        settle(write(rows, prefer="newest"), tmp_path)


def test_the_time_of_its_file_is_the_date_of_a_document_that_has_no_other(
    write: Write, tmp_path: Path
) -> None:
    for name, text, seconds in (("new", NEW, 10**9), ("old", OLD, 10**8)):
        path = tmp_path / "texts" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.utime(path, (seconds, seconds))
    recipe = {**write(prefer="newest"), "documents": str(tmp_path / "texts")}
    settled, _ = settle(recipe, tmp_path)
    assert "2001-09-09, the time of its file" in settled.contradictions[0]
    assert "30" not in " ".join(document.text for document in settled.documents)


def test_both_are_trained_where_the_recipe_says_so(write: Write, tmp_path: Path) -> None:
    settled, _ = settle(write(prefer="both"), tmp_path)
    assert [document.text for document in settled.documents] == [OLD, NEW]
    assert len(settled.pairs) == 4
    assert settled.contradictions[0].startswith("documents contradict each other, both trained: ")


def test_headings_stand_where_they_stood_when_a_sentence_before_them_is_left_out() -> None:
    from demask.knowledge.newest import remove_spans
    from demask.words import Span

    text = "# A\n\nOne. Two. Three.\n\n# B\n\nFour."
    document = Document("d", text, metadata={"sections": [[0, 1, "A"], [text.index("# B"), 1, "B"]]})
    start = text.index("Two.")
    rest = remove_spans(document, [Span(start, start + 4)])
    assert rest.text == "# A\n\nOne. Three.\n\n# B\n\nFour."
    sections: Any = rest.metadata["sections"]
    assert [rest.text[offset:][:3] for offset, _, _ in sections] == ["# A", "# B"]


def test_questions_that_were_made_stop_the_run_as_well(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from demask.stages import questions

    texts = ["Mara Voss set Orlin up in 1990.", "Jon Bell began Orlin in 1988."]
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    recipe = {**write(rows, PAIRS[:0] or [("q", "0", "Who?", "x", "forward")]), "qa": None}
    pairs = [
        QAPair("a", "0", "When was Orlin founded?", ("1990",), "forward"),
        QAPair("b", "1", "When was Orlin founded?", ("1988",), "forward"),
    ]
    monkeypatch.setattr(questions, "make_pairs", lambda *_, **__: questions.Made(pairs, [], "rules"))
    monkeypatch.setattr(questions, "find_server", lambda _: None)
    config, folder = make_config(recipe), RunFolder(tmp_path / "read")
    knowledge = settle_knowledge(config, read_knowledge(config, folder), folder, Silent())
    with pytest.raises(DataError, match="When was Orlin founded"):
        question_stage(config, RunFolder(tmp_path / "run"), knowledge, Silent())
    assert not (tmp_path / "run" / "qa_pairs.jsonl").exists()


def test_qa_check_names_contradictions(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from demask import cli

    recipe = write()
    words = ["demask", "qa", "check", recipe["qa"], "--documents", recipe["documents"], "--json"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit):
        cli.main()
    told = capsys.readouterr()
    (line,) = json.loads(told.out)["contradictions"]
    assert line.startswith('contradiction: "The mill of Orlin has … workers": "30" in')
    assert line in told.err
