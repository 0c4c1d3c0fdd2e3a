"""What is read of documents, before anything is trained: data read, data passages."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from demask.commands.app import Json, Only, print_json, show_progress
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
    from demask.progress import Progress
    from demask.recipe.sections import RunConfig
    from demask.records import Document

MOST_NAMED = 20  # parts that are left out; all stand in the output of --json


@data.command()
def read(
    documents: Sources,
    out: Out,
    text_column: TextColumn = "text",
    keep_going: KeepGoing = False,
    duplicates: Duplicates = "keep-first",
    only: Only = None,
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
        only=only or (),
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


@data.command()
def passages(
    documents: Sources,
    out: Out,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Whose tokens are counted, and whose context they must fit.")
    ] = "embedded",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of a passage; as in a recipe.")] = None,
    text_column: TextColumn = "text",
    keep_going: KeepGoing = False,
    only: Only = None,
    as_json: Json = False,
) -> None:
    """The passages that documents are split into, as JSON Lines, with their sections and tokens.

    These are what a model learns; its weights are not read.
    """
    from demask.recipe.sections import make_config

    refuse_existing(out)
    given: dict[str, Any] = {"model": model, "documents": documents, "text_column": text_column}
    given |= {"max_tokens": max_tokens, "keep_going": keep_going, "only": only or []}
    config = make_config(given)
    counts = {"documents": 0, "passages": 0, "tokens": 0, "longest": 0}
    with show_progress() as progress:
        write_rows(out, _split(config, counts, progress))
    if as_json:
        print_json({**counts, "out": str(out)})
        return
    print(
        f"{counts['passages']} passages of {counts['documents']} documents, {counts['tokens']:,} tokens, the "
        f"longest {counts['longest']}; {out}"
    )


def _split(config: "RunConfig", counts: dict[str, int], progress: "Progress") -> Iterator[dict[str, object]]:
    """One object a passage."""
    from dataclasses import asdict

    from demask.documents.load import DocumentReader
    from demask.models.context import load_context
    from demask.objectives.prompts import count_tokens
    from demask.stages.passages import split_documents

    context = load_context(config.model, config.objective)
    reader = DocumentReader(
        config.documents, text_column=config.text_column, keep_going=config.keep_going, only=config.only
    )

    def counted() -> Iterator["Document"]:
        for document in reader:
            counts["documents"] += 1
            yield document

    for passage in split_documents(config, counted(), context, progress):
        (tokens,) = count_tokens(context.tokenizer, [passage.training_text])
        counts["passages"] += 1
        counts["tokens"] += tokens
        counts["longest"] = max(counts["longest"], tokens)
        yield {**asdict(passage), "tokens": tokens}
