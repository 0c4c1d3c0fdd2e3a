"""How often a claim is found, or contradicted, that is not so: simulated at the edge of each claim.

Documents are few, their answers alike (drawn from a beta distribution), and averaged over seeds. The
simulation's own error is 3 standard errors.
"""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from demask.comparison.claims import CLAIMS, Claim, Contrast, Evidence, weigh_claim
from demask.evaluation import statistics
from demask.evaluation.statistics import compare_paired

MORE, NO_LIFT, FAILS = CLAIMS[0], CLAIMS[1], CLAIMS[3]
LEVEL, RUNS = 0.05, 120
MOST = LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / RUNS)
SIZES = ((8, 4), (10, 8), (20, 4))


@pytest.fixture(autouse=True)
def _few_sign_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "SIGN_FLIPS", 499)


def draw(
    rng: np.random.Generator, share: float, alike: float, size: tuple[int, int], seeds: int
) -> NDArray[np.float64]:
    """Scores averaged over seeds; a document is as easy for every seed."""
    documents, questions = size
    total = (1 - alike) / alike
    sure = share in (0, 1)
    easy = np.full(documents, share) if sure else rng.beta(share * total, (1 - share) * total, documents)
    return rng.binomial(seeds, np.repeat(easy, questions)) / seeds


def weigh_often(
    claim: Claim,
    shares: tuple[float, float],
    alike: tuple[float, float],
    size: tuple[int, int],
    seeds: int = 2,
) -> list[Evidence]:
    rng = np.random.default_rng(round(1e6 * (sum(shares) + 7 * sum(alike))) + size[0])
    clusters = [f"d{place // size[1]:02d}" for place in range(size[0] * size[1])]
    found = []
    for _ in range(RUNS):
        first, second = (list(draw(rng, *arm, size, seeds)) for arm in zip(shares, alike, strict=True))
        change = compare_paired(second, first, clusters, repeats=seeds)
        found.append(weigh_claim(claim, Contrast(first, second, clusters), change))
    return found


def rejected(found: list[Evidence]) -> tuple[float, float]:
    """How often the claim was found, and its opposite."""
    return (
        sum(each.supporting < LEVEL for each in found) / len(found),
        sum(each.contrary < LEVEL for each in found) / len(found),
    )


# First and second arm, where neither the claim nor its opposite is so.
EDGES = [
    (MORE, (0.02, 0.02)),
    (MORE, (0.1, 0.1)),
    (MORE, (0.5, 0.5)),
    (MORE, (0.95, 0.95)),
    (NO_LIFT, (0.1, 0.0)),
    (NO_LIFT, (0.15, 0.05)),
    (NO_LIFT, (0.55, 0.45)),
    (NO_LIFT, (1.0, 0.9)),
    (FAILS, (0.5, 0.5)),
    (FAILS, (0.98, 0.5)),
    (FAILS, (1.0, 0.5)),
    (FAILS, (0.1, 0.1)),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("claim", "shares"), EDGES)
@pytest.mark.parametrize("alike", [(0.3, 0.3), (0.8, 0.05)])
def test_at_the_edge_of_a_claim_either_side_is_found_in_a_twentieth(
    claim: Claim, shares: tuple[float, float], alike: tuple[float, float], size: tuple[int, int]
) -> None:
    supporting, contrary = rejected(weigh_often(claim, shares, alike, size))
    assert supporting <= MOST
    assert contrary <= MOST


@pytest.mark.parametrize("size", SIZES)
def test_three_quarters_beside_nearly_all_are_hardly_ever_called_a_failure(size: tuple[int, int]) -> None:
    supporting, _ = rejected(weigh_often(FAILS, (0.975, 0.75), (0.3, 0.3), size))
    assert supporting <= 0.02


@pytest.mark.parametrize(
    ("claim", "shares", "size"),
    [
        (MORE, (0.8, 0.2), (10, 4)),
        (MORE, (0.6, 0.3), (20, 4)),
        (NO_LIFT, (0.02, 0.02), (60, 4)),
        (NO_LIFT, (0.3, 0.4), (60, 4)),
        (FAILS, (0.95, 0.1), (10, 8)),
        (FAILS, (0.75, 0.02), (10, 4)),
        (FAILS, (0.9, 0.25), (20, 8)),
    ],
)
def test_what_is_so_is_found_in_four_of_five(
    claim: Claim, shares: tuple[float, float], size: tuple[int, int]
) -> None:
    supporting, contrary = rejected(weigh_often(claim, shares, (0.3, 0.3), size))
    assert supporting > 0.8
    assert contrary == 0
