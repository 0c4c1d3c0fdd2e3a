"""Prompts that begin alike, so that what they share is read once.

    groups = group_prompts(prompts, least=16, most=40)
    batches = fill_batches(groups, prompts, size=40)

Questions that come with the same document begin with that document.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Group(NamedTuple):
    """Prompts by number, and how many tokens they all begin with; less than any of them has."""

    shared: int
    members: tuple[int, ...]


def group_prompts(prompts: Sequence[Sequence[int]], *, least: int, most: int) -> list[Group]:
    """Put each prompt into one group.

    A prompt joins the group before it (in the order of their ids) when that leaves more than half of what
    the group shared.

    Args:
        prompts: token ids, none of them empty.
        least: shared tokens from which on a group is worth its while.
        most: prompts in a group.
    """
    order = sorted(range(len(prompts)), key=lambda index: tuple(prompts[index]))
    groups: list[Group] = []
    for index in order:
        if groups and len(groups[-1].members) < most:
            shared, members = groups[-1]
            common = _count_common(prompts[members[0]], prompts[index], shared)
            if common >= least and (len(members) == 1 or 2 * common > shared):
                groups[-1] = Group(common, (*members, index))
                continue
        groups.append(Group(len(prompts[index]) - 1, (index,)))
    return groups


def _count_common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    limit = min(most, len(other) - 1)
    return next((place for place in range(limit) if one[place] != other[place]), limit)


def fill_batches(
    groups: Sequence[Group], prompts: Sequence[Sequence[int]], *, size: int
) -> list[list[Group]]:
    """Whole groups, the longest prompts first, at most `size` prompts together."""
    batches: list[list[Group]] = []
    room = 0
    for group in sorted(groups, key=lambda group: -max(len(prompts[member]) for member in group.members)):
        if len(group.members) > room:
            batches.append([])
            room = size
        batches[-1].append(group)
        room -= len(group.members)
    return batches
