"""Prompts against a server that fails, dies, says nothing, and is left in the middle."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from email.utils import formatdate
from pathlib import Path
from socket import socket
from typing import Any

import pytest
from tests.scripted_server import MODEL, Faults, ScriptedServer

from demask.environment import cache_folder
from demask.errors import ConfigError, ModelError, RunError
from demask.generation import completion as completing
from demask.generation.completion import (
    EMPTY_TRIES,
    TRIES,
    Completion,
    Estimate,
    Prices,
    Usage,
    describe_estimate,
    describe_usage,
    estimate_cost,
    open_completion,
    read_retry_after,
)
from demask.generation.completion_cache import Completed, completion_key, find_completions, store_completion
from demask.generation.server import WORKERS, Server, open_client, server_from_environment
from demask.models.embedded import NAME

SECRET = "sk-a-secret-0123456789"
# What the issue asks for: a tenth of each.
TENTHS = Faults(timeout=0.1, status_429=0.1, status_500=0.1, half_json=0.1, empty=0.1)
PROMPTS = [f"prompt {i}" for i in range(60)]


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "FIRST_WAIT_SECONDS", 0.002)
    monkeypatch.delenv("DEMASK_SERVER_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture
def opened(server: ScriptedServer, tmp_path: Path) -> Callable[..., Completion]:
    """Open a completion over the server, and a cache that is the test's own."""

    def open_it(**changes: Any) -> Completion:
        usual = {"max_new_tokens": 7, "cache": tmp_path / "completions.sqlite", "seconds": 10.0}
        return open_completion(Server(server.url, MODEL), **{**usual, **changes})

    return open_it


Opened = Callable[..., Completion]


# What is asked and what comes back


def test_completions_keep_the_order_of_the_prompts(server: ScriptedServer, opened: Opened) -> None:
    def slow_first(prompt: str) -> str:
        time.sleep(0.02 * (5 - int(prompt.split()[-1]) % 5))
        return f"said {prompt}"

    server.answer = slow_first
    assert opened()(PROMPTS[:20]) == [f"said {prompt}" for prompt in PROMPTS[:20]]


def test_no_prompts_are_nothing_to_do(opened: Opened) -> None:
    assert opened()([]) == []


def test_equal_prompts_are_sent_once_and_all_told_of(server: ScriptedServer, opened: Opened) -> None:
    told: list[int] = []
    assert opened(on_done=told.append)(["a", "b", "a", "a"]) == ["said a", "said b", "said a", "said a"]
    assert server.asked == {"a": 1, "b": 1}
    assert sorted(told) == [1, 3]


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_are_in_flight_as_there_are_workers(
    server: ScriptedServer, opened: Opened, workers: int
) -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def watch(prompt: str) -> str:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return prompt

    server.answer = watch
    opened(workers=workers)(PROMPTS[:12])
    assert most[0] == workers


def test_a_prompt_in_any_script_arrives_and_is_kept_as_it_is(opened: Opened) -> None:
    prompt = "谁创立了 Orlin — «½»? 🙂\n\0"
    assert [opened()([prompt]) for _ in range(2)] == [[f"said {prompt}".strip()]] * 2


