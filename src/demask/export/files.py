"""A finished run as files for llama.cpp and what is built on it.

exported = export_gguf("runs/first", Path("out"), quant="q8_0", progress=progress)
exported.files, exported.cost
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from demask.errors import ConfigError, ModelError, RunError
from demask.export.asking import ExportCost, ask_again, can_ask, cost_tables, describe_cost, read_run_config
from demask.export.llama_cpp import Quant, check_installed, write_gguf, write_gguf_adapter
from demask.export.llama_server import check_server
from demask.progress import Progress
from demask.reports.tables import to_markdown
from demask.stages.lineage import starting_model
from demask.storage import file_names
from demask.storage.atomic import write_text
from demask.storage.locks import holding
from demask.storage.run_folder import RunFolder, is_run_folder, trained_model
from demask.tasks.evaluate import write_report

# What the file beside an exported model is called, for people and for programs.
REPORT, REPORT_JSON = "export.md", "export.json"
MODELFILE = "Modelfile"


@dataclass(frozen=True)
class Exported:
    """What an export has left.

    Attributes:
        files: all of them, the model first.
        adapter: of them the one with the adapter; None without.
        cost: what was asked again; None where nothing was.
    """

    files: tuple[Path, ...]
    adapter: Path | None
    cost: ExportCost | None


def export_gguf(
    name: str, out: Path, *, quant: Quant, adapter: bool = False, ask: bool = True, progress: Progress
) -> Exported:
    """Write a GGUF file of a trained model, and ask it the run's questions again.

    Args:
        name: a run folder, a model folder or `embedded`.
        out: folder for the files, of which none may be there yet.
        quant: of the weights.
        adapter: write the run's adapter and its base model instead, as two files.
        ask: ask the questions again; a model that no run made has none.
        progress: told how far the work is.

    Raises:
        ConfigError: a file stands there, or there is no adapter.
        ModelError: llama.cpp cannot convert or load the model.
        RunError: something is not installed, or the disk is full.
    """
    trained_model(name)  # what an unfinished run lacks is said first
    run = RunFolder(Path(name)) if is_run_folder(name) else None
    asked = run if ask and run is not None and can_ask(run) else None
    check_installed(quant)
    if asked is not None:
        check_server()
        read_run_config(asked)
    source = _base_folder(run, name) if adapter else local_folder(trained_model(name), name)
    title = slug(name)
    files = [out / f"{title}{'-base' if adapter else ''}-{quant}.gguf"]
    if adapter:
        files.append(out / f"{title}-adapter-f16.gguf")
    _refuse_existing([*files, *([out / REPORT, out / REPORT_JSON] if asked else [])])
    progress.say(f"Converting {source} to {files[0].name}")
    write_gguf(source, files[0], quant=quant, say=progress.say)
    if adapter:
        write_gguf_adapter(Path(name) / file_names.ADAPTER, source, files[1])
    lora = files[1] if adapter else None
    if asked is None:
        return Exported(tuple(files), lora, None)
    cost = ask_again(asked, files[0], adapter=lora, progress=progress)
    write_text(out / REPORT_JSON, json.dumps(describe_cost(cost), indent=2, ensure_ascii=False) + "\n")
    tables = [f"## {table.title}\n\n{to_markdown(table)}\n" for table in cost_tables(cost)]
    write_text(out / REPORT, "\n".join(tables))
    _keep_cost(asked, cost, progress)
    return Exported((*files, out / REPORT, out / REPORT_JSON), lora, cost)


def _keep_cost(run: RunFolder, cost: ExportCost, progress: Progress) -> None:
    """Put what a file said into the run's report; of one file of a name the latest."""
    try:
        with holding(run.path):
            known = run.read_json(file_names.EXPORTED) if run.has(file_names.EXPORTED) else {}
            run.write_json(file_names.EXPORTED, {**known, cost.file: describe_cost(cost)})
            write_report(run)
    except RunError as error:  # the file is there, and its own report beside it
        progress.say(f"the report of the run does not have it ({error})")


