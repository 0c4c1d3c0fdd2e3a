"""From dropped documents to a run that is asked for: what the page's scripts send, and what it shows."""

import json
import time

import pytest
from starlette.testclient import TestClient
from tests.ui.conftest import OWN

from demask.ui import document_sets
from demask.ui.jobs import Jobs
from demask.ui.server import make_app

pytestmark = pytest.mark.smoke

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def send(client):
    """A script's request; gives what is answered."""

    def send(address, status=200, **body):
        answer = client.post(address, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    return send


@pytest.fixture
def drop(client):
    def drop(name, content, status=200, **more):
        answer = client.put(f"/api/documents/manuals/files?name={name}", content=content, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    return drop


@pytest.fixture
def manuals(send, workspace):
    send("/api/documents", name="manuals")
    return workspace.inner("documents", "manuals")


@pytest.fixture
def asked(workspace, monkeypatch):
    """Jobs stay where they are: nothing is started."""
    monkeypatch.setattr(Jobs, "advance", lambda self: None)
    return Jobs(workspace)


def read(workspace, *texts):
    """As a job leaves it that has read documents."""
    jobs = Jobs(workspace)
    job = jobs.add("read", ["data", "read"], about="manuals")
    folder = workspace.inner(".demask-ui", "jobs", job.id)
    rows = [
        {"id": f"d{n}", "title": "", "read_from": f"d{n}.txt", "text": text} for n, text in enumerate(texts)
    ]
    (folder / "read.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "stdout").write_text(json.dumps({"documents": len(rows), "files": [], "skipped": []}))
    (folder / "ended").write_text("0")
    (folder / "noticed").write_text("")


def test_a_dropped_file_lies_in_a_folder_that_the_command_line_takes(manuals, drop, client):
    assert drop("..%2F..%2Fguide.txt", b"The lamp was lit in 1931.") == {"file": "guide.txt"}
    assert (manuals / "guide.txt").read_text() == "The lamp was lit in 1931."
    assert "guide.txt" in client.get("/documents/manuals").text
    assert [path.name for path in manuals.iterdir()] == ["guide.txt"]


def test_nothing_is_overwritten_by_a_dropped_file(manuals, drop, tmp_path):
    drop("guide.txt", b"first")
    assert "is there already" in drop("guide.txt", b"second", status=400)["error"]
    (manuals / "link.txt").symlink_to(tmp_path / "outside.txt")
    assert "is there already" in drop("link.txt", b"second", status=400)["error"]
    assert (manuals / "guide.txt").read_bytes() == b"first"
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize("name", ["run.exe", "a.html.exe", "notes", "page.HTML%00.exe"])
def test_files_of_kinds_that_are_not_read_are_refused_with_what_to_do(manuals, drop, name):
    assert "expected one of .txt" in drop(name, b"x", status=400)["error"]
    assert list(manuals.iterdir()) == []


def test_a_file_of_10_gb_is_refused_before_it_is_read(manuals, client):
    headers = {"Content-Length": str(10**10)}
    answer = client.put("/api/documents/manuals/files?name=a.txt", content=iter([b"x"]), headers=headers)
    assert answer.status_code == 413


def test_a_file_without_a_length_is_cut_off_and_leaves_nothing(workspace, door):
    sent = []

    def endless():
        for _ in range(100):
            sent.append(1)
            yield b"x" * 100_000

    with TestClient(make_app(workspace, door, most_upload=1_000_000), base_url=OWN) as client:
        client.get("/?token=secret")
        client.headers["Origin"] = OWN
        client.post("/api/documents", json={"name": "manuals"})
        answer = client.put("/api/documents/manuals/files?name=a.txt", content=endless())
    assert answer.status_code == 400
    assert "more than 1 MB" in answer.json()["error"]
    assert list(workspace.inner("documents", "manuals").iterdir()) == []


def test_a_part_that_a_killed_server_has_left_goes(workspace, door):
    workspace.inner("documents", "manuals").mkdir(parents=True)
    part = workspace.inner("documents", "manuals", ".part-x1y2")
    part.touch()
    with TestClient(make_app(workspace, door), base_url=OWN):
        assert not part.exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x\x00", None, 3, ["a"], "x" * 300])
def test_a_set_with_a_name_that_is_none_is_refused(send, workspace, name):
    assert "expected a name" in send("/api/documents", status=400, name=name)["error"]
    assert not workspace.inner("documents").exists()


def test_a_folder_is_chosen_among_those_that_were_found_alone(send, workspace, tmp_path, asked):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.txt").write_text("secret")
    workspace.inner("texts").mkdir()
    workspace.inner("texts", "a.txt").write_text("open")
    workspace.inner("linked").symlink_to(tmp_path / "secret")
    for place in ("../secret", str(tmp_path / "secret"), "linked", "/", "", "texts/.."):
        assert "no folder of documents here" in send("/api/documents", status=400, place=place)["error"]
    assert send("/api/documents", place="texts") == {"go": "/documents/texts"}
    (job,) = asked.find_all("read")
    assert job.words[:3] == ("data", "read", "texts")


def test_an_html_document_with_scripts_is_shown_as_text(manuals, drop, client, workspace):
    drop("page.html", f"<p>{SCRIPT}</p>".encode())
    read(workspace, f"It says {SCRIPT}")
    page = client.get("/documents/manuals")
    assert SCRIPT not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert client.get("/documents/manuals/page.html").status_code == 404


def test_a_removed_file_is_one_that_was_dropped(manuals, drop, send, workspace, tmp_path, asked):
    drop("guide.txt", b"x")
    (tmp_path / "models" / "other.txt").write_text("stays")
    for file in ("../../other.txt", "/etc/passwd", "", "nothing.txt", None):
        assert "no file of" in send("/api/documents/manuals/remove", status=400, file=file)["error"]
    send("/api/documents/manuals/remove", file="guide.txt")
    assert list(manuals.iterdir()) == []
    assert (tmp_path / "models" / "other.txt").exists()


def test_questions_are_written_corrected_struck_out_and_taken_back(manuals, drop, send, client, workspace):
    drop("d0.txt", b"x")
    read(workspace, "Mara Voss lit the lamp in 1931.")
    api = "/api/documents/manuals"
    wanted = {
        "question": "Who lit the lamp?",
        "answers": "Mara Voss\nVoss",
        "direction": "backward",
        "document_id": "d0",
    }
    send(f"{api}/question", **wanted)
    file = workspace.inner("questions", "manuals.jsonl")
    row = json.loads(file.read_text())
    assert (row["id"], row["answers"], row["direction"]) == ("own-1", ["Mara Voss", "Voss"], "backward")
    send(f"{api}/question", **{**wanted, "id": "own-1", "question": "Who lit it?"})
    assert json.loads(file.read_text())["question"] == "Who lit it?"
    assert "Who lit it?" in client.get("/documents/manuals?show=questions").text
    send(f"{api}/strike", id="own-1")
    assert file.read_text() == ""
    send(f"{api}/strike", id="own-1", back=True)
    assert json.loads(file.read_text())["id"] == "own-1"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"question": " "}, "question is ' '"),
        ({"answers": " \n"}, "answers is []"),
        ({"direction": "sideways"}, "expected 'forward' or 'backward'"),
        ({"document_id": "other"}, "expected the id of one of the 1 documents"),
        ({"question": ["a"]}, "question is ['a']"),
    ],
)
def test_a_question_that_a_run_would_refuse_is_refused_here(manuals, drop, send, workspace, change, says):
    read(workspace, "Mara Voss lit the lamp in 1931.")
    wanted = {"question": "Who?", "answers": "Mara", "direction": "forward", "document_id": "d0", **change}
    error = send("/api/documents/manuals/question", status=400, **wanted)["error"]
    assert says in error
    assert "jsonl" not in error
    assert not workspace.inner("questions", "manuals.jsonl").exists()


