"""A gate in front of a server: which model a request goes to, and that all else passes through."""

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from demask.errors import ConfigError
from demask.knowledge.gate import make_gate
from demask.ports import LOOPBACK
from demask.tasks.router import LARGEST, Routes, open_router

GATE = make_gate(["Mara Voss founded the Orlin works."], [("Who is the dog", "It sleeps")] * 40)


class Upstream(BaseHTTPRequestHandler):
    """Says what it was asked, in pieces."""

    protocol_version = "HTTP/1.1"
    waiting = threading.Event()

    def do_GET(self) -> None:
        self._answer(json.dumps({"path": self.path, "key": self.headers.get("authorization")}).encode())

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/stream"):
            self._stream()
        elif self.path.endswith("/broken"):
            self._answer(b'{"error": "no such model"}', status=404)
        else:
            self._answer(data)

    def _answer(self, data: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self) -> None:
        """A second piece that is only sent when the first has been read."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"5\r\nfirst\r\n")
        self.wfile.flush()
        self.waiting.wait(20)
        self.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def router() -> Iterator[str]:
    with (
        serving(ThreadingHTTPServer((LOOPBACK, 0), Upstream)) as upstream,
        serving(open_router(Routes(GATE, f"{upstream}/api", "trained", "base"), port=0)) as address,
    ):
        yield address


def post(address: str, body: Any, **headers: str) -> tuple[dict[str, Any], str | None]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply), reply.headers["x-demask-model"]


def refusal(address: str, body: Any) -> tuple[int, Any]:
    """The status and what the error says."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(address, body)
    with refused.value as reply:
        return reply.code, json.load(reply)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("body", "chosen"),
    [
        ({"messages": [user("Who founded the Orlin works?")]}, "trained"),
        ({"messages": [user("Who is the dog?")]}, "base"),
        ({"messages": [user([{"type": "text", "text": "Who founded the Orlin works?"}])]}, "trained"),
        # A question that leans on an earlier turn is about what that one was about.
        ({"messages": [user("What are the Orlin works?"), user("And who is it?")]}, "trained"),
        ({"messages": [{"role": "system", "content": "Be brief."}, user("Who is it?")]}, "base"),
        (
            {"messages": [{"role": "system", "content": "You are of the Orlin works."}, user("Who is it?")]},
            "base",
        ),
        ({"prompt": "Mara Voss founded the"}, "trained"),
        ({"prompt": ["Who is", "the dog"]}, "base"),
        ({"input": "What did Voss of Orlin found?"}, "trained"),
        ({"messages": []}, "base"),
        ({"messages": [{"role": "user"}, 3, None]}, "base"),
        ({}, "base"),
    ],
)
def test_a_request_goes_to_the_model_that_its_words_choose(
    router: str, body: dict[str, Any], chosen: str
) -> None:
    said, named = post(f"{router}/v1/chat/completions", {**body, "model": "whatever", "temperature": 0.5})
    assert said == {**body, "model": chosen, "temperature": 0.5}
    assert named == chosen


def test_other_requests_pass_with_their_headers(router: str) -> None:
    request = urllib.request.Request(f"{router}/v1/models?x=1", headers={"authorization": "Bearer k"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        assert json.load(reply) == {"path": "/api/v1/models?x=1", "key": "Bearer k"}


def test_what_is_streamed_arrives_as_it_is_written(router: str) -> None:
    Upstream.waiting.clear()
    request = urllib.request.Request(f"{router}/stream", b"{}")
    with urllib.request.urlopen(request, timeout=20) as reply:
        assert reply.read1(5) == b"first"
        Upstream.waiting.set()
        assert reply.read() == b"second"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [(b"no json", 400, "no JSON object"), (b"[1]", 400, "no JSON object"), (b"\xff", 400, "no JSON object")],
)
def test_rubbish_is_refused_in_a_line(router: str, body: bytes, status: int, said: str) -> None:
    code, error = refusal(f"{router}/v1/chat/completions", body)
    assert code == status
    assert said in error["error"]["message"]


def test_an_error_of_the_server_is_passed_on(router: str) -> None:
    assert refusal(f"{router}/broken", {}) == (404, {"error": "no such model"})


def test_a_request_that_is_too_long_is_not_read(router: str) -> None:
    address = urlsplit(router)
    with closing(http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)) as connection:
        connection.putrequest("POST", "/v1/completions")
        connection.putheader("content-length", str(LARGEST + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413


def test_a_server_that_is_not_there_is_named() -> None:
    with serving(open_router(Routes(GATE, "http://127.0.0.1:9", "trained", "base"), port=0)) as address:
        code, error = refusal(f"{address}/v1/completions", {"prompt": "x"})
    assert code == 502
    assert "http://127.0.0.1:9 does not answer" in error["error"]["message"]


def test_an_address_that_is_none_or_taken_is_refused() -> None:
    with pytest.raises(ConfigError, match="--upstream: 'localhost:8000', expected an address"):
        open_router(Routes(GATE, "localhost:8000", "a", "b"), port=0)
    with (
        serving(open_router(Routes(GATE, "http://127.0.0.1:9", "a", "b"), port=0)) as address,
        pytest.raises(ConfigError, match="cannot be listened at"),
    ):
        open_router(Routes(GATE, "http://127.0.0.1:9", "a", "b"), port=int(address.rpartition(":")[2]))


def test_a_document_that_says_something_else_goes_to_the_base_whoever_shows_it_but_the_model() -> None:
    taught = "Mara Voss founded the Orlin works in 1931. They made lamps of basalt for the port of Lisbek."
    gate = make_gate([taught], [("Who is the dog", "It sleeps")] * 40)
    routes = Routes(gate, "http://127.0.0.1:9", "trained", "base")
    asked = {"role": "user", "content": "Who founded the Orlin works?"}

    def choose(role: str, content: str) -> str:
        return routes.choose({"messages": [asked, {"role": role, "content": content}, asked]})

    other = taught.replace("basalt", "copper")
    chosen = [choose(role, other) for role in ("user", "system", "developer", "tool", "assistant")]
    assert chosen == ["base", "base", "base", "base", "trained"]
    assert choose("user", taught) == choose("system", taught) == "trained"
