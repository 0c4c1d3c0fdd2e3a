"""What is to be learned, read once and kept on disk, so that memory does not grow with it.

with TemporaryDirectory() as folder:
    knowledge = read_knowledge(config, RunFolder(Path(folder)))   # errors in the data come here
    knowledge = settle_knowledge(config, knowledge, RunFolder(Path(folder)), progress)   # no contradictions
    knowledge = keep_knowledge(run, knowledge)                    # now it stands in the run folder
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any

from demask.documents.account import (
    NOT_CHOSEN,
    describe_copies,
    describe_guesses,
    describe_large_losses,
    describe_losses,
    describe_pages_without_text,
    describe_skipped,
)
from demask.documents.copies import is_copy
from demask.documents.coverage import (
    DocumentCuts,
    FileCoverage,
    NearDuplicate,
    RepeatedDocument,
    find_cuts,
    find_near_duplicates,
    find_repeated_documents,
    measure_file_coverage,
)
from demask.documents.load import DocumentReader
from demask.documents.parsed import FileReport, LeftOut, sum_up
from demask.documents.places import file_of
from demask.errors import ConfigError, DataError
from demask.knowledge.contradictions import Contradiction, find_contradictions
from demask.knowledge.files import load_paraphrases, load_qa_pairs
from demask.knowledge.newest import Decided, keep_newest, remove_spans
from demask.progress import Progress
from demask.recipe.sections import NO_QUESTIONS, RunConfig
from demask.records import Document, Paraphrase, Passage, QAPair
from demask.storage import file_names
from demask.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Knowledge:
    """What is to be learned, and how that is tested.

    Attributes:
        documents: read from disk when they are asked for.
        pairs: None when they are to be made of the documents.
        paraphrases: None when they are to be made.
        files: what became of every file.
        skipped: files in the given folders that are no documents.
        learned: the documents that this run learns; None: all of them. An update has its parent's besides.
        earlier_pairs: questions of its parent.
        contradictions: what was found where documents contradict each other, and what was decided, in lines.
    """

    documents: Sequence[Document]
    pairs: tuple[QAPair, ...] | None
    paraphrases: tuple[Paraphrase, ...] | None
    files: tuple[FileReport, ...]
    skipped: tuple[str, ...]
    learned: Sequence[Document] | None = None
    earlier_pairs: tuple[QAPair, ...] = ()
    contradictions: tuple[str, ...] = ()

    @property
    def new(self) -> Sequence[Document]:
        """The documents that this run learns."""
        return self.documents if self.learned is None else self.learned


def read_knowledge(config: RunConfig, folder: RunFolder) -> Knowledge:
    """Read documents, questions and paraphrases; needs no model.

    Args:
        config: says where they are.
        folder: where the documents are kept from now on.

    Raises:
        DataError: a file, a line or an id is not usable.
    """
    reader = DocumentReader(
        config.documents,
        text_column=config.text_column,
        keep_going=config.keep_going,
        duplicates=config.duplicates,
        only=config.only,
    )
    folder.write_rows(file_names.DOCUMENTS, reader)
    documents = folder.open_records(file_names.DOCUMENTS, Document)
    pairs: tuple[QAPair, ...] | None = None
    if config.qa == NO_QUESTIONS:
        pairs = ()
    elif config.qa is not None:
        pairs = tuple(load_qa_pairs(config.qa, documents={document.id for document in documents}))
    paraphrases: tuple[Paraphrase, ...] | None = None
    if isinstance(config.paraphrases, str):
        ids = {document.id for document in documents}
        paraphrases = tuple(load_paraphrases(config.paraphrases, documents=ids))
    elif config.paraphrases == 0:
        paraphrases = ()
    return Knowledge(documents, pairs, paraphrases, tuple(reader.reports), tuple(reader.skipped))


def settle_knowledge(
    config: RunConfig, knowledge: Knowledge, folder: RunFolder, progress: Progress
) -> Knowledge:
    """Look for documents that contradict each other, and do with them what `prefer` says.

    Args:
        config: says what is preferred.
        knowledge: as it was read.
        folder: where its documents are kept, and will be without what is left out.
        progress: told what contradicts what.

    Raises:
        DataError: documents contradict each other and nothing is preferred, or dates do not tell which
            is newer.
    """
    if len(knowledge.documents) > MOST_COMPARED:
        line = f"contradictions are not looked for among more than {MOST_COMPARED:,} documents"
        return replace(knowledge, contradictions=(line,))
    progress.begin("Looking for contradictions", 1)
    found = find_contradictions(knowledge.documents, knowledge.pairs or ())
    certain = [one for one in found if one.certain]
    doubtful = [f"two answers, both trained: {one.describe()}" for one in found if not one.certain]
    if config.prefer is None:
        refuse_contradictions(certain, progress)
    if config.prefer == "newest" and certain:
        decided = keep_newest(certain, knowledge.documents, knowledge.pairs or ())
        settled = _leave_out(knowledge, decided, folder)
        return replace(settled, contradictions=(*settled.contradictions, *doubtful))
    both = [f"documents contradict each other, both trained: {one.describe()}" for one in certain]
    return replace(knowledge, contradictions=(*both, *doubtful))


def refuse_contradictions(certain: Sequence[Contradiction], progress: Progress) -> None:
    """End the run where there are contradictions, after a line for each, those of most documents first.

    Raises:
        DataError: there are some.
    """
    if not certain:
        return
    if len(certain) > 1:
        for one in certain[:MOST_TOLD]:
            progress.say(f"contradiction: {one.describe()}")
        if len(certain) > MOST_TOLD:
            progress.say(f"{len(certain) - MOST_TOLD} more contradictions, of as many documents or fewer")
    count = len(certain)
    what = "documents contradict each other" if count == 1 else f"{count} contradictions, the first"
    raise DataError(
        f"{what}: {certain[0].describe()}; correct one of them, or set prefer to newest, to train what the "
        "newest says, or to both"
    )


def _leave_out(knowledge: Knowledge, decided: Decided, folder: RunFolder) -> Knowledge:
    """What is left when sentences of older documents are left out, and the account of it."""
    lost: dict[str, list[tuple[str, str]]] = {}
    changed: dict[str, Document | None] = {}
    for document in knowledge.documents:
        if spans := decided.removed.get(document.id):
            sentences = [document.text[span.start : span.end] for span in spans]
            lost.setdefault(file_of(document), []).extend((OUTDATED, text) for text in sentences)
            rest = remove_spans(document, spans)
            changed[document.id] = rest if rest.text else None
    gone = {id for id, rest in changed.items() if rest is None}
    kept = (changed.get(document.id, document) for document in knowledge.documents)
    folder.write_rows(
        f"settled-{file_names.DOCUMENTS}", (document for document in kept if document is not None)
    )
    documents = folder.open_records(f"settled-{file_names.DOCUMENTS}", Document)
    if not len(documents):
        raise DataError("prefer: newest leaves no text of any document; correct one of those that contradict")
    pairs = None if knowledge.pairs is None else tuple(p for p in decided.pairs if p.document_id not in gone)
    # A rewording says all that its document said.
    paraphrases = knowledge.paraphrases and tuple(
        p for p in knowledge.paraphrases if p.document_id not in changed
    )
    files = tuple(_account(report, sum_up(lost.get(report.path, ()))) for report in knowledge.files)
    lines = [
        *decided.lines,
        *_name_lost("questions about it", knowledge.pairs, pairs),
        *_name_lost("paraphrases of its documents", knowledge.paraphrases, paraphrases),
    ]
    return replace(
        knowledge,
        documents=documents,
        pairs=pairs,
        paraphrases=paraphrases,
        files=files,
        contradictions=tuple(lines),
    )


def _name_lost(
    what: str,
    before: Sequence[QAPair] | Sequence[Paraphrase] | None,
    after: Sequence[QAPair] | Sequence[Paraphrase] | None,
) -> Iterator[str]:
    kept = {one.id for one in after or ()}
    gone = [one.id for one in before or () if one.id not in kept]
    if gone:
        more = len(gone) - MOST_NAMED
        named = ", ".join(gone[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        yield f"with what older documents say otherwise, {what} are left out ({len(gone)}): {named}"


def _account(report: FileReport, lost: Sequence[LeftOut]) -> FileReport:
    count = min(report.kept, sum(part.characters for part in lost))
    return replace(report, kept=report.kept - count, left_out=(*report.left_out, *lost)) if lost else report


def keep_knowledge(run: RunFolder, knowledge: Knowledge) -> Knowledge:
    """Copy documents, questions and paraphrases into the run folder, those that are not to be made.

    Raises:
        ConfigError: the folder holds those of another time, so that going on would mix two runs.
    """
    files: tuple[tuple[str, Sequence[object] | None], ...] = (
        (file_names.DOCUMENTS, knowledge.documents),
        (file_names.QA_PAIRS, knowledge.pairs),
        (file_names.PARAPHRASES, knowledge.paraphrases or None),
    )
    for name, records in files:
        if records is None:
            continue
        if not run.has(name):
            run.write_rows(name, records)
        elif not run.holds_rows(name, records):
            raise ConfigError(
                f"{run.path}: {name} has changed since this run began; "
                "choose another --out or delete the folder"
            )
    return replace(knowledge, documents=run.open_records(file_names.DOCUMENTS, Document))


def join_pairs(earlier: Sequence[QAPair], new: Sequence[QAPair]) -> tuple[QAPair, ...]:
    """Questions of two files as of one; a new one whose id is taken gets a number in front of it: `2/q1`."""
    taken = {pair.id for pair in earlier}
    joined = list(earlier)
    for pair in new:
        free = next(id for id in _with_numbers(pair.id) if id not in taken)
        taken.add(free)
        joined.append(replace(pair, id=free))
    return tuple(joined)


def _with_numbers(id: str) -> Iterator[str]:
    yield id
    yield from (f"{number}/{id}" for number in count(2))


# 10,000 passages of 100 words are compared in 4 s; their words are held meanwhile.
MOST_COMPARED = 20_000
# Of files and of near duplicates, which are named in the terminal; all stand in the run folder.
MOST_NAMED = 5
# Of contradictions, before the run ends: each has to be looked at.
MOST_TOLD = 20
OUTDATED = "said otherwise by a newer document"


@dataclass(frozen=True)
class Coverage:
    """How much of the documents is trained.

    Attributes:
        documents: how many there are.
        passages: into how many they were split.
        share: of the documents' visible characters, in [0, 1], that stand in passages; None: there are none,
            as where a run forgets and learns nothing new.
        files: one row for each.
        near_duplicates: passages that say nearly what an earlier one says; None: too many to compare.
        cuts: documents that are cut where no sentence ends.
        repeated: documents that say nearly what others say.
        contradictions: where documents contradict each other, and what was decided, in lines.
    """

    documents: int
    passages: int
    share: float | None
    files: tuple[FileCoverage, ...]
    near_duplicates: tuple[NearDuplicate, ...] | None
    cuts: tuple[DocumentCuts, ...] = ()
    contradictions: tuple[str, ...] = ()
    repeated: tuple[RepeatedDocument, ...] = ()


def measure_coverage(knowledge: Knowledge, passages: Sequence[Passage]) -> Coverage:
    """Compare documents with their passages, and passages with each other."""
    documents = knowledge.new
    files = measure_file_coverage(documents, passages, knowledge.files)
    kept = sum(file.kept for file in files)
    near = find_near_duplicates(passages) if len(passages) <= MOST_COMPARED else None
    return Coverage(
        documents=len(documents),
        passages=len(passages),
        share=sum(file.trained for file in files) / kept if kept else None,
        files=tuple(files),
        near_duplicates=None if near is None else tuple(near),
        cuts=tuple(find_cuts(documents, passages)),
        contradictions=knowledge.contradictions,
        repeated=tuple(find_repeated_documents(near or (), passages)),
    )


def coverage_stage(
    config: RunConfig, run: RunFolder, knowledge: Knowledge, passages: Sequence[Passage], progress: Progress
) -> Coverage:
    """Measure what is trained, keep it with the run, and say what a user must know of it."""
    coverage = measure_coverage(knowledge, passages)
    run.write_json(file_names.COVERAGE, coverage_as_json(coverage))
    for remark in coverage_remarks(config, knowledge, coverage):
        progress.say(remark)
    return coverage


def coverage_as_json(coverage: Coverage) -> dict[str, Any]:
    """Plain values; characters are visible ones."""
    near = coverage.near_duplicates
    return {
        "documents": coverage.documents,
        "passages": coverage.passages,
        "share": coverage.share,
        "files": [
            {**file._asdict(), "left_out": [asdict(part) for part in file.left_out]}
            for file in coverage.files
        ],
        "near_duplicates": None if near is None else [found._asdict() for found in near],
        "repeated": [found._asdict() for found in coverage.repeated],
        "cuts": [found._asdict() for found in coverage.cuts],
        "contradictions": list(coverage.contradictions),
    }


def coverage_remarks(config: RunConfig, knowledge: Knowledge, coverage: Coverage) -> Iterator[str]:
    """What is trained and what is not, in lines for people."""
    parts = [part for file in coverage.files for part in file.left_out if not is_copy(part)]
    unchosen = sum(part.characters for part in parts if part.reason == NOT_CHOSEN)
    lost = sum(part.characters for part in parts) - unchosen
    whole = sum(file.characters for file in coverage.files) - unchosen
    if coverage.share is not None:
        named = "of the files' characters are no text of them (named below)"
        yield (
            f"{coverage.documents} documents, {coverage.passages} passages, "
            f"coverage {coverage.share:.0%} (share of the text that stands in passages)"
            + (f"; {lost / whole:.1%} {named}" if lost else "")
        )
    yield from describe_skipped(knowledge.skipped)
    yield from (f"left out: {file.problem}" for file in coverage.files if file.problem)
    yield from describe_guesses(coverage.files)
    yield from describe_pages_without_text(coverage.files)
    yield from _name_some(list(describe_copies(coverage.files)), "more files have copies")
    yield from _name_some(describe_large_losses(coverage.files), "more files lose much of their text")
    yield from _name_some(describe_losses(coverage.files), "more parts of files are left out")
    yield from _name_some(knowledge.contradictions, "more contradictions")
    yield from _name_some([found.describe() for found in coverage.cuts], "more documents are cut so")
    yield from _name_some(
        [
            f"{found.id}: {found.repeated:,} of its {found.passages:,} passages say nearly what other "
            "documents say; leave it out, or these are trained twice"
            for found in coverage.repeated
        ],
        "more documents say what others say",
    )
    near = [
        f"{found.second_id}: says nearly what {found.first_id} says (similarity {found.similarity:.2f})"
        for found in coverage.near_duplicates or ()
    ]
    yield from _name_some(near, "more passages are nearly alike")
    if coverage.near_duplicates is None:
        yield f"near duplicates are not looked for among more than {MOST_COMPARED:,} passages"
    for what in config.include:
        if what == "section":  # not of every document, and no fault of one without
            continue
        missing = sum(not make_heading(document, [what]) for document in knowledge.new)
        if missing:
            yield f"include: {missing} of {coverage.documents} documents have no {what}"


def _name_some(lines: Sequence[str], rest: str) -> Iterator[str]:
    yield from lines[:MOST_NAMED]
    if len(lines) > MOST_NAMED:
        yield f"{len(lines) - MOST_NAMED} {rest}; see {file_names.COVERAGE} in the run folder"


def make_heading(document: Document, include: Sequence[str]) -> str:
    """The line in front of every passage of a document: "Title (date)", what is known of it; may be empty."""
    title = document.title if "title" in include else ""
    date = str(document.metadata.get("date") or "") if "date" in include else ""
    line = f"{title} ({date})" if title and date else title or date
    return f"{' '.join(line.split())}\n" if line else ""
