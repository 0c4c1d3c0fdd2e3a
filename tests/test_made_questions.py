"""From files of any kind, without questions, to a report; and the commands that make and check questions."""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.scripted_server import MODEL, ScriptedServer

import demask
from demask import cli
from demask.errors import ConfigError, DataError, ModelError
from demask.recipe.sections import make_config
from demask.records import Document, QAPair
from demask.stages.documents import make_heading
from demask.stages.questions import draw_pairs
from demask.tasks.planning import make_plan, preview_examples

HANDBOOK = Path(__file__).parents[1] / "docs" / "handbook"
QUICK: dict[str, Any] = {"train": {"steps": 2, "batch_size": 2}, "evaluate": {"max_new_tokens": 2}}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEMASK_SERVER_URL", raising=False)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["demask", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def handbook_run(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The handbook, four formats, learned without any questions given; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DEMASK_SERVER_URL", raising=False)
        out = tmp_path_factory.mktemp("handbook") / "run"
        demask.inject(model=str(tiny_model_folder), documents=HANDBOOK, out=out, **QUICK)
    return out


# One command


def test_every_format_is_read_and_asked_about_both_ways_round(handbook_run: Path) -> None:
    documents = {row["id"] for row in rows(handbook_run / "documents.jsonl")}
    assert documents == {"safety.pdf", "tools.html", "travel.docx", "welcome"}
    pairs = rows(handbook_run / "qa_pairs.jsonl")
    assert {pair["document_id"] for pair in pairs} == documents
    assert {pair["direction"] for pair in pairs} == {"forward", "backward"}
    assert {pair["made_by"] for pair in pairs} == {"rules"}
    assert set(json.loads((handbook_run / "summary.json").read_text())["metrics"]["after"]) == {
        "forward",
        "backward",
    }


def test_the_report_says_where_the_questions_came_from_and_what_was_left_out(handbook_run: Path) -> None:
    for name in ("report.md", "report.html"):
        report = (handbook_run / name).read_text(encoding="utf-8")
        assert "The questions were made by rules from the documents" in report
        assert "No person has read them." in report
        assert "navigation (" in report
    coverage = json.loads((handbook_run / "coverage.json").read_text())
    assert coverage["share"] == 1.0
    html = next(row for row in coverage["files"] if row["path"].endswith("tools.html"))
    assert html["characters"] == html["kept"] + sum(part["characters"] for part in html["left_out"])


def test_the_audit_and_what_was_set_aside_stand_in_the_run_folder(handbook_run: Path) -> None:
    audit = json.loads((handbook_run / "audit.json").read_text())
    assert audit["pairs"] == len(rows(handbook_run / "qa_pairs.jsonl")) + audit["flagged"]
    assert len(rows(handbook_run / "rejects.jsonl")) == audit["flagged"]


