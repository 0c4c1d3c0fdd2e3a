"""Questions that lie on this machine, in the form that the harness' own tasks expect.

    given = parse_data(["gpqa_diamond_zeroshot=gpqa_diamond.csv"], tasks)
    files = local_files("gsm8k")                # {"test": .../gsm8k/test.jsonl, "train": ...}
    write_questions(files["test"], LOCAL["gsm8k"].convert, folder / "test.jsonl")

Prompts, filters and metrics stay the harness'; only where the rows come from changes. What a set here
lacks beside the one that the harness asks for stands in its `note`.
"""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demask.benchmarks.benchmark import DEFAULT_FOLDER, data_folder
from demask.documents.paths import HUB, Source
from demask.documents.tables import read_rows
from demask.documents.text_files import did_you_mean, open_file, read_bytes, read_json_lines
from demask.errors import ConfigError, DataError
from demask.storage.atomic import write_lines
from demask.storage.run_folder import as_line

Row = dict[str, Any]
Given = Mapping[str, Mapping[str, Path]]  # by task and split; "": the split that is asked

EVALUATED = ""
KINDS = (".jsonl", ".json", ".csv", ".parquet")


def _as_it_is(row: Row) -> Row:
    return row


@dataclass(frozen=True)
class LocalSet:
    """A set of questions as it lies in the folder of published sets.

    Attributes:
        files: by split, below that folder.
        folder: where the harness keeps the task, below its own tasks; empty: it has none.
        convert: a row of ours to a row of the harness' set; rows of that set stay as they are.
        changes: keys of the harness' task that must be others.
        note: in what these questions are not those that the harness would fetch.
    """

    files: Mapping[str, str]
    folder: str = ""
    convert: Callable[[Row], Row] = _as_it_is
    changes: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def _arc(row: Row) -> Row:
    if not isinstance(row.get("choices"), list):
        return row
    letters = "ABCDEFGH"[: len(row["choices"])]
    choices = {"text": row["choices"], "label": list(letters)}
    return {**row, "choices": choices, "answerKey": letters[row["answer"]]}


def _boolq(row: Row) -> Row:
    # The harness' prompt puts the question mark itself.
    question = {"question": row["question"].rstrip("?").rstrip(), "passage": row.get("passage", "")}
    return {**row, **question, "label": row["answer"]} if "label" not in row else {**row, **question}


def _svamp(row: Row) -> Row:
    answer = row["answer"]
    whole = isinstance(answer, float) and answer.is_integer()
    return {**row, "answer": str(int(answer) if whole else answer)}


def _ifeval(row: Row) -> Row:
    return {**row, "instruction_id_list": [name.removeprefix("en:") for name in row["instruction_id_list"]]}


_LLM_ADAPTERS = "test questions as LLM-Adapters has them, without training questions"
LOCAL: Mapping[str, LocalSet] = {
    "gsm8k": LocalSet({"test": "gsm8k/test.jsonl", "train": "gsm8k/train.jsonl"}, "gsm8k"),
    "svamp": LocalSet(
        {"test": "svamp/svamp.jsonl"},
        convert=_svamp,
        note="no task of the harness; demask's own, scored as its gsm8k",
    ),
    "arc_easy": LocalSet({"test": "retention/arc_easy.jsonl"}, "arc", _arc, note=_LLM_ADAPTERS),
    "arc_challenge": LocalSet({"test": "retention/arc_challenge.jsonl"}, "arc", _arc, note=_LLM_ADAPTERS),
    "boolq": LocalSet(
        {"validation": "retention/boolq.jsonl"},
        "super_glue/boolq",
        _boolq,
        {"doc_to_text": "{% if passage %}{{passage}}\n{% endif %}Question: {{question}}?\nAnswer:"},
        "asked without the passages, which the set here lacks: not comparable with published figures",
    ),
    "nq_open": LocalSet(
        {"validation": "retention/nq_open_dev.jsonl"},
        "nq_open",
        note="the same questions, without training questions",
    ),
    "ifeval": LocalSet(
        {"train": "retention/ifeval_prompts.jsonl"},
        "ifeval",
        _ifeval,
        note="Google's prompts as M-IFEval has them",
    ),
}


