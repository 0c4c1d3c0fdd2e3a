"""The paper's tables in our form, from grids: strings in rows, as every report of demask has them.

    table = arms_table(grids, "fixed")
    to_markdown(table)                      # of demask.reports.tables

Each row names the runs that its numbers come from, by the ends of their folders' names. A cell of the
grid that failed or that has not been run is named in its row with the reason, and is in none of the
numbers. Under the rule `paper` every title of a table that depends on it says so.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import fsum
from typing import NamedTuple

from demask.comparison.arms import UNTOUCHED
from demask.comparison.claims import MARGIN, PASSING, SIGNIFICANCE, Finding
from demask.comparison.curves import LEVEL, Curve, find_level, fit_curve, make_curve
from demask.comparison.results import (
    Accuracy,
    ArmResult,
    CellResult,
    Grid,
    Rule,
    Scores,
    list_arms,
    measure_accuracy,
    reported_scores,
    stage_scores,
)
from demask.evaluation.metrics import MEASURES, METRICS, Estimate
from demask.records import DIRECTIONS
from demask.reports.runs import FEW_SHOT, ApartRow
from demask.reports.tables import Table
from demask.reports.wording import (
    MISSING,
    count,
    interval,
    memory,
    minutes,
    p_value,
    share,
    signed,
)

# FLOPs of one training step of a run, None where they cannot be counted.
Flops = Callable[[CellResult], float | None]

PAPER = "arXiv 2510.09885"
# Forward / backward ROUGE-1 recall of its version 6, Table 1: means of four models of 3B to 8B, LLaDA-8B for
# diffusion.
PUBLISHED = {
    ("name-description", "untouched"): ".034 / .016",
    ("name-description", "next-token"): ".264 / .029",
    ("name-description", "next-token-paraphrases"): ".954 / .031",
    ("name-description", "reverse"): ".350 / .106",
    ("name-description", "diffusion"): ".869 / .852",
    ("name-description", "demasking"): ".905 / .929",
    ("name-description", "demasking-paraphrases"): ".968 / .919",
    ("biography", "untouched"): ".019 / .001",
    ("biography", "next-token"): ".153 / .002",
    ("biography", "next-token-paraphrases"): ".975 / .002",
    ("biography", "reverse"): ".269 / .012",
    ("biography", "diffusion"): ".892 / .696",
    ("biography", "demasking"): ".966 / .678",
    ("biography", "demasking-paraphrases"): ".964 / .815",
    ("wiki", "untouched"): ".178 / .190",
    ("wiki", "next-token"): ".464 / .309",
    ("wiki", "next-token-paraphrases"): ".674 / .391",
    ("wiki", "reverse"): ".535 / .407",
    ("wiki", "diffusion"): ".908 / .778",
    ("wiki", "demasking"): ".948 / .901",
    ("wiki", "demasking-paraphrases"): ".869 / .812",
}

ON_TEST = " (chosen on the test questions)"
BASELINE = "next-token"
# For each token: 2 N forward, twice that backward (Kaplan et al. 2020, arXiv 2001.08361).
FLOPS_PER_PARAMETER = 6

# `contains` is the one of our figures and claims; the paper's metric stands beside it.
SHOWN = ("contains", "rouge1_recall")
ARM_HEADERS = ("benchmark", "model", "arm")
ACCURACY_HEADERS = tuple(
    f"{direction}, {METRICS[metric].label}" for metric in SHOWN for direction in DIRECTIONS
)
RUN_HEADERS = ("failed or missing", "runs")
_OFTEN_CONSTANT = ("benchmark", "model", "failed or missing")
_DIGEST = re.compile(r"-[0-9a-f]{8}$")

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


def arms_table(grids: Sequence[Grid], rule: Rule) -> Table:
    """Table 1: forward and backward accuracy of every arm, with the base model and the ceiling."""
    arms = _compared_arms(grids)
    places = dict.fromkeys((str(arm.grid.folder), arm.model) for arm in arms)
    rows = [
        row
        for place in places
        for row in _arms_rows([arm for arm in arms if (str(arm.grid.folder), arm.model) == place], rule)
    ]
    return Table(
        mark_title("Table 1: accuracy of the arms", rule),
        (*ARM_HEADERS, *ACCURACY_HEADERS, "paper, forward / backward", *RUN_HEADERS),
        tuple(rows),
        f"{RULE_NOTES[rule]} {_INTERVALS} ROUGE-1 recall is the paper's metric and also rewards a recited "
        f"passage; contains asks for an accepted answer as whole words. Paper: ROUGE-1 recall of {PAPER}, "
        "means over four models of 3B to 8B (diffusion: LLaDA-8B).",
    )


def few_shot_table(grids: Sequence[Grid]) -> Table:
    """Table 5: the same questions after few-shot examples; empty where none were asked so."""
    rows = []
    for arm in _compared_arms(grids):
        scores = [stage_scores(cell, FEW_SHOT, "fixed") for cell in arm.done]
        if any(scores):
            rows.append((*_names(arm), *_accuracies(arm.done, scores), *_runs(arm)))
    return Table(
        "Table 5: few-shot accuracy",
        (*ARM_HEADERS, *ACCURACY_HEADERS, *RUN_HEADERS),
        tuple(rows),
        f"After the last step, on all questions, whatever rule chose the steps of other tables. {_INTERVALS}",
    )


class StepCost(NamedTuple):
    """What one step took, averaged over runs; None where one of them does not say. Memory is in bytes."""

    flops: float | None
    seconds: float | None
    memory: float | None
    tokens: float | None


def count_flops(cell: CellResult) -> float | None:
    """FLOPs of one step by formula: 6 times the parameters times the tokens of the step."""
    tokens = _per_step(cell.run.cost.tokens, cell.run.cost.steps) if cell.run else None
    if tokens is None or cell.parameters is None:
        return None
    return FLOPS_PER_PARAMETER * cell.parameters * tokens


def cost_table(grids: Sequence[Grid], flops: Flops = count_flops) -> Table:
    """Table 7: what a step costs, and how many times as much as a step of next-token training.

    Args:
        grids: those that compare arms are shown.
        flops: of one step of a run.
    """
    arms = [arm for arm in _compared_arms(grids) if arm.name != UNTOUCHED]
    costs = [_step_cost(arm.done, flops) for arm in arms]
    baselines = {
        (arm.grid.folder, arm.model): cost
        for arm, cost in zip(arms, costs, strict=True)
        if arm.name == BASELINE
    }
    rows = tuple(
        (*_names(arm), *_compare_costs(cost, baselines.get((arm.grid.folder, arm.model))), *_runs(arm))
        for arm, cost in zip(arms, costs, strict=True)
    )
    counted = " TFLOP: 6 N for each token, N the parameters; attention is not in it."
    return Table(
        "Table 7: cost per step",
        (*ARM_HEADERS, "TFLOP", "seconds", "peak memory", "tokens", *RUN_HEADERS),
        rows,
        "Means over steps and seeds; in brackets how many times that of next-token training."
        + (counted if flops is count_flops else ""),
    )


def fits_table(grids: Sequence[Grid]) -> Table:
    """Table 9: level A and rate k of A (1 - exp(-k x)), x in steps, fitted to every learning curve."""
    rows = []
    for arm in list_arms(grids):
        for direction in DIRECTIONS:
            curves = [make_curve(arm.cells, direction, metric=metric) for metric in SHOWN]
            if _any_drawn(curves):
                numbers = [cell for curve in curves for cell in _fit(curve)]
                rows.append((*_names(arm), direction, *numbers, _folders(arm.done)))
    letters = (f"{letter}, {METRICS[metric].label}" for metric in SHOWN for letter in ("A", "k per step"))
    return Table(
        "Table 9: level and rate of learning",
        (*ARM_HEADERS, "direction", *letters, "runs"),
        tuple(rows),
        "Least squares through the means over seeds, ± one standard error: accuracy after x steps is about "
        "A (1 − exp(−k x)). Where there is no fit, the reason stands in its place.",
    )


def level_table(grids: Sequence[Grid], level: float = LEVEL) -> Table:
    """How many steps, tokens and minutes each arm took to a level of accuracy, forward and backward."""
    rows = []
    for arm in list_arms(grids):
        curves = [make_curve(arm.cells, direction) for direction in DIRECTIONS]
        if _any_drawn(curves):
            numbers = [cell for curve in curves for cell in _level(curve, level)]
            rows.append((*_names(arm), *numbers, _folders(arm.done)))
    units = (f"{direction}, {unit}" for direction in DIRECTIONS for unit in ("steps", "tokens", "minutes"))
    return Table(
        f"Steps, tokens and minutes to {level:g}",
        (*ARM_HEADERS, *units, "runs"),
        tuple(rows),
        f"The first step asked at where {METRICS['contains'].label}, averaged over seeds, is {level:g} or "
        "more; it was reached somewhere between this step and the one asked at before.",
    )


def ablation_table(grids: Sequence[Grid], rule: Rule) -> Table:
    """Table 10: forward and backward accuracy of every variant of the ablations."""
    rows = tuple(
        (arm.grid.ablation or "", *_names(arm), *_reported(arm, rule), *_runs(arm))
        for arm in list_arms([grid for grid in grids if grid.ablation])
    )
    return Table(
        mark_title("Table 10: ablations", rule),
        ("ablation", "benchmark", "model", "variant", *ACCURACY_HEADERS, *RUN_HEADERS),
        rows,
        f"{RULE_NOTES[rule]} {_INTERVALS}",
    )


# On which retention is judged first; the report of each run has the others.
_RETAINED = ("leak", "near_miss", "known", "drift", "access", "reading")


def retention_table(grids: Sequence[Grid]) -> Table:
    """What else training changed, for arms whose runs have measured it: means over seeds."""
    measured = [
        (arm, [cell.run.retention.measures for cell in arm.done if cell.run and cell.run.retention])
        for arm in list_arms(grids)
    ]
    rows = tuple(
        (arm.grid.ablation or MISSING, *_names(arm), *(_over_seeds(name, found) for name in _RETAINED))
        for arm, found in measured
        if found
    )
    labels = tuple(MEASURES[name].label for name in _RETAINED)
    note = "Means over seeds, lowest and highest seed in brackets. Drift is in nats per token."
    return Table("What else training changed", ("ablation", "benchmark", "model", "arm", *labels), rows, note)


def apart_table(grids: Sequence[Grid]) -> Table:
    """Questions that were asked apart: means over seeds, by kind and form."""
    rows = []
    for arm in list_arms(grids):
        found: dict[tuple[str, str, str], list[ApartRow]] = {}
        for cell in arm.done:
            for row in cell.run.apart if cell.run else ():
                found.setdefault((row.kind, row.direction, row.form), []).append(row)
        for group, of_seeds in found.items():
            numbers = [[getattr(row, name) for row in of_seeds] for name in ("before", "after", "kept")]
            rows.append((*_names(arm), *group, *map(_spread, numbers), count(of_seeds[0].after.n)))
    return Table(
        "Asked apart: what must be gone, what must stay, what follows",
        (*ARM_HEADERS, "kind", "direction", "asked", "before", "after", "of those right before", "n"),
        tuple(rows),
        "Share of questions answered, means over seeds, lowest and highest seed in brackets. Old values "
        "should fall to 0; neighbours stay where the last share is 1; what follows takes one step from what "
        "was learned.",
    )


def _spread(estimates: Sequence[Estimate | None]) -> str:
    values = [one.value for one in estimates if one is not None]
    if not values:
        return MISSING
    if len(values) == 1:
        return interval(next(one for one in estimates if one is not None))
    return f"{share(fsum(values) / len(values))} ({share(min(values))}–{share(max(values))})"


def _over_seeds(name: str, found: Sequence[Mapping[str, Estimate]]) -> str:
    values = [measures[name].value for measures in found if name in measures]
    if not values:
        return MISSING
    spread = f" ({share(min(values))}–{share(max(values))})" if len(values) > 1 else ""
    return f"{share(fsum(values) / len(values))}{spread}"


def findings_table(findings: Sequence[Finding], rule: Rule) -> Table:
    """The paper's pattern, claim by claim: difference, p-value and verdict."""
    tested = ("difference", "p", "p, Holm", "p against, Holm", "documents", "seeds for it", "verdict")
    return Table(
        mark_title("The paper's pattern, claim by claim", rule),
        ("benchmark", "model", "claim", "arms", "direction", *tested, "runs"),
        tuple(_finding_row(found) for found in findings if found.attempted),
        " ".join(filter(None, (_EXPLAINED, _name_single_seeds(findings), _name_untested(findings)))),
    )


