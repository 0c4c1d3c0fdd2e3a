"""Ask a server for one completion, again and again while that may help.

    run = Run(client, server, max_new_tokens=300, temperature=0.0, limit=40)
    reply = ask_patiently(run, prompt)                        # None: run.stop was set while it waited

What may pass is no connection, no answer in time, status 408, 409, 429 or 5xx, a body that breaks off or
is no completion, and an empty completion. It is tried again after a wait that doubles and is drawn from
its upper half, or as long as the server says. Nothing is tried more than `TRIES` times.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from time import time
from typing import TYPE_CHECKING, NamedTuple

from demask.errors import ModelError
from demask.generation.server import ChatCompletion, Server, ask_once, explain_connection, explain_status

if TYPE_CHECKING:
    from openai import OpenAI

# All of these are ours. Six tries wait for 1, 2, 4, 8 and 16 s, so that a server may restart meanwhile.
TRIES = 6
FIRST_WAIT_SECONDS = 1.0
# Longer than this nobody waits for a server that says when to come back.
LONGEST_WAIT_SECONDS = 120.0
# A greedy decoder that says nothing says it again, and is paid for it.
EMPTY_TRIES = 3

# The list of the openai client, which has 5xx, too.
_PASSING = (408, 409, 429)
# Its own generator: threads would draw from the seeded one in an order that changes from run to run.
_JITTER = random.Random()


@dataclass
class Usage:
    """What a server was paid for, tries that gave nothing included.

    Attributes:
        prompts: answered, each time that they were.
        prompt_tokens: as the server counted them; 0 when it did not.
        completion_tokens: the same.
    """

    prompts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, reply: ChatCompletion) -> None:
        """Count a reply; any thread may."""
        with self._lock:
            self.prompts += 1
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens


@dataclass
class Run:
    """What threads that ask one server at the same time share.

    Attributes:
        client: without retries of its own.
        server: with the name of its model.
        max_new_tokens: after which a completion is cut short.
        temperature: 0 is greedy.
        limit: failures in a row, over all threads, that tell a server that is gone from a busy one.
        paid: counts every reply.
        stop: set when no more is to be sent.
    """

    client: "OpenAI"
    server: Server
    max_new_tokens: int
    temperature: float
    limit: int
    paid: Usage = field(default_factory=Usage)
    stop: Event = field(default_factory=Event)
    _failures: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def count_failure(self) -> bool:
        """Whether this was one failure in a row too many."""
        with self._lock:
            self._failures += 1
            return self._failures >= self.limit

    def end_failures(self) -> None:
        """The server is there."""
        with self._lock:
            self._failures = 0


class _Trouble(NamedTuple):
    """Why a try gave no completion.

    Attributes:
        reason: one line.
        passing: whether another try may help.
        alive: whether the server answered all the same, and just has too much to do.
        wait: seconds that the server says to wait; None: it says nothing.
    """

    reason: str
    passing: bool = True
    alive: bool = False
    wait: float | None = None


def ask_patiently(run: Run, prompt: str) -> ChatCompletion | None:
    """The server's reply; None: `run.stop` was set before there was one.

    A reply has an empty text only when `EMPTY_TRIES` tries gave one.

    Raises:
        ModelError: the server refuses, is gone, or fails at every try.
    """
    empty = 0
    for attempt in range(TRIES):
        tried = _try_once(run, prompt)
        if isinstance(tried, ChatCompletion):
            empty += not tried.text
            if tried.text or empty == EMPTY_TRIES:
                return tried
            trouble = _Trouble(f"{run.server.url}: an empty completion, expected a text", alive=True)
        else:
            trouble = tried
        _check(run, trouble, last=attempt + 1 == TRIES)
        if run.stop.wait(_wait_seconds(attempt) if trouble.wait is None else trouble.wait):
            break
    return None


def _try_once(run: Run, prompt: str) -> ChatCompletion | _Trouble:
    from openai import APIConnectionError, APIStatusError

    try:
        reply = ask_once(
            run.client,
            run.server,
            prompt,
            max_new_tokens=run.max_new_tokens,
            temperature=run.temperature,
        )
    except APIStatusError as error:
        code, wait = error.status_code, read_retry_after(error.response.headers)
        reason = explain_status(run.server, error, retries=0)
        return _Trouble(reason, code in _PASSING or code >= 500, code == 429, wait)
    except APIConnectionError as error:  # a timeout, too
        return _Trouble(explain_connection(run.server, error))
    except ModelError as error:  # half a body, or another one
        return _Trouble(str(error))
    run.paid.add(reply)
    run.end_failures()
    return reply


def _check(run: Run, trouble: _Trouble, *, last: bool) -> None:
    """Raise when there is to be no other try."""
    if not trouble.passing:
        raise ModelError(trouble.reason)
    if trouble.wait is not None and trouble.wait > LONGEST_WAIT_SECONDS:
        raise ModelError(f"{trouble.reason}; it says to come back in {trouble.wait:.0f} s")
    if not trouble.alive and run.count_failure():
        raise ModelError(f"{trouble.reason} ({run.limit} failures in a row)")
    if last:
        raise ModelError(f"{trouble.reason} (tried {TRIES} times)")


def _wait_seconds(attempt: int) -> float:
    """Doubles with every try; the jitter keeps threads that failed together from coming back together."""
    return FIRST_WAIT_SECONDS * 2.0**attempt * _JITTER.uniform(0.5, 1.0)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server says to wait: `retry-after-ms`, or `retry-after` as seconds or as a date."""
    milliseconds, after = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    for text, unit in ((milliseconds, 1000), (after, 1)):
        if text.replace(".", "", 1).isdecimal():
            return float(text) / unit
    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - time())
    except (ValueError, OverflowError):
        return None
