"""Is this machine fit for a run: versions, devices, memory, and a speed probe of a few seconds.

for name, value in diagnose().rows(): print(name, value)
"""

import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import demask
from demask.environment import cache_folder, count_cores, describe_environment, processor_name, total_memory
from demask.models.embedded import NAME

# Versions that the design promises to run on.
_LOWEST = {"torch": (2, 11), "transformers": (5, 16)}


# Extras of pyproject.toml, and what a user wants them for; those for working on demask itself are left out.
EXTRAS = {
    "documents": "PDF, HTML, office files, tables, data sets",
    "pandoc": "TeX, Org, AsciiDoc",
    "questions": "questions made by rules",
    "writer": "questions by a local model",
    "server": "a language model's server that writes",
    "serve": "demask serve",
    "ui": "demask ui",
    "gguf": "demask export --to gguf, ollama",
    "lm-eval": "demask benchmark, measure: full",
    "qlora": "train.method: qlora",
    "deepspeed": "launch.strategy: deepspeed",
    "tensorboard": "track: tensorboard",
    "trackio": "track: trackio",
    "wandb": "track: wandb",
    "mlflow": "track: mlflow",
}


@dataclass(frozen=True)
class Feature:
    """What can be done with an extra, and what is missing for it.

    Attributes:
        extra: its name in pyproject.toml.
        what: it is for.
        missing: packages that are not installed; empty when it works.
        install: the command that installs them.
    """

    extra: str
    what: str
    missing: tuple[str, ...]
    install: str

    def say(self) -> str:
        """For people."""
        return f"lacks {', '.join(self.missing)}: {self.install}" if self.missing else "installed"


def find_features() -> tuple[Feature, ...]:
    """Every extra with what is missing for it."""
    return tuple(
        Feature(extra, what, tuple(find_missing(lines)), f"pip install 'demask[{extra}]'")
        for extra, what in EXTRAS.items()
        if (lines := _requirements(extra)) is not None
    )


def _requirements(extra: str) -> list[str] | None:
    """What an extra of demask asks for; None where that is not known.

    A checkout may have moved on since it was installed, so there its pyproject.toml says.
    """
    project = Path(demask.__file__).parents[2] / "pyproject.toml"
    if project.is_file():
        found = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if found.get("name") == "demask":
            lines: list[str] | None = found["optional-dependencies"].get(extra)
            return lines
    try:
        known = extra in (metadata.metadata("demask").get_all("Provides-Extra") or ())
    except metadata.PackageNotFoundError:
        return None
    return _lines_of("demask", extra) if known else None


def _lines_of(package: str, extra: str) -> list[str]:
    """What an extra of an installed package asks for, beside what the package asks for anyway."""
    lines = []
    for line in metadata.requires(package) or ():
        marker = Requirement(line).marker
        if marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            lines.append(line.partition(";")[0])
    return lines


def find_missing(lines: Sequence[str]) -> list[str]:
    """Requirements that are not installed, or are too old; extras of theirs are followed.

    Args:
        lines: requirements, as pip reads them.
    """
    missing = []
    for wanted in map(Requirement, lines):
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            fits = wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
        except metadata.PackageNotFoundError:
            fits = False
        if not fits:
            missing.append(wanted.name + str(wanted.specifier))
            continue
        for inner in sorted(wanted.extras):
            missing += find_missing(_lines_of(wanted.name, inner))
    return missing


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        packages: version by name.
        matrix_rates: floating-point operations per second of large matmuls, by precision.
        precision: in which training will multiply.
        features: what the extras of demask are for, and what each lacks.
        embedded_cached: whether the embedded model is at hand without a download.
        free_bytes: on the disk of the cache.
        problems: what needs doing, in whole sentences; empty when all is well.
    """

    demask: str
    python: str
    packages: dict[str, str | None]
    features: tuple[Feature, ...]
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
            *((feature.what, feature.say()) for feature in self.features),
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
        features=find_features(),
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
