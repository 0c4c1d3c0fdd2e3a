"""The application that all commands belong to, the options that they share, and how they print.

def plan(recipe: Recipe = None, model: Model = None, ...): config = read_config(recipe, model, ...)
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from demask import __version__
from demask.errors import ConfigError, StoppedError, ThresholdError

if TYPE_CHECKING:
    from demask.evaluation.thresholds import Thresholds
    from demask.progress import Progress
    from demask.recipe.fine_tuning import SftConfig, TaskConfig
    from demask.recipe.launch import Launch
    from demask.recipe.sections import Measured, RunConfig
    from demask.tasks.planning import Plan

BEGIN_ANEW = "the same command begins anew"
Recipe = Annotated[
    Path | None,
    typer.Argument(metavar="RECIPE", help="A YAML recipe, which options override; or documents, as facts/."),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="'embedded', a folder, a GGUF file, an adapter, or a Hugging Face name."
    ),
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
    typer.Option(metavar="NAME", help="paper, fast, gated or keep: values where nothing else is said."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any key of a recipe, as train.steps=200."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(metavar="HEADING", help="Only sections with such headings, as 'Chapter 3'."),
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


class _Announced(TyperCommand):
    """A command that says at once that it has begun, as libraries take seconds to load."""

    def invoke(self, ctx: Any) -> Any:
        """As typer's."""
        if "torch" not in sys.modules:  # else nothing is left to wait for
            _announce(ctx)
        return super().invoke(ctx)


def _announce(context: Any) -> None:
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, str(context.info_name))
        context = context.parent
    with suppress(OSError):
        sys.stderr.write(f"demask {' '.join(names)}: starting\n")
        sys.stderr.flush()


class App(typer.Typer):
    """An application whose commands say that they have begun."""

    def command(self, *arguments: Any, **settings: Any) -> Callable[[Any], Any]:
        """As typer's."""
        return super().command(*arguments, **{"cls": _Announced, **settings})


app = App(
    name="demask",
    help="Teach an open-weight language model new facts from plain documents, both ways round, and prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # drawing boxes around the help would take a third of its time
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"demask {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """What stands before a command."""
    del version  # has ended the program, where it was asked for


def guard(
    thresholds: "Thresholds", metrics: Mapping[str, Any], retention: Mapping[str, Any] | None = None
) -> None:
    """Exit with 5 when a threshold is missed; says which."""
    missed = _find_missed(thresholds, metrics, retention)
    if missed:
        raise ThresholdError("; ".join(missed))


def print_guarded_json(
    value: Mapping[str, Any],
    thresholds: "Thresholds",
    metrics: Mapping[str, Any],
    retention: Mapping[str, Any] | None = None,
) -> None:
    """One object, with the error in it where a threshold is missed, which `guard` then raises."""
    missed = _find_missed(thresholds, metrics, retention)
    error = describe_error(ThresholdError.__name__, "; ".join(missed), ThresholdError.exit_code)
    print_json({**value, **error} if missed else value)


def _find_missed(
    thresholds: "Thresholds", metrics: Mapping[str, Any], retention: Mapping[str, Any] | None
) -> list[str]:
    from demask.evaluation.thresholds import find_missed

    return find_missed(thresholds, metrics, (retention or {}).get("measures"))


def describe_error(kind: str, message: str, exit_code: int) -> dict[str, dict[str, Any]]:
    """An error for programs."""
    return {"error": {"kind": kind, "message": message, "exit_code": exit_code}}


@contextmanager
def going_on(
    out: Path | None, then: str = "the same command goes on with what is done there"
) -> Iterator[None]:
    """Where a signal ends the block: say what the same command does when it is started again.

    Args:
        out: the folder with what is done; nothing is kept before it is there. None: kept elsewhere.
        then: what the command does.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as ended:
        number = signal.SIGINT if isinstance(ended, KeyboardInterrupt) else signal.SIGTERM
        if isinstance(ended, SystemExit) and ended.code != 128 + number:
            raise
        if out is not None:
            then = f"{out}: {then}" if out.exists() else BEGIN_ANEW
        raise StoppedError(number, then) from None


def show_progress() -> "AbstractContextManager[Progress]":
    """A bar on standard error, so that what is printed can be piped."""
    from rich.console import Console

    from demask.terminal import TerminalProgress

    return TerminalProgress(Console(stderr=True))


def open_terminal() -> Any:
    """Where tables are printed."""
    from demask.terminal import open_console

    return open_console()


def print_json(value: object) -> None:
    """One object, for programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_plan(plan: "Plan", *, as_json: bool) -> None:
    """What a run would take, and what of its documents is not trained."""
    if as_json:
        print_json(plan.as_json())
        return
    from demask.tasks.planning import DocumentCounts
    from demask.terminal import render_plan

    open_terminal().print(render_plan(plan))
    remarks = plan.about.remarks if isinstance(plan.about, DocumentCounts) else ()
    for remark in remarks[1:]:  # the first says what the table has said
        print(remark)


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


def add_only(overrides: list[str] | None, only: list[str] | None) -> list[str] | None:
    """The options of --set with those of --only, which a recipe knows as a key."""
    return [*(overrides or []), f"only={json.dumps(only)}"] if only else overrides


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


def read_task_config(
    recipe: Path | None,
    model: str | None,
    documents: list[str] | None,
    qa: str | None,
    objective: str | None,
    overrides: list[str] | None,
    preset: str | None,
) -> "tuple[TaskConfig, Launch]":
    """A recipe of either kind, for commands that take both; see `read_config` and `read_sft_config`."""
    if is_sft_recipe(recipe, documents=documents, qa=qa, preset=preset):
        return read_sft_config(recipe, model, None, objective, overrides)
    return read_config(recipe, model, documents, qa, objective, overrides, preset)


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
