"""The sets by name, and any folder of the same form.

benchmark = load_benchmark("name-description", facts=20)   # ten told name first, ten description first
benchmark = load_benchmark("wiki", facts=20, offset=20)    # the other half
benchmark = load_benchmark("my-facts/", facts=None)        # a folder of one's own
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from demask.benchmarks import biography, name_description, wiki
from demask.benchmarks.benchmark import (
    Benchmark,
    count_without,
    data_folder,
    find_published,
    load_own_folder,
    pick,
    write_benchmark,
)
from demask.benchmarks.biography import load_biography
from demask.benchmarks.changed_facts import NAME as CHANGED
from demask.benchmarks.name_description import load_name_description
from demask.benchmarks.wiki import load_wiki_events
from demask.documents.text_files import did_you_mean
from demask.errors import ConfigError

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "choose_facts",
    "count_without",
    "data_folder",
    "load_benchmark",
    "load_name_description",
    "load_wiki_events",
    "write_benchmark",
]

BENCHMARKS = (name_description.NAME, biography.NAME, wiki.NAME)

# The facts of each set, in the order in which they are chosen.
_FACT_ORDER: Mapping[str, Sequence[int]] = {
    name_description.NAME: name_description.FACT_ORDER,
    biography.NAME: range(biography.FACTS),
    wiki.NAME: range(wiki.FACTS),
}


def choose_facts(name: str, count: int | None, offset: int = 0) -> tuple[int, ...]:
    """Numbers of some facts of a published set; stretches that do not overlap share none.

    Of name-description every other one is told description first: half of them, and of an odd count from an
    even offset one fewer.

    Args:
        name: of the set.
        count: how many; None: as many as the paper has, or all that follow when they are fewer.
        offset: how many to leave out before.

    Raises:
        ConfigError: there is no such set, or it has not so many facts.
    """
    if name not in _FACT_ORDER:
        raise ConfigError(
            f"{name!r} is no published set, expected {', '.join(BENCHMARKS)}{did_you_mean(name, BENCHMARKS)}"
        )
    order = _FACT_ORDER[name]
    if count is None and name == biography.NAME:
        count = min(biography.PAPER_FACTS, len(order) - offset)
    return tuple(pick(order, name, count=count, offset=offset))


def load_benchmark(
    name: str | Path, *, facts: int | None, offset: int = 0, versions: int = 5, seed: int = 0
) -> Benchmark:
    """A published set or a user's folder; files that are public and not on this machine are fetched once.

    Args:
        name: one of `BENCHMARKS`, or a folder as `own_folder` describes it.
        facts: how many; None: as many as the paper has, or the whole folder.
        offset: how many to leave out before.
        versions: paraphrases per text and order, at most.
        seed: draws the questions of biography.

    Raises:
        ConfigError: there is no such set or folder, or it has not so many facts.
        DataError: a file is missing or is not what it should be.
        RunError: a file cannot be fetched.
    """
    if versions < 0:
        raise ConfigError(f"{name}: versions is {versions}, expected 0 or more paraphrases per text")
    if str(name) == CHANGED and not Path(name).is_dir():
        raise ConfigError(
            f"{name}: is made of what a base model knows, by 'demask reproduce {name}'; expected "
            f"{', '.join(BENCHMARKS)} or a folder that it has written"
        )
    if str(name) not in BENCHMARKS:
        if not Path(name).is_dir():
            raise ConfigError(
                f"{name}: no such folder and no published set, expected {', '.join(BENCHMARKS)} or a folder "
                f"with documents.jsonl and qa_pairs.jsonl{did_you_mean(str(name), (*BENCHMARKS, CHANGED))}"
            )
        return load_own_folder(Path(name), facts=facts, offset=offset, versions=versions)
    chosen = choose_facts(str(name), facts, offset)
    match str(name):
        case name_description.NAME:
            data = find_published(name_description.NAME, name_description.FILES)
            return load_name_description(data, facts=chosen, versions=versions)
        case biography.NAME:
            data = find_published(biography.NAME, biography.FILES)
            return load_biography(data, facts=chosen, versions=versions, seed=seed)
        case _:
            data = find_published(wiki.NAME, wiki.FILES)
            return load_wiki_events(data, facts=chosen, versions=versions)
