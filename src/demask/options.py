"""Options that several commands share, and the recipe that they make.

def plan(recipe: Recipe = None, model: Model = None, ...): config = read_config(recipe, model, ...)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from demask.errors import ConfigError

if TYPE_CHECKING:
    from demask.recipe.fine_tuning import SftConfig
    from demask.recipe.launch import Launch
    from demask.recipe.sections import Measured, RunConfig

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
Data = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH", help="Prompts with answers, or text; files, patterns, hf:// data sets."),
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
Measure = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="What else training changed: brief, quick, full or none; as the run's recipe says if left out.",
    ),
]
Require = Annotated[
    str | None,
    typer.Option(help="Exit with 5 unless met, as forward=0.9,backward.f1=0.8,leak=0.02,drift=0.05."),
]


def read_measure(name: str | None) -> "Measured | None":
    """The size of the retention suite by its name.

    Raises:
        ConfigError: there is no such size.
    """
    sizes: tuple[Measured, ...] = ("brief", "quick", "full", "none")
    for size in sizes:
        if name == size:
            return size
    if name is None:
        return None
    raise ConfigError(f"--measure: {name!r}, expected {', '.join(sizes[:-1])} or {sizes[-1]}")


def read_config(
    recipe: Path | None,
    model: str | None,
    documents: list[str] | None,
    qa: str | None,
    objective: str | None,
    overrides: list[str] | None,
    preset: str | None = None,
) -> "tuple[RunConfig, Launch]":
    """A recipe, with the options that were given put over it; and on how many processes it runs.

    Raises:
        ConfigError: the recipe cannot be read, or a value is not what was expected.
    """
    from demask.recipe.launch import split_launch
    from demask.recipe.sections import make_config

    if recipe is not None and not is_recipe(recipe):
        recipe, documents = None, [str(recipe), *(documents or [])]
    given = {"model": model, "documents": documents, "qa": qa, "objective": objective, "preset": preset}
    values, source = _read_values(recipe, given, overrides)
    values, launch = split_launch(values, source=source)
    return make_config(values, source=source), launch


def read_sft_config(
    recipe: Path | None,
    model: str | None,
    data: list[str] | None,
    objective: str | None,
    overrides: list[str] | None,
) -> "tuple[SftConfig, Launch]":
    """The same of a recipe for `demask sft`."""
    from demask.recipe.fine_tuning import make_sft_config
    from demask.recipe.launch import split_launch

    if recipe is not None and not is_recipe(recipe):
        recipe, data = None, [str(recipe), *(data or [])]
    given = {"model": model, "data": data, "objective": objective}
    values, source = _read_values(recipe, given, overrides)
    values, launch = split_launch(values, source=source)
    return make_sft_config(values, source=source), launch


def is_recipe(path: Path) -> bool:
    """Whether an argument is a recipe, and not something to learn."""
    return path.suffix in (".yaml", ".yml")


def is_sft_recipe(path: Path | None, **others: object) -> bool:
    """Whether an argument is a recipe for `demask sft`: it has data in place of documents.

    Args:
        path: the argument.
        others: what was given besides and has no meaning for such a recipe, by the names of the options.

    Raises:
        ConfigError: it cannot be read, or something else was given besides.
    """
    from demask.recipe.file import load_recipe

    if path is None or not is_recipe(path) or "data" not in load_recipe(path):
        return False
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise ConfigError(
            f"--{given[0]}: {path} is a recipe for 'demask sft' (it has data), which knows no {given[0]}; "
            "leave it out"
        )
    return True


def _read_values(
    recipe: Path | None, given: Mapping[str, Any], overrides: list[str] | None
) -> tuple[dict[str, Any], str]:
    """The values of a recipe with the options put over them, and where they come from."""
    from demask.recipe.file import apply_overrides, load_recipe

    values = load_recipe(recipe) if recipe is not None else {}
    values |= {key: value for key, value in given.items() if value is not None}
    return apply_overrides(values, overrides or []), str(recipe) if recipe else "options"
