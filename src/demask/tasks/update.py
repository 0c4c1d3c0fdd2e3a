"""A run goes on: the model of a finished run learns new documents, or forgets some; the run stays as it is.

    done = update("runs/january", News(["news/"]), out="runs/february", progress=Silent())
    done = forget("runs/february", ["prices"], out="runs/march", progress=Silent())

An update is an ordinary run with another starting model and with passages of the parent beside the new ones.
It has the parent's recipe. The base model stays that of the first run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demask.errors import ConfigError
from demask.progress import Progress
from demask.recipe.file import apply_overrides
from demask.recipe.launch import Launch, split_launch
from demask.recipe.sections import RunConfig, make_stored_config
from demask.stages.lineage import Origin
from demask.storage import file_names
from demask.storage.run_folder import RunFolder, open_finished_run
from demask.tasks.inject import Injected, run_recipe

if TYPE_CHECKING:
    from demask.tasks.planning import Plan

# What an update cannot have otherwise than its parent.
_FIXED = ("model", "documents", "qa")
# Of the rate that documents are learned with. At equal length and weight a quarter cost the others less than
# all of it in each pair that was tried, and a tenth as much as a quarter (docs/updates.md).
_RATE_OF_FORGETTING = 0.25


@dataclass(frozen=True)
class News:
    """What an update learns.

    Attributes:
        documents: files, folders, patterns and data sets.
        qa: JSON Lines file of questions about them; None: they are made; `no`: nothing is asked.
        replaces: ids of documents of the runs before that they stand in for.
        old_texts: documents of the runs before are replayed as they stand, else what the parent's model says.
    """

    documents: Sequence[str]
    qa: str | None = None
    replaces: Sequence[str] = ()
    old_texts: bool = True


def update(
    folder: str | Path,
    news: News,
    *,
    out: str | Path,
    overrides: Sequence[str] = (),
    progress: Progress,
) -> Injected:
    """Teach the model of a finished run new documents, in a run folder of its own.

    Args:
        folder: of the finished run, which is only read.
        news: what is learned.
        out: the new run folder; an update that was killed there goes on.
        overrides: keys of the recipe that differ from the parent's, as `train.steps=200`.
        progress: told how far the work is.

    Raises:
        DemaskError: something is wrong with the parent, the documents or the recipe; one line says what.
    """
    run = open_finished_run(folder)
    config, launch, origin = _read_update(run, news, overrides)
    check_place(run, out)
    return run_recipe(config, out, progress=progress, launch=launch, origin=origin)


def plan_update(
    folder: str | Path, news: News, *, overrides: Sequence[str] = (), progress: Progress
) -> "Plan":
    """What an update would train and cost, before it starts.

    Args:
        folder: of the finished run, which is only read.
        news: what would be learned.
        overrides: keys of the recipe that differ from the parent's.
        progress: told how far the work is.

    Raises:
        DemaskError: what would stop the update stops this, too.
    """
    from demask.tasks.planning import make_plan

    config, launch, origin = _read_update(open_finished_run(folder), news, overrides)
    return make_plan(config, launch=launch, origin=origin, progress=progress)


def _read_update(run: RunFolder, news: News, overrides: Sequence[str]) -> tuple[RunConfig, Launch, Origin]:
    # Headings that were chosen are those of the parent's documents.
    values = {"documents": list(news.documents), "qa": news.qa, "only": []}
    config, launch = read_child_config(run, values, overrides)
    origin = Origin(str(run.path.resolve()), tuple(news.replaces), old_texts=news.old_texts)
    return config, launch, origin


def forget(
    folder: str | Path,
    documents: Sequence[str],
    *,
    out: str | Path,
    overrides: Sequence[str] = (),
    progress: Progress,
) -> Injected:
    """Train a finished run's model back to what the base model says of documents, in a folder of its own.

    Args:
        folder: of the finished run, which is only read.
        documents: their ids.
        out: the new run folder; what was killed there goes on.
        overrides: keys of the recipe that differ from the parent's, as `train.steps=200`.
        progress: told how far the work is.

    Raises:
        DemaskError: something is wrong with the parent, the ids or the recipe; one line says what.
    """
    run = open_finished_run(folder)
    holding = run.read_rows(file_names.DOCUMENTS)
    if {row["id"] for row in holding} <= set(documents):
        raise ConfigError(
            f"{folder}: has no other documents, so forgetting leaves the base model; use that one, "
            f"{run.read_json(file_names.CONFIG)['model']}"
        )
    values = {"paraphrases": 0}
    config, launch = read_child_config(run, values, overrides)
    parent = check_place(run, out)
    config = _choose_rate(_choose_length(config, run, documents), run, documents, overrides)
    origin = Origin(parent, forgets=tuple(dict.fromkeys(documents)))
    return run_recipe(config, out, progress=progress, launch=launch, origin=origin)


def _choose_length(config: RunConfig, run: RunFolder, documents: Sequence[str]) -> RunConfig:
    """As many steps as learning them took, where the recipe has none; the other passages do not count."""
    train = config.train
    if train.steps is not None:
        return config
    from demask.training.plan import make_schedule

    passages = [row for row in run.iter_rows(file_names.PASSAGES) if row["document_id"] in documents]
    together = config.objective.together
    schedule = make_schedule(train, passages=max(len(passages), 1), copies=together, length=config.length)
    chosen = train.model_copy(update={"steps": schedule.steps, "epochs": None, "stop": None})
    return config.model_copy(update={"train": chosen})


def _choose_rate(
    config: RunConfig, run: RunFolder, documents: Sequence[str], overrides: Sequence[str]
) -> RunConfig:
    """A share of the rate that the parent was trained with, where no other is given now."""
    if "learning_rate" in apply_overrides({}, list(overrides)).get("train", {}):
        return config
    from demask.models.load import count_parameters
    from demask.training.plan import choose_learning_rate, make_schedule

    others = [row for row in run.iter_rows(file_names.PASSAGES) if row["document_id"] not in documents]
    together = config.objective.together
    schedule = make_schedule(
        config.train, passages=max(len(others), 1), copies=together, length=config.length
    )
    rate = choose_learning_rate(
        config.train,
        parameters=count_parameters(config.model),
        batch_size=schedule.batch_size,
        rate_share=config.rate_share,
    )
    chosen = config.train.model_copy(update={"learning_rate": _RATE_OF_FORGETTING * rate})
    return config.model_copy(update={"train": chosen})


def check_place(run: RunFolder, out: str | Path) -> str:
    """The parent's folder, which a new run must not be written to.

    Raises:
        ConfigError: it would be.
    """
    if Path(out).resolve() == run.path.resolve():
        raise ConfigError(f"{out}: the finished run itself, which stays as it is; choose another --out")
    return str(run.path.resolve())


def read_child_config(
    run: RunFolder, values: Mapping[str, Any], overrides: Sequence[str]
) -> tuple[RunConfig, Launch]:
    """The parent's recipe with other values, and the section `launch` of what was given.

    Args:
        run: the parent.
        values: what differs.
        overrides: what was given besides, as `train.steps=200`.

    Raises:
        ConfigError: a value is not what was expected, or must not differ.
    """
    source = f"{run.path}/{file_names.CONFIG}"
    stored = make_stored_config(run.read_json(file_names.CONFIG), source=source).model_dump(mode="json")
    if isinstance(stored["paraphrases"], str):  # of the parent's documents
        stored["paraphrases"] = 0
    given = apply_overrides({}, list(overrides))
    for key in _FIXED:
        if key in given:
            hint = "an update goes on from the parent's" if key == "model" else f"give --{key}"
            raise ConfigError(f"--set {key}: not to be changed so; {hint}")
    merged, launch = split_launch(apply_overrides({**stored, **values}, list(overrides)), source="update")
    length = set(given.get("train", {})) & {"steps", "epochs"}
    if len(length) == 1:  # the parent's is not meant then
        merged["train"] = {**merged["train"], **dict.fromkeys({"steps", "epochs"} - length)}
    return make_stored_config(merged, source="update"), launch
