"""The lines that serve a finished run with vLLM; nothing is written.

serve_lines("runs/first", adapter=True)     # ["vllm serve ... --enable-lora --max-lora-rank 32 ..."]
"""

import shlex
from pathlib import Path

from demask.errors import ConfigError
from demask.export.files import adapter_base, check_adapter, local_folder, slug
from demask.storage import file_names
from demask.storage.run_folder import RunFolder, is_run_folder, trained_model

# What vLLM accepts as --max-lora-rank; its default of 16 refuses demask's 32.
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def serve_lines(name: str, *, adapter: bool = False) -> list[str]:
    """Commands that serve a run, one for each choice that a user has.

    Args:
        name: a run folder, a model folder or `embedded`.
        adapter: serve the run's adapter on its base model.

    Raises:
        ConfigError: there is no adapter, or one that vLLM refuses.
        ModelError: vLLM cannot serve this kind of model.
    """
    model = local_folder(trained_model(name), name)
    if not adapter:
        return [_join("vllm", "serve", str(model), "--served-model-name", slug(name))]
    run = RunFolder(Path(name))
    if not is_run_folder(name) or not run.has(file_names.ADAPTER):
        raise ConfigError(f"--adapter: {name} has none; expected a run with train.method=lora")
    rank = int(check_adapter(run)["r"])
    fitting = [allowed for allowed in RANKS if allowed >= rank]
    if not fitting:
        raise ConfigError(
            f"--adapter: {name}: rank {rank} is above vLLM's {RANKS[-1]}; leave --adapter out, to serve the "
            "merged model"
        )
    lora = ["--enable-lora", "--max-lora-rank", str(fitting[0])]
    modules = ["--lora-modules", f"{slug(name)}={run.file(file_names.ADAPTER).resolve()}"]
    # The base's own template may not be the one that training and asking used.
    template = ["--chat-template", str(model / "chat_template.jinja")]
    return [_join("vllm", "serve", *_base(run), *lora, *modules, *template)]


def _base(run: RunFolder) -> list[str]:
    """A hub name as it is, with its revision where it is pinned; a folder as a whole path."""
    from demask.models.formats import split_revision
    from demask.models.load import locate_model

    base = locate_model(adapter_base(run))
    if Path(base).exists():
        return [str(Path(base).resolve())]
    name, revision = split_revision(base)
    return [name, "--revision", revision] if revision else [name]


def _join(*words: str) -> str:
    return shlex.join(words)
