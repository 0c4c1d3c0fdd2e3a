"""`demask ui` as a program, for tests that need more than its handlers."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


class Server:
    """`demask ui` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self.start()

    def start(self) -> None:
        words = [sys.executable, "-P", "-m", "demask", "ui", str(self.folder), "--port", str(self.port)]
        begun = time.monotonic()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env=self.environment)
        while "Ctrl-C" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        self.address = re.findall(r"http://\S+", self.log.read_text())[0]
        self.own = self.address.split("/?")[0]
        while True:
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.02)
        self.seconds = time.monotonic() - begun

    @property
    def environment(self) -> dict[str, str]:
        """Of the program, so that it is the one that is tested."""
        return {**os.environ, "PYTHONPATH": str(SOURCE)}

    def end(self) -> None:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    @property
    def peak_megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024
