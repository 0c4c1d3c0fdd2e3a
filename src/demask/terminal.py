"""What people see in a terminal: progress on standard error, results on standard output."""

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

from demask.knowledge.audit_rules import SEVERITIES
from demask.knowledge.sufficiency import warn_of_few
from demask.objectives.objective import Preview
from demask.progress import Status, describe_values
from demask.reports.line import forgotten_table, removed_table, triangle_table
from demask.reports.runs import RunResult, load_runs, read_retrieval
from demask.reports.tables import (
    Table,
    access_table,
    accuracy_table,
    cost_table,
    evaluation_retrieval_table,
    evaluation_table,
    metrics_table,
    missing_measures,
    retention_table,
    retrieval_table,
    tasks_table,
    way_table,
)
from demask.reports.verdict import judge_run
from demask.reports.wording import cautions, clean
from demask.storage.file_names import MODEL, REPORT_HTML
from demask.storage.run_folder import open_run_folder
from demask.tasks.planning import DocumentCounts, Plan, SampleCounts

if TYPE_CHECKING:
    from demask.knowledge.audit import Audit
    from demask.tasks.evaluate import Evaluation
    from demask.tasks.replay_costs import ReplayCost

# Seconds between lines when nobody watches: a log file gets few lines, but never looks dead.
_QUIET_SECONDS = 20.0
# Of a phase, the share that its first parts must be to tell its time left: the first tokens of 144 replies,
# which came when all prompts had been read, told of 2.1 hours.
_TELLING = 0.02
_LOG_COLUMNS = 120
_NUMBER = re.compile(r"[+−-]?\d|–$")
# Longer headers and cells of words are broken where a table is too wide.
_HEADER_WIDTH = 9
_STYLES = {"prompt": "dim", "mask": "bold yellow", "masked": "bold green", "copied": "blue"}


