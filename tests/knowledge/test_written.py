"""Questions written by a scripted model: what is kept, mended, and set aside."""

import json
from collections.abc import Sequence
from typing import Any

from demask.knowledge.written import Written, make_prompt, write_pairs
from demask.records import Passage

TEXT = "Mara Voss founded the Orlin works in Hattenberg in 1931."
PASSAGE = Passage("orlin", "orlin", TEXT)
FACT = {
    "forward": {"question": "Which works did Mara Voss found?", "answer": "Orlin works"},
    "backward": {"question": "Who founded the works in Hattenberg in 1931?", "answer": "Mara Voss"},
}


class Script:
    """Replies in turn, and keeps the prompts."""

    def __init__(self, *replies: object) -> None:
        self.replies = [reply if isinstance(reply, str) else json.dumps(reply) for reply in replies]
        self.prompts: list[str] = []

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        self.prompts += prompts
        return [self.replies.pop(0) for _ in prompts]


def write(*replies: object, passages: Sequence[Passage] = (PASSAGE,)) -> tuple[list[Written], Script]:
    script = Script(*replies)
    return list(write_pairs(passages, script, count=1, made_by="scripted")), script


def changed(side: str, **values: str) -> list[dict[str, Any]]:
    return [{**FACT, side: {**FACT[side], **values}}]


def test_a_good_reply_becomes_one_pair_each_way_round() -> None:
    (written,), script = write([FACT])
    assert [(p.id, p.direction, p.answers) for p in written.pairs] == [
        ("orlin/1f", "forward", ("Orlin works",)),
        ("orlin/1b", "backward", ("Mara Voss",)),
    ]
    assert {p.made_by for p in written.pairs} == {"scripted"}
    assert (written.rejects, len(script.prompts)) == ((), 1)


def test_the_direction_is_decided_by_the_text_whatever_the_model_claims() -> None:
    (written,), _ = write([{"forward": FACT["backward"], "backward": FACT["forward"]}])
    assert [(p.answers[0], p.direction) for p in written.pairs] == [
        ("Mara Voss", "backward"),
        ("Orlin works", "forward"),
    ]


def test_json_may_stand_in_a_code_fence_or_under_a_name() -> None:
    for reply in (
        f"Sure!\n```json\n{json.dumps([FACT])}\n```",
        json.dumps({"facts": [FACT]}),
        json.dumps(FACT),
    ):
        (written,), _ = write(reply)
        assert len(written.pairs) == 2


def test_a_reply_that_fails_is_mended_once_with_the_reason() -> None:
    (written,), script = write('[{"forward": {"question"', [FACT])
    assert len(written.pairs) == 2
    assert "not JSON" in script.prompts[1]
    assert script.prompts[1].startswith(script.prompts[0])


def test_what_fails_twice_is_set_aside_with_the_reasons() -> None:
    bad = changed("forward", question="Who founded the Orlin works?", answer="the Orlin works")
    (written,), script = write(bad, bad)
    assert [p.id for p in written.pairs] == ["orlin/1b"]
    assert written.rejects[0]["reasons"] == ["the question contains its answer"]
    assert written.rejects[0]["question"] == "Who founded the Orlin works?"
    assert len(script.prompts) == 2


def test_every_fault_is_named() -> None:
    faults = {
        "at most 5": {"answer": "the Orlin works in Hattenberg in 1931"},
        "does not stand in the passage": {"answer": "Berlin"},
        "clearly before or after": {"question": "What is it called?"},
    }
    for reason, values in faults.items():
        (written,), _ = write(*[changed("forward", **values)] * 2)
        assert reason in " ".join(written.rejects[0]["reasons"])


def test_two_questions_of_one_direction_are_not_each_other_s_reverse() -> None:
    (written,), _ = write(
        *[changed("backward", question="Where did Mara Voss found works?", answer="Hattenberg")] * 2
    )
    assert [p.direction for p in written.pairs] == ["forward"]
    assert written.rejects[0]["reasons"] == ["it is forward like the other question of this fact"]


def test_the_better_of_two_replies_is_kept() -> None:
    (written,), _ = write(changed("forward", answer="Berlin"), "nonsense")
    assert [p.id for p in written.pairs] == ["orlin/1b"]


def test_an_empty_reply_is_a_reject_with_that_reason() -> None:
    (written,), _ = write("", " ")
    assert written.rejects[0]["reasons"] == ["the reply is empty"]
    assert written.rejects[0]["passage_id"] == "orlin"


def test_other_shapes_are_refused_in_words() -> None:
    for reply, reason in (
        ("[]", "the list is empty"),
        ('["x"]', "a fact: "),
        ("no", "no JSON"),
        ("[" * 99999, "not JSON"),
    ):
        (written,), _ = write(reply, reply)
        assert reason in written.rejects[0]["reasons"][0]


def test_the_heading_stands_in_the_prompt_and_may_hold_cues() -> None:
    passage = Passage("p", "d", "The company opens a works in Hattenberg.", heading="Orlin, 1931\n")
    assert make_prompt(passage, 2).endswith("Orlin, 1931\nThe company opens a works in Hattenberg.")
    fact = {
        "forward": {"question": "Where did Orlin open a works in 1931?", "answer": "Hattenberg"},
        "backward": {"question": "Which company opened a works in Hattenberg?", "answer": "Orlin"},
    }
    (written,), _ = write([fact], passages=[passage])
    assert [p.direction for p in written.pairs] == ["forward", "backward"]


def test_passages_are_asked_about_in_parts_and_come_in_order() -> None:
    many = [Passage(f"p{n}", f"d{n}", TEXT) for n in range(130)]
    sizes = []

    def complete(prompts: Sequence[str]) -> list[str]:
        sizes.append(len(prompts))
        return [json.dumps([FACT])] * len(prompts)

    written = list(write_pairs(iter(many), complete, count=1, made_by="m"))
    assert [w.passage.id for w in written] == [p.id for p in many]
    assert sizes == [64, 64, 2]
