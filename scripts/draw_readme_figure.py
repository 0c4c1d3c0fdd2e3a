"""Draw the README's picture from finished runs on the same questions.

python scripts/draw_readme_figure.py FOLDER docs/kept.svg      # one folder for each of ARMS
"""

import sys
from pathlib import Path

from demask.reports.drawing import arrange
from demask.reports.figures import RETENTION_BARS, accuracy_bars, retention_bars
from demask.reports.runs import load_run
from demask.storage.atomic import write_text
from demask.storage.run_folder import open_run_folder

ARMS = ("next-token", "fast", "keep without gate", "keep")


def main(folder: Path, out: Path) -> None:
    """Both directions above, what else changed below."""
    runs = [load_run(open_run_folder(folder / arm), label=arm) for arm in ARMS]
    rows = [
        [accuracy_bars(runs, direction) for direction in ("forward", "backward")],
        [retention_bars(runs, name) for name in RETENTION_BARS],
    ]
    write_text(out, arrange(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
