"""Draw the README's picture from a finished quickstart.

python scripts/draw_readme_figure.py quickstart docs/quickstart.svg
"""

import re
import sys
from pathlib import Path

from demask.reports.figures import RETENTION_BARS, accuracy_bars, retention_bars
from demask.reports.runs import load_runs
from demask.storage.atomic import write_text
from demask.storage.run_folder import open_run_folder

ARMS = ("next-token", "demasking")
GAP = 28


def main(folder: Path, out: Path) -> None:
    """Both directions above, what else changed below; on white, as a README is read in light and dark."""
    runs = load_runs([open_run_folder(folder / arm) for arm in ARMS])
    rows = [
        [accuracy_bars(runs, direction) for direction in ("forward", "backward")],
        [retention_bars(runs, name) for name in RETENTION_BARS],
    ]
    parts, y, width = [], float(GAP), 0.0
    for panels in rows:
        sizes = [
            tuple(map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', panel)[0])) for panel in panels
        ]
        x = float(GAP)
        for panel, (w, h) in zip(panels, sizes, strict=True):
            parts.append(panel.replace("<svg ", f'<svg x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" ', 1))
            x += w + GAP
        y += max(h for _, h in sizes) + GAP
        width = max(width, x)
    height = y
    write_text(
        out,
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'color="#1a1a1a" font-family="system-ui, sans-serif">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