def test_made_questions_join_those_that_are_there_and_not_those_struck_out(workspace, send, manuals, drop):
    drop("d0.txt", b"x")
    read(workspace, "Mara Voss lit the lamp in 1931.")
    api = "/api/documents/manuals"
    mine = {"question": "Who lit it?", "answers": "Mara", "direction": "backward", "document_id": "d0"}
    send(f"{api}/question", **mine)
    send(f"{api}/question", **{**mine, "question": "When was it lit?", "direction": "forward"})
    send(f"{api}/strike", id="own-2")
    jobs = Jobs(workspace)
    job = jobs.add("questions", ["qa", "make"], about="manuals")
    made = [{**mine, "answers": ["1931"], "id": f"own-{n}", "question": q}
            for n, q in enumerate(("Who lit it?", "When was it lit?", "What was lit?"), start=1)]  # fmt: skip
    folder = workspace.inner(".demask-ui", "jobs", job.id)
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    sets = document_sets.DocumentSets(workspace, jobs)
    assert sets.take_questions(job) == 1
    assert [pair.question for pair in sets.questions("manuals")] == ["Who lit it?", "What was lit?"]
    (folder / "ended").write_text("0")


def test_the_recipe_and_the_command_are_those_of_the_command_line(manuals, send):
    said = send(
        "/api/documents/manuals/recipe",
        name="first",
        model="embedded",
        preset="keep",
        budget="0.05",
        more="train.steps=9",
    )
    assert said["recipe"] == (
        "model: embedded\ndocuments:\n- documents/manuals\npreset: keep\n"
        "retain:\n  budget: 0.05\ntrain:\n  steps: 9\n"
    )
    assert said["command"] == "demask inject recipes/first.yaml --out runs/first"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": "/etc/passwd"}, "expected 'embedded'"),
        ({"model": "../model"}, "expected 'embedded'"),
        ({"model": "a/b/c"}, "expected 'embedded'"),
        ({"model": ""}, "expected 'embedded'"),
        ({"preset": "best"}, "preset: 'best'"),
        ({"budget": "7"}, "budget: '7'"),
        ({"more": "documents=/etc/passwd"}, "documents: is chosen above"),
        ({"more": "writer.url=http://x"}, "writer.url: is chosen above"),
        ({"more": "retain.data=/etc/passwd"}, "retain.data: is chosen above"),
        ({"more": "train.stepz=3"}, "did you mean 'steps'"),
        ({"more": "nonsense"}, "expected KEY=VALUE"),
    ],
)
def test_what_was_chosen_wrongly_is_said_in_one_line(manuals, send, given, says):
    body = {"model": "embedded", "preset": "keep", **given}
    assert says in send("/api/documents/manuals/recipe", status=400, **body)["error"]


