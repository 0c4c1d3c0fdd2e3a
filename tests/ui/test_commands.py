"""Whatever the page starts is a command that there is, with options that it knows."""

import re

import pytest
from typer.testing import CliRunner

from demask.cli import app
from demask.ui.document_sets import DocumentSets
from demask.ui.further import Further
from demask.ui.jobs import Jobs
from demask.ui.pages import Pages
from demask.ui.runs import SeenRun
from demask.ui.streams import Streams

pytestmark = pytest.mark.smoke


@pytest.fixture
def asked(workspace):
    """All jobs that the page can ask for."""
    folder = workspace.inner("documents", "manuals")
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("Mara lit the lamp.")
    workspace.inner("questions").mkdir()
    row = (
        '{"id": "q", "document_id": "a", "question": "Who?", "answers": ["Mara"], "direction": "backward"}\n'
    )
    workspace.inner("questions", "manuals.jsonl").write_text(row)
    jobs = Jobs(workspace)
    sets = DocumentSets(workspace, jobs)
    (
        sets.read("manuals"),
        sets.ask_for_questions("manuals"),
        sets.audit("manuals"),
        sets.split("manuals", "embedded"),
    )
    further, seen = Further(Pages(workspace, jobs), jobs, sets, Streams()), SeenRun("runs/first", "finished")
    further._export(seen, {"form": "q8_0"})
    further._export(seen, {"form": "ollama"})
    further._update(seen, {"documents": "manuals", "name": "b"})
    further._retain(seen, {"budget": "0.05", "name": "c"})
    further._undo(seen, {})
    jobs.add("run", ["inject", "recipes/a.yaml", "--out", "runs/a", "--json"], about="runs/a")
    jobs.add("plan", ["plan", "recipes/a.yaml", "--json"], about="manuals")
    compare = ["compare", "runs/a", "runs/b", "--out", "c.html", "--overwrite", "--measure", "none", "--json"]
    jobs.add("compare", compare, about="a and b")
    return jobs.find_all()


def test_every_job_is_a_command_with_options_that_it_knows(asked):
    assert len(asked) == 12
    for job in asked:
        depth = 2 if job.words[0] in ("data", "qa") else 1
        result = CliRunner().invoke(app, [*job.words[:depth], "--help"], terminal_width=200)
        assert result.exit_code == 0, job.words
        for option in (word for word in job.words if word.startswith("--")):
            assert re.search(rf"{option}\b", result.output), (job.words, option)
