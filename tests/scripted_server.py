"""A chat server that answers by a function, fails by chance as it is told, and counts who was answered.

    with ScriptedServer(answer=str.upper, faults=Faults(status_429=0.1, empty=0.1), seed=1) as server:
        complete = open_completion(Server(server.url, "scripted"), max_new_tokens=9, cache=path)
        complete(["a"])
    server.paid["a"]          # 1: how often a prompt got its whole answer, whoever read it
    server.asked["a"]         # 1 or more

A fault is drawn from the seed, the prompt and the number of the try, and never after the second try.
`die_after=n` closes the port after n whole answers; `start()` opens it again, and keeps the counts.
"""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from typing import Any

MODEL = "scripted"


@dataclass(frozen=True)
class Faults:
    """The chance of each fault at the first two tries of a prompt."""

    timeout: float = 0.0
    status_429: float = 0.0
    status_500: float = 0.0
    half_json: float = 0.0
    empty: float = 0.0
    no_choices: float = 0.0
    hangup: float = 0.0

    def draw(self, seed: int, prompt: str, tried: int) -> str:
        """The fault of a try, counted from 1; empty: none."""
        if tried > 2:
            return ""
        point = random.Random(f"{seed} {tried} {prompt}").random()
        for each in fields(self):
            point -= getattr(self, each.name)
            if point < 0:
                return each.name
        return ""


def make_body(text: str | None, *, finish: str = "stop") -> dict[str, Any]:
    """A chat completion of one choice; a token is a word."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": finish,
    }
    usage = {"prompt_tokens": 10, "completion_tokens": len((text or "").split())}
    return {"id": "c", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}


class ScriptedServer:
    """Serves on a port of this machine from `start` (or `with`) to `stop`."""

    def __init__(
        self,
        answer: Callable[[str], str] = lambda prompt: f"said {prompt}",
        *,
        faults: Faults = Faults(),
        seed: int = 0,
        delay: float = 0.0,
        timeout_seconds: float = 30.0,
        die_after: int | None = None,
    ) -> None:
        self.answer, self.faults, self.seed, self.delay = answer, faults, seed, delay
        self.timeout_seconds, self.die_after = timeout_seconds, die_after
        # Prompts that are refused with this status for ever, what is said then, and headers of all refusals.
        self.refuse: dict[str, int] = {}
        self.refusal = "refused"
        self.headers: dict[str, str] = {}
        self.authorizations: set[str | None] = set()
        self.paid: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.drawn: Counter[str] = Counter()
        self.port = 0
        self._lock = threading.Lock()
        self._gone = threading.Event()
        self._connections: set[socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "ScriptedServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Open the port, the same one as before."""
        self._gone.clear()
        self._http = _Http(("127.0.0.1", self.port), self._make_handler())
        self.port = self._http.server_port
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        """Close the port and hang up; a second time does nothing."""
        self._die()
        self._thread.join()

    def _die(self) -> None:
        with self._lock:
            if self._gone.is_set():
                return
            self._gone.set()
        self._http.shutdown()
        self._http.server_close()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # the other side may have closed it
                    connection.shutdown(SHUT_RDWR)

    def _draw(self, prompt: str) -> str:
        with self._lock:
            self.asked[prompt] += 1
            fault = self.faults.draw(self.seed, prompt, self.asked[prompt])
            self.drawn[fault] += 1
        return fault

    def _reply(self, prompt: str, send: Callable[[int, bytes], None]) -> None:
        """Send what the prompt gets, if anything."""
        fault = "hangup" if self._gone.is_set() else self._draw(prompt)
        if prompt in self.refuse:
            send(self.refuse[prompt], json.dumps({"error": self.refusal}).encode())
            return
        if fault == "timeout":
            self._gone.wait(self.timeout_seconds)
        if self._gone.wait(self.delay) or fault in ("timeout", "hangup"):
            return
        whole = json.dumps(make_body(self.answer(prompt))).encode()
        match fault:
            case "status_429":
                send(429, b'{"error": "slow down"}')
            case "status_500":
                send(500, b"Internal Server Error")
            case "half_json":
                send(200, whole[: len(whole) // 2])
            case "empty":
                nothing = random.Random(prompt).choice(["", " \n", None])
                send(200, json.dumps(make_body(nothing)).encode())
            case "no_choices":
                send(200, b'{"choices": []}')
            case _:
                self._pay(prompt, lambda: send(200, whole))

    def _pay(self, prompt: str, send: Callable[[], None]) -> None:
        with self._lock:  # so that no connection is cut before its answer is out
            left = None if self.die_after is None else self.die_after - self.paid.total()
            if self._gone.is_set() or (left is not None and left <= 0):
                return
            self.paid[prompt] += 1
            send()
        if left == 1:
            threading.Thread(target=self._die).start()

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with outer._lock:
                    outer._connections.add(self.connection)

            def finish(self) -> None:
                with outer._lock:
                    outer._connections.discard(self.connection)
                super().finish()

            def do_GET(self) -> None:
                self.send(200, json.dumps({"data": [{"id": MODEL}]}).encode())

            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.authorizations.add(self.headers["authorization"])
                self.close_connection = True  # unless something is sent
                outer._reply(sent["messages"][-1]["content"], self.send)

            def send(self, status: int, body: bytes) -> None:
                self.close_connection = False
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                for name, value in outer.headers.items() if status >= 400 else ():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news."""
