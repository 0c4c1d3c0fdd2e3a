"""How a run is started: on how many processes and machines, shown by which tracker; no result depends on it.

    values, launch = split_launch(load_recipe("recipe.yaml"), source="recipe.yaml")

So a run folder does not remember it, and the same run may go on with other processes or another tracker.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import Field

from demask.recipe.errors import check_values
from demask.section import Section

# Programs that show runs as they train; see `tracking/trackers.py`.
TrackerName: TypeAlias = Literal["trackio", "tensorboard", "wandb", "mlflow"]


class LaunchSection(Section):
    """The section `launch` of a recipe."""

    processes: int = Field(1, gt=0, description="on each node; on GPUs one for each")
    nodes: int = Field(1, gt=0, description="machines; the same command is started on every one")
    strategy: Literal["ddp", "fsdp", "deepspeed"] = Field(
        "ddp", description="ddp: every process holds all weights; fsdp, deepspeed: each a part of them"
    )
    gradient_checkpointing: bool | Literal["selective", "auto"] = Field(
        "auto",
        description="true: layers are computed twice and not kept; "
        "selective: all but their matmuls and attention; auto: as little of it as a GPU's memory asks for, "
        "found out when a step does not fit; on a CPU and with several processes false",
    )
    compile: bool = Field(
        False, description="layers, by torch.compile: faster steps, once the compiler is done"
    )
    keep: int = Field(2, gt=0, description="checkpoints that are kept")

    @property
    def ranks(self) -> int:
        """Processes that train together, over all nodes."""
        return self.processes * self.nodes


class Launch(LaunchSection):
    """The section `launch`, and the key `track` beside it."""

    track: TrackerName | None = Field(None, description="mirrors metrics.jsonl while it is written")


ALONE = Launch()


class _Launched(Section):
    """As much of a recipe as stands here, so that errors name the whole key."""

    launch: LaunchSection = LaunchSection()
    track: TrackerName | None = Field(
        None, description="a tracker that the run is shown in, beside metrics.jsonl; none: no tracker"
    )


def split_launch(values: Mapping[str, Any], *, source: str = "recipe") -> tuple[dict[str, Any], Launch]:
    """Take the section `launch` and the key `track` out of a recipe.

    Args:
        values: of the recipe.
        source: names the recipe in errors.

    Raises:
        ConfigError: an unknown key or a wrong value in it, with what was expected.
    """
    rest = dict(values)
    taken = {key: rest.pop(key, None) for key in _Launched.model_fields}
    given = {key: value for key, value in taken.items() if value is not None}
    launched = check_values(_Launched, given, source=source)
    return rest, Launch(**launched.launch.model_dump(), track=launched.track)
