"""What is gone on from is whole; what is not whole is named."""

import json
import os
from pathlib import Path

import pytest

from demask.errors import RunError
from demask.training.checkpoints import (
    COMPLETE,
    checkpoint_step,
    find_checkpoint,
    find_fault,
    prune_checkpoints,
    read_manifest,
    whole_or_removed,
    write_manifest,
)

pytestmark = pytest.mark.smoke


def refuse(text: str) -> None:
    raise AssertionError(f"nothing was to be said: {text}")


def write(
    folder: Path, step: int, *, manifest: bool = True, the_end: bool = False, processes: int = 1
) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    (checkpoint / "shards").mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(bytes(range(256)) * step)
    (checkpoint / "shards" / "0.bin").write_bytes(b"part")
    if manifest:
        write_manifest(checkpoint, the_end=the_end, processes=processes)
    return checkpoint


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_newest_checkpoint_is_the_one_of_the_largest_step(tmp_path):
    for step in (20, 100, 9):
        write(tmp_path, step)
    assert find_checkpoint(tmp_path, say=refuse) == tmp_path / "checkpoint-100"
    assert checkpoint_step(tmp_path, say=refuse) == 100


def test_no_folder_no_checkpoint(tmp_path):
    assert find_checkpoint(tmp_path / "none", say=refuse) is None
    assert checkpoint_step(tmp_path / "none", say=refuse) == 0


@pytest.mark.parametrize("the_end", [False, True])
def test_a_seal_says_step_end_processes_and_every_file(tmp_path, the_end):
    manifest = read_manifest(write(tmp_path, 3, the_end=the_end, processes=4))
    assert (manifest.step, manifest.the_end, manifest.processes) == (3, the_end, 4)
    assert {name: stamp.size for name, stamp in manifest.files.items()} == {
        "model.safetensors": 768,
        "shards/0.bin": 4,
    }


def test_everything_has_reached_the_disk_before_the_seal_is_there(tmp_path, monkeypatch):
    checkpoint, listed, reached = write(tmp_path, 3, manifest=False), [], []
    fsync = os.fsync

    def watch(handle):
        reached.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        listed.append((checkpoint / COMPLETE).exists())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watch)
    write_manifest(checkpoint, the_end=False, processes=1)
    first = reached[: listed.index(True)]
    assert {"model.safetensors", "0.bin", "shards", "checkpoint-3", f".{COMPLETE}"} == set(first)
    assert reached[len(first) :] == ["checkpoint-3", tmp_path.name]  # that the manifest itself is found again


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "model.safetensors has 100 bytes, expected 2,048": lambda checkpoint: os.truncate(
        checkpoint / "model.safetensors", 100
    ),
    "model.safetensors has changed since it was written": lambda checkpoint: flip(
        checkpoint / "model.safetensors"
    ),
    "shards/0.bin is missing": lambda checkpoint: (checkpoint / "shards" / "0.bin").unlink(),
    "complete cannot be read": lambda checkpoint: os.truncate(checkpoint / COMPLETE, 30),
    "complete is that of step 7": lambda checkpoint: (checkpoint / COMPLETE).write_text(
        (checkpoint / COMPLETE).read_text().replace('"step": 8', '"step": 7')
    ),
}


@pytest.mark.parametrize("fault", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, fault):
    write(tmp_path, 4)
    damaged = write(tmp_path, 8)
    DAMAGES[fault](damaged)
    said: list[str] = []
    assert find_checkpoint(tmp_path, say=said.append) == tmp_path / "checkpoint-4"
    assert said == [
        f"{damaged}: damaged ({fault}); kept aside as checkpoint-8.damaged, training goes on from step 4"
    ]
    assert names(tmp_path) == {"checkpoint-4", "checkpoint-8.damaged"}
    assert checkpoint_step(tmp_path, say=refuse) == 4  # it is said once


def test_without_a_whole_checkpoint_training_begins_anew_and_says_so(tmp_path):
    for step in (4, 8):
        os.truncate(write(tmp_path, step) / "model.safetensors", 1)
    said: list[str] = []
    assert find_checkpoint(tmp_path, say=said.append) is None
    assert [line.rpartition(", ")[2] for line in said] == ["training begins anew"] * 2


def test_a_checkpoint_damaged_twice_is_kept_aside_once(tmp_path):
    for _ in range(2):
        os.truncate(write(tmp_path, 8) / "model.safetensors", 1)
        find_checkpoint(tmp_path, say=lambda text: None)
    assert names(tmp_path) == {"checkpoint-8.damaged"}


def test_a_checkpoint_that_was_cut_short_is_removed_without_a_word(tmp_path):
    write(tmp_path, 4)
    write(tmp_path, 8, manifest=False)
    assert find_checkpoint(tmp_path, say=refuse) == tmp_path / "checkpoint-4"
    assert names(tmp_path) == {"checkpoint-4"}


def test_damage_is_a_warning_where_nobody_listens(tmp_path):
    os.truncate(write(tmp_path, 8) / "model.safetensors", 1)
    with pytest.warns(RuntimeWarning, match="checkpoint-8: damaged"):
        find_checkpoint(tmp_path)


def test_another_number_of_processes_is_said_with_what_it_means(tmp_path):
    write(tmp_path, 8, processes=2)
    said: list[str] = []
    assert checkpoint_step(tmp_path, processes=2, say=refuse) == 8
    assert checkpoint_step(tmp_path, processes=3, say=said.append) == 8
    assert len(said) == 1
    assert "written by 2 processes, gone on from by 3: order and masks stay the same" in said[0]
    assert "to rounding, not to the bit" in said[0]


@pytest.mark.parametrize(("keep", "left"), [(1, {8}), (2, {4, 8}), (9, {1, 4, 8})])
def test_only_the_newest_stay(tmp_path, keep, left):
    for step in (4, 8, 1):
        write(tmp_path, step)
    prune_checkpoints(tmp_path, keep=keep)
    assert names(tmp_path) == {f"checkpoint-{step}" for step in left}


def test_a_checkpoint_without_seal_does_not_count_among_those_that_are_kept(tmp_path):
    write(tmp_path, 4)
    write(tmp_path, 8, manifest=False)
    prune_checkpoints(tmp_path, keep=1)
    assert names(tmp_path) == {"checkpoint-4", "checkpoint-8"}


def test_a_checkpoint_half_removed_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    write(tmp_path, 4)
    write(tmp_path, 8)

    class KilledError(Exception):
        pass

    def kill(path):
        (path / "model.safetensors").unlink()
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", kill)
        with pytest.raises(KilledError):
            prune_checkpoints(tmp_path, keep=1)
    assert find_checkpoint(tmp_path, say=refuse) == tmp_path / "checkpoint-8"
    assert names(tmp_path) == {"checkpoint-8"}


def test_what_cannot_be_written_is_removed_and_what_was_there_stays(tmp_path):
    write(tmp_path, 4)
    message = r"the checkpoint of step 8 cannot be written \(.*No space left.*\); free some space and start"

    def run_out_of_space():
        with whole_or_removed(tmp_path / "checkpoint-8"):
            write(tmp_path, 8, manifest=False)
            raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=message):
        run_out_of_space()
    assert names(tmp_path) == {"checkpoint-4"}


def test_a_seal_is_plain_json(tmp_path):
    values = json.loads((write(tmp_path, 3) / COMPLETE).read_text())
    assert set(values) == {"step", "the_end", "processes", "files"}


def test_a_whole_checkpoint_has_no_fault(tmp_path):
    assert find_fault(write(tmp_path, 3)) == ""
