"""Sets of documents: what was dropped or found in the folder, what was read of it, and the questions on it.

    sets = DocumentSets(workspace, jobs)
    sets.receive("manuals", "guide.pdf", chunks, most=200_000_000)
    sets.read("manuals")                 # a job: `demask data read documents/manuals ...`
    sets.save_question("manuals", {...})

What a person corrects are files that the command line takes: `documents/NAME/`, `questions/NAME.jsonl`.
"""

import json
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from demask.documents.paths import SUFFIXES, suggest
from demask.errors import ConfigError, DataError, RunError
from demask.knowledge.files import load_qa_pairs
from demask.records import Document, QAPair
from demask.storage.atomic import unwritable, write_lines, write_text
from demask.storage.run_folder import as_line, make_record
from demask.ui.folders import DOCUMENTS, HIDDEN, QUESTIONS, Workspace, check_name, sane_name
from demask.ui.jobs import Job, Jobs

# Files of one set, and documents and passages that a page shows of it.
MOST_FILES, MOST_SHOWN = 5_000, 200
# Characters of a document that a page shows.
SHOWN_TEXT = 20_000
_STRUCK = "struck out"


@dataclass(frozen=True)
class SetFile:
    """A file of a set."""

    name: str
    bytes: int


@dataclass(frozen=True)
class DocumentSet:
    """Documents under one name.

    Attributes:
        name: of the set.
        place: of their folder in the workspace.
        dropped: the page holds them, and may remove them; else somebody has put them there.
        files: that are read, by name.
        others: names of files that are not read.
    """

    name: str
    place: str
    dropped: bool
    files: Sequence[SetFile]
    others: Sequence[str]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)