def test_tokens_and_truncation_are_told_and_kept(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.scripted_server.make_body.__kwdefaults__", {"finish": "length"})
    first, second = (opened().complete_all(["a"])[0] for _ in range(2))
    assert first == Completed("said a", truncated=True, cached=False, prompt_tokens=10, completion_tokens=2)
    assert second == first._replace(cached=True)


# Nothing is paid twice


def test_what_is_known_is_not_sent_again(server: ScriptedServer, opened: Opened) -> None:
    opened()(["a"])
    told: list[int] = []
    again = opened(on_done=told.append)
    assert again(["a", "b", "a"]) == ["said a", "said b", "said a"]
    assert server.asked == {"a": 1, "b": 1}
    assert told == [2, 1]
    assert again.paid == Usage(1, 10, 2)


@pytest.mark.parametrize("change", [{"max_new_tokens": 8}, {"temperature": 0.5}])
def test_another_setting_is_another_completion(
    server: ScriptedServer, opened: Opened, change: dict[str, Any]
) -> None:
    opened()(["a"])
    opened(**change)(["a"])
    assert server.asked == {"a": 2}


def test_another_server_model_or_prompt_has_another_key() -> None:
    def key(url: str, model: str, prompt: str) -> str:
        return completion_key(Server(url, model), prompt, max_new_tokens=1, temperature=0)

    asked = [("http://a/v1", "m", "p"), ("http://b/v1", "m", "p"), ("http://a/v1", "n", "p")]
    assert len({key(*each) for each in [*asked, ("http://a/v1", "m", "q"), ("http://a/v1/", "m", "p")]}) == 4


def test_the_usual_cache_is_in_the_cache_folder(
    server: ScriptedServer, opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "made" / "for it"))
    opened(cache=None)(["a"])
    assert [file.name for file in (tmp_path / "made" / "for it").iterdir()] == ["completions.sqlite"]


def test_an_answer_is_on_the_disk_before_anybody_is_told(opened: Opened) -> None:
    complete = opened()
    kept: list[int] = []

    def look(_: int) -> None:
        kept.append(len(find_completions(complete.cache, map(complete.key, PROMPTS))))

    opened(on_done=look)(PROMPTS[:20])
    assert all(count >= told for told, count in enumerate(kept, start=1))


def test_what_another_process_has_completed_meanwhile_is_not_sent(
    server: ScriptedServer, opened: Opened
) -> None:
    complete = opened(workers=1)
    other = Completed("said by another", False, False, 1, 1)

    def meanwhile(prompt: str) -> str:
        store_completion(complete.cache, complete.key("b"), other, finish_reason="stop")
        return prompt

    server.answer = meanwhile
    assert complete(["a", "b"]) == ["a", "said by another"]
    assert server.asked == {"a": 1}


# What passes


@pytest.mark.parametrize("fault", list(Faults.__dataclass_fields__))
def test_a_fault_that_passes_is_not_seen(server: ScriptedServer, opened: Opened, fault: str) -> None:
    server.faults = Faults(**{fault: 1.0})
    assert opened(seconds=0.2)(PROMPTS[:3]) == [f"said {prompt}" for prompt in PROMPTS[:3]]
    assert set(server.asked.values()) == {3}
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "Tue, 32 Jan 99999 99:99:99 GMT"}, None),
        ({"retry-after": "Tue, 01 Jan 2019 00:00:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_the_server_says_when_to_come_back(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers) == seconds


def test_the_time_to_come_back_may_be_a_date() -> None:
    assert read_retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)}) == pytest.approx(
        60, abs=5
    )


