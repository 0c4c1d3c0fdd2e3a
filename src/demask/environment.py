"""Where a run was made: versions, hardware and the state of the code.

run.write_json("environment.json", describe_environment(device="cpu", seed=0))
"""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import demask

_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "pydantic",
)


def describe_environment(**more: object) -> dict[str, object]:
    """Versions, machine and git state, and whatever the caller knows besides."""
    return {
        "demask": demask.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": count_cores(),
        "memory_bytes": total_memory(),
        "git": _git_state(),
        **more,
    }


def cache_folder() -> Path:
    """Where models, answers and sets are kept: `DEMASK_CACHE`, or `demask` in the user's cache folder."""
    own = os.environ.get("DEMASK_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "demask"


def processor_name() -> str:
    """The processor as its maker calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def processor_flags() -> frozenset[str]:
    """What the processor can do, by Linux's names; empty elsewhere."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def count_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def total_memory() -> int:
    """Main memory in bytes; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def available_memory() -> int | None:
    """Main memory in bytes that programs can have without swapping; None where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def peak_memory() -> int:
    """The most main memory that this process has held, in bytes; 0 where the system does not tell.

    On Linux since `reset_peak_memory`, elsewhere since the process began.
    """
    try:
        # Of this program alone: `ru_maxrss` begins with what the process held that started it.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak_memory() -> bool:
    """Have `peak_memory` count from now on; False where the system cannot, as macOS and some containers."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def _git_state() -> Mapping[str, object] | None:
    """Commit and whether files differ from it; None when demask does not run from a checkout.

    Asked once, as what runs was loaded at the beginning, whatever is committed since.
    """
    folder = Path(__file__).parent
    try:
        if not _git(folder, "ls-files", Path(__file__).name):  # somebody else's repository
            return None
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_git(folder, "status", "--porcelain"))} if commit else None
    except OSError:
        return None


def _git(folder: Path, *words: str) -> str:
    finished = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    return finished.stdout.strip() if finished.returncode == 0 else ""
