"""The paper's tables in our form, from matrices: strings in rows, as every report of demask has them.

    table = arms_table(matrices, "fixed")
    to_markdown(table)                      # of demask.reports.tables

Each row names the runs that its numbers come from, by the ends of their folders' names. A cell of the
matrix that failed or that has not been run is named in its row with the reason, and is in none of the
numbers. Under the rule `paper` every title of a table that depends on it says so.
"""

from collections.abc import Sequence

from demask.comparison.costs import Flops, compare_costs, count_flops, step_costs
from demask.comparison.curves import LEVEL, make_curve
from demask.comparison.hypotheses import MARGIN, PASSING, SIGNIFICANCE, Finding
from demask.comparison.published import PAPER, PUBLISHED
from demask.comparison.results import Matrix, Rule, reported_scores, stage_scores
from demask.comparison.rows import (
    ACCURACY_HEADERS,
    RUN_HEADERS,
    SHOWN,
    Arm,
    accuracy_cells,
    bound_cells,
    change_cell,
    fit_cells,
    level_cells,
    list_arms,
    name_folders,
    run_cells,
)
from demask.evaluation.metrics import METRICS
from demask.records import DIRECTIONS
from demask.reports.runs import FEW_SHOT
from demask.reports.tables import Table
from demask.reports.wording import MISSING, count, minutes, p_value

ON_TEST = " (chosen on the test questions)"
UNTOUCHED, BASELINE = "untouched", "next-token"

RULE_NOTES = {
    "fixed": "Measured after the last step; nothing was chosen.",
    "best-on-validation": "The step was chosen on the questions of half the documents; this is the rest.",
    "paper": "The best step was chosen on the very questions that are reported, as the paper did: too good.",
}
_INTERVALS = (
    "In brackets the 95% interval over documents, each question averaged over seeds; with several seeds, "
    "what the lowest and the highest seed reached."
)

_EXPLAINED = (
    f"Differences of {METRICS['contains'].label} on the same questions, with 95% intervals, and what the two "
    "arms reach. Each question is averaged over the seeds that both arms have; then documents are the unit: "
    "intervals and p-values speak of other documents with these runs, not of other seeds. As in the paper: "
    f"the p-value for the claim, corrected after Holm, is below {SIGNIFICANCE:g}, and every seed alone is "
    "on its side. Differs: the p-value against it is, and every seed is on the other side. Undecided: "
    f"neither. “Not ... by {MARGIN:g} or more” is tested against a lift of {MARGIN:g}. “Fails” is "
    f"tested as fewer than {PASSING:g} of the questions and fewer than the other arm, which must reach more "
    f"than {PASSING:g} and at least twice as many."
)


def mark_title(title: str, rule: Rule) -> str:
    """The title of a table or figure; it says so when steps were chosen on the questions reported."""
    return title + (ON_TEST if rule == "paper" else "")


def arms_table(matrices: Sequence[Matrix], rule: Rule) -> Table:
    """Table 1: forward and backward accuracy of every arm, with the base model and the ceiling."""
    rows = []
    for matrix in _comparisons(matrices):
        for model in dict.fromkeys(cell.model for cell in matrix.cells):
            rows += _arms_rows([arm for arm in list_arms([matrix]) if arm.model == model], rule)
    return Table(
        mark_title("Table 1: accuracy of the arms", rule),
        ("benchmark", "model", "arm", *ACCURACY_HEADERS, "paper, forward / backward", *RUN_HEADERS),
        tuple(rows),
        f"{RULE_NOTES[rule]} {_INTERVALS} ROUGE-1 recall is the paper's metric and also rewards a recited "
        f"passage; contains asks for an accepted answer as whole words. Paper: ROUGE-1 recall of {PAPER}, "
        "means over four models of 3B to 8B (diffusion: LLaDA-8B).",
    )


def few_shot_table(matrices: Sequence[Matrix]) -> Table:
    """Table 5: the same questions after few-shot examples; empty where none were asked so."""
    rows = []
    for arm in list_arms(_comparisons(matrices)):
        scores = [stage_scores(cell, FEW_SHOT, "fixed") for cell in arm.done]
        if any(scores):
            rows.append((*arm.names, *accuracy_cells(arm.done, scores), *run_cells(arm)))
    return Table(
        "Table 5: few-shot accuracy",
        ("benchmark", "model", "arm", *ACCURACY_HEADERS, *RUN_HEADERS),
        tuple(rows),
        f"After the last step, on all questions, whatever rule chose the steps of other tables. {_INTERVALS}",
    )


