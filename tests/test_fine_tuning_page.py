"""The commands of docs/fine_tuning.md, run in their order, offline, on the embedded model.

The plan times one step instead of six, and answers end after 24 tokens, where the
longest that is right has 19.
"""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from demask import cli

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "fine_tuning.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^    (demask .*)$", PAGE, re.MULTILINE)]


@pytest.mark.slow
def test_the_page_teaches_orders_that_were_not_in_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "docs" / "orders", tmp_path / "docs" / "orders")
    monkeypatch.setattr("demask.tasks.step_costs._STEPS", 1)
    said = []
    for words in COMMANDS:
        more = {"sft": ["--json"], "evaluate": ["--json", "--max-new-tokens=24"]}.get(words[1], [])
        monkeypatch.setattr(sys, "argv", [*words, *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert ended.value.code == 0, err
        said.append(out)
    preview, plan, trained, before, after = said
    assert "Return the recovered masked answer." in preview
    assert json.loads(plan)["tokens"] == pytest.approx(json.loads(trained)["tokens"], rel=0.01)
    known, learned = (json.loads(said)["metrics"]["forward"]["exact_match"] for said in (before, after))
    assert known["value"] <= 0.05
    assert learned["value"] >= 0.9


def test_the_page_shows_a_line_of_the_data() -> None:
    shown = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    lines = (ROOT / "docs" / "orders" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert shown in map(json.loads, lines)


def test_the_data_are_what_the_script_makes_and_no_order_is_trained_and_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from make_orders import write_orders

    write_orders(tmp_path)
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / "orders" / name).read_text()
    trained, tested = (
        {json.loads(line)[key] for line in (tmp_path / name).read_text().splitlines()}
        for name, key in (("train.jsonl", "prompt"), ("test.jsonl", "question"))
    )
    assert not trained & tested
