"""The comparison where everything is controlled: one small world, two kinds of model, five ways to inject.

    results = run_lab(out, seeds=3, arms=ARMS, pretraining=Pretraining(), injection=Injection(), ...)

For each seed a world is drawn and a model of either kind is pre-trained on its known people. Then each
arm injects the new people from their texts, without questions, by an ordinary run of demask, and is
asked about them in both directions. Whatever is finished is not done again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demask import rundir
from demask.config import make_config
from demask.errors import ConfigError
from demask.evaluation.matching import score_predictions
from demask.lab.pretraining import ANSWER_TOKENS, Kind, Pretraining, pretrain
from demask.lab.world import World, known_questions, make_world, new_documents, new_questions
from demask.pipeline import evaluate, run_recipe
from demask.progress import Progress
from demask.records import Prediction, QAPair
from demask.rundir import RunFolder, claim_run_folder, write_whole


@dataclass(frozen=True)
class Arm:
    """A way to inject.

    Attributes:
        kind: of the model.
        objective: as in a recipe.
        paraphrases: further wordings of each new text, in the same order.
    """

    kind: Kind
    objective: Mapping[str, Any]
    paraphrases: int = 0


# Texts of a new person in an arm with paraphrases, the first included.
_WORDINGS = 10
ARMS: Mapping[str, Arm] = {
    "next-token": Arm("autoregressive", {"name": "next-token"}),
    "next-token-paraphrases": Arm("autoregressive", {"name": "next-token"}, paraphrases=_WORDINGS - 1),
    "reverse": Arm("autoregressive", {"name": "reverse"}),
    "demasking": Arm("autoregressive", {"name": "demasking"}),
    "diffusion": Arm("diffusion", {"name": "diffusion", "preset": "paper"}),
}
_KNOWN_ASKED = 200
_ASKING = {
    "max_new_tokens": ANSWER_TOKENS,
    "batch_size": 200,
    "ceiling": False,
    "denoise": {"block_length": ANSWER_TOKENS},
}
RESULTS = "lab.json"


@dataclass(frozen=True)
class Injection:
    """How each arm trains; the same for all.

    Attributes:
        steps: updates.
        batch_size: texts per step.
        learning_rate: after warm-up.
    """

    steps: int = 200
    batch_size: int = 40
    learning_rate: float = 3e-4


@dataclass(frozen=True)
class ArmResult:
    """One arm with one seed.

    Attributes:
        arm: its name.
        seed: of world, model and training.
        run: the run folder, with all that was said before and after.
        known_before: share of questions about known people that were answered, in either direction.
        known_after: the same after the injection: what was not forgotten.
    """

    arm: str
    seed: int
    run: str
    known_before: float
    known_after: float


def run_lab(
    out: Path,
    *,
    seeds: Sequence[int],
    arms: Sequence[str],
    pretraining: Pretraining,
    injection: Injection,
    progress: Progress,
) -> list[ArmResult]:
    """Do the whole comparison, or what is left of it.

    Args:
        out: the folder; one folder per seed within.
        seeds: of worlds, models and trainings.
        arms: names out of `ARMS`.
        pretraining: sizes of world and model.
        injection: how each arm trains.
        progress: told how far it is.

    Raises:
        ConfigError: an arm is unknown, or the folder holds a lab of other sizes.
    """
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown:
        raise ConfigError(f"--arms: {unknown[0]!r} is unknown, expected some of {', '.join(ARMS)}")
    claim_run_folder(out, {"lab": 1, "pretraining": asdict(pretraining), "injection": asdict(injection)})
    results = []
    for seed in seeds:
        world = make_world(known=pretraining.known, new=pretraining.new, seed=seed)
        for name in arms:
            progress.say(f"[{name}, seed {seed}]")
            results.append(
                _run_arm(out / f"seed-{seed}", name, world, seed, pretraining, injection, progress)
            )
    write_whole(out / RESULTS, json.dumps([asdict(result) for result in results], indent=2) + "\n")
    return results


def _run_arm(
    folder: Path,
    name: str,
    world: World,
    seed: int,
    pretraining: Pretraining,
    injection: Injection,
    progress: Progress,
) -> ArmResult:
    arm = ARMS[name]
    model = pretrain(arm.kind, world, pretraining, folder / arm.kind, seed=seed, progress=progress)
    data = RunFolder(folder / "data")
    documents, qa = f"documents-{arm.paraphrases}.jsonl", "new.jsonl"
    data.write_rows(documents, new_documents(world, paraphrases=arm.paraphrases))
    data.write_rows(qa, new_questions(world))
    config = make_config(
        {
            "model": str(model),
            "documents": str(data.file(documents)),
            "qa": str(data.file(qa)),
            "objective": dict(arm.objective),
            "seed": seed,
            "train": {
                "steps": injection.steps,
                "batch_size": injection.batch_size,
                "learning_rate": injection.learning_rate,
            },
            "evaluate": _ASKING,
        },
        source="lab",
    )
    run = run_recipe(config, folder / name, progress=progress).run_folder
    known = known_questions(world, _KNOWN_ASKED)
    data.write_rows("known.jsonl", known)
    before = _ask_known(data, model, f"known-{arm.kind}.jsonl", known, progress)
    after = _ask_known(data, run / rundir.MODEL, f"known-{name}.jsonl", known, progress)
    return ArmResult(name, seed, str(run), before, after)


def _ask_known(data: RunFolder, model: Path, said: str, pairs: Sequence[QAPair], progress: Progress) -> float:
    """Share of questions about known people that a model answers; asked once, then read."""
    if not data.has(said):
        found = evaluate(str(model), data.file("known.jsonl"), settings=_ASKING, progress=progress)
        data.write_rows(said, found.predictions)
    scores = score_predictions(data.read_records(said, Prediction), pairs)
    return sum(score.contains for score in scores) / len(scores)
