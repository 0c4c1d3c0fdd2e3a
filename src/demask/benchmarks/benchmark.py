"""What a set of documents and questions is here, and how a run is given it.

benchmark = load_benchmark("name-description", facts=20)
write_benchmark(benchmark, Path("name-description"))  # documents.jsonl, qa_pairs.jsonl, paraphrases-*.jsonl
count_without(benchmark, "reversed")                  # 20: none of this set is published in that order
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from demask.errors import DataError
from demask.records import Document, Order, Paraphrase, QAPair
from demask.storage.atomic import write_text
from demask.storage.file_names import DOCUMENTS, QA_PAIRS
from demask.storage.run_folder import as_line
from demask.words import WORD_END, WORD_START

# Key of a document's metadata: the one that its text is about.
ENTITY = "entity"
PARAPHRASE_FILES: Mapping[Order, str] = {
    "same-order": "paraphrases-same-order.jsonl",
    "reversed": "paraphrases-permuted.jsonl",
}


@dataclass(frozen=True)
class Benchmark:
    """Documents, the questions about them, and other wordings for the methods that train on these.

    Attributes:
        name: of the published set, or of the user's folder.
        documents: each with `metadata["entity"]`, the one that its text is about, as the text spells it: the
            answer to backward questions where that name comes first; a user's documents need not have it.
        pairs: the questions about the documents, in their order.
        paraphrases: of the documents, of either order; none for some documents, see `count_without`.
    """

    name: str
    documents: tuple[Document, ...]
    pairs: tuple[QAPair, ...]
    paraphrases: tuple[Paraphrase, ...] = ()


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
