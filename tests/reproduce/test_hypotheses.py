"""Claims of the paper tested on made matrices whose truth is known."""

from pathlib import Path

import pytest
from matrix_folders import ANSWERS, Course, write_matrix
from matrix_folders import ENTITY as ENTITY_NAME
from scipy import stats

from demask.evaluation.statistics import Change, compare_paired
from demask.reproduce.hypotheses import CLAIMS, Finding, correct_holm, judge_claims, one_sided
from demask.reproduce.results import load_matrix

LIFT, NO_LIFT, DEMASKING, ENTITY = CLAIMS[0], CLAIMS[1], CLAIMS[2], CLAIMS[7]


def _judge(folder: Path, arms: dict[str, Course | str | None], **settings: object) -> dict[object, Finding]:
    matrix = load_matrix(write_matrix(folder, arms, **settings))
    return {finding.claim: finding for finding in judge_claims([matrix], "fixed")}


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
    assert found[LIFT].p_value > 0.999


def test_few_documents_decide_nothing(tmp_path: Path) -> None:
    found = _judge(tmp_path, {"next-token": _end(1, 0), "next-token-paraphrases": _end(3, 0)}, documents=4)
    assert found[LIFT].change.difference == 0.5
    assert found[LIFT].verdict == "not decided"


def test_no_lift_needs_an_upper_bound_below_the_margin(tmp_path: Path) -> None:
    few = _judge(tmp_path / "few", {"next-token": _end(1, 0), "next-token-paraphrases": _end(1, 2)})
    assert few[NO_LIFT].change.difference == pytest.approx(0.1)
    assert few[NO_LIFT].verdict == "not decided"
    zeros = _judge(tmp_path / "zeros", {"next-token": _end(1, 0), "next-token-paraphrases": _end(1, 0)})
    assert zeros[NO_LIFT].p_holm < 0.001
    assert zeros[NO_LIFT].change.high > 0.1  # 20 documents alike do not say enough about the next one
    assert zeros[NO_LIFT].verdict == "not decided"
    many = {"next-token": _end(1, 10), "next-token-paraphrases": _end(1, 11)}
    found = _judge(tmp_path / "many", many, documents=100)
    assert found[NO_LIFT].change.high < 0.1
    assert found[NO_LIFT].verdict == "as in the paper"


def test_p_value_of_no_lift_is_that_of_the_shifted_differences(tmp_path: Path) -> None:
    arms = {"next-token": _end(0, 2), "next-token-paraphrases": _end(0, 3)}
    found = _judge(tmp_path, arms, documents=12)
    differences = [0.0] * 11 + [1.0]  # of 12 documents one was learned more
    shifted = [0.1 - difference for difference in differences]
    exact = stats.permutation_test(
        (shifted,), sum, permutation_type="samples", alternative="greater", n_resamples=10_000
    )
    assert found[NO_LIFT].p_value == pytest.approx(exact.pvalue)


def test_one_sided_p_value_is_that_of_the_one_sided_sign_flip_test() -> None:
    before = [0.0, 0.2, 0.1, 0.5, 0.4, 0.3, 0.9]
    after = [0.3, 0.9, 0.3, 0.4, 0.8, 0.6, 0.7]
    clusters = [f"d{i}" for i in range(len(before))]
    differences = [b - a for a, b in zip(before, after, strict=True)]
    exact = stats.permutation_test(
        (differences,), sum, permutation_type="samples", alternative="greater", n_resamples=10_000
    )
    assert one_sided(compare_paired(before, after, clusters)) == pytest.approx(exact.pvalue)


def test_difference_in_the_wrong_direction_has_a_large_p_value() -> None:
    assert one_sided(Change(-0.5, -0.7, -0.3, 0.01, 20, 20)) == 0.995


def test_holm_correction_against_a_worked_example() -> None:
    # Sorted: .01 x 4, .02 x 3, .03 x 2, .04 x 1, never falling.
    assert correct_holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert correct_holm([0.6, 0.9]) == [1.0, 1.0]
    assert correct_holm([]) == []