def cells_table(grids: Sequence[Grid]) -> Table:
    """Every cell with its state and its folder: what stands behind the numbers."""
    rows = tuple(
        (
            grid.setting,
            grid.ablation or MISSING,
            cell.model,
            cell.arm,
            str(cell.seed),
            f"{cell.status}: {cell.reason}" if cell.reason else cell.status,
            count(cell.run.cost.steps if cell.run else None),
            minutes(cell.run.cost.seconds if cell.run else None),
            str(cell.folder),
        )
        for grid in grids
        for cell in grid.cells
    )
    headers = ("benchmark", "ablation", "model", "arm", "seed", "state", "steps", "minutes", "folder")
    return Table("The runs behind the numbers", headers, rows)


def drop_constant(table: Table) -> Table:
    """The table without the columns that tell its rows nothing: one benchmark, one model, nothing failed."""
    columns = list(zip(table.headers, *table.rows, strict=True))
    kept = [column for column in columns if column[0] not in _OFTEN_CONSTANT or len(set(column[1:])) > 1]
    headers, *rows = zip(*kept, strict=True)
    said = [column[1] for column in columns if column not in kept and column[1] != "none"]
    title = f"{table.title}: {', '.join(said)}" if said else table.title
    return replace(table, title=title, headers=headers, rows=tuple(rows))


