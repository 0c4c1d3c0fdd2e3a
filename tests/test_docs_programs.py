"""Lines of the documentation that start other programs: run by a test that is named here, or marked there."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/**/*.md")])
# What a page says of lines that nobody runs here; in the line, or in the paragraph in front of them.
MARK = re.compile(r"not run|not,? either|in vain", re.IGNORECASE)
# Words that begin a line of another program; a program that is missing here is found by `test_no_program`.
PROGRAMS = (
    "accelerate",
    "apt",
    "brew",
    "curl",
    "deepspeed",
    "docker",
    "git",
    "hf",
    "llama-cli",
    "llama-gguf-split",
    "llama-server",
    "mlflow",
    "ollama",
    "pip",
    "pipx",
    "sbatch",
    "srun",
    "tensorboard",
    "torchrun",
    "trackio",
    "transformers",
    "trl",
    "uv",
    "vllm",
    "wandb",
)
# Programs that a test starts, and where; of pip the lines that install an extra of pyproject.toml.
RUN = {
    "pip": "tests/test_installing.py",
    "torchrun": "tests/launching/test_launched_runs.py",
    "transformers": "tests/generation/test_completion.py",
}
# Of this project, tried elsewhere: `test_docs.py` has demask and make; scripts and perf have their tests.
OURS = ("demask", "make", "python", "bash", "export")


class Line(NamedTuple):
    """A line of a page that starts a program, and what stands around it."""

    page: str
    text: str
    program: str
    around: str


def find_lines(page: str, text: str) -> list[Line]:
    """Indented lines, lines of `sh` blocks and spans of code that begin with a program's name and go on."""
    found: list[Line] = []
    before = ""
    for paragraph in re.split(r"\n\s*\n", text):
        block = all(line.startswith("    ") or not line.strip() for line in paragraph.splitlines())
        around = f"{before}\n{paragraph}" if block or paragraph.startswith("```") else paragraph
        spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", paragraph)
        lines = [line.strip() for line in paragraph.splitlines() if block or paragraph.startswith("```")]
        for code in [*spans, *lines]:
            word, _, rest = code.partition(" ")
            if word in PROGRAMS and rest:
                found.append(Line(page, code, word, around))
        before = before if block else paragraph
    return found


LINES = [line for page in PAGES for line in find_lines(page.name, page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.page}: {line.text[:60]}")
def test_a_line_of_another_program_is_run_by_a_test_or_marked(line: Line) -> None:
    if MARK.search(line.around):
        return
    assert line.program in RUN, f"{line.page}: {line.text}: say that no test runs it, or name one in RUN"


@pytest.mark.parametrize("program", RUN)
def test_the_test_that_is_named_starts_the_program(program: str) -> None:
    assert program in (ROOT / RUN[program]).read_text(encoding="utf-8")


def test_the_programs_that_the_pages_name_are_found() -> None:
    assert {"vllm", "ollama", "docker", "torchrun", "wandb", "pip"} <= {line.program for line in LINES}


def test_no_program_is_left_out_of_the_list() -> None:
    """First words of indented lines and of `sh` blocks, which are commands wherever they hold an option."""
    words = {
        line.split()[0]
        for page in PAGES
        for paragraph in re.split(r"\n\s*\n", page.read_text(encoding="utf-8"))
        if paragraph.startswith(("    ", "```sh"))
        for line in paragraph.splitlines()
        if re.match(r"(    )?[a-z][a-z-]* ", line) and " --" in line.partition("#")[0]
    }
    assert words <= {*PROGRAMS, *OURS}


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("Then (not run by a test):\n\n    ollama run first", True),
        ("Then:\n\n    ollama run first   # not run by a test", True),
        ("Then:\n\n    ollama run first", False),
        ("Say `vllm serve x` and see.", False),
        ("Say `vllm serve x`, which is not run here.", True),
    ],
)
def test_a_mark_counts_in_the_line_and_in_the_paragraph_before(text: str, marked: bool) -> None:
    (line,) = find_lines("a.md", text)
    assert bool(MARK.search(line.around)) == marked
