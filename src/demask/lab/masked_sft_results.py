r"""Does masking help fine-tuning? What came out: accuracies, comparisons with plain SFT, verdicts, power.

    results = read_results(trials, out / CELLS)
    print("\n\n".join(map(to_markdown, make_tables(results, order))))

Every arm answers the same questions, with several seeds of samples. A comparison averages over the numbers of
samples that both arms have for all seeds, and is tested over questions and seeds (`evaluation/crossed.py`). A
verdict needs a p-value below 0.05 after Holm's correction over its table.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from demask.comparison.arms import SFT_ARMS
from demask.evaluation.crossed import CrossedChange, compare_crossed, detectable_difference
from demask.lab.masked_sft import KNOWN, Order, Trial, read_answers, read_questions
from demask.reports.drawing import Line, arrange, line_panel, step_scale
from demask.reports.tables import Table, correct_holm
from demask.storage.file_names import SUMMARY
from demask.storage.run_folder import RunFolder

# Differences below it are of no account: the paper's gains on GSM8K and MATH are 0.003 to 0.049.
MARGIN = 0.05
SIGNIFICANCE = 0.05
PLAIN = SFT_ARMS[0].name
# What plain SFT does with more, which masking must beat to be worth its tokens.
CONTROLS = ("sft, as many tokens", "sft, twice the epochs")
_NOT_MEASURED = "not run"


class Result(NamedTuple):
    """A trial that is done.

    Attributes:
        answers: which questions were answered, by id.
        summary: of its run.
    """

    trial: Trial
    answers: Mapping[str, bool]
    summary: Mapping[str, Any]


class Comparison(NamedTuple):
    """An arm against another on a split of a task.

    Attributes:
        samples: over which it averages.
        seeds: that both arms have.
        verdict: `better`, `worse`, `equivalent` or `undecided`.
    """

    task: str
    split: str
    arm: str
    against: str
    samples: tuple[int, ...]
    seeds: tuple[int, ...]
    change: CrossedChange
    p_holm: float
    p_equivalent_holm: float
    verdict: str


class Results:
    """All trials that are done, by what they are."""

    def __init__(self, trials: Sequence[Trial], folder: Path) -> None:
        self.found: dict[tuple[str, str, int, int], Result] = {}
        self.splits: dict[str, dict[str, list[str]]] = {}
        self.clusters: dict[str, dict[str, str]] = {}
        for trial in trials:
            answers = read_answers(trial, folder)
            if trial.task not in self.splits:
                self._learn(trial)
            if answers is not None:
                summary = RunFolder(folder / trial.cell.folder).read_json(SUMMARY)
                key = (trial.task, trial.arm, trial.samples, trial.seed)
                self.found[key] = Result(trial, answers, summary)

    def _learn(self, trial: Trial) -> None:
        pairs = read_questions(trial)
        self.clusters[trial.task] = {pair.id: pair.document_id for pair in pairs}
        splits: dict[str, list[str]] = {}
        for pair in pairs:
            splits.setdefault(pair.kind, []).append(pair.id)
        self.splits[trial.task] = splits

    def get(self, task: str, arm: str, samples: int, seeds: Sequence[int]) -> list[Result]:
        """What is done of some seeds."""
        keys = [(task, arm, samples, seed) for seed in seeds]
        return [self.found[key] for key in keys if key in self.found]

    def seeds_of(self, task: str, arms: Sequence[str], samples: int) -> set[int]:
        """Seeds that all of these arms have."""
        each = [{key[3] for key in self.found if key[:3] == (task, arm, samples)} for arm in arms]
        return set.intersection(*each)

    def answered(
        self, task: str, arm: str, split: str, samples: Sequence[int], seeds: Sequence[int]
    ) -> NDArray[np.float64]:
        """For each seed and question of a split how often it was answered, over numbers of samples.

        Args:
            task: its name.
            arm: its name.
            split: of the task's questions.
            samples: over which the mean is taken; all of them must be done.
            seeds: in this order.
        """
        ids = self.splits[task][split]
        each = np.array(
            [
                [[self.found[(task, arm, count, seed)].answers[id] for id in ids] for seed in seeds]
                for count in samples
            ],
            dtype=np.float64,
        )
        return np.asarray(each.mean(axis=0))

    def shared(self, order: Order, task: str, arms: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Numbers of samples and seeds of which all of these arms have every combination.

        Seeds are the most that some number of samples has; numbers of samples with fewer are left out.
        """
        have = {count: self.seeds_of(task, arms, count) & set(order.seeds) for count in order.samples}
        most = max((len(seeds) for seeds in have.values()), default=0)
        counts = tuple(count for count in order.samples if most and len(have[count]) == most)
        seeds = set.intersection(*(have[count] for count in counts)) if counts else set()
        return counts, tuple(sorted(seeds))


