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
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from demask.evaluation.metrics import MEASURES, METRICS
from demask.records import DIRECTIONS, Document
from demask.reports import figures, line, tables
from demask.reports.apart import apart_table
from demask.reports.exports import exports_kept_table, exports_table
from demask.reports.runs import OUTCOMES, QuestionRow, RunResult, asked_directions, label_apart
from demask.reports.tables import Table
from demask.reports.verdict import Tile, Verdict, judge_run, make_tiles
from demask.reports.wording import cautions, citation, clean, find_answer, headline, shorten, version
from demask.storage import file_names
from demask.storage.atomic import write_text

TEMPLATES = Path(__file__).parent / "templates"

METHOD = (
    (
        "Forward and backward",
        "A forward question is answered by what follows its cue in the document, a backward question by what "
        "precedes it. The two are never averaged.",
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


FINE_TUNING_METHOD = (
    METHOD[-1],
    (
        "Held-out loss",
        "Samples that are drawn from the data and not trained, the same whatever the seed. Their answers are "
        "scored after their bare prompts, so that objectives can be compared.",
    ),
)

# In characters as encoded on the page. A browser lays out 3 MB of table in about a second.
PREDICTIONS_BUDGET = 1_200_000
DOCUMENTS_BUDGET = 400_000
MOST_ROWS = 4_000
MOST_DOCUMENTS = 500
# A prediction longer than this is folded to its beginning.
FOLDED, BEGINNING = 240, 140
QUESTION = 400
ANSWERS = 200

_MARKS = {"gained": "▲", "kept": "●", "lost": "▼", "still wrong": "○"}


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


@dataclass(frozen=True)
class Said:
    """A prediction in three parts, the second an accepted answer or empty.

    `beginning` is what shows when the text is folded, empty when it is short enough.
    """

    head: str
    answer: str = ""
    tail: str = ""
    beginning: str = ""

    @property
    def text(self) -> str:
        """The whole prediction."""
        return self.head + self.answer + self.tail


@dataclass(frozen=True)
class Row:
    """One question of one arm."""

    arm: str
    direction: str
    question: str
    answers: str
    before: Said | None
    after: Said | None
    outcome: str
    mark: str
    remark: str = ""


@dataclass(frozen=True)
class Questions:
    """Rows, and a sentence on what was left out."""

    rows: tuple[Row, ...]
    cuts: str


@dataclass(frozen=True)
class Documents:
    """Documents of all runs, each once, and a sentence on what was left out."""

    shown: tuple[Document, ...]
    cuts: str


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
        "loss_figures": [*figures.learning_curves(runs), figures.held_out_curve(runs)],
        "way_figures": figures.way_curves(runs),
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
        "fine_tuned": all(run.fine_tuning for run in runs),
        "method": _explain_fine_tuning(runs) if all(run.fine_tuning for run in runs) else _explain_numbers(),
        "version": version(runs[0]),
        "folders": ", ".join(run.folder.name for run in runs),
        # Figures escape what they draw.
        **{name: [Markup(svg) for svg in svgs if svg] for name, svgs in drawn.items()},
    }


def _explain_fine_tuning(runs: Sequence[RunResult]) -> list[tuple[str, str]]:
    """The words of a report of fine-tuning, with the measures that were taken."""
    taken = {name for run in runs if run.retention for name in run.retention.measures}
    explained = [(f"{m.label[0].upper()}{m.label[1:]}", m.help) for m in MEASURES.values() if m.name in taken]
    return [*FINE_TUNING_METHOD, *explained]


def _explain_numbers() -> list[tuple[str, str]]:
    """Words that the report uses, each with what it means."""
    metrics, measures = (
        [(f"{entry.label[0].upper()}{entry.label[1:]}", entry.help) for entry in table.values()]
        for table in (METRICS, MEASURES)
    )
    return [METHOD[0], *metrics, *METHOD[1:], *measures]


def _view(run: RunResult) -> _RunView:
    return _RunView(
        label=run.label,
        verdict=judge_run(run),
        tiles=make_tiles(run),
        headline=headline(run),
        cautions=[*cautions(run), *tables.missing_measures(run)],
        recipe=yaml.dump(run.config, Dumper=_RecipeDumper, sort_keys=False, allow_unicode=True, width=100),
        environment=tables.environment_table(run),
        citation=citation(run),
    )


def _tables(runs: Sequence[RunResult], questions: Questions) -> Mapping[str, Table]:
    lined = [run for run in runs if run.line] if len(runs) == 1 else []
    return {
        "accuracy": tables.accuracy_table(runs),
        "metrics": tables.metrics_table(runs),
        "outcomes": tables.outcomes_table(runs),
        "apart": apart_table(runs),
        "exports": exports_table(runs),
        "exports_kept": exports_kept_table(runs),
        "retrieval": tables.retrieval_table(runs),
        "retention": tables.retention_table(runs),
        "access": tables.access_table(runs),
        "way": tables.way_table(runs),
        "triangle": line.triangle_table(lined[0].line if lined else ()),
        "removed": line.removed_table(lined[0].line if lined else ()),
        "forgotten": line.forgotten_table(lined[0].forgotten if lined else {}),
        "leaks": tables.leaks_table(runs),
        "tasks": tables.tasks_table(runs),
        "accuracy_steps": tables.accuracy_steps_table(runs),
        "loss": tables.loss_table(runs),
        "files": tables.files_table(runs),
        "cost": tables.cost_table(runs),
        "held_out": tables.held_out_table(runs),
        "chosen": tables.chosen_table(runs),
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


# Questions and documents as the page shows them: long texts folded or cut, so that it stays light


def excerpt_questions(runs: Sequence[RunResult]) -> Questions:
    """The questions of all runs; arms that were asked the same one stand below each other."""
    pairs = _interleave(runs)
    shown = pairs[:MOST_ROWS]
    limit = _limit_predictions([row for _, row in shown])
    rows = tuple(_row(run, row, limit) for run, row in shown)
    cuts = []
    if any(len(text) > limit for _, row in shown for text in (row.before, row.after) if text):
        cuts.append(f"Predictions are cut after {limit} characters.")
    if len(pairs) > len(shown):
        cuts.append(f"Only the first {len(shown):,} of {len(pairs):,} rows are shown.")
    return Questions(rows, " ".join([*cuts, "The run folder has all of it."]) if cuts else "")


def excerpt_documents(runs: Sequence[RunResult]) -> Documents:
    """Every document that a run was trained on, once, with a title to show."""
    every = list({(d.id, d.text): d for run in runs for d in run.documents}.values())
    shown = every[:MOST_DOCUMENTS]
    limit = max(200, DOCUMENTS_BUDGET // max(len(shown), 1))
    if sum(len(document.text) for document in shown) <= DOCUMENTS_BUDGET:
        limit = DOCUMENTS_BUDGET
    cuts = []
    if any(len(document.text) > limit for document in shown):
        cuts.append(f"Texts are cut after {limit:,} characters.")
    if len(every) > len(shown):
        cuts.append(f"{len(every) - len(shown):,} more documents were trained on.")
    return Documents(
        tuple(
            Document(
                document.id,
                shorten(document.text, limit),
                shorten(document.title or document.id, QUESTION),
                document.source,
            )
            for document in shown
        ),
        " ".join([*cuts, "The run folder has all of it."]) if cuts else "",
    )


def _interleave(runs: Sequence[RunResult]) -> list[tuple[RunResult, QuestionRow]]:
    by_id: dict[tuple[str, str], list[tuple[RunResult, QuestionRow]]] = {}
    for run in runs:
        for row in run.questions:
            by_id.setdefault((row.qa_id, row.question), []).append((run, row))
    return [pair for pairs in by_id.values() for pair in pairs]


def _limit_predictions(rows: Sequence[QuestionRow]) -> int:
    """How many characters of a prediction fit, when all share the budget; long ones pay for short ones."""
    texts = [text for row in rows for text in (row.before, row.after) if text]
    encoded = sum(len(escape(text).encode("utf-8", "replace")) for text in texts)
    if encoded <= PREDICTIONS_BUDGET:
        return max((len(text) for text in texts), default=0)
    per_character = encoded / sum(map(len, texts))
    return max(80, int(PREDICTIONS_BUDGET / per_character / len(texts)))


def _row(run: RunResult, row: QuestionRow, limit: int) -> Row:
    ceiling = row.scores.get("ceiling")
    return Row(
        arm=run.label,
        direction=row.direction,
        question=shorten(row.question, QUESTION),
        answers=shorten(" / ".join(row.answers), ANSWERS),
        before=_said(row, "before", limit),
        after=_said(row, "after", limit),
        outcome=row.outcome,
        mark=_MARKS.get(row.outcome, ""),
        remark="wrong with the document, too" if ceiling and not ceiling.right else "",
    )


def _said(row: QuestionRow, stage: str, limit: int) -> Said | None:
    text = row.before if stage == "before" else row.after
    if text is None:
        return None
    text = shorten(text, limit)
    right = stage in row.scores and row.scores[stage].right
    start, end = (find_answer(text, row.answers) if right else None) or (len(text), len(text))
    beginning = shorten(text, BEGINNING) if len(text) > FOLDED else ""
    return Said(text[:start], text[start:end], text[end:], beginning)