def local_files(task: str) -> dict[str, Path]:
    """Where the splits of a task lie in `DEMASK_DATA`, or `../shared/data`; those that are there.

    Raises:
        DataError: `DEMASK_DATA` is set and no such folder is there.
    """
    # A folder that the user names must exist; the usual one need not.
    folder = data_folder() if os.environ.get("DEMASK_DATA") else Path(DEFAULT_FOLDER)
    known = LOCAL[task].files if task in LOCAL else {}
    return {split: folder / path for split, path in known.items() if (folder / path).exists()}


def parse_data(options: Sequence[str], tasks: Collection[str]) -> dict[str, dict[str, Path]]:
    """`TASK=FILE` and `TASK:SPLIT=FILE` as files by task and split.

    Raises:
        ConfigError: an option is not of this form, stands twice, or is about a task that is not asked.
        DataError: there is no such file.
    """
    given: dict[str, dict[str, Path]] = {}
    for option in options:
        key, _, name = option.partition("=")
        task, _, split = key.partition(":")
        path = Path(name)
        if not task or not name or path.suffix.lower() not in KINDS:
            raise ConfigError(
                f"--data {option!r}: expected TASK=FILE or TASK:SPLIT=FILE with a file of "
                f"{', '.join(KINDS)}, as gsm8k=test.jsonl"
            )
        if task not in tasks:
            raise ConfigError(
                f"--data {option!r}: task {task!r} is not asked, asked are {', '.join(tasks)}; "
                f"add it to --tasks or leave the file out{did_you_mean(task, tasks)}"
            )
        if split in given.setdefault(task, {}):
            raise ConfigError(f"--data {option!r}: {key} stands twice, expected once")
        if not path.is_file():
            raise DataError(f"--data {option!r}: {path}: no such file; check the path")
        given[task][split] = path
    return given


def digest(path: Path) -> str:
    """The sha256 of a file.

    Raises:
        DataError: it cannot be read.
    """
    return hashlib.sha256(read_bytes(path)).hexdigest()


def write_questions(source: Path, convert: Callable[[Row], Row], target: Path) -> None:
    """Write the rows of a file, converted, as the JSON Lines that the harness reads.

    Raises:
        DataError: the file cannot be read, or a row lacks a key; no text of a row is in the message.
        RunError: the target cannot be written.
    """
    write_lines(target, map(as_line, _converted(source, convert)))


def _converted(source: Path, convert: Callable[[Row], Row]) -> Iterator[Row]:
    for place, row in _read(source):
        try:
            yield convert(row)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            keys = ", ".join(map(repr, row))
            reason = f"no key {error}" if isinstance(error, KeyError) else "a value is of an unexpected kind"
            raise DataError(
                f"{place}: {reason}, keys are {keys}; give a file of the set that the task was made for"
            ) from error


def _read(source: Path) -> Iterator[tuple[str, Row]]:
    if source.suffix.lower() == ".jsonl":
        for line in read_json_lines(source):
            yield line.place, line.values
        return
    if source.suffix.lower() == ".json":
        yield from _read_array(source)
        return
    for row in read_rows(Source(f"{HUB}{source.resolve()}", source.name, "dataset"), None):
        yield row.source.removeprefix(HUB), row.values


def _read_array(source: Path) -> Iterator[tuple[str, Row]]:
    with open_file(source) as file:
        try:
            rows = json.load(file)
        except ValueError as error:
            raise DataError(f"{source}: not JSON; write it again, or give it as .jsonl") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{source}: expected a list of objects; write one, or give it as .jsonl")
    for number, row in enumerate(rows, start=1):
        yield f"{source} row {number}", row
