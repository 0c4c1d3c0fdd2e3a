"""Ask a model behind an OpenAI-compatible server: vLLM, `transformers serve`, llama.cpp, Ollama.

    server = choose_model(Server("http://127.0.0.1:8000/v1"))      # takes the one model it serves
    predictions = ask_server(server, pairs, max_new_tokens=128)

Works without torch. The key is read from the environment where it is needed, and shown nowhere;
`server_from_environment` reads the address there, too.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from demask.errors import ConfigError, ModelError, RunError
from demask.records import Prediction, QAPair

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError, OpenAI

# Ours. A server that batches what it is asked at once is kept busy; one that works off a queue still
# answers the last of them within SECONDS.
WORKERS = 8
# Of the client, which waits 0.5, 1 and 2 s before them, or as long as the server says, up to two minutes.
RETRIES = 3
# For one answer, waiting in the server's queue included, and to be connected at all.
SECONDS, CONNECT_SECONDS = 300.0, 5.0

# Not OPENAI_API_KEY: that one is for OpenAI, not for whoever is named on the command line.
KEY = "DEMASK_SERVER_KEY"
URL, MODEL = "DEMASK_SERVER_URL", "DEMASK_SERVER_MODEL"
_SHOWN = 200
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Server:
    """Where a model is served; the key is read from the environment and never kept.

    Attributes:
        base_url: ends in `/v1` with most servers.
        model: its name there; None: the only one there is.
        option: where the user gave the address, for messages.
        model_option: where the user names the model.

    Raises:
        ConfigError: `base_url` is no such URL, or holds what may be a secret.
    """

    base_url: str
    model: str | None = None
    option: str = field(default="--server", compare=False)
    model_option: str = field(default="--server-model", compare=False)

    def __post_init__(self) -> None:
        if "@" in self.base_url or "?" in self.base_url:
            raise ConfigError(
                f"{self.option}: the URL holds a user name or a query, expected one without, as it is "
                f"printed and written to files; put the key into the variable {KEY}"
            )
        try:
            parts = urlsplit(self.base_url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.fragment or any(sign.isspace() for sign in self.base_url):
            raise ConfigError(
                f"{self.option}: {self.base_url!r} is no address of a server, expected one like "
                "http://127.0.0.1:8000/v1"
            )

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return self.base_url.rstrip("/")


def server_from_environment() -> Server | None:
    """The server that DEMASK_SERVER_URL and DEMASK_SERVER_MODEL name; None: there is no such address.

    Raises:
        ConfigError: the address is none, or holds what may be a secret.
    """
    address = os.environ.get(URL, "").strip()
    if not address:
        return None
    return Server(address, os.environ.get(MODEL, "").strip() or None, URL, MODEL)


# What is read of the answers; servers differ in everything else.
class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ChatCompletion(BaseModel):
    """The reply to a prompt; its first choice is read."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None

    @property
    def text(self) -> str:
        """What the model said, stripped; empty when it said nothing."""
        return (self.choices[0].message.content or "").strip()

    @property
    def finish_reason(self) -> str:
        """`length` when the limit of new tokens cut it short; empty when the server does not say."""
        return self.choices[0].finish_reason or ""

    @property
    def prompt_tokens(self) -> int:
        """As the server counts; 0 when it does not."""
        return (self.usage and self.usage.prompt_tokens) or 0

    @property
    def completion_tokens(self) -> int:
        """As the server counts; 0 when it does not."""
        return (self.usage and self.usage.completion_tokens) or 0


class _ModelEntry(BaseModel):
    id: str


class _ModelList(BaseModel):
    data: list[_ModelEntry]


_Reply = TypeVar("_Reply", ChatCompletion, _ModelList)


