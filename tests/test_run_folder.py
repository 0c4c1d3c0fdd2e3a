"""A run folder: files whole or not at all, rows that read back, and one recipe per folder."""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from demask.errors import ConfigError, RunError
from demask.records import Document, QAPair
from demask.storage.atomic import write_lines, write_text
from demask.storage.run_folder import RunFolder, claim_run_folder, is_run_folder, open_run_folder

RECIPE = {"model": "m", "documents": ["d"], "objective": {"name": "demasking", "mask_ratio": (0.1, 0.9)}}
# Ends a line for Python's splitlines, but not in a file; then an emoji beyond 16 bits, and what JSON escapes.
ODD = 'one\u2028two\u0085three \N{GRINNING FACE} \\ " \n \t \x00 end'


@dataclass(frozen=True)
class Row:
    id: str
    tags: tuple[str, ...] = ()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_a_file_is_written_with_its_folders_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    write_text(path, "text")
    assert path.read_text() == "text"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_finished_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RunError, match=r"file.txt: cannot be written \(No space left on device\); free some"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(path.read_text()))
    write_text(path, "new")
    assert (seen, path.read_text()) == (["old"], "new")


def test_records_read_back_as_they_were_written(run: RunFolder) -> None:
    records = [Row(ODD, ("a", "")), Row("plain")]
    run.write_rows("rows.jsonl", records)
    assert run.read_records("rows.jsonl", Row) == records
    assert run.file("rows.jsonl").read_text(encoding="utf-8").count("\n") == 2


def test_documents_and_questions_read_back_as_they_were_written(run: RunFolder) -> None:
    document = Document("d1", ODD, "title", "facts.jsonl line 1", {"year": 1987, "tags": ["x"]})
    pair = QAPair("q1", "d1", ODD, ("Mara Voss", "M. Voss"), "backward", "person")
    run.write_rows("documents.jsonl", [document])
    run.write_rows("qa_pairs.jsonl", [pair])
    assert run.read_records("documents.jsonl", Document) == [document]
    assert run.read_records("qa_pairs.jsonl", QAPair) == [pair]


def test_keys_that_a_record_does_not_have_are_left_out(run: RunFolder) -> None:
    run.write_rows("rows.jsonl", [{"id": "a", "stage": "after"}])
    assert run.read_records("rows.jsonl", Row) == [Row("a")]


def test_no_records_make_an_empty_file_that_reads_as_none(run: RunFolder) -> None:
    run.write_rows("rows.jsonl", [])
    assert run.has("rows.jsonl")
    assert run.read_rows("rows.jsonl") == []


def test_as_rows_says_what_would_be_read_back(run: RunFolder) -> None:
    records = [Row("a", ("x",)), {"b": (1, 2)}]
    run.write_rows("rows.jsonl", records)
    assert run.read_rows("rows.jsonl") == [{"id": "a", "tags": ["x"]}, {"b": [1, 2]}]
    assert run.holds_rows("rows.jsonl", records)
    assert not run.holds_rows("rows.jsonl", records[:1])
    assert not run.holds_rows("rows.jsonl", [*records, records[0]])
    assert not run.holds_rows("rows.jsonl", records[::-1])


def test_a_damaged_line_is_named(run: RunFolder) -> None:
    write_text(run.file("rows.jsonl"), '{"id": "a"}\n{"id":\n')
    with pytest.raises(RunError, match=r"rows.jsonl line 2: not JSON"):
        run.read_rows("rows.jsonl")


def test_a_missing_file_asks_whether_this_is_a_run(run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"rows.jsonl: no such file; is .* a run folder"):
        run.read_rows("rows.jsonl")


def test_a_damaged_object_may_be_deleted_to_have_it_made_again(run: RunFolder) -> None:
    write_text(run.file("summary.json"), "{")
    with pytest.raises(RunError, match=r"summary.json: not JSON .* delete it to have it made again"):
        run.read_json("summary.json")


def log(run: RunFolder, *steps: int) -> None:
    for step in steps:
        run.append_row("metrics.jsonl", {"step": step})


