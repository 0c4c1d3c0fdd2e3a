"""Sets of documents and questions: a folder of the user, or published files that are found and checked.

    benchmark = load_own_folder(Path("facts"), facts=None, offset=0, versions=5)
    write_benchmark(benchmark, Path("copy"))            # documents.jsonl, qa_pairs.jsonl, paraphrases-*.jsonl
    count_without(benchmark, "reversed")                # 20: none of these documents is told in that order
    folder = find_published("name-description", FILES)

A folder holds

    documents.jsonl      {"id": "orlin", "text": "Mara Voss founded Orlin.", "entity": "Mara Voss"}
    qa_pairs.jsonl       {"document_id": "orlin", "question": "Who founded Orlin?", "answer": "Mara Voss", ..}
    paraphrases.jsonl    {"document_id": "orlin", "text": "...", "order": "same-order"}
    apart.jsonl          as qa_pairs.jsonl, with a `kind`: what is asked besides and reported apart

`entity`, `title`, `apart.jsonl` and the paraphrases are optional; these may also stand in
`paraphrases-same-order.jsonl` and `paraphrases-permuted.jsonl`.

Published files are looked for in `DEMASK_DATA` (default `../shared/data`) first. What is not there and has an
address is fetched once into the cache folder. Either way a file is used only when it has the sha256 that is
on record here, so that figures of two machines are about the same texts.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.request import urlopen

from demask.documents.load import load_documents
from demask.documents.text_files import read_bytes, shown
from demask.environment import cache_folder
from demask.errors import ConfigError, DataError, RunError
from demask.knowledge.files import load_paraphrases, load_qa_pairs
from demask.records import Document, Order, Paraphrase, QAPair
from demask.storage.atomic import write_text
from demask.storage.file_names import APART, DOCUMENTS, PARAPHRASES, QA_PAIRS
from demask.storage.run_folder import as_line
from demask.words import WORD_END, WORD_START

# Key of a document's metadata: the one that its text is about.
ENTITY = "entity"
PARAPHRASE_FILES: Mapping[Order, str] = {
    "same-order": "paraphrases-same-order.jsonl",
    "reversed": "paraphrases-permuted.jsonl",
}
T = TypeVar("T")
DEFAULT_FOLDER = "../shared/data"
# Seconds without a byte, after which a server is taken for dead.
_TIMEOUT = 30


@dataclass(frozen=True)
class Benchmark:
    """Documents, the questions about them, and other wordings for the methods that train on these.

    Attributes:
        name: of the published set, or of the user's folder.
        documents: each with `metadata["entity"]`, the one that its text is about, as the text spells it: the
            answer to backward questions where that name comes first; a user's documents need not have it.
        pairs: the questions about the documents, in their order.
        paraphrases: of the documents, of either order; none for some documents, see `count_without`.
        apart: questions that are asked besides and reported by their `kind`, such as what follows.
    """

    name: str
    documents: tuple[Document, ...]
    pairs: tuple[QAPair, ...]
    paraphrases: tuple[Paraphrase, ...] = ()
    apart: tuple[QAPair, ...] = ()


def count_without(benchmark: Benchmark, order: Order) -> int:
    """How many documents have no paraphrase of this order."""
    reworded = {p.document_id for p in benchmark.paraphrases if p.order == order}
    return sum(document.id not in reworded for document in benchmark.documents)


def find_entity(text: str, forms: Sequence[str], place: str) -> str:
    """The first of some forms of a name that stands in a text, at word bounds.

    Raises:
        DataError: none does.
    """
    for form in forms:
        if re.search(rf"{WORD_START}{re.escape(form)}{WORD_END}", text):
            return form
    spelt = " or ".join(map(repr, forms))
    raise DataError(
        f"{place}: entity {spelt} does not stand in the text; spell it as the text does, or leave it out"
    )


def write_benchmark(benchmark: Benchmark, folder: Path) -> None:
    """Write the files that a recipe names as `documents`, `qa` and `paraphrases`.

    A file that holds the same already is not touched, so runs that were made of it stay valid. The file of an
    order without paraphrases is left out.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    _write_changed(folder / DOCUMENTS, map(_as_row, benchmark.documents))
    _write_changed(folder / QA_PAIRS, benchmark.pairs)
    _write_changed(folder / APART, benchmark.apart)
    for order, name in PARAPHRASE_FILES.items():
        _write_changed(folder / name, [p for p in benchmark.paraphrases if p.order == order])


def _as_row(document: Document) -> dict[str, object]:
    row: dict[str, object] = {"id": document.id, "title": document.title, "text": document.text}
    if ENTITY in document.metadata:
        row[ENTITY] = document.metadata[ENTITY]
    return row


def _write_changed(path: Path, records: Iterable[object]) -> None:
    text = "".join(map(as_line, records))
    if not text:
        path.unlink(missing_ok=True)
        return
    with suppress(OSError):
        if path.read_bytes() == text.encode("utf-8"):
            return
    write_text(path, text)


