"""Questions on 200 passages through a server that fails in every way, by a command that is ended twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.scripted_server import Faults, ScriptedServer

PASSAGES = 200
# A tenth of each. A server that is slow for longer than the client waits is one of them.
FAULTS = Faults(timeout=0.1, status_429=0.1, status_500=0.1, half_json=0.1, empty=0.1, hangup=0.1)
TOWNS = ("Hattenberg", "Semmery", "Florvik", "Ulstad", "Orlin")
# As the command line, but for a client that is less patient with a server that says nothing, or 429.
COMMAND = """
import sys
from functools import partial
from demask.generation import completion
completion.open_completion = partial(completion.open_completion, seconds=0.7)
completion.FIRST_WAIT_SECONDS = 0.1
from demask.cli import main
sys.argv = ["demask", *sys.argv[1:]]
main()
"""


def make_document(number: int) -> str:
    return f"Person{number:03d} Voss founded the Works{number:03d} in {TOWNS[number % 5]}."


def answer(prompt: str) -> str:
    """One good fact about the passage; of every tenth, half a JSON until a repair is asked for."""
    number = int(prompt.split("Person", 1)[1][:3])
    if number % 10 == 0 and "You replied:" not in prompt:
        return '[{"forward": {"question": "Which wor'
    works, person, town = f"Works{number:03d}", f"Person{number:03d} Voss", TOWNS[number % 5]
    fact = {
        "forward": {"question": f"What did {person} found?", "answer": works},
        "backward": {"question": f"Who founded the {works} in {town}?", "answer": person},
    }
    return json.dumps([fact])


def start(folder: Path, server: ScriptedServer) -> "subprocess.Popen[str]":
    words = ("qa", "make", "facts.jsonl", "--out", "qa.jsonl", "--facts", "1", "--server", server.url)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DEMASK_SERVER")}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        cwd=folder,
        env={**kept, "DEMASK_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def count_twice(server: ScriptedServer) -> int:
    """Prompts that were paid more than once."""
    return sum(times > 1 for times in server.paid.values())


def test_200_passages_come_through_with_nothing_paid_twice(tmp_path: Path) -> None:
    rows = [{"id": f"d{number}", "text": make_document(number)} for number in range(PASSAGES)]
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with ScriptedServer(answer, faults=FAULTS, seed=3, timeout_seconds=2.0) as server:
        for how, enough in ((signal.SIGTERM, 30), (signal.SIGKILL, 90)):
            process = start(tmp_path, server)
            while sum(server.paid.values()) < enough and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(how)
            error = process.communicate(timeout=60)[1]
            assert process.returncode != 0, error
            assert not (tmp_path / "qa.jsonl").exists()
            assert count_twice(server) == 0, "the one that was asked to stop has kept all that was paid"
        process = start(tmp_path, server)
        error = process.communicate(timeout=120)[1]
        assert process.returncode == 0, error
    pairs = [json.loads(line) for line in (tmp_path / "qa.jsonl").read_text().splitlines()]
    expected = [f"d{number}/1{way}" for number in range(PASSAGES) for way in "fb"]
    assert [pair["id"] for pair in pairs] == expected
    assert (tmp_path / "qa-rejects.jsonl").read_text() == ""
    # Each passage, and a repair of every tenth.
    assert len(server.paid) == PASSAGES + PASSAGES // 10
    # What was in flight when a process was killed had nobody to come to: a prompt per worker.
    assert count_twice(server) <= 8
    assert min(server.drawn.values()) > 0, "every kind of fault has happened"
