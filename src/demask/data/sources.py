"""Which files of rows some paths stand for, and what tells one state of them from another.

    tables = find_tables(["data/", "more.json", "hf://owner/name?split=train"])
    tables.sources, tables.skipped
    digests = [fingerprint(source) for source in tables.sources]

As for documents, but only .jsonl, .csv, .parquet and data sets hold rows; a .json file with one object a
line is read as .jsonl.
"""

import glob
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from demask.documents.paths import HUB, TABLE_KINDS, TABLE_SUFFIXES, Source, Sources, find_sources
from demask.documents.tables import Row, list_dataset_files, parse_address, read_rows
from demask.documents.text_files import open_file, refuse_changes
from demask.errors import DataError
from demask.text_encoding import find_encoding


def find_tables(paths: Sequence[str | Path]) -> Sources:
    """Find the files of rows and data sets that some paths stand for; .json files come last.

    Files of other kinds within folders are listed as skipped.

    Raises:
        DataError: a path stands for nothing, is given twice, or is a file that holds no rows.
    """
    ours = [str(path) for path in paths if _is_json(path)]
    others = [path for path in paths if not _is_json(path)]
    found = find_sources(others) if others or not ours else Sources((), ())
    given = set(map(str, others))
    for source in found.sources:
        if not _holds_rows(source) and source.path in given:
            raise DataError(
                f"{source.path}: a {Path(source.path).suffix} file holds no rows, expected one of "
                f"{', '.join((*TABLE_SUFFIXES, '.json'))}"
            )
    tables = [source for source in found.sources if _holds_rows(source)]
    skipped = [source.path for source in found.sources if not _holds_rows(source)]
    tables += [source for path in ours for source in _find_json(path)]
    if not tables:
        raise DataError(f"{', '.join(map(str, paths))}: no rows there, expected {', '.join(TABLE_SUFFIXES)}")
    return Sources(_name_apart(tables), (*found.skipped, *skipped))


def _holds_rows(source: Source) -> bool:
    return source.kind in TABLE_KINDS and not source.compressed


def _is_json(path: str | Path) -> bool:
    return not str(path).startswith(HUB) and str(path).endswith(".json")


def _find_json(path: str) -> Iterator[Source]:
    files = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else [path]
    if not files or not os.path.exists(files[0]):
        raise DataError(f"{path}: no such file; check the path")
    for file in files:
        with open_file(Path(file)) as opened:
            start = opened.read(64)
            encoding = find_encoding(start)
            if start[encoding.mark_bytes :].decode(encoding.name, "replace").lstrip()[:1] == "[":
                raise DataError(
                    f"{file}: one JSON array, expected one object a line; write it as .jsonl, or give it as "
                    f"{HUB}{os.path.abspath(file)}"
                )
        yield Source(file, Path(file).stem, "jsonl")


def _name_apart(sources: Sequence[Source]) -> tuple[Source, ...]:
    """Give each source a name of its own, as samples are named by it."""
    seen: Counter[str] = Counter()
    apart: list[Source] = []
    for source in sources:
        seen[source.name] += 1
        count = seen[source.name]
        apart.append(source if count == 1 else source._replace(name=f"{source.name}~{count}"))
    return tuple(apart)


def read_table(source: Source) -> Iterator[Row]:
    """The rows of a file or a data set, in order, as a stream.

    Raises:
        DataError: it cannot be read, a row is not usable, or there is none.
        RunError: a library for it is missing.
    """
    empty = True
    # Which columns are needed is seen row by row.
    for row in read_rows(source, None):
        empty = False
        yield row
    if empty:
        raise DataError(f"{source.path}: holds no rows; write some or leave it out")


class FileWatch:
    """What the files of some sources hold, and whether they still do.

    Attributes:
        digests: one for each source: the sha256 of a file; for a data set the sha256 of its files here, or
            their addresses on the hub, which hold the commit.
        rows: of all files together, as far as can be told without reading them; for a bar of progress.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._states: dict[Path, os.stat_result] = {}
        self.rows = 0
        self.digests = tuple(self._digest(source) for source in sources)

    def refuse_changes(self) -> None:
        """See whether all files are as they were.

        Raises:
            DataError: one is not.
        """
        for path, before in self._states.items():
            with open_file(path) as file:
                refuse_changes(path, before, os.fstat(file.fileno()))

    def _digest(self, source: Source) -> str:
        if source.kind != "dataset":
            return self._digest_file(Path(source.path))
        address = parse_address(source.path)
        if Path(address.name).is_file():
            return self._digest_file(Path(address.name))
        files = list_dataset_files(source.path, address)
        held = [self._digest_file(Path(file)) if Path(file).is_file() else file for file in files]
        return hashlib.sha256(json.dumps([*address, *held]).encode()).hexdigest()

    def _digest_file(self, path: Path) -> str:
        digest, lines = hashlib.sha256(), 0
        with open_file(path) as file:
            self._states[path] = os.fstat(file.fileno())
            while part := file.read(2**20):
                digest.update(part)
                lines += part.count(b"\n")
        # Bytes of Parquet that look like line feeds count for nothing.
        self.rows += (
            lines if path.suffix.lower() in (".jsonl", ".json", ".csv") else _count_parquet_rows(path)
        )
        return digest.hexdigest()


def _count_parquet_rows(path: Path) -> int:
    if path.suffix.lower() != ".parquet":
        return 1
    try:
        import pyarrow
        from pyarrow import parquet

        with open_file(path) as file:
            return int(parquet.read_metadata(file).num_rows)
    except (ImportError, pyarrow.ArrowException, OSError):  # said when it is read
        return 0