class _NoteColumn(ProgressColumn):
    """What a stage says of itself; the one column that gives way in a narrow terminal."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields["note"]), style="dim", no_wrap=True, overflow="ellipsis")


class TerminalProgress:
    """A bar with time left for a person, a line now and then for a log file."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._watched = console.is_terminal
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=12, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("left"),
            _NoteColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._status = Status()
        self._begun = self._told = time.monotonic()
        self._first: tuple[float, int] | None = None  # when the first parts were done, and how many then

    def __enter__(self) -> "TerminalProgress":
        if self._watched:
            self._bar.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:  # a stage that broke off has not ended
            self._end()
        if self._watched:
            self._bar.stop()

    def begin(self, phase: str, total: int, *, done: int = 0, unit: str = "") -> None:
        """A phase begins; the one before has ended and gets its line."""
        self._end()
        of_total = f"{done} of {total} {unit}".rstrip()
        if done:
            self._line(f"{phase}: goes on after {of_total}")
        self._status.begin(phase, total, done=done, unit=unit)
        self._begun = self._told = time.monotonic()
        self._first = None
        self._task = self._bar.add_task(phase, total=total, completed=done, note="")

    def advance(self, parts: int = 1, values: Mapping[str, float] | None = None) -> None:
        """Some parts of the phase are done."""
        self._status.advance(parts, values)
        status, note = self._status, describe_values(self._status.values)
        if self._task is not None:
            self._bar.update(self._task, advance=parts, note=note)
        now = time.monotonic()
        if not self._watched and now - self._told > _QUIET_SECONDS and status.done < status.total:
            self._told = now
            words = f"{status.phase}: {status.done} of {status.total} {status.unit}".rstrip()
            if (left := self._seconds_left(now)) is not None:
                words += f", about {duration(left)} left"
            self._line(f"{words}; {note}" if note else words)
        if self._first is None:
            self._first = (now, status.done)

    def say(self, text: str) -> None:
        """A line of its own."""
        self._line(text)

    def _seconds_left(self, now: float) -> float | None:
        """At the rate since the first parts were done: before them all prompts are read, or code is compiled.

        None where these are all that is known, and few.
        """
        status = self._status
        missing = status.total - status.done
        if self._first is not None and status.done > self._first[1]:
            since, before = self._first
        elif status.done - status.before >= _TELLING * (status.total - status.before):
            since, before = self._begun, status.before
        else:
            return None
        return (now - since) / max(status.done - before, 1) * missing

    def _end(self) -> None:
        if self._task is None:
            return
        self._bar.remove_task(self._task)
        self._task = None
        self._line(f"{self._status.phase}: {time.monotonic() - self._begun:.1f} s")

    def _line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def open_console() -> Console:
    """Standard output. A log or a pipe has no width to keep to; COLUMNS asks for one all the same."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_LOG_COLUMNS)


def print_tables(tables: Sequence[Table]) -> None:
    """Those tables that have rows, one below the other."""
    console = open_console()
    for table in tables:
        if table.rows:
            console.print(render_table(table, width=console.width), "")


def print_runs(folders: Sequence[Path]) -> None:
    """Several runs side by side."""
    runs = load_runs([open_run_folder(folder) for folder in folders])
    print_results(runs)
    print_tables((accuracy_table(runs), retention_table(runs), access_table(runs), cost_table(runs)))


def print_results(runs: Sequence[RunResult]) -> None:
    """What each run has come to, in words; its name in front where there are several."""
    console = open_console()
    for run in runs:
        name = f"{run.label}: " if len(runs) > 1 else ""
        console.print(Text(clean(f"{name}{judge_run(run).text}")), "")


def print_run(folder: Path) -> None:
    """What a run has learned, its cautions, and where its files are."""
    runs = load_runs([open_run_folder(folder)])
    print_results(runs)
    learned = (accuracy_table, retrieval_table, way_table)
    kept = (retention_table, access_table, tasks_table)
    print_tables([table(runs) for table in learned])
    lines = (triangle_table(runs[0].line), removed_table(runs[0].line), forgotten_table(runs[0].forgotten))
    print_tables(lines)
    print_tables([table(runs) for table in (*kept, metrics_table, cost_table)])
    cautioned = [*cautions(runs[0]), *missing_measures(runs[0])]
    remarks = [f"Warning: {caution}" for caution in cautioned]
    _print_lines(*remarks, f"Model:  {folder / MODEL}", f"Report: {folder / REPORT_HTML}")


def print_evaluation(result: "Evaluation") -> None:
    """What a model answers, what else a run changed, and whether its server agreed with our own decoder."""
    runs = load_runs([open_run_folder(result.run_folder)]) if result.run_folder and result.retention else []
    print_results(runs)
    tables = (retention_table(runs), access_table(runs), tasks_table(runs)) if runs else ()
    retrieved = result.retrieval
    beside = (
        [evaluation_retrieval_table(result.model, read_retrieval(retrieved), retrieved["metrics"])]
        if retrieved
        else []
    )
    print_tables((evaluation_table(result.model, result.metrics), *beside, *tables))
    _print_lines(*(f"Warning: {missing}" for run in runs for missing in missing_measures(run)))
    if result.server is not None:
        found = result.server.canary
        said = f"gave {found.equal} of {found.asked} texts of our own decoder" if found else "not checked"
        _print_lines(f"Server: {result.server.model} at {result.server.url}", f"Canary: {said}")


def _print_lines(*lines: str) -> None:
    console = open_console()
    for line in lines:
        console.print(Text(clean(line)), soft_wrap=True)


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `5.3 hours` or `3.1 days`; never less than a second, as the stage is not over."""
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def render_table(table: Table, *, width: int) -> RichTable:
    """A report's table for the terminal: numbers on the right, never cut in two.

    Where it does not fit, intervals stand below their values and headers take several lines.

    Args:
        table: as reports show it.
        width: columns of the terminal.
    """
    columns = list(zip(table.headers, *table.rows, strict=True))
    if columns[0][0] == "arm" and len(set(columns[0][1:])) == 1:
        del columns[0]  # one run: the same word in every row
    gap = 2
    if _width(columns, gap) > width:
        # The first column names the rows, and is wrapped between words.
        columns = [columns[0], *(tuple(map(_in_lines, column)) for column in columns[1:])]
        gap = 2 if _width(columns, gap) <= width else 1
    rich = _frame(table.title, gap=gap)
    rich.caption, rich.caption_justify = table.note or None, "left"
    for header, *cells in columns:
        numeric = all(_NUMBER.match(cell) for cell in cells)
        rich.add_column(header, justify="right" if numeric else "left", no_wrap=numeric)
    for row in zip(*(cells for _, *cells in columns), strict=True):
        rich.add_row(*map(Text, row))
    return rich


def _width(columns: Sequence[Sequence[str]], gap: int) -> int:
    widest = [max(cell_len(line) for cell in column for line in cell.split("\n")) for column in columns]
    return sum(widest) + gap * (len(columns) - 1)


def _in_lines(cell: str) -> str:
    """`0.93 [0.87, 0.97], p = 0.01` over three lines, a header with a line for each word."""
    if not _NUMBER.match(cell):
        return cell.replace(" ", "\n") if len(cell) > _HEADER_WIDTH else cell
    return cell.replace(" [", "\n[").replace("], ", "]\n")


def _frame(title: str, *, gap: int) -> RichTable:
    return RichTable(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap - 1, 0, 0),  # the box itself puts one column between two
    )


