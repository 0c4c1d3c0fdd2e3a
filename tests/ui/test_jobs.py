"""Commands that the page starts: their order, their end, and that they need no page."""

import json
import os
import sys
import time

import pytest

from demask.errors import RunError
from demask.ui import jobs as module
from demask.ui.jobs import Jobs

pytestmark = pytest.mark.smoke

# Prints its words, waits for a file of that name where it is told to, and says so when it is stopped.
PROGRAM = """
import os, signal, sys, time
def stop(number, frame):
    print("stopped in good order", file=sys.stderr)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("begun", file=sys.stderr, flush=True)
if sys.argv[1] == "fail":
    sys.exit("demask: no such model")
while sys.argv[1] == "wait" and not os.path.exists(sys.argv[2]):
    time.sleep(0.02)
print('{"words": %d}' % len(sys.argv[1:]))
"""


@pytest.fixture
def jobs(workspace):
    made = Jobs(workspace, (sys.executable, "-c", PROGRAM))
    yield made
    for job in made.find_all():
        if made.state(job) in ("waiting", "running"):
            made.stop(job.id)
    wait(made, *made.find_all())
    made.let_go()


def wait(jobs, *some, until=("done", "failed", "stopped")):
    for _ in range(500):
        if all(jobs.state(job) in until for job in some):
            return
        time.sleep(0.02)
    raise AssertionError([(job.kind, jobs.state(job)) for job in some])


def begin(jobs, job):
    """Have it started, and past its first line."""
    jobs.advance()
    for _ in range(500):
        if "begun" in jobs.read(job, "stderr"):
            return
        time.sleep(0.02)
    raise AssertionError(jobs.state(job))


def test_a_job_leaves_what_it_printed_and_its_end(jobs):
    job = jobs.add("read", ["one", "two words", "{job}/out"], about="manuals")
    assert jobs.state(job) == "waiting"
    jobs.advance()
    wait(jobs, job)
    assert (jobs.state(job), jobs.read_result(job)) == ("done", {"words": 3})
    assert job.words[2] == f".demask-ui/jobs/{job.id}/out"


def test_a_failed_job_says_why(jobs):
    job = jobs.add("run", ["fail"], about="runs/first")
    jobs.advance()
    wait(jobs, job)
    assert (jobs.state(job), jobs.describe_end(job)) == ("failed", "no such model")


def test_one_run_at_a_time_in_the_order_of_asking_and_light_work_beside_it(jobs, workspace):
    first = jobs.add("run", ["wait", "go"], about="runs/first")
    second = jobs.add("plan", ["wait", "go"], about="manuals")
    light = jobs.add("read", ["now"], about="manuals")
    jobs.advance()
    jobs.advance()
    wait(jobs, light)
    assert [jobs.state(job) for job in (first, second)] == ["running", "waiting"]
    assert "runs/first" in jobs.blocked(second)
    workspace.inner("go").touch()
    wait(jobs, first)
    jobs.advance()
    wait(jobs, second)
    assert jobs.state(second) == "done"


def test_the_same_is_not_done_twice_at_once(jobs):
    jobs.add("run", ["wait", "go"], about="runs/first")
    with pytest.raises(RunError, match="wait until it has ended"):
        jobs.add("run", ["wait", "go"], about="runs/first")


def test_a_job_outlives_its_server_and_is_found_by_the_next_one(jobs, workspace):
    job = jobs.add("run", ["wait", "go"], about="runs/first")
    begin(jobs, job)
    later = Jobs(workspace)
    (found,) = later.find_all("run", "runs/first")
    assert found == job
    assert later.state(found) == "running"
    pid = int(jobs.read(job, "pid"))
    assert os.getsid(pid) == pid != os.getsid(0)  # the terminal's Ctrl-C does not reach it
    workspace.inner("go").touch()
    wait(later, found)
    assert later.state(found) == "done"


@pytest.mark.parametrize("again", [False, True])
def test_stopping_is_sigterm_and_is_no_failure(jobs, workspace, again):
    job = jobs.add("run", ["wait", "go"], about="runs/first")
    begin(jobs, job)
    (Jobs(workspace) if again else jobs).stop(job.id)
    wait(jobs, job)
    assert jobs.state(job) == "stopped"
    assert jobs.describe_end(job) == "stopped in good order"
    with pytest.raises(RunError, match="ended already"):
        jobs.stop(job.id)


def test_what_waits_can_be_taken_back_and_is_never_started(jobs):
    job = jobs.add("run", ["now"], about="runs/first")
    jobs.stop(job.id)
    jobs.advance()
    assert jobs.state(job) == "stopped"
    assert jobs.read(job, "pid") == ""


def test_a_killed_job_is_no_running_one_though_its_number_is_taken(jobs, workspace):
    job = jobs.add("run", ["now"], about="runs/first")
    (workspace.inner(".demask-ui", "jobs", job.id) / "pid").write_text(str(os.getpid()))
    assert jobs.state(job) == "failed"
    assert "ended from outside" in jobs.describe_end(job)


def test_memory_is_looked_at_before_a_start_and_may_be_overruled(jobs, monkeypatch):
    monkeypatch.setattr(module, "available_memory", lambda: 1_000_000_000)
    job = jobs.add("run", ["now"], about="runs/first", needs=3_000_000_000)
    jobs.advance()
    assert jobs.state(job) == "waiting"
    assert jobs.blocked(job) == "needs about 3.0 GB of memory, of which 1.0 GB are free"
    jobs.start_anyway(job.id)
    jobs.advance()
    wait(jobs, job)
    assert jobs.state(job) == "done"


def test_each_end_is_told_once_also_to_a_later_server(jobs, workspace):
    told = []
    job = jobs.add("questions", ["now"], about="manuals")
    jobs.advance()
    wait(jobs, job)
    later = Jobs(workspace)
    later.on_end = lambda job, state: told.append((job.about, state))
    later.advance()
    later.advance()
    assert told == [("manuals", "done")]


def test_folders_of_old_jobs_go_and_the_last_two_of_each_stay(jobs):
    for _ in range(4):
        job = jobs.add("read", ["now"], about="manuals")
        jobs.advance()
        wait(jobs, job)
        jobs.advance()
    assert len(jobs.find_all("read", "manuals")) == 2
    assert jobs._children == {}  # none was started again


def test_a_folder_of_documents_is_not_where_modules_are_imported_from(workspace):
    """Who drops `json.py` among documents must not have it run."""
    workspace.inner("json.py").write_text("raise SystemExit('run from the documents')")
    real = Jobs(workspace)
    job = real.add("read", ["--help"], about="manuals")
    real.advance()
    wait(real, job)
    real.advance()
    assert real.state(job) == "done", real.read(job, "stderr")
    real.let_go()


def test_a_job_with_a_damaged_file_is_none(jobs, workspace):
    job = jobs.add("read", ["now"], about="manuals")
    path = workspace.inner(".demask-ui", "jobs", job.id, "job.json")
    for text in ("", "[]", json.dumps({"id": 1})):
        path.write_text(text)
        assert jobs.find_all() == []
    jobs.advance()
