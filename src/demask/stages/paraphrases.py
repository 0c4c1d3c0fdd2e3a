"""Paraphrases of a run, which are trained with its passages: given in a file, or made.

made = make_paraphrases(documents, Wanted(5), writer=server, progress=progress)
paraphrases = paraphrase_stage(config, run, knowledge, pairs, progress)
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

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
from demask.stages.questions import (
    REPLY_TOKENS,
    LocalModel,
    announce_cost,
    cut_for_making,
    find_paraphraser,
    open_local,
    open_writer,
    require_writer,
)
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
    estimate: "Estimate | None"  # None: a model on this machine writes them


def make_paraphrases(
    documents: Sequence[Document],
    wanted: Wanted,
    *,
    writer: "Server | LocalModel",
    pairs: Sequence[QAPair] = (),
    prices: "Prices | None" = None,
    dry_run: bool = False,
    progress: Progress,
) -> Reworded:
    """Have every passage reworded some times.

    Args:
        documents: iterated several times.
        wanted: how many, and in which order.
        writer: the language model that writes them, behind a server or here.
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
    about: dict[str, Any] = {"count": count, "order": order, "pairs": pairs, "on_rejected": rejects.append}
    if isinstance(writer, LocalModel):
        if not dry_run:
            progress.begin(f"Paraphrases by {writer.name}", len(documents), unit="documents")
            passages = cut_for_making(documents, include=include, progress=progress)
            with open_local(writer, REPLY_TOKENS, None) as here:
                paraphrases += write_paraphrases(passages, here, made_by=writer.name, **about)
        return Reworded(paraphrases, rejects, summarise_paraphrases(paraphrases, rejects), None)
    complete = open_writer(writer, progress)
    prompts = (
        make_prompt(passage, number, count=count, order=order)
        for passage in cut_for_making(documents, include=include)
        for number in range(1, count + 1)
    )
    estimate = announce_cost(list(prompts), complete, prices, progress)
    if not dry_run:
        name = str(complete.server.model)
        progress.begin(f"Paraphrases by {name}", len(documents), unit="documents")
        passages = cut_for_making(documents, include=include, progress=progress)
        paraphrases += write_paraphrases(passages, complete, made_by=name, **about)
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
        writer=require_writer(find_paraphraser(config), "writer.url, writer.by"),
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