def render_preview(preview: Preview, *, colour: bool) -> Text:
    """One example in colour; without, what the prompt hides stands in brackets."""
    text = Text(f"{preview.id}: {preview.tokens} tokens, {preview.scored} carry loss\n", style="bold")
    for piece in preview.pieces:
        words = clean(piece.text)
        bare = piece.role == "masked" and not colour
        text.append(f"⟦{words}⟧" if bare else words, style=_STYLES[piece.role])
    return text


def print_previews(previews: Sequence[Preview], *, in_place: bool) -> None:
    """Examples, masked `in_place` (diffusion) or in a prompt, and what their colours mean."""
    console = open_console()
    colour = console.color_system is not None and not console.no_color
    for preview in previews:
        console.print(render_preview(preview, colour=colour), soft_wrap=True)
        console.print()
    # The end of a turn is the last piece; shown tokens before it are scored only where all are.
    copies = any(piece.role == "copied" for preview in previews for piece in preview.pieces[:-1])
    console.print(preview_legend(colour=colour, in_place=in_place, copies=copies))


def preview_legend(*, colour: bool, in_place: bool, copies: bool = True) -> Text:
    """What colours or brackets mean."""
    if in_place:
        marks = "green" if colour else "⟦...⟧"
        return Text(f"{marks}: masked where it stands; it alone carries loss, the model sees the rest")
    if not colour:
        rest = "the rest of the assistant's text" if copies else "what ends the turn"
        return Text(f"⟦...⟧ was not shown in the prompt; it and {rest} carry loss")
    names = {
        "prompt": "given, no loss",
        "mask": "mask tokens in the prompt",
        "masked": "written with loss, not shown in the prompt",
        "copied": "written with loss, shown in the prompt",
    }
    return Text("\n").join(Text(f"■ {words}", style=_STYLES[role]) for role, words in names.items())


def render_rows(title: str, rows: Sequence[tuple[str, str]]) -> RichTable:
    """Names and values."""
    rich = _frame(title, gap=3)
    rich.show_header, rich.box = False, None
    for name, value in rows:
        rich.add_row(Text(name, style="dim"), Text(value))
    return rich


def render_audit(audit: "Audit") -> RichTable:
    """What is wrong with questions, kind by kind, and what they leave out."""
    rich = _frame(f"{audit.pairs} questions, {len(audit.flagged)} flagged", gap=3)
    for name in ("finding", "severity", "number", "for example"):
        rich.add_column(name, justify="right" if name == "number" else "left")
    for kind, severity in SEVERITIES.items():
        found = [finding.explanation for finding in audit.findings if finding.kind == kind]
        if kind != "unanswerable" or audit.open_book:
            rich.add_row(kind, severity, str(len(found)), Text(clean("".join(found[:1])), style="dim"))
    coverage = audit.coverage
    share = coverage.asked_sentences
    for name, value in (
        ("forward", str(coverage.directions.get("forward", 0))),
        ("backward", str(coverage.directions.get("backward", 0))),
        ("documents asked about", str(len(coverage.documents))),
        ("documents not asked about", str(len(coverage.without_pairs))),
        ("sentences asked about", "-" if share is None else f"{share:.0%}"),
    ):
        rich.add_row(name, "count", value, "")
    return rich


def _count_or_made(count: int | None, remark: str = "") -> str:
    made = "made when the run starts"
    return str(count) if count is not None else f"{made}, {remark}" if remark else made


def _questions(counts: DocumentCounts) -> str:
    if counts.questions is None:
        return f"not known: {counts.questions_how}"
    before = f"; {counts.earlier_questions} of before are asked, too" if counts.earlier_questions else ""
    if not counts.questions:
        none = "none" if counts.questions_how == "given" else "none can be made; give some with --qa"
        return none + before
    bound = "" if counts.questions_bound == "exactly" else f"{counts.questions_bound} "
    few = warn_of_few(counts.questions, counts.passages)
    warning = f"; warning: {few}" if few else ""
    return f"{bound}{counts.questions}, {counts.questions_how}{before}{warning}"


def _costs(plan: Plan) -> list[tuple[str, str]]:
    """Speed, time and memory, and what helps where it is long."""
    share = f" in each of {plan.processes} processes" if plan.processes > 1 else ""
    machine = ("machine", f"{plan.device}, {plan.precision} matmuls{share}")
    if plan.seconds is None:
        return [machine, ("time to train", f"not measured: it {plan.problem}")]
    return [
        machine,
        ("speed", f"{plan.tokens_per_second:,.0f} tokens/s, from {plan.measured_steps} real steps"),
        ("time to train", f"about {duration(plan.seconds)}"),
        *(_replay(plan.replay) if plan.replay else []),
        ("memory", "\n".join((f"about {plan.memory_bytes / 1e9:.1f} GB{share}", *plan.memory_savings))),
        *([("what helps", "\n".join(plan.savings))] if plan.savings else []),
    ]