def steps_of(rows: Iterable[Mapping[str, int]]) -> list[int]:
    return [row["step"] for row in rows]


def test_the_lines_of_a_log_after_the_checkpoint_are_dropped(run: RunFolder) -> None:
    run.path.mkdir()
    log(run, 1, 2, 3, 4)
    assert steps_of(run.keep_rows("metrics.jsonl", until_step=2)) == [1, 2]
    log(run, 3)
    assert steps_of(run.read_rows("metrics.jsonl")) == [1, 2, 3]


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', '{"step": 3', '{"step', "{", '"', "\x00\x00\x00"])
def test_a_last_line_that_a_crash_cut_short_is_dropped(run: RunFolder, torn: str) -> None:
    run.path.mkdir()
    log(run, 1, 2)
    with run.file("metrics.jsonl").open("a") as file:
        file.write(torn)
    assert steps_of(run.keep_rows("metrics.jsonl", until_step=9)) == [1, 2]
    log(run, 3)
    assert steps_of(run.read_rows("metrics.jsonl")) == [1, 2, 3]


def test_a_log_that_was_never_begun_is_not_begun_by_looking(run: RunFolder) -> None:
    assert run.keep_rows("metrics.jsonl", until_step=0) == []
    assert not run.has("metrics.jsonl")


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"metrics.jsonl: cannot be written \(No such file or directory\)"):
        RunFolder(tmp_path / "none").append_row("metrics.jsonl", {"step": 1})


def test_a_new_folder_is_claimed_with_its_recipe_and_again_by_the_same(tmp_path: Path) -> None:
    claim_run_folder(tmp_path / "runs" / "first", RECIPE)
    again = claim_run_folder(tmp_path / "runs" / "first", RECIPE)
    assert again.read_json("config.json")["objective"] == {"name": "demasking", "mask_ratio": [0.1, 0.9]}
    assert open_run_folder(again.path) == again


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "n"}, "model is 'm' there and 'n' here"),
        ({"seed": 1}, "seed is None there and 1 here"),
        (
            {"objective": {"name": "demasking", "mask_ratio": (0.2, 0.9)}},
            r"objective.mask_ratio is \[0.1, 0.9\] there and \[0.2, 0.9\] here",
        ),
    ],
)
def test_the_folder_of_another_recipe_is_refused_with_the_first_difference(
    tmp_path: Path, change: Mapping[str, object], said: str
) -> None:
    claim_run_folder(tmp_path / "run", RECIPE)
    with pytest.raises(
        ConfigError, match=rf"holds the run of another recipe \({said}\); choose another --out"
    ):
        claim_run_folder(tmp_path / "run", {**RECIPE, **change})


def test_a_folder_with_other_files_is_refused_but_an_empty_one_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    claim_run_folder(tmp_path / "empty", RECIPE)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty and not a run folder"):
        claim_run_folder(tmp_path / "full", RECIPE)


def test_a_model_folder_is_no_run_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "config.json", '{"model_type": "llama", "hidden_size": 64}')
    assert not is_run_folder(tmp_path)
    with pytest.raises(RunError, match="not a run folder; expected one made by 'demask inject'"):
        open_run_folder(tmp_path)


def test_records_are_read_one_by_one_wherever_lines_break_inside_a_text(tmp_path: Path) -> None:
    pairs = [QAPair(f"q{n}", "d", f"Who\u2028\r is é{n}?", ("x",), "forward") for n in range(5)]
    run = RunFolder(tmp_path)
    run.write_rows("pairs.jsonl", pairs)
    records = run.open_records("pairs.jsonl", QAPair)
    assert list(records) == pairs == run.read_records("pairs.jsonl", QAPair)
    assert (len(records), records[3], records[-1], records[1:3]) == (5, pairs[3], pairs[4], pairs[1:3])
    with pytest.raises(IndexError):
        records[5]


def test_lines_that_break_off_leave_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_text(path, "old")

    def lines() -> Iterator[str]:
        yield "new"
        raise ValueError("broken off")

    with pytest.raises(ValueError, match="broken off"):
        write_lines(path, lines())
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]
    assert path.read_text() == "old"
