"""A user's own conversations (`retain.data`): checked by line, once in the pool, compared on resuming."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import demask
from demask.errors import ConfigError, DataError
from demask.generation.conversations import Conversation
from demask.models.load import load_tokenizer
from demask.objectives.prompts import load_chat_format
from demask.progress import Progress, Silent
from demask.recipe.sections import make_config
from demask.stages.replay import read_pool, split_pool
from demask.stages.retained import read_retained
from demask.storage import file_names
from demask.tasks.planning import make_plan


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ANSWERED = [turn("user", "Who sleeps?"), turn("assistant", "The lazy dog sleeps.")]
FOLLOWED = [turn("system", "Be brief."), *ANSWERED, turn("user", "Who jumps?"), turn("assistant", "The fox.")]
ASKED = [*ANSWERED, turn("user", "Which river does the bridge cross?")]


def write(path: Path, *chats: Any) -> str:
    rows = (chat if isinstance(chat, str) else json.dumps({"messages": chat}) for chat in chats)
    path.write_text("".join(f"{row}\n" for row in rows))
    return str(path)


@pytest.fixture
def settings(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "facts.jsonl").write_text(json.dumps({"text": "Mara Voss founded the Orlin works."}))
    data = write(tmp_path / "chats.jsonl", ANSWERED, FOLLOWED, ASKED)
    return {
        "model": str(tiny_model_folder),
        "documents": str(tmp_path / "facts.jsonl"),
        "qa": "no",
        "train": {"steps": 2, "batch_size": 1, "learning_rate": 1e-2, "precision": "fp32"},
        "retain": {"conversations": 2, "pool": 4, "data": data},
    }


def test_each_conversation_is_once_in_the_pool_beside_those_that_the_model_draws(
    settings: dict[str, Any], tmp_path: Path, tiny_model_folder: Path
) -> None:
    done = demask.inject(**settings, out=tmp_path / "run")
    talks = read_pool(done.run_folder / file_names.REPLAY)
    given = [talk for talk in talks if talk.id.startswith("file")]
    assert len(given) == 3
    assert len(talks) > 3
    tokenizer = load_tokenizer(str(tiny_model_folder))
    texts = [(tokenizer.decode(list(talk.prompt)), tokenizer.decode(list(talk.reply))) for talk in given]
    end = tokenizer.decode(list(load_chat_format(tokenizer).end))
    assert texts[0][1] == f"The lazy dog sleeps.{end}"
    assert texts[1][0].startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert texts[1][0].endswith("user\nWho jumps?<|im_end|>\n<|im_start|>assistant\n")
    assert texts[1][1] == f"The fox.{end}"
    # The base model has answered what was only asked.
    assert texts[2][0].endswith("user\nWhich river does the bridge cross?<|im_end|>\n<|im_start|>assistant\n")
    assert all(talk.top_ids is not None and len(talk.top_ids) == len(talk.reply) for talk in given)
    assert done.summary["replayed"] == 2
    rows = [json.loads(line) for line in (done.run_folder / file_names.METRICS).read_text().splitlines()]
    assert rows[0]["terms"]["kl-to-base"] == pytest.approx(0.0, abs=1e-4)  # it is still the base


def test_the_file_alone_may_be_the_pool(settings: dict[str, Any], tmp_path: Path) -> None:
    retain = {**settings["retain"], "pool": 0}
    plan = make_plan(make_config({**settings, "retain": retain}))
    assert plan.replay is not None
    assert (plan.replay.pool, plan.replay.pool_is_kept) == (3, False)
    done = demask.inject(**{**settings, "retain": retain}, out=tmp_path / "run")
    assert len(read_pool(done.run_folder / file_names.REPLAY)) == 3


def test_a_changed_file_is_noticed_when_a_run_goes_on(settings: dict[str, Any], tmp_path: Path) -> None:
    demask.inject(**settings, out=tmp_path / "run")
    demask.inject(**settings, out=tmp_path / "run")
    write(tmp_path / "chats.jsonl", ANSWERED, FOLLOWED)
    with pytest.raises(ConfigError, match=r"conversations of retain.data have changed since this run began"):
        demask.inject(**settings, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no rows"),
        (["{"], r"chats.jsonl line 1"),
        ([ANSWERED, '{"text": "a"}'], r"line 2: no key 'messages', keys are 'text'; expected"),
        ([ANSWERED, '{"messages": "a"}'], r"line 2: messages is 'a', expected a list"),
        ([[turn("user", "a"), turn("tool", "b")]], r"line 1: turn 2: role is 'tool', expected one of"),
        ([[turn("user", " ")]], r"line 1: the prompt is empty"),
        ([[turn("assistant", "a")]], r"line 1: turn 1 is the assistant's, but no user's turn"),
        ([[turn("system", "a")]], r"line 1: no turn of the user, so nothing to answer"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_before_there_is_a_folder(
    settings: dict[str, Any], tmp_path: Path, rows: list[Any], message: str
) -> None:
    write(tmp_path / "chats.jsonl", *rows)
    with pytest.raises(DataError, match=message):
        demask.inject(**settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_too_long_conversations_are_named_the_longest_first(settings: dict[str, Any], tmp_path: Path) -> None:
    long, longer = ([turn("user", "fox " * n), turn("assistant", "dog")] for n in (300, 400))
    write(tmp_path / "chats.jsonl", long, ANSWERED, longer)
    with pytest.raises(DataError, match=r"line 3 \([\d,]+ tokens\), .*line 1 \(.* at most 256 tokens"):
        make_plan(make_config(settings))


def test_a_missing_file_is_named(settings: dict[str, Any], tmp_path: Path) -> None:
    retain = {**settings["retain"], "data": "nowhere.jsonl"}
    with pytest.raises(DataError, match=r"nowhere.jsonl: no such file"):
        demask.inject(**{**settings, "retain": retain}, out=tmp_path / "run")


def test_what_rows_hold_besides_is_named(settings: dict[str, Any], tmp_path: Path) -> None:
    class Told(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    write(tmp_path / "chats.jsonl", json.dumps({"id": "7", "messages": ANSWERED, "notes": "from May"}))
    told = Told()
    progress: Progress = told
    read_retained(make_config(settings), progress)
    assert told.lines == [
        f"{tmp_path / 'chats.jsonl'}: not replayed: 'notes' (8 characters); only the turns are"
    ]


def test_all_of_the_file_is_replayed_and_the_budget_measured_on_other_conversations() -> None:
    talks = [
        Conversation(f"{kind}-{number}", (1,), (2,)) for kind in ("file", "self") for number in range(40)
    ]
    retain = {"conversations": 2, "pool": 40, "budget": 0.1, "data": "chats.jsonl"}
    replayed, probe = split_pool(make_config({"model": "m", "documents": "d", "retain": retain}), talks)
    assert sum(talk.id.startswith("file") for talk in replayed) == 40
    assert len(probe) == 3
    assert all(talk.id.startswith("self") for talk in probe)


@pytest.mark.parametrize(
    ("retain", "message"),
    [
        ({"data": "chats.jsonl"}, r"retain.data is chats.jsonl and retain.conversations 0"),
        ({"conversations": 2, "pool": 0}, r"retain.conversations is 2, expected at most retain.pool \(0\)"),
        (
            {"conversations": 2, "pool": 0, "data": "chats.jsonl", "budget": 0.1},
            r"retain.budget is 0.1 and retain.pool 0",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(retain: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config({"model": "m", "documents": "d", "retain": retain})


def test_more_a_step_than_there_are_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    retain = {**settings["retain"], "conversations": 30, "pool": 4}
    with pytest.raises(demask.errors.ModelError, match=r"expected at least 30; lower retain.conversations"):
        demask.inject(**{**settings, "retain": retain}, out=tmp_path / "run")


def test_written_answers_are_scored_where_they_stand(settings: dict[str, Any], tmp_path: Path) -> None:
    """What is kept of the base model at each place is its own opinion of the user's words."""
    from demask.generation.conversations import at_reply, score_replies
    from demask.models.load import load_model

    done = demask.inject(**settings, out=tmp_path / "run")
    talk = read_pool(done.run_folder / file_names.REPLAY)[0]
    ((_, logp_NV),) = score_replies(load_model(settings["model"], device="cpu"), [talk])
    assert talk.reply_logp is not None
    torch.testing.assert_close(at_reply(logp_NV, talk), talk.reply_logp, atol=1e-4, rtol=0)