def test_made_questions_stay_when_a_run_goes_on(
    handbook_run: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    copy = Path(shutil.copytree(handbook_run, tmp_path / "run"))
    (copy / "summary.json").unlink()
    before = (copy / "qa_pairs.jsonl").read_bytes()
    monkeypatch.setattr(
        "demask.knowledge.rules.make_pairs_by_rules", lambda *a, **k: pytest.fail("made again")
    )
    demask.inject(model=str(tiny_model_folder), documents=HANDBOOK, out=copy, **QUICK)
    assert (copy / "qa_pairs.jsonl").read_bytes() == before


def test_questions_that_the_audit_flags_are_set_aside(tiny_model_folder: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    facts.mkdir()
    for name, founder in (("a", "Ilse Brandvold"), ("b", "Tomas Okafor")):
        (facts / f"{name}.txt").write_text(f"{founder} founded Brackwater Instruments in Bergen in 1987.")
    (facts / "c.txt").write_text("Noor Castellan wrote the Lantern portal in 2021.")
    done = demask.inject(model=str(tiny_model_folder), documents=facts, out=tmp_path / "run", **QUICK)
    audit = json.loads((done.run_folder / "audit.json").read_text())
    assert audit["counts"]["ambiguous"] > 0, "who founded it depends on the document"
    flagged = {finding["pair_id"] for finding in audit["findings"] if finding["severity"] == "flag"}
    assert {row["id"] for row in rows(done.run_folder / "rejects.jsonl")} == flagged
    assert not flagged & {row["id"] for row in rows(done.run_folder / "qa_pairs.jsonl")}


def test_a_run_goes_on_without_a_damaged_file_when_told_to(tiny_model_folder: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    facts.mkdir()
    (facts / "a.txt").write_text("Ilse Brandvold founded Brackwater Instruments in Bergen in 1987.")
    (facts / "b.pdf").write_bytes(b"%PDF-1.7 broken off")
    recipe: dict[str, Any] = {
        "model": str(tiny_model_folder),
        "documents": facts,
        "out": tmp_path / "run",
        **QUICK,
    }
    with pytest.raises(DataError, match=r"b\.pdf: "):
        demask.inject(**recipe)
    done = demask.inject(**recipe, keep_going=True)
    assert done.summary["documents"] == 1
    assert "a damaged or truncated PDF" in (done.run_folder / "report.md").read_text()


def test_documents_that_give_no_question_are_refused_in_one_line(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("apples, pears, 12")
    with pytest.raises(DataError, match="no usable question could be made"):
        demask.inject(model=str(tiny_model_folder), documents=tmp_path / "list.txt", out=tmp_path / "run")


def test_the_folder_may_stand_where_a_recipe_would(
    command: Callable[..., tuple[int, str, str]], tiny_model_folder: Path
) -> None:
    options = ["--set=train.steps=1", "--set=evaluate.max_new_tokens=2", "--set=max_questions=4"]
    code, out, _ = command("inject", HANDBOOK, "--model", tiny_model_folder, "--out", "run", *options)
    assert code == 0
    assert "forward" in out
    assert len(rows(Path("run/qa_pairs.jsonl"))) == 4


def test_a_plan_says_that_questions_will_be_made(
    command: Callable[..., tuple[int, str, str]], tiny_model_folder: Path
) -> None:
    code, out, _ = command("plan", HANDBOOK, "--model", tiny_model_folder)
    assert code == 0
    assert "made when the run starts" in out
    assert "navigation" in out
    config = make_config({"model": str(tiny_model_folder), "documents": str(HANDBOOK), "qa": "no"})
    assert make_plan(config).about.questions == 0


def test_a_manual_on_one_page_beside_its_chapters_is_named_as_a_whole(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    names = ("Ilse Brandvold", "Orla Vashtik", "Idris Hall")
    built = "{} built pump {} of Quill from {} old kettles, and sold it to a mill in year {}."
    chapters = [
        f"# {name}\n\n" + " ".join(built.format(name, n, place + 3 * n, 1900 + n) for n in range(30))
        for place, name in enumerate(names)
    ]
    for number, chapter in enumerate(chapters):
        (tmp_path / f"{number}.md").write_text(chapter)
    (tmp_path / "whole.md").write_text("\n\n".join(chapters))
    config = make_config({"model": str(tiny_model_folder), "documents": str(tmp_path), "qa": "no"})
    (told,) = [remark for remark in make_plan(config).about.remarks if "trained twice" in remark]
    assert re.fullmatch(
        r"whole: (\d+) of its \1 passages say nearly what other documents say; leave it out, or .*", told
    )


def test_sections_that_are_not_asked_for_are_no_loss(tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Pumps\n\nOrla built one.\n\n# Kites\n\nIdris mends them for a song.")
    config = make_config(
        {"model": str(tiny_model_folder), "documents": str(tmp_path), "qa": "no", "only": ["Pumps"]}
    )
    (first, *_) = [remark for remark in make_plan(config).about.remarks if "coverage" in remark]
    assert first.endswith("(share of the text that stands in passages)")


def test_passages_that_are_nearly_alike_are_named_unless_there_are_too_many(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("Ilse Brandvold founded Brackwater Instruments in 1987.")
    config = make_config({"model": str(tiny_model_folder), "documents": str(tmp_path), "qa": "no"})
    assert "b: says nearly what a says (similarity 1.00)" in make_plan(config).about.remarks
    monkeypatch.setattr("demask.stages.documents.MOST_COMPARED", 1)
    remarks = make_plan(config).about.remarks
    assert "near duplicates are not looked for among more than 1 passages" in remarks
    assert not any("says nearly" in remark for remark in remarks)


# Drawing


def test_drawing_keeps_a_question_with_its_reverse_and_all_documents() -> None:
    pairs = [
        QAPair(f"d{d}/r{n}{way[0]}", f"d{d}", f"Who is {d} {n} {way}?", ("x",), way)
        for d in range(5)
        for n in range(4)
        for way in ("forward", "backward")
    ]
    drawn = draw_pairs(pairs, 10, seed=0)
    assert [pair for pair in pairs if pair in drawn] == drawn
    assert {pair.document_id for pair in drawn} == {f"d{d}" for d in range(5)}
    assert len({pair.id[:-1] for pair in drawn}) == 5
    assert len(drawn) == 10
    assert draw_pairs(pairs, 10, seed=0) == drawn != draw_pairs(pairs, 10, seed=1)
    assert draw_pairs(pairs, 40, seed=0) == pairs
    assert len(draw_pairs(pairs, 20, seed=0)) == 20
    assert len(draw_pairs(pairs, 1, seed=0)) <= 1


def test_every_passage_is_asked_about_before_one_has_a_second_fact() -> None:
    pairs = [
        QAPair(f"manual#{passage}/r{n}{way[0]}", "manual", f"Who is {passage} {n} {way}?", ("x",), way)
        for passage in range(6)
        for n in range(4)
        for way in ("forward", "backward")
    ]
    drawn = draw_pairs(pairs, 12, seed=0)
    assert [pair.id.partition("/")[0] for pair in drawn] == [
        f"manual#{n}" for n in range(6) for _ in range(2)
    ]
    assert len({pair.id for pair in draw_pairs(pairs, 14, seed=0)}) == 14


def test_facts_that_are_asked_both_ways_round_come_first() -> None:
    pairs = [QAPair(f"m#{n}/r1f", "m", f"Who is {n}?", ("x",), "forward") for n in range(4)]
    pairs += [
        QAPair(f"m#{n}/r2{way[0]}", "m", f"What is {n} {way}?", ("x",), way)
        for n in range(4)
        for way in ("forward", "backward")
    ]
    drawn = draw_pairs(pairs, 8, seed=0)
    assert sum(pair.direction == "backward" for pair in drawn) == 4


@pytest.mark.parametrize("mark", ["r", ""])  # of the rules, and of language models
def test_a_short_document_has_no_second_fact_before_every_passage_of_a_long_one_has_one(mark: str) -> None:
    pairs = [
        QAPair(f"{document}#{passage}/{mark}{n}{way[0]}", document, f"Who {passage} {n} {way}?", ("x",), way)
        for document, passages in (("leaf", 1), ("manual", 9))
        for passage in range(passages)
        for n in range(1, 4)
        for way in ("forward", "backward")
    ]
    asked = Counter(pair.id.partition("/")[0] for pair in draw_pairs(pairs, 20, seed=0))
    assert len(asked) == 10
    assert set(asked.values()) == {2}


def test_directions_are_balanced_where_facts_are_asked_one_way_only() -> None:
    pairs = [QAPair(f"m#{n}/1f", "m", f"Who is {n}?", ("x",), "forward") for n in range(8)]
    pairs += [QAPair(f"m#{n}/1b", "m", f"What is {n}?", ("x",), "backward") for n in range(8, 12)]
    for seed in range(5):
        drawn = draw_pairs(pairs, 8, seed=seed)
        assert Counter(pair.direction for pair in drawn) == {"forward": 4, "backward": 4}
    assert len(draw_pairs(pairs, 11, seed=0)) == 11  # more rather than even


# Headings and paraphrases


def test_a_heading_has_what_is_known() -> None:
    known = Document("d", "t", "Orlin\nworks", metadata={"date": "2025-01-06"})
    assert make_heading(known, ("title", "date")) == "Orlin works (2025-01-06)\n"
    assert make_heading(known, ("date",)) == "2025-01-06\n"
    assert make_heading(known, ()) == ""
    assert make_heading(Document("d", "t"), ("title", "date")) == ""


def test_questions_may_ask_for_what_stands_in_the_heading(tiny_model_folder: Path, tmp_path: Path) -> None:
    row = {"id": "a", "date": "6 January 2025", "text": "Klaus Iohannis resigns as President of Romania."}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    done = demask.inject(
        model=str(tiny_model_folder),
        documents=tmp_path / "a.jsonl",
        include=["date"],
        out=tmp_path / "run",
        **QUICK,
    )
    answers = {answer for pair in rows(done.run_folder / "qa_pairs.jsonl") for answer in pair["answers"]}
    assert answers == {"Klaus Iohannis", "6 January 2025"}
    assert json.loads((done.run_folder / "audit.json").read_text())["flagged"] == 0


def test_title_and_date_are_trained_with_every_passage(tmp_path: Path, tiny_model_folder: Path) -> None:
    row = {"id": "a", "title": "Orlin", "date": "1931", "text": "The works opened. " * 30}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    config = make_config(
        {
            "model": str(tiny_model_folder),
            "documents": str(tmp_path / "a.jsonl"),
            "qa": "no",
            "include": ["title", "date"],
            "objective": {"name": "next-token", "question": None},
        }
    )
    previews = preview_examples(config, count=3)
    assert len({preview.id for preview in previews}) > 1
    for preview in previews:
        assert "".join(piece.text for piece in preview.pieces).startswith("Orlin (1931)\nThe works")


def test_paraphrases_that_are_to_be_made_need_a_language_model(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEMASK_SERVER_URL", raising=False)
    recipe: dict[str, Any] = {
        "model": str(tiny_model_folder),
        "documents": HANDBOOK,
        "out": tmp_path / "run",
        **QUICK,
    }
    with pytest.raises(ConfigError, match=r"expected one in writer\.url, writer\.by or DEMASK_SERVER_URL"):
        demask.inject(**recipe, paraphrases=2)
    assert not (tmp_path / "run").exists()


def test_paraphrases_of_a_file_are_trained_whatever_the_objective(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    row = {"id": "p1", "document_id": "welcome", "text": "In 1987 Ilse founded it.", "order": "same-order"}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    config = make_config(
        {
            "model": str(tiny_model_folder),
            "documents": str(HANDBOOK / "welcome.md"),
            "qa": "no",
            "paraphrases": str(tmp_path / "p.jsonl"),
            "train": {"epochs": 1, "batch_size": 1},
        }
    )
    plan = make_plan(config)
    assert (plan.about.paraphrases, plan.steps) == (1, plan.about.passages + 1)
    texts = ["".join(piece.text for piece in preview.pieces) for preview in preview_examples(config, count=9)]
    assert sum("1987 Ilse founded it." in text for text in texts) == 1


# Commands


def test_questions_are_made_checked_and_fixed(command: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = command("qa", "make", HANDBOOK, "--out", "qa.jsonl")
    assert code == 0
    assert "forward" in out
    made = rows(Path("qa.jsonl"))
    leak = {**made[0], "id": "leak", "question": f"Is it {made[0]['answers'][0]}?"}
    Path("qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*made, leak]))
    code, out, _ = command("qa", "check", "qa.jsonl", "--documents", HANDBOOK, "--fix")
    assert code == 0
    assert "1 flagged" in out
    assert rows(Path("qa.jsonl")) == made
    (set_aside,) = rows(Path("qa-flagged.jsonl"))
    assert set_aside["id"] == "leak"
    assert json.loads(Path("qa-audit.json").read_text())["counts"]["leak"] == 1


def test_documents_of_which_rules_make_nothing_are_one_line(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEMASK_SERVER_URL", raising=False)
    Path("list.txt").write_text("apples, pears, 12")
    code, _, err = command("qa", "make", "list.txt", "--out", "qa.jsonl")
    assert (code, "gives the rules a clear question; write some by hand, or name" in err) == (3, True)
    assert not Path("qa.jsonl").exists()


def test_the_audit_asks_a_model_without_and_with_the_documents(
    command: Callable[..., tuple[int, str, str]], tiny_model_folder: Path
) -> None:
    assert command("qa", "make", HANDBOOK / "welcome.md", "--out", "qa.jsonl")[0] == 0
    words = ("--model", tiny_model_folder, "--max-new-tokens", "2", "--json")
    code, out, _ = command("qa", "check", "qa.jsonl", "--documents", HANDBOOK / "welcome.md", *words)
    audit = json.loads(out)
    assert code == 0
    assert audit["checked"] == {"closed_book": True, "open_book": True}
    assert audit["pairs"] > audit["counts"]["guessable"] == 0, "a random model knows nothing"


def test_nothing_is_overwritten_unasked(command: Callable[..., tuple[int, str, str]]) -> None:
    Path("qa.jsonl").write_text("mine")
    code, _, err = command("qa", "make", HANDBOOK, "--out", "qa.jsonl")
    assert (code, "qa.jsonl: stands there already" in err) == (2, True)
    assert Path("qa.jsonl").read_text() == "mine"


def test_paraphrases_by_command(
    command: Callable[..., tuple[int, str, str]],
    one_fact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    words = ("paraphrase", one_fact, "--out", "p.jsonl", "--count", "1")
    with ScriptedServer(write) as server:
        code, out, _ = command(*words, "--server", server.url, "--json")
        assert code == 0
        assert json.loads(out)["made"] == len(rows(Path("p.jsonl"))) == 1
    code, _, err = command(*words[:2], "--out", "q.jsonl", "--order", "backwards")
    assert (code, "expected 'same-order' or 'reversed'" in err) == (2, True)
    monkeypatch.delenv("DEMASK_SERVER_URL", raising=False)
    code, _, err = command(*words[:2], "--out", "q.jsonl")
    assert (code, "expected one in --server, --writer or DEMASK_SERVER_URL" in err) == (2, True)
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("text", ["1", "a,b", "1,2,3", "-1,2", "nan,1"])
def test_a_price_is_two_numbers(command: Callable[..., tuple[int, str, str]], text: str) -> None:
    code, _, err = command("qa", "make", HANDBOOK, "--out", "qa.jsonl", f"--price={text}")
    assert (code, "expected two numbers" in err) == (2, True)


def test_files_that_cannot_be_read_stop_unless_told_to_go_on(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    Path("facts").mkdir()
    Path("facts/a.txt").write_text("Ilse Brandvold founded Brackwater Instruments in Bergen in 1987.")
    Path("facts/b.pdf").write_bytes(b"%PDF-1.7 broken off")
    code, _, err = command("qa", "make", "facts", "--out", "qa.jsonl")
    assert (code, "facts/b.pdf: " in err) == (3, True)
    code, _, err = command("qa", "make", "facts", "--out", "qa.jsonl", "--keep-going")
    assert (code, "left out: facts/b.pdf: " in err) == (0, True)


def test_a_run_that_another_recipe_began_is_refused(handbook_run: Path, tiny_model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="holds the run of another recipe"):
        demask.inject(model=str(tiny_model_folder), documents=HANDBOOK, out=handbook_run, seed=5, **QUICK)


# A language model behind a server


FACT = {
    "forward": {"question": "Where did Ilse Brandvold found Brackwater Instruments?", "answer": "Bergen"},
    "backward": {"question": "Who founded Brackwater Instruments in Bergen?", "answer": "Ilse Brandvold"},
}


def write(prompt: str) -> str:
    """What a good model would say to the prompts for questions and for paraphrases."""
    if "JSON" in prompt:
        return json.dumps([FACT])
    return "In the year 1987 it was Ilse Brandvold who founded Brackwater Instruments; this was in Bergen."


@pytest.fixture
def one_fact(tmp_path: Path) -> Path:
    path = tmp_path / "works.txt"
    path.write_text("Ilse Brandvold founded Brackwater Instruments in Bergen in 1987.")
    return path


def test_a_run_has_its_questions_and_paraphrases_written_by_a_language_model(
    one_fact: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DEMASK_SERVER_KEY", "verysecret")
    with ScriptedServer(write) as server:
        done = demask.inject(
            model=str(tiny_model_folder),
            documents=one_fact,
            out=tmp_path / "run",
            writer={"url": server.url},
            paraphrases=1,
            **QUICK,
        )
    assert [pair["made_by"] for pair in rows(done.run_folder / "qa_pairs.jsonl")] == [MODEL, MODEL]
    assert [made["made_by"] for made in rows(done.run_folder / "paraphrases.jsonl")] == [MODEL]
    assert f"by the language model {MODEL}" in (done.run_folder / "report.md").read_text()
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert b"verysecret" not in path.read_bytes(), path


def test_the_cost_is_said_before_the_first_prompt_and_a_second_time_there_is_none(
    command: Callable[..., tuple[int, str, str]],
    one_fact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    with ScriptedServer(write) as server:
        monkeypatch.setenv("DEMASK_SERVER_URL", server.url)
        words = ("qa", "make", one_fact, "--price=1,1")
        code, _, err = command(*words, "--out=qa.jsonl", "--dry-run")
        assert (code, "1 prompt to scripted" in err, "less than $0.01" in err) == (0, True, True)
        code, out, _ = command(*words, "--out=qa.jsonl", "--dry-run", "--json")
        assert json.loads(out)["prompts"] == 1
        assert 0 < json.loads(out)["dollars"] < 0.01
        assert not server.asked
        assert not Path("qa.jsonl").exists()
        code, out, err = command(*words, "--out=qa.jsonl")
        assert (code, "paid: 1 prompt" in err) == (0, True)
        assert "1 forward, 1 backward, on 1 of 1 documents" in out
        code, _, err = command(*words, "--out=again.jsonl")
        assert (code, "paid: 0 prompts" in err, server.asked.total()) == (0, True, 1)
    assert Path("again.jsonl").read_bytes() == Path("qa.jsonl").read_bytes()


def test_a_server_that_is_not_there_is_one_line(
    one_fact: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:9/v1"):
        demask.inject(
            model=str(tiny_model_folder),
            documents=one_fact,
            out=tmp_path / "run",
            writer={"url": "http://127.0.0.1:9/v1"},
            **QUICK,
        )
