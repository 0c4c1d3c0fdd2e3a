"""What a user installs: extras and what lacks them, completion, the Dockerfile, wheel and sdist."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import demask
from demask.tasks.doctor import EXTRAS, find_features, find_missing

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_doctor_knows_every_extra_that_a_user_may_want() -> None:
    assert set(EXTRAS) == set(PROJECT["optional-dependencies"]) - {"browser", "dev", "perf"}


def test_every_extra_that_a_message_names_exists() -> None:
    named = {
        name
        for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.md")]
        for names in re.findall(r"'(?:demask|\.)\[([a-z,-]+)\]'", path.read_text(encoding="utf-8"))
        for name in names.split(",")
    }
    assert len(named) > 8
    assert named <= set(PROJECT["optional-dependencies"])


def test_the_page_about_installing_has_every_extra() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert set(EXTRAS) == set(re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.M))))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of packages, in place of what is installed here; demask has two extras and more."""
    requires = {
        "demask": [
            "torch>=2",
            "starlette>=0.46; extra == 'ui'",
            "transformers[serving]; extra == 'serve'",
            "cyllama>=0.2; extra == 'gguf'",
            "xllamacpp; python_version < '3' and extra == 'gguf'",
        ],
        "transformers": ["fastapi; extra == 'serving'"],
    }
    versions = {"demask": "1", "transformers": "5", "starlette": "0.40"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "requires", lambda name: requires.get(name))
    monkeypatch.setattr(metadata, "version", version)
    return versions


def test_what_is_missing_is_found_by_version_and_through_extras_of_others(installed: dict[str, str]) -> None:
    lines = ["starlette>=0.46", "transformers[serving]", "cyllama>=0.2", "gone; python_version < '3'"]
    assert find_missing(lines) == ["starlette>=0.46", "fastapi", "cyllama>=0.2"]
    installed |= {"starlette": "0.46.1", "fastapi": "0.1", "cyllama": "0.2.18"}
    assert find_missing(lines) == []


def test_a_feature_says_the_command_that_installs_it(installed: dict[str, str]) -> None:
    found = {feature.extra: feature.say() for feature in find_features()}  # of this checkout
    assert found.keys() == EXTRAS.keys()
    assert (
        found["wandb"] == f"lacks {PROJECT['optional-dependencies']['wandb'][0]}: pip install 'demask[wandb]'"
    )
    installed["wandb"] = "99"
    assert {feature.extra: feature.say() for feature in find_features()}["wandb"] == "installed"


def test_without_a_checkout_the_installed_package_says_what_it_asks_for(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Known:
        def get_all(self, name: str) -> list[str]:
            return ["ui", "serve", "gguf"]

    monkeypatch.setattr(demask, "__file__", str(tmp_path / "site-packages" / "demask" / "__init__.py"))
    monkeypatch.setattr(metadata, "metadata", lambda name: Known())
    found = {feature.extra: feature.missing for feature in find_features()}
    assert found == {"ui": ("starlette>=0.46",), "serve": ("fastapi",), "gguf": ("cyllama>=0.2",)}

    def fail(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", fail)
    assert find_features() == ()


@pytest.mark.parametrize(
    ("words", "place", "expected"),
    [
        ("demask inj", 1, "inject"),
        ("demask data prev", 2, "preview"),
        ("demask inject --pres", 2, "--preset"),
    ],
)
def test_a_shell_completes_commands_and_options(words: str, place: int, expected: str) -> None:
    program = "import sys; sys.argv[0] = 'demask'; from demask.cli import main; main()"
    asked = {"_DEMASK_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(place)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [expected]


def instructions() -> list[str]:
    """Of the Dockerfile, without comments, continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def test_the_dockerfile_has_no_fault_that_a_linter_finds() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run(
        [hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_the_container_runs_as_a_user_of_its_own() -> None:
    lines = [line.split(maxsplit=1) for line in instructions()]
    (user,) = [rest for word, rest in lines if word == "USER"]
    assert user.isdecimal()
    assert f"useradd --uid {user} " in "\n".join(instructions())


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    copied = [name for line in instructions() if line.startswith("COPY") for name in line.split()[1:-1]]
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "src" in copied
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in kept
    (extras,) = re.findall(r"ARG EXTRAS=(\S+)", DOCKERFILE)
    assert set(extras.split(",")) <= set(EXTRAS)


def test_the_version_stands_in_one_place_and_the_pythons_are_named() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", demask.__version__)
    pythons = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line}
    assert pythons == {"3.11", "3.12", "3.13", "3.14"}


def make_environment(folder: Path, *installed: str) -> str:
    """A virtual environment with these alone; its Python. It needs no pip, which takes 5 s to make."""
    venv.create(folder, with_pip=False)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *installed], check=True)
    return python


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist, built in an environment that has nothing but the builder."""
    place = tmp_path_factory.mktemp("built")
    source = place / "source"
    ignored = shutil.ignore_patterns(".venv*", ".git", "__pycache__", ".*_cache", "runs", "dist")
    shutil.copytree(ROOT, source, ignore=ignored)
    python = make_environment(place / "builder", "hatchling")
    subprocess.run([python, "-m", "hatchling", "build", "-d", str(place / "dist")], cwd=source, check=True)
    return place


@pytest.mark.slow
def test_the_wheel_has_all_that_is_read_and_the_sdist_all_that_is_tested(built: Path) -> None:
    (wheel,), (sdist,) = (list((built / "dist").glob(f"*{ending}")) for ending in (".whl", ".tar.gz"))
    assert demask.__version__ in wheel.name
    assert demask.__version__ in sdist.name
    inside = set(zipfile.ZipFile(wheel).namelist())
    there = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "demask").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert there <= inside
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    wanted = {"pyproject.toml", "Makefile", "Dockerfile", "constraints.txt", "README.md", "docs/install.md"}
    assert wanted | {"tests/conftest.py", "recipes/embedded.yaml", "scripts/check_sizes.py"} <= names


@pytest.mark.slow
def test_the_wheel_is_installed_and_used_from_an_empty_folder(built: Path, tmp_path: Path) -> None:
    """In an environment of its own, which sees the libraries of this one, since PyTorch alone is 200 MB."""
    (wheel,) = (built / "dist").glob("*.whl")
    programs = Path(make_environment(tmp_path / "bare", "--no-deps", str(wheel))).parent
    libraries = next((tmp_path / "bare" / "lib").glob("python*")) / "site-packages"
    (libraries / "zz-others.pth").write_text(str(Path(pytest.__file__).parents[1]))
    (tmp_path / "empty").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*words: str) -> str:
        done = subprocess.run(
            [str(programs / words[0]), *words[1:]],
            cwd=tmp_path / "empty",
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert run("python", "-c", "import demask; print(demask.__file__)").startswith(str(libraries))
    assert run("python", "-c", "import demask; print(demask.__version__)").strip() == demask.__version__
    assert "inject" in run("demask", "--help")
    assert '"demask"' in run("demask", "doctor", "--json")