def cost_table(matrices: Sequence[Matrix], flops: Flops = count_flops) -> Table:
    """Table 7: what a step costs, and how many times as much as a step of next-token training.

    Args:
        matrices: those that compare arms are shown.
        flops: of one step of a run.
    """
    arms = [arm for arm in list_arms(_comparisons(matrices)) if arm.name != UNTOUCHED]
    costs = [step_costs(arm.done, flops) for arm in arms]
    baselines = {
        (arm.matrix.folder, arm.model): cost
        for arm, cost in zip(arms, costs, strict=True)
        if arm.name == BASELINE
    }
    rows = tuple(
        (
            *arm.names,
            *compare_costs(cost, baselines.get((arm.matrix.folder, arm.model))),
            *run_cells(arm),
        )
        for arm, cost in zip(arms, costs, strict=True)
    )
    counted = " TFLOP: 6 N for each token, N the parameters; attention is not in it."
    return Table(
        "Table 7: cost per step",
        ("benchmark", "model", "arm", "TFLOP", "seconds", "peak memory", "tokens", *RUN_HEADERS),
        rows,
        "Means over steps and seeds; in brackets how many times that of next-token training."
        + (counted if flops is count_flops else ""),
    )


def fits_table(matrices: Sequence[Matrix]) -> Table:
    """Table 9: level A and rate k of A (1 - exp(-k x)), x in steps, fitted to every learning curve."""
    rows = []
    for arm in list_arms(matrices):
        for direction in DIRECTIONS:
            curves = [make_curve(arm.cells, direction, metric=metric) for metric in SHOWN]
            if any(curve and len(curve.trained) > 1 for curve in curves):
                numbers = [cell for curve in curves for cell in fit_cells(curve)]
                rows.append((*arm.names, direction, *numbers, name_folders(arm.done)))
    letters = (f"{letter}, {METRICS[metric].label}" for metric in SHOWN for letter in ("A", "k per step"))
    return Table(
        "Table 9: level and rate of learning",
        ("benchmark", "model", "arm", "direction", *letters, "runs"),
        tuple(rows),
        "Least squares through the means over seeds, ± one standard error: accuracy after x steps is about "
        "A (1 − exp(−k x)). Where there is no fit, the reason stands in its place.",
    )


def level_table(matrices: Sequence[Matrix], level: float = LEVEL) -> Table:
    """How many steps, tokens and minutes each arm took to a level of accuracy, forward and backward."""
    rows = []
    for arm in list_arms(matrices):
        curves = [make_curve(arm.cells, direction) for direction in DIRECTIONS]
        if any(curve and len(curve.trained) > 1 for curve in curves):
            numbers = [cell for curve in curves for cell in level_cells(curve, level)]
            rows.append((*arm.names, *numbers, name_folders(arm.done)))
    units = (f"{direction}, {unit}" for direction in DIRECTIONS for unit in ("steps", "tokens", "minutes"))
    return Table(
        f"Steps, tokens and minutes to {level:g}",
        ("benchmark", "model", "arm", *units, "runs"),
        tuple(rows),
        f"The first step asked at where {METRICS['contains'].label}, averaged over seeds, is {level:g} or "
        "more; it was reached somewhere between this step and the one asked at before.",
    )


def ablation_table(matrices: Sequence[Matrix], rule: Rule) -> Table:
    """Table 10: forward and backward accuracy of every variant of the ablations."""
    rows = tuple(
        (arm.matrix.ablation or "", *arm.names, *_reported_cells(arm, rule), *run_cells(arm))
        for arm in list_arms([matrix for matrix in matrices if matrix.ablation])
    )
    return Table(
        mark_title("Table 10: ablations", rule),
        ("ablation", "benchmark", "model", "variant", *ACCURACY_HEADERS, *RUN_HEADERS),
        rows,
        f"{RULE_NOTES[rule]} {_INTERVALS}",
    )


