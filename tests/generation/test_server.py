"""A server that does what its script says: right answers, wrong ones, half ones, none."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from demask import cli
from demask.errors import ConfigError, ModelError, RunError
from demask.evaluation.served import Canary, ask_served, canary_warning, compare_texts
from demask.generation import server as serving
from demask.generation.server import RETRIES, WORKERS, Server, ask_server, choose_model
from demask.progress import Silent
from demask.recipe.sections import Evaluate
from demask.records import Prediction, QAPair

SECRET = "sk-a-secret-0123456789"
# The client then waits a millisecond before it tries again.
SOON = {"retry-after-ms": "1"}


@dataclass(frozen=True)
class Reply:
    """What the server sends; it says that `missing` more bytes come, and hangs up."""

    body: object
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    missing: int = 0


class Hangup:
    """No reply at all."""


def completion(text: str | None, finish: str = "stop", tokens: int = 3) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": usage,
    }


class Scripted:
    """Answers questions by `answer(question, how often it was asked)`, and remembers what was sent."""

    def __init__(self) -> None:
        self.answer: Callable[[str, int], Reply | Hangup] = lambda question, _: Reply(
            completion(f"It is {question}")
        )
        self.models: object = {"object": "list", "data": [{"id": "tiny", "object": "model"}]}
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        self.url = ""

    def reply(self, path: str, headers: dict[str, str], body: bytes) -> Reply | Hangup:
        with self._lock:
            self.headers.append(headers)
        if path == "/v1/models":
            return self.models if isinstance(self.models, Reply) else Reply(self.models)
        if path != "/v1/chat/completions":
            return Reply({"detail": "Not Found"}, 404)
        sent = json.loads(body)
        question = sent["messages"][-1]["content"]
        with self._lock:
            self.bodies.append(sent)
            asked = sum(body["messages"][-1]["content"] == question for body in self.bodies)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self.answer(question, asked)
        finally:
            with self._lock:
                self._at_once -= 1


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    for name in ("DEMASK_SERVER_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    scripted = Scripted()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            size = int(self.headers.get("content-length", 0))
            reply = scripted.reply(
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(size),
            )
            if isinstance(reply, Hangup):
                self.close_connection = True
                return
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            length = str(len(body) + reply.missing)
            headers = {"content-type": "application/json", "content-length": length, **reply.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = reply.missing > 0

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        scripted.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield scripted
        server.shutdown()
        thread.join()


def make_pairs(count: int) -> list[QAPair]:
    return [QAPair(f"q{i}", "d", f"question {i}", ("x",), "forward") for i in range(count)]


def ask(script: Scripted, count: int = 1, **changes: Any) -> list[Prediction]:
    return ask_server(Server(script.url, "tiny"), make_pairs(count), **{"max_new_tokens": 7, **changes})


def say(*replies: Reply | Hangup) -> Callable[[str, int], Reply | Hangup]:
    """One reply after the other to the same question, the last one for ever."""
    return lambda _, asked: replies[min(asked, len(replies)) - 1]


def unused_url() -> str:
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


# What is asked and what comes back


def test_predictions_keep_the_order_of_the_questions_whichever_is_answered_first(script: Scripted) -> None:
    def slow_first(question: str, _: int) -> Reply:
        number = int(question.split()[-1])
        time.sleep(0.02 * (5 - number % 5))
        return Reply(completion(f"answer {number}"))

    script.answer = slow_first
    predictions = ask(script, 20)
    assert [p.text for p in predictions] == [f"answer {i}" for i in range(20)]
    assert [p.qa_id for p in predictions] == [f"q{i}" for i in range(20)]


def test_several_questions_are_asked_at_a_time_but_no_more_than_the_limit(script: Scripted) -> None:
    def slow(question: str, _: int) -> Reply:
        time.sleep(0.05)
        return Reply(completion(question))

    script.answer = slow
    ask(script, 3 * WORKERS)
    assert 2 <= script.most_at_once <= WORKERS


def test_the_bare_question_is_asked_once_and_greedily(script: Scripted) -> None:
    ask(script)
    assert script.bodies == [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "question 0"}],
            "temperature": 0,
            "max_tokens": 7,
        }
    ]


def test_an_answer_is_stripped_and_counted(script: Scripted) -> None:
    script.answer = say(Reply(completion(" Mara Voss\n", tokens=5)))
    (prediction,) = ask(script)
    assert (prediction.text, prediction.tokens, prediction.stopped) == ("Mara Voss", 5, True)
    assert prediction.seconds > 0


def test_an_answer_that_hit_the_limit_has_not_stopped(script: Scripted) -> None:
    script.answer = say(Reply(completion("Mara", finish="length")))
    assert ask(script)[0].stopped is False


def test_a_server_that_counts_nothing_and_says_nothing_is_read_all_the_same(script: Scripted) -> None:
    script.answer = say(Reply({"choices": [{"message": {"content": None}}]}))
    (prediction,) = ask(script)
    assert (prediction.text, prediction.tokens) == ("", 0)


def test_every_answer_is_told_of(script: Scripted) -> None:
    told: list[int] = []
    ask(script, 5, on_done=told.append)
    assert told == [1] * 5


def test_a_question_in_any_script_arrives_as_it_is(script: Scripted) -> None:
    pair = QAPair("q", "d", "谁创立了 Orlin — «½»? 🙂", ("x",), "forward")
    (prediction,) = ask_server(Server(script.url, "tiny"), [pair], max_new_tokens=1)
    assert prediction.text == f"It is {pair.question}"


# What passes


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_trouble_that_passes_is_not_seen(script: Scripted, status: int) -> None:
    script.answer = say(Reply({"error": "busy"}, status, SOON), Reply(completion("Mara")))
    assert [p.text for p in ask(script, 3)] == ["Mara"] * 3
    assert len(script.bodies) == 6


def test_a_dropped_connection_is_tried_again(script: Scripted) -> None:
    script.answer = say(Hangup(), Reply(completion("Mara")))
    assert ask(script)[0].text == "Mara"


# What does not pass


@pytest.mark.parametrize("status", [429, 500])
def test_a_trouble_that_stays_ends_after_the_retries(script: Scripted, status: int) -> None:
    script.answer = say(Reply({"error": "busy"}, status, SOON))
    with pytest.raises(ModelError, match=rf"/v1: status {status} .*busy.*after {RETRIES} retries; "):
        ask(script)
    assert len(script.bodies) == RETRIES + 1


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "expected an answer; ask for what the server can do"),
        (401, "expected a key that it accepts; set the variable DEMASK_SERVER_KEY"),
        (403, "expected a key that it accepts"),
        (404, "expected a model called 'tiny'; correct --server (most end in /v1) or --server-model"),
    ],
)
def test_what_the_server_refuses_is_said_at_once(script: Scripted, status: int, advice: str) -> None:
    script.answer = say(Reply({"error": {"message": "so it is"}}, status))
    with pytest.raises(ModelError, match=re.escape(advice)) as raised:
        ask(script)
    assert str(raised.value).startswith(f"{script.url}: status {status} (")
    assert "so it is" in str(raised.value)
    assert len(script.bodies) == 1


def test_nothing_more_is_sent_after_an_error(script: Scripted) -> None:
    script.answer = say(Reply({"error": "no"}, 401))
    with pytest.raises(ModelError):
        ask(script, 500)
    assert len(script.bodies) < 100


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "RETRIES", 0)
    url = unused_url()
    with pytest.raises(ModelError, match=f"^{url}: no answer .*refused.*; start it, or correct --server$"):
        ask_server(Server(url, "tiny"), make_pairs(20), max_new_tokens=1)


def test_a_server_that_dies_mid_way_ends_it(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "RETRIES", 0)
    script.answer = lambda question, _: (
        Reply(completion("Mara")) if int(question.split()[-1]) < 20 else Hangup()
    )
    done: list[int] = []
    with pytest.raises(ModelError, match=r"no answer .*disconnected"):
        ask(script, 500, on_done=done.append)
    assert 0 < len(done) <= 20


def test_a_server_that_never_answers_ends_it(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "RETRIES", 0)
    monkeypatch.setattr(serving, "SECONDS", 0.05)

    def late(_question: str, _asked: int) -> Hangup:
        time.sleep(0.3)
        return Hangup()

    script.answer = late
    with pytest.raises(ModelError, match=r"no answer .*timed out"):
        ask(script)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(completion("Mara")).encode()[:40],
        b"",
        b"<html>a page</html>",
        b'{"error": "not today"}',
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": [{"message": null}]}',
        b"[1]",
    ],
)
def test_what_is_no_completion_is_shown(script: Scripted, body: bytes) -> None:
    script.answer = say(Reply(body))
    with pytest.raises(ModelError, match="expected a chat completion with a choice as JSON; ") as raised:
        ask(script)
    assert str(raised.value).startswith(f"{script.url}/chat/completions: answered {body.decode()!r}")
    assert len(script.bodies) == 1


def test_a_body_that_breaks_off_is_a_lost_connection(
    script: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "RETRIES", 0)
    script.answer = say(Reply(completion("Mara"), missing=10))
    with pytest.raises(ModelError, match="no answer"):
        ask(script)


def test_without_the_client_its_extra_is_named(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(RunError, match=r"^asking a server needs openai: pip install 'demask\[server\]'$"):
        ask(script)


# The model's name


def test_the_only_model_is_taken(script: Scripted) -> None:
    assert choose_model(Server(script.url + "/")).model == "tiny"
    ask_server(Server(script.url + "/"), make_pairs(1), max_new_tokens=1)
    assert script.bodies[0]["model"] == "tiny"


def test_a_name_that_is_given_is_not_looked_up(script: Scripted) -> None:
    assert choose_model(Server(script.url, "other")) == Server(script.url, "other")
    assert script.headers == []


def test_several_models_are_named(script: Scripted) -> None:
    script.models = {"data": [{"id": "one"}, {"id": "two"}]}
    with pytest.raises(ConfigError, match="serves 2 models: 'one', 'two'; expected exactly one, or --s"):
        choose_model(Server(script.url))


def test_no_model_at_all_is_said(script: Scripted) -> None:
    script.models = {"data": []}
    with pytest.raises(ConfigError, match="serves 0 models; expected exactly one"):
        choose_model(Server(script.url))


def test_a_list_that_is_none_is_shown(script: Scripted) -> None:
    script.models = {"models": 3}
    with pytest.raises(ModelError, match=r"/v1/models: answered .*models.*, expected a list of models"):
        choose_model(Server(script.url))


def test_a_server_that_cannot_list_its_models_can_be_told_the_name(script: Scripted) -> None:
    # As `transformers serve` does where there is no cache of the hub.
    script.models = Reply("Internal Server Error", 500, SOON)
    with pytest.raises(ModelError, match=r"status 500 .*, or name its model with --server-model$"):
        choose_model(Server(script.url))


def test_an_address_without_its_path_is_answered_with_advice(script: Scripted) -> None:
    with pytest.raises(ModelError, match=r"status 404 .*expected a list of models; .*\(most end in /v1\)"):
        choose_model(Server(script.url.removesuffix("/v1")))


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://a/v1", "http://", "http://a:99999/v1", "http://a b/v1", "http://[1/v1"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=f"^--server: {re.escape(repr(url))} is no address of a server, "):
        Server(url)


# The secret


def test_the_key_of_the_environment_is_sent(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMASK_SERVER_KEY", f" {SECRET}\n")
    ask(script)
    assert script.headers[0]["authorization"] == f"Bearer {SECRET}"


def test_the_key_of_another_service_is_not_sent(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    ask(script)
    assert script.headers[0]["authorization"] == "Bearer none"


@pytest.mark.parametrize("status", [200, 401, 500])
def test_a_key_that_the_server_sends_back_is_not_shown(
    script: Scripted, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("DEMASK_SERVER_KEY", SECRET)
    script.answer = say(Reply({"error": f"what is {SECRET}?"}, status, SOON))
    with pytest.raises(ModelError, match=r"what is \*\*\*\?") as raised:
        ask(script)
    assert SECRET not in str(raised.value)


def test_a_key_that_cannot_be_sent_is_not_shown(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMASK_SERVER_KEY", f"{SECRET}\n{SECRET}")
    with pytest.raises(ConfigError, match="DEMASK_SERVER_KEY: holds signs that no key has") as raised:
        ask(script)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("url", [f"http://me:{SECRET}@a/v1", f"http://a/v1?key={SECRET}"])
def test_an_address_with_a_secret_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="put the key into the variable DEMASK_SERVER_KEY") as raised:
        Server(url)
    assert SECRET not in str(raised.value)


def test_the_way_to_this_machine_needs_no_proxy(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, unused_url().removesuffix("/v1"))
    monkeypatch.setattr(serving, "RETRIES", 0)
    assert ask(script)[0].text == "It is question 0"


# The canary


def texts(*words: str) -> list[Prediction]:
    return [Prediction(f"q{i}", word) for i, word in enumerate(words)]


def test_the_canary_counts_equal_texts_of_those_that_both_were_asked() -> None:
    assert compare_texts(texts("a", " b\n", "c", "d"), texts("a", "b", "x")) == Canary(asked=3, equal=2)


@pytest.mark.parametrize(("equal", "agrees"), [(50, True), (45, True), (44, False), (0, False)])
def test_the_canary_agrees_from_nine_in_ten_on(equal: int, agrees: bool) -> None:
    assert Canary(50, equal).agrees is agrees


def test_the_warning_is_one_line_with_one_example_and_no_control_character() -> None:
    served = texts("same", "one\ntwo\x1b[31m" + "x" * 500)
    said = canary_warning("http://a/v1", make_pairs(2), served, texts("same", "three"))
    assert "only 1 of 2 questions, expected 90%" in said
    assert "Asked 'question 1', it said 'one two\\x1b[31mxxx" in said
    assert said.endswith("and our decoder 'three'.")
    assert said.isprintable()
    assert len(said) < 700


class Told(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stages: list[tuple[str, int]] = []

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        self.stages.append((phase, total))

    def say(self, text: str) -> None:
        self.said.append(text)


def served_by_our_decoder(loaded: Any, wrong: Sequence[str]) -> Callable[[str, int], Reply]:
    """What the tiny model itself says, but to the questions that are answered wrongly."""
    from demask.evaluation.qa import ask_questions

    pairs = make_pairs(60)
    own = ask_questions(loaded, pairs, Evaluate(max_new_tokens=4))
    known = {pair.question: prediction.text for pair, prediction in zip(pairs, own, strict=True)}
    return lambda question, _: Reply(completion("wrong" if question in wrong else f"{known[question]} "))


@pytest.mark.parametrize(
    ("wrong", "equal", "warned"),
    [
        ((), 50, False),
        (("question 3", "question 55"), 49, False),
        ([f"question {i}" for i in range(6)], 44, True),
    ],
)
def test_the_first_fifty_questions_are_asked_of_the_model_too(
    script: Scripted, tiny_loaded: Any, wrong: Sequence[str], equal: int, warned: bool
) -> None:
    script.answer = served_by_our_decoder(tiny_loaded, wrong)
    progress, settings = Told(), Evaluate(max_new_tokens=4)
    predictions, served = ask_served(
        Server(script.url), make_pairs(60), settings, load=lambda: tiny_loaded, progress=progress
    )
    assert len(predictions) == 60
    assert (served.url, served.model, served.canary) == (script.url, "tiny", Canary(50, equal))
    assert [total for _, total in progress.stages] == [60, 50]
    assert len(progress.said) == warned


def test_the_server_is_not_asked_for_a_model_that_cannot_be_loaded(script: Scripted) -> None:
    def load() -> Any:
        raise ModelError("gone")

    with pytest.raises(ModelError, match="gone"):
        ask_served(Server(script.url), make_pairs(2), Evaluate(), load=load, progress=Silent())
    assert script.bodies == []


# The command


@pytest.fixture
def demask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run `demask evaluate` on two questions, with a key in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serving, "RETRIES", 0)
    rows = [
        {
            "id": f"q{i}",
            "document_id": "d",
            "question": f"question {i}",
            "answer": "Mara",
            "direction": "forward",
        }
        for i in range(2)
    ]
    Path("qa.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setenv("DEMASK_SERVER_KEY", SECRET)
        monkeypatch.setattr(sys, "argv", ["demask", "evaluate", "--qa", "qa.jsonl", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert SECRET not in out + err
        assert "Traceback" not in err
        return int(ended.value.code or 0), out, err

    return run


def test_evaluate_reports_server_and_canary_and_warns_when_they_differ(
    demask: Callable[..., tuple[int, str, str]], script: Scripted, tiny_model_folder: Path
) -> None:
    script.answer = say(Reply(completion("Mara")))
    options = ("--server", script.url, "--max-new-tokens", "2")
    code, out, err = demask(tiny_model_folder, *options, "--json", "--predictions", "said.jsonl")
    printed = json.loads(out)
    assert code == 0
    assert printed["server"] == {"url": script.url, "model": "tiny", "canary": {"asked": 2, "equal": 0}}
    assert printed["metrics"]["forward"]["contains"]["value"] == 1.0
    (warning,) = [line for line in err.splitlines() if line.startswith("Warning: ")]
    assert "only 0 of 2 questions" in warning
    assert SECRET not in Path("said.jsonl").read_text(encoding="utf-8")
    _, out, _ = demask(tiny_model_folder, *options)
    assert f"Server: tiny at {script.url}\nCanary: gave 0 of 2 texts of our own decoder\n" in out


def test_without_a_canary_the_model_is_only_a_label(
    demask: Callable[..., tuple[int, str, str]], script: Scripted
) -> None:
    script.answer = say(Reply(completion("Mara")))
    options = ("--server", script.url, "--server-model", "big", "--no-canary")
    code, out, err = demask("the big one", *options, "--json")
    printed = json.loads(out)
    assert (code, printed["model"]) == (0, "the big one")
    assert printed["server"] == {"url": script.url, "model": "big", "canary": None}
    assert "Warning" not in err
    _, out, _ = demask("the big one", *options)
    assert f"Server: big at {script.url}\nCanary: not checked\n" in out


def test_a_server_that_fails_is_one_line_and_exit_code_4(
    demask: Callable[..., tuple[int, str, str]], script: Scripted
) -> None:
    script.answer = say(Reply({"error": f"{SECRET} is wrong\nvery"}, 401))
    code, _, err = demask("label", "--server", script.url, "--no-canary")
    assert code == 4
    assert err.splitlines()[-1].startswith(f"demask: {script.url}: status 401 (")


@pytest.mark.parametrize("options", [["--no-canary"], ["--server-model", "big"]])
def test_options_of_a_server_need_its_address(
    demask: Callable[..., tuple[int, str, str]], options: list[str]
) -> None:
    code, _, err = demask("label", *options)
    assert (code, "--server-model and --no-canary need a server" in err) == (2, True)


def test_a_server_is_asked_without_torch(
    script: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = {"document_id": "d", "question": "Who?", "answer": "Mara", "direction": "forward"}
    (tmp_path / "qa.jsonl").write_text(json.dumps(pair), encoding="utf-8")
    code = (
        "import sys\nfrom demask.tasks.evaluate import evaluate\n"
        "from demask.generation.server import Server\n"
        "from demask.progress import Silent\n"
        f"done = evaluate('label', {str(tmp_path / 'qa.jsonl')!r}, server=Server({script.url!r}), "
        "canary=False, progress=Silent())\n"
        "print(done.predictions[0].text, [m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "It is Who? []\n"
