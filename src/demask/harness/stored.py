"""What a benchmark leaves in its folder, and finds there again.

    store = ResultStore(Path("benchmark"))
    store.find("embedded", "gsm8k", settings)           # its results, or none
    store.keep(results, environment)

`benchmark.json` has figures and what they depend on; `samples-TASK.jsonl` what each model answered to each
question. Both are written whole after every task, so a killed command has lost one task of one model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from demask.errors import ConfigError, RunError
from demask.harness.results import AskedQuestion, Difference, Measure, TaskResult
from demask.storage.run_folder import RunFolder

SUMMARY = "benchmark.json"


class ResultStore:
    """The folder of a benchmark; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        """Read what an earlier command left.

        Raises:
            ConfigError: a file stands there.
            RunError: what stands there is no benchmark of this version.
        """
        if path is not None and path.exists() and not path.is_dir():
            raise ConfigError(f"{path}: a file stands there, expected a folder; choose another --out")
        self._folder = None if path is None else RunFolder(path)
        self._rows: list[dict[str, Any]] = []
        self._differences: list[dict[str, Any]] = []
        if self._folder and self._folder.has(SUMMARY):
            summary = self._folder.read_json(SUMMARY)
            if not isinstance(summary, dict) or not isinstance(summary.get("results"), list):
                raise RunError(f"{path}/{SUMMARY}: not made by 'demask benchmark'; choose another --out")
            self._rows = summary["results"]

    def find(self, model: str, asked_as: str, settings: Mapping[str, Any]) -> list[TaskResult]:
        """The results of an earlier command with the very same settings; empty when there are none."""
        rows = [row for row in self._rows if _names(row) == (model, asked_as)]
        if any(row["settings"] != settings for row in rows):
            return []
        return [self._restore(row) for row in rows]

    def other_settings(self, model: str, asked_as: str) -> bool:
        """Whether an earlier command asked the same, but not in the same way."""
        return any(_names(row) == (model, asked_as) for row in self._rows)

    def keep(self, results: Sequence[TaskResult], environment: Mapping[str, Any]) -> None:
        """Write the results of one model and one task in place of earlier ones.

        Raises:
            RunError: the folder cannot be written.
        """
        if self._folder is None:
            return
        names = (results[0].model, results[0].asked_as)
        for result in results:
            if result.questions:
                self._write_questions(self._folder, result)
        self._rows = [row for row in self._rows if _names(row) != names]
        self._rows += [_as_row(result) for result in results]
        self._write(environment)

    def conclude(self, differences: Sequence[Difference], environment: Mapping[str, Any]) -> None:
        """Add the comparison of models.

        Raises:
            RunError: the folder cannot be written.
        """
        self._differences = [asdict(difference) for difference in differences]
        self._write(environment)

    def _write(self, environment: Mapping[str, Any]) -> None:
        if self._folder is not None:
            value = {"environment": environment, "results": self._rows, "differences": self._differences}
            self._folder.write_json(SUMMARY, value)

    def _write_questions(self, folder: RunFolder, result: TaskResult) -> None:
        name = samples_file(result.task)
        others = [row for row in self._read_questions(name) if row["model"] != result.model]
        own = [{"model": result.model, **_without_nothing(question)} for question in result.questions]
        folder.write_rows(name, [*others, *own])

    def _read_questions(self, name: str) -> list[dict[str, Any]]:
        return self._folder.read_rows(name) if self._folder and self._folder.has(name) else []

    def _restore(self, row: Mapping[str, Any]) -> TaskResult:
        values = dict(row)
        values["measures"] = tuple(Measure(**measure) for measure in row["measures"])
        values["questions"] = tuple(
            AskedQuestion(**{key: value for key, value in question.items() if key != "model"})
            for question in self._read_questions(samples_file(row["task"]))
            if question["model"] == row["model"]
        )
        return TaskResult(**values)


def samples_file(task: str) -> str:
    """The file with every model's answers to the questions of a task."""
    return f"samples-{task.replace('/', '_')}.jsonl"


def _names(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["model"], row["asked_as"]


def _as_row(result: TaskResult) -> dict[str, Any]:
    row = asdict(result)
    del row["questions"]
    return row


def _without_nothing(question: AskedQuestion) -> dict[str, Any]:
    """Confidential text leaves no empty fields behind; an answer may be empty."""
    nothing = {"answer": None, "prompt": ""}
    return {key: value for key, value in asdict(question).items() if nothing.get(key, question) != value}
