"""The comparison where everything is controlled: one small world, two kinds of model, five ways to inject.

    results = run_lab(Path("lab"), seeds=(0, 1, 2), sizes=Sizes(), progress=progress)

For each seed a world is drawn and a model of either kind is pre-trained on its known people. Then each
arm injects the new people from their texts, without questions, by an ordinary run of demask, and is
asked about them in both directions. Whatever is finished is not done again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from demask.errors import ConfigError
from demask.evaluation.metrics import score_predictions
from demask.lab.pretraining import ANSWER_TOKENS, pretrain
from demask.lab.results import ArmResult, lab_table, summarise_lab
from demask.lab.settings import Kind, Sizes
from demask.lab.world import World, known_questions, make_world, new_documents, new_questions
from demask.pipeline import evaluate, run_recipe
from demask.progress import Progress
from demask.recipe.sections import PRESETS, make_config
from demask.records import Prediction, QAPair
from demask.reports.tables import to_markdown
from demask.storage import file_names
from demask.storage.atomic import write_text
from demask.storage.run_folder import RunFolder, claim_run_folder, locked_run_folder


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
    # In the words that pre-training has shown.
    "demasking": Arm("autoregressive", {"name": "demasking", **PRESETS["paper"]["objective"]}),
    "diffusion": Arm("diffusion", {"name": "diffusion", "preset": "paper"}),
}
_KNOWN_ASKED = 200
# The diffusion model fills as many tokens as answers have; the other may write on, as long as it wants.
_LONGEST = {"autoregressive": 8, "diffusion": ANSWER_TOKENS}
SIZES, RESULTS, REPORT = "sizes.json", "lab.json", "lab.md"


def run_lab(
    out: Path,
    *,
    seeds: Sequence[int],
    arms: Sequence[str] | None = None,
    sizes: Sizes,
    progress: Progress,
) -> list[ArmResult]:
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
) -> list[ArmResult]:
    claim_run_folder(out, sizes.model_dump(), name=SIZES)
    results = []
    for seed in seeds:
        world = make_world(known=sizes.pretraining.known, new=sizes.pretraining.new, seed=seed)
        for name in names:
            progress.say(f"[{name}, seed {seed}]")
            results.append(_run_arm(out / f"seed-{seed}", name, world, seed, sizes, progress))
    write_text(out / RESULTS, json.dumps(summarise_lab(results), indent=2) + "\n")
    write_text(out / REPORT, f"# The lab\n\n{to_markdown(lab_table(results))}\n")
    return results


def _run_arm(
    folder: Path,
    name: str,
    world: World,
    seed: int,
    sizes: Sizes,
    progress: Progress,
) -> ArmResult:
    arm = ARMS[name]
    model = pretrain(
        arm.kind, world, sizes.pretraining, folder / f"pre-trained-{arm.kind}", seed=seed, progress=progress
    )
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
            "train": sizes.injection.model_dump(),
            "evaluate": _asking(arm.kind),
            "measure": "none",  # the lab asks about its own world what is still known
        },
        source="lab",
    )
    injected = run_recipe(config, folder / name, progress=progress)
    run = injected.run_folder
    known = known_questions(world, _KNOWN_ASKED)
    data.write_rows("known.jsonl", known)
    asks = partial(_ask_known, data, known, _asking(arm.kind), progress)
    before, after = (
        asks(model, f"known-{arm.kind}.jsonl"),
        asks(run / file_names.MODEL, f"known-{name}.jsonl"),
    )
    return ArmResult(name, seed, run, before, after, seconds=injected.summary["seconds"])


def _asking(kind: Kind) -> dict[str, Any]:
    return {
        "max_new_tokens": _LONGEST[kind],
        "batch_size": 200,
        "ceiling": False,
        "denoise": {"block_length": ANSWER_TOKENS},
    }


def _ask_known(
    data: RunFolder,
    pairs: Sequence[QAPair],
    settings: Mapping[str, Any],
    progress: Progress,
    model: Path,
    said: str,
) -> float:
    """Share of questions about known people that a model answers; asked once, then read."""
    if not data.has(said):
        found = evaluate(str(model), data.file("known.jsonl"), settings=settings, progress=progress)
        data.write_rows(said, found.predictions)
    scores = score_predictions(data.read_records(said, Prediction), pairs)
    return sum(score.right for score in scores) / len(scores)