def compare_arms(
    results: Results, order: Order, *, against: Sequence[str], arms: Sequence[str]
) -> list[Comparison]:
    """Arms against others on every split of every task, corrected for each other.

    Args:
        results: what is done.
        order: what was compared.
        against: the arms to compare with.
        arms: those that are compared with each of them.
    """
    found: list[tuple[str, str, str, str, tuple[int, ...], tuple[int, ...], CrossedChange]] = []
    for task, other, arm in product(order.tasks, against, arms):
        counts, seeds = results.shared(order, task, (arm, other))
        for split, ids in results.splits[task].items() if len(seeds) > 1 else ():
            first, second = (results.answered(task, name, split, counts, seeds) for name in (arm, other))
            clusters = [results.clusters[task][id] for id in ids]
            change = compare_crossed(first - second, clusters, margin=MARGIN)
            found.append((task, split, arm, other, counts, seeds, change))
    p_values = correct_holm([row[-1].p_value for row in found])
    equivalent = correct_holm([row[-1].p_equivalent for row in found])
    return [
        Comparison(*row, p_holm=p, p_equivalent_holm=same, verdict=judge(row[-1], p, same))
        for row, p, same in zip(found, p_values, equivalent, strict=True)
    ]


def judge(change: CrossedChange, p_holm: float, p_equivalent: float) -> str:
    """What a comparison shows."""
    if p_holm < SIGNIFICANCE:
        return "better" if change.difference > 0 else "worse"
    return "equivalent" if p_equivalent < SIGNIFICANCE else "undecided"


def make_tables(results: Results, order: Order) -> list[Table]:
    """Accuracies, comparisons, costs; and what size of effect plain SFT alone says could be seen."""
    arms = [arm.name for arm in order.arms]
    masked = [arm for arm in arms if arm != PLAIN and arm not in CONTROLS]
    controls = [arm for arm in CONTROLS if arm in arms]
    return [
        *(_accuracy_table(results, order, task) for task in order.tasks),
        _comparison_table(
            "Compared with plain SFT", compare_arms(results, order, against=[PLAIN], arms=arms[1:])
        ),
        *(
            [
                _comparison_table(
                    "Compared with plain SFT that trains longer",
                    compare_arms(results, order, against=controls, arms=masked),
                )
            ]
            if controls and masked
            else []
        ),
        _cost_table(results, order),
        _power_table(results, order),
    ]


def _accuracy_table(results: Results, order: Order, task: str) -> Table:
    rows = []
    for split in results.splits.get(task, {}):
        for count in order.samples:
            shares = []
            for arm in order.arms:
                own = results.get(task, arm.name, count, order.seeds)
                shares.append(_show_seeds([_share(one, results.splits[task][split]) for one in own]))
            rows.append((split, f"{count:,}", *shares))
    return Table(
        f"Accuracy, {task}",
        ("split", "samples", *(arm.name for arm in order.arms)),
        tuple(rows),
        f"Share of questions answered, the mean over seeds and each seed's own in brackets. {KNOWN}: single "
        "facts that the base model was pre-trained to answer, and no sample asks for.",
    )


def _share(result: Result, ids: Sequence[str]) -> float:
    return mean(result.answers[id] for id in ids)


def _show_seeds(shares: Sequence[float]) -> str:
    if not shares:
        return _NOT_MEASURED
    return f"{mean(shares):.2f} ({', '.join(f'{share:.2f}' for share in shares)})"


def _comparison_table(title: str, comparisons: Sequence[Comparison]) -> Table:
    rows = [
        (
            one.task,
            one.split,
            one.arm,
            one.against,
            f"{one.change.difference:+.3f} [{one.change.low:+.3f}, {one.change.high:+.3f}]",
            f"{one.p_holm:.3f}",
            f"{one.p_equivalent_holm:.3f}",
            one.verdict,
            f"{', '.join(f'{count:,}' for count in one.samples)}; {len(one.seeds)}",
        )
        for one in comparisons
    ]
    return Table(
        title,
        (
            "task",
            "split",
            "arm",
            "against",
            "difference",
            "p",
            "p equivalent",
            "verdict",
            "samples; seeds",
        ),
        tuple(rows),
        "Difference of accuracy, the mean over the numbers of samples, with its 95% interval over questions "
        f"and seeds. Both p-values are corrected after Holm for the {len(rows)} rows. Equivalent: a "
        f"difference of {MARGIN:g} or more is ruled out in either direction.",
    )


