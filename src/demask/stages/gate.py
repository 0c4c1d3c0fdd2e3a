"""A gate for the trained model: prompts that are not about the documents are answered by its base.

    make_gate_stage(config, run, passages, load)          # gate.json
    tuned = gated(run, tuned, load)                       # for asking and measuring

What the base model ordinarily writes is taken from the pool that it draws for replay.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from demask.errors import RunError
from demask.knowledge.gate import Gate, make_gate, read_gate
from demask.progress import Progress
from demask.recipe.sections import RunConfig
from demask.records import Passage
from demask.stages.loading import load_base
from demask.stages.replay import is_own, read_pool
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.models.load import LoadedModel


def make_gate_stage(
    config: RunConfig,
    run: RunFolder,
    passages: Iterable[Passage],
    load: "Callable[[], LoadedModel]",
    progress: Progress,
) -> None:
    """Write `gate.json`, where the recipe wants a gate.

    Args:
        config: of the run.
        run: has the pool; gets the gate.
        passages: what is taught.
        load: gives the base model, which is asked what names it knows.
        progress: told where the base model does not write the documents' language.
    """
    if not config.retain.gate or run.has(file_names.GATE):
        return
    from demask.generation.familiar import know_words

    talks = [talk for talk in read_pool(run.file(file_names.REPLAY)) if is_own(talk)]
    base = load()
    tokenizer = base.tokenizer
    background = [
        (
            str(tokenizer.decode(list(talk.prompt), skip_special_tokens=True)),
            str(tokenizer.decode(list(talk.reply), skip_special_tokens=True)),
        )
        for talk in talks
    ]
    texts = [passage.training_text for passage in passages]
    gate = make_gate(texts, background, partial(know_words, base))
    if not gate.tells_words:
        progress.say(
            f"retain.gate: the base model's own conversations have {gate.covered:.0%} of the documents' "
            "words, so it does not write their language; the gate opens to most prompts in that language"
        )
    run.write_json(file_names.GATE, gate.as_json())


def gated_once(
    config: RunConfig, run: RunFolder, trained: "Callable[[], LoadedModel]", progress: Progress
) -> "Callable[[], LoadedModel]":
    """What gives the trained model, behind the gate of its run where it has one; called only when needed."""

    @cache
    def load() -> "LoadedModel":
        from demask.models.load import place_to_ask

        device = place_to_ask(config.model, config.device, config.train.merged, copies=2)
        return gated(run, trained(), load_base(config, progress, device=device))

    return load


def gated(run: RunFolder, trained: "LoadedModel", load: "Callable[[], LoadedModel]") -> "LoadedModel":
    """The trained model behind the gate of its run; as it is, where that has none.

    Args:
        run: with or without a gate.
        trained: its model.
        load: gives its base, anew.

    Raises:
        RunError: the gate's file is damaged.
        ModelError: the base model cannot be loaded, or is another one.
    """
    if not run.has(file_names.GATE):
        return trained
    from demask.models.gated import put_gate

    return put_gate(trained, plain_weights(load()), read_gate_file(run))


def plain_weights(base: "LoadedModel") -> "LoadedModel":
    """A base model with the weights that the trained one stands on: those in four bits are de-quantised."""
    from demask.models.quantised import dequantise_layers

    return replace(base, model=dequantise_layers(base.model, base.model.dtype))


def read_gate_file(run: RunFolder) -> Gate:
    """The gate of a run.

    Raises:
        RunError: its file is damaged.
    """
    try:
        return read_gate(run.read_json(file_names.GATE))
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{run.file(file_names.GATE)}: is no gate ({error!r}); delete it and start the run again"
        ) from error
