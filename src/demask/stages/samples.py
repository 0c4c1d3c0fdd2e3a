"""Data in, samples out: tokenised once, kept in the user's cache, and held against the model's context.

samples = prepare(config, context, progress)
stream = make_stream(config, context, samples.trained)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from demask.data.sequences import ChosenSamples
from demask.environment import cache_folder
from demask.errors import ConfigError, RunError
from demask.objectives.cpt import Cpt, MaskedCpt
from demask.objectives.masking import keyed_rng
from demask.progress import Progress
from demask.recipe.fine_tuning import SftConfig
from demask.stages.retention import summarise_retention
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.data.samples import Limit
    from demask.data.streaming import StreamedSamples
    from demask.data.tokenising import ConversationData, SampleFile, TextData
    from demask.objectives.objective import Context


@dataclass(frozen=True)
class PreparedSamples:
    """What is trained, and what is kept apart to measure on."""

    trained: ChosenSamples
    held_out: ChosenSamples


def longest_example(config: SftConfig, context: "Context") -> int:
    """Tokens that an example may have.

    Raises:
        ConfigError: the recipe asks for more than the model's context.
    """
    from demask.models.load import context_length

    available = context_length(context.architecture)
    if config.max_tokens is not None and config.max_tokens > available:
        raise ConfigError(
            f"max_tokens is {config.max_tokens}, expected at most {available}, the context of {config.model}"
        )
    return config.max_tokens or available


def prepare(
    config: SftConfig,
    context: "Context",
    progress: Progress,
) -> PreparedSamples:
    """Tokenise the data, or find it in the cache, and hold some samples out.

    Raises:
        DataError: a file or a row is not usable, or a sample is too long.
        ConfigError: blocks are longer than the model's context, or nothing would be left to train.
        ModelError: the chat template fails its test.
    """
    from demask.data.tokenising import prepare_blocks, prepare_samples

    cache = cache_folder() / "samples"
    if config.is_text:
        check_block(config, context)
        text = text_data(config)
        return hold_out(
            config, prepare_blocks(text, tokenizer=context.tokenizer, cache=cache, progress=progress)
        )
    file = prepare_samples(
        conversation_data(config),
        tokenizer=context.tokenizer,
        chat=context.chat,
        limit=make_limit(config, context),
        cache=cache,
        progress=progress,
    )
    return hold_out(config, file)


def conversation_data(config: SftConfig) -> "ConversationData":
    """What is read, where, and which of the turns."""
    from demask.data.conversations import Columns
    from demask.data.tokenising import ConversationData

    given = config.columns
    columns = Columns(given.prompt, given.response, given.messages, given.ignore)
    return ConversationData(config.data, columns, config.turns)


def block_length(config: SftConfig) -> int:
    """Tokens of a block of running text."""
    assert isinstance(config.objective, Cpt | MaskedCpt)
    return config.objective.block_length


def text_data(config: SftConfig) -> "TextData":
    """The running text that is read, and its blocks."""
    from demask.data.tokenising import TextData

    return TextData(config.data, config.columns.text, block_length(config))


def make_limit(config: SftConfig, context: "Context") -> "Limit":
    """What is too long, and what is done about it."""
    from demask.data.samples import Limit

    longest = longest_example(config, context)
    count = config.objective.example_length(context)
    around = count(1, 0) - 1
    twice = ", and the answer twice" if count(1, 1) - count(1, 0) == 2 else ""
    return Limit(
        lambda prompt, answer: count(prompt, answer) <= longest,
        f"at most {longest} in an example, which also holds {around} of template and instruction{twice}",
        config.too_long,
    )


def check_block(config: SftConfig, context: "Context") -> None:
    """See whether blocks fit the model's context.

    Raises:
        ConfigError: they do not.
    """
    length = block_length(config)
    count = config.objective.example_length(context)
    limit, longest = longest_example(config, context), count(0, length)
    if longest > limit:
        raise ConfigError(
            f"objective.block_length is {length}, which makes examples of {longest} tokens; expected at most "
            f"{limit} in an example (max_tokens, or the model's context)"
        )


def hold_out(config: SftConfig, file: "SampleFile") -> PreparedSamples:
    """Split off the samples to measure on: the same whatever the seed, so that runs can be compared.

    Raises:
        ConfigError: nothing would be left to train.
    """
    if config.held_out >= len(file):
        raise ConfigError(
            f"held_out is {config.held_out}, expected less than the {len(file)} samples that there are"
        )
    apart = sorted(keyed_rng("held out").sample(range(len(file)), config.held_out))
    trained = np.delete(np.arange(len(file)), apart)
    return PreparedSamples(
        ChosenSamples(file, trained), ChosenSamples(file, np.asarray(apart, dtype=np.int64))
    )


def open_sample_stream(
    config: SftConfig,
    context: "Context",
    progress: Progress,
) -> "StreamedSamples":
    """The same of data that are read and tokenised as they are needed, and never kept."""
    from demask.data.streaming import StreamedSamples
    from demask.data.tokenising import block_reader, sample_reader

    assert config.train.steps is not None, "the recipe was checked for steps"
    if config.is_text:
        check_block(config, context)
        read = block_reader(text_data(config), tokenizer=context.tokenizer)
    else:
        read = sample_reader(
            conversation_data(config),
            tokenizer=context.tokenizer,
            chat=context.chat,
            limit=make_limit(config, context),
            progress=progress,
        )
    return StreamedSamples(
        read,
        config.objective.example_maker(context, seed=config.seed),
        batch_size=config.train.batch_size,
        steps=config.train.steps,
        seed=config.seed,
    )


def describe_samples(samples: PreparedSamples) -> dict[str, object]:
    """What there is, for the run folder."""
    file = samples.trained.file
    return {
        "samples": len(samples.trained),
        "held_out": len(samples.held_out),
        "left_out": file.left_out.count,
        "left_out_first": list(file.left_out.first),
        "unused_characters": dict(file.unused),
        "prompt_tokens": int(samples.trained.prompt_lengths.sum()),
        "answer_tokens": int(samples.trained.answer_lengths.sum()),
        "cache": str(file.folder),
    }


def open_prepared(config: SftConfig, run: RunFolder) -> PreparedSamples:
    """The samples that another process of this run has prepared.

    Raises:
        RunError: the cache has lost them.
    """
    from demask.data.tokenising import open_samples

    folder = Path(run.read_json(file_names.DATA)["cache"])
    file = open_samples(folder)
    if file is None:
        raise RunError(f"{folder}: the tokenised data are gone; start the same command again")
    return hold_out(config, file)


def check_sft(config: SftConfig) -> None:
    """See whether the recipe can train this kind of model, before minutes of tokenising.

    Raises:
        ConfigError, ModelError: it cannot.
    """
    from demask.models.context import load_context

    context = load_context(config.model, config.objective)
    longest_example(config, context)
    if config.is_text:
        check_block(config, context)


def prepare_stage(config: SftConfig, run: RunFolder, progress: Progress) -> PreparedSamples | None:
    """Tokenise the data and write down what there is; None where they are read while training.

    Raises:
        DataError, ConfigError, ModelError: see `samples.prepare`.
    """
    from demask.models.context import load_context

    if config.stream:
        run.write_json(file_names.DATA, {"stream": True, "held_out": 0})
        return None
    samples = prepare(config, load_context(config.model, config.objective), progress)
    run.write_json(file_names.DATA, describe_samples(samples))
    return samples


def summarise_sft(config: SftConfig, run: RunFolder, retention: Mapping[str, Any]) -> dict[str, Any]:
    """What the run did, as `summary.json` has it.

    Args:
        config: of the run.
        run: gets `summary.json`.
        retention: what else training changed, as `judge_stage` gives it; empty when not measured.
    """
    training, data = run.read_json(file_names.TRAINING), run.read_json(file_names.DATA)
    losses: Sequence[dict[str, Any]] = (
        run.read_rows(file_names.HELD_OUT) if run.has(file_names.HELD_OUT) else []
    )
    summary = {
        "objective": config.objective.name,
        "model": config.model,
        **{key: value for key, value in training.items() if key != "document_tokens"},
        "data": {key: value for key, value in data.items() if key != "cache"},
        "held_out_loss": {"before": losses[0]["loss"], "after": losses[-1]["loss"]} if losses else None,
        "drift": training["interpolation"][-1]["drift"] if "interpolation" in training else None,
        "retention": summarise_retention(retention),
    }
    run.write_json(file_names.SUMMARY, summary)
    return summary
