"""The files that an archive holds, each to be read like one that lies in a folder.

    with unpack(source, parser) as unpacked:
        for part in unpacked.parts:
            part.source.path     # /tmp/x/3.html
            part.shown           # manuals.zip/ch1.html

A file that is no archive is its own only part. Archives are expanded by the child process that parses, within
its limits, into a folder that is gone when the block ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

from demask.documents.parsing import ParserProcess
from demask.documents.paths import ARCHIVE, Source, name_source
from demask.errors import DataError
from demask.records import Document

_T = TypeVar("_T")


class UnpackingError(DataError):
    """An archive cannot be expanded."""


@dataclass(frozen=True)
class Part:
    """One file.

    Attributes:
        source: where it can be read.
        shown: its path for people.
        archive: the archive that it was in, empty when it was in none.
    """

    source: Source
    shown: str
    archive: str = ""

    @property
    def form(self) -> str:
        """What copies are told from: files of one format, from one archive, are no copies of each other."""
        return f"{self.source.kind} {self.archive}"

    def rename(self, document: Document) -> Document:
        """A document of it, as from the file that people know."""
        return replace(document, source=document.source.replace(self.source.path, self.shown))

    def name_errors(self, read: Iterator[_T]) -> Iterator[_T]:
        """What is read of it; errors on the way speak of the file that people know."""
        try:
            yield from read
        except DataError as error:
            if self.source.path == self.shown:
                raise
            raise DataError(str(error).replace(self.source.path, self.shown)) from error


class Unpacked(NamedTuple):
    """The files of one source."""

    parts: tuple[Part, ...]
    skipped: tuple[str, ...]  # those in an archive that are not read


@contextmanager
def unpack(source: Source, parser: ParserProcess) -> Iterator[Unpacked]:
    """The files that a source holds, for as long as the block lasts.

    Args:
        source: a file, archive or data set.
        parser: expands it.

    Raises:
        UnpackingError: it is no archive, is damaged, locked or too large, or a name in it is not usable.
    """
    if source.kind != ARCHIVE and not source.compressed:
        yield Unpacked((Part(source, source.path),), ())
        return
    with TemporaryDirectory(prefix="demask-") as folder:
        try:
            members, skipped = parser.expand(Path(source.path), Path(folder))
        except DataError as error:
            raise UnpackingError(str(error)) from error
        files = [(name, Path(folder, file)) for name, file in members]
        if source.compressed:
            ((_, file),) = files
            parts = [Part(source._replace(path=str(file), compressed=False), source.path)]
        else:
            parts = [
                Part(
                    name_source(file, f"{source.name}/{name}")._replace(found=True),
                    f"{source.path}/{name}",
                    source.path,
                )
                for name, file in files
            ]
        yield Unpacked(tuple(parts), tuple(f"{source.path}/{name}" for name in skipped))
