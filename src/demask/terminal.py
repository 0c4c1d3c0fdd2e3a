"""What people see in a terminal: progress on standard error, results on standard output."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Table as RichTable
from rich.text import Text

from demask.reports.tables import Table
from demask.stages.planning import Preview

# Seconds between lines when nobody watches: a log file gets few lines, but never looks dead.
_QUIET_SECONDS = 20.0
_STYLES = {"prompt": "dim", "mask": "bold yellow", "masked": "bold green", "copied": "blue"}


class TerminalProgress:
    """A bar with time left for a person, a line now and then for a log file."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._watched = console.is_terminal
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._stage, self._total, self._done = "", 0, 0
        self._begun = self._told = time.monotonic()

    def __enter__(self) -> "TerminalProgress":
        if self._watched:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        if self._watched:
            self._bar.stop()

    def begin(self, stage: str, total: int) -> None:
        """A stage begins; the one before has ended and gets its line."""
        self._end()
        self._stage, self._total, self._done = stage, total, 0
        self._begun = self._told = time.monotonic()
        self._task = self._bar.add_task(stage, total=total, note="")

    def advance(self, parts: int = 1, note: str = "") -> None:
        """Some parts of the stage are done."""
        self._done += parts
        if self._task is not None:
            self._bar.update(self._task, advance=parts, note=note)
        now = time.monotonic()
        if not self._watched and now - self._told > _QUIET_SECONDS:
            self._told = now
            left = (now - self._begun) / max(self._done, 1) * (self._total - self._done)
            self._line(f"{self._stage}: {self._done} of {self._total}, about {left:.0f} s left. {note}")

    def say(self, text: str) -> None:
        """A line of its own."""
        self._line(text)

    def _end(self) -> None:
        if self._task is None:
            return
        self._bar.remove_task(self._task)
        self._task = None
        self._line(f"{self._stage}: {time.monotonic() - self._begun:.1f} s")

    def _line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def render_table(table: Table) -> RichTable:
    """A report's table for the terminal; numbers to the right of the first column."""
    rich = RichTable(
        title=table.title, caption=table.note or None, title_justify="left", caption_justify="left"
    )
    for place, header in enumerate(table.headers):
        rich.add_column(header, justify="left" if place < 2 else "right")
    for row in table.rows:
        rich.add_row(*(Text(cell) for cell in row))
    return rich


def render_preview(preview: Preview) -> Text:
    """One example in colour."""
    text = Text(f"{preview.id}: {preview.tokens} tokens, {preview.scored} carry loss\n", style="bold")
    for piece in preview.pieces:
        text.append(piece.text, style=_STYLES[piece.role])
    return text


def preview_legend() -> Text:
    """What the colours mean."""
    names = {
        "prompt": "given, no loss",
        "mask": "mask tokens in the prompt",
        "masked": "written with loss, not shown in the prompt",
        "copied": "written with loss, shown in the prompt",
    }
    return Text("  ").join(Text(f"■ {words}", style=_STYLES[role]) for role, words in names.items())


def render_rows(title: str, rows: Sequence[tuple[str, str]]) -> RichTable:
    """Names and values."""
    rich = RichTable(title=title, show_header=False, title_justify="left")
    for name, value in rows:
        rich.add_row(name, Text(value))
    return rich
