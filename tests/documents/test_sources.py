"""Patterns, ids that files give, and data sets."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from demask.documents.load import load_documents
from demask.errors import DataError
from demask.records import Document

Write = Callable[[str, str | bytes], Path]


def refusal(given: str) -> str:
    with pytest.raises(DataError) as caught:
        load_documents([given])
    message = str(caught.value)
    assert "\n" not in message
    return message


# Patterns


def test_a_pattern_finds_files_in_folders_and_ids_start_after_its_fixed_part(
    write: Write, tmp_path: Path
) -> None:
    for name in ("docs/b/z.txt", "docs/a.txt", "docs/a.md", "other/c.txt"):
        write(name, "Text.")
    loaded = load_documents([f"{tmp_path}/docs/**/*.txt"])
    assert [document.id for document in loaded.documents] == ["a", "b/z"]


def test_files_of_other_kinds_that_a_pattern_finds_are_skipped(write: Write, tmp_path: Path) -> None:
    write("a.txt", "Text.")
    other = write("a.png", b"x")
    assert load_documents([f"{tmp_path}/a.*"]).skipped == (str(other),)


def test_an_existing_path_with_the_characters_of_a_pattern_is_that_path(write: Write, tmp_path: Path) -> None:
    path = write("a[1].txt", "Text.")
    write("a1.txt", "Other.")
    assert [document.text for document in load_documents([path]).documents] == ["Text."]


def test_a_pattern_that_finds_nothing_is_refused(tmp_path: Path) -> None:
    assert refusal(f"{tmp_path}/*.pdf").startswith(f"{tmp_path}/*.pdf: no file matches this pattern")


def test_a_file_that_two_patterns_find_is_refused(write: Write, tmp_path: Path) -> None:
    path = write("a.txt", "Text.")
    with pytest.raises(DataError, match="given twice"):
        load_documents([path, f"{tmp_path}/*.txt"])


# Ids


def test_parsed_files_keep_their_suffix_in_the_id(write: Write, tmp_path: Path) -> None:
    write("x/a.html", "<p>One.")
    write("x/a.htm", "<p>Two.")
    write("x/a.txt", "Three.")
    loaded = load_documents([tmp_path])
    assert [document.id for document in loaded.documents] == ["x/a.htm", "x/a.html", "x/a"]


# Data sets


@pytest.fixture
def dataset(write: Write) -> Path:
    pytest.importorskip("datasets")
    rows = [{"id": 7, "title": "T", "body": "One.", "year": 2025}, {"body": "Two."}]
    write("set/train.jsonl", "\n".join(map(json.dumps, rows)))
    return write("set/test.jsonl", '{"body": "Three."}').parent


def test_a_data_set_is_read_by_split_and_column(dataset: Path) -> None:
    address = f"hf://{dataset}?split=train&column=body"
    first, second = load_documents([address]).documents
    assert first == Document("7", "One.", "T", f"{address} row 1", {"year": 2025})
    assert (second.text, second.source) == ("Two.", f"{address} row 2")
    assert second.id == f"{str(dataset).strip('/')}-2"


def test_a_file_is_a_data_set_of_one_split(dataset: Path) -> None:
    loaded = load_documents([f"hf://{dataset}/test.jsonl?column=body"])
    assert [document.text for document in loaded.documents] == ["Three."]
    assert (loaded.reports[0].kind, loaded.reports[0].kept) == ("dataset", 6)


def test_an_unknown_split_is_refused_with_the_known_ones(dataset: Path) -> None:
    address = f"hf://{dataset}?split=trian&column=body"
    message = refusal(address)
    assert message.startswith(f"{address}: no split 'trian', splits are ")
    assert message.endswith("; did you mean 'train'?")


def test_several_splits_need_a_choice(dataset: Path) -> None:
    assert ": no split is named, splits are " in refusal(f"hf://{dataset}?column=body")


def test_an_unknown_column_is_refused_with_the_known_ones(dataset: Path) -> None:
    message = refusal(f"hf://{dataset}?split=test&column=bdy")
    assert ": no key 'bdy', keys are " in message
    assert message.endswith("add it or set text_column; did you mean 'body'?")


def test_an_unknown_configuration_is_refused(dataset: Path) -> None:
    assert "check name, config and split" in refusal(f"hf://{dataset}?split=test&config=french&column=body")


@pytest.mark.parametrize("query", ["splt=train", "split=", "split=a&split=b"])
def test_a_bad_address_is_refused(query: str) -> None:
    address = f"hf://owner/name?{query}"
    assert refusal(address).startswith(f"{address}: 'spl")
    assert "is unknown, empty or given twice, expected config, split, column once each" in refusal(address)


def test_a_missing_folder_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    address = f"hf://{tmp_path}/gone"
    assert refusal(address) == f"{address}: no such file or folder here; check the path"


def test_a_hub_that_cannot_be_reached_is_said_in_one_line() -> None:
    message = refusal("hf://owner/name?split=train")  # tests run with HF_HUB_OFFLINE
    assert message.startswith("hf://owner/name?split=train: the hub cannot be reached (")
