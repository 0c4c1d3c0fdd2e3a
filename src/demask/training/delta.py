"""The difference between two models of the same shape, exact: either model gives the other back, to the bit.

    write_delta(before, after, run.file("delta"))           # both as folders of safetensors
    apply_delta(after, run.file("delta"), before_again)     # the files of `before`

Bits are combined by exclusive or, since differences of floating-point numbers are rounded. A tensor that
training left alone takes no place.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from demask.errors import RunError
from demask.models.fingerprints import digest_file
from demask.training.export import save_whole

# As wide as the numbers whose bits are compared.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_PATTERN = "*.safetensors"
# In the metadata of a file of a delta.
_BEFORE = "before"


def digest_weights(folder: Path) -> dict[str, str]:
    """The sha256 of each file of weights, by its name.

    Args:
        folder: of a model, as a run stores it.

    Raises:
        RunError: it has no weights, or they cannot be read.
    """
    try:
        found = {file.name: digest_file(file) for file in sorted(folder.glob(_PATTERN))}
    except OSError as error:
        raise RunError(f"{folder}: its weights cannot be read ({error.strerror})") from error
    if not found:
        raise RunError(f"{folder}: no weights in it, expected {_PATTERN}")
    return found


def write_delta(before: Path, after: Path, folder: Path) -> None:
    """Keep what tells two models apart, and what else the first folder has; appears whole or not at all.

    Args:
        before: of the model before training, stored as `after` is.
        after: of the trained model.
        folder: gets a file for each file of weights.

    Raises:
        RunError: the models have other weights than each other, or the disk is full.
    """
    digests = digest_weights(before)
    if set(digests) != set(digest_weights(after)):
        raise RunError(f"{after}: other files of weights than {before} has, so no delta can be kept")

    def write(place: Path) -> None:
        for name, digest in digests.items():
            # One entry: safetensors writes several in an order of its own.
            found = json.dumps({"sha256": digest, "header": _read_header(before / name)})
            save_file(_difference(before / name, after / name), place / name, metadata={_BEFORE: found})
        _copy_others(before, place, digests)

    save_whole(folder, write)


def _copy_others(source: Path, target: Path, weights: Iterable[str]) -> None:
    """What a model folder has beside its weights: configuration, tokenizer, template."""
    for file in source.iterdir():
        if file.is_file() and file.name not in set(weights):
            shutil.copyfile(file, target / file.name)


def _difference(before: Path, after: Path) -> dict[str, Tensor]:
    """The bits that differ, of each tensor in which any does."""
    found = {}
    with safe_open(before, "pt") as old, safe_open(after, "pt") as new:
        if set(old.keys()) != set(new.keys()):
            raise RunError(f"{after}: other weights than {before} has, so no delta can be kept")
        for name in new.keys():  # noqa: SIM118 - a file of safetensors is no mapping
            left, right = old.get_tensor(name), new.get_tensor(name)
            if (left.shape, left.dtype) != (right.shape, right.dtype):
                raise RunError(f"{after}: {name} has another shape or dtype than in {before}")
            bits = _bits(left) ^ _bits(right)
            if bits.any():
                found[name] = bits
    return found


def _bits(values: Tensor) -> Tensor:
    return values.contiguous().view(_BITS[values.element_size()])


def _read_header(file: Path) -> str:
    """What a file of safetensors says of its tensors: names, dtypes, shapes, places."""
    with file.open("rb") as opened:
        return opened.read(int.from_bytes(opened.read(8), "little")).decode("utf-8")


def read_digests(delta: Path) -> dict[str, str]:
    """The sha256 of each file of weights that a delta leads back to.

    Raises:
        RunError: the delta cannot be read.
    """
    return {file.name: _read_before(file)["sha256"] for file in sorted(delta.glob(_PATTERN))}


def _read_before(file: Path) -> dict[str, str]:
    """The digest and the header of the file that a file of a delta leads back to."""
    try:
        with safe_open(file, "pt") as opened:
            found = json.loads(opened.metadata()[_BEFORE])
        return {name: str(found[name]) for name in ("sha256", "header")}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{file}: cannot be read ({error})") from error


def apply_delta(after: Path, delta: Path, folder: Path) -> None:
    """Write the model before training; the folder appears whole or not at all, and only with its very bits.

    Args:
        after: of the trained model.
        delta: what `write_delta` kept of it.
        folder: appears.

    Raises:
        RunError: trained model and delta do not belong together, one cannot be read, or the disk is full.
    """
    wanted = read_digests(delta)

    def write(place: Path) -> None:
        _copy_others(delta, place, wanted)
        for name in wanted:
            _go_back(after / name, delta / name, place / name)
        check_weights(place, wanted, f"{after}: with its delta")

    save_whole(folder, write)


def check_weights(folder: Path, wanted: Mapping[str, str], what: str) -> None:
    """See that a folder has these very weights.

    Args:
        folder: of a model.
        wanted: the sha256 of each file of weights.
        what: begins the message.

    Raises:
        RunError: it has others.
    """
    if (found := digest_weights(folder)) != dict(wanted):
        other = next((name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)), "")
        raise RunError(
            f"{what} does not give the parent's bits: {other} has sha256 {found.get(other, 'none')}, "
            f"expected {wanted.get(other, 'none')}; was a model folder changed by hand?"
        )


def _go_back(after: Path, delta: Path, before: Path) -> None:
    """Write one file of weights with the header that it had, tensor by tensor."""
    header = _read_before(delta)["header"]
    places = {name: found for name, found in json.loads(header).items() if name != "__metadata__"}
    encoded = header.encode("utf-8")
    with safe_open(after, "pt") as new, safe_open(delta, "pt") as bits, before.open("wb") as file:
        changed = set(bits.keys())
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in sorted(places, key=lambda name: places[name]["data_offsets"]):
            values = _bits(new.get_tensor(name))
            values = values ^ bits.get_tensor(name) if name in changed else values
            file.write(values.numpy().tobytes())
