"""Questions and documents as a page shows them: long texts folded or cut, so that it stays light.

questions = excerpt_questions(runs)
questions.rows[0].after.answer    # the accepted answer as the prediction has it
questions.cuts                    # says what was left out, empty when nothing was
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from demask.records import Document
from demask.reports.runs import QuestionRow, RunResult
from demask.reports.wording import find_answer, shorten

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
        remark="wrong with the document, too" if ceiling and ceiling.contains < 1 else "",
    )


def _said(row: QuestionRow, stage: str, limit: int) -> Said | None:
    text = row.before if stage == "before" else row.after
    if text is None:
        return None
    text = shorten(text, limit)
    right = stage in row.scores and row.scores[stage].contains >= 1
    start, end = (find_answer(text, row.answers) if right else None) or (len(text), len(text))
    beginning = shorten(text, BEGINNING) if len(text) > FOLDED else ""
    return Said(text[:start], text[start:end], text[end:], beginning)
