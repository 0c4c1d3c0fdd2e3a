"""Ask a model behind an OpenAI-compatible server: vLLM, `transformers serve`, llama.cpp, Ollama.

    server = choose_model(Server("http://127.0.0.1:8000/v1"))      # takes the one model it serves
    predictions = ask_server(server, pairs, max_new_tokens=128)

Works without torch. The key is read from the environment where it is needed, and shown nowhere.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from demask.errors import ConfigError, ModelError, RunError
from demask.records import Prediction, QAPair

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

# Ours. A server that batches what it is asked at once is kept busy; one that works off a queue still
# answers the last of them within SECONDS.
WORKERS = 8
# Of the client, which waits 0.5, 1 and 2 s before them, or as long as the server says, up to two minutes.
RETRIES = 3
# For one answer, waiting in the server's queue included, and to be connected at all.
SECONDS, CONNECT_SECONDS = 300.0, 5.0

# Not OPENAI_API_KEY: that one is for OpenAI, not for whoever is named on the command line.
KEY = "DEMASK_SERVER_KEY"
_SHOWN = 200
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Server:
    """Where a model is served; the key is read from the environment and never kept.

    Attributes:
        base_url: ends in `/v1` with most servers.
        model: its name there; None: the only one there is.

    Raises:
        ConfigError: `base_url` is no such URL, or holds what may be a secret.
    """

    base_url: str
    model: str | None = None

    def __post_init__(self) -> None:
        if "@" in self.base_url or "?" in self.base_url:
            raise ConfigError(
                "--server: the URL holds a user name or a query, expected one without, as it is printed and "
                f"written to files; put the key into the variable {KEY}"
            )
        try:
            parts = urlsplit(self.base_url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.fragment or any(sign.isspace() for sign in self.base_url):
            raise ConfigError(
                f"--server: {self.base_url!r} is no address of a server, expected one like "
                "http://127.0.0.1:8000/v1"
            )

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return self.base_url.rstrip("/")


# What is read of the answers; servers differ in everything else.
class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    completion_tokens: int | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _ModelEntry(BaseModel):
    id: str


class _ModelList(BaseModel):
    data: list[_ModelEntry]


_Reply = TypeVar("_Reply", _Completion, _ModelList)


def choose_model(server: Server) -> Server:
    """The server with the name of its model; one that is given is not looked up.

    Raises:
        ConfigError: it serves none, or several.
        ModelError: it cannot be asked.
        RunError: the client is not installed.
    """
    if server.model is not None:
        return server
    with _open_client(server) as client, _explained(server):
        body = client.models.with_raw_response.list().http_response.text
    listed = _read(_ModelList, body, server, "/models", "a list of models")
    names = sorted({entry.id for entry in listed.data})
    if len(names) != 1:
        served = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
        raise ConfigError(
            f"{server.url}: serves {len(names)} models{': ' if names else ''}{served}; expected exactly one, "
            "or --server-model with the name of the one to ask"
        )
    return replace(server, model=names[0])


def ask_server(
    server: Server,
    pairs: Sequence[QAPair],
    *,
    max_new_tokens: int,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Prediction]:
    """One prediction per question, in order; several are asked at a time.

    The server is given the bare question as the user's turn and decodes greedily. The first error
    that stays after the retries ends it all: what has not been sent yet is not sent.

    Args:
        server: where to ask.
        pairs: what to ask.
        max_new_tokens: after which an answer is cut short.
        on_done: told, in this thread, how many more answers have come.

    Raises:
        ConfigError: no model is named and the server has not exactly one.
        ModelError: the server cannot be reached, refuses, or answers something else.
        RunError: the client is not installed.
    """
    server = choose_model(server)
    with _open_client(server) as client, ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(_ask_one, client, server, pair, max_new_tokens) for pair in pairs]
        try:
            for future in as_completed(futures):
                future.result()
                on_done(1)
        finally:
            pool.shutdown(cancel_futures=True)
    return [future.result() for future in futures]


def _ask_one(client: "OpenAI", server: Server, pair: QAPair, max_new_tokens: int) -> Prediction:
    begun = monotonic()
    with _explained(server):
        answer = client.chat.completions.with_raw_response.create(
            model=server.model or "",
            messages=[{"role": "user", "content": pair.question}],
            temperature=0,
            max_tokens=max_new_tokens,
        )
    body = answer.http_response.text
    reply = _read(_Completion, body, server, "/chat/completions", "a chat completion with a choice")
    choice, usage = reply.choices[0], reply.usage or _Usage()
    return Prediction(
        pair.id,
        (choice.message.content or "").strip(),
        usage.completion_tokens or 0,
        round(monotonic() - begun, 4),
        choice.finish_reason != "length",
    )


def _open_client(server: Server) -> "OpenAI":
    try:
        from openai import DefaultHttpxClient, OpenAI, Timeout
    except ImportError as error:
        raise RunError("asking a server needs openai: pip install 'demask[server]'") from error
    # A proxy of the environment leads away from this machine.
    direct = urlsplit(server.base_url).hostname in _LOOPBACK
    return OpenAI(
        base_url=server.url,
        api_key=_read_key() or "none",
        max_retries=RETRIES,
        timeout=Timeout(SECONDS, connect=CONNECT_SECONDS),
        http_client=DefaultHttpxClient(trust_env=not direct),
    )


def _read_key() -> str:
    """The secret, empty when there is none.

    Raises:
        ConfigError: it cannot stand in a header; the client's own error would show it.
    """
    key = os.environ.get(KEY, "").strip()
    if key and not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{KEY}: holds signs that no key has, expected letters and digits; set it again")
    return key


@contextmanager
def _explained(server: Server) -> Iterator[None]:
    """Turn what the client raises, after its retries, into one line."""
    from openai import APIConnectionError, APIStatusError

    try:
        yield
    except APIStatusError as error:
        raise ModelError(_explain_status(server, error)) from error
    except APIConnectionError as error:  # a timeout, too
        reason = show_foreign(str(error.__cause__ or error), quoted=False)
        raise ModelError(
            f"{server.url}: no answer ({reason}), expected an OpenAI-compatible server; start it, or correct "
            "--server"
        ) from error


def _explain_status(server: Server, error: "APIStatusError") -> str:
    code = error.status_code
    match code:
        case 401 | 403:
            advice = f"expected a key that it accepts; set the variable {KEY}"
        case 404:
            there = "a list of models" if server.model is None else f"a model called {server.model!r}"
            advice = f"expected {there}; correct --server (most end in /v1) or --server-model"
        case 429:
            advice = f"expected an answer after {RETRIES} retries; come back when it has less to do"
        case _ if code >= 500:
            name = ", or name its model with --server-model" if server.model is None else ""
            advice = f"expected an answer after {RETRIES} retries; see the server's own log{name}"
        case _:
            advice = "expected an answer; ask for what the server can do, or correct --server"
    return f"{server.url}: status {code} ({show_foreign(error.response.text, quoted=False)}), {advice}"


def _read(kind: type[_Reply], body: str, server: Server, path: str, expected: str) -> _Reply:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise ModelError(
            f"{server.url}{path}: answered {show_foreign(body)}, expected {expected} as JSON; "
            "correct --server, or see the server's own log"
        ) from error


def show_foreign(text: str, *, quoted: bool = True) -> str:
    """What a server said, for people: short, in one line, and without the key, should it come back."""
    key = _read_key()
    line = " ".join((text.replace(key, "***") if key else text).split())
    line = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
    return repr(line) if quoted else repr(line)[1:-1]  # repr: no control character reaches a terminal
