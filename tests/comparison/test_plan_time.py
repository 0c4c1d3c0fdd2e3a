"""The time that a comparison is said to take, where cells share a machine."""

import pytest

from demask.comparison.grid import PlannedArm, seconds_left

ARMS = (
    PlannedArm("m", "a", cells=3, done=1, steps=1, tokens=1, seconds=100.0),
    PlannedArm("m", "b", cells=3, done=0, steps=1, tokens=1, seconds=50.0),
    PlannedArm("m", "c", cells=3, done=0, steps=1, tokens=1, seconds=70.0, problem="cannot be run"),
)


@pytest.mark.parametrize(
    ("slots", "seconds"),
    [([None], 350.0), ([None] * 4, 350.0), ([0, 1], 175.0), ([0, 0, 1, 1], 175.0), ([0, 0], 350.0)],
)
def test_only_more_gpus_make_it_quicker(slots: list[int | None], seconds: float) -> None:
    assert seconds_left(ARMS, slots) == seconds


def test_nothing_is_said_of_the_time_where_an_arm_was_not_timed() -> None:
    untimed = PlannedArm("m", "d", cells=1, done=0, steps=1, tokens=1, seconds=None)
    assert seconds_left((*ARMS, untimed), [None]) is None


def test_what_is_done_or_cannot_be_run_needs_no_time() -> None:
    done = PlannedArm("m", "d", cells=2, done=2, steps=1, tokens=1, seconds=None)
    cannot = PlannedArm("m", "e", cells=2, done=0, steps=1, tokens=1, seconds=None, problem="cannot be run")
    assert seconds_left((*ARMS, done, cannot), [None]) == 350.0
