"""Documents in, passages out; and what this machine and model are.

passages = split_stage(config, run, knowledge, load, progress)
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from demask.documents.passages import iter_passages, read_entity
from demask.documents.text_files import shown
from demask.environment import describe_environment
from demask.errors import ConfigError, DataError, ModelError
from demask.objectives.demasking import Demasking
from demask.objectives.objective import Objective
from demask.progress import Progress, Silent, advancing
from demask.recipe.fine_tuning import TaskConfig
from demask.recipe.sections import ALL_WEIGHTS, RunConfig
from demask.records import Document, Paraphrase, Passage
from demask.stages.documents import Knowledge, make_heading
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.models.load import LoadedModel
    from demask.objectives.objective import Context

# Longest passage when the recipe does not say: with its masked copy it takes about 1,100 tokens.
MAX_TOKENS = 512
# Documents whose tokens are counted at once.
_AT_ONCE = 1000


def split_stage(
    config: RunConfig,
    run: RunFolder,
    knowledge: Knowledge,
    load: Callable[[], "LoadedModel"],
    progress: Progress,
) -> Sequence[Passage]:
    """Passages that fit the model's context together with their masked copy."""
    if not run.has(file_names.PASSAGES):
        from demask.models.context import make_context

        loaded = load()
        write_environment(run, config, loaded)
        progress.begin("Splitting documents", len(knowledge.documents), unit="documents")
        context = make_context(loaded, config.objective)
        passages = split_documents(config, knowledge.documents, context, progress)
        run.write_rows(file_names.PASSAGES, advancing(passages, progress))
    return run.open_records(file_names.PASSAGES, Passage)


def split_documents(
    config: RunConfig,
    documents: Iterable[Document],
    context: "Context",
    progress: Progress | None = None,
) -> Iterator[Passage]:
    """Passages that fit the model's context, where the objective asks for it with their masked copy.

    A document of which no passages can be made stops it, or is named where the recipe keeps going.

    Raises:
        DataError: a document has a heading that is too long or an id that is taken, or does not say what it
            is about though the objective must know it.
        ConfigError: the recipe asks for longer passages than fit.
    """
    from demask.objectives.prompts import count_tokens, is_byte_level

    tokenizer, longest = context.tokenizer, longest_passage(config, context)
    byte_level = is_byte_level(tokenizer)
    known: dict[str, int] = {}
    told = progress or Silent()

    def leave_out(problem: DataError) -> None:
        told.say(f"left out: {problem}")

    on_problem = leave_out if config.keep_going else None

    def ahead() -> Iterator[Document]:
        """The documents, with the tokens of many counted at once, which fast tokenizers do in parallel."""
        stream = iter(documents)
        while part := list(islice(stream, _AT_ONCE)):
            part = list(_keep_known_entities(config.objective, part, on_problem))
            texts = [text for document in part if not fits(text := head(document) + document.text)]
            known.clear()
            known.update(zip(texts, count_tokens(tokenizer, texts), strict=True))
            yield from part

    def head(document: Document) -> str:
        return make_heading(document, config.include)

    def fits(text: str) -> bool:
        return byte_level and len(text.encode()) <= longest

    return iter_passages(
        ahead(),
        count_tokens=lambda text: known[text] if text in known else count_tokens(tokenizer, [text])[0],
        max_tokens=longest,
        heading=head,
        surely_fits=fits,
        on_problem=on_problem,
        sections="section" in config.include,
    )


def _keep_known_entities(
    objective: Objective, documents: Iterable[Document], on_problem: Callable[[DataError], None] | None
) -> Iterator[Document]:
    """The documents that say what they are about, where the objective must know it."""
    needed = isinstance(objective, Demasking) and objective.entity != "as-others"
    for document in documents:
        if not needed or read_entity(document):
            yield document
            continue
        value = document.metadata.get("entity")
        problem = DataError(
            f"{document.source or f'document {shown(document.id)}'}: entity is {shown(value)}, expected the "
            "name of what the document is about, since objective.entity is "
            f"{getattr(objective, 'entity', '')!r}; add it as a key of a .jsonl, .csv or .parquet file"
        )
        if on_problem is None:
            raise problem
        on_problem(problem)