def findings_table(findings: Sequence[Finding], rule: Rule) -> Table:
    """The paper's pattern, claim by claim: difference, p-value and verdict."""
    rows = []
    for found in findings:
        if not found.attempted:
            continue
        tested = found.change is not None
        first = found.cells[0].arm if found.cells else found.claim.first[0]
        rows.append(
            (
                found.setting,
                found.model,
                found.claim.statement,
                f"{first} − {found.claim.second}",
                found.claim.direction,
                change_cell(found),
                p_value(found.p_value) if tested else MISSING,
                p_value(found.p_holm) if tested else MISSING,
                p_value(found.p_against_holm) if tested else MISSING,
                count(found.change.documents if found.change else None),
                f"{found.agreeing} of {len(found.seeds)}" if tested else MISSING,
                found.verdict if tested else f"{found.verdict}: {found.reason}",
                name_folders(found.cells),
            )
        )
    return Table(
        mark_title("The paper's pattern, claim by claim", rule),
        (
            "benchmark",
            "model",
            "claim",
            "arms",
            "direction",
            "difference",
            "p",
            "p, Holm",
            "p against, Holm",
            "documents",
            "seeds for it",
            "verdict",
            "runs",
        ),
        tuple(rows),
        " ".join(filter(None, (_EXPLAINED, _name_single_seeds(findings), _name_untested(findings)))),
    )


def _name_single_seeds(findings: Sequence[Finding]) -> str:
    """That seeds were not tested where there is one of each arm; empty where no claim rests on one."""
    single = [found for found in findings if found.change is not None and len(found.seeds) == 1]
    if not single:
        return ""
    return (
        f"Of the claims with one seed per arm ({len(single)}) no p-value says whether another seed of "
        "training would end the same."
    )


def _name_untested(findings: Sequence[Finding]) -> str:
    """The claims that no matrix has the arms for, in a sentence; empty without any."""
    told = {found.claim for found in findings if found.attempted}
    rest = dict.fromkeys(found.claim.statement for found in findings if found.claim not in told)
    return f"Not among these runs: {'; '.join(rest)}." if rest else ""


def cells_table(matrices: Sequence[Matrix]) -> Table:
    """Every cell with its state and its folder: what stands behind the numbers."""
    rows = tuple(
        (
            matrix.setting,
            matrix.ablation or MISSING,
            cell.model,
            cell.arm,
            str(cell.seed),
            f"{cell.status}: {cell.reason}" if cell.reason else cell.status,
            count(cell.run.cost.steps if cell.run else None),
            minutes(cell.run.cost.seconds if cell.run else None),
            str(cell.folder),
        )
        for matrix in matrices
        for cell in matrix.cells
    )
    headers = ("benchmark", "ablation", "model", "arm", "seed", "state", "steps", "minutes", "folder")
    return Table("The runs behind the numbers", headers, rows)


def _comparisons(matrices: Sequence[Matrix]) -> list[Matrix]:
    return [matrix for matrix in matrices if not matrix.ablation]


def _arms_rows(arms: Sequence[Arm], rule: Rule) -> list[tuple[str, ...]]:
    """Rows of one model in one matrix: the floor first, then its arms, then the ceiling."""
    setting, model, _ = arms[0].names
    benchmark = arms[0].matrix.benchmark
    rows = [
        (
            *arm.names,
            *_reported_cells(arm, rule),
            PUBLISHED.get((benchmark, arm.name), MISSING),
            *run_cells(arm),
        )
        for arm in arms
    ]
    floor = () if any(arm.name == UNTOUCHED for arm in arms) else bound_cells(arms, "before", rule)
    if floor:
        published = PUBLISHED.get((benchmark, UNTOUCHED), MISSING)
        rows.insert(0, (setting, model, "before training", *floor[:-1], published, "none", floor[-1]))
    ceiling = bound_cells(arms, "ceiling", rule)
    if ceiling:
        name = "ceiling: document in the prompt"
        rows.append((setting, model, name, *ceiling[:-1], MISSING, "none", ceiling[-1]))
    return rows


def _reported_cells(arm: Arm, rule: Rule) -> tuple[str, ...]:
    return accuracy_cells(arm.done, [reported_scores(cell, rule) for cell in arm.done])