def _compared_arms(grids: Sequence[Grid]) -> list[ArmResult]:
    return list_arms([grid for grid in grids if not grid.ablation])


def _names(arm: ArmResult) -> tuple[str, str, str]:
    return (arm.grid.setting, arm.model, arm.name)


def _arms_rows(arms: Sequence[ArmResult], rule: Rule) -> list[tuple[str, ...]]:
    """Rows of one model in one grid: the floor first, then its arms, then the ceiling."""
    setting, model, _ = _names(arms[0])
    benchmark = arms[0].grid.benchmark
    rows = [
        (*_names(arm), *_reported(arm, rule), PUBLISHED.get((benchmark, arm.name), MISSING), *_runs(arm))
        for arm in arms
    ]
    floor = () if any(arm.name == UNTOUCHED for arm in arms) else _bound(arms, "before", rule)
    if floor:
        published = PUBLISHED.get((benchmark, UNTOUCHED), MISSING)
        rows.insert(0, (setting, model, "before training", *floor[:-1], published, "none", floor[-1]))
    ceiling = _bound(arms, "ceiling", rule)
    if ceiling:
        name = "ceiling: document in the prompt"
        rows.append((setting, model, name, *ceiling[:-1], MISSING, "none", ceiling[-1]))
    return rows


def _bound(arms: Sequence[ArmResult], stage: str, rule: Rule) -> tuple[str, ...]:
    """Accuracy before training or with the document in the prompt, and the run that was asked; else nothing.

    All arms of a model start from the same weights, so the first run that was asked stands for all.
    """
    for cell in (cell for arm in arms for cell in arm.done):
        scores = stage_scores(cell, stage, rule)
        if scores:
            return (*_accuracies([cell], [scores]), _folders([cell]))
    return ()