def _replay(cost: "ReplayCost") -> list[tuple[str, str]]:
    """What replayed conversations, or those that a gate is made of, take besides the steps."""
    drawn = "in the cache" if cost.pool_is_kept else f"drawn first, about {duration(cost.pool_seconds)}"
    pool = f"a pool of {cost.pool:,}, {drawn}"
    if not cost.conversations:
        return [("gate", pool)]
    rows = [("replay", f"{cost.conversations} in each step; {pool}")]
    if cost.drift_seconds:
        each = f"about {duration(cost.drift_seconds)} each time that it is measured"
        rows.append(("drift", f"{each}: up to 3 times on the way, 1 to 10 times after training"))
    return rows


def _earlier(counts: DocumentCounts) -> list[tuple[str, str]]:
    """What an update replays of the runs before."""
    if not counts.earlier_passages:
        return []
    together = f"{counts.earlier_together} in each step beside the new ones"
    return [("replayed", f"{counts.earlier_passages} passages of before, {together}")]


def _learned(counts: DocumentCounts | SampleCounts) -> list[tuple[str, str]]:
    if isinstance(counts, SampleCounts):
        left = f", {counts.left_out:,} left out as too long" if counts.left_out else ""
        held = f", {counts.held_out:,} held out" if counts.held_out else ""
        return [("samples", f"{counts.samples:,}{held}{left}" if counts.samples else "read while training")]
    tokens = f"{counts.document_tokens} tokens"
    pages = f" of {counts.pages:,} pages" if counts.pages else ""
    return [
        ("documents", f"{counts.documents}{pages} in {counts.passages} passages, {tokens}"),
        ("coverage", f"{counts.coverage:.0%} of the text stands in passages"),
        *_earlier(counts),
        ("questions", _questions(counts)),
        ("paraphrases", _count_or_made(counts.paraphrases, "not counted here")),
    ]


def _exposures(counts: DocumentCounts | SampleCounts) -> list[tuple[str, str]]:
    if isinstance(counts, DocumentCounts):
        return [("exposures per passage", f"{counts.exposures:.0f}")]
    return [("epochs", f"{counts.epochs:.3g}")] if counts.epochs else []


def render_plan(plan: Plan) -> RichTable:
    """What a run will train and cost."""
    parts = f" in {plan.accumulation} micro-batches" if plan.accumulation > 1 else ""
    padding = "" if plan.padding is None else f", and {plan.padding:.0%} padding"
    partly = plan.method == "full" and plan.trained_parameters < plan.parameters
    trained = f", {plan.trained_parameters / 1e6:,.1f} million of them trained" if partly else ""
    return render_rows(
        "Plan",
        [
            ("model", f"{plan.model}, {plan.parameters / 1e6:,.1f} million weights, {plan.method}{trained}"),
            ("objective", plan.objective),
            *_learned(plan.about),
            ("steps", f"{plan.steps} of {plan.batch_size} examples{parts}"),
            *_exposures(plan.about),
            ("learning rate", f"{plan.learning_rate:g}"),
            ("tokens", f"{plan.tokens:,}{padding}"),
            *_costs(plan),
        ],
    )


def describe_sft(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a run of fine-tuning did, in rows."""
    data, loss = summary["data"], summary["held_out_loss"]
    left = f", {data['left_out']:,} left out as too long" if data.get("left_out") else ""
    rows = [
        ("model", f"{summary['model']}, {summary['parameters'] / 1e6:,.1f} million weights"),
        ("objective", summary["objective"]),
        ("samples", "read while training" if data.get("stream") else f"{data['samples']:,}{left}"),
        ("steps", f"{summary['steps']:,} of {summary['batch_size']} samples"),
        ("tokens", f"{summary['tokens']:,}"),
        ("time", duration(summary["seconds"])),
    ]
    if loss:
        fall = f"{loss['before']:.3f} before, {loss['after']:.3f} after"
        rows.append(("held-out loss", f"{fall}, in nats per token of {data['held_out']:,} samples"))
    if summary.get("replayed"):
        rows.append(("replayed", f"{summary['replayed']} conversations a step"))
    measures = (summary.get("retention") or {}).get("measures", {})
    if known := measures.get("known"):
        kept = f"{round(known['value'] * known['n']):,} of {known['n']:,} easy questions answered as before"
        rows.append(("known facts", kept))
    if drift := measures.get("drift"):
        rows.append(("drift", f"{drift['value']:.3f} nats per token, on conversations of the base model"))
    elif summary.get("drift") is not None:
        own = f"conversations of its own that were not replayed ({summary['drift_conversations']})"
        rows.append(("drift", f"{round(summary['drift'], 3) + 0.0:.3f} nats per token, on {own}"))
    return rows