def test_waits_double_and_are_drawn_from_their_upper_half() -> None:
    for attempt in range(5):
        longest = completing.FIRST_WAIT_SECONDS * 2**attempt
        waits = [completing._wait_seconds(attempt) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_a_server_that_has_too_much_to_do_is_waited_for_as_it_says(
    server: ScriptedServer, opened: Opened
) -> None:
    server.faults, server.headers = Faults(status_429=1.0), {"retry-after": "0.1"}
    begun = time.monotonic()
    opened()(["a"])
    assert time.monotonic() - begun >= 0.2


# What does not pass


@pytest.mark.parametrize("nothing", ["", " \n"])
def test_a_prompt_whose_answer_is_always_empty_is_given_back_empty_and_not_kept(
    server: ScriptedServer, opened: Opened, nothing: str
) -> None:
    server.answer = lambda prompt: nothing if prompt == "b" else prompt
    assert opened()(["a", "b", "c"]) == ["a", "", "c"]
    assert server.asked == {"a": 1, "b": EMPTY_TRIES, "c": 1}
    opened()(["a", "b", "c"])
    assert server.asked == {"a": 1, "b": 2 * EMPTY_TRIES, "c": 1}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_is_refused_is_said_at_once_and_nothing_more_is_sent(
    server: ScriptedServer, opened: Opened, status: int
) -> None:
    server.refuse = {"prompt 9": status}
    line = (
        rf"^{server.url}: status {status} .*; what was answered is kept, the same command goes on from there$"
    )
    with pytest.raises(ModelError, match=line):
        opened(workers=2)(PROMPTS)
    assert server.asked["prompt 9"] == 1
    assert len(server.asked) <= 12


def test_what_is_in_flight_when_another_is_refused_comes_in_and_is_kept(
    server: ScriptedServer, opened: Opened
) -> None:
    def slow(prompt: str) -> str:
        time.sleep(0.2)
        return prompt

    server.answer, server.refuse = slow, {"b": 401}
    complete = opened(workers=2)
    with pytest.raises(ModelError, match="status 401"):
        complete(["a", "b", "c"])
    assert server.asked == {"a": 1, "b": 1}
    assert list(find_completions(complete.cache, map(complete.key, "abc"))) == [complete.key("a")]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_trouble_that_stays_ends_after_the_tries(
    server: ScriptedServer, opened: Opened, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(completing, "FAILURES_PER_WORKER", 100)
    server.refuse = {"a": status}
    with pytest.raises(ModelError, match=rf"status {status} .*\(tried {TRIES} times\); what was answered is"):
        opened(workers=1)(["a", "b"])
    assert server.asked == {"a": TRIES}


def test_a_server_that_says_to_come_back_tomorrow_is_not_waited_for(
    server: ScriptedServer, opened: Opened
) -> None:
    server.refuse, server.headers = {"a": 429}, {"retry-after": "86400"}
    with pytest.raises(ModelError, match="it says to come back in 86400 s; what was answered is kept"):
        opened()(["a"])
    assert server.asked == {"a": 1}


def test_a_server_that_dies_ends_it_and_the_same_call_goes_on_when_it_is_back(
    server: ScriptedServer, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "FAILURES_PER_WORKER", 2)
    server.die_after = 25
    complete = opened(workers=3)
    with pytest.raises(ModelError, match=r"no answer .*\(6 failures in a row\); what was answered is kept"):
        complete(PROMPTS)
    assert len(find_completions(complete.cache, map(complete.key, PROMPTS))) == 25
    server.stop()
    server.die_after = None
    server.start()
    assert complete(PROMPTS) == [f"said {prompt}" for prompt in PROMPTS]
    assert set(server.paid.values()) == {1}


def test_a_server_that_is_only_busy_is_not_taken_for_a_dead_one(
    server: ScriptedServer, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "FAILURES_PER_WORKER", 1)
    server.faults = Faults(status_429=1.0)
    assert len(opened(workers=2)(PROMPTS[:6])) == 6


def test_failures_between_answers_are_not_in_a_row(
    server: ScriptedServer, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "FAILURES_PER_WORKER", 3)
    server.faults = Faults(status_500=1.0)
    assert len(opened(workers=1)(PROMPTS[:4])) == 4


def test_without_the_client_its_extra_is_named(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(RunError, match=r"^asking a server needs openai: pip install 'demask\[server\]'$"):
        opened()(["a"])


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"max_new_tokens": 0}, {"seconds": -1.0}])
def test_numbers_out_of_range_are_refused(opened: Opened, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))}: is .*, expected a number above 0$"):
        opened(**wrong)


# The cache


@pytest.mark.parametrize("place", [0, 5000])
def test_a_damaged_cache_is_named_and_to_be_deleted(opened: Opened, place: int) -> None:
    complete = opened()
    complete(PROMPTS)
    with complete.cache.open("r+b") as file:
        file.seek(place)
        file.write(b"damaged " * 4000)
    with pytest.raises(
        RunError, match=f"^{re.escape(str(complete.cache))}: is damaged .*; delete this file, "
    ):
        complete(PROMPTS)
    complete.cache.unlink()
    assert len(complete(PROMPTS)) == 60


def test_a_file_that_holds_something_else_is_not_taken_for_a_cache(opened: Opened) -> None:
    complete = opened()
    with sqlite3.connect(complete.cache) as connection:
        connection.execute("CREATE TABLE completions (a, b)")
    connection.close()
    with pytest.raises(RunError, match="is damaged"):
        complete(["a"])