def local_folder(model: str, name: str) -> Path:
    """The folder of an autoregressive model.

    Args:
        model: a folder or `embedded`.
        name: as the user gave it.

    Raises:
        ConfigError: it is on the hub.
        ModelError: it is a masked-diffusion model, or cannot be read.
    """
    from demask.models.diffusion import diffusion_form
    from demask.models.load import load_architecture, locate_model

    folder = Path(locate_model(model))
    if not folder.is_dir():
        raise ConfigError(f"{name}: not on this machine; expected a run folder, a model folder or 'embedded'")
    if diffusion_form(load_architecture(model)) is not None:
        raise ModelError(
            f"{name}: a masked-diffusion model, which no server of these can run; expected an autoregressive "
            "one; 'demask chat' and 'demask ask' denoise it"
        )
    return folder.resolve()


def _base_folder(run: RunFolder | None, name: str) -> Path:
    if run is None or not run.has(file_names.ADAPTER):
        raise ConfigError(f"--adapter: {name} has none; expected a run with train.method=lora")
    check_adapter(run)
    base = adapter_base(run)
    return local_folder(base, base)


def adapter_base(run: RunFolder) -> str:
    """The model that a run's adapter was trained on: of an update that of its parent.

    Raises:
        RunError: the parent's model is gone, or was trained again.
    """
    return starting_model(run, run.read_json(file_names.CONFIG)["model"])


def check_adapter(run: RunFolder) -> dict[str, Any]:
    """The settings of a run's adapter, when servers know all that is in it.

    Raises:
        ConfigError: it has weights that they would drop or refuse.
    """
    settings: dict[str, Any] = run.read_json(f"{file_names.ADAPTER}/adapter_config.json")
    for key in ("modules_to_save", "trainable_token_indices", "use_dora"):
        if settings.get(key):
            raise ConfigError(
                f"--adapter: {run.path}: its adapter has {key}, which servers of adapters refuse; leave "
                "--adapter out, to export the merged model"
            )
    return settings


def slug(name: str) -> str:
    """A name for files: the last part of a path, letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", Path(name).resolve().name).strip("-.") or "model"


def _refuse_existing(files: list[Path]) -> None:
    for file in files:
        if file.exists():
            raise ConfigError(f"{file}: stands there already; choose another --out")


# Ollama


def export_ollama(
    name: str, out: Path, *, quant: Quant, adapter: bool = False, ask: bool = True, progress: Progress
) -> Exported:
    """As `export_gguf`, with the Modelfile that Ollama makes a model of.

    Args:
        name: a run folder, a model folder or `embedded`.
        out: folder for the files, of which none may be there yet.
        quant: of the weights; Ollama does not quantise a GGUF file.
        adapter: write the run's adapter and its base model instead, as two files.
        ask: ask the questions again; a model that no run made has none.
        progress: told how far the work is.
    """
    _refuse_existing([out / MODELFILE])
    exported = export_gguf(name, out, quant=quant, adapter=adapter, ask=ask, progress=progress)
    model = local_folder(trained_model(name), name)
    return replace(exported, files=(*exported.files, _write_modelfile(exported, out, model, progress)))


def _write_modelfile(exported: Exported, folder: Path, model: Path, progress: Progress) -> Path:
    from demask.export.templates import make_turns
    from demask.models.load import context_length, load_architecture, load_tokenizer
    from demask.objectives.prompts import load_chat_format

    file = folder / MODELFILE
    tokenizer = load_tokenizer(str(model))
    stop = str(tokenizer.convert_ids_to_tokens(load_chat_format(tokenizer).end[-1]))
    turns = make_turns(tokenizer, stop=stop)
    lines = [f"FROM ./{exported.files[0].name}"]
    if exported.adapter is not None:
        lines.append(f"ADAPTER ./{exported.adapter.name}")
    if turns is not None:
        lines.append(f'TEMPLATE """{turns.as_go()}"""')
    else:
        progress.say(
            f"{file}: the chat template is more than one turn after another, so Ollama will take the one "
            "that it recognises in the GGUF file; compare its answers with those of 'demask ask'"
        )
    lines.append(f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}")
    lines += ["PARAMETER temperature 0", f"PARAMETER num_ctx {context_length(load_architecture(str(model)))}"]
    write_text(file, "\n".join(lines) + "\n")
    return file
