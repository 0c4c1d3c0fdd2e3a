"""How a run is started: on how many processes and machines. It does not change what comes out.

    values, launch = split_launch(load_recipe("recipe.yaml"), source="recipe.yaml")

So a run folder does not remember it, and the same run may go on with other processes.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from demask.recipe.errors import check_values
from demask.section import Section


class Launch(Section):
    """The section `launch` of a recipe."""

    processes: int = Field(1, gt=0, description="on each node; on GPUs one for each")
    nodes: int = Field(1, gt=0, description="machines; the same command is started on every one")
    strategy: Literal["ddp", "fsdp", "deepspeed"] = Field(
        "ddp", description="ddp: every process holds all weights; fsdp, deepspeed: each a part of them"
    )
    gradient_checkpointing: bool | Literal["selective"] = Field(
        False,
        description="true: layers are computed twice and not kept; "
        "selective: all but their matmuls and attention",
    )
    compile: bool = Field(
        False, description="layers, by torch.compile: faster steps, once the compiler is done"
    )
    keep: int = Field(2, gt=0, description="checkpoints that are kept")

    @property
    def ranks(self) -> int:
        """Processes that train together, over all nodes."""
        return self.processes * self.nodes


ALONE = Launch()


class _Launched(Section):
    """As much of a recipe as stands here, so that errors name the whole key."""

    launch: Launch = ALONE


def split_launch(values: Mapping[str, Any], *, source: str = "recipe") -> tuple[dict[str, Any], Launch]:
    """Take the section `launch` out of a recipe.

    Args:
        values: of the recipe.
        source: names the recipe in errors.

    Raises:
        ConfigError: an unknown key or a wrong value in it, with what was expected.
    """
    rest = dict(values)
    launch = rest.pop("launch", None)
    given = {} if launch is None else {"launch": launch}
    return rest, check_values(_Launched, given, source=source).launch
