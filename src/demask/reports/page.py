"""The report: one self-contained HTML page, and the same as Markdown.

    runs = load_runs([baseline, tuned])
    comparison = difference_table(runs, compare_paired)
    write_reports(runs, folder.path, title="Two ways to learn eight documents", comparison=comparison)

One run or several, the page is the same. It loads nothing from anywhere, and says so to the browser
(Content-Security-Policy). Text of documents, questions and predictions is escaped everywhere.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from demask.measures import MEASURES
from demask.reports import figures, retention_tables, tables
from demask.reports.excerpts import Questions, Said, excerpt_documents, excerpt_questions
from demask.reports.runs import DIRECTIONS, OUTCOMES, RunResult, asked_directions, label_apart
from demask.reports.tables import Table
from demask.reports.verdict import Tile, Verdict, judge_run, make_tiles
from demask.reports.wording import cautions, citation, clean, headline, version
from demask.storage import file_names
from demask.storage.atomic import write_text

TEMPLATES = Path(__file__).parent / "templates"

METHOD = (
    (
        "Forward and backward",
        "A forward question is answered by what follows its cue in the document, a backward question by what "
        "precedes it. The two are never averaged.",
    ),
    (
        "Contains",
        "1 when an accepted answer stands in the prediction as whole words, else 0; case, articles and "
        "punctuation that says nothing are ignored. “25”, “1.5” and “-5” do not contain “5”. This is the "
        "metric of headline and figures. It does not punish a model that recites the passage around the "
        "answer; exact match and F1 do.",
    ),
    (
        "Exact match",
        "1 when the prediction is an accepted answer and nothing else, after the same normalisation.",
    ),
    ("F1", "Harmonic mean of precision and recall over the words of prediction and answer (SQuAD v1.1)."),
    (
        "ROUGE-1 recall",
        "Share of the answer’s words that the prediction contains, as the demasking paper (arXiv 2510.09885) "
        "reports it; a model that recites the whole passage scores high, so read it beside the others.",
    ),
    ("Decoding", "Greedy: the most likely token each time, so the same model says the same again."),
    (
        "Intervals",
        "95%. Questions on one document are not independent, so intervals are clustered by document: "
        "Wilson’s interval with the effective number of questions. With one document it is [0, 1].",
    ),
    (
        "Change and p-value",
        "After minus before on the same questions. The interval puts together those of the two shares. The "
        "p-value is two-sided: that of a sign-flip permutation test over documents (how often a difference "
        "this large would arise if training changed nothing) or that of the interval, whichever is larger. "
        "With fewer than six documents it cannot fall below 0.05. Where several stand in one table they are "
        "corrected after Holm: the chance that any of them is below 0.05 where nothing changed is at most "
        "0.05. Documents are drawn anew in this, runs are not: each arm is one run with one seed, and what "
        "another seed would give is neither in the interval nor in the p-value. Train with several seeds to "
        "see it.",
    ),
    ("Before (floor)", "The base model, asked the same questions: what it knew or guessed anyway."),
    (
        "Ceiling",
        "The base model with the document in its prompt (of one too long for it, the passage with the "
        "answer): what it can answer when it need not remember.",
    ),
    (
        "Loss",
        "Cross-entropy in nats per token. Masked tokens were hidden in the prompt; copied tokens "
        "were visible there. In diffusion masked tokens are hidden where they stand, and the loss is "
        "weighted; it bounds −log p per token only where the number of masked tokens is drawn (noise: count) "
        "and not a ratio.",
    ),
)


class _RecipeDumper(yaml.SafeDumper):
    """YAML with several lines of text in quotes on one line; the plain form folds them oddly."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\n" in text else None)


_RecipeDumper.add_representer(str, _represent_text)


class ReportFiles(NamedTuple):
    """Where the two reports were written."""

    html: Path
    markdown: Path


@dataclass(frozen=True)
class _RunView:
    label: str
    verdict: Verdict
    tiles: list[Tile]
    headline: str
    cautions: list[str]
    recipe: str
    environment: Table
    citation: str


def render_html(runs: Sequence[RunResult], *, title: str, comparison: Table | None = None) -> str:
    """The whole page as one string."""
    context = _context(runs, title, comparison)
    return _templates(html=True).get_template("report.html.jinja").render(**context)


def render_markdown(runs: Sequence[RunResult], *, title: str, comparison: Table | None = None) -> str:
    """The same as Markdown: tables instead of figures."""
    context = _context(runs, title, comparison)
    return _templates(html=False).get_template("report.md.jinja").render(**context)


