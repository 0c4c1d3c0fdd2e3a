"""Claims of the paper tested on made grids whose truth is known."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.comparison.grid_folders import ANSWERS, Course, write_grid
from tests.comparison.grid_folders import ENTITY as ENTITY_NAME

from demask.comparison.claims import CLAIMS, Finding, judge_claims
from demask.comparison.results import load_grid
from demask.evaluation.statistics import bounded_p_value
from demask.storage.run_folder import RunFolder

LIFT, NO_LIFT, DEMASKING, ENTITY = CLAIMS[0], CLAIMS[1], CLAIMS[2], CLAIMS[7]
RATIO_ZERO, RANDOM = CLAIMS[3], CLAIMS[5]


def _judge(folder: Path, arms: Mapping[str, Course | str | None], **settings: Any) -> dict[object, Finding]:
    grid = load_grid(write_grid(folder, arms, **settings))
    return {finding.claim: finding for finding in judge_claims([grid], "fixed")}


def _end(forward: int, backward: int) -> Course:
    return {0: (0, 0), 8: (forward, backward)}


def test_the_papers_pattern_is_found_where_it_is(tmp_path: Path) -> None:
    arms = {"next-token": _end(8, 1), "next-token-paraphrases": _end(38, 1), "demasking": _end(36, 35)}
    found = _judge(tmp_path, arms, documents=40, seeds=(0, 1, 2))
    assert [found[claim].verdict for claim in CLAIMS[:3]] == ["as in the paper"] * 3
    assert found[LIFT].change.difference == pytest.approx(0.75)
    assert found[LIFT].change.documents == 40
    assert found[LIFT].seeds == (0, 1, 2)
    assert found[LIFT].p_value < found[LIFT].p_holm < 0.001


def test_the_opposite_pattern_differs_from_the_paper(tmp_path: Path) -> None:
    arms = {"next-token": _end(38, 1), "next-token-paraphrases": _end(8, 39), "demasking": _end(36, 2)}
    found = _judge(tmp_path, arms, documents=40)
    assert [found[claim].verdict for claim in CLAIMS[:3]] == ["differs"] * 3
    assert found[LIFT].p_value == 1
    assert found[LIFT].p_against < found[LIFT].p_against_holm < 0.001


def test_few_documents_decide_nothing(tmp_path: Path) -> None:
    found = _judge(tmp_path, {"next-token": _end(1, 0), "next-token-paraphrases": _end(3, 0)}, documents=4)
    assert found[LIFT].change.difference == 0.5
    assert found[LIFT].verdict == "undecided"


def test_no_lift_needs_documents_enough_to_see_one(tmp_path: Path) -> None:
    few = _judge(tmp_path / "few", {"next-token": _end(1, 0), "next-token-paraphrases": _end(1, 2)})
    assert few[NO_LIFT].change.difference == pytest.approx(0.1)
    assert few[NO_LIFT].verdict == "undecided"
    zeros = _judge(tmp_path / "zeros", {"next-token": _end(1, 0), "next-token-paraphrases": _end(1, 0)})
    # With a lift in one document of ten, 20 documents show none of it with this probability.
    assert zeros[NO_LIFT].p_value == pytest.approx(0.9**20)
    assert zeros[NO_LIFT].verdict == "undecided"
    many = {"next-token": _end(1, 10), "next-token-paraphrases": _end(1, 11)}
    found = _judge(tmp_path / "many", many, documents=100)
    assert found[NO_LIFT].change.high < 0.1
    assert found[NO_LIFT].verdict == "as in the paper"


def test_p_value_of_no_lift_is_that_of_a_bounded_mean(tmp_path: Path) -> None:
    arms = {"next-token": _end(0, 2), "next-token-paraphrases": _end(0, 3)}
    found = _judge(tmp_path, arms, documents=12)
    shortfalls = [0.1] * 11 + [0.1 - 1.0]  # of 12 documents one was learned more
    expected = bounded_p_value(shortfalls, [f"d{place}" for place in range(12)], least=-0.9)
    assert found[NO_LIFT].p_value == pytest.approx(expected)


def test_an_arm_that_answers_three_quarters_does_not_fail(tmp_path: Path) -> None:
    arms = {"masks": _end(39, 39), "random tokens": _end(30, 1)}
    found = _judge(tmp_path, arms, documents=40, ablation="control")
    assert found[RANDOM].change.low > 0  # it is behind all the same
    assert found[RANDOM].verdict == "differs"
    assert found[CLAIMS[6]].verdict == "as in the paper"


def test_an_arm_near_one_half_neither_fails_nor_passes(tmp_path: Path) -> None:
    arms = {"masks": _end(40, 40), "random tokens": _end(17, 22)}
    found = _judge(tmp_path, arms, documents=40, ablation="control")
    assert [found[claim].verdict for claim in CLAIMS[5:7]] == ["undecided"] * 2


def test_an_arm_fails_only_where_the_other_one_passes(tmp_path: Path) -> None:
    found = _judge(tmp_path, {"masks": _end(8, 0), "random tokens": _end(0, 0)}, ablation="control")
    assert [found[claim].verdict for claim in CLAIMS[5:7]] == ["undecided"] * 2


def test_an_arm_that_answers_more_than_half_as_many_does_not_fail(tmp_path: Path) -> None:
    arms = {"ratio U(.05,.95)": _end(140, 0), "ratio 0": _end(75, 0)}
    found = _judge(tmp_path, arms, documents=200, ablation="ratio")
    assert found[RATIO_ZERO].p_holm < 0.05  # fewer than half are answered, but not fewer than half as many
    assert found[RATIO_ZERO].verdict == "undecided"


def test_ten_documents_are_enough_for_a_whole_failure(tmp_path: Path) -> None:
    arms = {"ratio U(.05,.95)": _end(10, 10), "ratio 0": _end(0, 0)}
    found = _judge(tmp_path, arms, documents=10, ablation="ratio")
    assert found[RATIO_ZERO].p_value == pytest.approx(2 * 0.5**10)  # of sign flips; two-sided
    assert found[RATIO_ZERO].verdict == "as in the paper"


def test_a_seed_that_points_the_other_way_leaves_a_claim_undecided(tmp_path: Path) -> None:
    folder = write_grid(tmp_path, {"next-token": _end(8, 0)}, seeds=(0, 1, 2), documents=40)
    write_grid(tmp_path, {"next-token-paraphrases": _end(40, 0)}, seeds=(0, 1), documents=40)
    write_grid(tmp_path, {"next-token-paraphrases": _end(5, 0)}, seeds=(2,), documents=40)
    plan = RunFolder(folder).read_json("matrix.json")
    places = {"next-token": (0, 1, 2), "next-token-paraphrases": (0, 1, 2)}
    plan["cells"] = [
        {"model": "embedded", "arm": arm, "seed": seed, "folder": f"embedded/{arm}/seed-{seed}"}
        for arm, seeds in places.items()
        for seed in seeds
    ]
    RunFolder(folder).write_json("matrix.json", plan)
    finding = judge_claims([load_grid(folder)], "fixed")[0]
    assert finding.p_holm < 0.001
    assert (finding.agreeing, finding.contrary) == (2, 1)
    assert finding.verdict == "undecided"


def test_correction_counts_only_what_was_measured(tmp_path: Path) -> None:
    found = _judge(tmp_path, {"next-token": _end(2, 0), "next-token-paraphrases": _end(19, 0)})
    assert found[LIFT].p_holm == pytest.approx(2 * found[LIFT].p_value)
    assert found[DEMASKING].verdict == "not measured"
    assert found[DEMASKING].reason == "no grid has both 'demasking' and 'next-token-paraphrases'"


def test_failed_arm_is_named_with_its_reason(tmp_path: Path) -> None:
    found = _judge(tmp_path, {"next-token": _end(2, 0), "next-token-paraphrases": "out of memory"})
    assert found[LIFT].reason == "'next-token-paraphrases' seed 0 failed: out of memory"


def test_only_seeds_that_both_arms_have_are_compared(tmp_path: Path) -> None:
    arms = {"next-token": _end(2, 0), "next-token-paraphrases": _end(19, 0)}
    folder = write_grid(tmp_path, arms, seeds=(0, 1))
    (folder / "embedded/next-token/seed-0/summary.json").unlink()
    finding = judge_claims([load_grid(folder)], "fixed")[0]
    assert finding.seeds == (1,)
    assert {cell.seed for cell in finding.cells} == {1}


def test_random_tokens_are_compared_with_the_masks_beside_them(tmp_path: Path) -> None:
    found = _judge(tmp_path, {"masks": _end(19, 18), "random tokens": _end(3, 0)}, ablation="control")
    assert [found[claim].verdict for claim in CLAIMS[5:7]] == ["as in the paper"] * 2


def test_other_number_of_facts_is_another_setting(tmp_path: Path) -> None:
    few = write_grid(tmp_path / "few", {"next-token": _end(2, 0)}, documents=10)
    many = write_grid(tmp_path / "many", {"next-token-paraphrases": _end(19, 0)}, documents=20)
    findings = judge_claims([load_grid(few), load_grid(many)], "fixed")
    assert {finding.setting for finding in findings} == {
        "name-description, 10 facts",
        "name-description, 20 facts",
    }
    assert {finding.verdict for finding in findings} == {"not measured"}


def test_claims_about_masks_are_tested_within_their_ablation(tmp_path: Path) -> None:
    arms = write_grid(tmp_path / "arms", {"demasking": _end(19, 19)})
    variants = {"entity never": _end(19, 0), "entity as others": _end(19, 17)}
    ablation = write_grid(tmp_path / "entity", variants, ablation="entity")
    found = {f.claim: f for f in judge_claims([load_grid(arms), load_grid(ablation)], "fixed")}
    assert found[ENTITY].verdict == "as in the paper"
    assert found[ENTITY].change.difference == pytest.approx(0.85)
    assert {cell.arm for cell in found[ENTITY].cells} == {"entity never", "entity as others"}
    assert found[CLAIMS[3]].verdict == "not measured"


def test_the_entity_is_asked_for_in_whichever_direction(tmp_path: Path) -> None:
    """Where half of the texts name it last, forward questions ask for it, too."""
    variants = {"entity never": _end(0, 19), "entity as others": _end(19, 19)}
    folder = write_grid(tmp_path, variants, ablation="entity")
    for name in ("entity-never", "entity-as-others"):  # now forward asks for the entity, backward does not
        file = folder / f"embedded/{name}/seed-0/qa_pairs.jsonl"
        swapped = file.read_text().replace(ENTITY_NAME, "@").replace(ANSWERS["forward"], ENTITY_NAME)
        file.write_text(swapped.replace("@", ANSWERS["forward"]))
    found = {f.claim: f for f in judge_claims([load_grid(folder)], "fixed")}
    assert found[ENTITY].change.difference == pytest.approx(0.95)
