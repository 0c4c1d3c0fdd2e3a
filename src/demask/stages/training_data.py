"""What a run trains on and is asked while it trains: its data, and the stream of their exposures.

data = read_training_data(config, run)
check_share(config, data, launch)
stream = make_stream(config, tokenizer, architecture, data.passages)
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from demask.recipe.launch import Launch
from demask.recipe.sections import RunConfig
from demask.records import Paraphrase, Passage, QAPair
from demask.stages.inputs import find_mask_id
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from demask.training.sampler import ExposureStream


class TrainingData(NamedTuple):
    """What is trained, and what is asked on the way."""

    passages: Sequence[Passage]
    paraphrases: Sequence[Paraphrase]
    pairs: Sequence[QAPair]


def read_training_data(config: RunConfig, run: RunFolder) -> TrainingData:
    """The data of a run whose earlier stages are done, for a process that joins it.

    Raises:
        RunError: a file is missing.
    """
    return TrainingData(
        run.open_records(file_names.PASSAGES, Passage),
        run.open_records(file_names.PARAPHRASES, Paraphrase) if config.paraphrases else (),
        run.read_records(file_names.QA_PAIRS, QAPair) if run.has(file_names.QA_PAIRS) else (),
    )


def check_share(config: RunConfig, data: TrainingData, launch: Launch) -> None:
    """See that a step has an example for each process, before hours of asking.

    Raises:
        ConfigError: it has fewer.
    """
    from demask.objectives.examples import count_copies
    from demask.training.plan import check_ranks, make_schedule

    texts = len(data.passages) + len(data.paraphrases)
    schedule = make_schedule(config.train, passages=texts, copies=count_copies(config.objective))
    check_ranks(config.train, batch_size=schedule.batch_size, ranks=launch.ranks)


def make_stream(
    config: RunConfig,
    tokenizer: "PreTrainedTokenizerBase",
    architecture: "PretrainedConfig",
    passages: Sequence[Passage],
) -> "ExposureStream[Passage]":
    """Every exposure of the run, in order."""
    from demask.objectives.examples import count_copies, count_variants, example_maker
    from demask.objectives.prompts import count_tokens, load_chat_format
    from demask.training.plan import make_schedule
    from demask.training.sampler import ExposureStream

    copies = count_copies(config.objective)
    schedule = make_schedule(config.train, passages=len(passages), copies=copies)
    return ExposureStream(
        passages,
        count_tokens(tokenizer, (passage.training_text for passage in passages)),
        example_maker(
            config.objective,
            tokenizer=tokenizer,
            chat=load_chat_format(tokenizer),
            mask_id=find_mask_id(config, tokenizer, architecture),
            seed=config.seed,
        ),
        variants=count_variants(config.objective),
        batch_size=schedule.batch_size,
        steps=schedule.steps,
        seed=config.seed,
        copies=copies,
    )
