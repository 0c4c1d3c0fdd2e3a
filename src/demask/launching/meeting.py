"""How the other nodes of a run hear that node 0 has everything ready: an empty file in the run folder.

    meeting = open_meeting(run_folder, launch)
    meeting.begin()                              # node 0
    wait_for_first_node(meeting, is_done, ...)   # the others

From there on torch waits for all to come. A file that a killed node 0 has left behind makes them wait there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from demask.progress import Progress
from demask.recipe.launch import Launch

LOGS = "logs"
# Seconds between looks at the folder.
_LOOK = 1.0


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
