"""What the documentation says is tried."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from demask.cli import app

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line.partition("#")[0] for block in blocks("sh") for line in block.splitlines()]
    inline = re.findall(r"`(demask [^`]*)`", README)
    guides = [
        (ROOT / "docs" / name).read_text(encoding="utf-8")
        for name in (
            "benchmark_tasks.md",
            "cluster.md",
            "diffusion.md",
            "export.md",
            "fine_tuning.md",
            "install.md",
            "lab.md",
            "models.md",
            "reproduce.md",
            "retention.md",
            "retrieval.md",
            "tracking.md",
            "tutorial.md",
            "updates.md",
            "ui.md",
        )
    ]
    shown = [
        line.partition("#")[0] for guide in guides for line in re.findall(r"^    (demask .*)$", guide, re.M)
    ]
    return [shlex.split(line) for line in [*lines, *inline, *shown] if line.strip()]


def test_readme_shows_commands_at_all() -> None:
    assert len([words for words in commands() if words[0] == "demask"]) >= 10


@pytest.mark.parametrize("words", [w for w in commands() if w[0] == "demask"], ids=" ".join)
def test_every_demask_command_and_option_in_the_readme_exists(words: list[str]) -> None:
    names = [word for word in words[1:] if re.fullmatch(r"[a-z]+", word)]
    depth = 2 if names[0] in ("data", "qa") else 1
    result = CliRunner().invoke(app, [*names[:depth], "--help"], terminal_width=200)
    assert result.exit_code == 0, result.output
    for option in [word for word in words if word.startswith("--")]:
        assert option in result.output


@pytest.mark.parametrize("words", [w for w in commands() if w[0] == "make"], ids=" ".join)
def test_every_make_target_in_the_readme_exists(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)


def test_python_in_the_readme_compiles_and_its_names_exist() -> None:
    import demask

    for block in blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "demask"
            ):
                assert hasattr(demask, node.attr)


def test_the_question_in_the_readme_is_one_that_demask_reads(tmp_path: Path) -> None:
    from demask.knowledge.files import load_qa_pairs

    (block,) = blocks("json")
    json.loads(block)
    path = tmp_path / "questions.jsonl"
    path.write_text(block, encoding="utf-8")
    assert load_qa_pairs(path, documents={"orlin"})[0].direction == "backward"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target
