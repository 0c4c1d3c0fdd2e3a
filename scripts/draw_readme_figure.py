"""Draw the README's picture from a finished quickstart.

python scripts/draw_readme_figure.py quickstart docs/quickstart.svg
"""

import re
import sys
from pathlib import Path

from demask.reports.figures import accuracy_bars
from demask.reports.runs import load_runs
from demask.rundir import open_run_folder, write_whole

ARMS = ("next-token", "demasking")
GAP = 28


def main(folder: Path, out: Path) -> None:
    """Both directions side by side, on white, as a README is read in light and dark."""
    runs = load_runs([open_run_folder(folder / arm) for arm in ARMS])
    panels = [accuracy_bars(runs, direction) for direction in ("forward", "backward")]
    sizes = [tuple(map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', panel)[0])) for panel in panels]
    width = sum(w for w, _ in sizes) + GAP * (len(sizes) + 1)
    height = max(h for _, h in sizes) + 2 * GAP
    x, parts = float(GAP), []
    for panel, (w, h) in zip(panels, sizes, strict=True):
        placed = panel.replace("<svg ", f'<svg x="{x:g}" y="{GAP}" width="{w:g}" height="{h:g}" ', 1)
        parts.append(placed)
        x += w + GAP
    write_whole(
        out,
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'color="#1a1a1a" font-family="system-ui, sans-serif">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
