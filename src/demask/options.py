"""Options that several commands share, and the recipe that they make.

def plan(recipe: Recipe = None, model: Model = None, ...): config = read_config(recipe, model, ...)
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from demask.config import RunConfig

Recipe = Annotated[
    Path | None,
    typer.Argument(metavar="RECIPE", help="A YAML recipe, which options override; or documents, as facts/."),
]
Model = Annotated[
    str | None, typer.Option(metavar="NAME", help="'embedded', a model folder, or a Hugging Face name.")
]
Documents = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH", help="Files, folders, patterns, hf:// data sets; may be repeated."),
]
QA = Annotated[
    str | None,
    typer.Option("--qa", metavar="FILE", help="Questions; made of the documents if left out; no: none."),
]
Objective = Annotated[
    str | None, typer.Option(metavar="NAME", help="demasking (default), next-token, reverse or diffusion.")
]
Preset = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="paper or fast: values that hold where nothing else is said."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any key of a recipe, as train.steps=200."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Require = Annotated[
    str | None,
    typer.Option(help="Exit with 5 unless reached, as forward=0.9,backward.f1=0.8 (metric: contains)."),
]


def read_config(
    recipe: Path | None,
    model: str | None,
    documents: list[str] | None,
    qa: str | None,
    objective: str | None,
    overrides: list[str] | None,
    preset: str | None = None,
) -> "RunConfig":
    """A recipe, with the options that were given put over it.

    Raises:
        ConfigError: the recipe cannot be read, or a value is not what was expected.
    """
    from demask.config import make_config
    from demask.recipe_file import apply_overrides, load_recipe

    values: dict[str, Any] = {}
    if recipe is not None and recipe.suffix not in (".yaml", ".yml"):
        documents = [str(recipe), *(documents or [])]
    elif recipe is not None:
        values = load_recipe(recipe)
    given = {"model": model, "documents": documents, "qa": qa, "objective": objective, "preset": preset}
    values |= {key: value for key, value in given.items() if value is not None}
    values = apply_overrides(values, overrides or [])
    return make_config(values, source=str(recipe) if values and recipe else "options")
