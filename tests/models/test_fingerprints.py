"""What tells one model from another: what its files hold."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from demask.environment import cache_folder
from demask.models import fingerprints
from demask.models.fingerprints import digest_file, fingerprint_model

pytestmark = pytest.mark.smoke

LONG_AGO_NS = 10**18


@pytest.fixture
def model(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model_folder, tmp_path / "model")


@pytest.fixture
def _everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_SMALL", 0)


@pytest.fixture
def _times_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of files that were written long ago."""
    monkeypatch.setattr(fingerprints, "_UNSURE_NS", -(10**18))


def test_hub_names_are_told_apart_by_their_commit() -> None:
    assert fingerprint_model("owner/name") is None
    assert fingerprint_model("owner/name", "1a") != fingerprint_model("owner/name", "2b")


def test_files_that_loading_does_not_read_make_no_other_model(model: Path) -> None:
    before = fingerprint_model(str(model))
    for name in ("README.md", "training_args.bin", ".gitattributes", "optimizer.pt"):
        (model / name).write_text("x")
    assert fingerprint_model(str(model)) == before


@pytest.mark.parametrize("name", ["merges.txt", "spiece.model", "additional_chat_templates/tool.jinja"])
def test_another_file_that_loading_reads_makes_another_model(model: Path, name: str) -> None:
    before = fingerprint_model(str(model))
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("x")
    assert fingerprint_model(str(model)) != before


def test_an_adapter_stands_for_its_base_model_too(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model)}))
    before = fingerprint_model(str(adapter))
    (model / "config.json").write_text((model / "config.json").read_text() + " ")
    assert fingerprint_model(str(adapter)) != before


def test_an_adapter_in_the_folder_of_its_own_base_model_has_an_end(model: Path) -> None:
    (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model)}))
    assert fingerprint_model(str(model))


@pytest.mark.usefixtures("_everything_is_large", "_times_are_trusted")
def test_a_large_file_that_stays_as_it_is_is_read_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = model / "model.safetensors"
    digest = digest_file(weights)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert digest_file(weights) == digest


@pytest.mark.usefixtures("_everything_is_large", "_times_are_trusted")
def test_a_large_file_with_its_old_size_and_time_is_read_again(model: Path) -> None:
    weights = model / "model.safetensors"
    os.utime(weights, ns=(LONG_AGO_NS, LONG_AGO_NS))
    before = digest_file(weights)
    held = bytearray(weights.read_bytes())
    held[-1] ^= 1
    weights.write_bytes(held)
    os.utime(weights, ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert digest_file(weights) != before


@pytest.mark.usefixtures("_everything_is_large")
def test_the_digest_of_a_large_file_that_was_just_written_is_not_kept(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    kept = cache_folder() / "digests"
    before = set(kept.glob("*"))
    digest_file(weights)
    assert set(kept.glob("*")) == before


@pytest.mark.usefixtures("_everything_is_large", "_times_are_trusted")
def test_a_cache_that_cannot_be_written_costs_time_only(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "file"))
    assert digest_file(model / "model.safetensors")
