"""What a run trains on and is asked while it trains: its data.

data = read_training_data(config, run)
check_share(config, data, launch)
"""

from collections.abc import Sequence
from typing import NamedTuple

from demask.recipe.launch import Launch
from demask.recipe.sections import RunConfig
from demask.records import Paraphrase, Passage, QAPair
from demask.storage import file_names
from demask.storage.run_folder import RunFolder


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
    from demask.training.plan import check_ranks, make_schedule

    texts = len(data.passages) + len(data.paraphrases)
    schedule = make_schedule(config.train, passages=texts, copies=config.objective.together)
    check_ranks(config.train, batch_size=schedule.batch_size, ranks=launch.ranks)