def _reported(arm: ArmResult, rule: Rule) -> tuple[str, ...]:
    return _accuracies(arm.done, [reported_scores(cell, rule) for cell in arm.done])


def _accuracies(cells: Sequence[CellResult], scores: Sequence[Scores]) -> tuple[str, ...]:
    """Both metrics, forward and backward, in the order of `ACCURACY_HEADERS`."""
    measured = [measure_accuracy(cells, scores, metric) for metric in SHOWN]
    return tuple(
        _accuracy(by_direction.get(direction)) for by_direction in measured for direction in DIRECTIONS
    )


def _accuracy(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return MISSING
    seeds = accuracy.seeds.values()
    spread = f" (seeds {share(min(seeds))}–{share(max(seeds))})" if len(seeds) > 1 else ""
    return interval(accuracy.estimate) + spread


def _runs(arm: ArmResult) -> tuple[str, str]:
    """Which cells failed or are missing and why, and the folders of the others."""
    seeds: dict[str, list[str]] = {}
    for cell in arm.cells:
        if cell.status != "done":
            seeds.setdefault(f"{cell.status}: {cell.reason}", []).append(str(cell.seed))
    unfinished = [
        f"{'seed' if len(numbers) == 1 else 'seeds'} {', '.join(numbers)} {why}"
        for why, numbers in seeds.items()
    ]
    return "; ".join(unfinished) or "none", _folders(arm.done)


def _folders(cells: Sequence[CellResult]) -> str:
    """Runs by the ends of their folders' names, which are digests; the last table has the whole names."""
    names = (cell.folder.name for cell in cells)
    return ", ".join(name[-8:] if _DIGEST.search(name) else name for name in names) or MISSING


def _step_cost(cells: Sequence[CellResult], flops: Flops) -> StepCost:
    costs = [cell.run.cost for cell in cells if cell.run]
    return StepCost(
        _mean([flops(cell) for cell in cells]),
        _mean([_per_step(cost.seconds, cost.steps) for cost in costs]),
        _mean([cost.peak_memory_bytes for cost in costs]),
        _mean([_per_step(cost.tokens, cost.steps) for cost in costs]),
    )


def _per_step(total: float | None, steps: int | None) -> float | None:
    return total / steps if total is not None and steps else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if known and len(known) == len(values) else None


def _compare_costs(cost: StepCost, baseline: StepCost | None) -> tuple[str, ...]:
    """The four numbers for people, each with how many times the baseline's it is."""
    shown = (
        MISSING if cost.flops is None else f"{cost.flops / 1e12:.3g}",
        share(cost.seconds),
        memory(None if cost.memory is None else round(cost.memory)),
        count(cost.tokens),
    )
    return tuple(
        f"{text} (× {value / base:.2f})" if value is not None and base else text
        for text, value, base in zip(shown, cost, baseline or (None,) * len(cost), strict=True)
    )


def _any_drawn(curves: Sequence[Curve | None]) -> bool:
    return any(curve and len(curve.trained) > 1 for curve in curves)


def _fit(curve: Curve | None) -> tuple[str, str]:
    """Level and rate with their standard errors, or why there are none."""
    if curve is None:
        return MISSING, MISSING
    fit, reason = fit_curve(curve)
    if fit is None:
        return MISSING, reason
    return f"{share(fit.level)} ± {share(fit.level_error)}", f"{fit.rate:.2g} ± {fit.rate_error:.1g}"


def _level(curve: Curve | None, level: float) -> tuple[str, str, str]:
    """Steps, tokens and minutes to a level of accuracy."""
    if curve is None:
        return MISSING, MISSING, MISSING
    point = find_level(curve, level)
    if point is None:
        return f"not reached by {count(curve.points[-1].step)}", MISSING, MISSING
    return count(point.step), count(point.tokens), minutes(point.seconds)


def _finding_row(found: Finding) -> tuple[str, ...]:
    first = found.cells[0].arm if found.cells else found.claim.first[0]
    change = found.change
    if change is None:
        numbers: tuple[str, ...] = (MISSING,) * 6
        verdict = f"{found.verdict}: {found.reason}"
    else:
        levels = " − ".join(map(share, found.levels))
        numbers = (
            f"{signed(change.difference)} [{signed(change.low)}, {signed(change.high)}] ({levels})",
            *map(p_value, (found.p_value, found.p_holm, found.p_against_holm)),
            count(change.documents),
            f"{found.agreeing} of {len(found.seeds)}",
        )
        verdict = found.verdict
    claim = found.claim
    arms = f"{first} − {claim.second}"
    about = (found.setting, found.model, claim.statement, arms, claim.direction)
    return (*about, *numbers, verdict, _folders(found.cells))


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
    """The claims that no grid has the arms for, in a sentence; empty without any."""
    told = {found.claim for found in findings if found.attempted}
    rest = dict.fromkeys(found.claim.statement for found in findings if found.claim not in told)
    return f"Not among these runs: {'; '.join(rest)}." if rest else ""
