"""The model before a run, given back to the bit; and the line of runs that one goes on from.

    given = undo("runs/march")                   # where the parent's model is, perhaps made again
    rows = read_history("runs/march")

The parent's own model is looked at first. Where it is gone, what the run has kept leads back to it
(`train.keep_delta`), or the base model with the adapters of the runs before (LoRA). Nothing is called the
parent's that has other bits.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from demask.errors import ConfigError, RunError
from demask.reports.runs import LineRow
from demask.stages.line import read_line
from demask.stages.lineage import read_lineage
from demask.storage import file_names
from demask.storage.run_folder import RunFolder, open_finished_run

How = Literal["kept", "copied", "delta", "adapters"]


@dataclass(frozen=True)
class Undone:
    """A model before a run.

    Attributes:
        model: its folder.
        parent: the run that it is of; None: it is the base model.
        weights: sha256 of each file of weights, as when the run began.
        how: `kept`: it was there; `copied` from there; `delta`: made of the run's model and its delta;
            `adapters`: of the base model and the adapters of the line.
    """

    model: str
    parent: str | None
    weights: Mapping[str, str]
    how: How


def undo(folder: str | Path, *, out: str | Path | None = None) -> Undone:
    """Give the model before a run back, with the very bits that training began with.

    Args:
        folder: of the run, which is only read.
        out: the new model folder. None: the parent's own place, and of a run without parent the run's name
            with `-base` beside it.

    Raises:
        ConfigError: something else stands at the place.
        RunError: the run is not finished, or nothing leads back.
    """
    from demask.training.delta import apply_delta, check_weights, read_digests
    from demask.training.export import copy_model

    run = open_finished_run(folder)
    lineage, delta = read_lineage(run), run.file(file_names.DELTA)
    if lineage is None and not delta.is_dir():
        raise RunError(
            f"{folder}: goes on from no other run, so what is before it is the base model, and no delta was "
            "kept; the base model is had from where it came from"
        )
    weights = read_digests(delta) if lineage is None else dict(lineage.weights)
    parent = None if lineage is None else lineage.origin.parent
    own = None if parent is None else Path(parent) / file_names.MODEL
    place = Path(out) if out is not None else own or run.path.with_name(f"{run.path.resolve().name}-base")
    if _holds(place, weights):
        return Undone(str(place), parent, weights, "kept")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError(
            f"{place}: holds something else than the model before {run.path}; choose another --out"
        )
    if own is not None and _holds(own, weights):
        copy_model(own, place)
        check_weights(place, weights, f"{own}: copied")
        return Undone(str(place), parent, weights, "copied")
    adapters = _find_adapters(parent) if parent is not None and not delta.is_dir() else []
    if not delta.is_dir() and not adapters:
        raise RunError(
            f"{run.path}: the model of {parent} is gone or was trained again, and no delta was kept; start "
            "the parent's command again, and next time add --set train.keep_delta=true"
        )
    if out is None and parent is not None and not RunFolder(Path(parent)).has(file_names.CONFIG):
        raise RunError(f"{parent}: is gone; say with --out where its model is to be written")
    if not adapters:
        apply_delta(run.file(file_names.MODEL), delta, place)
        return Undone(str(place), parent, weights, "delta")
    _stack(adapters, place)
    try:
        check_weights(place, weights, f"{parent}: the base model with the adapters of its line")
    except RunError:
        shutil.rmtree(place)
        raise
    return Undone(str(place), parent, weights, "adapters")


def _find_adapters(parent: str) -> list[RunFolder]:
    """The line of a run, the first one first, where all of it has trained adapters and kept them."""
    line: list[RunFolder] = []
    place: str | None = parent
    while place is not None:
        run = RunFolder(Path(place))
        if not run.has(file_names.ADAPTER) or not run.has(file_names.CONFIG):
            return []
        if run.read_json(file_names.CONFIG)["train"].get("method") != "lora":  # its base was in four bits
            return []
        line.insert(0, run)
        lineage = read_lineage(run)
        place = None if lineage is None else lineage.origin.parent
    return line


def _stack(line: Sequence[RunFolder], place: Path) -> None:
    """Merge the adapters of a line into its base model, one after the other, as its runs did."""
    from peft import PeftModel

    from demask.models.load import load_model
    from demask.training.export import round_weights, save_model

    loaded = load_model(line[0].read_json(file_names.CONFIG)["model"], device="cpu")
    for run in line:
        merged = PeftModel.from_pretrained(loaded.model, run.file(file_names.ADAPTER)).merge_and_unload()
        loaded = replace(loaded, model=merged)
        round_weights(merged, loaded.stored_dtype)
    save_model(loaded, place)


def _holds(place: Path, weights: Mapping[str, str]) -> bool:
    from demask.training.delta import digest_weights

    try:
        return digest_weights(place) == dict(weights)
    except RunError:  # none at all
        return False


def read_history(folder: str | Path) -> list[LineRow]:
    """The line of runs that a finished one goes on from, itself last.

    Raises:
        RunError: it is no finished run.
    """
    return read_line(open_finished_run(folder))
