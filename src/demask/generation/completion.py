"""Complete prompts through a server: many at a time, tried again when that helps, never paid for twice.

    complete = open_completion(server, max_new_tokens=300)
    say(describe_estimate(estimate_cost(prompts, completion=complete), complete.server))
    texts = complete(prompts)                                       # one per prompt, in order

A completion is kept on disk the moment it comes, by the thread that it comes to: what stops in the
middle goes on where it stopped. Ctrl-C and SIGTERM first let in what is in flight, for a few seconds.
SIGKILL loses what is in flight, at most one prompt per worker, and only these are sent again. So is a
prompt whose answer did not come in time, though the server may have worked on it.

What may pass is no connection, no answer in time, status 408, 409, 429 or 5xx, a body that breaks off or
is no completion, and an empty completion. It is tried again after a wait that doubles and is drawn from
its upper half, or as long as the server says. Nothing is tried more than `TRIES` times.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from math import ceil
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock
from time import monotonic, time
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from demask.environment import cache_folder
from demask.errors import ConfigError, DemaskError, ModelError
from demask.generation.completion_cache import (
    Completed,
    completion_key,
    find_completions,
    store_completion,
)
from demask.generation.server import (
    SECONDS,
    WORKERS,
    ChatCompletion,
    Server,
    ask_once,
    choose_model,
    explain_connection,
    explain_status,
    hide_key,
    open_client,
)
from demask.signals import sigterm_as_ctrl_c

if TYPE_CHECKING:
    from openai import OpenAI


# One completion, asked for again and again while that may help


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


# Many completions

# Both are ours: five tries of each worker take 15 s when the server refuses at once.
FAILURES_PER_WORKER = 5
# Docker sends SIGKILL ten seconds after SIGTERM.
GRACE_SECONDS = 8.0
# Between 4.6 in plain English and 3.3 in names and dates (SmolLM2's tokenizer on our data). Not characters:
# those of other scripts take more bytes, and more tokens.
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Completion:
    """How prompts are completed; a call completes them. Made by `open_completion`.

    Attributes:
        server: with the name of its model.
        max_new_tokens: after which a completion is cut short.
        workers: how many prompts are in flight at a time.
        temperature: 0 is greedy.
        cache: the file in which completions are kept.
        seconds: for one completion, waiting in the server's queue included.
        on_done: told, in the calling thread, how many more of the prompts are completed.
        paid: what all calls so far have paid for.
    """

    server: Server
    max_new_tokens: int
    workers: int
    temperature: float
    cache: Path
    seconds: float
    on_done: Callable[[int], None]
    paid: Usage = field(default_factory=Usage, compare=False)

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        """The texts of `complete_all`."""
        return [completed.text for completed in self.complete_all(prompts)]

    def complete_all(self, prompts: Sequence[str]) -> list[Completed]:
        """One completion per prompt, in order; equal prompts are sent once and get the same.

        A text is empty when the server gave an empty one at each of three tries: the caller sets such
        a prompt aside. It is not kept, and asked again by the next call.

        Raises:
            ModelError: the server cannot be reached, refuses, or keeps failing. What was in flight has
                come in and is kept, and nothing more was sent.
            RunError: the client is not installed, or the cache is damaged or cannot be written.
        """
        keys = {prompt: self.key(prompt) for prompt in prompts}
        known = find_completions(self.cache, keys.values())
        done = {prompt: known[key] for prompt, key in keys.items() if key in known}
        times = Counter(prompts)
        if done:
            self.on_done(sum(times[prompt] for prompt in done))
        missing = [prompt for prompt in keys if prompt not in done]

        def take(prompt: str, completed: Completed) -> None:
            done[prompt] = completed
            self.on_done(times[prompt])

        if missing:
            _complete_missing(self, missing, take=take)
        return [done[prompt] for prompt in prompts]

    def key(self, prompt: str) -> str:
        """Under which the completion of a prompt is kept."""
        return completion_key(
            self.server, prompt, max_new_tokens=self.max_new_tokens, temperature=self.temperature
        )


def open_completion(
    server: Server,
    *,
    max_new_tokens: int,
    workers: int = WORKERS,
    temperature: float = 0.0,
    cache: Path | None = None,
    seconds: float = SECONDS,
    on_done: Callable[[int], None] = lambda count: None,
) -> Completion:
    """What completes prompts; asks the server for the name of its model when none is given.

    `cache` is the file to keep completions in; None: `completions.sqlite` in the user's cache folder.
    For the rest see `Completion`.

    Raises:
        ConfigError: no model is named and the server has not exactly one, or a number is out of range.
        ModelError: the server cannot be asked for it.
        RunError: the client is not installed.
    """
    for name, number in (("max_new_tokens", max_new_tokens), ("workers", workers), ("seconds", seconds)):
        if number <= 0:
            raise ConfigError(f"{name}: is {number}, expected a number above 0")
    file = cache if cache is not None else cache_folder() / "completions.sqlite"
    return Completion(choose_model(server), max_new_tokens, workers, temperature, file, seconds, on_done)


# What it will cost, and what it did


class Prices(NamedTuple):
    """Dollars for a million tokens."""

    prompt: float
    completion: float


@dataclass(frozen=True)
class Estimate:
    """What completing will take at most, but for tries that fail and are charged all the same.

    Attributes:
        prompts: different ones.
        cached: those among them that are known, and cost nothing.
        prompt_tokens: of the others: a quarter of their bytes.
        completion_tokens: of the others, if none ends before the limit.
        dollars: for these tokens; None: no prices were given.
    """

    prompts: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None


def estimate_cost(
    prompts: Sequence[str], *, completion: Completion, prices: Prices | None = None
) -> Estimate:
    """What `completion(prompts)` would take now; sends nothing.

    Raises:
        RunError: the cache is damaged or cannot be read.
    """
    keys = {prompt: completion.key(prompt) for prompt in prompts}
    known = find_completions(completion.cache, keys.values())
    missing = [prompt for prompt, key in keys.items() if key not in known]
    inward = sum(ceil(len(prompt.encode()) / _BYTES_PER_TOKEN) for prompt in missing)
    outward = completion.max_new_tokens * len(missing)
    dollars = (inward * prices.prompt + outward * prices.completion) / 1e6 if prices else None
    return Estimate(len(keys), len(keys) - len(missing), inward, outward, dollars)


def describe_estimate(estimate: Estimate, server: Server) -> str:
    """One sentence to show before the first prompt is sent."""
    cost = ""
    if estimate.dollars is not None:
        cents = f"{estimate.dollars:,.2f}"
        cost = ", less than $0.01" if 0 < estimate.dollars < 0.01 else f", at most about ${cents}"
    known = ""
    if estimate.cached:
        known = f"; {estimate.cached:,} of them are answered already and cost nothing"
    return (
        f"{_count(estimate.prompts, 'prompt')} to {server.model} at {server.url}: "
        f"about {estimate.prompt_tokens:,} tokens in, at most {estimate.completion_tokens:,} out "
        f"(estimate){cost}{known}."
    )


def describe_usage(usage: Usage) -> str:
    """One phrase about what was paid for: `paid: 166 prompts, 101,234 tokens in, 23,456 out`."""
    counted = f"{usage.prompt_tokens:,} tokens in, {usage.completion_tokens:,} out"
    if usage.prompts and not usage.prompt_tokens + usage.completion_tokens:
        counted = "tokens not counted by the server"
    return f"paid: {_count(usage.prompts, 'prompt')}, {counted}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# Threads that share a queue of prompts


class _Arrival(NamedTuple):
    prompt: str
    completed: Completed


# What a worker says: a completion, why it ended everything, or that it ends itself.
_Outcome: TypeAlias = _Arrival | DemaskError | None


class _Queues(NamedTuple):
    prompts: "SimpleQueue[str]"
    outcomes: "SimpleQueue[_Outcome]"


def _complete_missing(
    completion: Completion, prompts: Sequence[str], *, take: Callable[[str, Completed], None]
) -> None:
    """Complete what is not in the cache; `take` is told, in this thread, as answers come."""
    queues = _Queues(SimpleQueue(), SimpleQueue())
    for prompt in prompts:
        queues.prompts.put(prompt)
    run = _open_run(completion)
    count = min(completion.workers, len(prompts))
    # Daemons: the program's end does not wait for an answer that is late.
    workers = [
        threading.Thread(target=_work, args=(completion, run, queues), daemon=True) for _ in range(count)
    ]
    errors: list[DemaskError] = []
    with sigterm_as_ctrl_c(), _finished(run, workers):
        for outcome in _listen(queues, workers):
            if isinstance(outcome, DemaskError):
                errors.append(outcome)
            else:
                take(*outcome)
    if errors:
        raise type(errors[0])(f"{errors[0]}; what was answered is kept, the same command goes on from there")


def _open_run(completion: Completion) -> Run:
    return Run(
        open_client(completion.server, retries=0, seconds=completion.seconds),
        completion.server,
        completion.max_new_tokens,
        completion.temperature,
        limit=FAILURES_PER_WORKER * completion.workers,
        paid=completion.paid,
    )


def _listen(queues: _Queues, workers: Sequence[threading.Thread]) -> Iterator[_Arrival | DemaskError]:
    """What the workers say, until all of them have ended."""
    for worker in workers:
        worker.start()
    alive = len(workers)
    while alive:
        outcome = queues.outcomes.get()
        if outcome is None:
            alive -= 1
        else:
            yield outcome


@contextmanager
def _finished(run: Run, workers: Sequence[threading.Thread]) -> Iterator[None]:
    """However it ends, what is in flight has come in then, or has had its time."""
    try:
        yield
    finally:
        run.stop.set()
        deadline = monotonic() + GRACE_SECONDS
        for worker in workers:
            if worker.is_alive():  # one that was not started cannot be joined
                worker.join(max(0.0, deadline - monotonic()))
        if not any(worker.is_alive() for worker in workers):
            run.client.close()


def _work(completion: Completion, run: Run, queues: _Queues) -> None:
    """Complete one prompt after the other until there is none, or no more are to be sent."""
    try:
        while not run.stop.is_set():
            prompt = queues.prompts.get_nowait()
            completed = _complete_one(completion, run, prompt)
            if completed is not None:
                queues.outcomes.put(_Arrival(prompt, completed))
    except Empty:
        pass
    except DemaskError as error:
        run.stop.set()
        queues.outcomes.put(error)
    finally:
        queues.outcomes.put(None)


def _complete_one(completion: Completion, run: Run, prompt: str) -> Completed | None:
    """The completion of a prompt, kept; None: we were to stop before there was one."""
    key = completion.key(prompt)
    known = find_completions(completion.cache, [key])
    if known:  # another process was faster
        return known[key]
    reply = ask_patiently(run, prompt)
    if reply is None:
        return None
    completed = Completed(
        hide_key(reply.text),
        truncated=reply.finish_reason == "length",
        cached=False,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )
    if completed.text:
        store_completion(completion.cache, key, completed, finish_reason=reply.finish_reason)
    return completed
