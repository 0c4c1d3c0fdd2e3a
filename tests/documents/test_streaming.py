"""Memory does not grow with the number of documents; ids are watched all the same."""

import itertools
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from demask.documents.load import DocumentReader, load_documents
from demask.documents.passages import SeenIds, iter_passages
from demask.documents.text_files import read_json_lines
from demask.errors import DataError

Write = Callable[[str, str | bytes], Path]
TEXT = "The town of Orlin opened its new bridge on Tuesday. " * 6


def peak_memory(path: Path) -> int:
    """Bytes that Python held at most while a file was read and split."""
    tracemalloc.start()
    documents = DocumentReader([path])
    count = sum(1 for _ in iter_passages(documents, count_tokens=len, max_tokens=1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == documents.reports[0].documents
    return peak


def write_parquet(path: Path, count: int) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": [f"{n} {TEXT}" for n in range(count)]}), path)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_memory_stays_far_below_the_size_of_the_file(tmp_path: Path, suffix: str) -> None:
    path, count = tmp_path / f"a{suffix}", 10_000
    if suffix == ".parquet":
        write_parquet(path, count)
    elif suffix == ".csv":
        path.write_text("text\n" + "".join(f'"{n}, {TEXT}"\n' for n in range(count)))
    else:
        path.write_text("".join(json.dumps({"text": f"{n} {TEXT}"}) + "\n" for n in range(count)))
    assert count * len(TEXT) > 3_000_000
    # Twice, as what another thread of this process allocates meanwhile counts, too.
    assert min(peak_memory(path) for _ in range(2)) < 2_000_000


def test_documents_come_before_the_file_is_at_its_end(write: Write) -> None:
    path = write(
        "a.jsonl", json.dumps({"text": TEXT}) + "\n" + f"{json.dumps({'text': TEXT})}\n" * 2000 + "{"
    )
    documents = DocumentReader([path])
    assert len(list(itertools.islice(documents, 100))) == 100
    assert documents.reports == []


def test_reading_again_begins_anew(write: Write) -> None:
    documents = DocumentReader([write("a.txt", "Text.")])
    assert list(documents) == list(documents)
    assert len(documents.reports) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_that_end_anywhere_in_a_block_are_read_whole(
    write: Write, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    path = write("a.jsonl", "".join(f'{{"n": {n}, "é": "😀"}}{end}' for n in range(50)))
    whole = [(line.number, line.values) for line in read_json_lines(path)]
    assert [values["n"] for _, values in whole] == list(range(50))
    for size in range(1, 60):
        monkeypatch.setattr("demask.documents.text_files._BLOCK", size)
        assert [(line.number, line.values) for line in read_json_lines(path)] == whole


@pytest.mark.parametrize(
    "line",
    [
        '{"a": 1, "a": 2}',
        '{"a" : 1, "a": 2}',
        '{"a" \t: 1,"a" :2}',
        '{"a":{"b":1,"b":2}}',
        '{"a": [{"b": 1}, {"c": 1, "c" : 2}]}',
        '{"a": ":", "a": 2}',
        '{"\\u0061": 1, "a": 2}',
    ],
)
def test_a_repeated_key_is_found_however_it_is_written(write: Write, line: str) -> None:
    with pytest.raises(DataError, match=r"key '\w' stands twice"):
        list(read_json_lines(write("a.jsonl", line)))


@pytest.mark.parametrize(
    "line",
    [
        '{"a": ":", "b": "x: y \\": z"}',
        '{"a" : {"b": [{"c":1}]}}',
        ' {"a": "{", "b": "\\": {"} ',
        "{}",
        '{"": 1}',
    ],
)
def test_colons_and_braces_in_texts_are_no_keys(write: Write, line: str) -> None:
    (read,) = read_json_lines(write("a.jsonl", line))
    assert read.values == json.loads(line)


# Ids


def test_a_set_of_ids_answers_as_a_set_does() -> None:
    rng = random.Random(0)
    names = [str(rng.randrange(30_000)) for _ in range(40_000)]
    seen, known = SeenIds(), set()
    for name in names:
        assert (name in seen) == (name in known)
        assert seen.add(name) == (name not in known)
        known.add(name)


def test_equal_hashes_are_no_equal_ids(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SeenIds, "add", lambda self, name: False)
    loaded = load_documents([write("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}')])
    assert [document.id for document in loaded.documents] == ["1", "2"]


def test_the_place_of_an_id_is_found_in_an_earlier_file(write: Write, tmp_path: Path) -> None:
    write("a.html", "<p>One.")
    path = write("b.jsonl", '{"id": "c", "text": "a"}\n{"id": "a.html", "text": "b"}')
    with pytest.raises(DataError) as caught:
        load_documents([tmp_path])
    assert str(caught.value) == (
        f"{path} line 2: id 'a.html' is taken by {tmp_path}/a.html; give each document its own id"
    )
