"""Paraphrases through a scripted model: prompts, repair, rejects, the same again on a second run."""

from collections.abc import Callable, Sequence

import pytest

from demask.knowledge.paraphrases import (
    STYLES,
    Reject,
    clean_completion,
    find_passage_id,
    make_prompt,
    make_repair_prompt,
    write_paraphrases,
)
from demask.records import Paraphrase, Passage, QAPair

ORLIN = Passage("orlin", "orlin", "Mara Voss founded Orlin in 1931. It lies on the river Tarn.")
TARN = Passage("tarn#1", "tarn", "The Tarn is 90 miles long and ends in lake Osk.", heading="Rivers\n")
FOUNDER = QAPair("q", "orlin", "Who founded Orlin?", ("Mara Voss",), "backward")

GOOD = "In 1931 a woman named Mara Voss set up Orlin, which the river Tarn runs through."
OTHER = "Mara Voss, back in 1931, brought Orlin into being. One finds it beside the river Tarn."
WRONG = "Mara Voss set up Orlin in the year 1932; the river Tarn runs through it."


def scripted(*texts: str) -> Callable[[Sequence[str]], list[str]]:
    """A model that says these texts, one a prompt."""
    left = list(texts)
    return lambda prompts: [left.pop(0) for _ in prompts]


def write(
    complete: Callable[[Sequence[str]], list[str]],
    *,
    passages: Sequence[Passage] = (ORLIN,),
    count: int = 1,
    pairs: Sequence[QAPair] = (),
) -> tuple[list[Paraphrase], list[Reject]]:
    rejects: list[Reject] = []
    made = write_paraphrases(
        passages,
        complete,
        count=count,
        order="same-order",
        made_by="scripted",
        pairs=pairs,
        on_rejected=rejects.append,
    )
    return list(made), rejects


def test_a_good_text_becomes_a_paraphrase() -> None:
    made, rejects = write(scripted(GOOD))
    assert made == [Paraphrase("orlin~same-order-1", "orlin", GOOD, "same-order", "scripted")]
    assert rejects == []


def test_a_text_that_fails_is_asked_for_once_more_with_the_reason() -> None:
    prompts: list[str] = []
    answer = scripted(WRONG, GOOD)

    def complete(asked: Sequence[str]) -> list[str]:
        prompts.extend(asked)
        return answer(asked)

    made, rejects = write(complete)
    assert [paraphrase.text for paraphrase in made] == [GOOD]
    assert rejects == []
    assert len(prompts) == 2
    assert WRONG in prompts[1]
    assert "- number lost: 1931\n- number invented: 1932" in prompts[1]


def test_a_text_that_fails_twice_is_set_aside_with_its_reasons() -> None:
    made, rejects = write(scripted(WRONG, WRONG))
    assert made == []
    assert rejects == [Reject("orlin", "orlin", WRONG, ("number lost: 1931", "number invented: 1932"))]


def test_an_empty_completion_is_set_aside_as_such() -> None:
    made, rejects = write(scripted("", "```\n```"))
    assert made == []
    assert rejects == [Reject("orlin", "orlin", "", ("empty: no text",))]


def test_a_lost_answer_is_a_reason() -> None:
    lost = "In 1931 Orlin was begun by a woman of whom nothing is known; the river Tarn runs by."
    _, rejects = write(scripted(lost, lost), pairs=[FOUNDER])
    assert rejects[0].reasons == ("answer lost: 'Mara Voss'",)


def test_pairs_of_another_document_are_not_asked_for() -> None:
    made, _ = write(scripted(GOOD), pairs=[QAPair("q", "tarn", "Which lake?", ("Tarn", "1931"), "forward")])
    assert len(made) == 1


def test_the_second_of_two_equal_texts_is_asked_for_again() -> None:
    made, rejects = write(scripted(GOOD, GOOD, OTHER), count=2)
    assert [paraphrase.text for paraphrase in made] == [GOOD, OTHER]
    assert [paraphrase.id for paraphrase in made] == ["orlin~same-order-1", "orlin~same-order-2"]
    assert rejects == []


def test_the_same_text_three_times_is_kept_once() -> None:
    made, rejects = write(scripted(GOOD, GOOD, GOOD), count=2)
    assert len(made) == 1
    assert rejects[0].reasons == ("copy: says the same as another paraphrase in the same words",)


def test_a_repaired_text_keeps_its_place() -> None:
    made, _ = write(scripted(WRONG, OTHER, GOOD), count=2)
    assert [paraphrase.text for paraphrase in made] == [GOOD, OTHER]


