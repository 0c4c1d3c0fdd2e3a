"""The paper's pattern as one-sided hypotheses, tested on the cells of matrices.

    for finding in judge_claims(matrices, "fixed"):
        finding.claim.statement, finding.difference, finding.p_holm, finding.verdict

Each compares two arms of one matrix on the same questions. A question's score is its mean over the seeds
that both arms have; documents, not questions, are the unit of interval and p-value. P-values are one-sided,
from the sign-flip test of `evaluation.statistics`, and corrected after Holm 1979 over all that was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from demask.evaluation.statistics import Change, compare_paired
from demask.reports.runs import HEADLINE
from demask.reproduce.results import (
    FOR_ENTITY,
    Asked,
    Cell,
    Matrix,
    QuestionMeans,
    Rule,
    average_questions,
    done_cells,
    group_cells,
    reported_scores,
)

Verdict = Literal["as in the paper", "differs", "not decided", "not measured"]

SIGNIFICANCE = 0.05
# A lift below ten points counts as none: the paper's largest "no lift" is 8 points (Wiki, .309 -> .391).
MARGIN = 0.1

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
        first: the arm that it is about; matrices call it by different names.
        second: the arm that it is compared with; the difference is first minus second.
        direction: of the questions; or those that ask for the entity, in whichever direction that is.
        expects: `more`: the difference is above 0. `no lift`: it is below `MARGIN`.
    """

    statement: str
    first: tuple[str, ...]
    second: str
    direction: Asked
    expects: Literal["more", "no lift"] = "more"


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
    Claim("Without masks (ratio 0) demasking fails forward", RANGE, RATIO_ZERO, "forward"),
    Claim("Without masks (ratio 0) demasking fails backward", RANGE, RATIO_ZERO, "backward"),
    Claim("With random tokens for the text demasking fails forward", MASKS, RANDOM, "forward"),
    Claim("With random tokens for the text demasking fails backward", MASKS, RANDOM, "backward"),
    Claim(
        "When the entity that a text is about is never masked, it cannot be asked for",
        AS_OTHERS,
        ENTITY_NEVER,
        FOR_ENTITY,
    ),
)


@dataclass(frozen=True)
class Finding:
    """What the cells of one model in one setting say about a claim.

    Attributes:
        setting: benchmark and number of facts.
        change: first minus second arm, with its interval and two-sided p-value; None when not measured.
        p_value: one-sided, of the claim; None when not measured.
        p_holm: the same, corrected for all findings that were measured.
        seeds: that both arms have.
        reason: why it was not measured.
        attempted: whether a matrix has both arms.
        cells: those compared.
    """

    claim: Claim
    setting: str
    model: str
    change: Change | None = None
    p_value: float | None = None
    p_holm: float | None = None
    seeds: tuple[int, ...] = ()
    verdict: Verdict = "not measured"
    reason: str = ""
    attempted: bool = False
    cells: tuple[Cell, ...] = ()


class _Pair(NamedTuple):
    """The cells of a claim's two arms, seed by seed; none, and why, where they cannot be compared."""

    first: tuple[Cell, ...]
    second: tuple[Cell, ...]
    reason: str = ""
    attempted: bool = True


def judge_claims(matrices: Sequence[Matrix], rule: Rule, *, metric: str = HEADLINE) -> tuple[Finding, ...]:
    """Every claim for every benchmark, number of facts and model; what cannot be compared says why.

    Arms are only ever compared within one matrix: only there do data, budget and settings agree.

    Raises:
        RunError: the rule needs scores at several steps and a run has none.
    """
    places = dict.fromkeys((matrix.setting, cell.model) for matrix in matrices for cell in matrix.cells)
    findings = [
        _compare(
            Finding(claim, setting, model),
            _find_pair([m for m in matrices if m.setting == setting], model, claim),
            rule,
            metric,
        )
        for setting, model in places
        for claim in CLAIMS
    ]
    measured = [finding.p_value for finding in findings if finding.p_value is not None]
    corrected = iter(correct_holm(measured))
    return tuple(
        finding if finding.p_value is None else _judge(replace(finding, p_holm=next(corrected)))
        for finding in findings
    )


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the chance of any false claim among all of them stays below the level."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def one_sided(change: Change) -> float:
    """The p-value of a difference above 0: the sign-flip distribution is symmetric about 0."""
    return change.p_value / 2 if change.difference > 0 else 1 - change.p_value / 2


def _find_pair(matrices: Sequence[Matrix], model: str, claim: Claim) -> _Pair:
    """From the first matrix that has both arms with a seed in common."""
    reasons = []
    for matrix in matrices:
        arms = {arm: cells for (name, arm), cells in group_cells(matrix).items() if name == model}
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
    return _Pair((), (), f"no matrix has both '{claim.first[0]}' and '{claim.second}'", attempted=False)


def _share_seeds(first: Sequence[Cell], second: Sequence[Cell]) -> _Pair:
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
    first, second = (
        average_questions(cells, [reported_scores(cell, rule) for cell in cells], claim.direction, metric)
        for cells in (pair.first, pair.second)
    )
    shared = [id for id in first.values if id in second.values]
    if not shared:
        reason = f"no question ({claim.direction}) was asked in both arms"
        return replace(finding, reason=reason, attempted=True)
    return replace(
        finding,
        change=_change(second, first, shared),
        p_value=_p_value(claim, second, first, shared),
        seeds=tuple(cell.seed for cell in pair.first),
        attempted=True,
        cells=(*pair.first, *pair.second),
    )


def _change(before: QuestionMeans, after: QuestionMeans, shared: Sequence[str]) -> Change:
    return compare_paired(
        [before.values[id] for id in shared],
        [after.values[id] for id in shared],
        [after.documents[id] for id in shared],
    )


def _p_value(claim: Claim, second: QuestionMeans, first: QuestionMeans, shared: Sequence[str]) -> float:
    if claim.expects == "more":
        return one_sided(_change(second, first, shared))
    # The lift is below the margin: second + margin - first is above 0. Half of every score, so that the
    # sums stay in [0, 1]; a sign-flip test does not mind the scale.
    raised = {id: second.values[id] / 2 + MARGIN / 2 for id in shared}
    halved = {id: first.values[id] / 2 for id in shared}
    return one_sided(
        _change(replace(first, values=halved), replace(second, values=raised), shared),
    )


def _judge(finding: Finding) -> Finding:
    """The verdict: both the corrected p-value and the interval must speak for the paper.

    Against it speaks an interval that lies wholly on the other side.
    """
    change, p_holm = finding.change, finding.p_holm
    if change is None or p_holm is None:
        return finding
    if finding.claim.expects == "more":
        agrees, differs = change.low > 0, change.high < 0
    else:
        agrees, differs = change.high < MARGIN, change.low >= MARGIN
    verdict: Verdict = "not decided"
    if agrees and p_holm < SIGNIFICANCE:
        verdict = "as in the paper"
    elif differs:
        verdict = "differs"
    return replace(finding, verdict=verdict)