class DocumentSets:
    """All sets of a workspace.

    Args:
        workspace: that they lie in.
        jobs: that read them.
    """

    def __init__(self, workspace: Workspace, jobs: Jobs) -> None:
        self._workspace, self._jobs = workspace, jobs
        self._lock = threading.RLock()

    def find_all(self) -> list[DocumentSet]:
        """All sets by name: what was dropped, and what was chosen of the folders that were found."""
        names = set()
        with suppress(OSError):
            names |= {
                one.name
                for one in os.scandir(self._workspace.inner(DOCUMENTS))
                if one.is_dir(follow_symlinks=False) and not one.name.startswith(".")
            }
        with suppress(OSError):
            names |= {Path(one.name).stem for one in os.scandir(self._workspace.inner(HIDDEN, "sets"))}
        return [found for name in sorted(names) if (found := self.find(name)) is not None]

    def sweep(self) -> None:
        """Remove parts of files that a server was killed over."""
        for part in self._workspace.inner(DOCUMENTS).glob("*/.part-*"):
            part.unlink(missing_ok=True)

    def find(self, name: str) -> DocumentSet | None:
        """One of them; None: there is none."""
        with suppress(ConfigError):
            name = check_name(name, "name")
            chosen = self._workspace.read_json(HIDDEN, "sets", f"{name}.json")
            place = (
                str(chosen["place"])
                if isinstance(chosen, dict) and "place" in chosen
                else f"{DOCUMENTS}/{name}"
            )
            files, others = self._files(place)
            if chosen is not None or self._workspace.inner(place).is_dir():
                return DocumentSet(name, place, chosen is None, files, others)
        return None

    def find_folders(self) -> list[str]:
        """Folders in the workspace with documents that are no set yet."""
        known = {one.place for one in self.find_all()}
        return [place for place in self._workspace.find_document_folders() if place not in known]

    def choose(self, place: str) -> str:
        """Make a set of a folder that was found; returns its name.

        Raises:
            ConfigError: it is none of them.
        """
        if place not in self.find_folders():
            raise ConfigError(f"{place}: no folder of documents here; copy it into {self._workspace.path}")
        name = PurePosixPath(place).name
        taken = {one.name for one in self.find_all()}
        while name in taken:
            name += "-2"
        write_text(self._workspace.inner(HIDDEN, "sets", f"{name}.json"), json.dumps({"place": place}) + "\n")
        return name

    def make(self, given: object) -> str:
        """A new set without files; returns its name.

        Raises:
            ConfigError: it is no name, or taken.
        """
        name = check_name(given, "name")
        if self.find(name) is not None:
            raise ConfigError(f"{name}: there are documents of this name already; choose another one")
        try:
            self._workspace.inner(DOCUMENTS, name).mkdir(parents=True)
        except OSError as error:
            raise unwritable(self._workspace.inner(DOCUMENTS, name), error) from error
        return name

    async def receive(self, name: str, given: str, parts: AsyncIterator[bytes], *, most: int) -> str:
        """Keep a file that was dropped; nothing is overwritten, and a part of one never stays.

        Args:
            name: of the set.
            given: what the browser calls the file.
            parts: of its content.
            most: bytes that it may have.

        Returns:
            What it is called here.

        Raises:
            DataError: it is of a kind that is not read, too large, or its name is taken.
            RunError: the disk is full.
        """
        kept = self._own(name)
        file = sane_name(given)
        if not file.lower().endswith(SUFFIXES):
            raise DataError(f"{file}: left out, {suggest(Path(file).suffix)}")
        folder = self._workspace.inner(kept.place)
        if (folder / file).exists() or (folder / file).is_symlink():
            raise DataError(f"{file}: is there already; remove it first, or rename the new one")
        if len(kept.files) >= MOST_FILES:
            raise DataError(
                f"{file}: {name} has {MOST_FILES:,} files, expected no more; name its folder instead"
            )
        handle, part = tempfile.mkstemp(dir=folder, prefix=".part-")
        try:
            await _write_parts(handle, parts, file, most)
            os.chmod(part, 0o644)
            _put(Path(part), folder / file)
        except FileExistsError as error:
            raise DataError(f"{file}: is there already; remove it first, or rename the new one") from error
        except OSError as error:
            raise unwritable(folder / file, error) from error
        finally:
            Path(part).unlink(missing_ok=True)
        return file

    def remove(self, name: str, file: str) -> None:
        """Delete a file that was dropped.

        Raises:
            DataError: there is none, or the page does not own it.
        """
        kept = self._own(name)
        if file not in {*(one.name for one in kept.files), *kept.others}:
            raise DataError(f"{file}: no file of {name}")
        self._workspace.inner(kept.place, file).unlink(missing_ok=True)

    def read(self, name: str) -> Job:
        """Have it read, by `demask data read`; what came since is read after it.

        Raises:
            ConfigError: there is no such set, or it has no files.
        """
        found = self._full(name)
        working = self._jobs.latest("read", name)
        if working is not None and self._jobs.state(working) in ("waiting", "running"):
            return working
        words = ["data", "read", found.place, "--out", "{job}/read.jsonl", "--keep-going", "--json"]
        return self._jobs.add("read", words, about=name, more={"files": self._fingerprint(found)})

    def read_again(self, job: Job) -> None:
        """Where files have changed while a job read them."""
        found = self.find(job.about)
        if found is not None and found.files and self.is_stale(found, job):
            self.read(found.name)

    def ask_for_questions(self, name: str) -> Job:
        """Have questions made, by `demask qa make`; they join those that are there."""
        found = self._full(name)
        words = ["qa", "make", found.place, "--out", "{job}/questions.jsonl", "--keep-going", "--json"]
        return self._jobs.add("questions", words, about=name)

    def audit(self, name: str) -> Job:
        """Have the questions checked, by `demask qa check`."""
        found = self._full(name)
        if not self.questions(name):
            raise ConfigError(
                f"{name}: no questions yet, so none can be checked; write some, or have some made"
            )
        words = ["qa", "check", self.questions_place(name), "--documents", found.place]
        return self._jobs.add(
            "audit", [*words, "--out", "{job}/audit.json", "--keep-going", "--json"], about=name
        )

    def split(self, name: str, model: str) -> Job:
        """Have passages made as a model will learn them, by `demask data passages`."""
        found = self._full(name)
        words = ["data", "passages", found.place, "--model", model, "--out", "{job}/passages.jsonl", "--json"]
        return self._jobs.add("passages", words, about=name, more={"model": model})

    def is_stale(self, found: DocumentSet, job: Job) -> bool:
        """Whether files have come, gone or changed since they were read."""
        return bool(job.more.get("files") != self._fingerprint(found))

    def account(self, job: Job) -> Mapping[str, Any]:
        """What a job that has read documents says of each file."""
        found = self._jobs.read_result(job)
        return found if isinstance(found, dict) else {}

    def documents(self, job: Job, *, most: int = MOST_SHOWN) -> Iterator[Document]:
        """What such a job has read, so many of them."""
        known = {"id", "title", "read_from", "text"}
        for row in self._jobs.read_rows(job, "read.jsonl", most=most):
            more = {key: value for key, value in row.items() if key not in known}
            yield Document(row["id"], row["text"], row["title"], row["read_from"], more)

    def passages(self, job: Job, *, most: int = MOST_SHOWN) -> list[dict[str, Any]]:
        """What a job that has split documents says, so many of them."""
        return list(self._jobs.read_rows(job, "passages.jsonl", most=most))

    def document_ids(self, name: str) -> list[str]:
        """Ids of what was read last; none where that is not known, or they are too many."""
        job = self._jobs.latest("read", name, state="done")
        ids = [one.id for one in self.documents(job, most=MOST_FILES + 1)] if job else []
        return ids if len(ids) <= MOST_FILES else []

    def questions_place(self, name: str) -> str:
        """Where its questions stand."""
        return f"{QUESTIONS}/{name}.jsonl"

    def questions(self, name: str, *, struck: bool = False) -> list[QAPair]:
        """Its questions in their order; or those that were struck out."""
        place = self._struck_place(name) if struck else self.questions_place(name)
        found = []
        with suppress(OSError, ValueError, TypeError):
            for line in self._workspace.read(place).split("\n"):
                if line.strip():
                    found.append(make_record(QAPair, json.loads(line)))
        return found

    def save_question(self, name: str, given: Mapping[str, Any]) -> QAPair:
        """Add a question, or put it in place of the one with its id.

        Args:
            name: of the set.
            given: `question`, `answers`, `direction`, `document_id`; and `id` of one that is there.

        Raises:
            DataError: something about it is not usable.
        """
        with self._lock:
            pairs = self.questions(name)
            taken = {pair.id for pair in (*pairs, *self.questions(name, struck=True))}
            id = given.get("id") or next(
                f"own-{n}" for n in range(1, len(taken) + 2) if f"own-{n}" not in taken
            )
            old = next((pair for pair in pairs if pair.id == id), None)
            new = {
                **(asdict(old) if old else {}),
                "id": id,
                **{key: given.get(key) for key in ("question", "answers", "direction", "document_id")},
            }
            if old and old.question != new["question"]:
                new["reworded"] = ""  # said the same as a question that is gone
            rows = [new if pair is old else asdict(pair) for pair in pairs]
            checked = self._check(rows if old else [*rows, new], self.document_ids(name))
            self._write(name, checked)
            return next(pair for pair in checked if pair.id == id)

    def strike(self, name: str, id: str, *, back: bool = False) -> None:
        """Strike a question out, so that it is not asked, or take that back; it stays in a file beside.

        Raises:
            DataError: there is none with this id.
        """
        with self._lock:
            here, there = self.questions(name, struck=back), self.questions(name, struck=not back)
            moved = next((pair for pair in here if pair.id == id), None)
            if moved is None:
                raise DataError(f"{id}: no such question")
            rest, joined = [pair for pair in here if pair is not moved], [*there, moved]
            kept, struck = (joined, rest) if back else (rest, joined)
            self._write(name, self._check([asdict(p) for p in kept], ()) if kept else [])
            write_lines(self._workspace.inner(self._struck_place(name)), map(as_line, struck))

    def take_questions(self, job: Job) -> int:
        """Add what was made to the questions of a set, but for those that are there or were struck out."""
        with self._lock:
            pairs = self.questions(job.about)
            struck = self.questions(job.about, struck=True)
            known = {(pair.document_id, pair.question) for pair in (*pairs, *struck)}
            ids = {pair.id for pair in (*pairs, *struck)}
            made = []
            for row in self._jobs.read_rows(job, "questions.jsonl"):
                pair = make_record(QAPair, row)
                if (pair.document_id, pair.question) not in known:
                    number = len(ids) + 1
                    id = pair.id if pair.id not in ids else f"{pair.id}-{number}"
                    ids.add(id)
                    made.append(make_record(QAPair, {**asdict(pair), "id": id}))
            self._write(job.about, [*pairs, *made])
            return len(made)

    def _struck_place(self, name: str) -> str:
        return f"{QUESTIONS}/{name} {_STRUCK}.jsonl"

    def _write(self, name: str, pairs: Sequence[QAPair]) -> None:
        write_lines(self._workspace.inner(self.questions_place(name)), map(as_line, pairs))

    def _check(self, rows: Sequence[Mapping[str, Any]], documents: Sequence[str]) -> list[QAPair]:
        """As the command line reads them, so that a run does not stop at them."""
        folder = self._workspace.inner(HIDDEN)
        folder.mkdir(exist_ok=True)
        handle, part = tempfile.mkstemp(dir=folder, suffix=".jsonl")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.writelines(map(as_line, rows))
            return load_qa_pairs(part, documents=documents or None)
        except DataError as error:
            raise DataError(str(error).replace(f"{part} line", "question")) from error
        finally:
            os.unlink(part)

    def _files(self, place: str) -> tuple[list[SetFile], list[str]]:
        """Files in a folder and below, those that are read and the others; hidden ones and links are none."""
        files: list[SetFile] = []
        others: list[str] = []
        top = self._workspace.inner(place)
        for folder, inner, names in os.walk(top):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for path in (Path(folder, name) for name in sorted(names) if not name.startswith(".")):
                if path.is_symlink() or not path.exists() or len(files) >= MOST_FILES:
                    continue
                shown = path.relative_to(top).as_posix()
                if shown.lower().endswith(SUFFIXES):
                    files.append(SetFile(shown, path.stat().st_size))
                else:
                    others.append(shown)
        return files, others

    def _fingerprint(self, found: DocumentSet) -> list[list[Any]]:
        """Names, sizes and times of its files."""
        top = self._workspace.inner(found.place)
        return [[one.name, one.bytes, (top / one.name).stat().st_mtime_ns] for one in found.files]

    def _own(self, name: str) -> DocumentSet:
        found = self.find(name)
        if found is None or not found.dropped:
            raise DataError(f"{name}: no documents of this name that were dropped here")
        return found

    def _full(self, name: str) -> DocumentSet:
        found = self.find(name)
        if found is None or not found.files:
            raise RunError(f"{name}: no documents yet; drop some first")
        return found


def _put(part: Path, place: Path) -> None:
    """Give a file its name, which nothing has yet."""
    try:
        os.link(part, place)  # unlike a rename, it overwrites nothing
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if place.exists():
            raise FileExistsError(str(place)) from None
        part.rename(place)


async def _write_parts(handle: int, parts: AsyncIterator[bytes], file: str, most: int) -> None:
    with os.fdopen(handle, "wb") as out:
        size = 0
        async for block in parts:
            size += len(block)
            if size > most:
                raise DataError(
                    f"{file}: more than {most / 1e6:,.0f} MB; see --max-upload, or copy it into the folder"
                )
            out.write(block)
