"""A document that has no sentence ends, or cannot be split, is named and never stops the others."""

from pathlib import Path
from typing import Any

import pytest

from demask.errors import DataError
from demask.progress import Silent
from demask.recipe.sections import RunConfig, make_config
from demask.stages.documents import coverage_as_json
from demask.storage.run_folder import RunFolder
from demask.tasks.planning import make_plan, read_setting

LOG = "\n".join(f"2024-01-01 10:00:{n:02d} INFO started job {n}" for n in range(40))


class Told(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    folder = tmp_path / "facts"
    folder.mkdir()
    (folder / "a.txt").write_text("The Orlin works lie north of the river.")
    return folder


def recipe(model: Path, facts: Path, **changes: Any) -> RunConfig:
    values = {"model": str(model), "documents": str(facts), "qa": "no", "device": "cpu", **changes}
    return make_config({"train": {"steps": 2, "precision": "fp32"}, **values})


def test_a_plan_names_documents_that_are_cut_where_no_sentence_ends(
    tiny_model_folder: Path, facts: Path
) -> None:
    (facts / "log.txt").write_text(LOG)
    plan = make_plan(recipe(tiny_model_folder, facts))
    assert plan.about.coverage == 1
    (remark,) = (line for line in plan.about.remarks if "log.txt" in line)
    assert remark.startswith(f"{facts / 'log.txt'}: sentences longer than a passage are cut ")
    assert " at ends of lines; the first at '" in remark


def test_cuts_stand_in_the_coverage_of_the_run(tiny_model_folder: Path, facts: Path, tmp_path: Path) -> None:
    (facts / "log.txt").write_text(LOG)
    setting = read_setting(recipe(tiny_model_folder, facts), RunFolder(tmp_path), Silent())
    (cut,) = coverage_as_json(setting.coverage)["cuts"]
    assert (cut["place"], cut["words"], cut["characters"]) == (str(facts / "log.txt"), 0, 0)
    assert cut["lines"] > 0


def test_a_document_that_cannot_be_split_is_left_out_only_when_going_on(
    tiny_model_folder: Path, facts: Path, tmp_path: Path
) -> None:
    (facts / "b.txt").write_text("a " * 30 + "名", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.txt: the character '名' has 3 tokens, at most 2 fit"):
        read_setting(recipe(tiny_model_folder, facts, max_tokens=2), RunFolder(tmp_path), Silent())
    told = Told()
    going = recipe(tiny_model_folder, facts, max_tokens=2, keep_going=True)
    setting = read_setting(going, RunFolder(tmp_path), told)
    assert [line.partition(": the")[0] for line in told.lines] == [f"left out: {facts / 'b.txt'}"]
    assert {file.path: file.trained > 0 for file in setting.coverage.files} == {
        str(facts / "a.txt"): True,
        str(facts / "b.txt"): False,
    }