def test_a_cache_that_cannot_be_written_is_said_and_nothing_more_is_sent(
    server: ScriptedServer, opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RunError, match=r"file: cannot keep completions there .*; set DEMASK_CACHE to another"
    ):
        opened(cache=tmp_path / "file" / "completions.sqlite", workers=2)(PROMPTS)
    assert server.asked.total() <= 2


def test_threads_and_processes_write_one_cache_at_once(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom concurrent.futures import ThreadPoolExecutor\nfrom pathlib import Path\n"
        "from demask.generation.completion_cache import *\n"
        "def store(i):\n"
        "    done = Completed(f'text {i}', False, False, 1, 1)\n"
        "    store_completion(Path(sys.argv[1]), f'key {i}', done, finish_reason='stop')\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    list(pool.map(store, range(int(sys.argv[2]), int(sys.argv[2]) + 60)))\n"
    )
    file = tmp_path / "completions.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", code, file, str(first)], stderr=subprocess.PIPE, text=True)
        for first in (0, 30)
    ]
    assert [writer.communicate()[1] for writer in writers] == ["", ""]
    found = find_completions(file, [f"key {i}" for i in range(100)])
    assert {key: done.text for key, done in found.items()} == {f"key {i}": f"text {i}" for i in range(90)}


def test_more_keys_are_looked_up_than_a_statement_takes(tmp_path: Path) -> None:
    file = tmp_path / "completions.sqlite"
    store_completion(file, "key 70000", Completed("a", False, False, 1, 1), finish_reason="stop")
    assert list(find_completions(file, (f"key {i}" for i in range(70_001)))) == ["key 70000"]


# The secret


