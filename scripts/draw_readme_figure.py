"""Draw the README's picture from three finished runs on the same questions, such as a quickstart.

python scripts/draw_readme_figure.py quickstart docs/kept.svg       # its folders next-token, fast and keep
"""

import sys
from pathlib import Path

from demask.reports.drawing import arrange
from demask.reports.figures import RETENTION_BARS, accuracy_bars, retention_bars
from demask.reports.runs import load_runs
from demask.storage.atomic import write_text
from demask.storage.run_folder import open_run_folder

ARMS = ("next-token", "fast", "keep")


def main(folder: Path, out: Path) -> None:
    """Both directions above, what else changed below."""
    runs = load_runs([open_run_folder(folder / arm) for arm in ARMS])
    rows = [
        [accuracy_bars(runs, direction) for direction in ("forward", "backward")],
        [retention_bars(runs, name) for name in RETENTION_BARS],
    ]
    write_text(out, arrange(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
