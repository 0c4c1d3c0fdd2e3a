"""Correction of the p-values of one table."""

import numpy as np
import pytest

from demask.reports.tables import correct_holm, describe_correction


def test_holm_correction_against_a_worked_example() -> None:
    # Sorted: .01 x 4, .02 x 3, .03 x 2, .04 x 1, never falling.
    assert correct_holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert correct_holm([0.6, 0.9]) == [1.0, 1.0]
    assert correct_holm([]) == []


def test_any_false_find_among_twenty_stays_at_a_twentieth() -> None:
    p_values = np.random.default_rng(0).random((2_000, 20))
    assert np.mean([min(correct_holm(list(row))) < 0.05 for row in p_values]) < 0.065


def test_a_single_p_value_is_not_said_to_be_corrected() -> None:
    assert describe_correction(1) == describe_correction(0) == ""
    assert describe_correction(4) == "P-values are corrected after Holm for the 4 in this table."
