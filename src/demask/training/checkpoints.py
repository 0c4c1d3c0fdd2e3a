"""Checkpoints that are whole, or are not gone on from.

    with whole_or_removed(checkpoint):
        write_state(checkpoint, model, optimizer)
        write_manifest(checkpoint, the_end=False, processes=1)
    prune_checkpoints(folder, keep=2)
    checkpoint = find_checkpoint(folder, say=print)
    restore_state(checkpoint, model, optimizer)

What is trained is written whole, with its moments, so that a run may go on alone or on any number of
processes, sharded or not. The last file of a checkpoint is its manifest, which lists the others with their
sizes and SHA-256. One without was cut short by a crash and is removed. One whose files do not agree with it
was damaged or changed: that is reported, and it is put aside, not removed, as its weights may still be
wanted; the folder is removed when training is over.
"""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from demask.errors import RunError
from demask.storage.atomic import flush_to_disk
from demask.training.distributed import is_main_process, rank

STATE = "state.pt"
COMPLETE = "complete"
DAMAGED = ".damaged"


class Stamp(NamedTuple):
    """What a file was when it was listed."""

    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a complete checkpoint says of itself.

    Attributes:
        step: after which it was written.
        the_end: whether training ended there, before its last step.
        processes: how many trained together.
        files: by their names in the checkpoint.
    """

    step: int
    the_end: bool
    processes: int
    files: Mapping[str, Stamp]


def write_state(checkpoint: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write what is trained and its moments; the main process writes, all must call it.

    Args:
        checkpoint: its folder.
        model: unwrapped; may be sharded.
        optimizer: of this model.

    Raises:
        OSError, RuntimeError: it cannot be written.
    """
    state = {}
    for name, weights in _trained(model):
        parts = {"weights": weights.detach(), **optimizer.state.get(weights, {})}
        whole = {part: _gather(value) for part, value in parts.items()}
        if is_main_process():
            state[name] = whole
    if is_main_process():
        torch.save(state, checkpoint / STATE)


