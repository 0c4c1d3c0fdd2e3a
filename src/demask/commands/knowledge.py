"""Questions and paraphrases of documents: qa make, qa check, paraphrase.

Imports stand inside the functions, so that `demask --help` answers before torch could be loaded.
"""

import json
import shlex
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demask.commands.app import App, Json, Only, app, going_on, open_terminal, print_json, show_progress
from demask.errors import ConfigError, DataError
from demask.storage.atomic import write_lines, write_text
from demask.storage.run_folder import as_line

if TYPE_CHECKING:
    from demask.documents.load import Duplicates as DuplicatesKept
    from demask.documents.load import LoadedDocuments
    from demask.documents.parsed import FileReport
    from demask.generation.completion import Estimate, Prices
    from demask.generation.server import Server
    from demask.progress import Progress
    from demask.records import Document, Order, QAPair
    from demask.stages.questions import LocalModel

qa = App(help="Make questions of documents, and check them.", no_args_is_help=True)
app.add_typer(qa, name="qa")

MOST_WARNED = 5  # files that lose much of their text, in the terminal
Sources = Annotated[
    list[str], typer.Argument(metavar="DOCUMENTS", help="Files, folders, patterns or hf:// data sets.")
]
Of = Annotated[
    list[str], typer.Option("--documents", metavar="PATH", help="What is asked about; may be repeated.")
]
TextColumn = Annotated[str, typer.Option(help="Of .jsonl, .csv and .parquet documents.")]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", help="Go on without the files that cannot be read, naming them.")
]
Duplicates = Annotated[
    str,
    typer.Option(metavar="WHICH", help="Of copies in several formats: keep-first or keep-all."),
]
ServerURL = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", help="OpenAI-compatible; else DEMASK_SERVER_URL; else rules make them."
    ),
]
ParaphraserURL = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="OpenAI-compatible; else DEMASK_SERVER_URL.")
]
WriterHere = Annotated[
    str | None,
    typer.Option("--writer", metavar="NAME", help="A model here in place of a server; or rules."),
]
ServerModel = Annotated[
    str | None, typer.Option(metavar="NAME", help="What the server calls the model, if it serves several.")
]
Price = Annotated[
    str | None,
    typer.Option(metavar="IN,OUT", help="Dollars for a million tokens, for the estimate: 0.15,0.60."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost.")]
Out = Annotated[Path, typer.Option(help="The file to write; what is set aside stands beside it.")]


@qa.command()
def make(
    documents: Sources,
    out: Out,
    facts: Annotated[int, typer.Option(min=1, help="Asked for per passage, each both ways round.")] = 2,
    server: ServerURL = None,
    server_model: ServerModel = None,
    writer_here: WriterHere = None,
    price: Price = None,
    dry_run: DryRun = False,
    text_column: TextColumn = "text",
    keep_going: KeepGoing = False,
    duplicates: Duplicates = "keep-first",
    only: Only = None,
    as_json: Json = False,
) -> None:
    """Questions forward and backward, made of documents.

    A language model behind a server writes them, or rules do: English only, who, what, which, where and
    when, and few. Whether a question is forward or backward is decided from the text. What cannot be used
    is set aside with its reasons. A killed command goes on where it was: nothing is paid for twice.
    """
    from demask.knowledge.sufficiency import warn_of_few
    from demask.stages.questions import cut_for_making, make_pairs

    rejects = name_rejects(out)
    refuse_existing(out, rejects)
    writer = _find_writer(server, server_model, writer_here)
    with _keeping_replies(writer), show_progress() as progress:
        loaded = _load(documents, text_column, keep_going, duplicates, progress, only=only)
        made = make_pairs(
            loaded.documents,
            writer=writer,
            facts=facts,
            prices=read_prices(price),
            dry_run=dry_run,
            progress=progress,
        )
        if not dry_run:
            say_contradictions(loaded.documents, made.pairs, progress)
    if dry_run:
        _print_cost(made.estimate, as_json)
        return
    if not made.pairs and writer is None:
        raise DataError(
            "no sentence of these documents gives the rules a clear question; write some by hand, or name "
            "the server of a language model with --server or DEMASK_SERVER_URL"
        )
    write_rows(out, made.pairs)
    write_rows(rejects, made.rejects)
    warning = warn_of_few(len(made.pairs), sum(1 for _ in cut_for_making(loaded.documents)))
    asked_about = {pair.document_id for pair in made.pairs}
    counts = {
        "made_by": made.made_by,
        "forward": sum(pair.direction == "forward" for pair in made.pairs),
        "backward": sum(pair.direction == "backward" for pair in made.pairs),
        "documents": len(loaded.documents),
        "documents_asked_about": len(asked_about),
        "rejected": len(made.rejects),
        "out": str(out),
        "rejects": str(rejects),
        "warning": warning or None,
    }
    if as_json:
        print_json(counts)
        return
    chosen = [word for heading in only or () for word in ("--only", heading)]
    following = shlex.join(["demask", "qa", "check", str(out), "--documents", documents[0], *chosen])
    print(
        f"{len(made.pairs)} questions made ({made.made_by}): {counts['forward']} forward, "
        f"{counts['backward']} backward, on {len(asked_about)} of {len(loaded.documents)} documents; "
        f"{len(made.rejects)} set aside\n"
        f"Questions: {out}\nSet aside: {rejects}\nNext:      {following}"
    )
    if warning:
        print(f"Warning:   {warning}")


@qa.command()
def check(
    questions: Annotated[Path, typer.Argument(metavar="QA", help="JSON Lines file of questions.")],
    documents: Of,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Also ask this base model, without and with the documents."),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Keep what is not flagged; the rest goes to the rejects file.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The audit as JSON; else beside the questions, as qa-audit.json.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="After which an answer is cut short.")] = 64,
    text_column: TextColumn = "text",
    keep_going: KeepGoing = False,
    duplicates: Duplicates = "keep-first",
    only: Only = None,
    as_json: Json = False,
) -> None:
    """What is wrong with questions, and what they leave out.

    Answers that are not in the document, that stand in the question, that can be guessed; questions that
    several documents fit, that repeat another, whose direction is wrong; and, with --model, what the model
    already knows, and what it cannot answer with the document at hand.
    """
    from functools import partial

    from demask.knowledge.audit import audit_as_json, split_flagged
    from demask.knowledge.files import load_qa_pairs
    from demask.recipe.sections import Evaluate
    from demask.stages.questions import check_pairs

    report = out or questions.with_name(f"{questions.stem}-audit.json")
    rejects = name_rejects(questions, "flagged")
    if fix:
        refuse_existing(rejects)
    load = None
    if model is not None:
        from demask.models.load import load_model

        load = partial(load_model, model)
    with show_progress() as progress:
        loaded = _load(documents, text_column, keep_going, duplicates, progress, only=only)
        pairs = load_qa_pairs(questions, documents={document.id for document in loaded.documents})
        audit = check_pairs(
            pairs,
            loaded.documents,
            load=load,
            settings=Evaluate(max_new_tokens=max_new_tokens),
            progress=progress,
        )
        contradictions = say_contradictions(loaded.documents, pairs, progress)
    values = {**audit_as_json(audit), "contradictions": contradictions}
    write_text(report, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    if fix:
        kept, flagged = split_flagged(pairs, audit)
        write_rows(rejects, flagged)
        write_rows(questions, kept)
    if as_json:
        print_json(values)
        return
    from demask.terminal import render_audit

    open_terminal().print(render_audit(audit))
    print(f"Audit:     {report}")
    print(
        f"Kept:      {questions}\nSet aside: {rejects}"
        if fix
        else f"Fix with:  --fix, which drops {values['flagged']}"
    )


@app.command()
def paraphrase(
    documents: Sources,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="Of every passage.")] = 5,
    order: Annotated[
        str, typer.Option(metavar="ORDER", help="same-order, or reversed: later facts come first.")
    ] = "same-order",
    qa: Annotated[
        Path | None, typer.Option("--qa", metavar="FILE", help="Questions whose answers must not get lost.")
    ] = None,
    server: ParaphraserURL = None,
    server_model: ServerModel = None,
    writer_here: WriterHere = None,
    price: Price = None,
    dry_run: DryRun = False,
    text_column: TextColumn = "text",
    keep_going: KeepGoing = False,
    duplicates: Duplicates = "keep-first",
    only: Only = None,
    as_json: Json = False,
) -> None:
    """Other wordings of documents, for methods that need them.

    A language model behind a server writes them. Facts, order and difference are checked. Train on them
    with --set paraphrases=FILE.
    """
    from demask.knowledge.files import load_qa_pairs
    from demask.stages.paraphrases import Wanted, make_paraphrases
    from demask.stages.questions import require_writer

    orders: dict[str, Order] = {"same-order": "same-order", "reversed": "reversed"}
    if order not in orders:
        raise ConfigError(f"--order: {order!r}, expected 'same-order' or 'reversed'")
    rejects = name_rejects(out)
    refuse_existing(out, rejects)
    writer = require_writer(_find_writer(server, server_model, writer_here), "--server, --writer")
    with _keeping_replies(writer), show_progress() as progress:
        loaded = _load(documents, text_column, keep_going, duplicates, progress, only=only)
        ids = {document.id for document in loaded.documents}
        made = make_paraphrases(
            loaded.documents,
            Wanted(count, orders[order]),
            writer=writer,
            pairs=load_qa_pairs(qa, documents=ids) if qa else (),
            prices=read_prices(price),
            dry_run=dry_run,
            progress=progress,
        )
    if dry_run:
        _print_cost(made.estimate, as_json)
        return
    write_rows(out, made.paraphrases)
    write_rows(rejects, [reject._asdict() for reject in made.rejects])
    if as_json:
        print_json({**made.summary.as_json(), "out": str(out), "rejects": str(rejects)})
        return
    from demask.terminal import render_rows

    open_terminal().print(render_rows("Paraphrases", made.summary.rows()))
    print(f"Paraphrases: {out}\nSet aside:   {rejects}")


def _print_cost(estimate: "Estimate | None", as_json: bool) -> None:
    """A language model's cost has been said; rules have none."""
    if as_json:
        print_json(asdict(estimate) if estimate else {"prompts": 0, "dollars": 0.0})
    elif estimate is None:
        print("Nothing is paid: no server is named; rules or a model here make them.")


def _load(
    documents: list[str],
    text_column: str,
    keep_going: bool,
    duplicates: str,
    progress: "Progress",
    *,
    only: Sequence[str] | None = None,
) -> "LoadedDocuments":
    from demask.documents.load import load_documents

    loaded = load_documents(
        documents,
        text_column=text_column,
        keep_going=keep_going,
        duplicates=read_duplicates(duplicates),
        only=only or (),
    )
    say_what_is_missing(loaded.skipped, loaded.reports, progress)
    return loaded


def read_duplicates(name: str) -> "DuplicatesKept":
    """What is done with copies, by its name.

    Raises:
        ConfigError: there is no such thing.
    """
    kinds: tuple[DuplicatesKept, ...] = ("keep-first", "keep-all")
    for kind in kinds:
        if name == kind:
            return kind
    raise ConfigError(f"--duplicates: {name!r}, expected keep-first or keep-all")


def say_what_is_missing(
    skipped: Iterable[str], reports: Sequence["FileReport"], progress: "Progress"
) -> None:
    """Files that are not read, and files of which much is left out."""
    from demask.documents.account import (
        describe_copies,
        describe_guesses,
        describe_large_losses,
        describe_pages_without_text,
        describe_skipped,
    )

    for line in describe_skipped(skipped):
        progress.say(line)
    for line in (
        *describe_guesses(reports),
        *describe_pages_without_text(reports),
        *describe_copies(reports),
    ):
        progress.say(line)
    for report in reports:
        if report.problem:
            progress.say(f"left out: {report.problem}")
    lines = describe_large_losses(reports)
    for line in lines[:MOST_WARNED]:
        progress.say(line)
    if len(lines) > MOST_WARNED:
        progress.say(f"{len(lines) - MOST_WARNED} more files lose much of their text")


def say_contradictions(
    documents: Sequence["Document"], pairs: Sequence["QAPair"], progress: "Progress"
) -> list[str]:
    """A line for each place where documents contradict each other, which are also returned."""
    from demask.knowledge.contradictions import find_contradictions

    found = [
        f"{'contradiction' if one.certain else 'two answers'}: {one.describe()}"
        for one in find_contradictions(documents, pairs)
    ]
    for line in found[:MOST_WARNED]:
        progress.say(line)
    if len(found) > MOST_WARNED:
        progress.say(f"{len(found) - MOST_WARNED} more contradictions")
    return found


def _keeping_replies(writer: "Server | LocalModel | None") -> AbstractContextManager[None]:
    """Where a signal ends the block: replies of a server are kept, what rules have made is not."""
    if writer is None:
        return nullcontext()
    return going_on(None, "the same command goes on; what was answered is kept")


def _find_server(url: str | None, model: str | None) -> "Server | None":
    from demask.generation.server import Server, server_from_environment

    if url is None and model is not None:
        raise ConfigError("--server-model needs a server; give its address with --server")
    return server_from_environment() if url is None else Server(url, model)


def _find_writer(url: str | None, model: str | None, here: str | None) -> "Server | LocalModel | None":
    if here is None:
        return _find_server(url, model)
    from demask.stages.questions import RULES, SELF, LocalModel

    if url is not None or model is not None:
        raise ConfigError("--writer and --server are two writers; leave one of them out")
    if here == SELF:
        raise ConfigError("--writer: 'self' is the model of a run, and there is none here; give its name")
    return None if here == RULES else LocalModel(here)


def name_rejects(out: Path, what: str = "rejects") -> Path:
    """The file beside another one that holds what was set aside."""
    return out.with_name(f"{out.stem}-{what}.jsonl")


def refuse_existing(*files: Path) -> None:
    """Raise ConfigError rather than overwrite."""
    for file in files:
        if file.exists():
            raise ConfigError(f"{file}: stands there already; choose another name or move it away")


def read_prices(text: str | None) -> "Prices | None":
    """`0.15,0.60` as dollars for a million tokens in and out."""
    if text is None:
        return None
    from demask.generation.completion import Prices

    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != 2 or not all(0 <= number < float("inf") for number in numbers):
        raise ConfigError(f"--price: {text!r}, expected two numbers, as 0.15,0.60")
    return Prices(*numbers)


def write_rows(path: Path, records: Iterable[object]) -> None:
    """JSON Lines, written whole."""
    write_lines(path, map(as_line, records))