def longest_passage(config: RunConfig, context: "Context") -> int:
    """Tokens that a passage may have, its heading included.

    Raises:
        ConfigError: the recipe asks for more than fit the model's context.
    """
    from demask.models.load import context_length

    available, count = context_length(context.architecture), config.objective.example_length(context)
    around, copies = count(0, 0), count(0, 1) - count(0, 0)
    fitting = (available - around) // copies
    if fitting < 1:
        raise ConfigError(f"objective: its instruction alone fills the model's context of {available} tokens")
    if config.max_tokens is not None and config.max_tokens > fitting:
        raise ConfigError(
            f"max_tokens is {config.max_tokens}, expected at most {fitting}: the model's context is "
            f"{available} tokens, and an example holds its text {'twice' if copies == 2 else 'once'}"
        )
    return config.max_tokens or min(MAX_TOKENS, fitting)


def add_paraphrases(
    config: RunConfig,
    passages: Sequence[Passage],
    paraphrases: Sequence[Paraphrase],
    context: "Context",
) -> Sequence[Passage]:
    """All that is trained: the passages, then their paraphrases, split where they do not fit.

    A paraphrase is about what its document is about.
    """
    if not paraphrases:
        return passages
    from demask.objectives.prompts import count_tokens

    entities = {passage.document_id: passage.entity for passage in passages}
    texts = (
        Document(
            made.id,
            made.text,
            source=f"paraphrase {made.id}",
            metadata={"entity": entities.get(made.document_id, "")},
        )
        for made in paraphrases
    )
    reworded = iter_passages(
        texts,
        count_tokens=lambda text: count_tokens(context.tokenizer, [text])[0],
        max_tokens=longest_passage(config, context),
    )
    return [*passages, *reworded]


def check_objective(config: RunConfig) -> None:
    """See whether the objective can train this kind of model; reads the model's configuration alone.

    What else is wrong with the model is said when it is loaded.

    Raises:
        ConfigError: it cannot.
    """
    from demask.models.context import load_context

    try:
        load_context(config.model, config.objective)
    except ModelError:
        return


def check_weights(config: TaskConfig) -> None:
    """See whether the model has the weights that are to be trained; reads its configuration alone.

    Raises:
        ModelError: it has none of that kind, or cannot be found.
    """
    from demask.models.load import load_architecture, outline_model
    from demask.models.trained_weights import find_trained

    if config.train.weights != ALL_WEIGHTS:
        find_trained(outline_model(load_architecture(config.model)), config.train.weights)


def check_method(config: TaskConfig) -> None:
    """See whether the base model can be quantised here, where the recipe wants that.

    Raises:
        ModelError: it cannot; or bitsandbytes is missing.
    """
    if config.train.method == "qlora":
        from demask.models.load import load_architecture
        from demask.models.quantised import check_quantising

        check_quantising(load_architecture(config.model), config.model)


def write_environment(run: RunFolder, config: TaskConfig, loaded: "LoadedModel") -> None:
    """Versions, hardware, seed and the template that questions and examples are written in."""
    import torch

    from demask.models.load import describe_form
    from demask.models.precision import choose_bf16

    run.write_json(
        file_names.ENVIRONMENT,
        describe_environment(
            seed=config.seed,
            device=str(loaded.device),
            gpu=torch.cuda.get_device_name(loaded.device) if loaded.device.type == "cuda" else None,
            threads=torch.get_num_threads(),
            matrix_precision="bf16" if choose_bf16(config.train.precision, loaded.device) else "fp32",
            stored_precision=str(loaded.stored_dtype).removeprefix("torch."),
            chat_template_sha256=hashlib.sha256(str(loaded.tokenizer.chat_template).encode()).hexdigest(),
            model_folder_or_name=loaded.source,
            model_form=describe_form(loaded.name),  # of a GGUF file or an adapter, what was made of it
        ),
    )
