"""The page is whole, safe, self-contained and says what the run folder says."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from demask.recipe.sections import RunConfig
from demask.reports.page import render_html, render_markdown, write_reports
from demask.reports.runs import RunResult, load_run, load_runs
from demask.reports.tables import Table
from demask.storage.run_folder import RunFolder

VOID = {"meta", "link", "br", "col", "input", "img", "hr"}
HOSTILE = "<script>alert(1)</script> \"'&| 🦊 שלום \x00\ud800 " + "W" * 300


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails when tags are not balanced."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def two(make_run: Callable[..., RunFolder]) -> list[RunResult]:
    """A baseline and the method it is compared with."""
    return load_runs([make_run("a", objective="next-token", wrong_backward=7), make_run("b")])


def _hostile(run: RunResult) -> RunResult:
    rows = tuple(
        replace(row, question=HOSTILE, answers=(HOSTILE,), before=HOSTILE * 3, after=HOSTILE)
        for row in run.questions
    )
    documents = tuple(replace(d, title=HOSTILE, text=HOSTILE, source=HOSTILE) for d in run.documents)
    return replace(
        run,
        label=HOSTILE,
        model=HOSTILE,
        warnings=(HOSTILE,),
        environment={"host": HOSTILE},
        config={"seed": HOSTILE},
        questions=rows,
        documents=documents,
    )


def test_page_has_balanced_tags_and_unique_ids(two: list[RunResult]) -> None:
    page = Page(render_html(two, title="Two arms"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(a["href"]).removeprefix("#") for a in page.all("a")}
    assert targets <= set(ids)


def test_page_asks_for_nothing_outside_itself(two: list[RunResult]) -> None:
    html = render_html(two, title="Two arms")
    for _, attributes in Page(html).tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert not re.match(r"(?i)\s*(https?:|//|file:)", attributes.get(name) or "")
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_hostile_text_is_shown_and_never_run(make_run: Callable[..., RunFolder]) -> None:
    run = _hostile(load_run(make_run()))
    html = render_html([run, run], title=HOSTILE)
    page = Page(html)
    assert len(page.all("script")) == 1
    assert "alert(1)</script>" not in html
    assert "<script>alert(1)</script>" in page.text
    html.encode("utf-8")


def test_hostile_text_stays_text_in_markdown(make_run: Callable[..., RunFolder]) -> None:
    run = _hostile(load_run(make_run()))
    text = render_markdown([run], title=HOSTILE)
    text.encode("utf-8")
    outside = re.sub(r"(?ms)^(`{3,})[a-z]*$.*?^\1$", "", text)
    assert "<script>" not in outside


def test_code_block_in_a_document_cannot_end_its_fence(make_run: Callable[..., RunFolder]) -> None:
    run = load_run(make_run())
    run = replace(run, documents=(replace(run.documents[0], text="```\n# not a heading\n````"),))
    assert "`````\n```\n# not a heading\n````\n`````" in render_markdown([run], title="t")


def test_numbers_on_the_page_equal_the_summary(make_run: Callable[..., RunFolder]) -> None:
    folder = make_run(wrong_backward=3)
    summary = json.loads(folder.file("summary.json").read_text())
    page, text = (
        Page(render_html([load_run(folder)], title="t")),
        render_markdown([load_run(folder)], title="t"),
    )
    for directions in summary["metrics"].values():
        for metrics in directions.values():
            for metric in metrics.values():
                shown = f"{metric['value']:.2f} [{metric['low']:.2f}, {metric['high']:.2f}]"
                assert shown in page.text
                assert shown in text


def test_rows_carry_what_the_filters_ask_for(two: list[RunResult]) -> None:
    page = Page(render_html(two, title="t"))
    rows = [attributes for attributes in page.all("tr") if "data-outcome" in attributes]
    assert len(rows) == 32
    assert {row["data-arm"] for row in rows} == {"next-token", "demasking"}
    assert {row["data-direction"] for row in rows} == {"forward", "backward"}
    assert sum(row["data-outcome"] == "lost" for row in rows) == 1
    assert {select["name"] for select in page.all("select")} == {"outcome", "direction", "arm"}


def test_without_script_the_table_is_whole_and_the_filters_hidden(two: list[RunResult]) -> None:
    page = Page(render_html(two, title="t"))
    assert "hidden" in page.all("form")[0]
    assert not any("hidden" in row for row in page.all("tr"))


def test_comparison_is_shown_when_given(two: list[RunResult]) -> None:
    comparison = Table("Difference between arms", ("arms",), (("demasking − next-token",),), "note")
    assert "demasking − next-token" in render_html(two, title="t", comparison=comparison)
    assert "demasking − next-token" in render_markdown(two, title="t", comparison=comparison)


def test_run_without_questions_says_so(make_run: Callable[..., RunFolder]) -> None:
    run = load_run(make_run(directions=()))
    page, text = Page(render_html([run], title="t")), render_markdown([run], title="t")
    for said in (page.text, text):
        assert "cannot say what it has learned" in said
        assert "No questions were asked" in said
    assert not page.all("form")


def test_run_of_one_direction_has_one_figure_and_no_direction_filter(
    make_run: Callable[..., RunFolder],
) -> None:
    html = render_html([load_run(make_run(directions=("backward",), optional=False))], title="t")
    page = Page(html)
    assert "Forward accuracy" not in html
    assert [select["name"] for select in page.all("select")] == ["outcome"]
    assert len(page.all("svg")) == 2


def test_identical_predictions_raise_the_canary(make_run: Callable[..., RunFolder]) -> None:
    run = load_run(make_run())
    same = replace(run, questions=tuple(replace(row, after=row.before) for row in run.questions))
    assert "Canary" in render_html([same], title="t")
    assert "Canary" in render_markdown([same], title="t")
    assert "Canary" not in render_html([run], title="t")


def test_warnings_of_the_run_stand_before_the_numbers(make_run: Callable[..., RunFolder]) -> None:
    run = replace(load_run(make_run()), warnings=("two documents are near copies",))
    text = Page(render_html([run], title="t")).text
    assert text.index("two documents are near copies") < text.index("What the model answers")


def test_two_thousand_questions_stay_under_three_megabytes(make_run: Callable[..., RunFolder]) -> None:
    run = load_run(make_run(copies=125))
    long = tuple(replace(row, before="é<" * 400, after="word " * 200) for row in run.questions)
    html = render_html([replace(run, questions=long)], title="t")
    assert len(run.questions) == 2000
    assert len(html.encode()) < 3_000_000
    assert "Predictions are cut after" in html


def test_long_prediction_is_folded_but_whole(make_run: Callable[..., RunFolder]) -> None:
    run = load_run(make_run())
    said = "a long story " * 60
    run = replace(run, questions=(replace(run.questions[0], after=said), *run.questions[1:]))
    html = render_html([run], title="t")
    assert said in html
    assert '<summary dir="auto">a long story' in html


def test_recipe_on_the_page_can_be_run_again(make_run: Callable[..., RunFolder]) -> None:
    text = render_markdown([load_run(make_run())], title="t")
    found = re.search(r"```yaml\n(.*?)\n```", text, re.DOTALL)
    assert found
    config = RunConfig.model_validate(yaml.safe_load(found.group(1)))
    assert config.train.steps == 120


def test_same_folder_gives_the_same_page(make_run: Callable[..., RunFolder], tmp_path: Path) -> None:
    folder = make_run()
    first = write_reports([load_run(folder)], folder.path, title="t").html.read_bytes()
    second = write_reports([load_run(folder)], folder.path, title="t").html.read_bytes()
    assert first == second
    assert (folder.path / "report.md").exists()
