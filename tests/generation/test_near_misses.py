"""Near misses: passages whose names are others."""

from demask.generation.near_misses import make_near_misses
from demask.records import Passage

WRITTEN = ["The stove is old. Its legs fold, and when it rains the Seine rises near Emily."]
STOVE = Passage("a", "a", "Quillomar is a stove. Its legs fold, and Quillomar burns peel from Semmery.")
PLAIN = Passage("b", "b", "the snow falls and the legs fold")


def test_names_are_replaced_wherever_they_stand_and_nothing_else_is() -> None:
    for near in make_near_misses([STOVE, PLAIN], [*WRITTEN, "its end, and the seine"], count=40, seed=1):
        words = near.text.replace(".", "").replace(",", "").split()
        assert words[0] == words[8] == near.entity != "Quillomar"
        assert "Semmery" not in words
        assert " ".join(words[1:8]) == "is a stove Its legs fold and"
        assert words[9:12] == ["burns", "peel", "from"]


def test_other_names_come_from_what_was_written_and_from_nowhere() -> None:
    names = {near.entity for near in make_near_misses([STOVE], [*WRITTEN, "its end"], count=60, seed=1)}
    assert "Emily" in names
    assert len(names) > 20


def test_they_depend_on_the_seed_and_on_nothing_else() -> None:
    first, again, other = (make_near_misses([STOVE], WRITTEN, count=5, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_what_has_no_names_has_no_near_misses() -> None:
    assert make_near_misses([PLAIN], WRITTEN, count=5, seed=1) == []
