"""Fragments: which words of a passage a prompt shows, and what stands around them."""

import random
import re

import pytest

from demask.objectives import fragments
from demask.objectives.fragments import (
    OPENINGS,
    WORDINGS,
    FragmentPrompts,
    cut_into_parts,
    draw_answer,
    draw_fragment,
    telling_words,
)
from demask.objectives.masking import word_groups
from demask.objectives.prompts import encode

TEXT = "the old Orlin works in the town of Quill were sold by the heirs of it in 1958 for a song"


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


def test_a_prompt_has_the_shown_words_and_is_no_longer_than_it_says(shared_tokenizer) -> None:
    prompts = FragmentPrompts(shared_tokenizer)
    ids, words = encode(shared_tokenizer, TEXT), word_groups(shared_tokenizer, TEXT)
    around = {word for texts in (*WORDINGS, OPENINGS) for text in texts for word in re.findall(r"\w+", text)}
    seen = set()
    for seed in range(300):
        masked = draw_fragment(words, telling_words(TEXT), random.Random(seed))
        written = prompts.write(ids, masked, random.Random(seed))
        assert len(written) <= len(ids) + prompts.longest
        text = shared_tokenizer.decode(list(written))
        shown = {word for place, word in enumerate(TEXT.split()) if not masked[words.index(place)]}
        assert shown <= set(re.findall(r"\w+", text)) <= shown | around
        seen.add(text)
    assert any(text.startswith("Which ") and text.endswith("?") for text in seen)
    assert any("," in text for text in seen)
    assert any(set(text.split()) <= set(TEXT.split()) for text in seen)


@pytest.mark.parametrize("text", [TEXT, "\u5317\u4eac\u662f\u4e2d\u56fd\u7684\u9996\u90fd"])
def test_a_prompt_has_the_tokens_of_its_text_as_a_question_has(shared_tokenizer, text: str) -> None:
    ids, words = encode(shared_tokenizer, text), word_groups(shared_tokenizer, text)
    for seed in range(100):
        masked = draw_fragment(words, telling_words(text), random.Random(seed))
        written = FragmentPrompts(shared_tokenizer).write(ids, masked, random.Random(seed))
        said = shared_tokenizer.decode(list(written))
        assert written == encode(shared_tokenizer, said)
        assert "  " not in said
        assert said == said.strip()


def test_an_answer_is_a_few_hidden_words_in_a_row(shared_tokenizer) -> None:
    ids, words = encode(shared_tokenizer, TEXT), word_groups(shared_tokenizer, TEXT)
    lengths = set()
    for seed in range(200):
        masked = draw_fragment(words, telling_words(TEXT), random.Random(seed))
        said = shared_tokenizer.decode(list(draw_answer(ids, words, masked, random.Random(seed)))).split()
        lengths.add(len(said))
        runs = (range(first, first + len(said)) for first in range(len(TEXT.split()) - len(said) + 1))
        assert any(
            [TEXT.split()[place] for place in run] == said
            and all(masked[words.index(place)] for place in run)
            for run in runs
        )
    assert lengths == {1, 2, 3, 4, 5}
    assert draw_answer(ids, words, [False] * len(ids), random.Random(0)) == ()
