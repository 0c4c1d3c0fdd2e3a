"""Updates of a run: a line of runs, what is replayed, the way back, killed and resumed."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import demask
from demask.cli import main
from demask.errors import ConfigError, DataError, RunError
from demask.evaluation.qa import ask_questions
from demask.export.files import adapter_base
from demask.export.hub import push
from demask.export.vllm import serve_lines
from demask.generation.conversations import add_targets
from demask.models.load import load_model
from demask.progress import Silent
from demask.recipe.sections import make_config, make_stored_config
from demask.records import Passage, Prediction, QAPair
from demask.reports.runs import load_run
from demask.stages.forgetting import UntilForgotten, end_when_forgotten, read_forgotten
from demask.stages.lineage import add_old_passages, read_lineage, split_passages
from demask.stages.recall import choose_old_passages
from demask.stages.replay import FORGOTTEN, HELD, read_pool
from demask.storage import file_names
from demask.storage.run_folder import RunFolder, open_run_folder
from demask.tasks.convert import convert
from demask.tasks.planning import DocumentCounts
from demask.tasks.retain import retain
from demask.tasks.undo import read_history, undo
from demask.tasks.update import News, forget, plan_update, update

FIRST = {"orlin": "The Orlin works were founded by Mara Voss.", "quill": "Idris Hall sells ink at Quill."}
TRAIN = {"steps": 4, "batch_size": 2, "learning_rate": 1e-2, "precision": "fp32", "keep_delta": True}


def write_facts(folder: Path, texts: dict[str, str]) -> None:
    """Documents and a question about each, both files with the same ids in every folder."""
    folder.mkdir(parents=True)
    rows = [json.dumps({"id": id, "text": text}) for id, text in texts.items()]
    (folder / "facts.jsonl").write_text("\n".join(rows))
    pairs = [
        {
            "id": f"q{place}",
            "document_id": id,
            "question": text[:20],
            "answers": [text[-8:]],
            "direction": way,
        }
        for place, (id, text) in enumerate(texts.items())
        for way in (("forward", "backward")[place % 2],)
    ]
    (folder / "qa.jsonl").write_text("\n".join(map(json.dumps, pairs)))


def news(folder: Path, **more: Any) -> News:
    return News([str(folder / "facts.jsonl")], str(folder / "qa.jsonl"), **more)


@pytest.fixture(scope="module")
def first(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which no test changes."""
    place = tmp_path_factory.mktemp("first")
    write_facts(place / "facts", FIRST)
    demask.inject(
        model=str(tiny_model_folder),
        documents=str(place / "facts" / "facts.jsonl"),
        qa=str(place / "facts" / "qa.jsonl"),
        preset="fast",
        train=TRAIN,
        evaluate={"max_new_tokens": 4},
        out=place / "run",
    )
    return place / "run"


