"""What lets people and programs talk with a model: chat and serve.

Imports stand inside the functions, so that `demask --help` answers before torch could be loaded.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from demask.commands.app import app
from demask.errors import ConfigError
from demask.ports import LOOPBACK, find_free_port

if TYPE_CHECKING:
    from demask.generation.texts import Turn
    from demask.tasks.router import Routes
    from demask.tasks.talk import Talk

HELP = """\
/base             hear the base model beside it, to the same conversation; again: no longer
/documents        what it was taught
/documents NAME   one of them
/new              begin another conversation
/quit             end (or Ctrl-D)"""
# Of a document's text, in the list of all.
SHOWN = 70


@app.command()
def chat(
    model: Annotated[str, typer.Argument(metavar="RUN", help="A run folder; or any model, as for evaluate.")],
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="After which a reply is cut short; as in the run, else 128.")
    ] = None,
) -> None:
    """Talk with a trained model, its base model beside it.

    Conversations may have several turns. Replies are greedy, as in all that demask measures. /base has the
    base model reply, too; /help names the other commands.
    """
    from demask.tasks.talk import open_talk

    talk = open_talk(model, {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens})
    say(f"{model}: /help for commands, /quit to end")
    chatting = _Chat(talk)
    for line in _read_lines():
        if line in ("/quit", "/exit"):
            break
        try:
            _answer_line(chatting, line)
        except ConfigError as error:  # what is wrong with a line ends no conversation
            say(f"({error})")
        except KeyboardInterrupt:
            say("\n(stopped)")


def say(text: str, *, end: str = "\n") -> None:
    """Print what a model or a file has said, without characters that steer a terminal."""
    from demask.reports.wording import clean

    print(clean(text), end=end, flush=True)


@dataclass
class _Chat:
    """A conversation that goes on.

    Attributes:
        talk: with the trained model.
        base: with the base model, once it was wanted.
        beside: whether it replies.
        turns: so far; replies are those of the trained model.
    """

    talk: "Talk"
    base: "Talk | None" = None
    beside: bool = False
    turns: "list[Turn]" = field(default_factory=list)


def _read_lines() -> Iterator[str]:
    """Lines that say something, until the input ends."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (its import lets `input` edit lines)
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            say("")
            return
        if line:
            yield line


def _answer_line(chatting: _Chat, line: str) -> None:
    word, _, rest = line.partition(" ")
    match word:
        case "/help":
            say(HELP)
        case "/new":
            chatting.turns.clear()
            say("(a new conversation)")
        case "/documents":
            _show_documents(chatting.talk, rest.strip())
        case "/base":
            _toggle_base(chatting)
        case _ if word.startswith("/"):
            raise ConfigError(f"{word}: no such command; /help names those that are there")
        case _:
            _reply(chatting, line)


def _toggle_base(chatting: _Chat) -> None:
    from demask.tasks.talk import hear, open_base

    if chatting.beside:
        chatting.beside = False
        say("(without the base model)")
        return
    chatting.base = chatting.base or open_base(chatting.talk)
    chatting.beside = True
    say(f"(with the base model, {chatting.base.name})")
    if chatting.turns:  # the last turn is the trained model's reply
        say("base: ", end="")
        hear(chatting.base, chatting.turns[:-1], on_text=lambda text: say(text, end=""))
        say("")


def _reply(chatting: _Chat, line: str) -> None:
    from demask.generation.texts import Turn
    from demask.tasks.talk import hear, is_open

    asked = [*chatting.turns, Turn("user", line)]
    beside = chatting.base if chatting.beside else None
    if beside is not None:
        say("base: ", end="")
        hear(beside, asked, on_text=lambda text: say(text, end=""))
        say("\ntrained: ", end="")
    reply = hear(chatting.talk, asked, on_text=lambda text: say(text, end=""))
    shut = "" if is_open(chatting.talk, asked) else " (said by the base model: the gate stayed shut)"
    say(shut if reply.stopped else f"{shut} (cut short; --max-new-tokens)")
    chatting.turns = [*asked, Turn("assistant", reply.text)]


def _show_documents(talk: "Talk", name: str) -> None:
    from demask.reports.wording import shorten
    from demask.tasks.talk import taught_documents

    found = 0
    for document in taught_documents(talk):
        if name and document.id != name:
            continue
        found += 1
        line = shorten(" ".join(document.text.split()), SHOWN)
        say(document.text if name else f"{document.id}: {line}")
    if not found:
        raise ConfigError(f"{name}: no document of this name; /documents lists them")


@app.command()
def serve(
    model: Annotated[str, typer.Argument(metavar="RUN", help="A run folder; or any model, as for evaluate.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="To listen at.")] = 8000,
    upstream: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Only the run's gate, before a server that has both models."),
    ] = None,
    trained: Annotated[str | None, typer.Option(metavar="NAME", help="The trained model there.")] = None,
    base: Annotated[str | None, typer.Option(metavar="NAME", help="The base model there.")] = None,
) -> None:
    """Serve a trained model, OpenAI-compatible, on this machine.

    The server is that of transformers, and nobody else can reach it; stop it with Ctrl-C. Of a run with a
    gate the base model answers what is not about the documents; with --upstream another server has both
    models, as vLLM with an adapter.
    """
    from demask.tasks import talk

    if upstream is not None:
        _route(talk.read_routes(model, upstream, trained=trained, base=base), model, port)
        return
    for name, value in (("--trained", trained), ("--base", base)):
        if value is not None:
            raise ConfigError(f"{name}: names a model of --upstream, which is not given")
    if talk.has_gate(model):
        inner = find_free_port()
        command = talk.serving_command(model, port=inner)
        routes = talk.read_routes(model, f"http://{LOOPBACK}:{inner}")
        with _running(command):
            _route(routes, model, port)
        return
    command = talk.serving_command(model, port=port)
    where, served = f"http://{LOOPBACK}:{port}/v1", command[command.index("serve") + 1]
    print(f"Serving {model} at {where} as {served}; Ctrl-C ends it", flush=True)
    print(f"  demask evaluate {model} --server {where} --server-model {served}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # which the server has heard, too
        raise typer.Exit(subprocess.run(command, check=False).returncode)


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[None]:
    """Another program, for a block."""
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()


def _route(routes: "Routes", model: str, port: int) -> None:
    """Send requests to one model or the other, until Ctrl-C or SIGTERM."""
    from demask.tasks.router import open_router

    with open_router(routes, port=port) as router:
        where = f"http://{LOOPBACK}:{router.server_port}/v1"
        print(f"Serving {model} behind its gate at {where}; Ctrl-C ends it", flush=True)
        print(f"  about the documents: {routes.trained}\n  all else: {routes.base}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            router.serve_forever()
