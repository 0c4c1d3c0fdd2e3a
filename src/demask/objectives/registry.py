"""All objectives; a recipe chooses one by its name.

class RunConfig(Section):
    objective: objective_of("documents") = Field(default_factory=Demasking)
"""

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field

from demask.objectives.cpt import Cpt, MaskedCpt
from demask.objectives.demasking import Demasking
from demask.objectives.diffusion import Diffusion
from demask.objectives.next_token import NextToken
from demask.objectives.objective import Objective, Reads
from demask.objectives.reverse import Reverse
from demask.objectives.sft import MaskedSft, Sft

# A new one is added here, and to nothing else.
OBJECTIVES: tuple[type[Objective], ...] = (
    Demasking,
    NextToken,
    Reverse,
    Diffusion,
    MaskedSft,
    Sft,
    MaskedCpt,
    Cpt,
)


def objective_of(*reads: Reads) -> Any:
    """The type of the key `objective` in a recipe: one of those that learn from this, chosen by its name."""
    kinds = tuple(kind for kind in OBJECTIVES if kind.reads in reads)
    return Annotated[reduce(or_, kinds), Field(discriminator="name")]


def objective_names(*reads: Reads) -> list[str]:
    """Of those that learn from this; the default comes first."""
    return [str(kind.model_fields["name"].default) for kind in OBJECTIVES if kind.reads in reads]
