"""What is read of documents, before anything is trained: data read."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from demask.commands.app import Json, print_json, show_progress
from demask.commands.knowledge import (
    Duplicates,
    KeepGoing,
    Out,
    Sources,
    TextColumn,
    read_duplicates,
    refuse_existing,
    say_what_is_missing,
    write_rows,
)
from demask.commands.training import data

if TYPE_CHECKING:
    from demask.documents.parsed import FileReport
    from demask.records import Document

MOST_NAMED = 20  # parts that are left out; all stand in the output of --json


@data.command()
def read(
    documents: Sources,
    out: Out,
    text_column: TextColumn = "text",
    keep_going: KeepGoing = False,
    duplicates: Duplicates = "keep-first",
    as_json: Json = False,
) -> None:
    """What is read of documents, as JSON Lines, and what is left out of them.

    Look here first. The file can be corrected and trained on in place of the documents.
    """
    from demask.documents.load import DocumentReader

    refuse_existing(out)
    reader = DocumentReader(
        documents,
        text_column=text_column,
        keep_going=keep_going,
        duplicates=read_duplicates(duplicates),
    )
    counts = {"documents": 0, "sections": 0}
    with show_progress() as progress:
        write_rows(out, _rows(reader, counts))
        if not as_json:
            say_what_is_missing(reader.skipped, reader.reports, progress)
    if as_json:
        print_json(
            {
                **counts,
                "out": str(out),
                "skipped": list(reader.skipped),
                "files": list(_files(reader.reports)),
            }
        )
        return
    _print_account(reader.reports, counts, str(out))


def _rows(documents: "Iterable[Document]", counts: dict[str, int]) -> Iterator[dict[str, object]]:
    """One object a document; its keys are those that are read from a .jsonl file."""
    for document in documents:
        counts["documents"] += 1
        sections = document.metadata.get("sections")
        counts["sections"] += len(sections) if isinstance(sections, list) else 0
        yield {
            **document.metadata,
            "id": document.id,
            "title": document.title,
            "read_from": document.source,
            "text": document.text,
        }


def _files(reports: "Iterable[FileReport]") -> Iterator[dict[str, Any]]:
    from dataclasses import asdict

    for report in reports:
        yield {**asdict(report), "left_out": [asdict(part) for part in report.left_out]}


def _print_account(reports: "Sequence[FileReport]", counts: dict[str, int], out: str) -> None:
    from demask.documents.account import describe_losses

    characters, kept = sum(r.characters for r in reports), sum(r.kept for r in reports)
    share = f"{kept / characters:.1%}" if characters else "0%"
    print(
        f"{counts['documents']} documents, {counts['sections']} sections, {kept:,} characters "
        f"({share} of those in {len(reports)} files); {out}"
    )
    lines = describe_losses(reports)
    for line in lines[:MOST_NAMED]:
        print(line)
    if len(lines) > MOST_NAMED:
        print(f"{len(lines) - MOST_NAMED} more parts of files are left out; --json lists them all")