def load_own_folder(folder: Path, *, facts: int | None, offset: int = 0, versions: int = 5) -> Benchmark:
    """Documents of a folder, from number `offset` on, with the questions about them and their paraphrases.

    Args:
        folder: with `documents.jsonl` and `qa_pairs.jsonl`.
        facts: how many documents; None: all that follow.
        offset: how many documents to leave out before.
        versions: paraphrases per document and order, at most.

    Raises:
        ConfigError: there are not so many documents.
        DataError: a file or a line of it is not usable, or nothing is asked about the documents.
    """
    everything = load_documents(folder / DOCUMENTS).documents
    ids = [document.id for document in everything]
    pairs = load_qa_pairs(folder / QA_PAIRS, documents=ids)
    paraphrases = [
        paraphrase
        for name in (PARAPHRASES, *PARAPHRASE_FILES.values())
        if (folder / name).exists()
        for paraphrase in load_paraphrases(folder / name, documents=ids)
    ]
    documents = pick(everything, str(folder), count=facts, offset=offset)
    for document in documents:
        _check_entity(document)
    chosen = {document.id for document in documents}
    asked = tuple(pair for pair in pairs if pair.document_id in chosen)
    if not asked:
        raise DataError(
            f"{folder / QA_PAIRS}: no question about the {len(chosen)} documents from number {offset} on, "
            "expected at least one; add some or choose other documents"
        )
    kept = _first_versions([p for p in paraphrases if p.document_id in chosen], versions)
    known = set(ids) - chosen  # questions about documents that are not taught are left to those that are
    apart = load_qa_pairs(folder / APART, documents=None) if (folder / APART).exists() else []
    return Benchmark(
        folder.name, tuple(documents), asked, kept, tuple(p for p in apart if p.document_id not in known)
    )


def pick(items: Sequence[T], name: str, *, count: int | None, offset: int) -> Sequence[T]:
    """So many items from a number on; None: all that follow.

    Raises:
        ConfigError: there are not so many, or none is asked for.
    """
    wanted = len(items) - offset if count is None else count
    if wanted < 1 or offset < 0 or offset + wanted > len(items):
        raise ConfigError(
            f"{name}: {wanted} facts from number {offset} on, expected some of 0 to {len(items) - 1}; "
            "choose fewer or a smaller offset"
        )
    return items[offset : offset + wanted]


def _check_entity(document: Document) -> None:
    entity = document.metadata.get(ENTITY)
    if entity is None:
        return
    if not isinstance(entity, str) or not entity.strip():
        raise DataError(
            f"{document.source}: entity is {shown(entity)}, expected a name that stands in the text"
        )
    find_entity(document.text, [entity], document.source)


def _first_versions(paraphrases: Sequence[Paraphrase], versions: int) -> tuple[Paraphrase, ...]:
    met: Counter[tuple[str, str]] = Counter()
    kept = []
    for paraphrase in paraphrases:
        key = paraphrase.document_id, paraphrase.order
        met[key] += 1
        if met[key] <= versions:
            kept.append(paraphrase)
    return tuple(kept)


class PublishedFile(NamedTuple):
    """A file of a published set."""

    path: str  # below the folder of published sets
    sha256: str
    origin: str  # whose it is, and of what state, for messages
    address: str = ""  # where it stands byte for byte; empty: a form made for this project, public nowhere


def data_folder() -> Path:
    """Where published sets lie on this machine: `DEMASK_DATA`, or `../shared/data`.

    Raises:
        DataError: nothing is there.
    """
    folder = Path(os.environ.get("DEMASK_DATA") or DEFAULT_FOLDER)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; set DEMASK_DATA to the folder of published sets")
    return folder


def find_published(name: str, files: Sequence[PublishedFile]) -> Path:
    """The folder that holds the files of a set, all with the right sha256; they are fetched when need be.

    Args:
        name: of the set, for messages.
        files: all files of the set.

    Raises:
        DataError: a file is not the published one, or is missing and has no public address.
        RunError: a file cannot be fetched, or not be kept in the cache folder.
    """
    # A folder that the user names must exist; the usual one need not.
    own = data_folder() if os.environ.get("DEMASK_DATA") else Path(DEFAULT_FOLDER)
    if all((own / file.path).exists() for file in files):
        for file in files:
            _refuse_other_content(read_bytes(own / file.path), file, own / file.path, "put back")
        return own
    cache = cache_folder() / "benchmarks"
    for file in files:
        path = cache / file.path
        if path.exists():
            _refuse_other_content(read_bytes(path), file, path, "delete it to fetch")
            continue
        if not file.address:
            raise DataError(
                f"{name}: no file {own / file.path}, and no public address has it ({file.origin}); "
                f"set DEMASK_DATA to a folder that has {file.path}"
            )
        _keep(_fetch(name, file), path)
    return cache


def _fetch(name: str, file: PublishedFile) -> bytes:
    try:
        with urlopen(file.address, timeout=_TIMEOUT) as response:
            content: bytes = response.read()
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise RunError(
            f"{name}: {file.address} cannot be fetched ({reason}); check the network, or set DEMASK_DATA to "
            f"a folder that has {file.path}"
        ) from error
    _refuse_other_content(content, file, file.address, "set DEMASK_DATA to a folder that has")
    return content


def _refuse_other_content(content: bytes, file: PublishedFile, place: object, remedy: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise DataError(
            f"{place}: sha256 is {digest}, expected {file.sha256}; {remedy} the published file "
            f"({file.origin})"
        )


def _keep(content: bytes, path: Path) -> None:
    try:
        write_text(path, content.decode("utf-8"))
    except RunError as error:
        raise RunError(
            f"{path}: cannot be kept there ({error.__cause__}); set DEMASK_CACHE to another folder"
        ) from error
