"""Data sets of the Hugging Face hub, or of a local folder, read as streams.

    rows = read_dataset(source)  # of hf://OWNER/NAME?config=X&split=train&column=text
    documents = [make_document(row, column) for row in rows]

A NAME that begins with `/` or `.`, or that exists, is a file or folder here. No code of a data set is run.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from demask.documents.blocks import one_line
from demask.documents.csv_files import find_csv_form
from demask.documents.paths import HUB, Source
from demask.documents.rows import Row, make_plain
from demask.documents.text_files import did_you_mean
from demask.errors import DataError, RunError

_KEYS = ("config", "split", "column")
# How `datasets` calls the readers of single files.
_READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}


class DatasetAddress(NamedTuple):
    """What `hf://NAME?config=X&split=train&column=text` says."""

    name: str
    config: str | None = None
    split: str | None = None
    column: str | None = None


def parse_address(address: str) -> DatasetAddress:
    """Take the address of a data set apart.

    Raises:
        DataError: the name is missing, or a key is unknown or given twice.
    """
    name, _, query = address.removeprefix(HUB).partition("?")
    values: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in _KEYS or key in values or not value:
            raise DataError(
                f"{address}: {key!r} is unknown, empty or given twice, expected {', '.join(_KEYS)} once each"
                f"{did_you_mean(key, _KEYS) if key not in _KEYS else ''}"
            )
        values[key] = value
    if not name:
        raise DataError(f"{address}: no name, expected {HUB}OWNER/NAME?split=train&column=text")
    return DatasetAddress(name, **values)


def read_dataset(source: Source) -> Iterator[Row]:
    """The rows of a data set, in order.

    Raises:
        DataError: the data set, its configuration or its split does not exist, or the hub cannot be reached.
        RunError: the library `datasets` is missing.
    """
    try:
        import datasets
    except ImportError as error:
        raise RunError(
            f"{source.path}: reading it needs datasets: pip install 'demask[documents]'"
        ) from error
    # Its warnings about tries that failed; the last failure is an error of ours.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    address = parse_address(source.path)
    failures = (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError, TypeError, KeyError)
    number = 0
    try:
        for number, values in enumerate(_open(source.path, address), start=1):
            plain = {str(key): make_plain(value) for key, value in values.items()}
            yield Row(f"{source.path} row {number}", f"{source.name}-{number}", plain)
    except DataError:
        raise
    except failures as error:
        raise DataError(
            f"{source.path}{f' after row {number}' if number else ''}: {_explain(error)}"
        ) from error


def _open(place: str, address: DatasetAddress) -> Any:
    """The rows of one split, as a stream."""
    import datasets

    path = Path(address.name)
    if path.is_file():
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            raise DataError(f"{place}: a file of unknown kind, expected one of {', '.join(_READERS)}")
        form = find_csv_form(path) if reader == "csv" else None
        options = {"sep": form.delimiter, "skiprows": form.first - 1} if form else {}
        splits = datasets.load_dataset(reader, data_files=str(path), streaming=True, **options)
    elif address.name.startswith(("/", ".")) and not path.exists():
        raise DataError(f"{place}: no such file or folder here; check the path")
    else:
        splits = datasets.load_dataset(address.name, address.config, streaming=True)
    return _choose_split(place, address, splits)


def _choose_split(place: str, address: DatasetAddress, splits: Mapping[str, Any]) -> Any:
    if address.split is None and len(splits) == 1:
        return next(iter(splits.values()))
    if address.split is None or address.split not in splits:
        wanted = "no split is named" if address.split is None else f"no split {address.split!r}"
        raise DataError(
            f"{place}: {wanted}, splits are {', '.join(map(repr, splits))}; add or mend split=..."
            f"{did_you_mean(address.split or '', splits)}"
        )
    return splits[address.split]


def _explain(error: BaseException) -> str:
    """One line of what `datasets` or the hub say, with what to do."""
    names = {kind.__name__ for kind in type(error).__mro__}
    reason = one_line(str(error))[:300]
    if names & {
        "ConnectionError",
        "OfflineModeIsEnabled",
        "ConnectTimeout",
        "TransportError",
        "TimeoutError",
    }:
        return f"the hub cannot be reached ({reason}); check the network, or give a local folder as name"
    return f"cannot be read ({type(error).__name__}: {reason}); check name, config and split"