def test_correction_counts_only_what_was_measured(tmp_path: Path) -> None:
    found = _judge(tmp_path, {"next-token": _end(2, 0), "next-token-paraphrases": _end(19, 0)})
    assert found[LIFT].p_holm == pytest.approx(2 * found[LIFT].p_value)
    assert found[DEMASKING].verdict == "not measured"
    assert found[DEMASKING].reason == "no matrix has both 'demasking' and 'next-token-paraphrases'"


def test_failed_arm_is_named_with_its_reason(tmp_path: Path) -> None:
    found = _judge(tmp_path, {"next-token": _end(2, 0), "next-token-paraphrases": "out of memory"})
    assert found[LIFT].reason == "'next-token-paraphrases' seed 0 failed: out of memory"


def test_only_seeds_that_both_arms_have_are_compared(tmp_path: Path) -> None:
    arms = {"next-token": _end(2, 0), "next-token-paraphrases": _end(19, 0)}
    folder = write_matrix(tmp_path, arms, seeds=(0, 1))
    (folder / "embedded/next-token/seed-0/summary.json").unlink()
    finding = judge_claims([load_matrix(folder)], "fixed")[0]
    assert finding.seeds == (1,)
    assert {cell.seed for cell in finding.cells} == {1}


def test_random_tokens_are_compared_with_the_masks_beside_them(tmp_path: Path) -> None:
    found = _judge(tmp_path, {"masks": _end(19, 18), "random tokens": _end(5, 0)}, ablation="control")
    assert [found[claim].verdict for claim in CLAIMS[5:7]] == ["as in the paper"] * 2


def test_other_number_of_facts_is_another_setting(tmp_path: Path) -> None:
    few = write_matrix(tmp_path / "few", {"next-token": _end(2, 0)}, documents=10)
    many = write_matrix(tmp_path / "many", {"next-token-paraphrases": _end(19, 0)}, documents=20)
    findings = judge_claims([load_matrix(few), load_matrix(many)], "fixed")
    assert {finding.setting for finding in findings} == {
        "name-description, 10 facts",
        "name-description, 20 facts",
    }
    assert {finding.verdict for finding in findings} == {"not measured"}


def test_claims_about_masks_are_tested_within_their_ablation(tmp_path: Path) -> None:
    arms = write_matrix(tmp_path / "arms", {"demasking": _end(19, 19)})
    variants = {"entity never": _end(19, 0), "entity as others": _end(19, 17)}
    ablation = write_matrix(tmp_path / "entity", variants, ablation="entity")
    found = {f.claim: f for f in judge_claims([load_matrix(arms), load_matrix(ablation)], "fixed")}
    assert found[ENTITY].verdict == "as in the paper"
    assert found[ENTITY].change.difference == pytest.approx(0.85)
    assert {cell.arm for cell in found[ENTITY].cells} == {"entity never", "entity as others"}
    assert found[CLAIMS[3]].verdict == "not measured"


def test_the_entity_is_asked_for_in_whichever_direction(tmp_path: Path) -> None:
    """Where half of the texts name it last, forward questions ask for it, too."""
    variants = {"entity never": _end(0, 19), "entity as others": _end(19, 19)}
    folder = write_matrix(tmp_path, variants, ablation="entity")
    for name in ("entity-never", "entity-as-others"):  # now forward asks for the entity, backward does not
        file = folder / f"embedded/{name}/seed-0/qa_pairs.jsonl"
        swapped = file.read_text().replace(ENTITY_NAME, "@").replace(ANSWERS["forward"], ENTITY_NAME)
        file.write_text(swapped.replace("@", ANSWERS["forward"]))
    found = {f.claim: f for f in judge_claims([load_matrix(folder)], "fixed")}
    assert found[ENTITY].change.difference == pytest.approx(0.95)
