"""Files within ZIP packages (EPUB, ODT), and single files that gzip has compressed, expanded within a limit.

with open_package(Path("book.epub")) as package:
package.names, package.read("META-INF/container.xml")
data = expand_gzip(Path("manual.txt.gz"))
expand(Path("manuals.zip"), Path("/tmp/x"))  # each readable file under a number
"""

import gzip
import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from demask.documents.parsed import one_line
from demask.documents.paths import COMPRESSED, is_readable
from demask.documents.text_files import open_file, shown
from demask.errors import DataError

# Of all that is read of one file, expanded: pictures are most of a large manual.
MAX_EXPANDED = 256 * 2**20
# Files of one archive; the largest of Debian's manuals that are many pages has some 800.
MAX_MEMBERS = 20_000
# What the readers of the standard library raise of bytes that are not what they should be.
_DAMAGED = (
    *(zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(NotImplementedError, EOFError, UnicodeDecodeError),
)


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

    def read(self, name: str | zipfile.ZipInfo) -> bytes:
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
        except _DAMAGED as error:
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
        except _DAMAGED as error:
            raise DataError(f"{path}: no readable .gz ({one_line(str(error))}); get it again") from error
    if len(data) > MAX_EXPANDED:
        raise _too_large(path)
    return data


def _too_large(path: Path) -> DataError:
    return DataError(
        f"{path}: expands to more than {MAX_EXPANDED:,} bytes; save it without pictures, or as text"
    )


class Expanded(NamedTuple):
    """What came of one archive."""

    members: list[tuple[str, str]]  # each file that is read: its name in the archive, and in the folder
    skipped: list[str]  # names of the others


def expand(path: Path, folder: Path) -> Expanded:
    """Write the files of an archive that are read into a folder, under numbers and with their suffixes.

    Args:
        path: a .zip, or any file with .gz behind its own suffix.
        folder: an empty one.

    Raises:
        DataError: it is no archive, is damaged, locked, expands to too much, or a name in it is not usable.
    """
    if path.suffix.lower() == COMPRESSED:
        inner = Path(path.stem)
        name = f"0{inner.suffix.lower()}"
        (folder / name).write_bytes(expand_gzip(path))
        return Expanded([(inner.name, name)], [])
    expanded = Expanded([], [])
    with open_package(path) as package:
        for number, (name, info) in enumerate(_name_members(package)):
            if not is_readable(name) or stat.S_ISLNK(info.external_attr >> 16):
                expanded.skipped.append(name)
                continue
            file = f"{number}{Path(name).suffix.lower()}"
            (folder / file).write_bytes(package.read(info))
            expanded.members.append((name, file))
    return expanded


def _name_members(package: Package) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """The files of an archive by their names, sorted; hidden ones are left out, as in folders.

    Raises:
        DataError: there are too many, or a name leads out of the archive or stands twice.
    """
    path = package.path
    members = [info for info in package.archive.infolist() if not info.is_dir()]
    if len(members) > MAX_MEMBERS:
        raise DataError(f"{path}: {len(members):,} files, expected at most {MAX_MEMBERS:,}; unpack it")
    named: dict[str, zipfile.ZipInfo] = {}
    for info in members:
        name = one_line(info.filename.replace("\\", "/"))
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/") or ":" in parts[0]:
            raise DataError(f"{path}: the name {shown(name)} leads out of the archive; pack the files anew")
        if name in named:
            raise DataError(f"{path}: {shown(name)} stands twice in it; pack the files anew")
        if not any(part.startswith(".") for part in parts):
            named[name] = info
    yield from sorted(named.items())
