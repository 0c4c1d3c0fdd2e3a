"""Paraphrases of a run, which are trained with its passages: given in a file, or made.

made = make_paraphrases(documents, Wanted(5), server=server, progress=progress)
paraphrases = paraphrase_stage(config, run, knowledge, pairs, progress)
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from demask.errors import DataError
from demask.generation.completion import describe_usage
from demask.knowledge.paraphrases import (
    Reject,
    Summary,
    make_prompt,
    summarise_paraphrases,
    write_paraphrases,
)
from demask.progress import Progress
from demask.recipe.sections import RunConfig
from demask.records import Document, Order, Paraphrase, QAPair
from demask.stages.documents import Knowledge
from demask.stages.questions import announce_cost, cut_for_making, find_server, open_writer, require_writer
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.generation.completion import Estimate, Prices
    from demask.generation.server import Server


class Wanted(NamedTuple):
    """Which paraphrases."""

    of_each: int  # passage
    order: Order = "same-order"  # of the facts in them
    include: tuple[str, ...] = ()  # what of a document's metadata the language model sees above a passage


class Reworded(NamedTuple):
    """Paraphrases with what was set aside, a summary, and what they were expected to cost."""

    paraphrases: list[Paraphrase]
    rejects: list[Reject]
    summary: Summary
    estimate: "Estimate"


def make_paraphrases(
    documents: Sequence[Document],
    wanted: Wanted,
    *,
    server: "Server",
    pairs: Sequence[QAPair] = (),
    prices: "Prices | None" = None,
    dry_run: bool = False,
    progress: Progress,
) -> Reworded:
    """Have every passage reworded some times.

    Args:
        documents: iterated several times.
        wanted: how many, and in which order.
        server: with the language model that writes them.
        pairs: whose answers must not get lost.
        prices: of the language model, to estimate the cost.
        dry_run: say what it would cost, and make nothing.
        progress: told how far it is, and what it will cost before the first call.

    Raises:
        DemaskError: the language model is not to be had.
    """
    count, order, include = wanted
    rejects: list[Reject] = []
    paraphrases: list[Paraphrase] = []
    complete = open_writer(server, progress)
    prompts = (
        make_prompt(passage, number, count=count, order=order)
        for passage in cut_for_making(documents, include=include)
        for number in range(1, count + 1)
    )
    estimate = announce_cost(list(prompts), complete, prices, progress)
    if not dry_run:
        progress.begin(f"Paraphrases by {complete.server.model}", len(documents), unit="documents")
        paraphrases += write_paraphrases(
            cut_for_making(documents, include=include, progress=progress),
            complete,
            count=count,
            order=order,
            made_by=str(complete.server.model),
            pairs=pairs,
            on_rejected=rejects.append,
        )
        progress.say(describe_usage(complete.paid))
    return Reworded(paraphrases, rejects, summarise_paraphrases(paraphrases, rejects), estimate)


def paraphrase_stage(
    config: RunConfig, run: RunFolder, knowledge: Knowledge, pairs: Sequence[QAPair], progress: Progress
) -> tuple[Paraphrase, ...]:
    """The paraphrases of a run: none, given, or made of its documents and kept in its folder.

    Raises:
        ConfigError: they are to be made, and no language model is named.
        DataError: none could be made.
    """
    if knowledge.paraphrases is not None:
        return knowledge.paraphrases
    if run.has(file_names.PARAPHRASES):
        return tuple(run.read_records(file_names.PARAPHRASES, Paraphrase))
    made = make_paraphrases(
        knowledge.new,
        Wanted(int(config.paraphrases), include=config.include),
        server=require_writer(find_server(config.writer), "writer.url"),
        pairs=pairs,
        progress=progress,
    )
    if not made.paraphrases:
        raise DataError(
            "paraphrases: the language model wrote none that passed the checks; give a file of paraphrases, "
            "or name another model with writer.model"
        )
    run.write_rows(file_names.PARAPHRASES, made.paraphrases)
    progress.say(
        f"{len(made.paraphrases)} paraphrases of {made.summary.documents} documents "
        f"({made.paraphrases[0].made_by}), {len(made.rejects)} set aside"
    )
    return tuple(made.paraphrases)
