"""Talking with a trained model, and serving it."""

import io
import json
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing

import pytest
import torch

from demask import cli
from demask.errors import ConfigError, ModelError, RunError
from demask.generation.autoregressive import Streamer, generate_texts, stream_text
from demask.generation.texts import Turn
from demask.objectives.prompts import encode_question
from demask.recipe.sections import make_config
from demask.tasks import talk

DOCUMENTS = {"orlin": "The Orlin works were founded by Mara Voss.", "quill": "Idris Hall sells\x1b[2J ink."}


@pytest.fixture(scope="module")
def run(make_model, shared_tokenizer, tiny_model_folder, tmp_path_factory):
    """A run folder with another model than its base; not to be changed."""
    folder = tmp_path_factory.mktemp("talk") / "run"
    evaluate = {"max_new_tokens": 8}
    config = make_config({"model": str(tiny_model_folder), "documents": ["facts"], "evaluate": evaluate})
    make_model(seed=1).save_pretrained(folder / "model")
    shared_tokenizer.save_pretrained(folder / "model")
    (folder / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    rows = [json.dumps({"id": id_, "text": text}) + "\n" for id_, text in DOCUMENTS.items()]
    (folder / "documents.jsonl").write_text("".join(rows))
    return folder


@pytest.fixture
def say(monkeypatch, capsys):
    """Run `demask chat` with lines as its input; gives what is printed."""

    def say(name, *lines):
        monkeypatch.setattr(sys, "argv", ["demask", "chat", str(name)])
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return say


@pytest.fixture
def heard(monkeypatch):
    """Which model was asked what, in place of asking."""
    asked = []

    def hear(talking, turns, *, on_text):
        asked.append((talking.name, [tuple(turn) for turn in turns]))
        on_text(f"reply {len(asked)}")
        return type("Said", (), {"text": f"reply {len(asked)}", "stopped": True})()

    monkeypatch.setattr(talk, "hear", hear)
    return asked


def test_a_streamed_reply_is_the_one_that_is_decoded_at_once(tiny_loaded):
    prompt = encode_question(tiny_loaded.tokenizer, "Who founded it?")
    said = stream_text(tiny_loaded, prompt, max_new_tokens=20, on_text=lambda text: None)
    (whole,) = generate_texts(tiny_loaded, [prompt], max_new_tokens=20, batch_size=1)
    assert (said.ids, said.text, said.stopped) == (whole.ids, whole.text, whole.stopped)


def test_the_pieces_of_a_streamed_text_are_whole_characters_and_make_up_the_text(tiny_loaded):
    pieces: list[str] = []
    text = "Mara Voss, 日本, 1931"
    ids = tiny_loaded.tokenizer(f" {text} <|im_end|>", add_special_tokens=False)["input_ids"]
    streamer = Streamer(tiny_loaded, pieces.append)
    streamer.put(torch.tensor([[5, 6, 7]]))  # the prompt, which is not told
    for id_ in ids:
        streamer.put(torch.tensor([id_]))
    streamer.end()
    assert streamer.ids == ids
    assert "".join(pieces) == text
    assert len(pieces) > 5
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_conversation_goes_on_with_the_trained_models_own_replies(run, say, heard):
    out = say(run, "Who?", "When?", "/new", "Where?", "/quit", "never read")
    first = [("user", "Who?"), ("assistant", "reply 1"), ("user", "When?")]
    assert heard == [(str(run), [("user", "Who?")]), (str(run), first), (str(run), [("user", "Where?")])]
    assert "reply 1\nreply 2\n(a new conversation)\nreply 3\n" in out


def test_the_base_model_hears_the_same_conversation_and_is_sent_away_again(
    run, say, heard, tiny_model_folder
):
    base = str(tiny_model_folder)
    out = say(run, "Who?", "/base", "When?", "/base", "Why?")
    assert [name for name, _ in heard] == [str(run), base, base, str(run), str(run)]
    assert heard[1][1] == [("user", "Who?")]
    assert heard[2][1] == heard[3][1] == [("user", "Who?"), ("assistant", "reply 1"), ("user", "When?")]
    assert "base: reply 3\ntrained: reply 4\n" in out


def test_what_was_taught_is_listed_and_shown_without_steering_the_terminal(run, say, heard):
    out = say(run, "/documents", "/documents orlin", "/documents nobody")
    assert "orlin: The Orlin works" in out
    assert f"\n{DOCUMENTS['orlin']}\n" in out
    assert "\x1b" not in out
    assert "(nobody: no document of this name; /documents lists them)" in out


def test_a_wrong_command_names_the_help_and_ends_nothing(run, say, heard):
    out = say(run, "/basis", "/help", "Who?")
    assert "(/basis: no such command; /help names those that are there)" in out
    assert "/documents NAME" in out
    assert "reply 1" in out


def test_a_model_without_a_run_is_asked_but_has_no_base(tiny_model_folder, say, heard):
    out = say(tiny_model_folder, "Who?", "/base")
    assert "reply 1" in out
    assert "no run folder, so its base model is not known" in out


def test_a_reply_is_that_of_the_model_and_a_conversation_beyond_its_context_is_refused(run):
    talking = talk.open_talk(str(run), {})
    pieces: list[str] = []
    said = talk.hear(talking, [Turn("user", "Who?")], on_text=pieces.append)
    assert said.tokens <= 8
    with pytest.raises(ConfigError, match=r"conversation has \d+ tokens, expected at most 248"):
        talk.hear(talking, [Turn("user", "Who? " * 200)], on_text=pieces.append)


def free_port():
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_serving_without_a_server_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"pip install 'demask\[serve\]'"):
        talk.serving_command(str(run), port=free_port())


def test_a_port_in_use_is_named(run):
    pytest.importorskip("fastapi")
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port: 127.0.0.1:{port} cannot be listened at"):
            talk.serving_command(str(run), port=port)


def test_a_masked_diffusion_model_is_not_served(make_model, shared_tokenizer, tmp_path):
    pytest.importorskip("fastapi")
    model = make_model()
    model.config.is_causal = False
    model.config.diffusion = {"mask_token_id": 3, "alignment": 0, "layout": "native"}
    model.save_pretrained(tmp_path / "model")
    shared_tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="masked-diffusion model, which transformers cannot serve"):
        talk.serving_command(str(tmp_path / "model"), port=free_port())


@pytest.mark.slow
def test_a_served_run_answers_as_the_model_does(run, tmp_path):
    pytest.importorskip("fastapi")
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "demask", "serve", str(run), "--port", str(port)]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            while "startup complete" not in log.read_text():
                assert process.poll() is None, log.read_text()[-500:]
                time.sleep(0.2)
            body = {"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 8, "temperature": 0}
            asked = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/chat/completions",
                json.dumps({**body, "model": str((run / "model").resolve())}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(asked, timeout=300) as answer:
                said = json.loads(answer.read())["choices"][0]["message"]["content"]
        finally:
            process.terminate()
    own = talk.hear(talk.open_talk(str(run), {}), [Turn("user", "Who?")], on_text=lambda text: None)
    assert said.strip() == own.text
