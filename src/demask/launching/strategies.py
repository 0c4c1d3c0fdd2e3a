"""How weights are shared among processes, as variables of the environment that accelerate reads.

    os.environ |= strategy_variables("fsdp")

The configurations stand beside this file as accelerate's own YAML, so that whoever starts the workers with
`accelerate launch --config_file` has the same.
"""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from demask.errors import ConfigError, RunError
from demask.recipe.launch import Launch

CONFIGURATIONS: Mapping[str, str | None] = {
    "ddp": None,  # accelerate needs no word for it
    "fsdp": "fsdp.yaml",
    "deepspeed": "deepspeed-zero2.yaml",
}


def strategy_variables(strategy: str) -> dict[str, str]:
    """What `accelerate launch` would put into the environment of a worker for the shipped configuration."""
    name = CONFIGURATIONS[strategy]
    if name is None:
        return {}
    config: dict[str, Any] = yaml.safe_load((Path(__file__).parent / name).read_text(encoding="utf-8"))
    if strategy == "fsdp":
        return {"ACCELERATE_USE_FSDP": "true"} | {
            key.upper(): str(value) for key, value in config["fsdp_config"].items()
        }
    section = config["deepspeed_config"]
    return {"ACCELERATE_USE_DEEPSPEED": "true"} | {
        # Two keys are not DeepSpeed's alone, and so are their variables.
        f"ACCELERATE_{'' if key.startswith('gradient') else 'DEEPSPEED_'}{key.upper()}": str(value)
        for key, value in section.items()
    }


def check_launch(launch: Launch, *, batch_size: int, evaluates: bool, device: str) -> None:
    """Refuse what cannot be done with so many processes, before any has started.

    Args:
        launch: the recipe's section.
        batch_size: examples per step.
        evaluates: something is asked of the model while it trains.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ConfigError: two settings do not go together, or a launcher was used around this command.
        RunError: DeepSpeed, or a GPU for it, is missing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "WORLD_SIZE is set, as torchrun does; start the command without a launcher, once on each "
            "node, and set launch.processes and launch.nodes"
        )
    if batch_size < launch.ranks:
        raise ConfigError(
            f"train.batch_size is {batch_size}, expected at least one example for each of {launch.ranks} "
            "processes; lower launch.processes or launch.nodes"
        )
    if evaluates and launch.ranks > 1 and launch.strategy != "ddp":
        raise ConfigError(
            f"launch.strategy is {launch.strategy}, whose processes hold parts of the model, and "
            "train.evaluate_every and train.stop ask a whole one; leave them out, or set launch.strategy=ddp"
        )
    if launch.strategy == "deepspeed":
        _check_deepspeed(device)


def _check_deepspeed(device: str) -> None:
    if importlib.util.find_spec("deepspeed") is None:
        raise RunError(
            "launch.strategy=deepspeed needs DeepSpeed: pip install 'demask[deepspeed]', "
            "or set launch.strategy=fsdp"
        )
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        raise RunError("launch.strategy=deepspeed needs GPUs, and there is none; set launch.strategy=fsdp")
