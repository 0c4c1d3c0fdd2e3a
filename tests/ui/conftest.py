"""A page over a folder of its own, and a browser's requests to it."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from demask.ui.folders import Workspace
from demask.ui.safety import Door
from demask.ui.server import make_app

PORT = 8765
OWN = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty folder."""
    (tmp_path / "models").mkdir()
    return Workspace(tmp_path / "models")


@pytest.fixture
def door() -> Door:
    return Door("secret", PORT)


@pytest.fixture
def stranger(workspace: Workspace, door: Door):
    """Somebody on this machine without the token."""
    with TestClient(make_app(workspace, door), base_url=OWN, follow_redirects=False) as client:
        yield client


@pytest.fixture
def client(stranger: TestClient) -> TestClient:
    """Whoever opened the address that was printed."""
    assert stranger.get("/?token=secret").status_code == 303
    stranger.headers["Origin"] = OWN
    return stranger