def test_a_start_is_an_ordinary_inject_with_a_recipe_file(manuals, drop, send, asked, workspace, client):
    drop("d0.txt", b"x")
    chosen = {"name": "first", "model": "embedded", "preset": "fast"}
    assert send("/api/documents/manuals/start", **chosen) == {"go": "/runs/runs/first?show=watch"}
    (job,) = asked.find_all("run")
    assert job.command == "demask inject recipes/first.yaml --out runs/first --json".split()
    assert "preset: fast" in workspace.inner("recipes", "first.yaml").read_text()
    assert "waiting" in client.get("/runs/runs/first").text
    assert "already" in send("/api/documents/manuals/start", status=400, **chosen)["error"]
    send("/api/runs/runs/first/stop")
    assert asked.state(job) == "stopped"
    send("/api/runs/runs/first/resume")
    again, _ = asked.find_all("run")
    assert (again.words, asked.state(again)) == (job.words, "waiting")


@pytest.mark.parametrize("name", ["", "../first", "a/b", None])
def test_a_model_with_a_name_that_is_none_is_not_started(manuals, drop, send, asked, name):
    drop("d0.txt", b"x")
    body = {"model": "embedded", "preset": "fast", "name": name}
    assert "expected a name" in send("/api/documents/manuals/start", status=400, **body)["error"]
    assert asked.find_all() == []


def test_a_start_without_documents_says_so(manuals, send, asked):
    body = {"model": "embedded", "preset": "fast", "name": "first"}
    assert "drop some first" in send("/api/documents/manuals/start", status=400, **body)["error"]


def test_memory_of_the_plan_is_asked_for_by_the_run_of_the_same_recipe(manuals, drop, send, asked, workspace):
    drop("d0.txt", b"x")
    chosen = {"model": "embedded", "preset": "fast"}
    send("/api/documents/manuals/plan", **chosen)
    (plan,) = asked.find_all("plan")
    folder = workspace.inner(".demask-ui", "jobs", plan.id)
    (folder / "stdout").write_text('{"memory_bytes": 123}')
    (folder / "ended").write_text("0")
    send("/api/documents/manuals/start", name="first", **chosen)
    send("/api/documents/manuals/start", name="second", **{**chosen, "preset": "paper"})
    assert {job.about: job.needs for job in asked.find_all("run")} == {"runs/first": 123, "runs/second": 0}


@pytest.mark.parametrize("body", [b"[]", b"nonsense", b"\xff", b'"a"'])
def test_a_body_that_is_no_object_is_refused(client, manuals, body):
    headers = {"Content-Type": "application/json"}
    assert client.post("/api/documents/manuals/recipe", content=body, headers=headers).status_code == 400


def test_a_form_of_another_page_is_refused(client, manuals):
    assert client.post("/api/documents", data={"name": "x"}).status_code == 415


def test_documents_are_read_by_the_command_and_shown(manuals, drop, send, client):
    """The one test here that has a job done: 2 s of `demask data read`."""
    drop("guide.md", b"# The lamp\n\nMara Voss lit the lamp in 1931.\n")
    send("/api/documents/manuals/read")
    for _ in range(600):
        page = client.get("/documents/manuals").text
        if "1 document read" in page:
            break
        time.sleep(0.1)
    assert "Mara Voss lit the lamp in 1931." in page
    assert "The lamp" in page
