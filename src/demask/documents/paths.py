"""What the given paths stand for: files, folders, glob patterns, data sets of the hub.

    found = find_sources(["facts/", "manuals/**/*.pdf", "hf://owner/name?split=train"])
    found.sources[0].path, found.sources[0].name
    found.skipped  # files of other kinds, and linked folders

Folders and patterns are read in sorted order. Hidden files and folders (`.git`) are left out unless the
pattern spells their dot.
"""

import glob
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from demask.errors import DataError

# Those in which a file is one document that has the file's name without suffix as id.
TEXT_SUFFIXES = (".txt", ".md")
# Those in which every line or row is a document.
TABLE_SUFFIXES = (".jsonl", ".csv", ".parquet")
# Those that are read where there is pandoc.
PANDOC_SUFFIXES = (".tex", ".org", ".adoc", ".asciidoc")
# Those that are parsed; their documents keep the suffix in the id, as `manual.pdf` and `manual.docx`
# often lie side by side.
PARSED_SUFFIXES = (
    *(".pdf", ".html", ".htm", ".xhtml", ".docx", ".odt", ".rtf", ".epub", ".pptx", ".xlsx"),
    *(".ipynb", ".eml", ".mbox", ".srt", ".vtt", ".rst", *PANDOC_SUFFIXES),
)
# What is not read, and the way to something that is.
_CONVERTED = {
    **dict.fromkeys((".textile", ".wiki"), "convert it with 'pandoc FILE -o FILE.md'"),
    **dict.fromkeys(PANDOC_SUFFIXES, "install pandoc, which reads it, or pip install 'demask[pandoc]'"),
    **dict.fromkeys((".doc", ".ppt", ".xls", ".odp", ".ods"), "save it as .docx, .pptx or .xlsx"),
    **dict.fromkeys(
        (".gz", ".zip", ".tar", ".tgz", ".xz", ".bz2", ".7z"), "unpack it"
    ),  # .gz and .zip: within archives
    **dict.fromkeys((".mhtml", ".mht"), "save the page as .html"),
    "": "if it is text, copy it to a name with .txt",
}
SUFFIXES = (*TEXT_SUFFIXES, *TABLE_SUFFIXES, *PARSED_SUFFIXES)
ARCHIVE = "zip"  # the kind of a file that holds files of all these kinds
COMPRESSED = ".gz"  # behind any of these suffixes: manual.pdf.gz
READABLE = f"{', '.join(SUFFIXES)}, any of them with .gz behind it or in a .{ARCHIVE}"
TABLE_KINDS = (*(suffix.removeprefix(".") for suffix in TABLE_SUFFIXES), "dataset")
HUB = "hf://"


class Source(NamedTuple):
    """One file or one data set."""

    path: str  # as it is shown
    name: str  # ids are made of it: relative to the given folder, with the suffix of parsed files only
    kind: str  # suffix without its dot, lower case, or `dataset`; of a .gz that of the file in it
    compressed: bool = False  # by gzip
    found: bool = False  # in a folder, by a pattern or in an archive, so that nobody has named this very file


class Sources(NamedTuple):
    """All that was found."""

    sources: tuple[Source, ...]
    skipped: tuple[str, ...]


def find_sources(paths: str | Path | Sequence[str | Path]) -> Sources:
    """Find the files that some paths stand for.

    Raises:
        DataError: a path stands for nothing, for a file of unknown kind, or for one that was given before.
    """
    sources: list[Source] = []
    skipped: list[str] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        _find(path, sources, skipped)
    if not sources:
        raise DataError("no documents are given, expected at least one file or folder")
    _refuse_files_given_twice(sources)
    return Sources(tuple(sources), tuple(skipped))


def suggest(suffix: str) -> str:
    """What to do with a kind of file that is not read."""
    way_out = _CONVERTED.get(suffix.lower())
    return f"expected one of {READABLE}" + (f"; {way_out}" if way_out else "")


def _find(given: str | Path, sources: list[Source], skipped: list[str]) -> None:
    """Append what a given path stands for to `sources`, and what is left out to `skipped`."""
    if isinstance(given, str) and given.startswith(HUB):
        sources.append(Source(given, given.removeprefix(HUB).partition("?")[0].strip("/"), "dataset"))
        return
    path = Path(given)
    if path.is_dir():
        _find_in_folder(path, sources, skipped)
    elif os.path.lexists(path):
        if not path.exists():
            raise DataError(f"{path}: a link to nothing or to itself; mend it or leave it out")
        if not _is_usable(path):
            raise DataError(f"{path}: this kind of file is not known, {suggest(path.suffix)}")
        sources.append(_make_source(path, path.parent))
    elif glob.has_magic(str(path)):
        _find_by_pattern(path, sources, skipped)
    else:
        raise DataError(f"{path}: no such file or folder; check the path")


