"""`demask ui` as a program: what it says, what it refuses, and that many requests at once hurt nothing."""

import asyncio
import json
import socket
import sys

import httpx
import pytest
from tests.ui.served import Server

from demask import cli
from demask.storage.locks import holding
from demask.ui import server as module


@pytest.fixture
def ui(monkeypatch, capsys):
    """Run the command without serving; gives exit code, what is printed and what would be served."""
    served = []
    monkeypatch.setattr(
        module, "serve", lambda workspace, door, **more: served.append((workspace, door, more))
    )

    def ui(*words):
        monkeypatch.setattr(sys, "argv", ["demask", "ui", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out + printed.err, served

    return ui


@pytest.fixture
def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_address_has_a_token_that_is_new_each_time(ui, tmp_path, free_port):
    folder = tmp_path / "models"
    code, said, served = ui(folder, "--port", free_port)
    assert code == 0
    assert f"http://127.0.0.1:{free_port}/?token={served[0][1].token}" in said
    assert "Warning" not in said
    ui(folder, "--port", free_port)
    assert served[0][1].token != served[1][1].token
    assert folder.is_dir()


def test_another_host_is_warned_of(ui, tmp_path, free_port):
    _, said, served = ui(tmp_path, "--port", free_port, "--host", "0.0.0.0")
    assert "Warning: --host 0.0.0.0: others on the network reach this page" in said
    assert served[0][1].host == "0.0.0.0"


def test_what_is_no_folder_for_runs_is_refused(ui, tmp_path):
    (tmp_path / "file").touch()
    code, said, served = ui(tmp_path / "file")
    assert (code, "a file, expected a folder" in said) == (2, True)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"model": "m", "objective": "o", "documents": []}')
    code, said, _ = ui(run)
    assert (code, f"try {tmp_path}" in said) == (2, True)
    assert served == []


def test_a_port_that_is_taken_is_said(ui, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said, served = ui(tmp_path, "--port", port)
    assert (code, "choose another --port" in said, served) == (2, True, [])


def test_a_second_page_in_a_folder_is_refused(tmp_path, door):
    from demask.errors import RunError
    from demask.ui.folders import Workspace

    with (
        holding(tmp_path / ".demask-ui"),
        pytest.raises(RunError, match="another 'demask ui' works in this folder"),
    ):
        module.serve(Workspace(tmp_path), door)


def test_two_hundred_requests_at_once_beside_a_run_are_all_answered(tmp_path):
    """Each reads the log of a run that is being written; the server stays small."""
    folder = tmp_path / "models"
    run = folder / "runs" / "first"
    run.mkdir(parents=True)
    (run / "config.json").write_text('{"model": "m", "objective": {"name": "demasking"}, "documents": []}')
    row = {"seconds": 1.0, "tokens": 10, "loss_masked": 1.0, "loss_copied": 0.5, "planned_steps": 5000}
    rows = [json.dumps({"step": step, **row, "seconds": step / 9}) + "\n" for step in range(1, 5001)]
    (run / "metrics.jsonl").write_text("".join(rows))
    server = Server(folder)
    try:
        with holding(run):
            answers = asyncio.run(ask_often(server, 200))
        assert [answer.status_code for answer in answers] == [200] * 200
        assert all("small changes made" in answer.text for answer in answers[::2])
        assert server.peak_megabytes < 100
    finally:
        server.end()


async def ask_often(server, times):
    pages = ("/runs/runs/first?show=watch", "/")
    limits = httpx.Limits(max_connections=times)
    async with httpx.AsyncClient(base_url=server.own, timeout=300, limits=limits) as client:
        await client.get(server.address)
        return await asyncio.gather(*(client.get(pages[number % 2]) for number in range(times)))


def test_more_streams_than_it_can_serve_are_turned_away(tmp_path):
    async def look(server):
        async with httpx.AsyncClient(base_url=server.own, timeout=60) as client:
            await client.get(server.address)
            streams = [client.stream("GET", "/live/runs") for _ in range(41)]
            codes = [(await stream.__aenter__()).status_code for stream in streams]
            for stream in streams:
                await stream.__aexit__(None, None, None)
            return codes

    server = Server(tmp_path / "models")
    try:
        assert asyncio.run(look(server)) == [200] * 40 + [503]
    finally:
        server.end()
