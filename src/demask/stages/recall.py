"""What a model says of documents that it has learned, to be replayed in place of their texts.

    recall_stage(run, lineage, passages, load, config, progress)         # recalled.jsonl
    old = choose_old_passages(run, lineage, passages)                    # these, or the texts themselves

Of the texts only names are used: titles, entities and words with a capital letter. The model is asked about
each of them, and what it says is trained as a passage would be.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from demask.errors import ConfigError, DataError
from demask.generation.near_misses import find_names
from demask.progress import Progress
from demask.recipe.sections import RunConfig
from demask.records import Document, Passage
from demask.stages.lineage import Lineage, Origin
from demask.stages.passages import MAX_TOKENS
from demask.storage import file_names
from demask.storage.run_folder import RunFolder
from demask.words import split_words

if TYPE_CHECKING:
    from demask.models.load import LoadedModel

# Names of a document that are asked about, and what is asked, each once.
_NAMES = 3
_QUESTIONS = ("Tell me about {}.", "What is known of {}?", "Write down what you know about {}.")
_SEED = 17
_ROWS = 128


def check_recall(config: RunConfig, origin: Origin | None) -> None:
    """See that the parent's model can be asked, where it is to be.

    Raises:
        ConfigError: it is a masked-diffusion model.
    """
    if origin is not None and not origin.old_texts and config.objective.needs.diffusion:
        raise ConfigError(
            "--without-old-texts: a masked-diffusion model is not asked for what it says of documents; leave "
            "it out, so that their texts are replayed"
        )


def recall_stage(
    config: RunConfig,
    run: RunFolder,
    lineage: Lineage | None,
    old: Sequence[Passage],
    load: "Callable[[], LoadedModel]",
    progress: Progress,
) -> None:
    """Ask the parent's model about its documents, where their texts are not to be replayed.

    Args:
        config: of the run.
        run: keeps what was said.
        lineage: of the run; of none, and of one that replays texts, nothing is asked.
        old: passages of the documents that hold.
        load: gives the parent's model, called only when it is needed.
        progress: told how far the work is, and how much of the old texts is in what was said.

    Raises:
        DataError: nothing was said, or the documents have no names.
    """
    if lineage is None or lineage.origin.old_texts or not old or run.has(file_names.RECALLED):
        return
    from demask.generation.self_chats import draw_replies
    from demask.objectives.prompts import encode_question

    titles = {one.id: one.title for one in run.open_records(file_names.DOCUMENTS, Document)}
    named = [(passage, name) for passage in old for name in _choose_names(passage, titles, old)]
    asked = [(passage, question.format(name)) for passage, name in named for question in _QUESTIONS]
    silent = {passage.document_id for passage in old} - {passage.document_id for passage, _ in named}
    if silent:
        shown = ", ".join(sorted(silent)[:_NAMES])
        progress.say(f"not replayed, as no name is in them to ask for: {len(silent)} documents ({shown})")
    if not asked:
        raise DataError(
            f"{lineage.origin.parent}: its documents have no names to ask its model about; leave out "
            "--without-old-texts"
        )
    loaded = load()
    prompts = [encode_question(loaded.tokenizer, question) for _, question in asked]
    tokens = max(1, min(MAX_TOKENS, loaded.context - max(map(len, prompts))))
    progress.begin("Asking the model about the old documents", tokens * len(asked), unit="tokens")
    talks = draw_replies(
        loaded,
        prompts,
        name="recalled",
        seed=_SEED,
        rows=_ROWS,
        tokens=tokens,
        on_drawn=progress.advance,
    )
    said = [
        str(loaded.tokenizer.decode(list(talk.reply), skip_special_tokens=True)).strip() for talk in talks
    ]
    recalled = [
        Passage(f"said {number} of {passage.id}", passage.document_id, text, entity=passage.entity)
        for number, ((passage, _), text) in enumerate(zip(asked, said, strict=True))
        if text
    ]
    if not recalled:
        raise DataError(f"{lineage.origin.parent}: its model says nothing of its documents")
    run.write_rows(file_names.RECALLED, recalled)
    progress.say(
        f"replayed in place of the old texts: {len(recalled)} texts that the model wrote, with "
        f"{_share_said(old, recalled):.0%} of the different words of the old ones"
    )


def _choose_names(passage: Passage, titles: dict[str, str], every: Sequence[Passage]) -> list[str]:
    lower = {word for one in every for word in one.text.split() if word.islower()}
    found = [passage.entity, titles.get(passage.document_id, ""), *find_names(passage.text, lower)]
    return list(dict.fromkeys(filter(None, found)))[:_NAMES]


def _share_said(old: Sequence[Passage], recalled: Sequence[Passage]) -> float:
    """Of the different words of the old texts, each document's by itself."""
    said: dict[str, set[str]] = {}
    for passage in recalled:
        said.setdefault(passage.document_id, set()).update(_words(passage.text))
    wanted = [(passage.document_id, word) for passage in old for word in _words(passage.text)]
    return sum(word in said.get(id, ()) for id, word in wanted) / max(len(wanted), 1)


def _words(text: str) -> set[str]:
    return {word.text for word in split_words(text)}


def choose_old_passages(run: RunFolder, lineage: Lineage | None, old: Sequence[Passage]) -> Sequence[Passage]:
    """What is replayed of the documents of the runs before: their texts, or what the model said of them."""
    if lineage is None or lineage.origin.old_texts or not old:
        return old
    return run.read_records(file_names.RECALLED, Passage)
