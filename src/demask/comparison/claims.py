"""The paper's pattern as hypotheses, tested on the cells of grids.

    for finding in judge_claims(grids, "fixed"):
        finding.claim.statement, finding.change, finding.p_holm, finding.verdict

Each compares two arms of one grid on the same questions. A question's score is its mean over the seeds
that both arms have, and documents are the unit of interval and p-value. So these speak of other documents
with the same runs; of other seeds speaks only whether every seed, taken alone, points the same way.

Every claim is tested both ways. `As in the paper` needs a p-value for it below 0.05, `differs` one against
it, each corrected after Holm 1979 over all claims that were measured, and every seed on that side; else
the data leave it `undecided`. tests/comparison/test_false_verdicts.py simulates how often that is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Literal, NamedTuple

from demask.comparison.results import (
    FOR_ENTITY,
    Asked,
    CellResult,
    Grid,
    QuestionMeans,
    Rule,
    average_questions,
    done_cells,
    list_arms,
    reported_scores,
)
from demask.evaluation.metrics import HEADLINE, Change
from demask.evaluation.statistics import bounded_p_value, compare_paired
from demask.reports.tables import correct_holm

Verdict = Literal["as in the paper", "differs", "undecided", "not measured"]

SIGNIFICANCE = 0.05
# A lift below ten points counts as none: the paper's largest "no lift" is 8 points (Wiki, .309 -> .391).
MARGIN = 0.1
# An arm fails that answers fewer than this share of the questions, where the other one answers more.
PASSING = 0.5

NEXT_TOKEN, PARAPHRASES = "next-token", "next-token-paraphrases"
RATIO_ZERO, RANDOM, ENTITY_NEVER = "ratio 0", "random tokens", "entity never"
DEMASKING = ("demasking",)
RANGE = ("ratio U(.05,.95)", *DEMASKING)
MASKS = ("masks", *RANGE)
AS_OTHERS = ("entity as others", *DEMASKING)


@dataclass(frozen=True)
class Claim:
    """One hypothesis.

    Attributes:
        statement: what the paper, or the work it is compared with, says.
        first: the arm that it is about; grids call it by different names.
        second: the arm that it is compared with; the difference is first minus second.
        direction: of the questions; or those that ask for the entity, in whichever direction that is.
        expects: `more`: the difference is above 0. `no lift`: it is below `MARGIN`. `fails`: the second arm
            answers less than `PASSING` of the questions and less than the first one; what the two reach must
            besides be on either side of `PASSING`, and the second at most half.
    """

    statement: str
    first: tuple[str, ...]
    second: str
    direction: Asked
    expects: Literal["more", "no lift", "fails"] = "more"


CLAIMS = (
    Claim("Paraphrases lift next-token training forward", (PARAPHRASES,), NEXT_TOKEN, "forward"),
    Claim(
        f"Paraphrases do not lift next-token training backward (by {MARGIN:g} or more)",
        (PARAPHRASES,),
        NEXT_TOKEN,
        "backward",
        "no lift",
    ),
    Claim(
        "Demasking without paraphrases beats next-token training with paraphrases backward",
        DEMASKING,
        PARAPHRASES,
        "backward",
    ),
    Claim("Without masks (ratio 0) demasking fails forward", RANGE, RATIO_ZERO, "forward", "fails"),
    Claim("Without masks (ratio 0) demasking fails backward", RANGE, RATIO_ZERO, "backward", "fails"),
    Claim("With random tokens for the text demasking fails forward", MASKS, RANDOM, "forward", "fails"),
    Claim("With random tokens for the text demasking fails backward", MASKS, RANDOM, "backward", "fails"),
    Claim(
        "When the entity that a text is about is never masked, asking for it fails",
        AS_OTHERS,
        ENTITY_NEVER,
        FOR_ENTITY,
        "fails",
    ),
)


@dataclass(frozen=True)
class Finding:
    """What the cells of one model in one setting say about a claim.

    Attributes:
        setting: benchmark and number of facts.
        change: first minus second arm, with its interval and two-sided p-value; None when not measured.
        levels: what each arm answers; empty when not measured.
        p_value: for the claim: small where the data contradict its opposite; None when not measured.
        p_against: against the claim: small where the data contradict it.
        p_holm: `p_value`, corrected for all findings that were measured.
        p_against_holm: `p_against`, corrected likewise.
        seeds: that both arms have.
        agreeing: of these seeds, how many point the claim's way, each taken alone.
        contrary: of these seeds, how many point the other way.
        reason: why it was not measured.
        attempted: whether a grid has both arms.
        cells: those compared.
    """

    claim: Claim
    setting: str
    model: str
    change: Change | None = None
    levels: tuple[float, ...] = ()
    p_value: float | None = None
    p_against: float | None = None
    p_holm: float | None = None
    p_against_holm: float | None = None
    seeds: tuple[int, ...] = ()
    agreeing: int = 0
    contrary: int = 0
    verdict: Verdict = "not measured"
    reason: str = ""
    attempted: bool = False
    cells: tuple[CellResult, ...] = ()


class Contrast(NamedTuple):
    """The scores of both arms on the same questions, averaged over seeds, and the questions' documents."""

    first: list[float]
    second: list[float]
    documents: list[str]

    @property
    def levels(self) -> tuple[float, float]:
        """The mean of each arm."""
        return fsum(self.first) / len(self.first), fsum(self.second) / len(self.second)


