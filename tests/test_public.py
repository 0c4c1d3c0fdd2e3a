"""What users of the package can rely on: its names, and that asking for help is quick."""

import inspect
import json
import os
import subprocess
import sys

import pytest

import demask

NAMES = [
    "ConfigError",
    "DataError",
    "DemaskError",
    "Document",
    "Injected",
    "ModelError",
    "QAPair",
    "RunConfig",
    "RunError",
    "__version__",
    "fine_tune",
    "inject",
    "load_documents",
    "load_qa_pairs",
    "make_config",
    "request_stop",
]
HEAVY = ["accelerate", "numpy", "peft", "pydantic", "scipy", "torch", "transformers", "yaml"]
COMMANDS = [
    "quickstart",
    "inject",
    "plan",
    "sft",
    "benchmark",
    "evaluate",
    "compare",
    "ask",
    "data",
    "report",
    "reproduce",
    "doctor",
]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.smoke
def test_the_public_names_are_these() -> None:
    assert demask.__all__ == NAMES
    assert sorted(dir(demask)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_had_and_is_described(name: str) -> None:
    value = getattr(demask, name)
    assert name == "__version__" or inspect.getdoc(value)


def test_a_name_that_is_not_public_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="module 'demask' has no attribute 'injekt'"):
        _ = demask.injekt


def test_the_arguments_of_inject_are_these() -> None:
    assert list(inspect.signature(demask.inject).parameters) == [
        "model",
        "documents",
        "out",
        "qa",
        "objective",
        "progress",
        "settings",
    ]


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (demask.ConfigError, ValueError),
        (demask.DataError, ValueError),
        (demask.ModelError, RuntimeError),
        (demask.RunError, RuntimeError),
    ],
)
def test_every_error_is_also_the_builtin_that_it_refines(error: type, builtin: type) -> None:
    assert issubclass(error, demask.DemaskError)
    assert issubclass(error, builtin)


@pytest.mark.parametrize("module", ["demask", "demask.cli"])
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    loaded = json.loads(run_python(f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"))
    assert [name for name in HEAVY if name in loaded] == []


def test_recipes_documents_and_reports_work_without_torch() -> None:
    modules = (
        "recipe.sections, storage.run_folder, records, documents.load, knowledge.files, reports.page, "
        "evaluation.statistics"
    )
    imports = "; ".join(f"import demask.{name}" for name in modules.split(", "))
    loaded = run_python(f"{imports}; import sys; print(*sys.modules)").split()
    assert [name for name in ("torch", "transformers") if name in loaded] == []


@pytest.mark.smoke
def test_help_answers_at_once_and_names_every_command() -> None:
    begun = os.times()
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "demask", "--help"], capture_output=True, text=True, check=True
        )
    ended = os.times()
    # Of the processor, as other work on the machine takes its share of the clock's.
    seconds = ended.children_user + ended.children_system - begun.children_user - begun.children_system
    assert [command for command in COMMANDS if command not in done.stdout] == []
    assert "..." not in done.stdout.partition("Commands:")[2], "no description is cut short"
    assert seconds / 3 < 0.5


def test_a_reader_that_closes_the_pipe_early_causes_no_traceback() -> None:
    code = "import sys; sys.argv = ['demask', '--help']; from demask.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
