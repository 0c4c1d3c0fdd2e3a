"""A user's own conversations that must stay as they are: `retain.data`, read, checked and kept with the run.

    retained = read_retained(config, progress)
    keep_retained(run, retained)                         # retain.jsonl; a run that goes on compares
    talks = make_talks(loaded, retained, progress, ...)     # as the pool of replay has them

Each line holds {"messages": [...]}. A conversation that ends with the assistant's words is replayed with
these, one that ends with the user's with what the base model says to it.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from demask.data.conversations import Conversation as Dialogue
from demask.data.conversations import Turn, UnusedKeys, make_replayed_conversation, name_unused
from demask.data.sources import find_tables, read_table
from demask.errors import ConfigError, DataError
from demask.progress import Progress
from demask.recipe.fine_tuning import TaskConfig
from demask.records import Sample
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.generation.conversations import Conversation
    from demask.models.load import LoadedModel

# Begins the ids of these conversations in the pool.
FROM_FILE = "file"
# Too long ones that an error names.
_MOST_NAMED = 3


@dataclass(frozen=True)
class Retained:
    """The conversations of the file.

    Attributes:
        dialogues: as they were read.
        samples: the same as token ids; an answer is empty where the base model is to write it.
    """

    dialogues: tuple[Dialogue, ...] = ()
    samples: tuple[Sample, ...] = ()


def read_retained(config: TaskConfig, progress: Progress) -> Retained:
    """The conversations that the recipe names; none where it names no file.

    Args:
        config: of the run; of the model its tokenizer and configuration are read.
        progress: told of what the rows hold besides.

    Raises:
        DataError: a row is not usable, or a conversation is longer than the model's context.
        ModelError: the chat template writes several turns otherwise than one.
    """
    path = config.retain.data
    if path is None:
        return Retained()
    from demask.data.samples import make_samples, template_cutter
    from demask.generation.self_chats import REPLY_TOKENS
    from demask.models.context import load_context
    from demask.models.load import context_length

    found, unused = find_tables([path]), UnusedKeys()
    dialogues = tuple(
        make_replayed_conversation(row, unused) for source in found.sources for row in read_table(source)
    )
    if unused.characters:
        progress.say(f"{path}: not replayed: {name_unused(unused.characters)}; only the turns are")
    context = load_context(config.model, config.objective)
    placed = list(
        make_samples(
            map(_with_answer, dialogues),
            turns="last",
            tokenizer=context.tokenizer,
            cut=template_cutter(context.tokenizer, context.chat),
        )
    )
    around, most = len(context.chat.assistant), context_length(context.architecture)

    def length(sample: Sample) -> int:
        answer = len(sample.answer) + len(context.chat.end) if sample.answer else REPLY_TOKENS
        return len(sample.prompt) + around + answer

    _refuse_longer({one.source: length(one.sample) for one in placed}, most, config.model)
    return Retained(dialogues, tuple(one.sample for one in placed))


def _with_answer(dialogue: Dialogue) -> Dialogue:
    """With an empty answer at its end, where the assistant has not spoken last."""
    if dialogue.turns[-1].role == "assistant":
        return dialogue
    return replace(dialogue, turns=(*dialogue.turns, Turn("assistant", "")))


def _refuse_longer(tokens: dict[str, int], most: int, model: str) -> None:
    longer = sorted((place for place in tokens if tokens[place] > most), key=lambda place: -tokens[place])
    if not longer:
        return
    named = ", ".join(f"{place} ({tokens[place]:,} tokens)" for place in longer[:_MOST_NAMED])
    more = f" and {len(longer) - _MOST_NAMED} more" if len(longer) > _MOST_NAMED else ""
    raise DataError(
        f"retain.data: too long are {named}{more}, expected at most {most:,} tokens, which is the context of "
        f"{model}; shorten or remove them"
    )


def keep_retained(run: RunFolder, retained: Retained) -> None:
    """Copy the conversations into the run folder.

    Raises:
        ConfigError: the folder holds others, so that going on would mix two runs.
    """
    if not retained.dialogues:
        return
    if not run.has(file_names.RETAIN_DATA):
        run.write_rows(file_names.RETAIN_DATA, retained.dialogues)
    elif not run.holds_rows(file_names.RETAIN_DATA, retained.dialogues):
        raise ConfigError(
            f"{run.path}: the conversations of retain.data have changed since this run began "
            f"({file_names.RETAIN_DATA} has the former ones); choose another --out or delete the folder"
        )


def make_talks(
    loaded: "LoadedModel", retained: Retained, progress: Progress, *, seed: int, rows: int
) -> "list[Conversation]":
    """The conversations as the pool of replay has them, with the base model's likeliest tokens.

    Args:
        loaded: the base model.
        retained: of the run.
        progress: told how far it is.
        seed: of the replies that the base model draws.
        rows: replies that are drawn side by side.
    """
    from demask.generation.conversations import Conversation, add_targets
    from demask.generation.self_chats import REPLY_TOKENS, draw_replies

    chat = loaded.chat
    asked = [place for place, sample in enumerate(retained.samples) if not sample.answer]
    if asked:
        progress.begin("Answering conversations of retain.data", REPLY_TOKENS * len(asked), unit="tokens")
    replies = draw_replies(
        loaded,
        [(*retained.samples[place].prompt, *chat.assistant) for place in asked],
        name=f"{FROM_FILE}-asked",
        seed=seed,
        rows=rows,
        on_drawn=progress.advance,
    )
    written = [
        Conversation(
            f"{FROM_FILE}-{number:05d}",
            (*sample.prompt, *chat.assistant),
            (*sample.answer, *chat.end),
        )
        for number, sample in enumerate(retained.samples)
        if sample.answer
    ]
    progress.begin("Scoring conversations of retain.data", 1, unit="files")
    return [*add_targets(loaded, written), *replies]
