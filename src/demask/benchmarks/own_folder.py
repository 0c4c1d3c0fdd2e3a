"""A user's own set: a folder of the form that `write_benchmark` writes.

    benchmark = load_own_folder(Path("facts"), facts=None, offset=0, versions=5)

    documents.jsonl      {"id": "orlin", "text": "Mara Voss founded Orlin.", "entity": "Mara Voss"}
    qa_pairs.jsonl       {"document_id": "orlin", "question": "Who founded Orlin?", "answer": "Mara Voss", ..}
    paraphrases.jsonl    {"document_id": "orlin", "text": "...", "order": "same-order"}

`entity`, `title` and the paraphrases are optional; these may also stand in `paraphrases-same-order.jsonl` and
`paraphrases-permuted.jsonl`.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from demask.benchmarks.benchmark import ENTITY, PARAPHRASE_FILES, Benchmark, find_entity
from demask.documents.load import load_documents
from demask.documents.text_files import shown
from demask.errors import ConfigError, DataError
from demask.knowledge.files import load_paraphrases, load_qa_pairs
from demask.records import Document, Paraphrase
from demask.storage.file_names import DOCUMENTS, PARAPHRASES, QA_PAIRS

T = TypeVar("T")


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
    return Benchmark(folder.name, tuple(documents), asked, kept)


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
