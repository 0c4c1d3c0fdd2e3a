"""The machines of a run: which node this is, where the first one listens, and when it has everything ready.

    place = find_place(launch, os.environ)
    meeting = open_meeting(run_folder, launch)
    meeting.begin()                              # node 0
    wait_for_first_node(meeting, is_done, ...)   # the others

The other nodes hear that node 0 is ready by an empty file in the run folder; from there on torch waits for
all to come. A file that a killed node 0 has left behind makes them wait there.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from demask.errors import ConfigError
from demask.ports import LOOPBACK, find_free_port
from demask.progress import Progress
from demask.recipe.launch import Launch

# As torchrun's. Another job on the same machine needs another: MASTER_PORT.
_PORT = 29500
LOGS = "logs"
# Seconds between looks at the folder.
_LOOK = 1.0


@dataclass(frozen=True)
class Place:
    """Of this machine among those of a run."""

    node: int  # from 0
    address: str  # of node 0
    port: int


def find_node(launch: Launch, environment: Mapping[str, str] = os.environ) -> int:
    """Number of this machine, from 0; a launch on one node has no other.

    Raises:
        ConfigError: the environment does not say, or says a number that there is not.
    """
    if launch.nodes == 1:
        return 0
    name = next((name for name in ("NODE_RANK", "SLURM_NODEID") if environment.get(name)), None)
    if name is None:
        raise ConfigError(
            f"launch.nodes is {launch.nodes}, and nothing says which node this is; start the command by srun "
            "(one task on each node), or set NODE_RANK from 0 on"
        )
    node = environment[name]
    if not node.isdecimal() or int(node) >= launch.nodes:
        raise ConfigError(
            f"{name} is {node!r}, expected 0 to {launch.nodes - 1}, as launch.nodes is {launch.nodes}"
        )
    return int(node)


def find_place(launch: Launch, environment: Mapping[str, str] = os.environ) -> Place:
    """Node, and address and port of the first one.

    Raises:
        ConfigError: the environment does not say.
    """
    node = find_node(launch, environment)
    if launch.nodes == 1:
        return Place(node, LOOPBACK, find_free_port())
    port = environment.get("MASTER_PORT", str(_PORT))
    if not port.isdecimal():
        raise ConfigError(f"MASTER_PORT is {port!r}, expected a number")
    return Place(node, environment.get("MASTER_ADDR") or _first_host(environment), int(port))


def _first_host(environment: Mapping[str, str]) -> str:
    hosts = environment.get("SLURM_JOB_NODELIST", "")
    try:
        said = subprocess.run(
            ["scontrol", "show", "hostnames", hosts], capture_output=True, text=True, check=True
        )
        return said.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        raise ConfigError(
            "launch.nodes: nothing says where node 0 is; set MASTER_ADDR to its name or address"
        ) from None


@dataclass(frozen=True)
class Meeting:
    """Of all nodes.

    Attributes:
        file: all nodes see it.
        needed: whether there are several nodes; without, nothing is written.
    """

    file: Path
    needed: bool

    def begin(self) -> None:
        """The others may start their workers."""
        if self.needed:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.touch()

    def end(self) -> None:
        """Whoever comes later has to wait."""
        self.file.unlink(missing_ok=True)


def open_meeting(run_folder: Path, launch: Launch) -> Meeting:
    """Of the nodes of a run."""
    return Meeting(run_folder / LOGS / "begun", needed=launch.nodes > 1)


def wait_for_first_node(meeting: Meeting, is_done: Callable[[], bool], progress: Progress) -> bool:
    """Until node 0 has everything ready; False where there is nothing to train any more."""
    progress.begin("Waiting for node 0", 1)
    while not is_done():
        if meeting.file.exists():
            return True
        time.sleep(_LOOK)
    return False