def choose_model(server: Server) -> Server:
    """The server with the name of its model; one that is given is not looked up.

    Raises:
        ConfigError: it serves none, or several.
        ModelError: it cannot be asked.
        RunError: the client is not installed.
    """
    if server.model is not None:
        return server
    with open_client(server, retries=RETRIES, seconds=SECONDS) as client, _explained(server):
        body = client.models.with_raw_response.list().http_response.text
    listed = _read(_ModelList, body, server, "/models", "a list of models")
    names = sorted({entry.id for entry in listed.data})
    if len(names) != 1:
        served = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
        raise ConfigError(
            f"{server.url}: serves {len(names)} models{': ' if names else ''}{served}; expected exactly one, "
            f"or {server.model_option} with the name of the one to ask"
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
    with (
        open_client(server, retries=RETRIES, seconds=SECONDS) as client,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
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
        reply = ask_once(client, server, pair.question, max_new_tokens=max_new_tokens)
    seconds = round(monotonic() - begun, 4)
    return Prediction(pair.id, reply.text, reply.completion_tokens, seconds, reply.finish_reason != "length")


def ask_once(
    client: "OpenAI", server: Server, prompt: str, *, max_new_tokens: int, temperature: float = 0.0
) -> ChatCompletion:
    """Give the server a prompt as the user's turn.

    Raises:
        ModelError: it answered something that is no chat completion.
        openai.APIStatusError, openai.APIConnectionError: it refused, or cannot be reached.
    """
    answer = client.chat.completions.with_raw_response.create(
        model=server.model or "",
        messages=[{"role": "user", "content": prompt}],
        temperature=temperature,
        max_tokens=max_new_tokens,
    )
    body = answer.http_response.text
    return _read(ChatCompletion, body, server, "/chat/completions", "a chat completion with a choice")


def open_client(server: Server, *, retries: int, seconds: float) -> "OpenAI":
    """A client for the server, to be closed.

    Args:
        server: where to ask.
        retries: after a status or a connection error that may pass.
        seconds: for one answer, waiting in the server's queue included.

    Raises:
        ConfigError: the key cannot be sent.
        RunError: the client is not installed.
    """
    try:
        from openai import DefaultHttpxClient, OpenAI, Timeout
    except ImportError as error:
        raise RunError("asking a server needs openai: pip install 'demask[server]'") from error
    # A proxy of the environment leads away from this machine.
    direct = urlsplit(server.base_url).hostname in _LOOPBACK
    return OpenAI(
        base_url=server.url,
        api_key=_read_key() or "none",
        max_retries=retries,
        timeout=Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
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
        raise ModelError(explain_status(server, error, retries=RETRIES)) from error
    except APIConnectionError as error:  # a timeout, too
        raise ModelError(explain_connection(server, error)) from error


def explain_connection(server: Server, error: "APIConnectionError") -> str:
    """One line about a server that cannot be reached, or did not answer in time."""
    reason = show_foreign(str(error.__cause__ or error), quoted=False)
    return (
        f"{server.url}: no answer ({reason}), expected an OpenAI-compatible server; start it, or correct "
        f"{server.option}"
    )


def explain_status(server: Server, error: "APIStatusError", *, retries: int) -> str:
    """One line about what a server refused; 0 retries are not mentioned."""
    code = error.status_code
    after = f" after {retries} retries" if retries else ""
    match code:
        case 401 | 403:
            advice = f"expected a key that it accepts; set the variable {KEY}"
        case 404:
            there = "a list of models" if server.model is None else f"a model called {server.model!r}"
            advice = f"expected {there}; correct {server.option} (most end in /v1) or {server.model_option}"
        case 429:
            advice = f"expected an answer{after}; come back when it has less to do"
        case _ if code >= 500:
            name = f", or name its model with {server.model_option}" if server.model is None else ""
            advice = f"expected an answer{after}; see the server's own log{name}"
        case _:
            advice = f"expected an answer; ask for what the server can do, or correct {server.option}"
    return f"{server.url}: status {code} ({show_foreign(error.response.text, quoted=False)}), {advice}"


def _read(kind: type[_Reply], body: str, server: Server, path: str, expected: str) -> _Reply:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise ModelError(
            f"{server.url}{path}: answered {show_foreign(body)}, expected {expected} as JSON; "
            f"correct {server.option}, or see the server's own log"
        ) from error


def show_foreign(text: str, *, quoted: bool = True) -> str:
    """What a server said, for people: short, in one line, and without the key, should it come back."""
    line = " ".join(hide_key(text).split())
    line = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
    return repr(line) if quoted else repr(line)[1:-1]  # repr: no control character reaches a terminal


def hide_key(text: str) -> str:
    """The text with stars in the place of the key."""
    key = _read_key()
    return text.replace(key, "***") if key else text
