"""Is this machine fit for a run: versions, devices, memory, and a speed probe of a few seconds.

for name, value in diagnose().rows(): print(name, value)
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from demask.environment import cache_folder, count_cores, describe_environment, processor_name, total_memory
from demask.models.embedded import NAME

# Versions that the design promises to run on.
_LOWEST = {"torch": (2, 11), "transformers": (5, 16)}


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        packages: version by name.
        matrix_rates: floating-point operations per second of large matmuls, by precision.
        precision: in which training will multiply.
        embedded_cached: whether the embedded model is at hand without a download.
        free_bytes: on the disk of the cache.
        problems: what needs doing, in whole sentences; empty when all is well.
    """

    demask: str
    python: str
    packages: dict[str, str | None]
    processor: str
    cores: int
    memory_bytes: int
    device: str
    matrix_rates: dict[str, float]
    precision: str
    cache: str
    embedded_cached: bool
    free_bytes: int
    problems: tuple[str, ...]

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for people."""
        rates = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in self.matrix_rates.items())
        return [
            ("demask", f"{self.demask} on Python {self.python}"),
            (
                "packages",
                ", ".join(f"{name} {version}" for name, version in self.packages.items() if version),
            ),
            ("processor", f"{self.processor}, {self.cores} cores, {self.memory_bytes / 1e9:.0f} GB"),
            ("device", self.device),
            ("matmul", rates),
            ("training multiplies in", self.precision),
            ("model cache", f"{self.cache}, {self.free_bytes / 1e9:.0f} GB free"),
            ("embedded model", "at hand" if self.embedded_cached else "downloaded on first use (93 MB)"),
            ("problems", "\n".join(self.problems) or "none"),
        ]


def diagnose() -> Diagnosis:
    """Look, and multiply a few matrices."""
    import torch

    from demask.models.load import choose_device
    from demask.models.precision import choose_bf16
    from demask.training.plan import measure_matrix_rate

    device = choose_device("auto")
    bf16 = choose_bf16("auto", device)
    rates = {"fp32": measure_matrix_rate(device, torch.float32)}
    if bf16:
        rates["bf16"] = measure_matrix_rate(device, torch.bfloat16)
    environment = describe_environment()
    packages = dict(environment["packages"])  # type: ignore[call-overload]
    cache = cache_folder()
    free = shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists())).free
    return Diagnosis(
        demask=str(environment["demask"]),
        python=str(environment["python"]),
        packages=packages,
        processor=processor_name(),
        cores=count_cores(),
        memory_bytes=total_memory(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        matrix_rates=rates,
        precision="bf16" if bf16 else "fp32",
        cache=str(cache),
        embedded_cached=(cache / NAME).exists(),
        free_bytes=free,
        problems=tuple(_problems(packages, cache, free)),
    )


def _problems(packages: dict[str, str | None], cache: Path, free: int) -> list[str]:
    found = []
    for name, lowest in _LOWEST.items():
        version = packages.get(name)
        if version is None or tuple(int(part) for part in version.split("+")[0].split(".")[:2]) < lowest:
            wanted = ".".join(map(str, lowest))
            found.append(f"{name} is {version or 'not installed'}, expected {wanted} or newer.")
    if not (cache / NAME).exists() and free < 2e9:
        found.append(f"{cache}: {free / 1e9:.1f} GB free, the embedded model takes 1 GB while it is made.")
    return found
