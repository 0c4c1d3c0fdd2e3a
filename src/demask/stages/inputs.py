"""Documents and questions in, passages out; and where the run is made.

knowledge = load_knowledge(config)            # errors in the data come before anything is made
write_knowledge(run, knowledge)
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demask import rundir
from demask.config import Demasking, Diffusion, NextToken, Objective, Reverse, RunConfig
from demask.documents.load import SUFFIXES, load_documents
from demask.documents.passages import make_passages, measure_coverage
from demask.environment import describe_environment
from demask.errors import ConfigError, ModelError
from demask.knowledge.qa_pairs import load_qa_pairs
from demask.progress import Progress
from demask.records import Document, Passage, QAPair
from demask.rundir import RunFolder

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from demask.models.load import LoadedModel

# Longest passage when the recipe does not say: with its masked copy it takes about 1,100 tokens.
MAX_TOKENS = 512
# A text may take more tokens with its words in reverse order, as spaces join other words.
_REVERSED_SPARE = 64


@dataclass(frozen=True)
class Knowledge:
    """What is to be learned, and how that is tested."""

    documents: tuple[Document, ...]
    pairs: tuple[QAPair, ...]
    skipped: tuple[str, ...]  # files in the given folders that are no documents


def load_knowledge(config: RunConfig) -> Knowledge:
    """Read documents and questions; needs no model.

    Raises:
        DataError: a file, a line or an id is not usable.
    """
    loaded = load_documents(config.documents, text_column=config.text_column)
    pairs: tuple[QAPair, ...] = ()
    if config.qa is not None:
        pairs = tuple(load_qa_pairs(config.qa, documents={document.id for document in loaded.documents}))
    return Knowledge(loaded.documents, pairs, loaded.skipped)


def write_knowledge(run: RunFolder, knowledge: Knowledge) -> None:
    """Copy documents and questions into the run folder.

    Raises:
        ConfigError: the folder holds those of another time, so that going on would mix two runs.
    """
    files: tuple[tuple[str, Sequence[object]], ...] = (
        (rundir.DOCUMENTS, knowledge.documents),
        (rundir.QA_PAIRS, knowledge.pairs),
    )
    for name, records in files:
        if not run.has(name):
            run.write_rows(name, records)
        elif run.read_rows(name) != rundir.as_rows(records):
            raise ConfigError(
                f"{run.path}: {name} has changed since this run began; "
                "choose another --out or delete the folder"
            )


def split_stage(
    config: RunConfig,
    run: RunFolder,
    knowledge: Knowledge,
    load: Callable[[], "LoadedModel"],
    progress: Progress,
) -> list[Passage]:
    """Passages that fit the model's context together with their masked copy; says what they cover."""
    if not run.has(rundir.PASSAGES):
        loaded = load()
        write_environment(run, config, loaded)
        run.write_rows(
            rundir.PASSAGES,
            split_documents(config, knowledge.documents, loaded.tokenizer, loaded.model.config),
        )
    passages = run.read_records(rundir.PASSAGES, Passage)
    covered = measure_coverage(knowledge.documents, passages)
    progress.say(
        f"{len(knowledge.documents)} documents, {len(passages)} passages, "
        f"coverage {covered:.0%} (share of the text that stands in passages)"
    )
    for name in knowledge.skipped:
        progress.say(f"{name}: left out, expected {', '.join(SUFFIXES)}")
    return passages


def split_documents(
    config: RunConfig,
    documents: Sequence[Document],
    tokenizer: "PreTrainedTokenizerBase",
    architecture: "PretrainedConfig",
) -> list[Passage]:
    """Passages that fit the model's context, where the objective asks for it with their masked copy.

    Raises:
        DataError: a sentence is longer than a passage may be.
        ConfigError: the recipe asks for longer passages than fit, or for an objective that this kind of
            model cannot be trained with.
        ModelError: there is no usable mask token.
    """
    from demask.models.load import context_length
    from demask.objectives.prompts import count_tokens

    find_mask_id(config, tokenizer, architecture)  # before hours of asking, not after
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
    texts = [document.text for document in documents]
    whole = dict(zip(texts, count_tokens(tokenizer, texts), strict=True))
    return make_passages(
        documents,
        count_tokens=lambda text: whole[text] if text in whole else count_tokens(tokenizer, [text])[0],
        max_tokens=config.max_tokens or min(MAX_TOKENS, fitting),
    )


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
    """The token that stands for a masked one; None where the objective masks nothing.

    Raises:
        ConfigError: the objective cannot train this kind of model.
        ModelError: there is no usable mask token.
    """
    from demask.models.diffusion import diffusion_form
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
    return choose_mask_id(tokenizer, objective.mask_token) if isinstance(objective, Demasking) else None


def _count_overhead(objective: Objective, tokenizer: "PreTrainedTokenizerBase") -> int:
    """Tokens of an example besides the passage and its copy."""
    from demask.objectives.prompts import encode, load_chat_format

    chat = load_chat_format(tokenizer)
    around = len(chat.user) + len(chat.assistant) + len(chat.end) + len(chat.bos)
    match objective:
        case Demasking():
            return around + len(encode(tokenizer, objective.instruction + objective.opening)) + 2
        case Reverse():
            questions = (objective.question, objective.reversed_question)
            return around + max(len(encode(tokenizer, question)) for question in questions) + _REVERSED_SPARE
        case Diffusion():
            filled = objective.block_length if objective.end == "block" else 0
            return around + len(encode(tokenizer, objective.question)) + filled
        case NextToken():
            return around + len(encode(tokenizer, objective.question))


def write_environment(run: RunFolder, config: RunConfig, loaded: "LoadedModel") -> None:
    """Versions, hardware, seed and the template that questions and examples are written in."""
    import torch

    from demask.models.precision import choose_bf16

    run.write_json(
        rundir.ENVIRONMENT,
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