def write_reports(
    runs: Sequence[RunResult], folder: Path, *, title: str, comparison: Table | None = None
) -> ReportFiles:
    """Write `report.html` and `report.md` into a folder.

    Raises:
        RunError: the folder cannot be written.
    """
    files = ReportFiles(folder / file_names.REPORT_HTML, folder / file_names.REPORT_MARKDOWN)
    write_text(files.html, render_html(runs, title=title, comparison=comparison))
    write_text(files.markdown, render_markdown(runs, title=title, comparison=comparison))
    return files


def _context(runs: Sequence[RunResult], title: str, comparison: Table | None) -> dict[str, Any]:
    runs = label_apart(runs)
    questions, documents = excerpt_questions(runs), excerpt_documents(runs)
    drawn = {
        "accuracy_figures": [figures.accuracy_bars(runs, direction) for direction in asked_directions(runs)],
        "curve_figures": [figures.accuracy_curve(runs, direction) for direction in DIRECTIONS],
        "loss_figures": figures.learning_curves(runs),
        "retention_figures": [figures.retention_bars(runs, name) for name in figures.RETENTION_BARS],
    }
    return {
        "title": title,
        "runs": [_view(run) for run in runs],
        "comparison": comparison,
        "tables": _tables(runs, questions),
        "origins": list(dict.fromkeys(run.origin for run in runs if run.origin)),
        "rows": questions.rows,
        "cuts": questions.cuts,
        "documents": documents.shown,
        "documents_cuts": documents.cuts,
        "outcomes": [o for o in (*OUTCOMES, "not scored") if any(row.outcome == o for row in questions.rows)],
        "directions": [d for d in DIRECTIONS if any(row.direction == d for row in questions.rows)],
        "method": (*METHOD, *((measure.label.capitalize(), measure.help) for measure in MEASURES.values())),
        "version": version(runs[0]),
        "folders": ", ".join(run.folder.name for run in runs),
        # Figures escape what they draw.
        **{name: [Markup(svg) for svg in svgs if svg] for name, svgs in drawn.items()},
    }


def _view(run: RunResult) -> _RunView:
    return _RunView(
        label=run.label,
        verdict=judge_run(run),
        tiles=make_tiles(run),
        headline=headline(run),
        cautions=[*cautions(run), *retention_tables.missing_measures(run)],
        recipe=yaml.dump(run.config, Dumper=_RecipeDumper, sort_keys=False, allow_unicode=True, width=100),
        environment=tables.environment_table(run),
        citation=citation(run),
    )


def _tables(runs: Sequence[RunResult], questions: Questions) -> Mapping[str, Table]:
    return {
        "accuracy": tables.accuracy_table(runs),
        "metrics": tables.metrics_table(runs),
        "outcomes": tables.outcomes_table(runs),
        "retention": retention_tables.retention_table(runs),
        "access": retention_tables.access_table(runs),
        "leaks": retention_tables.leaks_table(runs),
        "tasks": retention_tables.tasks_table(runs),
        "accuracy_steps": tables.accuracy_steps_table(runs),
        "loss": tables.loss_table(runs),
        "files": tables.files_table(runs),
        "cost": tables.cost_table(runs),
        "questions": _questions_table(questions),
    }


def _questions_table(questions: Questions) -> Table:
    def text(said: Said | None) -> str:
        return "(not asked)" if said is None else said.text

    rows = tuple(
        (row.arm, row.direction, row.question, row.answers, text(row.before), text(row.after), row.outcome)
        for row in questions.rows
    )
    return Table(
        "Every question", ("arm", "direction", "question", "answers", "before", "after", "outcome"), rows
    )


@cache
def _templates(*, html: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=html,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        cell=tables.escape_markdown, table=tables.to_markdown, fence=_fence, emphasise=_emphasise_intervals
    )
    return environment


def _emphasise_intervals(text: str) -> Markup:
    """A sentence with each `0.93 [0.87, 0.97]` set apart and kept on one line."""
    parts = re.split(r"(\d\.\d\d) (\[\d\.\d\d, \d\.\d\d\])", clean(text))
    shown = [Markup("{}").format(parts[0])]
    for value, bounds, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        shown.append(
            Markup('<span class="measured"><strong>{}</strong> <small>{}</small></span>{}').format(
                value, bounds, rest
            )
        )
    return Markup("").join(shown)


def _finalize(value: object) -> object:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _fence(text: str, language: str = "") -> str:
    """Text as a code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
