"""Samples on disk are those that were written, whole or not at all, and made again when anything changes."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pyarrow import ipc

from demask.data.conversations import Columns
from demask.data.samples import LeftOut, Limit, Placed
from demask.data.tokenising import (
    ABOUT,
    ROWS,
    SAMPLES,
    ConversationData,
    SampleFile,
    TextData,
    open_samples,
    prepare_blocks,
    prepare_samples,
    write_samples,
)
from demask.errors import DataError, RunError
from demask.objectives.prompts import encode
from demask.progress import Silent
from demask.records import Sample

ANY = Limit(lambda prompt, answer: True, "any")


def some(count, *, high=400):
    """Samples of different lengths, some with nothing in them."""
    for n in range(count):
        prompt, answer = tuple(range(n % 5)), tuple((n * 7 + k) % high for k in range(n % 11))
        yield Placed(Sample(f"s{n}", prompt, answer), f"line {n}")


def write(samples, folder, *, vocabulary=400, left_out=None):
    return write_samples(
        samples, folder, vocabulary=vocabulary, about={"a": 1}, left_out=left_out or LeftOut()
    )


def test_samples_come_back_as_they_were_written(tmp_path):
    wanted = [placed.sample for placed in some(2 * ROWS + 7)]
    found = write(some(2 * ROWS + 7), tmp_path / "x")
    assert list(found) == wanted
    assert [found[n] for n in (0, ROWS, 2 * ROWS + 6, -1)] == [wanted[n] for n in (0, ROWS, -1, -1)]
    assert found[ROWS - 2 : ROWS + 2] == wanted[ROWS - 2 : ROWS + 2]
    assert found.prompt_lengths.tolist() == [len(one.prompt) for one in wanted]
    assert found.answer_lengths.tolist() == [len(one.answer) for one in wanted]
    assert found.about["tokens"]["answers"] == sum(len(one.answer) for one in wanted)
    with pytest.raises(IndexError):
        found[2 * ROWS + 7]


@pytest.mark.parametrize(("vocabulary", "width"), [(2**16, "uint16"), (2**16 + 1, "uint32")])
def test_ids_are_as_wide_as_the_vocabulary_needs(tmp_path, vocabulary, width):
    last = Sample("a", (vocabulary - 1,), (0, vocabulary - 1))
    found = write([Placed(last, "f")], tmp_path / "x", vocabulary=vocabulary)
    assert found[0] == last
    schema = ipc.open_file(str(tmp_path / "x" / SAMPLES)).schema
    assert str(schema.field("prompt").type.value_type) == width


def test_a_worker_process_maps_the_file_anew(tmp_path):
    found = write(some(20), tmp_path / "x")
    assert found[3] == pickle.loads(pickle.dumps(found))[3]


def test_what_was_left_out_is_known_when_samples_are_opened(tmp_path):
    write(some(2), tmp_path / "x", left_out=LeftOut(3, ("line 7: long",)))
    assert open_samples(tmp_path / "x").left_out == LeftOut(3, ("line 7: long",))


def test_an_error_while_samples_are_read_leaves_nothing(tmp_path):
    def broken():
        yield from some(ROWS + 1)
        raise DataError("line 7: wrong")

    with pytest.raises(DataError, match="line 7: wrong"):
        write(broken(), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_tokenised import some, write
from demask.errors import RunError

def samples():
    yield from some(3000)
    if sys.argv[3] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write(samples(), Path(sys.argv[1]))
except RunError as error:
    print(error)
"""


