"""Push a finished run to the Hugging Face hub, with a page made of it; private unless told otherwise.

push("runs/first", "me/handbook", progress=progress)
"""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from demask.errors import ConfigError, RunError
from demask.export.files import check_adapter
from demask.export.model_card import Publishing, base_on_hub, write_card
from demask.progress import Progress
from demask.reports.runs import load_run
from demask.stages.lineage import read_lineage
from demask.storage import file_names
from demask.storage.atomic import write_text
from demask.storage.run_folder import RunFolder, open_run_folder, trained_model

RECOVERABLE = (
    "the documents may be recoverable from the weights: whoever can download them should be treated as able "
    "to read the documents"
)
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Of a run's model folder and its adapter: weights, settings, tokenizer, and what prepares images.
_NAMES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")


def push(
    name: str,
    repo: str,
    *,
    adapter: bool = False,
    public: bool = False,
    license: str = "",
    progress: Progress,
) -> str:
    """Push the model of a run; its documents, questions and answers stay here.

    Args:
        name: a run folder.
        repo: OWNER/NAME, which must not be there yet.
        adapter: the adapter alone, in place of the merged model.
        public: for everybody; else for its owner.
        license: its identifier on the hub.
        progress: told what is done.

    Returns:
        The address of the model.

    Raises:
        ConfigError: the name is none, or stands there already.
        RunError: the run is not finished, or the hub refuses or does not answer.
    """
    if not _REPO.fullmatch(repo):
        raise ConfigError(f"--repo: {repo!r}, expected OWNER/NAME, as me/handbook")
    run = open_run_folder(name)
    model = Path(trained_model(name))
    publishing = Publishing(repo, adapter, license, int(_adapter_settings(run)["r"]) if adapter else 0)
    result = load_run(run)
    card = write_card(result, publishing, base=base_on_hub(result.model))
    with tempfile.TemporaryDirectory(dir=run.path, prefix=".push-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        if adapter:
            _link(run.file(file_names.ADAPTER), folder, ("adapter_*",))
            _link(model, folder, ("*.jinja",))
        else:
            _link(model, folder, _NAMES)
        write_text(folder / "README.md", card)
        progress.say(f"Pushing to {repo} ({'public' if public else 'private'}); {RECOVERABLE}")
        return _upload(folder, repo, private=not public)


def _adapter_settings(run: RunFolder) -> dict[str, Any]:
    if not run.has(file_names.ADAPTER):
        raise ConfigError(f"--adapter: {run.path} has none; expected a run with train.method=lora")
    lineage = read_lineage(run)
    if lineage is not None:
        raise ConfigError(
            f"--adapter: {run.path}: its adapter goes on the model of {lineage.origin.parent}, which is on "
            "no hub; leave --adapter out, to publish the merged model"
        )
    return check_adapter(run)


def _link(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Files of a folder in another one, without copying where the disk allows it."""
    for pattern in names:
        for file in source.glob(pattern):
            try:
                (target / file.name).hardlink_to(file)
            except OSError:
                shutil.copyfile(file, target / file.name)


def _upload(folder: Path, repo: str, *, private: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    # Of the client below huggingface_hub, of which there have been several.
    client_error: type[Exception] = HfHubHTTPError.__mro__[1]
    api = HfApi()
    try:
        if api.repo_exists(repo):
            raise ConfigError(
                f"--repo: {repo} stands there already; choose another name, or delete it on the hub"
            )
        address = api.create_repo(repo, private=private)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="A model trained with demask")
    except LocalTokenNotFoundError as error:
        raise RunError("--to hub: no token of the hub; run 'hf auth login', or set HF_TOKEN") from error
    except OfflineModeIsEnabled as error:
        raise RunError("--to hub: HF_HUB_OFFLINE is set; unset it to reach the hub") from error
    except HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        advice = (
            "run 'hf auth login' with a token that may write" if status in (401, 403) else "try again later"
        )
        raise RunError(f"--to hub: {repo}: {_first_line(error)}; {advice}") from error
    except (OSError, client_error) as error:
        raise RunError(f"--to hub: {repo}: {_first_line(error)}; check the network") from error
    return str(address)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
