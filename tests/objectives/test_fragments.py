"""Fragments: which words of a passage a prompt shows, and what stands around them."""

import random

import pytest

from demask.objectives import fragments
from demask.objectives.fragments import FragmentPrompts, cut_into_parts, draw_fragment, telling_words

TEXT = "the old Orlin works in the town of Quill were sold by the heirs of it in 1958 and so on"


def draw(seed: int) -> tuple[bool, ...]:
    return draw_fragment(range(len(TEXT.split())), telling_words(TEXT), random.Random(seed))


def test_a_fragment_is_a_few_words_of_which_some_tell_something() -> None:
    telling = telling_words(TEXT)
    in_a_row = 0
    for seed in range(200):
        shown = [word for word, hide in enumerate(draw(seed)) if not hide]
        assert 2 <= len(shown) <= 12
        assert sum(telling[word] for word in shown) >= 2
        in_a_row += shown == list(range(shown[0], shown[-1] + 1))
    assert 70 < in_a_row < 150


def test_of_some_fragments_words_are_left_out_and_of_some_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "_PARTS", (1,))
    gaps = []
    for seed in range(200):
        shown = [word for word, hide in enumerate(draw(seed)) if not hide]
        gaps.append(shown[-1] - shown[0] + 1 - len(shown))
    assert 20 < sum(gap > 0 for gap in gaps) < 120
    assert max(gaps) <= 4


@pytest.mark.parametrize("text", ["", "of", "it is so", "Orlin"])
def test_a_text_without_enough_to_tell_still_has_a_fragment(text: str) -> None:
    words = range(max(1, len(text.split())))
    for seed in range(50):
        assert not all(draw_fragment(words, telling_words(text), random.Random(seed)))


def test_names_numbers_and_long_words_tell_something() -> None:
    assert telling_words("the Orlin of 1958 was founded in \u5317\u4eac") == (
        *(False, True, False, True),
        *(False, True, False, True, True),
    )


def test_parts_are_runs_of_what_is_shown_each_once_and_in_any_order() -> None:
    masked = (True, False, False, True, False, True, True, False)
    orders = {tuple(map(tuple, cut_into_parts(masked, random.Random(seed)))) for seed in range(60)}
    assert len(orders) == 6
    assert all(sorted(order) == [(1, 2), (4,), (7,)] for order in orders)


def test_a_prompt_has_the_shown_tokens_and_is_no_longer_than_it_says() -> None:
    prompts = FragmentPrompts(lambda text: tuple(10_000 + number for number in text.encode()))
    ids = range(len(TEXT.split()))
    seen = set()
    for seed in range(300):
        masked, rng = draw(seed), random.Random(seed)
        written = prompts.write(ids, masked, rng)
        assert sorted(token for token in written if token < 10_000) == [
            place for place, hide in enumerate(masked) if not hide
        ]
        assert len(written) <= len(ids) + prompts.longest
        seen.add(bytes(token - 10_000 for token in written if token >= 10_000).decode())
    assert any(text.startswith("Which ") and text.endswith("?") for text in seen)
    assert any("," in text for text in seen)
    assert "" in seen
