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
from typing import Literal, NamedTuple

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
            `adapters`: of the base model, or that of an earlier run, and the adapters of the line since.
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
    stack = _find_stack(parent) if parent is not None and not delta.is_dir() else None
    if not delta.is_dir() and stack is None:
        raise RunError(
            f"{run.path}: the model of {parent} is gone or was trained again, and no delta was kept; start "
            "the parent's command again, and next time add --set train.keep_delta=true"
        )
    if out is None and parent is not None and not RunFolder(Path(parent)).has(file_names.CONFIG):
        raise RunError(f"{parent}: is gone; say with --out where its model is to be written")
    if stack is None:
        apply_delta(run.file(file_names.MODEL), delta, place)
        return Undone(str(place), parent, weights, "delta")
    _merge(stack, place)
    try:
        check_weights(place, weights, f"{parent}: {stack.model} with the adapters of its line")
    except RunError:
        shutil.rmtree(place)
        raise
    return Undone(str(place), parent, weights, "adapters")


class _Stack(NamedTuple):
    """A model, and the runs whose adapters were trained on it one after another."""

    model: str
    runs: Sequence[RunFolder]


def _find_stack(parent: str) -> _Stack | None:
    """What makes the model of a run again; None where a run since the last model kept no adapter.

    It begins with the model of the nearest run of the line that is there, with the bits that were trained on,
    or with the base model.
    """
    line: list[RunFolder] = []
    place = parent
    while True:
        run = RunFolder(Path(place))
        if not run.has(file_names.ADAPTER) or not run.has(file_names.CONFIG):
            return None
        line.insert(0, run)
        lineage = read_lineage(run)
        if lineage is None:
            return _Stack(run.read_json(file_names.CONFIG)["model"], line)
        place = lineage.origin.parent
        if _holds(Path(place) / file_names.MODEL, lineage.weights):
            return _Stack(str(Path(place) / file_names.MODEL), line)


def _merge(stack: _Stack, place: Path) -> None:
    """Merge the adapters into the model, one after the other, as the runs did."""
    from peft import PeftModel

    from demask.models.load import load_model
    from demask.training.export import round_weights, save_model

    loaded = load_model(stack.model, device="cpu")
    for run in stack.runs:
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