class Evidence(NamedTuple):
    """P-values for a claim and for its opposite."""

    supporting: float
    contrary: float


class _Pair(NamedTuple):
    """The cells of a claim's two arms, seed by seed; none, and why, where they cannot be compared."""

    first: tuple[CellResult, ...]
    second: tuple[CellResult, ...]
    reason: str = ""
    attempted: bool = True


def judge_claims(grids: Sequence[Grid], rule: Rule, *, metric: str = HEADLINE) -> tuple[Finding, ...]:
    """Every claim for every benchmark, number of facts and model; what cannot be compared says why.

    Arms are only ever compared within one grid: only there do data, budget and settings agree.

    Raises:
        RunError: the rule needs scores at several steps and a run has none.
    """
    places = dict.fromkeys((grid.setting, cell.model) for grid in grids for cell in grid.cells)
    findings = [
        _compare(
            Finding(claim, setting, model),
            _find_pair([m for m in grids if m.setting == setting], model, claim),
            rule,
            metric,
        )
        for setting, model in places
        for claim in CLAIMS
    ]
    return _correct(findings)


def _correct(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """With corrected p-values and verdicts."""
    corrected = iter(correct_holm([found.p_value for found in findings if found.p_value is not None]))
    against = iter(correct_holm([found.p_against for found in findings if found.p_against is not None]))
    return tuple(
        found
        if found.p_value is None
        else _judge(replace(found, p_holm=next(corrected), p_against_holm=next(against)))
        for found in findings
    )


def _find_pair(grids: Sequence[Grid], model: str, claim: Claim) -> _Pair:
    """From the first grid that has both arms with a seed in common."""
    reasons = []
    for grid in grids:
        arms = {arm.name: arm.cells for arm in list_arms([grid]) if arm.model == model}
        first = next((arms[name] for name in claim.first if name in arms), None)
        second = arms.get(claim.second)
        if first is None or second is None:
            continue
        pair = _share_seeds(first, second)
        if pair.first:
            return pair
        reasons.append(pair.reason)
    if reasons:
        return _Pair((), (), reasons[0])
    return _Pair((), (), f"no grid has both '{claim.first[0]}' and '{claim.second}'", attempted=False)


def _share_seeds(first: Sequence[CellResult], second: Sequence[CellResult]) -> _Pair:
    done = [{cell.seed: cell for cell in done_cells(cells)} for cells in (first, second)]
    seeds = sorted(set(done[0]) & set(done[1]))
    if seeds:
        return _Pair(tuple(done[0][seed] for seed in seeds), tuple(done[1][seed] for seed in seeds))
    unfinished = [cell for cell in (*first, *second) if cell.status != "done"]
    if not unfinished:
        return _Pair((), (), f"'{first[0].arm}' and '{second[0].arm}' have no seed in common")
    cell = unfinished[0]
    return _Pair((), (), f"'{cell.arm}' seed {cell.seed} {cell.status}: {cell.reason}")


def _compare(finding: Finding, pair: _Pair, rule: Rule, metric: str) -> Finding:
    if not pair.first:
        return replace(finding, reason=pair.reason, attempted=pair.attempted)
    claim = finding.claim

    def average(cells: Sequence[CellResult]) -> QuestionMeans:
        return average_questions(
            cells, [reported_scores(cell, rule) for cell in cells], claim.direction, metric
        )

    contrast = _contrast(average(pair.first), average(pair.second))
    if not contrast.documents:
        reason = f"no question ({claim.direction}) was asked in both arms"
        return replace(finding, reason=reason, attempted=True)
    change = compare_paired(contrast.second, contrast.first, contrast.documents, repeats=len(pair.first))
    alone = [_contrast(average([a]), average([b])) for a, b in zip(pair.first, pair.second, strict=True)]
    sides = [_side(claim, *one.levels) for one in alone if one.documents]
    evidence = weigh_claim(claim, contrast, change)
    return replace(
        finding,
        change=change,
        levels=contrast.levels,
        p_value=evidence.supporting,
        p_against=evidence.contrary,
        seeds=tuple(cell.seed for cell in pair.first),
        agreeing=sides.count(1),
        contrary=sides.count(-1),
        attempted=True,
        cells=(*pair.first, *pair.second),
    )


def _contrast(first: QuestionMeans, second: QuestionMeans) -> Contrast:
    shared = [id for id in first.values if id in second.values]
    return Contrast(
        [first.values[id] for id in shared],
        [second.values[id] for id in shared],
        [first.documents[id] for id in shared],
    )


def weigh_claim(claim: Claim, contrast: Contrast, change: Change) -> Evidence:
    """P-values for a claim and against it, one-sided, with documents as the unit.

    For `more` both are the two-sided one of the change, and 1 on the side that the difference is not on: half
    of it would be too sure where the arms' answers are clustered differently. `no lift` and `fails` are about
    a level that scores may reach, so they are tested as means of bounded values. `fails` needs both of its
    parts, less than `PASSING` and less than the first arm, hence the larger of their p-values.

    Args:
        claim: what is expected of the difference first minus second.
        contrast: the scores.
        change: first minus second, as `compare_paired` gives it.
    """
    first, second = contrast.first, contrast.second
    if claim.expects == "more":
        more, less = change.difference > 0, change.difference < 0
        return Evidence(change.p_value if more else 1.0, change.p_value if less else 1.0)

    def above(values: list[float], least: float) -> float:
        return bounded_p_value(values, contrast.documents, least=least)

    if claim.expects == "no lift":
        lifts = [one - other for one, other in zip(first, second, strict=True)]
        return Evidence(
            above([MARGIN - lift for lift in lifts], MARGIN - 1),
            above([lift - MARGIN for lift in lifts], -1 - MARGIN),
        )
    few = above([PASSING - score for score in second], PASSING - 1)
    fewer = change.p_value if change.difference > 0 else 1.0
    return Evidence(max(few, fewer), above([score - PASSING for score in second], -PASSING))


def _side(claim: Claim, first: float, second: float) -> Literal[-1, 0, 1]:
    """Whether the levels of the two arms are as the claim has them (1), the opposite (-1), or neither (0)."""
    if claim.expects == "fails":
        agrees = second < PASSING < first and second <= first / 2
        return 1 if agrees else -1 if second > PASSING else 0
    surplus = first - second if claim.expects == "more" else MARGIN - (first - second)
    return 1 if surplus > 0 else -1 if surplus < 0 else 0


def _judge(finding: Finding) -> Finding:
    """The verdict: a corrected p-value below the level, and all seeds together and each alone on its side."""
    if finding.p_holm is None or finding.p_against_holm is None:
        return finding
    side = _side(finding.claim, *finding.levels)
    verdict: Verdict = "undecided"
    if finding.p_holm < SIGNIFICANCE and side == 1 and finding.agreeing == len(finding.seeds):
        verdict = "as in the paper"
    elif finding.p_against_holm < SIGNIFICANCE and side == -1 and finding.contrary == len(finding.seeds):
        verdict = "differs"
    return replace(finding, verdict=verdict)
