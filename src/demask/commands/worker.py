"""One of the processes that train a run together: `python -m demask.commands.worker RUN [LAUNCH [TOLD]]`.

What comes before training is in the run folder. Started by `demask inject` and `demask sft` where the recipe
has a section `launch`; or by hand, by torchrun or `accelerate launch`.
"""

import os
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from demask.environment import count_cores
from demask.errors import ConfigError, DemaskError, InterruptionError
from demask.launching.processes import write_progress
from demask.launching.strategies import strategy_variables
from demask.openmp import share_cores
from demask.progress import Progress, Silent
from demask.recipe.launch import Launch
from demask.signals import end_with_parent
from demask.storage import file_names
from demask.storage.locks import holding
from demask.storage.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

# For the slowest: a node that loads a model over the network while the others wait.
_PATIENCE = timedelta(minutes=60)


def main(words: list[str]) -> int:
    """Train; the exit code."""
    share_cores()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, count_cores() // here)))  # read as torch is imported
    warnings.simplefilter("ignore")
    end_with_parent()
    from torch.distributed.elastic.multiprocessing.errors import record

    try:
        record(_follow)(words)  # leaves what is raised where whoever started this process looks for it
    except DemaskError as error:
        sys.stderr.write(f"demask: {error}\n")
        return error.exit_code
    return 0


def _follow(words: list[str]) -> None:
    """The command line."""
    if not 1 <= len(words) <= 3:
        raise ConfigError(
            "expected a run folder, and perhaps the section 'launch' as JSON and a file for progress"
        )
    launch = Launch.model_validate_json(words[1]) if len(words) > 1 else Launch()
    os.environ |= strategy_variables(launch.strategy)  # accelerate looks there
    run, told = RunFolder(Path(words[0])), Path(words[2]) if len(words) > 2 else None
    # A command that started this process holds the folder itself.
    alone = told is None and os.environ.get("RANK", "0") == "0"
    with holding(run.path) if alone else nullcontext(), _open_progress(told) as progress:
        work(run, launch, progress)


def _open_progress(file: Path | None) -> AbstractContextManager[Progress]:
    """In a file for the command that started this process, else on the terminal; only the first process's."""
    if os.environ.get("RANK", "0") != "0":
        return nullcontext(Silent())
    if file is not None:
        return nullcontext(write_progress(file))
    from rich.console import Console

    from demask.terminal import TerminalProgress

    return TerminalProgress(Console(stderr=True))


def work(run: RunFolder, launch: Launch, progress: Progress) -> None:
    """Train a run as one of several processes.

    Raises:
        DemaskError: it cannot be trained.
    """
    import torch.distributed as dist

    from demask.models.load import choose_device, load_model
    from demask.recipe.fine_tuning import SftConfig, make_task_config
    from demask.stages.lineage import starting_model
    from demask.stages.training import train_here
    from demask.tasks.fine_tune import sample_data
    from demask.tasks.inject import document_data
    from demask.training.distributed import barrier

    config = make_task_config(run.read_json(file_names.CONFIG), source=str(run.file(file_names.CONFIG)))
    _join(choose_device(config.device))
    try:
        start = starting_model(run, config.model)
        # Weights that are cut over processes have one dtype.
        frozen = config.train.frozen if launch.strategy == "ddp" else None
        loaded = load_model(start, device=config.device, frozen=frozen)
        data = (
            sample_data(config, run, progress)
            if isinstance(config, SftConfig)
            else document_data(config, run, progress)
        )
        train_here(config, run, loaded, data, progress=progress, launch=launch)
    except InterruptionError:
        barrier()  # one that ends makes the launcher end the others, which may still be saving
        raise
    # Not where another error ends this process: the others may hang in what this one left.
    barrier()
    dist.destroy_process_group()


def _join(device: "torch.device") -> None:
    """Meet the other processes; each takes the GPU of its number."""
    import torch
    import torch.distributed as dist

    if device.type == "cuda":
        number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= count:
            raise ConfigError(f"launch.processes asks for GPU {number}, and there are {count}; lower it")
        torch.cuda.set_device(number)
    # gloo besides, for what is gathered in main memory: the whole weights of a checkpoint.
    dist.init_process_group("cuda:nccl,cpu:gloo" if device.type == "cuda" else "gloo", timeout=_PATIENCE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
