"""Attacks on the page's server, each a test."""

import os
from html import escape

import pytest
from starlette.testclient import TestClient
from tests.ui.conftest import OWN, PORT

from demask.errors import ConfigError, DataError
from demask.ui.folders import Workspace, check_name, sane_name
from demask.ui.safety import Door, is_loopback
from demask.ui.server import make_app

pytestmark = pytest.mark.smoke

ADDRESSES = ("/", "/documents", "/runs/runs/first", "/static/page.js", "/live/runs", "/nothing")
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def run(workspace: Workspace):
    """A finished run with a report."""
    folder = workspace.inner("runs", "first")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        '{"model": "tiny", "objective": {"name": "demasking"}, "documents": ["d"]}'
    )
    (folder / "summary.json").write_text("{}")
    (folder / "report.html").write_text("<p>the report</p>")
    return folder


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_is_shown_without_the_token(stranger, run, address):
    answer = stranger.get(address)
    assert answer.status_code == 403
    assert "first" not in answer.text


def test_a_wrong_token_opens_nothing_and_gives_no_cookie(stranger):
    answer = stranger.get("/?token=secrex")
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert stranger.get("/").status_code == 403


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_do_not_get(stranger):
    answer = stranger.get("/?token=secret")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert stranger.get("/").status_code == 200


def test_the_token_is_taken_in_the_opening_address_alone(stranger):
    assert stranger.get("/documents?token=secret").status_code == 403


@pytest.mark.parametrize(
    "host",
    ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", f"a@127.0.0.1:{PORT}", "", "["],
)
def test_another_host_is_refused_whatever_the_cookie(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", f"https://127.0.0.1:{PORT}", "http://127.0.0.1"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_origin_is_refused_whatever_the_cookie(client, origin, method):
    assert client.request(method, "/", headers={"Origin": origin}).status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_changes_something_must_say_where_it_comes_from(client, method):
    del client.headers["Origin"]
    assert client.request(method, "/").status_code == 403


def test_every_answer_forbids_scripts_of_others_and_frames(client, run):
    for address in ADDRESSES[:4]:
        policy = client.get(address).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "connect-src 'self'" in policy


def test_a_report_runs_in_a_sandbox_that_reaches_nothing(client, run):
    policy = client.get("/runs/runs/first/report").headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;")
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy  # so that default-src 'none' holds for it
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    "place",
    [
        "..%2Fsecret",
        "%2e%2e/secret",
        "runs/%2e%2e/%2e%2e/secret",
        "runs/first/%2e%2e/first",
        "%2e%2e/%2e%2e/etc",
        "/etc",
        "runs/first%00",
        "runs//first",
    ],
)
def test_no_path_of_the_askers_choosing_is_served(client, run, place):
    secret = run.parents[2] / "secret"
    secret.mkdir()
    (secret / "report.html").write_text("the secret")
    (secret / "config.json").write_text('{"model": "m", "objective": "o"}')
    for address in (f"/runs/{place}", f"/runs/{place}/report", f"/static/{place}", f"/live/runs/{place}"):
        answer = client.get(address)
        assert answer.status_code in (403, 404), address
        assert "secret" not in answer.text


@pytest.mark.parametrize("name", ["report.html", "metrics.jsonl"])
def test_a_link_in_a_run_folder_is_not_followed(client, run, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_text('{"step": 1, "loss_masked": 0.5, "secret": 1}')
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(secret)
    assert client.get("/runs/runs/first/report").status_code == 404
    page = client.get("/runs/runs/first?show=watch")
    assert page.status_code == 200
    assert f"{name} in its folder is a link" in page.text
    assert "small changes" not in page.text


def test_a_run_folder_that_is_a_link_is_no_run(client, run, tmp_path, workspace):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").write_bytes((run / "config.json").read_bytes())
    (workspace.inner("runs", "linked")).symlink_to(outside)
    assert workspace.find_runs() == ["runs/first"]
    assert client.get("/runs/runs/linked").status_code == 404


def test_a_file_that_became_a_link_or_a_pipe_is_not_opened(workspace, run):
    os.mkfifo(run / "pipe")
    (run / "link").symlink_to(run / "summary.json")
    for name in ("pipe", "link", "..", ".", "", "first"):
        assert not workspace.has("runs/first", name)


def test_what_runs_are_called_is_escaped(client, run, workspace):
    run.rename(run.with_name(f"a {SCRIPT.replace('/', '')}"))
    (run.with_name(f"a {SCRIPT.replace('/', '')}") / "config.json").write_text(
        '{"model": "<script>alert(2)<script>", "objective": {"name": "<img>"}, "documents": []}'
    )
    page = client.get("/").text
    assert "<script>alert" not in page
    assert escape("<script>alert(2)") in page


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\me\\Report (2).pdf", "Report (2).pdf"),
        (".hidden.txt", "hidden.txt"),
        ("a\x00b\nc.txt", "a_b_c.txt"),
        ("<script>.html", "script_.html"),
        ("Größe 日本.md", "Größe 日本.md"),
        ("-rf.txt", "rf.txt"),
    ],
)
def test_names_of_files_are_made_sane(given, name):
    assert sane_name(given) == name


@pytest.mark.parametrize("given", ["", "..", "../..", "///", "\x00", "....", "~"])
def test_a_name_of_which_nothing_is_left_is_refused(given):
    with pytest.raises(DataError):
        sane_name(given)


def test_a_long_name_is_cut_before_its_suffix():
    name = sane_name("日" * 500 + ".pdf")
    assert name.endswith("日.pdf")
    assert len(name.encode()) <= 120


@pytest.mark.parametrize("given", ["", "../x", "a/b", ".x", "a\x00", "x" * 200, None, 3, "-x", "a\n"])
def test_a_name_for_something_new_is_one_part(given):
    if given == "a\n":  # white space around it means nothing
        assert check_name(given, "name") == "a"
        return
    with pytest.raises(ConfigError):
        check_name(given, "name")


def test_with_another_host_names_of_others_stay_refused_and_numbers_are_let_in(workspace):
    door = Door("secret", PORT, "0.0.0.0")
    assert door.allows_host(f"192.168.1.7:{PORT}")
    assert door.allows_host(f"localhost:{PORT}")
    assert not door.allows_host(f"evil.example:{PORT}")
    assert not Door("secret", PORT).allows_host(f"192.168.1.7:{PORT}")


def test_loopback_is_told_apart():
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost", "127.9.9.9")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.7", "example.org")))


def test_cookies_that_are_no_cookies_open_nothing(workspace, door):
    with TestClient(make_app(workspace, door), base_url=OWN) as client:
        for cookie in ("", "=", "a=b; c", f"{door.cookie}=", f"{door.cookie}=secreT", "\x01\x02"):
            assert client.get("/", headers={"Cookie": cookie}).status_code == 403
