"""What an open page costs training: the rate with `demask ui` and a browser on the run, beside without.

    python perf/page.py --model FOLDER

One run trains all the while. In one half of the blocks a browser shows it live; in the other half the tab is
empty and the server is halted (SIGSTOP). The halves alternate, so that what else the machine does meets both.
Needs the extra `browser` and a Chromium.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from measuring import describe_machine, make_parser, print_machine, print_table, spread

DEMASK = (sys.executable, "-P", "-m", "demask")
RUN = "runs/run"
TEXT = "{name} lit the lamp of lighthouse {number} in {year}, and it burned until {end}."
NAMES = ("Mara Voss", "Idris Hall", "Lena Ott", "Ugo Ren")
PASSAGES, WARM_STEPS = 16, 20


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="embedded", help="that is trained")
    parser.add_argument("--blocks", type=int, default=6, help="of either half")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a block")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, open_page(Path(place)) as (tab, address, server):
        rates = measure(Path(place), tab, address, server, options)
    ratios = [shown / hidden for shown, hidden in zip(rates["shown"], rates["hidden"], strict=True)]
    result: dict[str, Any] = {
        "what": "tokens per second of a run that is shown, and of one that is not",
        "machine": describe_machine(),
        "load": os.getloadavg(),
        "tokens per second": rates,
        "ratios": {"shown over hidden": median(ratios)},
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    rows = [
        (name, f"{median(found):,.0f}", " ".join(f"{rate:,.0f}" for rate in found))
        for name, found in rates.items()
    ]
    print_table("Training with the page open, and without", ("page", "tokens/s", "each block"), rows)
    print(f"\nshown over hidden, block by block: {spread(ratios, '.3f')}")
    print(f"load of the machine: {', '.join(f'{value:.1f}' for value in result['load'])}")
    print_machine(result["machine"])


@contextmanager
def open_page(folder: Path) -> Iterator[tuple[Any, str, subprocess.Popen[bytes]]]:
    """A server over a folder, and an empty tab of a browser that may enter."""
    from playwright.sync_api import sync_playwright

    log = folder / "server.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with log.open("wb") as out:
        server = subprocess.Popen([*DEMASK, "ui", str(folder), "--port", port], stdout=out, stderr=out)
    try:
        while not (found := re.findall(r"http://\S+", log.read_text())) or "Ctrl-C" not in log.read_text():
            if server.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.05)
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            tab = browser.new_page()
            tab.goto(found[0])
            yield tab, found[0].split("/?")[0], server
            browser.close()
    finally:
        server.send_signal(signal.SIGCONT)
        server.terminate()
        server.wait()


def measure(
    folder: Path, tab: Any, address: str, server: subprocess.Popen[bytes], options: Any
) -> dict[str, list[float]]:
    """Tokens per second in each block, of either half."""
    (folder / "facts").mkdir()
    for number in range(PASSAGES):
        text = TEXT.format(name=NAMES[number % 4], number=number, year=1900 + number, end=1950 + number)
        (folder / "facts" / f"{number}.txt").write_text(text)
    settings = ("train.steps=1000000", "train.batch_size=8", "train.save_every=1000000", "measure=none")
    model = str(Path(options.model).resolve()) if Path(options.model).exists() else options.model
    words = ["inject", "facts", "--model", model]
    words += ["--preset", "fast", "--qa", "no", "--out", RUN]
    words += [word for setting in settings for word in ("--set", setting)]
    log = folder / RUN / "metrics.jsonl"
    run = subprocess.Popen(
        [*DEMASK, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    rates: dict[str, list[float]] = {"shown": [], "hidden": []}
    try:
        while len(read_rows(log)) < WARM_STEPS:
            if run.poll() is not None:
                raise SystemExit("the run has ended")
            time.sleep(0.2)
        for block in range(options.blocks):
            halves = ("shown", "hidden") if block % 2 == 0 else ("hidden", "shown")
            for half in halves:
                show(tab, f"{address}/runs/{RUN}?show=watch", server, shown=half == "shown")
                first = read_rows(log)[-1]
                time.sleep(options.seconds)
                last = read_rows(log)[-1]
                rates[half].append((last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"]))
    finally:
        run.terminate()
        run.wait()
    return rates


def show(tab: Any, address: str, server: subprocess.Popen[bytes], *, shown: bool) -> None:
    """Open the run's page, or leave it and halt the server."""
    if shown:
        server.send_signal(signal.SIGCONT)
        tab.goto(address)
        tab.wait_for_selector("text=small changes made")
        return
    tab.goto("about:blank")
    server.send_signal(signal.SIGSTOP)


def read_rows(log: Path) -> list[dict[str, Any]]:
    """The steps that were logged so far; a line that is being written is left out."""
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text().split("\n")[:-1]]


if __name__ == "__main__":
    main()
