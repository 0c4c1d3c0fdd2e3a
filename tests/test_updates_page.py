"""The commands of docs/updates.md, run in their order with a tiny model and few steps."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from demask import cli

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "updates.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^    (demask .*)$", PAGE, re.MULTILINE)]
QUICK = ["train.steps=2", "evaluate.max_new_tokens=4", "evaluate.ceiling=false", "max_tokens=60"]


@pytest.fixture(scope="module")
def said(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command printed, by its name and its run."""
    place, found = tmp_path_factory.mktemp("page"), {}
    for folder in ("handbook", "updates"):
        shutil.copytree(ROOT / "docs" / folder, place / "docs" / folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for words in COMMANDS:
            more = [word for setting in QUICK for word in ("--set", setting)]
            more = more if words[1] == "inject" else []  # the others have its recipe
            words = [str(tiny_model_folder) if word == "embedded" else word for word in (*words, *more)]
            patch.setattr(sys, "argv", [*words, "--json"])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert ended.value.code == 0, words
            found[" ".join(words[1:3])] = str(place)
        return found


def test_the_page_has_every_command_of_a_line() -> None:
    assert {words[1] for words in COMMANDS} == {"inject", "update", "history", "forget", "undo"}


def test_the_commands_of_the_page_leave_a_line_of_runs(said: dict[str, str]) -> None:
    place = Path(said["history runs/march"])
    summary = json.loads((place / "runs" / "april" / "summary.json").read_text())
    rows = summary["line"]
    assert [Path(row["run"]).name for row in rows] == ["january", "february", "march", "april"]
    assert [len(row["learned"]) for row in rows] == [4, 2, 1, 0]
    assert [row["replaced"] for row in rows] == [[], [], ["travel.docx (until 2)"], []]
    assert rows[-1]["forgotten"] == ["canteen (until 3)"]
    assert set(rows[2]["facts"]) == {"0", "1", "2"}
    assert summary["forgotten"]["accuracy"]["bare"]["after"]
    assert (place / "runs" / "march" / "delta" / "model.safetensors").exists()
