"""A gate in front of an OpenAI-compatible server: each request goes to the trained model or to its base.

    with open_router(Routes(gate, "http://127.0.0.1:8001", trained="run", base="base"), port=8000) as router:
        router.serve_forever()

The server behind it has both models under names of their own, as vLLM has a model with its adapter. What a
request asks for is changed to one of the two, by the words of its messages; all else passes through.
"""

import http.client
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from demask.errors import ConfigError
from demask.knowledge.gate import Gate
from demask.ports import LOOPBACK, describe_taken

# Of a request's body; a context of 128,000 tokens is a hundredth.
LARGEST = 64 * 2**20
# For one reply, which may be long.
SECONDS = 600
# Of turns that stand before every conversation: "You work for Orlin" makes no question one about Orlin.
_STANDING = ("system", "developer")
# What the model has said itself is no document to be read.
_REPLYING = ("assistant",)
# Of one connection and not of what it carries (RFC 9110, section 7.6.1), or said anew.
_NOT_PASSED = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "content-length", "host", "date", "server"),
    )
)


@dataclass(frozen=True)
class Routes:
    """Where requests go.

    Attributes:
        gate: opens for those about the documents.
        upstream: the server that has both models, as `http://127.0.0.1:8001`.
        trained: the trained model's name there.
        base: its base model's.
    """

    gate: Gate
    upstream: str
    trained: str
    base: str

    def choose(self, body: dict[str, Any]) -> str:
        """The name of the model that answers a request."""
        asked, brought = (self._join(body, roles) for roles in (_STANDING, _REPLYING))
        return self.trained if self.gate.opens(asked, brought) else self.base

    @staticmethod
    def _join(body: dict[str, Any], roles: Sequence[str]) -> str:
        """What a request says but for some roles: of chat completions, responses and completions."""
        return "\n".join(
            text for key in ("messages", "input", "prompt") for text in _flatten(body.get(key), roles)
        )


def _flatten(value: Any, left_out: Sequence[str]) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _flatten(part, left_out)
    elif isinstance(value, dict) and value.get("role") not in left_out:
        yield from _flatten(value.get("content"), left_out)
        yield from _flatten(value.get("text"), left_out)


def open_router(routes: Routes, *, port: int) -> ThreadingHTTPServer:
    """A server on this machine alone, which listens from now on.

    Args:
        routes: where requests go.
        port: to listen at; 0: any that is free.

    Raises:
        ConfigError: something else listens there, or `upstream` is no address.
    """
    address = urlsplit(routes.upstream)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ConfigError(f"--upstream: {routes.upstream!r}, expected an address as http://127.0.0.1:8001")
    handler = type("Handler", (_Handler,), {"routes": routes})
    try:
        server = ThreadingHTTPServer((LOOPBACK, port), handler)
    except OSError as error:
        raise describe_taken(LOOPBACK, port, error) from error
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    """Passes requests on."""

    routes: Routes
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """What models there are, and the like."""
        self._pass_on(None, {})

    def do_POST(self) -> None:
        """A question."""
        length = int(self.headers.get("content-length") or 0)
        if length > LARGEST:
            self.close_connection = True
            self._refuse(413, f"a request of {length:,} bytes, expected at most {LARGEST:,}")
            return
        data = self.rfile.read(length)
        try:
            body = json.loads(data)
            if not isinstance(body, dict):
                raise ValueError("no object")
        except ValueError:
            self._refuse(400, "the body is no JSON object")
            return
        chosen = self.routes.choose(body)
        self._pass_on(json.dumps({**body, "model": chosen}).encode(), {"x-demask-model": chosen})

    def _pass_on(self, data: bytes | None, said: dict[str, str]) -> None:
        address = urlsplit(self.routes.upstream)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.hostname or "", address.port, timeout=SECONDS)
        headers = {key: value for key, value in self.headers.items() if key.lower() not in _NOT_PASSED}
        try:
            connection.request(self.command, f"{address.path.rstrip('/')}{self.path}", data, headers)
            reply = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._refuse(502, f"{self.routes.upstream} does not answer ({error}); is it still starting?")
            return
        try:
            self._send(reply, said)
        except (OSError, http.client.HTTPException):  # the client has gone, or the server broke off
            self.close_connection = True
        finally:
            connection.close()

    def _send(self, reply: http.client.HTTPResponse, said: dict[str, str]) -> None:
        """Piece by piece, so that what is streamed arrives as it is written."""
        self.send_response(reply.status)
        for key, value in (*reply.getheaders(), *said.items()):
            if key.lower() not in _NOT_PASSED:
                self.send_header(key, value)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while piece := reply.read1(65536):
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, status: int, message: str) -> None:
        """An error in the form that clients of OpenAI expect."""
        data = json.dumps({"error": {"message": message, "type": "demask"}}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: prompts are nobody's business."""
