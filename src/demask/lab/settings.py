"""How large the lab is, and how long it trains.

sizes = read_sizes({"injection": {"steps": 400}})
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from demask.errors import ConfigError

Kind = Literal["autoregressive", "diffusion"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Pretraining(_Section):
    """The world and the models; chosen so that two processor cores make one model in minutes."""

    known: int = Field(120, gt=0, description="people to read about")
    new: int = Field(20, gt=0, description="people to inject later")
    autoregressive_steps: int = Field(450, gt=0, description="updates")
    diffusion_steps: int = Field(900, gt=0, description="updates")
    batch_size: int = Field(64, gt=0, description="examples per step")
    learning_rate: float = Field(1e-3, gt=0, description="highest")
    width: int = Field(256, gt=0, multiple_of=32, description="of the hidden states")
    layers: int = Field(4, gt=0, description="of the transformer")

    def count_steps(self, kind: Kind) -> int:
        """Updates of a model of this kind."""
        return self.autoregressive_steps if kind == "autoregressive" else self.diffusion_steps


class Injection(_Section):
    """How each arm trains; the same for all of a kind."""

    steps: int = Field(400, gt=0, description="updates")
    batch_size: int = Field(20, gt=0, description="texts per step")
    learning_rate: float = Field(1e-4, gt=0, description="after warm-up")


class Sizes(_Section):
    """Everything that can be set."""

    pretraining: Pretraining = Field(default_factory=Pretraining)
    injection: Injection = Field(default_factory=Injection)


def read_sizes(values: Mapping[str, Any]) -> Sizes:
    """Sizes by name, the defaults for those that are not given.

    Raises:
        ConfigError: a name is unknown, or a value is not what was expected.
    """
    try:
        return Sizes.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        sections: dict[str, type[BaseModel]] = {"pretraining": Pretraining, "injection": Injection}
        known = [f"{name}.{field}" for name, part in sections.items() for field in part.model_fields]
        wrong = f"is {problem['input']!r} ({problem['msg']})"
        what = "is unknown" if problem["type"] == "extra_forbidden" else wrong
        raise ConfigError(f"--set {key} {what}; known are {', '.join(known)}") from error