def write_elsewhere(folder, how):
    command = [sys.executable, "-c", KILLED, str(folder), str(Path(__file__).parent), how]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_killed_writer_leaves_nothing_that_is_taken_for_whole(tmp_path):
    assert write_elsewhere(tmp_path / "x", "kill").returncode == -signal.SIGKILL
    assert open_samples(tmp_path / "x") is None
    assert len(list(tmp_path.iterdir())) == 1  # the unfinished one
    assert len(write(some(5), tmp_path / "x")) == 5


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(tmp_path):
    done = write_elsewhere(tmp_path / "x", "full")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'x'}: cannot be written (")
    assert done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_removed_a_day_later(tmp_path):
    for name, age in (("old", 2 * 86400), ("new", 60)):
        (tmp_path / f".x.{name}").mkdir()
        os.utime(tmp_path / f".x.{name}", (time.time() - age,) * 2)
    write(some(5), tmp_path / "x")
    assert {path.name for path in tmp_path.iterdir()} == {"x", ".x.new"}


def test_of_two_writers_at_once_the_first_wins_and_the_second_takes_its_samples(tmp_path):
    def slow():
        yield from some(5)
        write(some(9), tmp_path / "x")

    assert len(write(slow(), tmp_path / "x")) == 9
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("name", [SAMPLES, ABOUT])
def test_a_folder_whose_file_was_cut_is_made_again(tmp_path, name):
    write(some(9), tmp_path / "x")
    os.truncate(tmp_path / "x" / name, 100)
    assert open_samples(tmp_path / "x") is None
    assert len(write(some(5), tmp_path / "x")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write(some(1), tmp_path / "file" / "x")


class Begun(Silent):
    """Counts how often something was tokenised."""

    times = 0

    def begin(self, phase, total, *, done=0, unit=""):
        self.times += 1
        self.total = total


@pytest.fixture
def data(tmp_path):
    rows = [{"prompt": f"Who is {n}?", "response": f"Number {n}."} for n in range(5)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ConversationData((str(tmp_path / "data.jsonl"),))


@pytest.fixture
def prepare(data, tiny_tokenizer, tiny_chat, tmp_path):
    """Prepare the samples, with changes: the file, and whether it was tokenised."""

    def prepare(**changes):
        progress = Begun()
        asked = {"tokenizer": tiny_tokenizer, "chat": tiny_chat, "limit": ANY, **changes}
        file = prepare_samples(asked.pop("data", data), cache=tmp_path / "cache", progress=progress, **asked)
        return file, progress.times

    return prepare


def test_samples_are_tokenised_once(prepare, tiny_tokenizer):
    first, begun = prepare()
    assert begun == 1
    assert [tiny_tokenizer.decode(one.answer) for one in first] == [f"Number {n}." for n in range(5)]
    # A call that pads leaves its wish in the tokenizer.
    tiny_tokenizer(["a", "a longer one"], padding=True)
    again, begun = prepare()
    assert begun == 0
    assert list(again) == list(first)


def test_a_file_that_differs_by_one_byte_is_tokenised_again(prepare, data, tiny_tokenizer):
    prepare()
    path = Path(data.paths[0])
    state = path.stat()
    path.write_bytes(path.read_bytes().replace(b"Number 3", b"Number 8"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    found, begun = prepare()
    assert begun == 1
    assert tiny_tokenizer.decode(found[3].answer) == "Number 8."
    assert prepare()[1] == 0


def test_samples_are_made_anew_for_other_settings(prepare, data, tiny_tokenizer, make_tokenizer, tiny_chat):
    prepare()
    again = [
        {"data": replace(data, turns="all")},
        {"data": replace(data, columns=Columns("prompt", "response"))},
        {"limit": replace(ANY, name="at most 99")},
        {"limit": replace(ANY, too_long="leave-out")},
        {"tokenizer": make_tokenizer(vocabulary=380)},
        {"chat": replace(tiny_chat, user=(*tiny_chat.user, 9))},
    ]
    assert [prepare(**changes)[1] for changes in again] == [1] * 6
    tiny_tokenizer.chat_template = "{{ '' }}" + tiny_tokenizer.chat_template
    assert prepare()[1] == 1
    assert [prepare(**changes)[1] for changes in again[:4]] == [1] * 4


def test_a_renamed_file_is_another_as_masks_are_keyed_by_its_name(prepare, data, tmp_path):
    prepare()
    os.rename(data.paths[0], tmp_path / "other.jsonl")
    found, begun = prepare(data=ConversationData((str(tmp_path / "other.jsonl"),)))
    assert begun == 1
    assert found[0].id == "other-1"


def test_a_file_that_changes_while_it_is_tokenised_is_an_error(prepare, data, tmp_path):
    path = Path(data.paths[0])

    def fits(prompt, answer):
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        return True

    with pytest.raises(DataError, match="changed while it was read"):
        prepare(limit=Limit(fits, "any"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_is_left_out_is_told_also_by_samples_that_are_found_again(prepare, data):
    limit = Limit(lambda prompt, answer: False, "nothing", "leave-out")
    with pytest.raises(
        DataError, match=r"all 5 samples are too long, such as .*data\.jsonl line 1: \d+ tokens"
    ):
        prepare(limit=limit)
    shortest = min(len(one.prompt) for one in prepare()[0])
    path = Path(data.paths[0])
    path.write_text(
        path.read_text() + json.dumps({"prompt": "long " * 50, "response": "a"}), encoding="utf-8"
    )
    limit = Limit(lambda prompt, answer: prompt < shortest + 9, "short", "leave-out")
    for _ in range(2):
        found, _ = prepare(limit=limit)
        assert len(found) == 5
        assert found.left_out.count == 1
        assert f"{path} line 6: " in found.left_out.first[0]


@pytest.mark.parametrize("name", ["folder", "folder/train.jsonl"])
def test_data_sets_of_this_machine_are_known_by_what_they_hold(prepare, data, tmp_path, name):
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "train.jsonl"
    path.write_bytes(Path(data.paths[0]).read_bytes())
    given = {"data": ConversationData((f"hf://{tmp_path / name}?split=train",))}
    first, begun = prepare(**given)
    assert begun == 1
    assert len(first) == 5
    os.utime(path)
    assert prepare(**given)[1] == 0
    path.write_bytes(path.read_bytes().replace(b"Number 3", b"Number 8"))
    assert prepare(**given)[1] == 1


def test_a_data_set_that_cannot_be_reached_is_said_in_one_line(prepare):
    # Tests run with HF_HUB_OFFLINE.
    with pytest.raises(DataError, match=r"hf://owner/name\?split=train: the hub cannot be reached \("):
        prepare(data=ConversationData(("hf://owner/name?split=train",)))


def test_blocks_are_found_again_by_their_length(tiny_tokenizer, tmp_path):
    (tmp_path / "texts").mkdir()
    for name in ("a", "b"):
        (tmp_path / "texts" / f"{name}.txt").write_text(f"The river {name}. " * 9, encoding="utf-8")
    begun = []
    for length in (7, 7, 8):
        progress = Begun()
        found = prepare_blocks(
            TextData((str(tmp_path / "texts"),), block_length=length),
            tokenizer=tiny_tokenizer,
            cache=tmp_path / "cache",
            progress=progress,
        )
        begun.append(progress.times)
        texts = [(tmp_path / "texts" / f"{name}.txt").read_text().strip() for name in ("a", "b")]
        assert sum(found.answer_lengths) == sum(len(encode(tiny_tokenizer, text)) + 1 for text in texts)
        assert not any(found.prompt_lengths)
    assert begun == [1, 0, 1]
    assert isinstance(found, SampleFile)
