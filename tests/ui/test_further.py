"""What is done with finished runs: each a command of `demask`, asked for by name among what was found."""

import json

import pytest

from demask.ui.jobs import Jobs

pytestmark = pytest.mark.smoke

SUMMARY = {"objective": "demasking", "model": "tiny", "metrics": {}, "changes": {}}


@pytest.fixture
def asked(workspace, monkeypatch):
    """Jobs stay where they are: nothing is started."""
    monkeypatch.setattr(Jobs, "advance", lambda self: None)
    return Jobs(workspace)


@pytest.fixture
def finish(workspace):
    def finish(name, **more):
        folder = workspace.inner("runs", name)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(
            '{"model": "tiny", "objective": {"name": "demasking"}, "documents": []}'
        )
        (folder / "summary.json").write_text(json.dumps({**SUMMARY, **more}))
        return f"runs/{name}"

    return finish


@pytest.fixture
def send(client, asked):
    def send(address, status=200, **body):
        answer = client.post(address, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    return send


@pytest.mark.parametrize(
    ("form", "command"),
    [
        ("q8_0", "demask export runs/first --to gguf --out exports/first-q8_0 --json --quant q8_0"),
        ("ollama", "demask export runs/first --to ollama --out exports/first-ollama --json"),
    ],
)
def test_an_export_is_the_ordinary_one(send, finish, asked, client, form, command):
    send(f"/api/{finish('first')[:4]}/runs/first/further", task="export", form=form)
    (job,) = asked.find_all("export")
    assert " ".join(job.command) == command
    assert "begins soon" in client.get("/runs/runs/first?show=further").text


def test_an_update_takes_documents_and_questions_by_name(send, finish, asked, client, workspace):
    finish("first")
    send("/api/documents", name="news")
    client.put("/api/documents/news/files?name=a.txt", content=b"Mara lit the lamp.")
    workspace.inner("questions").mkdir()
    pair = {"id": "q", "document_id": "a", "question": "Who?", "answers": ["Mara"], "direction": "backward"}
    workspace.inner("questions", "news.jsonl").write_text(json.dumps(pair) + "\n")
    go = send("/api/runs/runs/first/further", task="update", documents="news", name="second")
    assert go == {"go": "/runs/runs/second?show=watch"}
    (job,) = asked.find_all("run")
    assert " ".join(job.command) == (
        "demask update runs/first --documents documents/news --out runs/second --json "
        "--qa questions/news.jsonl"
    )


def test_an_update_asks_nothing_where_that_is_wanted(send, finish, asked, client):
    finish("first")
    send("/api/documents", name="news")
    client.put("/api/documents/news/files?name=a.txt", content=b"Mara lit the lamp.")
    body = {"task": "update", "documents": "news", "name": "second", "questions": "no"}
    send("/api/runs/runs/first/further", **body)
    (job,) = asked.find_all("run")
    assert " ".join(job.command).endswith("--out runs/second --json --qa no")


def test_a_run_is_moved_back_and_undone_into_folders_of_their_own(send, finish, asked):
    finish("first")
    send("/api/runs/runs/first/further", task="retain", budget="0.05", name="softer")
    send("/api/runs/runs/first/further", task="undo")
    send("/api/runs/runs/first/further", task="gate", name="behind")
    commands = {" ".join(job.command) for job in asked.find_all()}
    assert commands == {
        "demask retain runs/first --budget 0.05 --out runs/softer --json",
        "demask undo runs/first --out exports/first-undone --json",
        "demask retain runs/first --gate --out runs/behind --json",
    }


def test_undo_is_offered_where_something_leads_back(finish, client, workspace):
    finish("first")
    page = client.get("/runs/runs/first?show=further").text
    assert ("Give it back" in page, "only the model that it began with" in page) == (False, True)
    workspace.inner("runs", "first", "lineage.json").write_text("{}")
    assert "Give it back" in client.get("/runs/runs/first?show=further").text


def test_a_gate_is_offered_once_and_its_state_is_shown(send, finish, asked, client, workspace):
    finish("first")
    offer, told = "Put a gate before it", "stands behind a gate"
    page = client.get("/runs/runs/first?show=further").text
    assert (offer in page, told in page) == (True, False)
    workspace.inner("runs", "first", "gate.json").write_text("{}")
    page = client.get("/runs/runs/first?show=further").text
    assert (offer in page, told in page) == (False, True)
    answer = send("/api/runs/runs/first/further", status=400, task="gate", name="behind")
    assert "has a gate already" in answer["error"]
    assert asked.find_all() == []


@pytest.mark.parametrize(
    ("config", "offered"),
    [
        ({"objective": {"name": "demasking"}, "documents": []}, (True, True)),
        ({"objective": {"name": "diffusion"}, "documents": []}, (True, False)),
        ({"objective": {"name": "sft"}, "data": ["d"]}, (False, False)),
    ],
)
def test_only_what_a_run_can_have_is_offered(finish, client, workspace, config, offered):
    finish("first")
    workspace.inner("runs", "first", "config.json").write_text(json.dumps({"model": "tiny", **config}))
    page = client.get("/runs/runs/first?show=further").text
    assert ("Teach it more" in page, "Put a gate before it" in page) == offered


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"task": "export", "form": "../x"}, 400),
        ({"task": "update", "documents": "../x", "name": "b"}, 400),
        ({"task": "retain", "budget": "9", "name": "b"}, 400),
        ({"task": "retain", "budget": "0.05", "name": "../b"}, 400),
        ({"task": "retain", "budget": "0.05", "name": "first"}, 400),
        ({"task": "gate", "name": "../b"}, 400),
        ({"task": "delete"}, 404),
        ({}, 404),
    ],
)
def test_what_is_not_offered_is_refused(send, finish, asked, body, status):
    finish("first")
    send("/api/runs/runs/first/further", status=status, **body)
    assert asked.find_all() == []


def test_runs_are_compared_by_the_command_without_loading_models(send, finish, asked, client, workspace):
    finish("first"), finish("second")
    send("/api/compare", status=400, runs=["runs/first"])
    send("/api/compare", status=400, runs=["runs/first", "../second"])
    send("/api/compare", status=400, runs="runs/first")
    send("/api/compare", runs=["runs/first", "runs/second"])
    (job,) = asked.find_all()
    assert " ".join(job.words) == (
        "compare runs/first runs/second --out comparisons/first and second.html --overwrite "
        "--measure none --json"
    )
    assert not job.is_heavy
    assert client.get("/comparisons/first and second").status_code == 404
    workspace.inner("comparisons").mkdir()
    workspace.inner("comparisons", "first and second.html").write_text("<p>both</p>")
    workspace.inner("comparisons", "linked.html").symlink_to(workspace.inner("runs", "first", "config.json"))
    page = client.get("/comparisons/first and second")
    assert page.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert client.get("/comparisons/linked").status_code == 404
    assert "first and second" in client.get("/compare").text


def test_the_line_of_updates_is_shown(finish, client):
    accuracy = {"0": {"forward": {"value": 1.0, "low": 0.5, "high": 1.0, "n": 4}}}
    rows = [
        {"number": n, "run": f"/x/{name}", "learned": [name], "replaced": [], "forgotten": [], "facts":
         accuracy, "removed": {}, "retention": {}, "seconds": 3.0} for n, name in enumerate(("one", "two"))
    ]  # fmt: skip
    finish("second", line=rows)
    page = client.get("/runs/runs/second?show=further").text
    assert "one" in page
    assert page.count("<table>") >= 1
