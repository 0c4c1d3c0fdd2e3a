"""Masked and plain examples of samples, token by token."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from demask.objectives.cpt import Cpt, MaskedCpt
from demask.objectives.masking import keyed_rng
from demask.objectives.objective import Context, Objective
from demask.objectives.prompts import ChatFormat
from demask.objectives.sft import MaskedSft, Sft, draw_answer_mask, step_finder
from demask.records import IGNORE_INDEX, Example, Sample

NONE = IGNORE_INDEX
MASK = 7
CHAT = ChatFormat(user=(1, 2), assistant=(3, 4), end=(5, 6), bos=(9,))
QUESTION = Sample("q", prompt=(1, 2, 100, 101), answer=(110, 111, 112, 113, 114))
BLOCK = Sample("b", prompt=(), answer=(110, 111, 112))


class Letters:
    """A tokenizer with a token for each letter, from 200 on; a line break is 50."""

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [50 if letter == "\n" else 200 + ord(letter) for letter in text]}


class Words:
    """Decodes 1 to 5 as a number, a full stop, a digit, the end of a sentence and a line break."""

    def decode(self, ids: list[int]) -> str:
        return "".join({1: "7", 2: ".", 3: "3", 4: " so.", 5: "\n"}[id] for id in ids)


CONTEXT = Context(Letters(), CHAT, None, MASK)  # type: ignore[arg-type]


def maker(objective: Objective, *, seed: int = 0) -> Callable[[Sample, int, int], Example]:
    return objective.example_maker(CONTEXT, seed=seed)


def test_plain_sft_scores_the_answer_and_its_end_after_the_whole_prompt() -> None:
    example = maker(Sft())(QUESTION, 0, 0)
    assert example.token_ids == (1, 2, 100, 101, 3, 4, 110, 111, 112, 113, 114, 5, 6)
    assert example.labels == (*(NONE,) * 6, 110, 111, 112, 113, 114, 5, 6)
    assert example.masked == (*(False,) * 6, *(True,) * 7)


def test_the_end_can_be_left_out_of_the_loss_and_still_stands_there() -> None:
    for objective in (Sft(learn_end=False), MaskedSft(learn_end=False)):
        example = maker(objective)(QUESTION, 0, 0)
        assert example.token_ids[-2:] == (5, 6)
        assert example.labels[-2:] == (NONE, NONE)


def test_the_answer_stands_masked_behind_its_clear_question() -> None:
    example = maker(MaskedSft(mask_ratio=(1.0, 1.0), instruction="I"))(QUESTION, 0, 0)
    prompt = (1, 2, 100, 101, 50, *(MASK,) * 5, 200 + ord("I"), 3, 4)
    assert example.token_ids == (*prompt, 110, 111, 112, 113, 114, 5, 6)
    assert example.labels == (*(NONE,) * len(prompt), 110, 111, 112, 113, 114, 5, 6)


def test_by_default_what_the_prompt_shows_carries_no_loss() -> None:
    example = maker(MaskedSft(mask_ratio=(0.5, 0.5), instruction=""))(QUESTION, 0, 0)
    shown = example.token_ids[5:10]
    assert MASK in shown
    assert shown != (MASK,) * 5
    for token, was_shown, label in zip(QUESTION.answer, shown, example.labels[12:17], strict=True):
        assert label == (token if was_shown == MASK else NONE)
        assert was_shown in (token, MASK)


def test_loss_on_all_scores_what_can_be_copied_too() -> None:
    example = maker(MaskedSft(mask_ratio=(0.5, 0.5), loss_on="all"))(QUESTION, 0, 0)
    assert example.labels[-7:] == (*QUESTION.answer, 5, 6)


def test_every_epoch_has_a_mask_of_its_own_and_the_same_key_the_same() -> None:
    make = maker(MaskedSft())
    assert make(QUESTION, 0, 0) == make(QUESTION, 0, 0)
    assert len({make(QUESTION, epoch, 0).masked for epoch in range(20)}) > 5
    assert maker(MaskedSft(), seed=1)(QUESTION, 0, 0).masked != make(QUESTION, 0, 0).masked


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_mixture_masks_its_share_and_learns_the_rest_plainly(share: float) -> None:
    make, plain = maker(MaskedSft(share=(share,))), maker(Sft())
    samples = [Sample(str(number), QUESTION.prompt, QUESTION.answer) for number in range(2000)]
    masked = sum(make(sample, 0, 0) != plain(sample, 0, 0) for sample in samples)
    assert masked / 2000 == pytest.approx(share, abs=0.04)


def test_a_share_for_each_epoch_holds_on_with_its_last() -> None:
    make, plain, whole = maker(MaskedSft(share=(1.0, 0.0))), maker(Sft()), maker(MaskedSft())
    assert make(QUESTION, 0, 0) == whole(QUESTION, 0, 0)
    assert [make(QUESTION, epoch, 0) for epoch in (1, 5)] == [plain(QUESTION, epoch, 0) for epoch in (1, 5)]


@pytest.mark.parametrize(("share", "steady"), [(1.0, True), (0.0, True), (0.5, False), ((1.0, 0.0), False)])
def test_only_examples_of_one_kind_are_of_one_length(share: Any, steady: bool) -> None:
    assert MaskedSft(share=share).steady == steady


@pytest.mark.parametrize("share", [1.5, [0.5, -1], [], "half"])
def test_a_share_that_is_none_is_refused(share: Any) -> None:
    with pytest.raises(ValueError, match="share"):
        MaskedSft(share=share)


def test_a_noisy_prompt_hides_words_behind_the_mask_token_and_nothing_else() -> None:
    make, plain = maker(Sft(prompt_noise=0.5)), maker(Sft())(QUESTION, 0, 0)
    prompts = {make(QUESTION, epoch, 0).token_ids[2:4] for epoch in range(40)}
    assert prompts == {(100, 101), (MASK, 101), (100, MASK), (MASK, MASK)}
    for epoch in range(40):
        noisy = make(QUESTION, epoch, 0)
        assert (noisy.token_ids[:2], noisy.token_ids[4:]) == (plain.token_ids[:2], plain.token_ids[4:])
        assert noisy.labels == plain.labels


def test_a_step_is_masked_as_a_whole() -> None:
    find = step_finder(Words())  # type: ignore[arg-type]
    # "7.3 so.", "7 so.", a line "77\n" and "7": the full stop in 7.3 ends nothing.
    steps = find([1, 2, 3, 4, 1, 4, 1, 1, 5, 1])
    assert steps == (0, 0, 0, 0, 1, 1, 2, 2, 2, 3)
    for seed in range(30):
        mask = draw_answer_mask(steps, (0.05, 0.95), keyed_rng(seed))
        assert any(mask)
        assert all(
            len({mask[place] for place in range(10) if steps[place] == step}) == 1 for step in range(4)
        )


def test_masks_do_not_depend_on_the_share() -> None:
    whole, mixed = maker(MaskedSft()), maker(MaskedSft(share=(0.5,)))
    plain = maker(Sft())
    for epoch in range(20):
        assert mixed(QUESTION, epoch, 0) in (whole(QUESTION, epoch, 0), plain(QUESTION, epoch, 0))


def test_an_answer_of_one_token_is_always_masked() -> None:
    for seed in range(50):
        assert draw_answer_mask(range(1), (0.05, 0.05), keyed_rng(seed)) == (True,)


def test_at_least_one_token_is_masked_and_each_alike_often() -> None:
    counts = [0] * 4
    for seed in range(4000):
        mask = draw_answer_mask(range(4), (0.01, 0.01), keyed_rng(seed))
        assert any(mask)
        counts = [count + hidden for count, hidden in zip(counts, mask, strict=True)]
    assert min(counts) > 900


def test_a_block_is_raw_text_and_has_no_end() -> None:
    example = maker(Cpt())(BLOCK, 0, 0)
    assert example.token_ids == (9, 110, 111, 112)
    assert example.labels == (NONE, 110, 111, 112)


def test_a_masked_block_is_written_in_the_chat_format() -> None:
    example = maker(MaskedCpt(mask_ratio=(1.0, 1.0), instruction="I"))(BLOCK, 0, 0)
    assert example.token_ids == (1, 2, MASK, MASK, MASK, 200 + ord("I"), 3, 4, 110, 111, 112, 5, 6)


def test_the_plain_part_of_a_mixture_of_blocks_is_raw_text() -> None:
    assert maker(MaskedCpt(share=(0.0,)))(BLOCK, 0, 0) == maker(Cpt())(BLOCK, 0, 0)


@pytest.mark.parametrize("objective", [Sft(), MaskedSft(), Cpt(), MaskedCpt()])
def test_the_length_of_an_example_is_known_before_it_is_made(objective: Objective) -> None:
    sample = BLOCK if isinstance(objective, Cpt | MaskedCpt) else QUESTION
    count = objective.example_length(CONTEXT)
    made = maker(objective)(sample, 0, 0)
    assert count(len(sample.prompt), len(sample.answer)) == len(made.token_ids)


def test_a_mask_token_is_needed_where_something_is_masked() -> None:
    with pytest.raises(ValueError, match="mask token"):
        MaskedSft().example_maker(replace(CONTEXT, mask_id=None), seed=0)
