"""A finished run for other programs, and training data for other trainers: export, data export.

Imports stand inside the functions, so that `demask --help` answers before torch could be loaded.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from demask.commands.app import (
    QA,
    Documents,
    Json,
    Model,
    Objective,
    Preset,
    Recipe,
    Set,
    app,
    going_on,
    print_json,
    read_task_config,
    show_progress,
)
from demask.commands.training import data
from demask.errors import ConfigError

if TYPE_CHECKING:
    from demask.export.examples import WrittenExamples
    from demask.export.files import Exported

TARGETS = ("gguf", "ollama", "vllm", "hub")
# Options that only some targets know, by what they are called.
KNOWN = {
    "--quant": ("gguf", "ollama"),
    "--out": ("gguf", "ollama"),
    "--no-ask": ("gguf", "ollama"),
    "--repo": ("hub",),
    "--public": ("hub",),
    "--license": ("hub",),
}


@app.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder; for files also a model folder.")],
    to: Annotated[str, typer.Option(metavar="TARGET", help="gguf, ollama, vllm or hub.")],
    quant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of GGUF weights: f16 (default), q8_0 or q4_k_m.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the files of gguf and ollama.")] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="The adapter (and its base model) in place of the merged model.")
    ] = False,
    no_ask: Annotated[
        bool, typer.Option("--no-ask", help="Do not ask the run's questions again in llama.cpp.")
    ] = False,
    repo: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="On the hub.")] = None,
    public: Annotated[bool, typer.Option("--public", help="On the hub for everybody; else private.")] = False,
    license: Annotated[
        str | None, typer.Option(metavar="ID", help="For the page on the hub, as apache-2.0.")
    ] = None,
    as_json: Json = False,
) -> None:
    """A trained model for llama.cpp, Ollama, vLLM or the hub.

    After converting, the run's own questions are asked again, so that you see what it cost.
    """
    given = {"--quant": quant, "--out": out, "--repo": repo, "--license": license}
    flags = {"--no-ask": no_ask, "--public": public}
    _check_options(to, [name for name, value in {**given, **flags}.items() if value not in (None, False)])
    from demask.export.without_gate import describe_recital

    if said := describe_recital(run):
        print(said, file=sys.stderr)
    if to == "vllm":
        _print_lines(run, adapter, as_json)
    elif to == "hub":
        _push(run, repo, {"adapter": adapter, "public": public, "license": license or ""}, as_json)
    else:
        _write_files(run, to, out, quant, {"adapter": adapter, "ask": not no_ask}, as_json)


def _check_options(to: str, given: list[str]) -> None:
    """See that the target is one, and knows what was said of it."""
    if to not in TARGETS:
        raise ConfigError(f"--to: {to!r}, expected {', '.join(TARGETS[:-1])} or {TARGETS[-1]}")
    for name in given:
        if to not in KNOWN[name]:
            raise ConfigError(f"{name}: --to {to} knows no {name}; leave it out")
    needed = {"gguf": "--out", "ollama": "--out", "hub": "--repo"}.get(to)
    if needed and needed not in given:
        raise ConfigError(f"{needed} is missing: --to {to} needs it")


def _write_files(
    run: str, to: str, out: Path | None, quant: str | None, choices: dict[str, bool], as_json: bool
) -> None:
    from demask.export.files import export_gguf, export_ollama
    from demask.export.llama_cpp import read_quant

    assert out is not None
    write = export_gguf if to == "gguf" else export_ollama
    with going_on(None), show_progress() as progress:
        exported = write(run, out, quant=read_quant(quant or "f16"), progress=progress, **choices)
    if as_json:
        print_json(_describe(exported))
        return
    from demask.export.asking import cost_tables
    from demask.export.files import slug
    from demask.terminal import print_tables

    if exported.cost is not None:
        print_tables(cost_tables(exported.cost))
    for file in exported.files:
        print(f"Written: {file}")
    if to == "ollama":
        name = slug(run).lower()
        print(f"Then: cd {out} && ollama create {name} -f Modelfile && ollama run {name}")


def _describe(exported: "Exported") -> dict[str, Any]:
    from demask.export.asking import describe_cost

    cost = None if exported.cost is None else describe_cost(exported.cost)
    return {"files": [str(file) for file in exported.files], "cost": cost}


def _print_lines(run: str, adapter: bool, as_json: bool) -> None:
    from demask.export.vllm import serve_lines

    lines = serve_lines(run, adapter=adapter)
    print_json({"commands": lines}) if as_json else print("\n".join(lines))


def _push(run: str, repo: str | None, choices: dict[str, Any], as_json: bool) -> None:
    from demask.export.hub import push

    assert repo is not None
    with show_progress() as progress:
        address = push(run, repo, progress=progress, **choices)
    print_json({"model": address}) if as_json else print(f"Model: {address}")


@data.command(name="export")
def export_data(
    out: Annotated[Path, typer.Option(help="Folder for a file of each epoch, and examples.json.")],
    recipe: Recipe = None,
    model: Model = None,
    documents: Documents = None,
    qa: QA = None,
    objective: Objective = None,
    preset: Preset = None,
    overrides: Set = None,
    form: Annotated[
        str, typer.Option("--format", metavar="FORM", help="tokens (exact) or text (prompt, completion).")
    ] = "tokens",
    epochs: Annotated[int, typer.Option(min=1, help="Each with fresh masks.")] = 3,
    as_json: Json = False,
) -> None:
    """The very examples that demask trains, for other trainers."""
    from demask.export.examples import export_examples, read_form

    config, _ = read_task_config(recipe, model, documents, qa, objective, overrides, preset)
    with show_progress() as progress:
        written = export_examples(config, out, form=read_form(form), epochs=epochs, progress=progress)
    if as_json:
        print_json(asdict(written))
        return
    _print_examples(written, out)


def _print_examples(written: "WrittenExamples", out: Path) -> None:
    for name in written.files:
        print(f"Written: {out / name}")
    print(
        f"{written.examples:,} examples, {written.tokens:,} tokens, {written.scored:,} of them with loss. In "
        "the other trainer: no shuffling, no packing, the mean over tokens with loss; steps of "
        f"{written.batch_size} examples at {written.learning_rate:.1e}."
    )
    if written.form == "text":
        print(
            f"{written.differing:,} of {written.examples:,} examples come out with other ids or labels when "
            "their text is tokenised again; --format tokens is exact."
        )
    for left_out in written.left_out:
        print(f"Not in these files: {left_out}")
