"""Keys of a recipe that stand together, and ranges of chances among them.

class Denoise(Section):
    steps: int | None = Field(None, gt=0, description="none: one token a step")
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    """Keys of a recipe that stand together: none besides them, none of another type, none changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def read_range(value: Any) -> Any:
    """A range of a recipe: a single number is a range of one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (float(value), float(value))
    if isinstance(value, list):
        return tuple(float(v) if isinstance(v, int) else v for v in value)
    return value


def _check_range(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    if not 0.0 <= low <= high <= 1.0:
        raise ValueError(f"expected 0 <= low <= high <= 1, got {low} and {high}")
    return value


# Chances between which one is drawn.
RatioRange = Annotated[tuple[float, float], BeforeValidator(read_range), AfterValidator(_check_range)]
