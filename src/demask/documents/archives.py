"""Files within ZIP packages (EPUB, ODT), and single files that gzip has compressed, expanded within a limit.

with open_package(Path("book.epub")) as package:
package.names, package.read("META-INF/container.xml")
data = expand_gzip(Path("manual.txt.gz"))
"""

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demask.documents.parsed import one_line
from demask.documents.text_files import open_file
from demask.errors import DataError

# Of all that is read of one file, expanded: pictures are most of a large manual.
MAX_EXPANDED = 256 * 2**20


@dataclass
class Package:
    """An open ZIP file."""

    path: Path
    archive: zipfile.ZipFile
    left: int = MAX_EXPANDED  # bytes that may still be read

    @property
    def names(self) -> list[str]:
        """Of its members."""
        return self.archive.namelist()

    def read(self, name: str) -> bytes:
        """One member, whatever size it declares.

        Raises:
            DataError: there is none of that name, it is damaged, locked, or expands to too much.
        """
        try:
            with self.archive.open(name) as member:
                data = member.read(self.left + 1)
        except KeyError:
            raise DataError(f"{self.path}: has no {name}, so it is damaged; save it again") from None
        except RuntimeError as error:  # what zipfile raises for an encrypted member
            raise DataError(f"{self.path}: locked by a password; save it without one") from error
        self.left -= len(data)
        if self.left < 0:
            raise _too_large(self.path)
        return data


@contextmanager
def open_package(path: Path) -> Iterator[Package]:
    """A ZIP file for reading.

    Raises:
        DataError: it is none, or is damaged.
    """
    with open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield Package(path, archive)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path}: no readable {path.suffix} ({one_line(str(error))}); save it again"
            ) from error


def expand_gzip(path: Path) -> bytes:
    """The file that gzip has compressed.

    Raises:
        DataError: it is none, is damaged, or expands to too much.
    """
    with open_file(path) as file:
        try:
            with gzip.open(file) as expanded:
                data = expanded.read(MAX_EXPANDED + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path}: no readable .gz ({one_line(str(error))}); get it again") from error
    if len(data) > MAX_EXPANDED:
        raise _too_large(path)
    return data


def _too_large(path: Path) -> DataError:
    return DataError(
        f"{path}: expands to more than {MAX_EXPANDED:,} bytes; save it without pictures, or as text"
    )
