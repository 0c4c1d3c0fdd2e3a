"""The page in the browser: ui.

Imports stand inside the functions, so that `demask --help` answers before the server could be loaded.
"""

import importlib.util
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from demask.commands.app import app
from demask.errors import ConfigError, RunError
from demask.ports import check_free


@app.command()
def ui(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where documents and runs are kept.")
    ] = Path("."),
    port: Annotated[int, typer.Option(min=1, max=65535, help="To listen at.")] = 8765,
    host: Annotated[
        str, typer.Option(help="To listen at; another than 127.0.0.1 lets others in.")
    ] = "127.0.0.1",
    max_upload: Annotated[int, typer.Option(metavar="MB", min=1, help="Of one file that is dropped.")] = 200,
    browser: Annotated[bool, typer.Option("--browser", help="Also open it in the browser.")] = False,
) -> None:
    """A page to teach, watch and ask, in the browser.

    On this machine alone, for whoever has the address that is printed. Runs go on when the page or this
    command ends.
    """
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(f"the page needs {' and '.join(missing)}: pip install 'demask[ui]'")
    from demask.ui.folders import Workspace
    from demask.ui.safety import Door, is_loopback, new_token
    from demask.ui.server import serve

    _check_folder(folder)
    check_free(host, port)
    door = Door(new_token(), port, host)
    if not is_loopback(host):
        print(
            f"Warning: --host {host}: others on the network reach this page, unencrypted. Whoever has the "
            "address below reads your documents and runs models here. On 127.0.0.1 nobody else does."
        )
    print(
        f"Open:   {door.address}\nFolder: {folder.resolve()}\nCtrl-C ends the page; runs go on.", flush=True
    )
    if browser:
        webbrowser.open(door.address)
    serve(Workspace(folder.resolve()), door, most_upload=max_upload * 1_000_000)


def _check_folder(folder: Path) -> None:
    """Make it where it is new."""
    from demask.storage.run_folder import is_run_folder

    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: a file, expected a folder for documents and runs")
    if is_run_folder(folder):
        raise ConfigError(
            f"{folder}: a run folder, expected the folder that it lies in; try {folder.resolve().parent}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error
