"""What is seen when: every passage once an epoch, like lengths together, a function of the seed alone."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from demask.records import Example, Passage
from demask.training.stream import Exposure, ExposureStream, cut_micro_batches
from demask.training.stream import order_exposures as order_numbers

pytestmark = pytest.mark.smoke


def name_exposure(passage, epoch, variant):
    return Example(f"{passage.id}@{epoch}.{variant}", (1, 2), (-100, 2), (False, False))


def make_stream(*, passages=7, variants=1, batch_size=3, steps=20, seed=0, copies=1):
    return ExposureStream(
        [Passage(f"p{i}", "d", "") for i in range(passages)],
        [10 + i for i in range(passages)],
        name_exposure,
        variants=variants,
        batch_size=batch_size,
        steps=steps,
        seed=seed,
        copies=copies,
    )


def order_exposures(lengths, *, variants, epoch, **rest):
    order = order_numbers(lengths, variants=variants, epoch=epoch, **rest)
    return [Exposure(number // variants, epoch, number % variants) for number in order]


def ids(stream):
    return [stream[place].id for place in range(len(stream))]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
@pytest.mark.parametrize("variants", [1, 2])
def test_an_epoch_has_every_passage_in_every_variant_once(batch_size, variants):
    lengths = [random.Random(0).randrange(500) for _ in range(50)]
    order = order_exposures(lengths, variants=variants, batch_size=batch_size, seed=0, epoch=4)
    expected = {Exposure(passage, 4, variant) for passage in range(50) for variant in range(variants)}
    assert Counter(order) == Counter(expected)


def test_a_run_goes_through_its_epochs_one_after_the_other():
    stream = make_stream(passages=7, steps=7, batch_size=3)
    seen = [ids(stream)[7 * epoch : 7 * epoch + 7] for epoch in range(3)]
    for epoch, names in enumerate(seen):
        assert sorted(names) == [f"p{i}@{epoch}.0" for i in range(7)]


def test_each_epoch_has_an_order_of_its_own():
    orders = {
        tuple(e.passage for e in order_exposures([5] * 20, variants=1, batch_size=4, seed=0, epoch=epoch))
        for epoch in range(5)
    }
    assert len(orders) == 5


def test_order_is_a_function_of_the_seed():
    assert ids(make_stream(seed=3)) == ids(make_stream(seed=3))
    assert ids(make_stream(seed=3)) != ids(make_stream(seed=4))


def test_an_exposure_is_the_same_wherever_reading_begins():
    stream, whole = make_stream(), ids(make_stream())
    places = list(range(len(stream)))
    random.Random(0).shuffle(places)
    assert all(stream[place].id == whole[place] for place in places)


def test_a_longer_run_begins_like_a_shorter_one():
    assert ids(make_stream(steps=20))[:30] == ids(make_stream(steps=10))


@pytest.mark.parametrize("accumulation", [1, 2, 3, 5, 10])
def test_micro_batches_of_a_step_make_up_the_step_in_order(accumulation):
    stream = make_stream(batch_size=10, steps=4, passages=20)
    cut = cut_micro_batches(stream, accumulation=accumulation)
    assert len(cut) == 4 * accumulation
    for step in range(4):
        parts = cut[step * accumulation : (step + 1) * accumulation]
        assert [place for part in parts for place in part] == list(range(10 * step, 10 * step + 10))


@pytest.mark.parametrize("accumulation", [2, 3, 4, 7])
def test_micro_batches_are_as_even_as_can_be_and_never_empty(accumulation):
    sizes = {len(part) for part in cut_micro_batches(make_stream(batch_size=7), accumulation=accumulation)}
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def test_more_micro_batches_than_examples_are_refused():
    with pytest.raises(ValueError, match="4 micro-batches of 3 examples"):
        cut_micro_batches(make_stream(batch_size=3), accumulation=4)


def test_batches_of_like_length_need_little_padding():
    lengths = [random.Random(0).randint(20, 500)] + [random.Random(i).randint(20, 500) for i in range(639)]
    order = order_exposures(lengths, variants=1, batch_size=8, seed=0, epoch=0)
    batches = [[lengths[e.passage] for e in order[start : start + 8]] for start in range(0, 640, 8)]
    padded = sum(8 * max(batch) for batch in batches)
    shuffled = random.Random(0).sample(lengths, 640)
    naive = sum(8 * max(shuffled[start : start + 8]) for start in range(0, 640, 8))
    assert padded / sum(lengths) < 1.1
    assert naive / sum(lengths) > 1.5


def test_batches_do_not_come_in_the_order_of_their_lengths():
    lengths = list(range(640))
    order = order_exposures(lengths, variants=1, batch_size=8, seed=0, epoch=0)
    means = [sum(e.passage for e in order[start : start + 8]) / 8 for start in range(0, 640, 8)]
    rises = sum(a < b for a, b in pairwise(means))
    assert 25 < rises < 55  # of 79; 39.5 on average, with a standard deviation of 2.6


def test_sizes_of_a_run():
    stream = make_stream(passages=6, batch_size=3, steps=20)
    assert len(stream) == 60
    assert stream.exposures == 10.0


def test_the_longest_example_is_the_longest_variant_of_the_longest_passage():
    passages = [Passage(f"p{i}", "d", "x" * i) for i in (3, 9, 1, 7)]

    def make(passage, epoch, variant):
        size = len(passage.text) + variant
        return Example("e", (1,) * size, (1,) * size, (False,) * size)

    sizes = [len(passage.text) for passage in passages]
    stream = ExposureStream(passages, sizes, make, variants=2, batch_size=2, steps=9, seed=0)
    assert stream.longest_example() == 9 + 1
    assert max(len(stream[place].token_ids) for place in range(len(stream))) == 9 + 1


@pytest.mark.parametrize(("copies", "batch_size", "passages"), [(2, 6, 7), (3, 3, 5), (4, 8, 2), (2, 2, 9)])
def test_copies_of_a_passage_stand_side_by_side_in_one_step(copies, batch_size, passages):
    stream = make_stream(
        passages=passages, variants=copies, copies=copies, batch_size=batch_size, steps=passages * copies
    )
    for step in range(stream.steps):
        places = range(step * batch_size, (step + 1) * batch_size)
        exposures = [stream.exposure(place) for place in places]
        for start in range(0, batch_size, copies):
            group = exposures[start : start + copies]
            assert len({(e.passage, e.epoch) for e in group}) == 1
            assert [e.variant for e in group] == list(range(copies))


def test_every_passage_stands_in_every_epoch_in_all_its_copies():
    order = order_exposures([5] * 9, variants=4, batch_size=4, seed=0, epoch=1, copies=2)
    assert Counter(order) == Counter(Exposure(p, 1, v) for p in range(9) for v in range(4))
    pairs = list(zip(order[::2], order[1::2], strict=True))
    assert all(a.passage == b.passage and b.variant == a.variant + 1 for a, b in pairs)


def test_passages_come_in_the_same_order_in_copies_as_without():
    lengths = [random.Random(i).randint(20, 500) for i in range(60)]
    one = order_exposures(lengths, variants=1, batch_size=4, seed=0, epoch=2)
    two = order_exposures(lengths, variants=2, batch_size=8, seed=0, epoch=2, copies=2)
    assert [e.passage for e in two[::2]] == [e.passage for e in one]


@pytest.mark.parametrize(("variants", "batch_size"), [(2, 5), (3, 4)])
def test_a_step_or_an_epoch_that_would_part_copies_is_refused(variants, batch_size):
    with pytest.raises(ValueError, match="in groups of 2"):
        order_exposures([5] * 9, variants=variants, batch_size=batch_size, seed=0, epoch=0, copies=2)
