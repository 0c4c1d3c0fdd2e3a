"""The commands of docs/tutorial.md, run in their order, offline, on the embedded model."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from demask import cli

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^    (demask .*)$", PAGE, re.MULTILINE)]


@pytest.mark.slow
def test_the_tutorial_teaches_the_handbook_both_ways_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEMASK_SERVER_URL", raising=False)
    shutil.copytree(ROOT / "docs" / "handbook", tmp_path / "docs" / "handbook")
    said = {}
    for words in COMMANDS:
        if "--dry-run" in words:  # needs a server, see test_faulty_server
            continue
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert ended.value.code == 0, err
        said[words[1]] = out
    assert "navigation" in said["plan"]
    assert "0 flagged" in said["qa"]
    made = [json.loads(line) for line in Path("qa.jsonl").read_text().splitlines()]
    shown = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    assert any(shown.items() <= pair.items() for pair in made), "the page shows a question that is made"
    run = Path("runs/handbook")
    after = json.loads((run / "summary.json").read_text())["metrics"]["after"]
    assert after["forward"]["contains"]["value"] >= 0.5
    assert after["backward"]["contains"]["value"] >= 0.25
    assert "after:" in said["ask"]
    assert "The questions were given" in (run / "report.md").read_text()


def test_every_file_of_the_handbook_is_what_the_script_makes(tmp_path: Path) -> None:
    monkeypatched = sys.path.copy()
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from make_handbook import write_handbook
    finally:
        sys.path[:] = monkeypatched
    write_handbook(tmp_path)
    there = sorted(path.name for path in (ROOT / "docs" / "handbook").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == there
    for name in ("welcome.md", "tools.html"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / "handbook" / name).read_text()
