"""Prompts that begin alike come together, each once, and no group promises more than its members share."""

import random

import pytest

from demask.generation.autoregressive import Group, fill_batches, group_prompts

pytestmark = pytest.mark.smoke


def make_prompts(seed, *, count=40):
    """Random prompts over few tokens, so that many begin alike."""
    rng = random.Random(seed)
    return [[rng.randrange(2) for _ in range(rng.randint(1, 12))] for _ in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_every_prompt_stands_in_one_group_and_begins_as_the_group_says(seed):
    prompts = make_prompts(seed)
    groups = group_prompts(prompts, least=3, most=6)
    assert sorted(member for group in groups for member in group.members) == list(range(40))
    for shared, members in groups:
        assert len({tuple(prompts[member][:shared]) for member in members}) == 1
        assert all(shared < len(prompts[member]) for member in members)
        assert len(members) <= 6
        assert len(members) == 1 or shared >= 3


def test_prompts_of_two_documents_make_two_groups():
    one, other = [1, 2, 3, 4, 5, 6], [1, 2, 3, 9, 8, 7]
    prompts = [[*one, 10], [*other, 11], [*one, 12, 13], [*other, 14]]
    assert group_prompts(prompts, least=3, most=9) == [Group(6, (0, 2)), Group(6, (1, 3))]


def test_a_beginning_that_is_too_short_makes_no_group():
    assert group_prompts([[1, 2, 3], [1, 2, 4]], least=3, most=9) == [Group(2, (0,)), Group(2, (1,))]


def test_a_prompt_that_shares_little_does_not_spoil_a_group():
    long = list(range(20))
    prompts = [[*long, 90], [*long, 91], [*long[:4], 99]]
    assert group_prompts(prompts, least=4, most=9) == [Group(20, (0, 1)), Group(4, (2,))]


def test_equal_prompts_leave_one_token_to_each():
    assert group_prompts([[1, 2, 3, 4]] * 2, least=2, most=9) == [Group(3, (0, 1))]


@pytest.mark.parametrize("size", [6, 7, 40])
def test_batches_hold_whole_groups_and_the_longest_prompts_come_first(size):
    prompts = make_prompts(0)
    groups = group_prompts(prompts, least=3, most=6)
    batches = fill_batches(groups, prompts, size=size)
    assert sorted(group for batch in batches for group in batch) == sorted(groups)
    assert all(sum(len(group.members) for group in batch) <= size for batch in batches)
    longest = [max(len(prompts[m]) for m in group.members) for batch in batches for group in batch]
    assert longest == sorted(longest, reverse=True)


def test_no_prompts_no_batches():
    assert fill_batches(group_prompts([], least=3, most=6), [], size=4) == []
