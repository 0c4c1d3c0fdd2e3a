"""Talk with a finished model, the base model beside it, and serve it to other programs.

talk = open_talk("runs/first")
hear(talk, [Turn("user", "Who founded Orlin?")], on_text=print)
subprocess.run(serving_command("runs/first", port=8000))      # until it is stopped
"""

import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demask.errors import ConfigError, ModelError, RunError
from demask.ports import LOOPBACK, check_free
from demask.recipe.sections import Evaluate
from demask.records import Document
from demask.stages.gate import read_gate_file
from demask.storage import file_names
from demask.storage.run_folder import RunFolder, is_run_folder, trained_model
from demask.tasks.evaluate import evaluation_settings, load_trained_model
from demask.tasks.router import Routes

if TYPE_CHECKING:
    from demask.generation.texts import Generated, Turn
    from demask.models.load import LoadedModel


@dataclass(frozen=True)
class Talk:
    """A model to talk with.

    Attributes:
        name: of the run or the model, as given.
        loaded: the trained model.
        settings: limits of a reply.
        run: its run folder; None: a model that no run made.
    """

    name: str
    loaded: "LoadedModel"
    settings: Evaluate
    run: RunFolder | None


def open_talk(name: str, settings: Mapping[str, Any]) -> Talk:
    """Load the model of a run, or any other.

    Args:
        name: a run folder, a model folder, a hub name or `embedded`.
        settings: keys of a recipe's section `evaluate`, put over those of the run.

    Raises:
        DemaskError: there is no such model, or a setting is wrong.
    """
    how = evaluation_settings(name, settings)
    trained_model(name)  # what an unfinished run lacks is said at once
    run = RunFolder(Path(name)) if is_run_folder(name) else None
    return Talk(name, load_trained_model(name, "auto"), how, run)


def open_base(talk: Talk) -> Talk:
    """The same with the base model.

    Raises:
        ConfigError: the model has no run that would know its base.
        ModelError: the base model cannot be loaded.
    """
    if talk.run is None:
        raise ConfigError(
            f"{talk.name}: no run folder, so its base model is not known; ask it by its own name"
        )
    base = talk.run.read_json(file_names.CONFIG)["model"]
    return Talk(base, load_trained_model(base, "auto"), talk.settings, None)


def is_open(talk: Talk, turns: "Sequence[Turn]") -> bool:
    """Whether the trained model replies, and not its base; always, where there is no gate."""
    from demask.generation.texts import turn_encoder
    from demask.models.gated import which_open

    (opened,) = which_open(talk.loaded, [turn_encoder(talk.loaded)(turns)])
    return opened


def hear(talk: Talk, turns: "Sequence[Turn]", *, on_text: Callable[[str], None]) -> "Generated":
    """The model's reply to a conversation that ends with a user's turn.

    Args:
        talk: with the model.
        turns: of the conversation.
        on_text: told each piece of the reply while it is written.

    Raises:
        ConfigError: the conversation and a whole reply are longer than the model's context.
    """
    from demask.generation.answers import stream_answer
    from demask.generation.texts import turn_encoder

    prompt = turn_encoder(talk.loaded)(turns)
    room = talk.loaded.context - talk.settings.max_new_tokens
    if len(prompt) > room:
        raise ConfigError(
            f"the conversation has {len(prompt)} tokens, expected at most {room} (the model's context of "
            f"{talk.loaded.context} less {talk.settings.max_new_tokens} for the reply); begin a new one, or "
            "lower --max-new-tokens"
        )
    return stream_answer(talk.loaded, prompt, talk.settings, on_text=on_text)


def taught_documents(talk: Talk) -> Iterable[Document]:
    """What a model was taught, read one after another.

    Raises:
        ConfigError: the model has no run.
    """
    if talk.run is None:
        raise ConfigError(f"{talk.name}: no run folder, so what it was taught is not known")
    return talk.run.open_records(file_names.DOCUMENTS, Document)


def has_gate(name: str) -> bool:
    """Whether a run has its base model answer what is not about the documents."""
    return is_run_folder(name) and RunFolder(Path(name)).has(file_names.GATE)


def serving_command(name: str, *, port: int) -> list[str]:
    """What serves a model, OpenAI-compatible and on this machine alone, until it is stopped.

    Args:
        name: a run folder, a model folder, a hub name or `embedded`.
        port: to listen at.

    Returns:
        A command, with what the server calls the model after `serve`; of a run with a gate no model is named,
        as the server then has any that it is asked for.

    Raises:
        ConfigError: something else listens there.
        ModelError: the model cannot be served so.
        RunError: what serves is not installed.
    """
    from demask.models.diffusion import diffusion_form
    from demask.models.load import load_architecture, locate_model

    missing = [part for part in ("fastapi", "uvicorn") if importlib.util.find_spec(part) is None]
    if missing:
        raise RunError(f"serving needs {' and '.join(missing)}: pip install 'demask[serve]'")
    model = trained_model(name)
    if diffusion_form(load_architecture(model)) is not None:
        raise ModelError(
            f"{name}: a masked-diffusion model, which transformers cannot serve; expected an autoregressive "
            "one; use 'demask chat' or 'demask ask'"
        )
    check_free(LOOPBACK, port)
    served = [] if has_gate(name) else [_place(locate_model(model))]
    # As a module, since the script of transformers need not be on the path.
    program = [sys.executable, "-m", "transformers.cli.transformers"]
    return [*program, "serve", *served, "--host", LOOPBACK, "--port", str(port)]


def _place(found: str) -> str:
    """A folder's whole path, a hub name as it is."""
    return str(Path(found).resolve()) if Path(found).is_dir() else found


def read_routes(name: str, upstream: str, *, trained: str | None = None, base: str | None = None) -> Routes:
    """Which model of a server answers what, for a run with a gate.

    Args:
        name: the run folder.
        upstream: the server's address.
        trained: the trained model's name there; None: its folder.
        base: the base model's; None: its folder or hub name.

    Raises:
        ConfigError: the run has no gate.
        RunError: the gate's file is damaged.
    """
    from demask.models.load import locate_model

    if not has_gate(name):
        raise ConfigError(f"{name}: has no gate; make one with 'demask retain {name} --gate'")
    run = RunFolder(Path(name))
    model = run.read_json(file_names.CONFIG)["model"]
    return Routes(
        read_gate_file(run),
        upstream.rstrip("/"),
        trained or _place(trained_model(name)),
        base or _place(locate_model(model)),
    )
