"""A stream of samples has one order, however it is read, and skips without tokenising."""

import json
from collections import Counter

import pytest

from demask.data.samples import Limit
from demask.data.streaming import StreamedSamples, find_longest
from demask.data.tokenising import (
    ConversationData,
    TextData,
    block_reader,
    prepare_blocks,
    prepare_samples,
    sample_reader,
)
from demask.errors import DataError
from demask.objectives.masking import keyed_rng
from demask.objectives.prompts import encode_all
from demask.progress import Silent
from demask.records import Example, Sample

ANY = Limit(lambda prompt, answer: True, "any")


class Told(Silent):
    """Keeps what was said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def example(sample, epoch, variant):
    return Example(f"{sample.id}@{epoch}", sample.answer, sample.answer, (True,) * len(sample.answer))


def samples(count):
    return [Sample(f"s{n}", (), tuple(range(1 + n * 13 % 40))) for n in range(count)]


class Source:
    """Reads from memory, and remembers from where."""

    def __init__(self, count):
        self.samples, self.skipped = samples(count), []

    def __call__(self, skip):
        self.skipped.append(skip)
        for number, sample in enumerate(self.samples):
            yield None if number < skip else sample


def stream(source, *, steps=30, batch_size=4, window=20, seed=0):
    return StreamedSamples(source, example, batch_size=batch_size, steps=steps, seed=seed, window=window)


def ids(examples):
    return [one.id for one in examples]


@pytest.mark.parametrize("count", [3, 4, 19, 20, 40, 50, 67])
def test_every_epoch_sees_every_sample_once(count):
    seen = ids(stream(Source(count), steps=60))
    for epoch in range(3):
        wanted = {f"s{n}@{epoch}" for n in range(count)}
        assert set(seen[epoch * count : (epoch + 1) * count]) == wanted


def test_the_order_is_the_same_for_any_number_of_processes_and_after_a_restart():
    whole = ids(stream(Source(67)))
    for ranks in (2, 4):
        parts = [stream(Source(67)) for _ in range(ranks)]
        dealt = [parts[place % ranks][place].id for place in range(len(whole))]
        assert dealt == whole
    for place in (0, 19, 20, 66, 67, 100, 119):
        late = stream(Source(67))
        assert ids(late[one] for one in range(place, 120)) == whole[place:]


def test_going_back_gives_what_was_there():
    forwards = stream(Source(67))
    whole = ids(forwards)
    assert [forwards[place].id for place in (119, 3, 70, 0, 66)] == [whole[p] for p in (119, 3, 70, 0, 66)]


def test_the_source_is_read_once_an_epoch():
    source = Source(50)
    list(stream(source, steps=25))  # two epochs
    assert source.skipped == [0, 0]


def test_a_later_window_is_reached_by_skipping():
    source = Source(67)
    stream(source)[45]
    assert source.skipped == [40]


def test_steps_hold_samples_of_like_length():
    made = list(stream(Source(4000), steps=1000, window=1000))
    spans = [
        max(len(one.token_ids) for one in made[start : start + 4])
        - min(len(one.token_ids) for one in made[start : start + 4])
        for start in range(0, 4000, 4)
    ]
    assert sum(spans) / len(spans) < 6  # in random order 24


def test_steps_stay_of_like_length_after_an_epoch_that_ends_within_one():
    made = list(stream(Source(1001), steps=500, window=1000))
    spans = [
        max(len(one.token_ids) for one in made[start : start + 4])
        - min(len(one.token_ids) for one in made[start : start + 4])
        for start in range(1004, 2000, 4)
    ]
    assert sum(spans) / len(spans) < 6


def test_another_seed_or_epoch_has_another_order():
    first, other = ids(stream(Source(40), steps=20)), ids(stream(Source(40), steps=20, seed=1))
    assert first != other
    assert [one.partition("@")[0] for one in first[:40]] != [one.partition("@")[0] for one in first[40:]]


def test_the_longest_example_is_that_of_the_first_window():
    source = Source(67)
    assert stream(source).longest_example() == max(len(sample.answer) for sample in samples(20))


@pytest.mark.parametrize("copies", [1, 2, 9])
def test_the_longest_example_is_found_however_often_it_holds_the_answer(copies):
    rng = keyed_rng("longest")
    some = [Sample(f"{n}", (1,) * rng.randrange(90), (2,) * rng.randrange(1, 30)) for n in range(300)]

    def count(sample):
        return len(sample.prompt) + copies * len(sample.answer)

    found = find_longest(some)
    assert max(map(count, found)) == max(map(count, some))
    assert len(found) < 20


def test_a_place_beyond_the_run_is_an_index_error():
    with pytest.raises(IndexError):
        stream(Source(5), steps=2)[8]


def test_a_window_smaller_than_a_batch_is_refused():
    with pytest.raises(ValueError, match="window of 3 samples for batches of 4"):
        stream(Source(5), window=3)


def test_an_empty_source_is_an_error():
    with pytest.raises(DataError, match="no sample that fits"):
        stream(Source(0))[0]


@pytest.mark.parametrize("count", [10, 30, 60])
def test_a_source_that_changes_between_epochs_is_an_error(count):
    source = Source(50)
    one = stream(source)
    one[49]
    source.samples = samples(count)
    with pytest.raises(DataError, match=f"held 50 samples and now {count}"):
        [one[place] for place in range(50, 100)]


@pytest.fixture
def data(tmp_path):
    turns = [{"role": role, "content": f"{role} {k}"} for k in range(2) for role in ("user", "assistant")]
    rows = [{"messages": turns if n % 3 else turns[:2]} for n in range(20)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ConversationData((str(tmp_path / "data.jsonl"),), turns="all")


@pytest.fixture
def tokenised(monkeypatch):
    """The texts that were tokenised."""
    counted = []
    monkeypatch.setattr(
        "demask.data.samples.encode_all",
        lambda tokenizer, texts: counted.extend(texts) or encode_all(tokenizer, texts),
    )
    return counted


@pytest.mark.parametrize("skip", [0, 1, 2, 3, 4, 17, 32, 33, 50])
def test_a_reader_gives_the_samples_on_disk_but_for_those_it_skips(
    data, tiny_tokenizer, tiny_chat, tmp_path, skip
):
    given = {"tokenizer": tiny_tokenizer, "chat": tiny_chat, "limit": ANY}
    kept = prepare_samples(data, cache=tmp_path / "cache", progress=Silent(), **given)
    assert len(kept) == 33
    read = list(sample_reader(data, **given)(skip))
    assert read == [None] * min(skip, 33) + list(kept)[skip:]


def test_what_is_skipped_is_not_tokenised_unless_samples_are_left_out(
    data, tiny_tokenizer, tiny_chat, tokenised
):
    given = {"tokenizer": tiny_tokenizer, "chat": tiny_chat}
    assert len(list(sample_reader(data, limit=ANY, **given)(31))) == 33
    assert len(tokenised) == 4  # of the last conversation
    tokenised.clear()
    short = Limit(lambda prompt, answer: True, "any", "leave-out")
    assert len(list(sample_reader(data, limit=short, **given)(31))) == 33
    assert len(tokenised) == 66


def test_samples_that_do_not_fit_are_left_out_of_a_stream(data, tiny_tokenizer, tiny_chat):
    given = {"tokenizer": tiny_tokenizer, "chat": tiny_chat}
    lengths = Counter(len(one.prompt) for one in sample_reader(data, limit=ANY, **given)(0))
    low = min(lengths)
    limit = Limit(lambda prompt, answer: prompt <= low, "short", "leave-out")
    told = Told()
    read = list(sample_reader(data, limit=limit, progress=told, **given)(2))
    assert read[:2] == [None, None]
    assert len(read) == lengths[low] < 33
    assert len(told.lines) == 2
    assert "data.jsonl line 2: " in told.lines[0]
    assert told.lines[1].startswith(f"{33 - lengths[low]} samples were too long")


def test_blocks_are_streamed_as_they_stand_on_disk(tiny_tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("The river. " * 40, encoding="utf-8")
    text = TextData((str(tmp_path / "a.txt"),), block_length=16)
    kept = prepare_blocks(text, tokenizer=tiny_tokenizer, cache=tmp_path / "cache", progress=Silent())
    assert list(block_reader(text, tokenizer=tiny_tokenizer)(2)) == [None, None, *list(kept)[2:]]
