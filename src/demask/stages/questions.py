"""Questions made of documents, by rules or by a language model, and their audit.

made = make_pairs(documents, writer=None, facts=2, progress=progress)       # None: by rules
audit = check_pairs(made.pairs, documents, load=None, settings=settings, progress=progress)
pairs = question_stage(config, run, knowledge, progress)                    # of a run, kept in its folder
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import zip_longest
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from demask.documents.passages import iter_passages
from demask.errors import ConfigError, DataError, ModelError, RunError
from demask.knowledge.audit import Audit, audit_as_json, audit_pairs, split_flagged
from demask.knowledge.contradictions import compare_questions
from demask.knowledge.sufficiency import set_aside_own_matter, warn_of_few
from demask.progress import Progress
from demask.recipe.sections import Evaluate, RunConfig, Writer
from demask.records import Document, Passage, Prediction, QAPair
from demask.stages.documents import (
    MOST_TOLD,
    Knowledge,
    join_pairs,
    make_heading,
    refuse_contradictions,
)
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.generation.completion import Completion, Estimate, Prices
    from demask.generation.local_writer import LocalWriter
    from demask.generation.server import Server
    from demask.models.load import LoadedModel

# Facts asked for per passage, each both ways round.
FACTS = 2
# Longest passage that questions are made of, so that prompts stay short. Which tokenizer will cut the
# documents for training is not known here, so tokens are counted as four characters of English.
PASSAGE_TOKENS, TOKEN_CHARACTERS = 1000, 4
SECTIONS = ("section",)  # what stands in front of a passage unless a recipe says otherwise
# Of a language model's reply: FACTS facts take about 150 tokens.
REPLY_TOKENS = 1024
RULES, SELF = "rules", "self"
# Of a model, before it is tested unasked. The embedded one of 135 million failed (docs/documents.md); nothing
# between it and this was measured.
LEAST_PARAMETERS = 500_000_000


@dataclass(frozen=True)
class LocalModel:
    """A model on this machine that writes questions and paraphrases.

    Attributes:
        name: `embedded`, a folder, or a name on the hub.
        device: `auto`, `cpu` or `cuda`.
    """

    name: str
    device: str = "auto"


class Made(NamedTuple):
    """Questions with who made them."""

    pairs: list[QAPair]
    rejects: list[dict[str, Any]]  # what could not be used, and `reasons`
    made_by: str
    estimate: "Estimate | None" = None  # of what they cost, when a language model is paid for them


def cut_for_making(
    documents: Iterable[Document], *, include: Sequence[str] = SECTIONS, progress: Progress | None = None
) -> Iterator[Passage]:
    """Passages short enough to ask about, whatever model is trained on the documents later."""

    def counted() -> Iterator[Document]:
        for document in documents:
            yield document
            if progress is not None:
                progress.advance()

    return iter_passages(
        counted(),
        count_tokens=lambda text: ceil(len(text) / TOKEN_CHARACTERS),
        max_tokens=PASSAGE_TOKENS,
        heading=lambda document: make_heading(document, include),
        surely_fits=lambda text: len(text) <= PASSAGE_TOKENS * TOKEN_CHARACTERS,
        sections="section" in include,
    )


def make_pairs(
    documents: Sequence[Document],
    *,
    writer: "Server | LocalModel | None",
    facts: int = FACTS,
    include: Sequence[str] = SECTIONS,
    prices: "Prices | None" = None,
    dry_run: bool = False,
    progress: Progress,
) -> Made:
    """Make questions of every passage, both ways round; those about the documents themselves are set aside.

    Args:
        documents: iterated several times.
        writer: the language model that writes them, behind a server or here; None: rules make them.
        facts: how many facts of a passage are asked about.
        include: what of the document's metadata stands in front of each passage.
        prices: of the language model, to estimate the cost.
        dry_run: say what it would cost, and make nothing.
        progress: told how far it is, what it will cost before the first call, and when few came of it.

    Raises:
        DemaskError: what makes them is not to be had.
    """
    made = _make_pairs(
        documents,
        writer=writer,
        facts=facts,
        include=include,
        prices=prices,
        dry_run=dry_run,
        progress=progress,
    )
    kept, rejects = set_aside_own_matter(made.pairs, documents) if made.pairs else ([], [])
    return made._replace(pairs=kept, rejects=[*made.rejects, *rejects])


def _make_pairs(
    documents: Sequence[Document],
    *,
    writer: "Server | LocalModel | None",
    facts: int = FACTS,
    include: Sequence[str] = SECTIONS,
    prices: "Prices | None" = None,
    dry_run: bool = False,
    progress: Progress,
) -> Made:
    def cut(told: Progress | None = None) -> Iterator[Passage]:
        return cut_for_making(documents, include=include, progress=told)

    if isinstance(writer, LocalModel):
        made = None if dry_run else _make_here(writer, cut, facts, len(documents), progress)
        if made is not None:
            return made
        writer = None
    if writer is None:
        return Made([], [], RULES) if dry_run else _make_by_rules(cut, facts, len(documents), progress)
    from demask.generation.completion import describe_usage
    from demask.knowledge.written import make_prompt, write_pairs

    complete = open_writer(writer, progress)
    estimate = announce_cost([make_prompt(passage, facts) for passage in cut()], complete, prices, progress)
    made = Made([], [], str(complete.server.model), estimate)
    if dry_run:
        return made
    progress.begin(f"Questions by {made.made_by}", len(documents), unit="documents")
    for written in write_pairs(cut(progress), complete, count=facts, made_by=made.made_by):
        made.pairs.extend(written.pairs)
        made.rejects.extend(written.rejects)
    progress.say(describe_usage(complete.paid))
    return made


def _make_here(
    writer: LocalModel,
    cut: Callable[[Progress | None], Iterator[Passage]],
    facts: int,
    documents: int,
    progress: Progress,
) -> Made | None:
    """Questions by a model on this machine; None where it fails the entrance test."""
    from demask.knowledge.written import make_schema, take_entrance_test, write_pairs

    progress.begin(f"Entrance test of {writer.name} as a writer of questions", 1)
    made = Made([], [], writer.name)
    with open_local(writer, REPLY_TOKENS, make_schema(facts)) as complete:
        entrance = take_entrance_test(list(cut(None)), complete, count=facts)
        progress.say(entrance.describe(writer.name))
        if not entrance.passed:
            return None
        progress.begin(f"Questions by {writer.name}", documents, unit="documents")
        for written in write_pairs(cut(progress), complete, count=facts, made_by=writer.name):
            made.pairs.extend(written.pairs)
            made.rejects.extend(written.rejects)
    return made


def open_local(writer: LocalModel, max_new_tokens: int, schema: Mapping[str, Any] | None) -> "LocalWriter":
    """A model on this machine, in a process that ends with the block it is opened for.

    Args:
        writer: which one.
        max_new_tokens: after which a reply is cut short.
        schema: of JSON that replies must fit; None: free text.
    """
    from demask.generation.local_writer import LocalWriter, identify_model

    identity = identify_model(writer.name)
    return LocalWriter(
        writer.name, device=writer.device, max_new_tokens=max_new_tokens, schema=schema, identity=identity
    )


def _make_by_rules(
    cut: Callable[[Progress], Iterator[Passage]], facts: int, documents: int, progress: Progress
) -> Made:
    from demask.knowledge.rules import load_english, make_pairs_by_rules

    progress.begin("Loading the English model", 1)
    load_english()
    progress.begin("Making questions by rules", documents, unit="documents")
    return Made(list(make_pairs_by_rules(cut(progress), per_passage=2 * facts)), [], RULES)


def open_writer(server: "Server", progress: Progress, *, max_new_tokens: int = REPLY_TOKENS) -> "Completion":
    """The language model behind a server, with the user's cache before it.

    Raises:
        ConfigError: the server has several models and none is named.
        ModelError: it cannot be reached.
    """
    from demask.generation.completion import open_completion

    progress.begin(f"Reaching {server.url}", 1)
    return open_completion(server, max_new_tokens=max_new_tokens)


def announce_cost(
    prompts: Sequence[str], complete: "Completion", prices: "Prices | None", progress: Progress
) -> "Estimate":
    """Say what is about to be paid, before the first prompt is sent."""
    from demask.generation.completion import describe_estimate, estimate_cost

    estimate = estimate_cost(prompts, completion=complete, prices=prices)
    progress.say(describe_estimate(estimate, complete.server))
    return estimate


def find_writer(config: RunConfig) -> "Server | LocalModel | None":
    """Who writes the questions; None: rules.

    Without a name the model of the run does, after its entrance test, when it is large enough and replies
    can be held to a schema.
    """
    match config.writer.by:
        case None:
            server = find_server(config.writer)
            return LocalModel(config.model, config.device) if server is None and may_write(config) else server
        case "rules":
            return None
        case name:
            return LocalModel(config.model if name == SELF else name, config.device)


def may_write(config: RunConfig) -> bool:
    """Whether the model of a run is worth an entrance test that nobody has asked for."""
    if config.model == "embedded" or find_spec("llguidance") is None:
        return False
    from demask.models.diffusion import diffusion_form
    from demask.models.load import count_parameters, load_architecture

    try:
        large = count_parameters(config.model) >= LEAST_PARAMETERS
        return large and diffusion_form(load_architecture(config.model)) is None
    except ModelError:  # which is said when the model is loaded, after what is wrong with the run folder
        return False


def find_server(writer: Writer) -> "Server | None":
    """The server of the recipe, else that of the environment; None where another writer is named."""
    from demask.generation.server import Server, server_from_environment

    if writer.by is not None:
        return None
    if writer.url is None:
        return server_from_environment()
    return Server(writer.url, writer.model, "writer.url", "writer.model")


def find_paraphraser(config: RunConfig) -> "Server | LocalModel | None":
    """The language model that writes paraphrases: one that is named, as rules make none."""
    return find_writer(config) if config.writer.by is not None else find_server(config.writer)


def require_writer(writer: "Server | LocalModel | None", option: str) -> "Server | LocalModel":
    """The language model, which paraphrases cannot be had without.

    Raises:
        ConfigError: none is named.
    """
    if writer is None:
        raise ConfigError(
            "paraphrases: no language model that writes them is named, expected one in "
            f"{option} or DEMASK_SERVER_URL; or train on a file of paraphrases"
        )
    return writer


def check_pairs(
    pairs: Sequence[QAPair],
    documents: Iterable[Document],
    *,
    load: "Callable[[], LoadedModel] | None",
    settings: Evaluate,
    progress: Progress,
) -> Audit:
    """The audit of QA pairs, with what a model says to them when there is one.

    Args:
        pairs: with unique ids.
        documents: all that are trained on; iterated several times.
        load: gives the base model, which is asked closed-book and open-book; None: it is not.
        settings: how it is asked.
        progress: told how far it is.
    """
    if load is None:
        return audit_pairs(pairs, documents)
    from demask.evaluation.qa import ask_questions, choose_contexts

    asked = {pair.document_id for pair in pairs}
    texts = {document.id: document for document in documents if document.id in asked}
    loaded = load()
    contexts = choose_contexts(
        loaded, pairs, texts, cut_for_making(texts.values()), max_new_tokens=settings.max_new_tokens
    )
    fitting = [pair for pair in pairs if pair.id in contexts]
    progress.begin("Asking without the documents", len(pairs), unit="questions")
    closed_book = ask_questions(loaded, pairs, settings, on_done=progress.advance)
    progress.begin("Asking with the documents", len(fitting), unit="questions")
    open_book = ask_questions(loaded, fitting, settings, contexts=contexts, on_done=progress.advance)
    return audit_pairs(
        pairs,
        documents,
        closed_book=_judge(closed_book, pairs),
        open_book=_judge(open_book, fitting),
    )


def _judge(predictions: Sequence[Prediction], pairs: Sequence[QAPair]) -> dict[str, bool]:
    from demask.evaluation.metrics import score_predictions

    return {score.qa_id: score.right for score in score_predictions(predictions, pairs)}


def check_maker(config: RunConfig) -> None:
    """See that questions and paraphrases can be made where they are to be, before there is a run folder.

    Raises:
        ConfigError: paraphrases are to be made, and no language model is named.
        RunError: rules would make the questions, and spaCy is not installed.
    """
    if isinstance(config.paraphrases, int) and config.paraphrases > 0:
        require_writer(find_paraphraser(config), "writer.url, writer.by")
    writer = find_writer(config) if config.qa is None else None
    if isinstance(writer, LocalModel) and find_spec("llguidance") is None:
        raise RunError(
            f"writer: questions by {writer.name} need llguidance: pip install 'demask[writer]'; or set "
            "writer: rules"
        )
    if config.qa is None and writer is None:
        from demask.knowledge.rules import load_english

        load_english()


def question_stage(
    config: RunConfig, run: RunFolder, knowledge: Knowledge, progress: Progress
) -> tuple[QAPair, ...]:
    """The questions of a run: given, or made of its documents, audited and drawn, and kept in its folder.

    Raises:
        DataError: no question could be made of the documents.
    """
    if knowledge.pairs is not None:
        return knowledge.pairs
    if run.has(file_names.QA_PAIRS):
        return tuple(run.read_records(file_names.QA_PAIRS, QAPair))
    documents = knowledge.new
    made = make_pairs(documents, writer=find_writer(config), include=config.include, progress=progress)
    _settle_made(config, documents, made.pairs, progress)
    audit = audit_pairs(made.pairs, with_headings(documents, config.include))
    kept, flagged = split_flagged(made.pairs, audit)
    if not kept:
        raise DataError(
            f"no usable question could be made of these documents ({made.made_by}); give questions with "
            "--qa, name a server with DEMASK_SERVER_URL, or ask nothing with --qa no"
        )
    asked = draw_pairs(kept, config.max_questions, seed=config.seed)
    pairs = join_pairs(knowledge.earlier_pairs, asked)
    warning = warn_of_few(len(asked), sum(1 for _ in cut_for_making(documents, include=config.include)))
    if warning:
        progress.say(f"warning: {warning}")
    run.write_rows(file_names.REJECTS, [*made.rejects, *flagged])
    run.write_json(file_names.AUDIT, audit_as_json(audit))
    run.write_rows(file_names.QA_PAIRS, pairs)
    progress.say(
        f"{len(made.pairs)} questions made ({made.made_by}), {len(flagged)} flagged by the audit, "
        f"{len(asked)} asked"
    )
    return pairs


def _settle_made(
    config: RunConfig, documents: Sequence[Document], pairs: Sequence[QAPair], progress: Progress
) -> None:
    """See whether questions that were made show documents to contradict each other; sentences have not.

    What then to leave out is not known as surely as from sentences, so nothing is; `prefer` lets the run go
    on.
    """
    certain = [one for one in compare_questions(documents, pairs) if one.certain]
    if config.prefer is None:
        refuse_contradictions(certain, progress)
    for one in certain[:MOST_TOLD]:
        progress.say(f"documents contradict each other, both trained and neither asked: {one.describe()}")
    if len(certain) > MOST_TOLD:
        progress.say(f"{len(certain) - MOST_TOLD} more contradictions, trained and not asked")


def with_headings(documents: Sequence[Document], include: Sequence[str]) -> Sequence[Document]:
    """The documents as they are trained, since a question may ask for what stands in the heading."""
    if not include:
        return documents
    return [replace(document, text=make_heading(document, include) + document.text) for document in documents]


def draw_pairs(pairs: Sequence[QAPair], most: int, *, seed: int) -> list[QAPair]:
    """At most so many pairs in their order, whoever has written them; each with its reverse.

    A fact of every passage comes before a second fact of any, evenly over documents; facts that are asked
    both ways round come first, and of the others those of the direction that has fewer.
    """
    if len(pairs) <= most:
        return list(pairs)
    drawn: list[QAPair] = []
    for facts in _rank_facts(pairs, random.Random(seed)):
        waiting: list[list[QAPair]] = []
        for fact in facts:
            if len(drawn) + len(fact) > most:
                continue
            if len(fact) == 1 and _lead(drawn, fact[0]) > 0:
                waiting.append(fact)
                continue
            drawn += fact
        drawn += [pair for fact in waiting for pair in fact][: most - len(drawn)]
    ids = {pair.id for pair in drawn}
    return [pair for pair in pairs if pair.id in ids]


def _lead(drawn: Sequence[QAPair], pair: QAPair) -> int:
    """How many more questions of this direction than of the other one are drawn."""
    same = sum(other.direction == pair.direction for other in drawn)
    return 2 * same - len(drawn)


def _rank_facts(pairs: Sequence[QAPair], rng: random.Random) -> list[list[list[QAPair]]]:
    """The best fact of every passage, then the second best ones, and so on; each with its questions.

    Within a rank the documents take turns, in an order that is drawn.
    """
    facts: dict[str, dict[str, list[QAPair]]] = {}
    for pair in pairs:
        # `orlin/r1f` and `orlin/r1b` are of one fact.
        facts.setdefault(pair.document_id, {}).setdefault(pair.id[:-1], []).append(pair)
    documents = [_rank_in_document(list(of_one.values()), rng) for of_one in facts.values()]
    rng.shuffle(documents)
    ranked: list[list[list[QAPair]]] = []
    for of_rank in zip_longest(*documents, fillvalue=()):
        turns = zip_longest(*of_rank)
        ranked.append([fact for turn in turns for fact in turn if fact is not None])
    return ranked


def _rank_in_document(facts: Sequence[list[QAPair]], rng: random.Random) -> list[list[list[QAPair]]]:
    """Facts of a document by their rank in their passages: both ways round first, else as drawn."""
    seen: Counter[str] = Counter()
    ranked: list[list[list[QAPair]]] = []
    for fact in sorted(rng.sample(facts, len(facts)), key=lambda fact: -len(fact)):
        passage = fact[0].id.rpartition("/")[0]
        if seen[passage] == len(ranked):
            ranked.append([])
        ranked[seen[passage]].append(fact)
        seen[passage] += 1
    return ranked


def describe_origin(config: RunConfig, run: RunFolder, pairs: Sequence[QAPair]) -> str:
    """Where the questions came from, in a sentence for the report; empty when nothing was asked."""
    if not pairs:
        return ""
    beside = " Beside them stand those of the runs before." if run.has(file_names.LINEAGE) else ""
    if config.qa is not None:
        return f"The questions were given: {config.qa}.{beside}"
    if not run.has(file_names.AUDIT):
        return "The questions are those of the runs before."
    audit = run.read_json(file_names.AUDIT)
    makers = {pair.made_by for pair in pairs}
    by = "by rules" if makers == {RULES} else f"by the language model {', '.join(sorted(makers))}"
    return (
        f"The questions were made {by} from the documents; of {audit['pairs']}, the audit flagged "
        f"{audit['flagged']}, and {len(pairs)} were asked. No person has read them.{beside}"
    )