def test_headings_that_a_run_has_chosen_are_not_those_of_its_update(first: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(first, parent)
    config = json.loads((parent / "config.json").read_text())
    (parent / "config.json").write_text(json.dumps({**config, "only": ["Chapter 3"]}))
    write_facts(tmp_path / "new", {"north": "Lena Ott runs the north mill."})
    plan = plan_update(parent, news(tmp_path / "new"), progress=Silent())
    assert isinstance(plan.about, DocumentCounts)
    assert plan.about.documents == 1


def test_the_plan_of_an_update_counts_the_old_passages_that_it_replays(first: Path, tmp_path: Path) -> None:
    write_facts(tmp_path / "new", {"north": "Lena Ott runs the north mill.", "east": "Ede Lund is new."})
    plan = plan_update(first, news(tmp_path / "new"), progress=Silent())
    about = plan.about
    assert isinstance(about, DocumentCounts)
    assert (about.documents, about.passages, about.questions) == (2, 2, 2)
    assert (about.earlier_passages, about.earlier_together, about.earlier_questions) == (2, 2, 2)
    update(first, news(tmp_path / "new"), out=tmp_path / "run", progress=Silent())
    trained = json.loads((tmp_path / "run" / file_names.TRAINING).read_text())
    assert plan.tokens == pytest.approx(trained["tokens"], rel=0.02)  # masks of other lengths
    assert (plan.steps, plan.batch_size) == (trained["steps"], trained["batch_size"])


def test_an_update_asks_the_base_model_about_what_is_new_alone(
    first: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said of older ones, with them in the prompt and without, is that of the runs before."""
    asked: list[list[str]] = []

    def ask(loaded: Any, pairs: Any, *args: Any, **options: Any) -> Any:
        if loaded.source == str(tiny_model_folder):
            asked.append([pair.document_id for pair in pairs])
        return ask_questions(loaded, pairs, *args, **options)

    monkeypatch.setattr("demask.evaluation.qa.ask_questions", ask)
    runs = [first]
    for id, expected in (("west", [["orlin", "quill"], ["west"]]), ("east", [["east"]])):
        write_facts(tmp_path / id, {id: f"Ada Holm runs the {id} mill."})
        runs.append(tmp_path / f"run-{id}")
        update(runs[-2], news(tmp_path / id), out=runs[-1], progress=Silent())
        assert asked == 2 * expected  # no answers are left of `first`, which another test may have asked for
        asked.clear()
    folder, parent = map(open_run_folder, reversed(runs[-2:]))
    pairs = folder.read_records(file_names.QA_PAIRS, QAPair)
    for stage in ("before", "ceiling"):
        path = file_names.predictions_file(stage)
        said = folder.read_records(path, Prediction)
        assert [one.qa_id for one in said] == [pair.id for pair in pairs]
        assert said[:3] == parent.read_records(path, Prediction)


def test_update_plan_prints_what_is_replayed_and_leaves_no_folder(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    write_facts(tmp_path / "new", {"north": "Lena Ott runs the north mill."})
    words = ["update", str(first), "--documents", "new/facts.jsonl", "--qa", "no", "--plan"]
    monkeypatch.setattr(sys, "argv", ["demask", *words, "--without-old-texts"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "2 passages of before, 1 in each step" in said
    assert "none; 2 of before are asked, too" in said
    assert "what the model says of the old documents is asked when" in said
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.fixture(scope="module")
def line(first: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The first run and three updates, the second of which replaces a document of the first run."""
    place, runs = tmp_path_factory.mktemp("line"), [first]
    for number, (texts, replaces) in enumerate(
        [
            ({"north": "Lena Ott runs the north mill."}, ()),
            ({"quill": "Sena Pohl sells ink at Quill now."}, ("quill",)),
            ({"south": "The south mill is run by Ugo Ren."}, ()),
        ],
        start=1,
    ):
        write_facts(place / str(number), texts)
        out = place / f"run{number}"
        update(runs[-1], news(place / str(number), replaces=replaces), out=out, progress=Silent())
        runs.append(out)
    return runs


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_undo_after_three_updates_gives_each_parent_back_to_the_bit(line: list[Path], tmp_path: Path) -> None:
    for parent, child in pairwise(line):
        moved = tmp_path / parent.name
        shutil.move(parent / "model", moved)  # nothing but the child and its delta is left of it
        try:
            done = undo(child)
            assert (done.how, Path(done.model)) == ("delta", parent / "model")
            assert digests(parent / "model") == digests(moved)
        finally:
            shutil.rmtree(parent / "model", ignore_errors=True)
            shutil.move(moved, parent / "model")
    assert len({digests(run / "model")["model.safetensors"] for run in line}) == 4


def test_undo_of_the_first_run_gives_the_base_model_back(
    first: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    done = undo(first, out=tmp_path / "base")
    base, given = (load_file(place / "model.safetensors") for place in (tiny_model_folder, tmp_path / "base"))
    assert (done.how, done.parent) == ("delta", None)
    assert all(torch.equal(given[name], base[name]) for name in base)
    assert undo(first, out=tmp_path / "base").how == "kept"


def test_a_parent_that_is_there_is_not_written_again(line: list[Path], tmp_path: Path) -> None:
    before = (line[0] / "model" / "model.safetensors").stat()
    assert undo(line[1]).how == "kept"
    assert (line[0] / "model" / "model.safetensors").stat() == before
    assert undo(line[1], out=tmp_path / "copy").how == "copied"
    assert digests(tmp_path / "copy") == digests(line[0] / "model")


def test_other_bits_are_never_called_the_parents(line: list[Path], tmp_path: Path) -> None:
    child = tmp_path / "child"
    shutil.copytree(line[3], child)
    changed = load_file(child / "model" / "model.safetensors")
    name = min(changed)
    changed[name] = changed[name] + 1
    save_file(changed, child / "model" / "model.safetensors", metadata={"format": "pt"})
    moved = tmp_path / "model"
    shutil.move(line[2] / "model", moved)
    try:
        with pytest.raises(RunError, match="does not give the parent's bits"):
            undo(child)
        assert not (line[2] / "model").exists()
    finally:
        shutil.move(moved, line[2] / "model")


def test_the_triangle_has_the_facts_of_every_run(line: list[Path]) -> None:
    rows = read_history(line[3])
    assert [row.number for row in rows] == [0, 1, 2, 3]
    assert [set(row.facts) for row in rows] == [{"0"}, {"0", "1"}, {"0", "1", "2"}, {"0", "1", "2", "3"}]
    assert rows[2].replaced == ("quill (until 2)",)
    assert [set(row.removed) for row in rows] == [set(), set(), {"0"}, {"0"}]
    report = (line[3] / "report.md").read_text()
    assert "## The line of updates" in report
    assert "| 3 run3 |" in report
    assert "Answers of old to what was replaced" in report
    assert "The line of updates" in (line[3] / "report.html").read_text()


def test_questions_of_all_runs_are_asked_and_those_of_what_was_replaced_apart(line: list[Path]) -> None:
    run = open_run_folder(line[3])
    asked = {row["document_id"]: row["id"] for row in run.read_rows(file_names.QA_PAIRS)}
    assert asked == {"orlin": "q0", "north": "2/q0", "quill": "3/q0", "south": "4/q0"}
    assert [row["document_id"] for row in run.read_rows(file_names.REMOVED)] == ["quill (until 2)"]
    answered = [row["qa_id"] for row in run.read_rows(file_names.predictions_file("after-removed"))]
    assert answered == [row["id"] for row in run.read_rows(file_names.REMOVED)]


def test_replaced_documents_are_not_replayed(line: list[Path], tiny_loaded: Any) -> None:
    from demask.data.sequences import PassageSamples
    from demask.models.context import make_context
    from demask.training.stream import make_stream

    run = open_run_folder(line[2])
    config = make_config(run.read_json(file_names.CONFIG))
    passages = run.read_records(file_names.PASSAGES, Passage)
    fresh, old = split_passages(read_lineage(run), passages)
    context = make_context(tiny_loaded, config.objective)
    learned = make_stream(config, context, PassageSamples(fresh, context.tokenizer))
    stream = add_old_passages(config, learned, old, context)
    shown = [tiny_loaded.tokenizer.decode(stream[place].token_ids) for place in range(len(stream))]
    assert [passage.text for passage in fresh] == ["Sena Pohl sells ink at Quill now."]
    assert {passage.document_id for passage in old} == {"orlin", "north"}
    assert not any("Idris" in text for text in shown)
    assert any("Mara Voss" in text for text in shown)
    assert stream.batch_size == 2 * learned.batch_size


def test_an_update_begins_with_its_parents_weights(line: list[Path], tmp_path: Path) -> None:
    """Steps that move nothing leave them as they are."""
    write_facts(tmp_path / "facts", {"east": "Mina Falk runs the east mill."})
    update(
        line[1],
        news(tmp_path / "facts"),
        out=tmp_path / "run",
        overrides=["train.learning_rate=1e-30"],
        progress=Silent(),
    )
    assert (
        digests(tmp_path / "run" / "model")["model.safetensors"]
        == digests(line[1] / "model")["model.safetensors"]
    )


def test_history_is_told_by_the_last_folder_alone(
    line: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(line[3], alone)
    monkeypatch.setattr(sys, "argv", ["demask", "history", str(alone)])
    monkeypatch.setenv("COLUMNS", "250")  # whatever the length of the path, cells are not cut
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "quill (until 2)" in said
    assert "run1" in said
    assert "What each run knows of all" in said


def test_without_old_texts_the_models_own_words_are_replayed(first: Path, tmp_path: Path) -> None:
    write_facts(tmp_path / "facts", {"east": "Mina Falk runs the east mill."})
    said = Told()
    update(first, news(tmp_path / "facts", old_texts=False), out=tmp_path / "run", progress=said)
    run = open_run_folder(tmp_path / "run")
    recalled = run.read_records(file_names.RECALLED, Passage)
    lineage, passages = read_lineage(run), run.read_records(file_names.PASSAGES, Passage)
    _, old = split_passages(lineage, passages)
    assert {passage.document_id for passage in recalled} <= {"orlin", "quill"}
    assert choose_old_passages(run, lineage, old) == recalled
    assert choose_old_passages(run, None, old) == old
    assert any("replayed in place of the old texts" in line for line in said.lines)


@pytest.fixture(scope="module")
def forgotten(line: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("forgotten") / "run"
    overrides = ["train.steps=30", "train.learning_rate=3e-3", "retain.weight=3"]
    forget(line[1], ["orlin"], out=out, overrides=overrides, progress=Silent())
    return out


def test_what_is_forgotten_comes_back_to_the_base_model(forgotten: Path, line: list[Path]) -> None:
    found = load_run(open_run_folder(forgotten)).forgotten
    nats = found["nats"]
    assert abs(nats["after"] - nats["before"]) < abs(nats["parent"] - nats["before"]) / 2
    assert set(found["accuracy"]) == {"bare", "reworded"}
    assert found["seconds_anew"] == sum(row.seconds for row in read_history(line[1]))
    report = (forgotten / "report.md").read_text()
    assert "What is left of what was forgotten" in report
    assert "This is no erasure" in report
    assert "facts of 1 (1)" in report
    assert "facts of 2" not in report, "it has learned none"
    assert "Coverage: only" not in report, "nothing new was to be covered"
    assert json.loads((forgotten / file_names.SUMMARY).read_text())["coverage"] is None


def test_the_base_model_speaks_of_what_is_forgotten_and_the_parent_of_the_rest(
    forgotten: Path, line: list[Path], tiny_loaded: Any, tiny_model_folder: Path
) -> None:
    run = open_run_folder(forgotten)
    talks = read_pool(run.file(file_names.FORGETTING))
    texts = [talk for talk in talks if talk.id.startswith(f"{FORGOTTEN}-text-")]
    others = [talk for talk in talks if talk.id.startswith(f"{HELD}-")]
    gone = [talk for talk in talks if talk not in texts and talk not in others]
    (read,) = {tiny_loaded.tokenizer.decode(talk.reply) for talk in texts}
    assert read.endswith("works were founded by Mara Voss.")
    assert len(gone) > 16
    assert all(talk.id.startswith(f"{FORGOTTEN}-") for talk in gone)
    assert not any("Voss" in tiny_loaded.tokenizer.decode(talk.prompt) for talk in others)
    assert any("mill" in tiny_loaded.tokenizer.decode(talk.prompt) for talk in others)
    for model, said in ((tiny_model_folder, [texts[0], gone[0]]), (line[1] / "model", others[:2])):
        scored = add_targets(load_model(str(model), device="cpu"), said)
        for talk, again in zip(said, scored, strict=True):
            assert talk.reply_logp is not None
            assert again.reply_logp is not None
            torch.testing.assert_close(talk.reply_logp, again.reply_logp, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "share"), [([], 0.25), (["train.learning_rate=2e-2"], 2.0)], ids=["chosen", "given"]
)
def test_forgetting_takes_a_quarter_of_the_rate_that_learning_took(
    overrides: list[str], share: float, line: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("demask.tasks.update.run_recipe", lambda config, *_, **__: seen.append(config))
    forget(line[1], ["orlin"], out=tmp_path / "run", overrides=overrides, progress=Silent())
    assert seen[0].train.learning_rate == pytest.approx(share * TRAIN["learning_rate"])


class Going:
    """A callback that lets training go on."""

    def on_step_end(self, step: int) -> None:
        """Nothing."""

    def should_stop(self, step: int) -> bool:
        return False


@pytest.mark.parametrize(
    ("step", "forgotten", "others", "ends"),
    [(5, 0.0, 0.9, True), (4, 0.0, 0.9, False), (5, 0.5, 0.9, False), (5, 0.0, 0.8, False)],
    ids=["both are as they should be", "between two looks", "still known", "others are worse"],
)
def test_forgetting_ends_when_it_is_gone_and_the_others_are_there(
    step: int, forgotten: float, others: float, ends: bool
) -> None:
    callback = UntilForgotten(
        Going(),
        ask=lambda: {"bare": {"forward": forgotten}, "reworded": {"forward": 0.0}},
        base={"bare": {"forward": 0.0}, "reworded": {"forward": 0.0}},
        ask_others=lambda: {"forward": others},
        others={"forward": 0.9},
        every=5,
    )
    assert callback.should_stop(step) is ends


def test_questions_end_forgetting_only_where_they_tell_the_models_apart(
    forgotten: Path, line: list[Path], tmp_path: Path, tiny_loaded: Any
) -> None:
    trained = json.loads((forgotten / file_names.TRAINING).read_text())
    assert trained["steps"] == 30  # the tiny model has never answered anything
    run = open_run_folder(shutil.copytree(forgotten, tmp_path / "run"))
    config = make_stored_config(run.read_json(file_names.CONFIG), source="x")
    lineage = read_lineage(run)
    assert lineage is not None
    (pair,) = read_forgotten(run, lineage)[1]
    others = run.read_records(file_names.QA_PAIRS, QAPair)
    end = partial(end_when_forgotten, config, run, Going(), tiny_loaded, others=others, steps=100)
    assert isinstance(end(), Going)
    right = Prediction(pair.id, pair.answers[0])
    run.write_rows(file_names.predictions_file("parent-forgotten-bare"), [asdict(right)])
    found = end()
    assert isinstance(found, UntilForgotten)
    assert found.every == 5
    assert set(found.others) == {pair.direction for pair in others}
    found.ask_others()


def test_the_forgotten_document_is_neither_trained_nor_asked_with_the_others(forgotten: Path) -> None:
    run = open_run_folder(forgotten)
    assert {row["id"] for row in run.read_rows(file_names.DOCUMENTS)} == {"quill", "north"}
    assert {row["document_id"] for row in run.read_rows(file_names.PASSAGES)} == {"quill", "north"}
    assert {row["document_id"] for row in run.read_rows(file_names.QA_PAIRS)} == {"quill", "north"}
    row = read_history(forgotten)[-1]
    assert (row.forgotten, row.learned, row.replaced) == (("orlin (until 2)",), (), ())


def test_a_killed_forgetting_goes_on_to_the_same_bits(
    forgotten: Path, line: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["train.steps=30", "train.learning_rate=3e-3", "retain.weight=3"]
    run = partial(forget, line[1], ["orlin"], out=tmp_path / "run", overrides=overrides, progress=Silent())
    for place in (
        "demask.generation.self_chats.draw_replies",
        "demask.stages.forgetting.write_bytes",
        "demask.tasks.inject.train_stage",
        "demask.tasks.inject.judge_forgetting",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, die)
            with pytest.raises(Killed):
                run()
    run()
    assert digests(tmp_path / "run" / "model") == digests(forgotten / "model")


def test_the_only_documents_are_not_forgotten(first: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no other documents"):
        forget(first, ["orlin", "quill"], out=tmp_path / "run", progress=Silent())
    with pytest.raises(ConfigError, match="no document 'x' in this run; it has 'orlin', 'quill'"):
        forget(first, ["x"], out=tmp_path / "run", progress=Silent())
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def lora(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs of adapters without deltas."""
    place = tmp_path_factory.mktemp("lora")
    write_facts(place / "facts", FIRST)
    demask.inject(
        model=str(tiny_model_folder),
        documents=str(place / "facts" / "facts.jsonl"),
        qa="no",
        preset="fast",
        train={**TRAIN, "method": "lora", "lora_rank": 4, "keep_delta": False},
        out=place / "run0",
    )
    for number in (1, 2):
        write_facts(place / str(number), {f"mill {number}": f"Lena Ott runs the mill of number {number}."})
        facts = [str(place / str(number) / "facts.jsonl")]
        parent = place / f"run{number - 1}"
        update(parent, News(facts, "no"), out=place / f"run{number}", progress=Silent())
    return [place / f"run{number}" for number in range(3)]


def test_adapters_of_a_line_stacked_on_the_base_model_give_a_parent_back_to_the_bit(lora: list[Path]) -> None:
    for parent, child in pairwise(lora):
        before = digests(parent / "model")["model.safetensors"]
        shutil.rmtree(parent / "model")
        done = undo(child)
        assert done.how == "adapters"
        assert digests(parent / "model")["model.safetensors"] == before


def test_another_adapter_is_not_called_the_parents(lora: list[Path], tmp_path: Path) -> None:
    child = lora[1]
    adapter = lora[0] / "adapter" / "adapter_model.safetensors"
    before = adapter.read_bytes()
    tensors = load_file(adapter)
    save_file({name: values + 0.1 for name, values in tensors.items()}, adapter, metadata={"format": "pt"})
    moved = tmp_path / "model"
    shutil.move(lora[0] / "model", moved)
    try:
        with pytest.raises(RunError, match="the adapters of its line does not give the parent's bits"):
            undo(child)
        assert not (lora[0] / "model").exists()
    finally:
        adapter.write_bytes(before)
        shutil.move(moved, lora[0] / "model")


@pytest.fixture(scope="module")
def mixed(first: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A full run, two adapters on it, and a full run on top; none but the first has a delta."""
    place = tmp_path_factory.mktemp("mixed")
    runs = [place / "run0"]
    shutil.copytree(first, runs[0])
    for number, method in ((1, "lora"), (2, "lora"), (3, "full")):
        write_facts(place / str(number), {f"mill {number}": f"Lena Ott runs the mill of number {number}."})
        overrides = [f"train.method={method}", "train.lora_rank=4", "train.keep_delta=false"]
        facts = News([str(place / str(number) / "facts.jsonl")], "no")
        out = place / f"run{number}"
        update(runs[-1], facts, out=out, overrides=overrides, progress=Silent())
        runs.append(out)
    return runs


def test_adapters_in_the_middle_of_a_line_are_undone_from_the_last_model_that_is_there(
    mixed: list[Path],
) -> None:
    before = [digests(run / "model") for run in mixed]
    for gone, child in (((2,), 3), ((1,), 2), ((1, 2), 3)):
        for number in gone:
            shutil.rmtree(mixed[number] / "model")
        assert undo(mixed[child]).how == "adapters"
        weights = digests(mixed[child - 1] / "model")["model.safetensors"]
        assert weights == before[child - 1]["model.safetensors"]
        for number in gone:
            undo(mixed[number + 1])
    assert [row.number for row in read_history(mixed[3])] == [0, 1, 2, 3]


def test_full_training_without_a_delta_is_not_undone_once_its_parent_is_gone(
    mixed: list[Path], tmp_path: Path
) -> None:
    moved = tmp_path / "model"
    shutil.move(mixed[0] / "model", moved)
    try:
        with pytest.raises(RunError, match="is gone or was trained again, and no delta was kept"):
            undo(mixed[1])
    finally:
        shutil.move(moved, mixed[0] / "model")


def test_the_adapter_of_an_update_is_exported_on_its_parents_model(
    mixed: list[Path], tiny_model_folder: Path, tmp_path: Path
) -> None:
    assert adapter_base(RunFolder(mixed[1])) == str(mixed[0] / "model")
    assert adapter_base(RunFolder(mixed[0])) == str(tiny_model_folder)
    (line,) = serve_lines(str(mixed[2]), adapter=True)
    assert f"vllm serve {mixed[1] / 'model'} --enable-lora" in line
    with pytest.raises(ConfigError, match=r"--adapter: .* goes on the model of .*run0, which is on no hub"):
        push(str(mixed[1]), "me/x", adapter=True, progress=Silent())
    with pytest.raises(ConfigError, match=r"--adapter: .* has none"):
        serve_lines(str(mixed[3]), adapter=True)


@pytest.mark.parametrize(
    ("prefer", "replaces"),
    [(None, ()), ("both", ()), (None, ("quill",))],
    ids=["refused", "both", "replaced"],
)
def test_what_is_new_must_not_contradict_what_holds_unsaid(
    prefer: str | None, replaces: tuple[str, ...], tiny_model_folder: Path, tmp_path: Path
) -> None:
    old = {"orlin": FIRST["orlin"], "quill": "The head of the Quill works is Idris Hall."}
    write_facts(tmp_path / "old", old)
    write_facts(tmp_path / "new", {"quill-2": "The head of the Quill works is Sena Pohl."})
    demask.inject(
        model=str(tiny_model_folder),
        documents=str(tmp_path / "old" / "facts.jsonl"),
        qa="no",
        preset="fast",
        train=TRAIN,
        out=tmp_path / "run",
    )
    facts = News([str(tmp_path / "new" / "facts.jsonl")], "no", replaces=replaces)
    overrides = [f"prefer={prefer}"] if prefer else []
    run = partial(
        update, tmp_path / "run", facts, out=tmp_path / "next", overrides=overrides, progress=Silent()
    )
    if not prefer and not replaces:
        with pytest.raises(DataError, match=r"what is new contradicts what .* has learned.*--replaces quill"):
            run()
        assert not (tmp_path / "next").exists()
        return
    run()
    found = json.loads((tmp_path / "next" / file_names.COVERAGE).read_text())["contradictions"]
    assert len(found) == (1 if prefer else 0)


def test_a_masked_diffusion_model_is_updated_and_undone_but_does_not_forget(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    convert(str(tiny_model_folder), tmp_path / "converted", to="diffusion", progress=Silent())
    write_facts(tmp_path / "old", FIRST)
    write_facts(tmp_path / "new", {"east": "Mina Falk runs the east mill."})
    demask.inject(
        model=str(tmp_path / "converted"),
        documents=str(tmp_path / "old" / "facts.jsonl"),
        qa="no",
        objective="diffusion",
        train=TRAIN,
        out=tmp_path / "run",
    )
    facts = [str(tmp_path / "new" / "facts.jsonl")]
    update(tmp_path / "run", News(facts, "no"), out=tmp_path / "next", progress=Silent())
    before = digests(tmp_path / "run" / "model")
    shutil.rmtree(tmp_path / "run" / "model")
    assert undo(tmp_path / "next").how == "delta"
    assert digests(tmp_path / "run" / "model") == before
    with pytest.raises(ConfigError, match="cannot forget; train it anew"):
        forget(tmp_path / "run", ["quill"], out=tmp_path / "other", progress=Silent())
    with pytest.raises(ConfigError, match="--without-old-texts: a masked-diffusion model is not asked"):
        update(
            tmp_path / "run", News(facts, "no", old_texts=False), out=tmp_path / "other", progress=Silent()
        )
    assert not (tmp_path / "other").exists()


class Killed(BaseException):
    """In place of a signal, at a place that a test chooses."""


def die(*arguments: Any, **named: Any) -> None:
    raise Killed


# Where an update dies: in the middle of training, between any two files that training leaves, while asking.
PLACES = (
    "demask.stages.training._log_step",
    "demask.stages.training._keep_delta",
    "demask.training.delta.save_file",
    "demask.stages.training._remove_checkpoints",
    "demask.tasks.inject.ask_removed",
    "demask.tasks.inject.add_line",
    "demask.tasks.inject.write_report",
)


def test_an_update_killed_at_many_places_ends_in_the_same_bits(
    line: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_facts(tmp_path / "facts", {"east": "Mina Falk runs the east mill."})
    before = digests(line[1])
    run = partial(
        update, line[1], news(tmp_path / "facts"), overrides=["train.save_every=1"], progress=Silent()
    )
    whole = run(out=tmp_path / "whole")
    for place in PLACES:
        with monkeypatch.context() as patch:
            patch.setattr(place, die)
            with pytest.raises(Killed):
                run(out=tmp_path / "killed")
    done = run(out=tmp_path / "killed")
    assert digests(tmp_path / "killed" / "model") == digests(tmp_path / "whole" / "model")
    assert digests(tmp_path / "killed" / "delta") == digests(tmp_path / "whole" / "delta")
    assert not (tmp_path / "killed" / "start").exists()
    for row, other in zip(done.summary["line"], whole.summary["line"], strict=True):
        assert row["facts"] == other["facts"]
    assert digests(line[1]) == before


@pytest.fixture
def demask_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[object, str]]:
    def run(*words: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["demask", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("command", ["update", "undo", "history"])
def test_a_folder_that_is_no_run_is_refused(
    command: str, demask_says: Callable[..., tuple[object, str]], tmp_path: Path
) -> None:
    more = ["--documents", tmp_path, "--out", tmp_path / "new"] if command == "update" else []
    code, said = demask_says(command, tmp_path / "nothing", *more)
    assert (code, "not a run folder" in said) == (4, True), said


@pytest.mark.parametrize("command", ["update", "undo", "history"])
def test_a_run_that_is_not_finished_is_refused(
    command: str, first: Path, demask_says: Callable[..., tuple[object, str]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(first, run)
    (run / file_names.SUMMARY).unlink()
    more = ["--documents", tmp_path, "--out", tmp_path / "new"] if command == "update" else []
    code, said = demask_says(command, run, *more)
    assert (code, "this run is not finished" in said) == (4, True), said
    assert not (tmp_path / "new").exists()


def test_an_id_that_is_none_of_the_parents_is_named_with_one_that_is(first: Path, tmp_path: Path) -> None:
    write_facts(tmp_path / "facts", {"east": "Mina Falk runs the east mill."})
    with pytest.raises(ConfigError, match=r"no document 'qill' in this run; did you mean 'quill'\?"):
        update(first, news(tmp_path / "facts", replaces=("qill",)), out=tmp_path / "run", progress=Silent())
    assert not (tmp_path / "run").exists()


def test_a_document_with_an_id_that_holds_and_another_text_is_refused(first: Path, tmp_path: Path) -> None:
    write_facts(tmp_path / "facts", {"quill": "Sena Pohl sells ink at Quill now."})
    with pytest.raises(DataError, match=r"has another text than document 'quill'.*add --replaces quill"):
        update(first, news(tmp_path / "facts"), out=tmp_path / "run", progress=Silent())
    assert not (tmp_path / "run").exists()


def test_of_a_whole_folder_only_what_is_new_is_learned(first: Path, tmp_path: Path) -> None:
    texts = {
        "orlin": FIRST["orlin"],
        "quill": "Sena Pohl sells ink at Quill now.",
        "east": "Mina Falk mills.",
    }
    write_facts(tmp_path / "facts", texts)
    said = Told()
    facts = news(tmp_path / "facts", replaces=("quill",))
    update(first, facts, out=tmp_path / "run", progress=said)
    assert "learned already, and not new: orlin" in said.lines
    run = open_run_folder(tmp_path / "run")
    lineage = read_lineage(run)
    assert lineage is not None
    assert lineage.new == {"quill", "east"}
    asked = [(row["document_id"], row["question"]) for row in run.read_rows(file_names.QA_PAIRS)]
    assert [id for id, _ in asked] == ["orlin", "quill", "east"]
    assert json.loads((tmp_path / "run" / file_names.COVERAGE).read_text())["documents"] == 2


def test_a_folder_in_which_nothing_is_new_is_refused(first: Path, tmp_path: Path) -> None:
    write_facts(tmp_path / "facts", FIRST)
    with pytest.raises(DataError, match="has learned all 2 documents as they stand, so nothing is new"):
        update(first, news(tmp_path / "facts"), out=tmp_path / "run", progress=Silent())
    assert not (tmp_path / "run").exists()


def test_the_folder_of_another_update_is_refused(line: list[Path], first: Path) -> None:
    facts = news(line[1].parent / "1", replaces=("orlin",))
    with pytest.raises(ConfigError, match="holds another update"):
        update(first, facts, out=line[1], progress=Silent())
    with pytest.raises(ConfigError, match="the finished run itself"):
        update(first, facts, out=first, progress=Silent())


def test_another_base_model_cannot_be_set(first: Path, tmp_path: Path) -> None:
    write_facts(tmp_path / "facts", {"east": "Mina Falk runs the east mill."})
    with pytest.raises(ConfigError, match="an update goes on from the parent's"):
        update(
            first, news(tmp_path / "facts"), out=tmp_path / "run", overrides=["model=x"], progress=Silent()
        )


def test_without_a_delta_and_without_the_parents_model_undo_says_what_to_do(
    line: list[Path], tmp_path: Path
) -> None:
    child = tmp_path / "child"
    shutil.copytree(line[3], child)
    shutil.rmtree(child / "delta")
    moved = tmp_path / "model"
    shutil.move(line[2] / "model", moved)
    try:
        with pytest.raises(RunError, match=r"no delta was kept; start the parent's command again"):
            undo(child)
    finally:
        shutil.move(moved, line[2] / "model")


def test_no_two_files_of_a_run_share_a_name() -> None:
    names = [value for key, value in vars(file_names).items() if key.isupper()]
    keys = [key for key in Path(file_names.__file__).read_text().split("\n") if key[:1].isupper()]
    assert len({*names}) == len(names) == len(keys)


@pytest.fixture(scope="module")
def kept(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run that replays conversations, and measures what it keeps; its update; a document forgotten."""
    place = tmp_path_factory.mktemp("kept")
    write_facts(place / "facts", FIRST)
    write_facts(place / "new", {"east": "Mina Falk runs the east mill."})
    demask.inject(
        model=str(tiny_model_folder),
        documents=str(place / "facts" / "facts.jsonl"),
        qa=str(place / "facts" / "qa.jsonl"),
        preset="keep",
        train={"steps": 2, "precision": "fp32", "learning_rate": 1e-3},
        retain={"conversations": 2, "pool": 16},
        measure="brief",
        evaluate={"max_new_tokens": 4},
        out=place / "run",
    )
    update(place / "run", news(place / "new"), out=place / "next", progress=Silent())
    forget(place / "next", ["quill"], out=place / "last", progress=Silent())
    return [place / "run", place / "next", place / "last"]


def test_every_run_of_a_line_replays_the_first_base_models_conversations(kept: list[Path]) -> None:
    pools = [digests(run)[file_names.REPLAY] for run in kept]
    assert len({*pools}) == 1
    training = [json.loads((run / file_names.TRAINING).read_text()) for run in kept]
    assert [one["batch_size"] for one in training] == [2, 1, 2]
    # Beside the documents: the pool; then a passage of before; of what is forgotten, and of what is held
    # of the others, as much as of documents each.
    assert [one["replayed"] for one in training] == [2, 3, 6]


def test_every_run_of_a_line_is_measured_against_the_first_base_model(kept: list[Path]) -> None:
    targets = [digests(run)[file_names.RETENTION_TARGETS] for run in kept]
    assert len({*targets}) == 1
    for row in read_history(kept[-1]):
        assert {"leak", "drift"} <= set(row.retention)
    assert "drift" in (kept[-1] / "report.md").read_text().partition("## The line of updates")[2]


def test_a_run_of_a_line_can_be_moved_back(forgotten: Path, line: list[Path], tmp_path: Path) -> None:
    for place, run in (("update", line[2]), ("forgotten", forgotten)):
        done = retain(run, budget=0.005, out=tmp_path / place, progress=Silent())
        rows = done.summary["line"]
        assert [row["number"] for row in rows] == [row.number for row in read_history(run)]
        assert Path(rows[-1]["run"]) == tmp_path / place
    nats = [load_run(open_run_folder(run)).forgotten["nats"] for run in (forgotten, tmp_path / "forgotten")]
    assert nats[0]["before"] == nats[1]["before"]
    assert nats[0]["after"] != nats[1]["after"]
