"""Files of published sets: which of two places they are taken from, and that they are the right ones."""

import hashlib
import os
from pathlib import Path

import pytest

from demask.benchmarks import biography, name_description, wiki
from demask.benchmarks.benchmark import PublishedFile, data_folder, find_published
from demask.errors import DataError, RunError

TEXT = '{"text": "Mara Voss – née Fox – founded Orlin."}\n'
SHA256 = hashlib.sha256(TEXT.encode()).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No set lies on this machine, and the cache is empty."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("DEMASK_DATA", raising=False)
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "benchmarks"


@pytest.fixture
def published(tmp_path: Path) -> PublishedFile:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "texts.jsonl").write_text(TEXT, encoding="utf-8")
    address = (tmp_path / "server" / "texts.jsonl").as_uri()
    return PublishedFile("set/texts.jsonl", SHA256, "Voss 2026", address)


def put(folder: Path, text: str = TEXT) -> Path:
    (folder / "set").mkdir(parents=True)
    (folder / "set" / "texts.jsonl").write_text(text, encoding="utf-8")
    return folder


def unreachable(published: PublishedFile) -> PublishedFile:
    return published._replace(address=published.address + ".gone")


def test_a_set_is_read_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: PublishedFile
) -> None:
    monkeypatch.setenv("DEMASK_DATA", str(put(tmp_path / "own")))
    assert find_published("set", [unreachable(published)]) == tmp_path / "own"


def test_without_such_a_word_the_usual_folder_is_looked_at(tmp_path: Path, published: PublishedFile) -> None:
    put(tmp_path / "shared" / "data")
    found = find_published("set", [unreachable(published)])
    assert (found / "set" / "texts.jsonl").samefile(tmp_path / "shared" / "data" / "set" / "texts.jsonl")


def test_a_set_that_is_not_here_is_fetched_once_byte_for_byte(cache: Path, published: PublishedFile) -> None:
    assert find_published("set", [published]) == cache
    assert (cache / "set" / "texts.jsonl").read_bytes() == TEXT.encode()
    assert find_published("set", [unreachable(published)]) == cache


def test_a_folder_of_data_without_this_set_does_not_hinder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, published: PublishedFile
) -> None:
    monkeypatch.setenv("DEMASK_DATA", str(tmp_path / "work"))
    assert find_published("set", [published]) == cache


def test_a_wrong_folder_is_named_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, published: PublishedFile
) -> None:
    monkeypatch.setenv("DEMASK_DATA", "dta")
    with pytest.raises(DataError, match=r"^dta: no such folder; set DEMASK_DATA to the folder of published"):
        find_published("set", [published])
    with pytest.raises(DataError, match=r"^dta: no such folder"):
        data_folder()


def test_an_altered_file_of_ones_own_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: PublishedFile
) -> None:
    altered = TEXT.replace("Orlin", "Orlim")
    digest = hashlib.sha256(altered.encode()).hexdigest()
    monkeypatch.setenv("DEMASK_DATA", str(put(tmp_path / "own", altered)))
    with pytest.raises(DataError) as caught:
        find_published("set", [published])
    place = tmp_path / "own" / "set" / "texts.jsonl"
    assert str(caught.value) == (
        f"{place}: sha256 is {digest}, expected {SHA256}; put back the published file (Voss 2026)"
    )


def test_an_altered_file_in_the_cache_is_refused(cache: Path, published: PublishedFile) -> None:
    put(cache, "something else")
    with pytest.raises(DataError, match=r"benchmarks/set/texts\.jsonl: sha256 is .*; delete it to fetch"):
        find_published("set", [published])


def test_what_is_fetched_and_is_not_the_file_is_not_kept(cache: Path, published: PublishedFile) -> None:
    wrong = published._replace(sha256="0" * 64)
    with pytest.raises(DataError, match=rf"texts\.jsonl: sha256 is {SHA256}, expected 0000.*; set "):
        find_published("set", [wrong])
    assert not cache.exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/texts.jsonl", "file:///nowhere/texts.jsonl"])
def test_offline_is_one_line_that_names_the_address(
    monkeypatch: pytest.MonkeyPatch, published: PublishedFile, address: str
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(RunError) as caught:
        find_published("set", [published._replace(address=address)])
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"set: {address} cannot be fetched (")
    assert message.endswith("check the network, or set DEMASK_DATA to a folder that has set/texts.jsonl")


def test_a_file_that_is_public_nowhere_is_said_to_be(published: PublishedFile) -> None:
    with pytest.raises(DataError) as caught:
        find_published("set", [published._replace(address="")])
    assert str(caught.value) == (
        "set: no file ../shared/data/set/texts.jsonl, and no public address has it (Voss 2026); "
        "set DEMASK_DATA to a folder that has set/texts.jsonl"
    )


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: PublishedFile
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"file/benchmarks/set/texts\.jsonl: cannot be kept .* DEMASK_CACHE"):
        find_published("set", [published])


def test_addresses_name_a_commit_and_the_same_file() -> None:
    files = [*name_description.FILES, *biography.FILES, *wiki.FILES]
    assert all(len(bytes.fromhex(file.sha256)) == 32 for file in files)
    for file in name_description.FILES:
        assert file.address.startswith("https://raw.githubusercontent.com/alibaba/thinking_bias/389bb4d1b16b")
        assert os.path.basename(file.address) == os.path.basename(file.path)
    assert [file.address for file in (*biography.FILES, *wiki.FILES)] == ["", ""]
