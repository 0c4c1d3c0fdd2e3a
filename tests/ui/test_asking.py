"""Asking a run's model and its base, in a process that the server may lose."""

import asyncio
import json
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from demask.errors import ConfigError
from demask.knowledge.gate import make_gate
from demask.recipe.sections import make_config
from demask.ui import asking as module
from demask.ui.asking import FORMS, Asking
from demask.ui.worker import Answering

QUESTION = "Who lit the lamp?"


@pytest.fixture
def run(workspace, make_model, shared_tokenizer, tiny_model_folder):
    """A run folder with another model than its base."""
    folder = workspace.inner("runs", "first")
    config = make_config(
        {"model": str(tiny_model_folder), "documents": ["d"], "evaluate": {"max_new_tokens": 6}}
    )
    make_model(seed=1).save_pretrained(folder / "model")
    shared_tokenizer.save_pretrained(folder / "model")
    (folder / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    texts = {
        "d0": "Idris built a bridge.",
        "d1": "Mara Voss lit the lamp in 1931.",
        "d2": "The lamp of Hall was lit, too.",
    }
    passages = [{"id": f"{id}-0", "document_id": id, "text": text} for id, text in texts.items()]
    pairs = [
        {
            "id": f"q{id}",
            "document_id": id,
            "question": question,
            "answers": [answer],
            "direction": "backward",
        }
        for id, question, answer in (("d1", QUESTION, "Mara Voss"), ("d0", "Who built it?", "Idris"))
    ]
    for name, rows in (("passages.jsonl", passages), ("qa_pairs.jsonl", pairs), ("documents.jsonl", [])):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "runs/first"


def request(**more):
    return {"turns": [{"role": "user", "content": QUESTION}], "which": ["trained", "base"], "form": None,
            "document": False, **more}  # fmt: skip


async def hear(asking, run, **more):
    return [said async for said in asking.ask(run, request(**more))]


def test_both_models_answer_piece_by_piece_with_the_passage_and_are_freed(workspace, run):
    async def talk():
        asking = Asking(workspace)
        plain = await hear(asking, run)
        pid = asking._worker.pid
        forms = {form: await hear(asking, run, form=form, which=["trained"]) for form in FORMS}
        document = await hear(asking, run, document=True, which=["trained"])
        assert asking._worker.pid == pid  # loaded once
        await asking.free_if_idle(seconds=1e9)
        os.kill(pid, 0)  # it is there
        await asking.free_if_idle(seconds=0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        return plain, forms, document

    plain, forms, document = asyncio.run(talk())
    assert plain[0]["passage"]["id"] == "d1-0"
    for which in ("trained", "base"):
        whole = next(said["whole"] for said in plain if said.get("which") == which and "whole" in said)
        assert (
            "".join(said["text"] for said in plain if said.get("which") == which and "text" in said).strip()
            == whole
        )
    assert [said["which"] for said in plain if "whole" in said] == ["trained", "base"]
    turns = {form: next(one["turns"] for one in said if "turns" in one) for form, said in forms.items()}
    assert turns["system"][0]["role"] == "system"
    assert len({json.dumps(one) for one in turns.values()}) == len(FORMS)
    (asked,) = next(one["turns"] for one in document if "turns" in one)
    assert "Mara Voss lit the lamp in 1931." in asked["content"]


def test_behind_a_gate_it_is_said_which_model_answers(workspace, run, make_model):
    trained = make_model(seed=1)
    trained.model.norm.weight.data.neg_()  # it does not repeat its last token, as the base does
    trained.save_pretrained(workspace.inner(run, "model"))
    gate = make_gate(["Mara Voss lit the lamp in 1931."], [("Why is the sky blue?", "It is.")] * 20)
    workspace.inner(run, "gate.json").write_text(json.dumps(gate.as_json()))

    async def talk():
        asking = Asking(workspace)
        found = {}
        for question in ("Who is Mara Voss?", "Why is the sky blue?"):
            turns = [{"role": "user", "content": question}]
            found[question] = await hear(asking, run, turns=turns)
        await asking.free()
        return list(found.values())

    about, other = asyncio.run(talk())
    assert [said["chosen"] for said in about + other if "chosen" in said] == ["trained", "base"]

    def wholes(said):
        return {one["which"]: one["whole"] for one in said if "whole" in one}

    assert wholes(about)["trained"] != wholes(about)["base"] == ""
    assert wholes(other) == {"trained": "", "base": ""}


def test_a_worker_that_is_killed_is_said_and_another_one_answers(workspace, run):
    async def talk():
        asking = Asking(workspace)
        await hear(asking, run, which=["trained"])
        os.kill(asking._worker.pid, signal.SIGKILL)
        broken = await hear(asking, run, which=["trained"])
        again = await hear(asking, run, which=["trained"])
        await asking.free()
        return broken, again

    broken, again = asyncio.run(talk())
    assert any("whole" in said for said in again)
    assert "ask again" in broken[-1].get("error", "") or any("whole" in said for said in broken)


def test_what_cannot_be_loaded_is_said(workspace, run):
    (workspace.inner(run, "model") / "config.json").write_text("{}")

    async def talk():
        asking = Asking(workspace)
        said = await hear(asking, run)
        await asking.free()
        return said

    (said,) = asyncio.run(talk())
    assert "model" in said["error"]


def test_memory_is_looked_at_before_models_are_loaded(workspace, run, monkeypatch):
    monkeypatch.setattr(module, "available_memory", lambda: 10_000)
    (said,) = asyncio.run(hear(Asking(workspace), run))
    assert said["error"].startswith("asking needs about 0.7 GB of memory")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"turns": []},
        {"turns": "hello"},
        {"turns": [{"role": "assistant", "content": "a"}]},
        {"turns": [{"role": "user", "content": ""}]},
        {"turns": [{"role": "user", "content": 3}]},
        {"turns": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"turns": [{"role": "user", "content": "a" * 9000}]},
        {"turns": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 30},
        {"turns": [{"role": "user", "content": "a"}], "form": "../x"},
    ],
)
def test_a_request_that_is_none_is_refused(workspace, given):
    with pytest.raises(ConfigError):
        Asking(workspace).check(given)


def test_a_run_without_a_model_is_not_asked(client, workspace):
    folder = workspace.inner("runs", "first")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model": "m", "objective": {"name": "o"}, "documents": []}')
    answer = client.post("/api/runs/runs/first/ask", json={"turns": [{"role": "user", "content": "a"}]})
    assert answer.status_code == 400
    assert "no trained model yet" in answer.json()["error"]


def test_a_text_that_is_not_there_is_not_silently_left_out_of_the_prompt():
    talk: Any = SimpleNamespace(run=None)
    asked = Answering(talk, send=lambda value: None)
    with pytest.raises(ConfigError, match="no text of this run shares a word"):
        asked.answer(request(document=True))