def test_the_key_is_sent_and_kept_nowhere(
    server: ScriptedServer, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMASK_SERVER_KEY", SECRET)
    server.answer = lambda prompt: f"your key is {SECRET}"
    complete = opened()
    assert complete(["a"]) == ["your key is ***"]
    assert server.authorizations == {f"Bearer {SECRET}"}
    assert SECRET.encode() not in complete.cache.read_bytes()
    assert SECRET not in repr(complete)


def test_the_key_is_in_no_error(
    server: ScriptedServer, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMASK_SERVER_KEY", SECRET)
    server.refuse, server.refusal = {"a": 401}, f"wrong key {SECRET}"
    with pytest.raises(ModelError, match=r"wrong key \*\*\*") as raised:
        opened()(["a"])
    assert SECRET not in str(raised.value)


# What it will cost, and what it did


def test_the_estimate_counts_what_is_not_known_and_sends_nothing(
    server: ScriptedServer, opened: Opened
) -> None:
    complete = opened()
    complete(["known"])
    prompts = ["known", "four", "five!", "five!", "谁"]
    estimate = estimate_cost(prompts, completion=complete, prices=Prices(prompt=1e6, completion=1e5))
    assert estimate == Estimate(
        prompts=4, cached=1, prompt_tokens=1 + 2 + 1, completion_tokens=21, dollars=6.1
    )
    assert server.asked == {"known": 1}


def test_an_estimate_without_prices_has_no_dollars(opened: Opened) -> None:
    assert estimate_cost(["a"], completion=opened()) == Estimate(1, 0, 1, 7, None)


@pytest.mark.parametrize(
    ("estimate", "sentence"),
    [
        (
            Estimate(200, 34, 120_000, 60_000, 0.054),
            "200 prompts to m at http://a/v1: about 120,000 tokens in, at most 60,000 out (estimate), at "
            "most about $0.05; 34 of them are answered already and cost nothing.",
        ),
        (
            Estimate(1, 0, 5, 7, None),
            "1 prompt to m at http://a/v1: about 5 tokens in, at most 7 out (estimate).",
        ),
        (
            Estimate(1, 0, 5, 7, 0.0001),
            "1 prompt to m at http://a/v1: about 5 tokens in, at most 7 out (estimate), less than $0.01.",
        ),
    ],
)
def test_an_estimate_is_one_sentence(estimate: Estimate, sentence: str) -> None:
    assert describe_estimate(estimate, Server("http://a/v1/", "m")) == sentence


@pytest.mark.parametrize(
    ("usage", "phrase"),
    [
        (Usage(166, 101_234, 23_456), "paid: 166 prompts, 101,234 tokens in, 23,456 out"),
        (Usage(1), "paid: 1 prompt, tokens not counted by the server"),
        (Usage(), "paid: 0 prompts, 0 tokens in, 0 out"),
    ],
)
def test_what_was_paid_is_one_phrase(usage: Usage, phrase: str) -> None:
    assert describe_usage(usage) == phrase


def test_empty_completions_are_paid_for_too(server: ScriptedServer, opened: Opened) -> None:
    server.faults = Faults(empty=1.0)
    complete = opened()
    complete(["a"])
    assert complete.paid == Usage(3, 30, 2)


# The environment


def test_a_server_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMASK_SERVER_URL", " http://a/v1 ")
    monkeypatch.setenv("DEMASK_SERVER_MODEL", "m")
    assert server_from_environment() == Server("http://a/v1", "m")
    monkeypatch.delenv("DEMASK_SERVER_MODEL")
    assert server_from_environment() == Server("http://a/v1")
    monkeypatch.delenv("DEMASK_SERVER_URL")
    assert server_from_environment() is None


def test_errors_name_the_variable_that_the_address_came_from(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEMASK_SERVER_URL", "localhost:8000")
    with pytest.raises(
        ConfigError, match=r"^DEMASK_SERVER_URL: 'localhost:8000' is no address of a server, "
    ):
        server_from_environment()
    monkeypatch.setenv("DEMASK_SERVER_URL", server.url)
    server.refuse = {"a": 404}
    found = server_from_environment()
    assert found is not None
    with pytest.raises(ModelError, match=r"correct DEMASK_SERVER_URL .* or DEMASK_SERVER_MODEL; "):
        open_completion(found, max_new_tokens=1, cache=tmp_path / "c.sqlite")(["a"])


# Left in the middle


def test_ctrl_c_lets_in_what_is_in_flight(server: ScriptedServer, opened: Opened) -> None:
    server.delay = 0.1

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    complete = opened(workers=4, on_done=interrupt)
    with pytest.raises(KeyboardInterrupt):
        complete(PROMPTS)
    kept = len(find_completions(complete.cache, map(complete.key, PROMPTS)))
    assert kept == server.paid.total() <= 8


def test_an_answer_that_is_late_is_not_waited_for_after_ctrl_c(
    server: ScriptedServer, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "GRACE_SECONDS", 0.1)
    late = threading.Event()
    server.answer = lambda prompt: str(late.wait(5)) if prompt == "late" else prompt
    client = open_client(Server(server.url), retries=0, seconds=10.0)
    monkeypatch.setattr(completing, "open_client", lambda *_, **__: client)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        opened(workers=2, on_done=interrupt)(["late", "a"])
    assert time.monotonic() - begun < 3
    late.set()
    client.close()


def test_a_long_wait_ends_with_ctrl_c(
    server: ScriptedServer, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "FIRST_WAIT_SECONDS", 60.0)
    server.refuse = {"b": 500}

    def interrupt(_: int) -> None:
        while not server.asked["b"]:
            time.sleep(0.01)
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        opened(workers=2, on_done=interrupt)(["a", "b"])
    assert time.monotonic() - begun < 5


def test_sigterm_is_ctrl_c_while_completing_and_what_it_was_after(opened: Opened) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        opened(on_done=lambda _: os.kill(os.getpid(), signal.SIGTERM))(PROMPTS)
    assert signal.getsignal(signal.SIGTERM) == before == signal.SIG_DFL


def test_another_meaning_of_sigterm_stays(opened: Opened) -> None:
    met: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: met.append(number))
    try:
        opened(on_done=lambda _: os.kill(os.getpid(), signal.SIGTERM))(["a"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert met == [signal.SIGTERM]


def test_another_thread_than_the_main_one_may_complete(opened: Opened) -> None:
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.extend(opened()(["a"])))
    thread.start()
    thread.join()
    assert texts == ["said a"]


CHILD = """
import sys
from pathlib import Path
from demask.generation import completion
from demask.generation.completion import open_completion
from demask.generation.server import Server
completion.FIRST_WAIT_SECONDS = 0.01
url, model, cache, workers = sys.argv[1:]
complete = open_completion(
    Server(url, model), max_new_tokens=7, cache=Path(cache), workers=int(workers), seconds=1.0
)
print(*complete([f"prompt {i}" for i in range(60)]), sep="\\n")
print("torch" in sys.modules)
"""


def run_child(server: ScriptedServer, cache: Path, *, kill: signal.Signals | None, after: int = 0) -> str:
    """What the child printed; it is sent a signal when the server has answered so many prompts."""
    words = [sys.executable, "-c", CHILD, server.url, MODEL, str(cache), "8"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while kill and child.poll() is None and server.paid.total() < after:
            time.sleep(0.005)
        if kill:
            child.send_signal(kill)
        out, err = child.communicate(timeout=60)
    if kill is None:
        assert (child.returncode, err) == (0, "")
    else:
        assert child.returncode == (-signal.SIGKILL if kill == signal.SIGKILL else -signal.SIGINT), err
    return out


@pytest.mark.parametrize("kills", [[signal.SIGTERM, signal.SIGTERM], [signal.SIGKILL]])
def test_a_run_that_is_killed_completes_and_pays_at_most_for_what_was_in_flight_twice(
    tmp_path: Path, kills: list[signal.Signals]
) -> None:
    with ScriptedServer(faults=TENTHS, seed=3, delay=0.02) as server:
        for count, kill in enumerate(kills, start=1):
            run_child(server, tmp_path / "c.sqlite", kill=kill, after=15 * count)
        assert len(server.paid) < 60
        out = run_child(server, tmp_path / "c.sqlite", kill=None)
    assert out.splitlines() == [*(f"said {prompt}" for prompt in PROMPTS), "False"]
    assert set(server.paid) == set(PROMPTS)
    twice = server.paid.total() - 60
    assert twice <= 8 * kills.count(signal.SIGKILL)  # eight workers
    assert all(server.drawn[fault] for fault in ("timeout", "status_429", "status_500", "half_json", "empty"))


def test_workers_are_those_of_the_server_by_default(opened: Opened) -> None:
    assert opened().workers == WORKERS


# A real server


@pytest.fixture
def real_server(tmp_path: Path) -> Iterator[Server]:
    """`transformers serve` with the embedded model, where both are installed."""
    for module in ("fastapi", "uvicorn"):
        pytest.importorskip(module, reason="needs pip install 'transformers[serving]'")
    folder = cache_folder() / NAME
    if not folder.exists():
        pytest.skip("needs the embedded model in the cache")
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1", "--port"]
    log = tmp_path / "log"
    with log.open("w") as out, subprocess.Popen([*words, port], stdout=out, stderr=out) as process:
        try:
            while "startup complete" not in log.read_text():
                if process.poll() is not None:
                    pytest.skip(f"transformers serve does not start: {log.read_text()[-300:]}")
                time.sleep(0.2)
            yield Server(f"http://127.0.0.1:{port}/v1", str(folder.resolve()))
        finally:
            process.terminate()


@pytest.mark.slow
def test_a_real_server_completes_and_counts(real_server: Server, tmp_path: Path) -> None:
    complete = open_completion(real_server, max_new_tokens=16, workers=2, cache=tmp_path / "c.sqlite")
    prompts = ["What is the capital of France?", "Name a river in Egypt."]
    paris, nile = complete.complete_all(prompts)
    assert ("Paris" in paris.text, "Nile" in nile.text) == (True, True)
    assert (paris.truncated, nile.truncated) == (False, True)
    assert (nile.completion_tokens, complete.paid.prompts) == (16, 2)
    assert complete(prompts) == [paris.text, nile.text]
    assert complete.paid.prompts == 2