@torch.no_grad()
def restore_state(checkpoint: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put back what `write_state` has written; each process takes its part.

    Args:
        checkpoint: its folder.
        model: unwrapped; may be sharded, also in another way than it was.
        optimizer: new, of this model.
    """
    state = torch.load(checkpoint / STATE, map_location="cpu", mmap=True, weights_only=True)
    allocate = _find_allocator(optimizer)
    for name, weights in _trained(model):
        moments = {part: _cut(value, like=weights) for part, value in state[name].items()}
        weights.copy_(moments.pop("weights"))
        if allocate is None:
            optimizer.state[weights] = moments
            continue
        allocate(weights)
        for part, value in moments.items():
            if isinstance(value, torch.Tensor):
                optimizer.state[weights][part].copy_(value)
            else:
                optimizer.state[weights][part] = value


def _find_allocator(optimizer: Any) -> Callable[[torch.nn.Parameter], None] | None:
    """What makes the empty moments of a parameter, where only the optimizer can: bitsandbytes pages them."""
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    if not hasattr(inner, "init_state"):
        return None
    places = {
        weights: (group, weights, first, second)
        for first, group in enumerate(inner.param_groups)
        for second, weights in enumerate(group["params"])
    }
    return lambda weights: inner.init_state(*places[weights])


def _trained(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, weights) for name, weights in model.named_parameters() if weights.requires_grad]


def _gather(value: Any) -> Any:
    """All of a tensor, of which this process may have a part."""
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def _cut(value: Any, *, like: torch.Tensor) -> Any:
    """A copy where some weights are, cut as they are; a count of steps is not cut."""
    if isinstance(like, DTensor) and value.shape == like.shape:
        # Cloned, as a part would keep all of the tensor alive.
        return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None).clone()
    return value.to(like.device, copy=True) if isinstance(value, torch.Tensor) else value


def generator_states() -> dict[str, torch.Tensor]:
    """The states of this process's generators, which dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_generators(states: Mapping[str, torch.Tensor]) -> None:
    """Put back what `generator_states` gave; generators without a state stay as they are."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def write_generators(checkpoint: Path) -> None:
    """Write their states."""
    torch.save(generator_states(), checkpoint / f"generators-{rank()}.pt")


def restore_generators(checkpoint: Path) -> None:
    """Put them back; a process that has written none goes on with the seed."""
    file = checkpoint / f"generators-{rank()}.pt"
    set_generators(torch.load(file, weights_only=True) if file.exists() else {})


def write_manifest(checkpoint: Path, *, the_end: bool, processes: int) -> None:
    """Bring every file to the disk, then say that the checkpoint is whole; the last act of writing it.

    Raises:
        OSError: the disk refuses.
    """
    files = {}
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        flush_to_disk(path)
        files[path.relative_to(checkpoint).as_posix()] = _stamp(path)
    for path in (*(path for path in checkpoint.rglob("*") if path.is_dir()), checkpoint):
        flush_to_disk(path)
    manifest = Manifest(_step(checkpoint), the_end, processes, files)
    written = checkpoint / f".{COMPLETE}"
    written.write_text(json.dumps(asdict(manifest), indent=1) + "\n")
    flush_to_disk(written)
    written.rename(checkpoint / COMPLETE)
    for path in (checkpoint, checkpoint.parent):
        flush_to_disk(path)


def read_manifest(checkpoint: Path) -> Manifest:
    """What a complete checkpoint says of itself.

    Raises:
        ValueError: this is no manifest.
    """
    try:
        values = json.loads((checkpoint / COMPLETE).read_bytes())
        files = {str(name): Stamp(*stamp) for name, stamp in values.pop("files").items()}
        return Manifest(**values, files=files)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{checkpoint / COMPLETE} is no manifest of a checkpoint") from error


def find_fault(checkpoint: Path) -> str:
    """What of a checkpoint does not agree with its manifest, in a few words; empty where all does."""
    try:
        manifest = read_manifest(checkpoint)
    except ValueError:
        return f"{COMPLETE} cannot be read"
    if manifest.step != _step(checkpoint):
        return f"{COMPLETE} is that of step {manifest.step}"
    for name, stamp in manifest.files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != stamp.size:
            return f"{name} has {path.stat().st_size:,} bytes, expected {stamp.size:,}"
    for name, stamp in manifest.files.items():  # the slow part last
        if _stamp(checkpoint / name) != stamp:
            return f"{name} has changed since it was written"
    return ""


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def find_checkpoint(folder: Path, *, say: Callable[[str], None] = _warn) -> Path | None:
    """The newest checkpoint whose files agree with their manifest.

    Reads all of it. Those that a crash cut short are removed, damaged ones put aside. For one process at a
    time: the others of a run ask it.

    Args:
        folder: of all checkpoints; need not be there.
        say: gets a line for every damaged one.
    """
    for path in _checkpoints(folder):
        if not (path / COMPLETE).exists():
            shutil.rmtree(path)
    damaged: list[tuple[Path, str]] = []
    found = None
    for path in reversed(_checkpoints(folder)):
        fault = find_fault(path)
        if not fault:
            found = path
            break
        damaged.append((path, fault))
    then = f"training goes on from step {_step(found)}" if found else "training begins anew"
    for path, fault in damaged:
        aside = path.with_name(path.name + DAMAGED)
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        say(f"{path}: damaged ({fault}); kept aside as {aside.name}, {then}")
    return found


def checkpoint_step(folder: Path, *, processes: int = 1, say: Callable[[str], None] = _warn) -> int:
    """The step after which training goes on; 0 when there is no complete checkpoint.

    Order and masks are functions of the place in the run, whatever the number of processes. Random states
    are kept per process; one that has none begins with the run's seed, which only dropout would notice.

    Args:
        folder: of all checkpoints.
        processes: how many will train.
        say: gets a line for every damaged checkpoint, and one where the number of processes has changed.
    """
    checkpoint = find_checkpoint(folder, say=say)
    if checkpoint is None:
        return 0
    manifest = read_manifest(checkpoint)
    if manifest.processes != processes:
        say(
            f"{checkpoint}: written by {_count(manifest.processes)}, gone on from by {processes}: order and "
            "masks stay the same, sums are added in another order, so weights agree to rounding, not "
            "to the bit"
        )
    return manifest.step


def _count(processes: int) -> str:
    return f"{processes} process{'' if processes == 1 else 'es'}"


def prune_checkpoints(folder: Path, *, keep: int) -> None:
    """Remove all complete checkpoints but the newest; called after one more is complete.

    Args:
        folder: of all checkpoints.
        keep: how many stay, at least 1.
    """
    complete = [path for path in _checkpoints(folder) if (path / COMPLETE).exists()]
    for path in complete[:-keep]:
        # Without its manifest it is no damaged one, should this process be killed meanwhile.
        (path / COMPLETE).unlink()
        shutil.rmtree(path)


@contextmanager
def whole_or_removed(checkpoint: Path) -> Iterator[None]:
    """Remove a checkpoint that cannot be written, which frees its space; those before it stay.

    Raises:
        RunError: it cannot be written.
    """
    try:
        yield
    # On a full disk torch.save raises RuntimeError.
    except (OSError, RuntimeError) as error:
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise RunError(
            f"{checkpoint.parent}: the checkpoint of step {_step(checkpoint)} cannot be written "
            f"({error}); free some space and start the same command again"
        ) from error


def _checkpoints(folder: Path) -> list[Path]:
    """All but those put aside, whole or not, from the oldest step to the newest."""
    numbered = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(numbered, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _stamp(path: Path) -> Stamp:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Stamp(path.stat().st_size, digest)
