"""Which run a run goes on from, and what became of what that one had learned.

    earlier = read_earlier(Origin(parent="runs/january", replaces=("prices",)))
    knowledge = read_new(config, earlier, folder, progress)               # all documents and questions so far
    keep_lineage(run, earlier, knowledge.new)                   # lineage.json
    lineage = read_lineage(run)                                 # None: the run goes on from no other

An update trains the parent's model on new documents. The base model stays the one that the first run of the
line began with: what is measured is compared with it, and what holds the model to it is replayed as before.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demask.documents.places import file_of
from demask.errors import ConfigError, DataError, RunError
from demask.knowledge.contradictions import find_contradictions
from demask.progress import Progress
from demask.recipe.sections import RunConfig
from demask.records import Document, Passage, QAPair
from demask.stages.documents import (
    MOST_COMPARED,
    Knowledge,
    join_pairs,
    read_knowledge,
    settle_knowledge,
)
from demask.stages.loading import load_base
from demask.storage import file_names
from demask.storage.run_folder import RunFolder, make_record, open_finished_run

if TYPE_CHECKING:
    from demask.models.load import LoadedModel
    from demask.objectives.objective import Context
    from demask.training.stream import ExposureStream, MixedStream

# Ids that an error names.
_MOST_NAMED = 8


@dataclass(frozen=True)
class Origin:
    """What a run goes on from, as it was asked for.

    Attributes:
        parent: folder of the finished run whose model is trained on.
        replaces: ids of its documents that the new ones stand in for; they are no longer replayed.
        forgets: ids of its documents that are taken back.
        old_texts: its documents are replayed as they stand; else what its model says of them is.
    """

    parent: str
    replaces: tuple[str, ...] = ()
    forgets: tuple[str, ...] = ()
    old_texts: bool = True


@dataclass(frozen=True)
class Learned:
    """A document of a line of runs.

    Attributes:
        update: the number of the run that learned it; 0 is the first run of the line.
        sha256: of its text.
        removed: the number of the run that replaced or forgot it; None: it holds.
        forgotten: it was taken back, not replaced.
    """

    update: int
    sha256: str
    removed: int | None = None
    forgotten: bool = False


@dataclass(frozen=True)
class Lineage:
    """What `lineage.json` says.

    Attributes:
        origin: what was asked for.
        number: of this run in its line; the first run, which has no lineage, is 0.
        weights: sha256 of each file of the parent's weights, which training began with.
        documents: by id, all of the line so far. One that was removed in run N of the line stands under its
            id with ` (until N)` behind it, since what replaces it may have the same.
    """

    origin: Origin
    number: int
    weights: Mapping[str, str]
    documents: Mapping[str, Learned]

    def learned_in(self, number: int) -> set[str]:
        """Ids of the documents that a run of the line learned and that still hold."""
        return {id for id, one in self.documents.items() if one.update == number and one.removed is None}

    @property
    def updates(self) -> dict[str, int]:
        """The run of the line that learned a document, by the ids of those that still hold."""
        return {id: one.update for id, one in self.documents.items() if one.removed is None}

    @property
    def new(self) -> set[str]:
        """Ids of the documents that this run learned."""
        return self.learned_in(self.number)


@dataclass(frozen=True)
class Earlier:
    """What the parent knows.

    Attributes:
        run: the parent.
        lineage: of the new run, without its new documents.
        pairs: questions about documents that hold.
        removed: questions about documents that were replaced or forgotten, by this run or before.
    """

    run: RunFolder
    lineage: Lineage
    pairs: tuple[QAPair, ...]
    removed: tuple[QAPair, ...]

    @property
    def documents(self) -> Iterable[Document]:
        """Those that hold, read from disk each time."""
        leaving = {*self.lineage.origin.replaces, *self.lineage.origin.forgets}
        for document in self.run.open_records(file_names.DOCUMENTS, Document):
            if document.id not in leaving:
                yield document


def read_lineage(run: RunFolder) -> Lineage | None:
    """What a run goes on from; None of the first run of a line.

    Raises:
        RunError: the file is damaged.
    """
    if not run.has(file_names.LINEAGE):
        return None
    found = run.read_json(file_names.LINEAGE)
    try:
        return Lineage(
            origin=make_record(Origin, found["origin"]),
            number=found["number"],
            weights=found["weights"],
            documents={id: make_record(Learned, one) for id, one in found["documents"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{run.file(file_names.LINEAGE)}: not what this version of demask writes ({error!r})"
        ) from error


def starting_model(run: RunFolder, model: str) -> str:
    """The model whose weights training begins with: the parent's, or the recipe's.

    Args:
        run: may have a lineage.
        model: of the recipe.

    Raises:
        RunError: the parent has no model any more, or another one than when this run began.
    """
    lineage = read_lineage(run)
    if lineage is None:
        return model
    from demask.training.delta import digest_weights

    folder = Path(lineage.origin.parent) / file_names.MODEL
    if not folder.is_dir() or digest_weights(folder) != dict(lineage.weights):
        raise RunError(
            f"{folder}: not the model that {run.path} began with, expected the same weights; put it back, or "
            "delete the new run and begin it again"
        )
    return str(folder)


def load_start(config: RunConfig, run: RunFolder, progress: Progress) -> "Callable[[], LoadedModel]":
    """Gives the model whose weights training begins with, loaded when it is first asked for.

    Args:
        config: of the run.
        run: may have a lineage.
        progress: told when it is loaded.
    """

    @cache
    def load() -> "LoadedModel":
        return load_base(config, progress, name=starting_model(run, config.model))()

    return load


def load_unmerged(config: RunConfig, run: RunFolder, progress: Progress) -> "LoadedModel":
    """The adapter of a run on the model that its training began with, as it was trained.

    Raises:
        RunError: that model is gone.
    """
    from demask.training.export import put_adapter

    start = load_start(config, run, progress)()
    return replace(start, model=put_adapter(start.model, run.file(file_names.ADAPTER)))


def read_earlier(origin: Origin) -> Earlier:
    """What the parent of a new run knows, and what is left of it.

    Raises:
        ConfigError: an id is none of its documents'.
        RunError: the parent is no finished run with a model.
    """
    from demask.training.delta import digest_weights

    run = open_finished_run(origin.parent)
    lineage = read_lineage(run)
    number = 0 if lineage is None else lineage.number
    known = _hash_documents(run) if lineage is None else dict(lineage.documents)
    leaving = {**dict.fromkeys(origin.replaces, False), **dict.fromkeys(origin.forgets, True)}
    _refuse_unknown(leaving, {id for id, one in known.items() if one.removed is None}, run)
    for id, forgotten in leaving.items():
        known[_until(id, number + 1)] = replace(known.pop(id), removed=number + 1, forgotten=forgotten)
    pairs = run.read_records(file_names.QA_PAIRS, QAPair) if run.has(file_names.QA_PAIRS) else []
    removed = run.read_records(file_names.REMOVED, QAPair) if run.has(file_names.REMOVED) else []
    return Earlier(
        run,
        Lineage(origin, number + 1, digest_weights(run.file(file_names.MODEL)), known),
        tuple(pair for pair in pairs if pair.document_id not in leaving),
        (
            *removed,
            *(
                replace(pair, document_id=_until(pair.document_id, number + 1))
                for pair in pairs
                if pair.document_id in leaving
            ),
        ),
    )


def _until(id: str, number: int) -> str:
    return f"{id} (until {number})"


def _hash_documents(run: RunFolder) -> dict[str, Learned]:
    return {
        document.id: Learned(0, _digest(document))
        for document in run.open_records(file_names.DOCUMENTS, Document)
    }


def read_new(config: RunConfig, earlier: Earlier, folder: RunFolder, progress: Progress) -> Knowledge:
    """All that a new run knows: what holds of its parent, then what is new; nothing where it only forgets.

    Args:
        config: of the new run.
        earlier: of its parent.
        folder: where the documents are kept from now on.
        progress: told how far it is.

    Raises:
        DataError: a file, a line or an id is not usable, a document of the parent has the id, nothing is new,
            or new documents contradict each other or the parent's.
    """
    new = Knowledge((), (), (), (), ())
    if not earlier.lineage.origin.forgets:
        new = leave_out_learned(earlier, read_knowledge(config, folder), folder, progress)
        new = settle_knowledge(config, new, folder, progress)
    documents = list(new.documents)
    contradictions = (*new.contradictions, *_compare_with_old(config, earlier, documents, new))
    folder.write_rows(file_names.DOCUMENTS, chain(earlier.documents, documents))
    return replace(
        new,
        contradictions=contradictions,
        documents=folder.open_records(file_names.DOCUMENTS, Document),
        pairs=None if new.pairs is None else join_pairs(earlier.pairs, new.pairs),
        learned=documents,
        earlier_pairs=earlier.pairs,
    )


def leave_out_learned(earlier: Earlier, read: Knowledge, folder: RunFolder, progress: Progress) -> Knowledge:
    """What was read without the documents that the parent has learned as they stand.

    So a whole folder can be given, month after month.

    Args:
        earlier: of the parent.
        read: from files.
        folder: where the others are kept.
        progress: told which are left out.

    Raises:
        DataError: a document has the id of one that holds and another text, or nothing is new.
    """
    holding = {id: one for id, one in earlier.lineage.documents.items() if one.removed is None}
    learned: set[str] = set()
    changed: list[Document] = []
    for document in read.documents:
        if document.id in holding:
            same = holding[document.id].sha256 == _digest(document)
            learned.add(document.id) if same else changed.append(document)
    _refuse_changed(changed, earlier)
    if not learned:
        return read
    others = [document for document in read.documents if document.id not in learned]
    if not others:
        raise DataError(
            f"{earlier.run.path}: has learned all {len(learned)} documents as they stand, so nothing is new; "
            "expected others among --documents"
        )
    progress.say(f"learned already, and not new: {_name_some(sorted(learned))}")
    if missing := sorted(set(holding) - learned):
        progress.say(
            f"learned, and not among the documents that were given: {_name_some(missing)}; they still hold, "
            "unless --replaces or 'demask forget' names them"
        )
    places = {file_of(document) for document in others}
    known = {file_of(document) for document in read.documents} - places
    folder.write_rows(f"new-{file_names.DOCUMENTS}", others)
    asked = {(pair.document_id, pair.question) for pair in earlier.pairs}
    return replace(
        read,
        documents=folder.open_records(f"new-{file_names.DOCUMENTS}", Document),
        pairs=read.pairs
        and tuple(pair for pair in read.pairs if (pair.document_id, pair.question) not in asked),
        paraphrases=read.paraphrases
        and tuple(made for made in read.paraphrases if made.document_id not in learned),
        files=tuple(report for report in read.files if report.path not in known),
    )


def _refuse_changed(changed: Sequence[Document], earlier: Earlier) -> None:
    if not changed:
        return
    first, count = changed[0], f" and {len(changed) - 1} more do" if len(changed) > 1 else ""
    options = " ".join(f"--replaces {document.id}" for document in changed[:_MOST_NAMED])
    raise DataError(
        f"{first.source or first.id}: has another text than document {first.id!r} of {earlier.run.path}"
        f"{count}; where the old text no longer holds add {options}, else give another id"
    )


def _name_some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    return ", ".join(ids[:_MOST_NAMED]) + more


def _compare_with_old(
    config: RunConfig, earlier: Earlier, documents: Sequence[Document], new: Knowledge
) -> list[str]:
    """Where new documents say otherwise than those that hold, in lines.

    Raises:
        DataError: they do, and nothing is preferred.
    """
    old = {id for id, one in earlier.lineage.documents.items() if one.removed is None}
    if not documents or len(old) + len(documents) > MOST_COMPARED:
        return []
    pairs = join_pairs(earlier.pairs, new.pairs or ())
    lines, ids = [], set()
    for found in find_contradictions([*earlier.documents, *documents], pairs):
        sides = {side.document_id for side in found.sides}
        if not found.certain or not sides & old or sides <= old:
            continue
        lines.append(found.describe())
        ids |= sides & old
    if lines and config.prefer is None:
        count = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        options = " ".join(f"--replaces {id}" for id in sorted(ids))
        raise DataError(
            f"what is new contradicts what {earlier.run.path} has learned: {lines[0]}{count}; add {options} "
            "where the old document no longer holds, or --set prefer=both to train both"
        )
    return [f"what is new contradicts what was learned, both trained: {line}" for line in lines]


def keep_lineage(run: RunFolder, earlier: Earlier, learned: Iterable[Document]) -> None:
    """Write down what a run goes on from, and the questions about what is removed.

    Args:
        run: new, or begun with the same origin.
        earlier: of its parent.
        learned: its new documents.

    Raises:
        ConfigError: the folder holds a run with another origin, or without one.
    """
    lineage = add_new(earlier.lineage, learned)
    there = read_lineage(run)
    if there is None and run.has(file_names.DOCUMENTS):
        raise ConfigError(f"{run.path}: holds a run that goes on from no other; choose another --out")
    if there is not None and there.origin != lineage.origin:
        raise ConfigError(
            f"{run.path}: holds another update: of {there.origin.parent}, replaces "
            f"{_names(there.origin.replaces)}, forgets {_names(there.origin.forgets)}, old texts "
            f"{'' if there.origin.old_texts else 'not '}replayed; choose another --out or delete it"
        )
    if there is not None and there.weights != lineage.weights:
        raise ConfigError(
            f"{earlier.run.path}: was trained again since {run.path} began; choose another --out or delete it"
        )
    if there is None:
        run.write_rows(file_names.REMOVED, earlier.removed)
        run.write_json(file_names.LINEAGE, asdict(lineage))


def add_new(lineage: Lineage, learned: Iterable[Document]) -> Lineage:
    """A lineage with the documents that its run learns."""
    new = {document.id: Learned(lineage.number, _digest(document)) for document in learned}
    return replace(lineage, documents={**lineage.documents, **new})


def _names(ids: Sequence[str]) -> str:
    return ", ".join(ids) if ids else "nothing"


def split_passages(
    lineage: Lineage | None, passages: Sequence[Passage]
) -> tuple[Sequence[Passage], list[Passage]]:
    """What is learned, and what is replayed of the parent's; all is learned where there is no parent.

    Args:
        lineage: of the run.
        passages: of all documents that hold.
    """
    if lineage is None:
        return passages, []
    new = lineage.new
    return (
        [passage for passage in passages if passage.document_id in new],
        [passage for passage in passages if passage.document_id not in new],
    )


def add_old_passages(
    config: RunConfig,
    learned: "ExposureStream[Any]",
    old: Sequence[Passage],
    context: "Context",
) -> "ExposureStream[Any] | MixedStream":
    """The stream of what is learned, with as many passages of earlier runs in each step.

    Args:
        config: of the run.
        learned: the new passages.
        old: those that hold, of the runs before.
        context: of the model that is trained.
    """
    if not old:
        return learned
    from demask.data.sequences import PassageSamples
    from demask.training.stream import MixedStream, make_stream

    every = make_stream(config, context, PassageSamples(old, context.tokenizer))
    together = min(learned.batch_size, every.batch_size)
    return MixedStream((learned, replace(every, batch_size=together, steps=learned.steps)))


def _digest(document: Document) -> str:
    return hashlib.sha256(document.text.encode()).hexdigest()


def _refuse_unknown(wanted: Iterable[str], known: set[str], run: RunFolder) -> None:
    for id in wanted:
        if id in known:
            continue
        near = get_close_matches(id, known, n=1)
        some = sorted(known)[:_MOST_NAMED]
        more = f" and {len(known) - len(some)} more" if len(known) > len(some) else ""
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, some))}{more}"
        raise ConfigError(f"{run.path}: no document {id!r} in this run; {hint}")
