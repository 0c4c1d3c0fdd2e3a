"""What the lab found, over all seeds: one table.

table = lab_table(results)
print(to_markdown(table))
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean

from demask.evaluation.metrics import HEADLINE, Score, read_score
from demask.evaluation.statistics import summarise
from demask.records import DIRECTIONS, QAPair
from demask.reports.tables import Table
from demask.storage import file_names
from demask.storage.run_folder import RunFolder


@dataclass(frozen=True)
class ArmResult:
    """One arm with one seed.

    Attributes:
        arm: its name.
        seed: of world, model and training.
        run: the run folder, with all that was said before and after.
        known_before: share of questions about known people that were answered, in either direction.
        known_after: the same after the injection: what was not forgotten.
        seconds: that the injection took.
    """

    arm: str
    seed: int
    run: Path
    known_before: float
    known_after: float
    seconds: float


def lab_table(results: Sequence[ArmResult]) -> Table:
    """One row per arm: accuracy in either direction over all seeds, with each seed's own, and what stayed."""
    rows = []
    for arm in dict.fromkeys(result.arm for result in results):
        own = [result for result in results if result.arm == arm]
        pooled = _pool(own)
        rows.append(
            (
                arm,
                *(
                    _cell(pooled[direction], [_pool([one])[direction] for one in own])
                    for direction in DIRECTIONS
                ),
                f"{mean(one.known_before for one in own):.2f}",
                f"{mean(one.known_after for one in own):.2f}",
                f"{mean(one.seconds for one in own):.0f} s",
            )
        )
    seeds = len({result.seed for result in results})
    return Table(
        "New people",
        ("arm", *DIRECTIONS, "known before", "known after", "injection"),
        tuple(rows),
        f"Share of questions whose answer contains the right one, over {seeds} seeds, with its 95% interval "
        "(clustered by person) and each seed's own share. Forward: the answer comes second in the text. "
        "Known: questions about people of the pre-training, before and after the injection.",
    )


def summarise_lab(results: Sequence[ArmResult]) -> list[dict[str, object]]:
    """The same as numbers, one object per arm."""
    return [
        {
            "arm": arm,
            "metrics": _pool([result for result in results if result.arm == arm]),
            "seeds": [
                {**asdict(result), "run": str(result.run), "metrics": _pool([result])}
                for result in results
                if result.arm == arm
            ],
        }
        for arm in dict.fromkeys(result.arm for result in results)
    ]


def _pool(results: Sequence[ArmResult]) -> Mapping[str, Mapping[str, float]]:
    """The headline per direction over several runs; a person of one seed is nobody of another."""
    scores: list[Score] = []
    pairs: list[QAPair] = []
    for result in results:
        folder, seed = RunFolder(result.run), result.seed
        pairs += [
            replace(pair, id=f"{seed}/{pair.id}", document_id=f"{seed}/{pair.document_id}")
            for pair in folder.read_records(file_names.QA_PAIRS, QAPair)
        ]
        scores += [
            read_score({**row, "qa_id": f"{seed}/{row['qa_id']}"})
            for row in folder.read_rows(file_names.SCORES)
            if row["stage"] == "after"
        ]
    return {direction: dict(found[HEADLINE]) for direction, found in summarise(scores, pairs).items()}


def _cell(pooled: Mapping[str, float], own: Sequence[Mapping[str, float]]) -> str:
    each = ", ".join(f"{numbers['value']:.2f}" for numbers in own)
    return f"{pooled['value']:.2f} [{pooled['low']:.2f}, {pooled['high']:.2f}] ({each})"
