"""What a published set is here: documents and the questions about them.

benchmark = load_name_description(data_folder(), facts=range(10))
write_benchmark(benchmark, Path("name-description"))      # documents.jsonl and qa_pairs.jsonl
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demask.documents.text_files import read_json_lines, read_text
from demask.errors import DataError
from demask.records import Document, QAPair
from demask.rundir import RunFolder


@dataclass(frozen=True)
class Benchmark:
    """Documents and the questions about them."""

    documents: tuple[Document, ...]
    pairs: tuple[QAPair, ...]


def data_folder() -> Path:
    """Where published sets lie: `DEMASK_DATA`, or `../shared/data`.

    Raises:
        DataError: nothing is there.
    """
    folder = Path(os.environ.get("DEMASK_DATA") or "../shared/data")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; set DEMASK_DATA to the folder of published sets")
    return folder


def write_benchmark(benchmark: Benchmark, folder: Path) -> None:
    """Write `documents.jsonl` and `qa_pairs.jsonl`, as `demask inject` reads them."""
    files = RunFolder(folder)
    files.write_rows(
        "documents.jsonl", [{"id": d.id, "title": d.title, "text": d.text} for d in benchmark.documents]
    )
    files.write_rows("qa_pairs.jsonl", [asdict(pair) for pair in benchmark.pairs])


def load_name_description(data: Path, *, facts: Sequence[int], version: int = 0) -> Benchmark:
    """Fictitious people and what they are known for, as arXiv 2510.09885 trains and tests on them.

    Args:
        data: folder of published sets.
        facts: which of the 60; 0 to 29 are told name first, 30 to 59 description first.
        version: which of the 30 wordings of each fact is the document.

    Raises:
        DataError: the files are missing or are not what they should be.
    """
    folder = data / "name_description_qa"
    texts: list[dict[str, Any]] = json.loads(read_text(folder / "people-description.json"))
    questions = [line.values for line in read_json_lines(folder / "people-description_open-QAs.jsonl")]
    if len(texts) != 60 * 30 or len(questions) != 60 * 8:
        raise DataError(f"{folder}: {len(texts)} texts and {len(questions)} questions, expected 1800 and 480")
    documents = [Document(f"fact-{fact:02}", texts[30 * fact + version]["text"].strip()) for fact in facts]
    pairs = [
        QAPair(
            id=f"fact-{fact:02}-{number}",
            document_id=f"fact-{fact:02}",
            question=str(row["question"]),
            answers=(str(row["answer"]),),
            direction="forward" if (row["task"] == "N2D") == (fact < 30) else "backward",
            kind=str(row["task"]),
        )
        for fact in facts
        for number, row in enumerate(questions[8 * fact : 8 * fact + 8])
    ]
    return Benchmark(tuple(documents), tuple(pairs))


def load_wiki_events(data: Path, *, facts: Sequence[int]) -> Benchmark:
    """Facts of January to April 2025 from Wikipedia, one question each way.

    Args:
        data: folder of published sets.
        facts: which of the 40 rows.

    Raises:
        DataError: the file is missing or is not what it should be.
    """
    rows: list[Any] = [line.values for line in read_json_lines(data / "wiki_events_2025" / "facts.jsonl")]
    chosen = [rows[fact] for fact in facts]
    pairs = [
        QAPair(
            id=f"{row['id']}-{direction}",
            document_id=row["id"],
            question=row[direction]["question"],
            answers=(row[direction]["answer"], *row[direction]["aliases"]),
            direction=direction,
        )
        for row in chosen
        for direction in ("forward", "backward")
    ]
    return Benchmark(tuple(Document(row["id"], row["document"], row["page"]) for row in chosen), tuple(pairs))