def _find_in_folder(folder: Path, sources: list[Source], skipped: list[str]) -> None:
    problem = f"{folder}: no documents in this folder"
    _take_usable(sorted(_walk(folder)), folder, sources, skipped, problem=problem)


def _find_by_pattern(pattern: Path, sources: list[Source], skipped: list[str]) -> None:
    """Files only: a folder that matches is searched where the pattern says so by `**`."""
    fixed = [part for part in pattern.parts if part]
    magic = next(place for place, part in enumerate(fixed) if glob.has_magic(part))
    matches = sorted(Path(match) for match in glob.iglob(str(pattern), recursive=True))
    files = [match for match in matches if not match.is_dir()]
    problem = f"{pattern}: no file matches this pattern"
    _take_usable(files, Path(*fixed[:magic]), sources, skipped, problem=problem)


def _take_usable(
    files: Sequence[Path], folder: Path, sources: list[Source], skipped: list[str], *, problem: str
) -> None:
    usable = [file for file in files if _is_usable(file)]
    if not usable:
        raise DataError(f"{problem}, expected files in {READABLE}")
    sources += [_make_source(file, folder)._replace(found=True) for file in usable]
    skipped += [str(file) for file in files if not _is_usable(file)]


def _make_source(path: Path, folder: Path) -> Source:
    return name_source(path, path.relative_to(folder).as_posix())


def name_source(path: Path, name: str) -> Source:
    """A file under a name that ids are made of.

    Args:
        path: of the file, whose suffix tells its kind.
        name: relative to the folder or the archive that was given.
    """
    suffix = path.suffix.lower()
    compressed = suffix == COMPRESSED
    if compressed:
        suffix = path.with_suffix("").suffix.lower()
    if suffix in (*TEXT_SUFFIXES, *TABLE_SUFFIXES):
        name = str(PurePosixPath(name.removesuffix(path.suffix) if compressed else name).with_suffix(""))
    return Source(str(path), name, "html" if suffix == ".htm" else suffix.removeprefix("."), compressed)


def is_readable(name: str) -> bool:
    """Whether a file of this name is read, as far as its suffix tells; archives are asked for apart."""
    suffix = Path(name).suffix.lower()
    return suffix in SUFFIXES and (suffix not in PANDOC_SUFFIXES or bool(find_pandocs()))


@cache
def find_pandocs() -> tuple[str, ...]:
    """The pandoc of the system and the one of `demask[pandoc]`, those that are there."""
    found = [shutil.which("pandoc")]
    package = find_spec("pypandoc")
    if package is not None and package.origin is not None:
        found.append(shutil.which(Path(package.origin).parent / "files" / "pandoc"))
    return tuple(str(one) for one in found if one)


def _is_usable(path: Path) -> bool:
    suffix = path.suffix.lower()
    inner = path.with_suffix("") if suffix == COMPRESSED else path
    return (is_readable(inner.name) or suffix == f".{ARCHIVE}") and not path.is_dir()


def _walk(folder: Path) -> Iterator[Path]:
    """The visible files below a folder, and linked folders, which are not entered (they may form loops)."""
    for parent, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked = [name for name in folders if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in [*names, *linked] if not name.startswith("."))


def _refuse_folder(error: OSError) -> None:
    raise DataError(
        f"{error.filename}: the folder cannot be read ({error.strerror}); check its permissions"
    ) from error


def other_names(source: Source) -> Iterator[str]:
    """Names for a file whose own is taken: with its suffix, and with the folder that was given."""
    suffix = f".{source.kind}"
    yield source.name if source.name.endswith(suffix) else f"{source.name}{suffix}"
    above = Path(source.path).absolute().parts[: -len(PurePosixPath(source.name).parts)]
    if len(above) > 1:
        yield f"{above[-1]}/{source.name}"


def _refuse_files_given_twice(sources: Iterable[Source]) -> None:
    seen: dict[str, str] = {}
    for source in sources:
        place = source.path if source.kind == "dataset" else os.path.realpath(source.path)
        if place in seen:
            raise DataError(
                f"{source.path}: given twice (the first time as {seen[place]}); give each file once"
            )
        seen[place] = source.path