def _cost_table(results: Results, order: Order) -> Table:
    rows = [
        (task, arm.name, f"{count:,}", *_costs(own))
        for task, arm, count in product(order.tasks, order.arms, order.samples)
        if (own := results.get(task, arm.name, count, order.seeds))
    ]
    return Table(
        "What it took",
        ("task", "arm", "samples", "rate", "steps", "tokens", "seconds", "held-out loss"),
        tuple(rows),
        "Means over seeds; seconds of training alone, beside whatever else the machine did. Held-out loss: "
        "of the bare answers, nats per token.",
    )


def _costs(own: Sequence[Result]) -> tuple[str, ...]:
    rate = own[0].trial.cell.config.train.learning_rate
    losses = [one.summary["held_out_loss"]["after"] for one in own if one.summary["held_out_loss"]]
    return (
        f"{rate:g}",
        f"{mean(one.summary['steps'] for one in own):,.0f}",
        f"{mean(one.summary['tokens'] for one in own):,.0f}",
        f"{mean(one.summary['seconds'] for one in own):.0f}",
        f"{mean(losses):.3f}" if losses else "",
    )


def _power_table(results: Results, order: Order) -> Table:
    rows = []
    for task in order.tasks:
        counts, seeds = results.shared(order, task, (PLAIN,))
        if len(seeds) < 2:
            continue
        for split in results.splits[task]:
            by_seed_S = results.answered(task, PLAIN, split, counts, seeds).mean(axis=1)
            error = float(np.sqrt(2 * by_seed_S.var(ddof=1) / len(seeds)))
            effect = detectable_difference(error, freedom=len(seeds) - 1)
            rows.append((task, split, f"{by_seed_S.mean():.2f}", f"{error:.3f}", f"{effect:.3f}"))
    return Table(
        "What could be seen",
        ("task", "split", "plain SFT", "standard error", "difference found in 80 of 100"),
        tuple(rows),
        "From the spread of plain SFT over seeds alone, as if another arm were as many runs more, and tested "
        "at 5% without correction. Arms share their samples, so their differences may vary less; that some "
        "questions suit one arm more is not in it.",
    )


def draw_curves(results: Results, order: Order) -> dict[str, str]:
    """Accuracy over the number of samples as SVG, a panel for each split, by task; none of fewer than two."""
    drawn = {}
    for task in order.tasks:
        panels = [_curves_panel(results, order, task, split) for split in results.splits.get(task, {})]
        if any(panels):
            title = f"Accuracy over samples: {task}"
            drawn[task] = arrange([[panel] for panel in panels if panel], title)
    return drawn


def _curves_panel(results: Results, order: Order, task: str, split: str) -> str:
    lines = []
    for number, arm in enumerate(order.arms, start=1):
        found = {
            count: [_share(one, results.splits[task][split]) for one in own]
            for count in order.samples
            if (own := results.get(task, arm.name, count, order.seeds))
        }
        points = tuple((float(count), mean(shares)) for count, shares in found.items())
        band = tuple((float(count), min(shares), max(shares)) for count, shares in found.items())
        if len(points) > 1:
            lines.append(Line(arm.name, points, number, band=band, dots=True))
    if not lines:
        return ""
    x = step_scale(max(order.samples), first=min(order.samples))
    title = f"Accuracy over samples, {task}, {split}; bands from the lowest seed to the highest"
    return line_panel(lines, split, "answered", title, x=x, along="samples")


def as_json(results: Results, order: Order) -> dict[str, Any]:
    """The same as numbers."""
    arms = [arm.name for arm in order.arms]
    controls = [arm for arm in CONTROLS if arm in arms]
    masked = [arm for arm in arms if arm != PLAIN and arm not in CONTROLS]
    comparisons = [
        *compare_arms(results, order, against=[PLAIN], arms=arms[1:]),
        *compare_arms(results, order, against=controls, arms=masked),
    ]
    return {
        "trials": [
            {
                **dict(zip(("task", "arm", "samples", "seed"), key, strict=True)),
                "run": one.trial.cell.folder,
                "accuracy": {
                    split: _share(one, ids) for split, ids in results.splits[one.trial.task].items()
                },
                "learning_rate": one.trial.cell.config.train.learning_rate,
                **{name: one.summary[name] for name in ("steps", "tokens", "seconds", "held_out_loss")},
            }
            for key, one in results.found.items()
        ],
        "comparisons": [{**one._asdict(), "change": one.change.__dict__} for one in comparisons],
    }
