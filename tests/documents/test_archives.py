"""Files within .zip, and behind .gz."""

import gzip
import io
import json
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from demask.documents import archives
from demask.documents.account import describe_skipped
from demask.documents.archives import expand
from demask.documents.load import load_documents
from demask.errors import DataError

Write = Callable[[str, str | bytes], Path]
PAGE = b"<h1>Locks</h1><p>A lock is held.</p>"


def pack(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as refused:
        load_documents([path])
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_members_of_a_zip_are_documents_with_its_name_in_front(write: Write) -> None:
    rows = b'{"text": "One row."}\n{"text": "Another."}\n'
    path = write("manuals.zip", pack({"ch1.html": PAGE, "b/notes.txt": b"Plain.", "facts.jsonl": rows}))
    loaded = load_documents([path])
    assert [(d.id, d.source) for d in loaded.documents] == [
        ("manuals.zip/b/notes", f"{path}/b/notes.txt"),
        ("manuals.zip/ch1.html", f"{path}/ch1.html"),
        ("manuals.zip/facts-1", f"{path}/facts.jsonl line 1"),
        ("manuals.zip/facts-2", f"{path}/facts.jsonl line 2"),
    ]
    assert [report.path for report in loaded.reports] == [
        f"{path}/{name}" for name in ("b/notes.txt", "ch1.html", "facts.jsonl")
    ]


@pytest.mark.parametrize(
    ("name", "data", "named"),
    [
        ("a.txt.gz", b"Plain.", "a"),
        ("a.html.gz", PAGE, "a.html.gz"),
        ("a.jsonl.gz", b'{"text": "One row."}\n', "a-1"),
    ],
)
def test_a_compressed_file_is_read_as_what_it_is(write: Write, name: str, data: bytes, named: str) -> None:
    (document,) = load_documents([write(name, gzip.compress(data))]).documents
    assert document.id == named
    assert name in document.source


def test_what_is_not_read_in_an_archive_is_named_by_kind(write: Write) -> None:
    inner = pack({"a.txt": b"Deep."})
    path = write("a.zip", pack({"a.txt": b"Text.", "1.png": b"x", "2.png": b"y", "in.zip": inner}))
    pictures, nested = describe_skipped(load_documents([path]).skipped)
    assert pictures.startswith(f"2 .png files: left out, the first {path}/1.png")
    assert nested.startswith(f"{path}/in.zip: left out")
    assert nested.endswith("unpack it")


def test_hidden_files_and_links_in_an_archive_are_not_read(write: Write, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "Text.")
        archive.writestr("__MACOSX/._a.txt", "x")
        archive.writestr(link, "/etc/passwd")
    loaded = load_documents([tmp_path / "a.zip"])
    assert [document.text for document in loaded.documents] == ["Text."]
    assert loaded.skipped == (f"{tmp_path}/a.zip/link.txt",)


@pytest.mark.parametrize("name", ["../a.txt", "/etc/a.txt", "b\\..\\..\\a.txt", "C:\\a.txt"])
def test_a_name_that_leads_out_of_the_archive_is_refused(write: Write, name: str) -> None:
    path = write("a.zip", pack({"fine.txt": b"Text.", name: b"x"}))
    assert "leads out of the archive; pack the files anew" in refusal(path)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    data = pack({"a.txt": b"One.", "b.txt": b"Two."}).replace(b"b.txt", b"a.txt")
    (tmp_path / "a.zip").write_bytes(data)
    assert "'a.txt' stands twice in it" in refusal(tmp_path / "a.zip")


def test_a_locked_member_is_refused(write: Write) -> None:
    data = bytearray(pack({"a.txt": b"Text."}))
    data[6] |= 1  # the flag of encryption, in the member's header and in the table of contents
    data[data.index(b"PK\1\2") + 8] |= 1
    path = write("a.zip", bytes(data))
    assert refusal(path) == f"{path}: locked by a password; save it without one"


@pytest.mark.parametrize("name", ["a.zip", "a.txt.gz"])
def test_a_bomb_is_refused_with_bounded_memory(write: Write, name: str) -> None:
    zeros = bytes(archives.MAX_EXPANDED + 1)
    bomb = gzip.compress(zeros, 1) if name.endswith("gz") else pack({"a.txt": zeros})
    path = write(name, bomb)
    assert f"expands to more than {archives.MAX_EXPANDED:,} bytes" in refusal(path)


def test_members_together_may_not_be_too_large(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.zip", pack({f"{number}.txt": bytes(1000) for number in range(3)}))
    monkeypatch.setattr(archives.Package.__init__, "__defaults__", (2500,))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="expands to more than"):
        expand(path, tmp_path / "out")


def test_too_many_members_are_refused(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    path = write("a.zip", pack({f"{number}.txt": b"x" for number in range(3)}))
    with pytest.raises(DataError, match="3 files, expected at most 2; unpack it"):
        expand(path, tmp_path)


@pytest.mark.parametrize("name", ["a.zip", "a.txt.gz"])
@pytest.mark.parametrize(
    "data", [b"x", b"PK\3\4rubbish", gzip.compress(b"Text.")[:-9], pack({"a.txt": b"x"})[:40]]
)
def test_a_damaged_archive_is_one_line(write: Write, name: str, data: bytes) -> None:
    path = write(name, data)
    assert refusal(path).startswith(f"{path}: no readable .")


def test_a_fault_within_an_archive_is_named_by_its_member(write: Write) -> None:
    path = write("a.zip", pack({"facts.jsonl": b'{"text": "Fine."}\n{"txt": 1}\n'}))
    assert refusal(path).startswith(f"{path}/facts.jsonl line 2: ")
    (document,) = load_documents([path], keep_going=True).documents
    assert document.text == "Fine."


def test_a_damaged_member_does_not_stop_one_who_goes_on(write: Write) -> None:
    path = write("a.zip", pack({"a.pdf": b"rubbish", "b.txt": b"Text."}))
    loaded = load_documents([path], keep_going=True)
    assert [document.text for document in loaded.documents] == ["Text."]
    assert loaded.reports[0].problem.startswith(f"{path}/a.pdf: ")


def test_an_archive_of_nothing_readable_is_named(write: Write, tmp_path: Path) -> None:
    path = write("docs/a.zip", pack({"a.png": b"x"}))
    assert f"{path}: holds no file that is read" in refusal(path)
    write("docs/b.txt", "Text.")
    assert load_documents([tmp_path / "docs"]).reports[0].problem


def test_a_copy_within_an_archive_is_left_out(write: Write, tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(200)).encode()
    write("docs/a.txt", text)
    write("docs/b.zip", pack({"a.txt": text}))
    assert len(load_documents([tmp_path / "docs"]).documents) == 1


def test_rows_for_sft_are_not_read_out_of_archives(write: Write) -> None:
    from demask.data.sources import find_tables

    path = write("a.jsonl.gz", gzip.compress(json.dumps({"prompt": "a"}).encode()))
    with pytest.raises(DataError, match=r"a \.gz file holds no rows"):
        find_tables([str(path)])