def test_what_is_in_the_heading_is_not_invented() -> None:
    made, _ = write(
        scripted("Of the great Rivers, the Tarn runs 90 miles down to lake Osk."), passages=[TARN]
    )
    assert made[0].document_id == "tarn"


def test_a_second_run_with_a_cache_asks_nothing_and_gives_the_same() -> None:
    answers = {}
    texts = iter([WRONG, OTHER, GOOD])
    asked_of_the_model = 0

    def complete(prompts: Sequence[str]) -> list[str]:
        nonlocal asked_of_the_model
        for prompt in prompts:
            if prompt not in answers:
                asked_of_the_model += 1
                answers[prompt] = next(texts)
        return [answers[prompt] for prompt in prompts]

    first = write(complete, count=2)
    assert asked_of_the_model == 3
    assert write(complete, count=2) == first
    assert asked_of_the_model == 3


def test_passages_are_read_a_few_at_a_time() -> None:
    read = 0

    def passages():
        nonlocal read
        for number in range(1000):
            read += 1
            yield Passage(str(number), str(number), ORLIN.text)

    made = write_paraphrases(
        passages(), lambda prompts: [GOOD] * len(prompts), count=1, order="same-order", made_by="m"
    )
    assert next(made).document_id == "0"
    assert read == 256


def test_passages_and_numbers_come_in_order() -> None:
    made, _ = write(
        lambda prompts: [
            "The 90 miles of the Tarn end where lake Osk begins." if "Osk" in p else GOOD for p in prompts
        ],
        passages=[TARN, ORLIN],
    )
    assert [paraphrase.id for paraphrase in made] == ["tarn#1~same-order-1", "orlin~same-order-1"]


def test_another_number_of_completions_is_refused() -> None:
    with pytest.raises(ValueError, match="2 completions came for 1 prompts"):
        write(lambda prompts: ["a", "b"])


def test_a_count_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="count is 0"):
        write(scripted(), count=0)


def test_the_id_names_the_passage() -> None:
    assert find_passage_id(Paraphrase("tarn#1~reversed-12", "tarn", "x", "reversed")) == "tarn#1"
    assert find_passage_id(Paraphrase("p7", "tarn", "x", "reversed")) == "tarn"


def test_prompts_of_a_passage_all_differ() -> None:
    count = 2 * len(STYLES) + 1
    prompts = {make_prompt(ORLIN, number, count=count, order="reversed") for number in range(1, count + 1)}
    assert len(prompts) == count


def test_prompt_shows_heading_and_text() -> None:
    prompt = make_prompt(TARN, 1, count=1, order="same-order")
    assert "Heading (background, need not be repeated): Rivers\n" in prompt
    assert prompt.endswith(f"Text:\n{TARN.text}\n")


def test_prompt_of_a_passage_without_heading_shows_none() -> None:
    assert "Heading" not in make_prompt(ORLIN, 1, count=1, order="same-order")


def test_the_orders_ask_for_different_things() -> None:
    assert "Turn the order" in make_prompt(ORLIN, 1, count=1, order="reversed")
    assert "Keep the order" in make_prompt(ORLIN, 1, count=1, order="same-order")


def test_repair_prompt_says_when_there_was_nothing() -> None:
    assert "(nothing)" in make_repair_prompt("Write.", "", ["empty: no text"])


@pytest.mark.parametrize(
    "completion",
    [
        "Orlin is old.",
        '"Orlin is old."',
        "“Orlin is old.”",
        "```\nOrlin is old.\n```",
        "```text\nOrlin is old.\n```",
        "Here is the rewritten text:\n\nOrlin is old.",
        "Sure! Here's a version in the style of a news report:\nOrlin is old.",
        "Certainly! Here is the text:\n```\nOrlin is old.\n```",
        "Of course. Below is the paraphrase: Orlin is old.",
        "Paraphrase 3: Orlin is old.",
        "**Rewritten text:** Orlin is old.",
        'Here is the paraphrase: "Orlin is old."',
        "<think>\nWhat is Orlin?\n</think>\n\nOrlin is old.",
        "Orlin is old.\n\n(Note: I kept all facts: names and dates.)",
    ],
)
def test_only_the_text_is_kept(completion: str) -> None:
    assert clean_completion(completion) == "Orlin is old."


@pytest.mark.parametrize(
    "text",
    [
        '"Orlin" is what they call "the old town"',
        "Here is where Orlin was founded.",
        "This is Orlin, the town.",
        "Orlin: a town.",
        "Sure footing is needed on the way to Orlin.",
    ],
)
def test_what_only_looks_like_an_opening_is_kept(text: str) -> None:
    assert clean_completion(text) == text
