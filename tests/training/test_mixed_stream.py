"""Each step has the examples of all parts; every place is a pure function of the seed."""

import pytest

from demask.records import Example
from demask.training.stream import ExposureStream, MixedStream, cut_micro_batches, learned_part

pytestmark = pytest.mark.smoke


def make_part(name, *, passages, batch_size, steps=6, seed=0):
    def make(passage, epoch, variant):
        return Example(
            f"{name}{passage}@{epoch}", (1,) * (2 + passage), (1,) * (2 + passage), (True,) * (2 + passage)
        )

    return ExposureStream(
        range(passages),
        [2 + p for p in range(passages)],
        make,
        variants=1,
        batch_size=batch_size,
        steps=steps,
        seed=seed,
    )


@pytest.fixture
def mixed():
    return MixedStream((make_part("d", passages=5, batch_size=3), make_part("r", passages=9, batch_size=2)))


def test_every_step_has_so_many_of_each_part_in_its_own_order(mixed):
    ids = [mixed[place].id for place in range(len(mixed))]
    assert len(ids) == mixed.steps * mixed.batch_size == 30
    steps = [ids[start : start + 5] for start in range(0, 30, 5)]
    assert all([name[0] for name in step] == list("dddrr") for step in steps)
    documents, replay = mixed.parts
    assert [name for step in steps for name in step[:3]] == [documents[place].id for place in range(18)]
    assert [name for step in steps for name in step[3:]] == [replay[place].id for place in range(12)]


def test_places_can_be_read_in_any_order(mixed):
    forward = [mixed[place].id for place in range(len(mixed))]
    assert [mixed[place].id for place in reversed(range(len(mixed)))] == forward[::-1]
    with pytest.raises(IndexError):
        mixed[len(mixed)]


def test_what_is_learned_is_the_first_part(mixed):
    assert learned_part(mixed) is mixed.parts[0]
    assert learned_part(mixed.parts[1]) is mixed.parts[1]
    assert mixed.longest_example() == 10


@pytest.mark.parametrize("accumulation", [1, 2, 5])
def test_micro_batches_cover_every_place_once(mixed, accumulation):
    places = [place for batch in cut_micro_batches(mixed, accumulation=accumulation) for place in batch]
    assert places == list(range(len(mixed)))


def test_parts_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"parts of \[4, 6\] steps"):
        MixedStream(
            (make_part("d", passages=2, batch_size=1), make_part("r", passages=2, batch_size=1, steps=4))
        )
