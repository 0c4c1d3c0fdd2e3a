"""P-values that stand in one table, corrected together.

    correct_holm([0.03, 0.01, 0.04])             # 0.06, 0.03, 0.06

Whoever looks through a table of twenty p-values finds one below 0.05 where nothing is. Holm's
correction (1979) keeps the chance of any such find in a table below 0.05.
"""

from collections.abc import Sequence


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the chance of any false claim among all of them stays below the level."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def describe_correction(count: int) -> str:
    """What was done to the p-values of a table, as a sentence; empty for a single one."""
    return f"P-values are corrected after Holm for the {count} in this table." if count > 1 else ""
