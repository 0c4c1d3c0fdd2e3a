"""Data in, samples out: tokenised once, kept in the user's cache, and held against the model's context.

samples = prepare(config, tokenizer, architecture, progress)
stream = make_sample_stream(config, samples.trained, tokenizer, architecture)
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from demask.environment import cache_folder
from demask.errors import ConfigError, RunError
from demask.objectives.masking import keyed_rng
from demask.progress import Progress
from demask.recipe.fine_tuning import DEFAULT_EPOCHS, Cpt, MaskedCpt, SftConfig
from demask.records import Sample
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from demask.data.samples import Limit
    from demask.data.streaming import StreamedSamples
    from demask.data.tokenising import ConversationData, SampleFile, TextData
    from demask.objectives.samples import SampleExampleMaker
    from demask.training.sampler import ExposureStream

Lengths: TypeAlias = "NDArray[Any]"  # integers, one for each sample


@dataclass(frozen=True, eq=False)
class Chosen(Sequence[Sample]):
    """Some samples of a file, in its order.

    Attributes:
        file: all of them.
        places: which, as rows of the file.
    """

    file: "SampleFile"
    places: "NDArray[np.int64]"

    def __len__(self) -> int:
        """How many there are."""
        return len(self.places)

    def __iter__(self) -> Iterator[Sample]:
        """All of them, in order."""
        return (self.file[int(place)] for place in self.places)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        """One of them, or some."""
        if isinstance(place, slice):
            return [self.file[int(number)] for number in self.places[place]]
        return self.file[int(self.places[place])]

    @property
    def prompt_lengths(self) -> Lengths:
        """Tokens of each prompt."""
        return np.asarray(self.file.prompt_lengths)[self.places]

    @property
    def answer_lengths(self) -> Lengths:
        """Tokens of each answer."""
        return np.asarray(self.file.answer_lengths)[self.places]


@dataclass(frozen=True)
class Samples:
    """What is trained, and what is kept apart to measure on."""

    trained: Chosen
    held_out: Chosen


def choose_mask(
    config: SftConfig, tokenizer: "PreTrainedTokenizerBase", architecture: "PretrainedConfig"
) -> int | None:
    """The token that stands for a masked one; None where nothing is masked.

    Raises:
        ConfigError: the model is a masked-diffusion one.
        ModelError: there is no usable mask token.
    """
    from demask.models.diffusion import diffusion_form, vocabulary_size
    from demask.models.families import choose_mask_id

    if diffusion_form(architecture) is not None:
        raise ConfigError(
            f"{config.model}: a masked-diffusion model, expected an autoregressive one; "
            "teach it documents with 'demask inject --objective diffusion'"
        )
    wanted = getattr(config.objective, "mask_token", None)
    if not hasattr(config.objective, "mask_ratio"):
        return None
    return choose_mask_id(tokenizer, wanted, rows=vocabulary_size(architecture))


def longest_example(config: SftConfig, architecture: "PretrainedConfig") -> int:
    """Tokens that an example may have.

    Raises:
        ConfigError: the recipe asks for more than the model's context.
    """
    from demask.models.load import context_length

    context = context_length(architecture)
    if config.max_tokens is not None and config.max_tokens > context:
        raise ConfigError(
            f"max_tokens is {config.max_tokens}, expected at most {context}, the context of {config.model}"
        )
    return config.max_tokens or context


def prepare(
    config: SftConfig,
    tokenizer: "PreTrainedTokenizerBase",
    architecture: "PretrainedConfig",
    progress: Progress,
) -> "Samples":
    """Tokenise the data, or find it in the cache, and hold some samples out.

    Raises:
        DataError: a file or a row is not usable, or a sample is too long.
        ConfigError: blocks are longer than the model's context, or nothing would be left to train.
        ModelError: the chat template fails its test.
    """
    from demask.data.tokenising import prepare_blocks, prepare_samples
    from demask.objectives.prompts import load_chat_format

    cache = cache_folder() / "samples"
    if isinstance(config.objective, Cpt | MaskedCpt):
        check_block(config, tokenizer, architecture)
        text = text_data(config, config.objective)
        return hold_out(config, prepare_blocks(text, tokenizer=tokenizer, cache=cache, progress=progress))
    file = prepare_samples(
        conversation_data(config),
        tokenizer=tokenizer,
        chat=load_chat_format(tokenizer),
        limit=make_limit(config, tokenizer, architecture),
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


def text_data(config: SftConfig, objective: Cpt | MaskedCpt) -> "TextData":
    """The running text that is read, and its blocks."""
    from demask.data.tokenising import TextData

    return TextData(config.data, config.columns.text, objective.block_length)


def make_limit(
    config: SftConfig, tokenizer: "PreTrainedTokenizerBase", architecture: "PretrainedConfig"
) -> "Limit":
    """What is too long, and what is done about it."""
    from demask.data.samples import Limit
    from demask.objectives.prompts import load_chat_format
    from demask.objectives.samples import count_example

    longest = longest_example(config, architecture)
    count = count_example(config.objective, tokenizer=tokenizer, chat=load_chat_format(tokenizer))
    around = count(1, 0) - 1
    twice = ", and the answer twice" if count(1, 1) - count(1, 0) == 2 else ""
    return Limit(
        lambda prompt, answer: count(prompt, answer) <= longest,
        f"at most {longest} in an example, which also holds {around} of template and instruction{twice}",
        config.too_long,
    )


def check_block(
    config: SftConfig, tokenizer: "PreTrainedTokenizerBase", architecture: "PretrainedConfig"
) -> None:
    """See whether blocks fit the model's context.

    Raises:
        ConfigError: they do not.
    """
    from demask.objectives.prompts import load_chat_format
    from demask.objectives.samples import count_example

    length = getattr(config.objective, "block_length", 0)
    count = count_example(config.objective, tokenizer=tokenizer, chat=load_chat_format(tokenizer))
    limit, longest = longest_example(config, architecture), count(0, length)
    if longest > limit:
        raise ConfigError(
            f"objective.block_length is {length}, which makes examples of {longest} tokens; expected at most "
            f"{limit} in an example (max_tokens, or the model's context)"
        )


def hold_out(config: SftConfig, file: "SampleFile") -> "Samples":
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
    return Samples(Chosen(file, trained), Chosen(file, np.asarray(apart, dtype=np.int64)))


def make_sample_stream(
    config: SftConfig,
    samples: Chosen,
    tokenizer: "PreTrainedTokenizerBase",
    architecture: "PretrainedConfig",
) -> "ExposureStream[Sample]":
    """Every exposure of the run, in order."""
    from demask.training.plan import make_schedule
    from demask.training.sampler import ExposureStream

    train = with_length(config).train
    schedule = make_schedule(train, passages=len(samples))
    return ExposureStream(
        samples,
        array("I", count_examples(config, samples, tokenizer).astype("uint32").tobytes()),
        make_maker(config, tokenizer, architecture),
        variants=1,
        batch_size=schedule.batch_size,
        steps=schedule.steps,
        seed=config.seed,
    )


def open_sample_stream(
    config: SftConfig,
    tokenizer: "PreTrainedTokenizerBase",
    architecture: "PretrainedConfig",
    progress: Progress,
) -> "StreamedSamples":
    """The same of data that are read and tokenised as they are needed, and never kept."""
    from demask.data.streaming import StreamedSamples
    from demask.data.tokenising import block_reader, sample_reader
    from demask.objectives.prompts import load_chat_format

    assert config.train.steps is not None, "the recipe was checked for steps"
    if isinstance(config.objective, Cpt | MaskedCpt):
        check_block(config, tokenizer, architecture)
        read = block_reader(text_data(config, config.objective), tokenizer=tokenizer)
    else:
        read = sample_reader(
            conversation_data(config),
            tokenizer=tokenizer,
            chat=load_chat_format(tokenizer),
            limit=make_limit(config, tokenizer, architecture),
            progress=progress,
        )
    return StreamedSamples(
        read,
        make_maker(config, tokenizer, architecture),
        batch_size=config.train.batch_size,
        steps=config.train.steps,
        seed=config.seed,
    )


def make_maker(
    config: SftConfig, tokenizer: "PreTrainedTokenizerBase", architecture: "PretrainedConfig"
) -> "SampleExampleMaker":
    """What makes examples of samples."""
    from demask.objectives.prompts import load_chat_format
    from demask.objectives.samples import sample_maker

    return sample_maker(
        config.objective,
        tokenizer=tokenizer,
        chat=load_chat_format(tokenizer),
        mask_id=choose_mask(config, tokenizer, architecture),
        seed=config.seed,
    )


def count_examples(config: SftConfig, samples: Chosen, tokenizer: "PreTrainedTokenizerBase") -> Lengths:
    """Tokens of the example of each sample, of the longer kind where kinds are mixed."""
    from demask.objectives.prompts import load_chat_format
    from demask.objectives.samples import count_example

    count = count_example(config.objective, tokenizer=tokenizer, chat=load_chat_format(tokenizer))
    # Linear in both lengths, but for a prompt of nothing.
    nothing, prompt, answer = count(0, 0), count(1, 0), count(1, 1)
    prompts, answers = samples.prompt_lengths, samples.answer_lengths
    around = np.where(prompts > 0, prompt - 1, nothing)
    lengths: Lengths = around + prompts + (answer - prompt) * answers
    return lengths


def with_length(config: SftConfig) -> SftConfig:
    """The recipe with a length of training: two epochs where it says none."""
    train = config.train
    if train.steps is not None or train.epochs is not None:
        return config
    return config.model_copy(update={"train": train.model_copy(update={"epochs": DEFAULT_EPOCHS})})


def describe_samples(samples: Samples) -> dict[str, object]:
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


def open_prepared(config: SftConfig, run: RunFolder) -> Samples:
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
