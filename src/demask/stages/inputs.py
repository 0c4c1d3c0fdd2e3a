"""Documents in, passages out; and what this machine and model are.

passages = split_stage(config, run, knowledge, load, progress)
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

from demask.documents.passages import iter_passages, read_entity
from demask.documents.text_files import shown
from demask.environment import describe_environment
from demask.errors import ConfigError, DataError, ModelError
from demask.progress import Progress, Silent, advancing
from demask.recipe.fine_tuning import SftConfig
from demask.recipe.sections import (
    RANDOM_TOKEN,
    Demasking,
    Diffusion,
    NextToken,
    Objective,
    Reverse,
    RunConfig,
)
from demask.records import Document, Paraphrase, Passage
from demask.stages.reading import Knowledge, make_heading
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from demask.models.load import LoadedModel

# Longest passage when the recipe does not say: with its masked copy it takes about 1,100 tokens.
MAX_TOKENS = 512
# Documents whose tokens are counted at once.
_AT_ONCE = 1000
# A text may take more tokens with its words in reverse order, as spaces join other words.
_REVERSED_SPARE = 64


def load_once(name: str, *, device: str, progress: Progress) -> Callable[[], "LoadedModel"]:
    """A model that is loaded when a stage first asks for it, and then kept."""

    @cache
    def load() -> "LoadedModel":
        from demask.models.load import load_model

        progress.begin(f"Loading {name}", 1)
        return load_model(name, device=device)

    return load


def split_stage(
    config: RunConfig,
    run: RunFolder,
    knowledge: Knowledge,
    load: Callable[[], "LoadedModel"],
    progress: Progress,
) -> Sequence[Passage]:
    """Passages that fit the model's context together with their masked copy."""
    if not run.has(file_names.PASSAGES):
        loaded = load()
        write_environment(run, config, loaded)
        progress.begin("Splitting documents", len(knowledge.documents))
        passages = split_documents(
            config, knowledge.documents, loaded.tokenizer, loaded.model.config, progress
        )
        run.write_rows(file_names.PASSAGES, advancing(passages, progress))
    return run.open_records(file_names.PASSAGES, Passage)


def split_documents(
    config: RunConfig,
    documents: Iterable[Document],
    tokenizer: "PreTrainedTokenizerBase",
    architecture: "PretrainedConfig",
    progress: Progress | None = None,
) -> Iterator[Passage]:
    """Passages that fit the model's context, where the objective asks for it with their masked copy.

    A document of which no passages can be made stops it, or is named where the recipe keeps going.

    Raises:
        DataError: a document has a heading that is too long or an id that is taken, or does not say what it
            is about though the objective must know it.
        ConfigError: the recipe asks for longer passages than fit, or for an objective that this kind of
            model cannot be trained with.
        ModelError: there is no usable mask token.
    """
    from demask.objectives.prompts import count_tokens, is_byte_level

    find_mask_id(config, tokenizer, architecture)  # before hours of asking, not after
    longest = longest_passage(config, tokenizer, architecture)
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


def longest_passage(
    config: RunConfig, tokenizer: "PreTrainedTokenizerBase", architecture: "PretrainedConfig"
) -> int:
    """Tokens that a passage may have, its heading included.

    Raises:
        ConfigError: the recipe asks for more than fit the model's context.
    """
    from demask.models.load import context_length

    context = context_length(architecture)
    copies = 2 if isinstance(config.objective, Demasking) else 1
    fitting = (context - _count_overhead(config.objective, tokenizer)) // copies
    if fitting < 1:
        raise ConfigError(f"objective: its instruction alone fills the model's context of {context} tokens")
    if config.max_tokens is not None and config.max_tokens > fitting:
        raise ConfigError(
            f"max_tokens is {config.max_tokens}, expected at most {fitting}: the model's context is "
            f"{context} tokens, and an example holds its text {'twice' if copies == 2 else 'once'}"
        )
    return config.max_tokens or min(MAX_TOKENS, fitting)


def add_paraphrases(
    config: RunConfig,
    passages: Sequence[Passage],
    paraphrases: Sequence[Paraphrase],
    tokenizer: "PreTrainedTokenizerBase",
    architecture: "PretrainedConfig",
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
        count_tokens=lambda text: count_tokens(tokenizer, [text])[0],
        max_tokens=longest_passage(config, tokenizer, architecture),
    )
    return [*passages, *reworded]


def check_objective(config: RunConfig) -> None:
    """See whether the objective can train this kind of model; reads the model's configuration alone.

    What else is wrong with the model is said when it is loaded.

    Raises:
        ConfigError: it cannot.
    """
    from demask.models.load import load_architecture, load_tokenizer

    try:
        find_mask_id(config, load_tokenizer(config.model), load_architecture(config.model))
    except ModelError:
        return


def find_mask_id(
    config: RunConfig, tokenizer: "PreTrainedTokenizerBase", architecture: "PretrainedConfig"
) -> int | None:
    """The token that stands for a masked one; None where nothing is masked, or a random token stands there.

    Raises:
        ConfigError: the objective cannot train this kind of model.
        ModelError: there is no usable mask token.
    """
    from demask.models.diffusion import diffusion_form, vocabulary_size
    from demask.models.families import choose_mask_id

    form, objective = diffusion_form(architecture), config.objective
    if isinstance(objective, Diffusion):
        if form is None:
            raise ConfigError(
                f"objective 'diffusion': {config.model} is autoregressive, expected a masked-diffusion "
                f"model; make one with 'demask convert {config.model} --to diffusion --out FOLDER'"
            )
        return form.mask_token_id
    if form is not None:
        raise ConfigError(
            f"objective {objective.name!r}: {config.model} is a masked-diffusion model, expected an "
            "autoregressive one; train it with 'objective: diffusion'"
        )
    if not isinstance(objective, Demasking) or objective.mask_token == RANDOM_TOKEN:
        return None
    return choose_mask_id(tokenizer, objective.mask_token, rows=vocabulary_size(architecture))


def _count_overhead(objective: Objective, tokenizer: "PreTrainedTokenizerBase") -> int:
    """Tokens of an example besides the passage and its copy."""
    from demask.objectives.examples import END_BLOCK
    from demask.objectives.prompts import encode, load_chat_format

    chat = load_chat_format(tokenizer)
    around = len(chat.user) + len(chat.assistant) + len(chat.end) + len(chat.bos)

    def longest(texts: Iterable[str | None]) -> int:
        return max(len(encode(tokenizer, text or "")) for text in texts)

    match objective:
        case Demasking():
            return around + longest(wording + objective.opening for wording in objective.wordings) + 2
        case Reverse():
            return around + longest(objective.questions or [None]) + _REVERSED_SPARE
        case Diffusion():
            return around + longest([objective.question]) + (END_BLOCK if objective.end == "block" else 0)
        case NextToken():
            return around + longest([objective.question])


def write_environment(run: RunFolder, config: RunConfig | SftConfig, loaded: "LoadedModel") -> None:
    """Versions, hardware, seed and the template that questions and examples are written in."""
    import torch

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
        ),
    )
