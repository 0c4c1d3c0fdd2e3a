"""The comparison where everything is controlled: one small world, two kinds of model, five ways to train.

    results = run_lab(Path("lab"), seeds=(0, 1, 2), sizes=read_sizes({"injection": {"steps": 400}}), ...)
    print(to_markdown(lab_table(results)))

For each seed a world is drawn and a model of either kind is pre-trained on its known people. Then each
arm injects the new people from their texts, without questions, by an ordinary run of demask, and is
asked about them in both directions. Whatever is finished is not done again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from demask.comparison.arms import ARMS as ALL_ARMS
from demask.comparison.arms import Arm
from demask.comparison.grid import Cell, make_recipe
from demask.comparison.running import run_here
from demask.errors import ConfigError
from demask.evaluation.metrics import HEADLINE, Score, read_score, score_predictions
from demask.evaluation.statistics import summarise
from demask.lab.pretraining import ANSWER_TOKENS, Kind, Pretraining, pretrain
from demask.lab.world import World, known_questions, make_world, new_documents, new_questions
from demask.progress import Progress
from demask.recipe.sections import PRESETS
from demask.records import DIRECTIONS, Prediction, QAPair
from demask.reports.tables import Table, to_markdown
from demask.storage import file_names
from demask.storage.atomic import write_text
from demask.storage.run_folder import RunFolder, claim_run_folder, locked_run_folder
from demask.tasks.evaluate import evaluate
from demask.tasks.inject import Injected

ARMS: Mapping[str, Arm] = {
    arm.name: arm
    for arm in ALL_ARMS
    if arm.name in ("next-token", "next-token-paraphrases", "reverse", "demasking", "diffusion")
}
# Texts of a new person in an arm with paraphrases, the first included.
WORDINGS = 10
_KNOWN_ASKED = 200
# The diffusion model fills as many tokens as answers have; the other may write on, as long as it wants.
_LONGEST: Mapping[Kind, int] = {"autoregressive": 8, "diffusion": ANSWER_TOKENS}
SIZES, RESULTS, REPORT = "sizes.json", "lab.json", "lab.md"


class Injection(BaseModel):
    """How each arm trains; the same for all of a kind."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    steps: int = Field(400, gt=0, description="updates")
    batch_size: int = Field(20, gt=0, description="texts per step")
    learning_rate: float = Field(1e-4, gt=0, description="after warm-up")


class Sizes(BaseModel):
    """How large the lab is, and how long it trains."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    pretraining: Pretraining = Field(default_factory=Pretraining)
    injection: Injection = Field(default_factory=Injection)


def read_sizes(values: Mapping[str, Any]) -> Sizes:
    """Sizes by name, the defaults for those that are not given.

    Raises:
        ConfigError: a name is unknown, or a value is not what was expected.
    """
    try:
        return Sizes.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        sections: dict[str, type[BaseModel]] = {"pretraining": Pretraining, "injection": Injection}
        known = [f"{name}.{field}" for name, part in sections.items() for field in part.model_fields]
        wrong = f"is {problem['input']!r} ({problem['msg']})"
        what = "is unknown" if problem["type"] == "extra_forbidden" else wrong
        raise ConfigError(f"--set {key} {what}; known are {', '.join(known)}") from error


@dataclass(frozen=True)
class LabResult:
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


def run_lab(
    out: Path,
    *,
    seeds: Sequence[int],
    arms: Sequence[str] | None = None,
    sizes: Sizes,
    progress: Progress,
) -> list[LabResult]:
    """Do the whole comparison, or what is left of it.

    Args:
        out: the folder; one folder per seed within.
        seeds: of worlds, models and trainings.
        arms: names out of `ARMS`; None: all.
        sizes: of world, models and trainings.
        progress: told how far it is.

    Raises:
        ConfigError: an arm is unknown, or the folder holds a lab of other sizes.
        RunError: another process works in the folder.
    """
    names = arms or list(ARMS)
    unknown = [arm for arm in names if arm not in ARMS]
    if unknown:
        raise ConfigError(f"--arm: {unknown[0]!r} is unknown, expected some of {', '.join(ARMS)}")
    with locked_run_folder(out, name=SIZES):
        return _run_arms(out, seeds, names, sizes, progress)


def _run_arms(
    out: Path, seeds: Sequence[int], names: Sequence[str], sizes: Sizes, progress: Progress
) -> list[LabResult]:
    claim_run_folder(out, sizes.model_dump(), name=SIZES)
    results = []
    for seed in seeds:
        world = make_world(known=sizes.pretraining.known, new=sizes.pretraining.new, seed=seed)
        for name in names:
            results.append(_run_arm(out / f"seed-{seed}", name, world, seed, sizes, progress))
    write_text(out / RESULTS, json.dumps(summarise_lab(results), indent=2) + "\n")
    write_text(out / REPORT, f"# The lab\n\n{to_markdown(lab_table(results))}\n")
    return results


def _run_arm(folder: Path, name: str, world: World, seed: int, sizes: Sizes, progress: Progress) -> LabResult:
    arm = ARMS[name]
    kind: Kind = "diffusion" if arm.diffusion else "autoregressive"
    model = pretrain(
        kind, world, sizes.pretraining, folder / f"pre-trained-{kind}", seed=seed, progress=progress
    )
    data, paraphrases = RunFolder(folder / "data"), WORDINGS - 1 if arm.paraphrases else 0
    documents = data.file(f"documents-{paraphrases}.jsonl")
    data.write_rows(documents.name, new_documents(world, paraphrases=paraphrases))
    data.write_rows("new.jsonl", new_questions(world))
    shared: dict[str, Any] = {
        "preset": "fast",
        "model": str(model),
        "documents": str(documents),
        "qa": str(data.file("new.jsonl")),
        "seed": seed,
        "train": sizes.injection.model_dump(),
        "evaluate": _asking(kind),
        "measure": "none",  # the lab asks about its own world what is still known
    }
    if name == "demasking":  # in the words that pre-training has shown
        shared["objective"] = PRESETS["paper"]["objective"]
    cell = Cell(str(model), name, seed, make_recipe(arm, shared), folder=name)
    run: Injected = run_here([cell], folder, progress)[name]
    known = known_questions(world, _KNOWN_ASKED)
    data.write_rows("known.jsonl", known)
    before, after = (
        _ask_known(data, known, kind, asked, predictions, progress)
        for asked, predictions in (
            (model, f"known-{kind}.jsonl"),
            (run.run_folder / file_names.MODEL, f"known-{name}.jsonl"),
        )
    )
    return LabResult(name, seed, run.run_folder, before, after, seconds=run.summary["seconds"])


def _asking(kind: Kind) -> dict[str, Any]:
    return {
        "max_new_tokens": _LONGEST[kind],
        "batch_size": 200,
        "ceiling": False,
        "denoise": {"block_length": ANSWER_TOKENS},
    }


def _ask_known(
    data: RunFolder, pairs: Sequence[QAPair], kind: Kind, model: Path, predictions: str, progress: Progress
) -> float:
    """Share of questions about known people that a model answers; asked once, then read from a file."""
    if not data.has(predictions):
        found = evaluate(str(model), data.file("known.jsonl"), settings=_asking(kind), progress=progress)
        data.write_rows(predictions, found.predictions)
    scores = score_predictions(data.read_records(predictions, Prediction), pairs)
    return mean(score.right for score in scores)


def lab_table(results: Sequence[LabResult]) -> Table:
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


def summarise_lab(results: Sequence[LabResult]) -> list[dict[str, Any]]:
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


def _pool(results: Sequence[LabResult]) -> Mapping[str, Mapping[str, float]]:
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
