"""Workers are watched: what they tell is shown, one that dies takes all along, signals are handed on."""

import gc
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from demask.errors import ConfigError, InterruptionError, RunError
from demask.launching.nodes import Meeting, wait_for_first_node
from demask.launching.processes import explain, explain_silence, read_error, run_workers
from demask.progress import Silent
from demask.recipe.launch import Launch

# Torch leaves it to the collector to close the log files, and a worker that nobody waits for.
pytestmark = [
    pytest.mark.usefixtures("ctrl_c"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

# Stands in for `demask.commands.worker`: nothing of torch, which takes seconds to import.
WORKER = """
import json, os, signal, sys, time
from pathlib import Path
from demask.launching.processes import write_progress
from demask.commands.worker import end_with_parent

run, told, rank = Path(sys.argv[1]), Path(sys.argv[3]), int(os.environ["RANK"])
end_with_parent()

def end(error, code=1):  # as torch's `record` does
    said = {"message": {"message": error, "extraInfo": {"timestamp": str(int(time.time()))}}}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(said))
    sys.exit(code)
"""

Run = Callable[..., None]
TWO, NOBODY = Launch(processes=2), Silent()


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[object] = []

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        self.said.append((phase, total, done, unit))

    def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
        self.said.append((parts, values))

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run a worker that ends with these lines, on two processes unless told otherwise."""

    def start(lines: str, launch: Launch = TWO, progress: Silent = NOBODY) -> None:
        script = tmp_path / "worker.py"
        script.write_text(WORKER + lines)
        run_workers(tmp_path / "run", launch, progress=progress, program=[str(script)])

    yield start
    gc.collect()  # while its warnings are ignored


def gone(path: Path) -> bool:
    """Whether the process that wrote its number there has ended."""
    try:
        os.kill(int(path.read_text()), 0)
    except ProcessLookupError:
        return True
    return False


def test_what_the_first_worker_tells_is_shown(run: Run) -> None:
    heard = Heard()
    run(
        """
if rank == 0:
    writer = write_progress(told)
    writer.begin("Training", 3, done=1, unit="steps"); writer.advance(2, {"loss": 1.5}); writer.say("a word")
print("for the log")
""",
        progress=heard,
    )
    assert heard.said == [("Training", 3, 1, "steps"), (2, {"loss": 1.5}), "a word"]


def test_workers_have_the_environment_of_torchrun(run: Run, tmp_path: Path) -> None:
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR"]
    run(f"(run / f'{{rank}}.json').write_text(json.dumps([os.environ[n] for n in {names}]))")
    seen = [json.loads((tmp_path / "run" / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert seen == [[str(rank), str(rank), "2", "2", "127.0.0.1"] for rank in (0, 1)]


def test_one_that_raises_is_named_with_its_reason_and_takes_the_others_along(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begun = time.monotonic()
    with pytest.raises(RunError) as caught:
        run(
            """
(run / f"pid-{rank}").write_text(str(os.getpid()))
if rank == 1:
    time.sleep(0.5)
    sys.stderr.write("Traceback (most recent call last):\\n")
    end("ValueError: no good\\nat all")
time.sleep(60)
"""
        )
    log = tmp_path / "run" / "logs" / "rank-1.log"
    assert str(caught.value) == f"rank 1: ValueError: no good (see {log})"
    assert "Traceback" in log.read_text()
    assert time.monotonic() - begun < 20
    assert gone(tmp_path / "run" / "pid-0")
    assert capfd.readouterr().err == "", "the command says it in a line"


def test_one_that_is_killed_is_named_and_not_the_one_that_it_dragged_along(run: Run) -> None:
    with pytest.raises(RunError, match=r"rank 1: killed by SIGKILL, perhaps for want of memory"):
        run(
            """
(run / f"pid-{rank}").write_text(str(os.getpid()))
if rank == 1:
    time.sleep(60)
while not (run / "pid-1").exists() or not (run / "pid-1").read_text():
    time.sleep(0.01)
os.kill(int((run / "pid-1").read_text()), signal.SIGKILL)
end("RuntimeError: Connection closed by peer")
"""
        )


def test_one_that_torch_had_to_kill_is_not_the_one_that_failed(tmp_path: Path) -> None:
    file = tmp_path / "rank-1.json"
    said = {"message": "ValueError: no good", "extraInfo": {"timestamp": str(int(time.time()) - 30)}}
    file.write_text(json.dumps({"message": said}))
    killed = ProcessFailure(local_rank=0, pid=1, exitcode=-signal.SIGKILL, error_file="")
    failed = ProcessFailure(local_rank=1, pid=2, exitcode=1, error_file=str(file))
    assert str(explain({0: killed, 1: failed}, tmp_path)).startswith("rank 1: ValueError: no good (see ")


def test_one_that_crashed_at_the_loss_of_a_killed_one_is_not_the_one_that_failed(tmp_path: Path) -> None:
    signals = (signal.SIGSEGV, signal.SIGKILL)
    failures = {
        rank: ProcessFailure(local_rank=rank, pid=1, exitcode=-signals[rank], error_file="")
        for rank in (0, 1)
    }
    for failure in failures.values():
        failure.timestamp = 1000
    assert str(explain(failures, tmp_path)).startswith("rank 1: killed by SIGKILL")


def test_one_that_ends_without_a_word_is_named_with_its_exit_code(run: Run) -> None:
    with pytest.raises(RunError, match=r"rank 1: ended with exit code 3 \(see .*rank-1.log\)"):
        run("sys.exit(3) if rank == 1 else time.sleep(60)")


def test_an_error_of_ours_keeps_its_kind(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"rank 0: no such thing \(see .*rank-0.log\)"):
        run("end('ConfigError: no such thing', 2) if rank == 0 else time.sleep(60)")


def raise_soon(number: int, times: int, ready: Path) -> None:
    """Send this process a signal once the workers are there."""

    def send() -> None:
        while not all((ready / str(rank)).exists() for rank in (0, 1)):
            time.sleep(0.05)
        for _ in range(times):
            os.kill(os.getpid(), number)
            time.sleep(0.3)

    threading.Thread(target=send, daemon=True).start()


SAVES = """
def save(number, frame):
    (run / f"saved-{rank}").touch()
    from demask.errors import InterruptionError
    end(f"InterruptionError: {InterruptionError(number, step=42)}", 143)
signal.signal(signal.SIGTERM, save)
(run / str(rank)).touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on_and_the_workers_save(run: Run, tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)
    raise_soon(number, 1, tmp_path / "run")
    with pytest.raises(
        InterruptionError, match=f"stopped at step 42 by {signal.Signals(number).name}"
    ) as caught:
        run(SAVES)
    assert caught.value.exit_code == 128 + number
    assert all((tmp_path / "run" / f"saved-{rank}").exists() for rank in (0, 1))
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_does_not_wait_for_the_workers(run: Run, tmp_path: Path) -> None:
    raise_soon(signal.SIGINT, 2, tmp_path / "run")
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run("signal.signal(signal.SIGTERM, signal.SIG_IGN); (run / str(rank)).touch(); time.sleep(8)")
    assert time.monotonic() - begun < 8, "here they do not end with the command, which is pytest"


def test_a_signal_before_training_ends_the_command_as_a_shell_has_it(run: Run, tmp_path: Path) -> None:
    raise_soon(signal.SIGTERM, 1, tmp_path / "run")
    with pytest.raises(SystemExit) as caught:
        run("(run / str(rank)).touch(); time.sleep(60)")
    assert caught.value.code == 143


def test_workers_end_with_the_command(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER + "(run / 'pid').write_text(str(os.getpid())); time.sleep(60)")
    command = (
        "import sys; from pathlib import Path; from demask.launching.processes import run_workers;"
        "from demask.recipe.launch import Launch; from demask.progress import Silent;"
        f"run_workers(Path({str(tmp_path)!r}), Launch(), progress=Silent(), program=[{str(script)!r}])"
    )
    started = os.posix_spawn(sys.executable, [sys.executable, "-c", command], os.environ)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.05)
    os.kill(started, signal.SIGKILL)
    os.waitpid(started, 0)
    for _ in range(100):
        if gone(tmp_path / "pid"):
            return
        time.sleep(0.05)
    pytest.fail("the worker lives on")


def test_a_port_that_another_job_has_is_a_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for name, value in (("NODE_RANK", "0"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", str(port))):
            monkeypatch.setenv(name, value)
        with pytest.raises(RunError, match=f"cannot meet at 127.0.0.1:{port}: .*; check MASTER_ADDR and"):
            run("", Launch(nodes=2))


def test_the_other_nodes_wait_for_the_first(tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "logs" / "begun", needed=True)
    looks: list[None] = []

    def is_done() -> bool:
        looks.append(None)
        if len(looks) == 2:
            meeting.begin()
        return False

    assert wait_for_first_node(meeting, is_done, Silent())
    assert len(looks) == 2
    meeting.end()
    assert not meeting.file.exists(), "who comes later has to wait"


def test_a_node_that_comes_when_all_is_done_does_not_wait(tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "begun", needed=True)
    meeting.begin()  # left behind by one that was killed
    assert not wait_for_first_node(meeting, lambda: True, Silent())


@pytest.mark.parametrize("torn", ["", '{"message": {"mess', "[]", "3", '{"message": null}'])
def test_what_a_worker_was_still_writing_when_it_was_killed_is_no_error_of_ours(
    tmp_path: Path, torn: str
) -> None:
    (tmp_path / "rank-0.json").write_text(torn)
    assert read_error(tmp_path / "rank-0.json") is None


def test_the_worker_that_said_nothing_is_the_one_that_ended(tmp_path: Path) -> None:
    (tmp_path / "rank-0.json").write_text("")
    assert str(explain_silence(range(2), tmp_path)).startswith("rank 1: ended without a word, perhaps killed")
    (tmp_path / "rank-1.json").write_text("")
    assert "rank 0: ended" in str(explain_silence(range(2), tmp_path))
