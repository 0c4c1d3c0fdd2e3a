"""The models of a run, each loaded when a stage first asks for it.

base = load_base(config, progress)                    # a function; the model is loaded when it is called
tuned = load_merged(config, run, progress)
"""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from demask.progress import Progress
from demask.recipe.fine_tuning import TaskConfig
from demask.recipe.sections import Frozen
from demask.storage import file_names
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from demask.models.load import LoadedModel


def load_once(
    name: str, *, device: str, progress: Progress, frozen: Frozen | None = None
) -> Callable[[], "LoadedModel"]:
    """A model that is loaded when a stage first asks for it, and then kept.

    Args:
        name: as `load_model` takes it.
        device: `auto`, `cpu` or `cuda`.
        progress: told when it is loaded.
        frozen: how its weights are kept in memory; None: in float32.
    """

    @cache
    def load() -> "LoadedModel":
        from demask.models.load import describe_form, load_model

        progress.begin(f"Loading {name}", 1)
        if (remark := describe_form(name)) is not None:
            progress.say(remark)
        return load_model(name, device=device, frozen=frozen)

    return load


def load_base(
    config: TaskConfig, progress: Progress, *, name: str | None = None, device: str | None = None
) -> Callable[[], "LoadedModel"]:
    """The model that a run trains, as it is in memory then.

    Args:
        config: of the run.
        progress: told when it is loaded.
        name: of another model, whose weights training begins with; None: the base model.
        device: another one than the recipe's.
    """
    name = config.model if name is None else name
    return load_once(name, device=device or config.device, progress=progress, frozen=config.train.frozen)


def load_merged(config: TaskConfig, run: RunFolder, progress: Progress) -> Callable[[], "LoadedModel"]:
    """The trained model of a run, as it is in memory to be asked."""
    from demask.models.load import place_to_ask

    name, frozen = str(run.file(file_names.MODEL)), config.train.merged
    device = place_to_ask(name, config.device, frozen)
    return load_once(name, device=device, progress=progress, frozen=frozen)
