"""Which questions are asked: tasks of lm-evaluation-harness by name, from the hub or from files here.

    given = parse_data(["gpqa_diamond_zeroshot=gpqa_diamond.csv"], names)
    planned = [plan_task(name, given.get(name, {})) for name in ("gsm8k", "arc_easy")]   # reads no data
    ready = load_task(planned[0], seed=None, scratch=folder)                            # reads it

A task with files here is the harness' own YAML included in one of ours that changes where rows come from:
prompts, filters and metrics stay the harness'. What a set here lacks beside the one that the harness asks for
stands in its `note`.
"""

import hashlib
import io
import json
import os
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from demask.benchmarks.benchmark import DEFAULT_FOLDER, data_folder
from demask.documents.parsed import one_line
from demask.documents.paths import HUB, Source
from demask.documents.tables import read_rows
from demask.documents.text_files import did_you_mean, open_file, read_bytes, read_json_lines
from demask.errors import ConfigError, DataError, RunError
from demask.storage.atomic import write_lines, write_text
from demask.storage.run_folder import as_line

Row = dict[str, Any]
Given = Mapping[str, Mapping[str, Path]]  # by task and split; "": the split that is asked

EVALUATED = ""
KINDS = (".jsonl", ".json", ".csv", ".parquet")
OWN_TASKS = Path(__file__).parent / "tasks"
# What the harness' command uses where no seed is given: for `random`, and for everything else.
SEEDS = (0, 1234)
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")
_CHARACTERS = 200


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


@dataclass(frozen=True)
class Asking:
    """How models are asked.

    Attributes:
        limit: how many questions of each task, the first ones; None: all.
        seed: of examples that prompts show and of what tasks draw; None: the harness' own.
        batch_size: questions at a time.
        max_new_tokens: after which an answer is cut short; None: as each task has it.
        raw: without the chat template, for models that have not learned one.
        shots: few-shot examples in each prompt; None: as many as the task has.
        device: `auto`, `cpu` or `cuda`.
    """

    limit: int | None = None
    seed: int | None = None
    batch_size: int = 8
    max_new_tokens: int | None = None
    raw: bool = False
    shots: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class PlannedTask:
    """A task, and where its questions come from.

    Attributes:
        name: as the harness calls it; may stand for a group of tasks.
        path: the YAML of a single task, None for a group.
        config: what stands in it, or of a group in its own; functions are names.
        files: by split, empty when the harness fetches the data itself.
        data: the sha256 of each file, by split.
        note: in what the questions are not those that the harness would fetch.
    """

    name: str
    path: Path | None
    config: Mapping[str, Any]
    files: Mapping[str, Path]
    data: Mapping[str, str]
    note: str = ""

    @property
    def confidential(self) -> bool:
        """Whether its text must stay out of logs and files, as the authors of GPQA ask."""
        return "gpqa" in f"{self.name} {self.config.get('dataset_path')}".lower()


@dataclass(frozen=True)
class ReadyTask:
    """A task with its questions, as `lm_eval.evaluate` takes it."""

    planned: PlannedTask
    loaded: Mapping[str, Any]  # lm_eval's TaskDict


def _index(name: str) -> Any:
    """The tasks of the harness among which a name is looked up."""
    return _read_index(LOCAL[name].folder if name in LOCAL else None)


@cache
def _read_index(folder: str | None) -> Any:
    """All tasks of the harness, or those of one folder: reading all 14,683 took 8 s."""
    from lm_eval import tasks

    folders = [OWN_TASKS, *([Path(tasks.__file__).parent / folder] if folder else [])]
    return tasks.TaskManager(include_path=list(map(str, folders)), include_defaults=folder is None)


def plan_task(name: str, given: Mapping[str, Path]) -> PlannedTask:
    """A task by name, with the files that are given or lie here; no question is read.

    Args:
        name: of a task, a group or a tag of the harness, or `svamp`.
        given: files by split; `EVALUATED` is the split that is asked.

    Raises:
        ConfigError: there is no such task, or files do not fit it.
        DataError: a file cannot be read.
    """
    index = _index(name)
    if name not in index.all_tasks:
        near = did_you_mean(name, index.all_tasks)
        raise ConfigError(
            f"--tasks {name!r}: no task of lm-evaluation-harness{near or '; lm_eval ls tasks names all'}"
        )
    single = name in index.all_subtasks
    config = dict(index.task_index[name].cfg or {})
    if given and (not single or "class" in config):
        members = "a group or a program"
        raise ConfigError(
            f"--data {name}: {name} is {members}; ask its tasks by name, each with a file of its own"
        )
    files = _choose_files(name, config, given)
    if name in LOCAL and not files and (OWN_TASKS / f"{name}.yaml").exists():
        raise DataError(
            f"{name}: no {LOCAL[name].files['test']} in the folder of published sets; set DEMASK_DATA to "
            f"that folder, or give a file with --data {name}=FILE"
        )
    known = name in LOCAL and EVALUATED not in given and _evaluated_split(config) not in given
    return PlannedTask(
        name=name,
        path=Path(index.task_index[name].yaml_path) if single else None,
        config=config,
        files=files,
        data={split: digest(path) for split, path in files.items()},
        note=LOCAL[name].note if files and known else "",
    )


def _evaluated_split(config: Mapping[str, Any]) -> str:
    return str(config.get("test_split") or config.get("validation_split"))


def _choose_files(name: str, config: Mapping[str, Any], given: Mapping[str, Path]) -> dict[str, Path]:
    """Those that are given before those that lie here."""
    asked = _evaluated_split(config)
    files = {**local_files(name), **{split or asked: path for split, path in given.items()}}
    if not files:
        return {}
    splits = {str(config[key]) for key in _SPLITS if config.get(key)}
    unknown = sorted(set(files) - splits)
    if unknown:
        raise ConfigError(
            f"--data {name}:{unknown[0]}: {name} has no such split, expected {', '.join(sorted(splits))}"
        )
    if asked not in files:
        raise ConfigError(f"--data {name}: no file for {asked!r}, the split that is asked; add {name}=FILE")
    shots = int(config.get("num_fewshot") or 0)
    source = next((str(config[key]) for key in ("fewshot_split", *_SPLITS) if config.get(key)), asked)
    if shots and source not in files:
        raise ConfigError(
            f"--data {name}: the prompt shows {shots} examples of the split {source!r}; give it, too, "
            f"with --data {name}:{source}=FILE"
        )
    return files


def set_seeds(seed: int | None) -> None:
    """Seed what tasks draw from, as the harness' command does; None: with its own seeds."""
    first, other = SEEDS if seed is None else (seed, seed)
    random.seed(first)
    np.random.seed(other)
    torch.manual_seed(other)


def load_task(planned: PlannedTask, *, seed: int | None, scratch: Path) -> ReadyTask:
    """The questions of a task, read or fetched; sets the seeds of all random generators.

    Args:
        planned: which, and from where.
        seed: of what the task draws, as the order of GPQA's choices.
        scratch: an empty folder for converted rows; must stay until the task has been asked.

    Raises:
        ConfigError: the task runs code that a model writes, needs images, or is scored by code of the hub.
        DataError: its data cannot be had or does not fit.
        RunError: a package that it needs is missing.
    """
    import datasets
    import evaluate
    from huggingface_hub.utils import logging as hub_logging
    from jinja2 import TemplateError

    failures = (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError, TypeError, KeyError)
    spec = str(_write_task(planned, scratch)) if planned.files else planned.name
    set_seeds(seed)
    remote = evaluate.config.HF_EVALUATE_OFFLINE
    evaluate.config.HF_EVALUATE_OFFLINE = True  # a metric of the hub is a program
    # Where the hub cannot be reached one line of ours says so.
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with redirect_stderr(io.StringIO()):  # what it downloads besides, it tells there
            loaded = _index(planned.name).load([spec])
    except ImportError as error:
        raise RunError(
            f"{planned.name}: needs a package that is not installed ({one_line(str(error))}); "
            "pip install 'demask[lm-eval]', or what the harness' page of the task names"
        ) from error
    except (*failures, TemplateError) as error:
        raise _no_data(planned, error) from error
    finally:
        evaluate.config.HF_EVALUATE_OFFLINE = remote
    for name, task in loaded["tasks"].items():
        _refuse_unusable(name, task)
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    return ReadyTask(planned, loaded)


def _write_task(planned: PlannedTask, scratch: Path) -> Path:
    """The harness' YAML, changed in where rows come from."""
    known = LOCAL.get(planned.name, LocalSet({}))
    data_files = {}
    for split, source in planned.files.items():
        target = scratch / f"{split}.jsonl"
        write_questions(source, known.convert, target)
        data_files[split] = str(target)
    kept = {key: planned.config.get(key) for key in _SPLITS}
    changes = {
        "include": str(planned.path),
        "dataset_path": "json",
        "dataset_name": None,
        # Its copy of the rows goes when the scratch folder goes.
        "dataset_kwargs": {"data_files": data_files, "cache_dir": str(scratch / "cache")},
        **{key: split for key, split in kept.items() if split in planned.files},
        **{key: None for key, split in kept.items() if split is not None and split not in planned.files},
        **known.changes,
    }
    path = scratch / "task.yaml"
    write_text(path, yaml.safe_dump(changes))
    return path


def _no_data(planned: PlannedTask, error: Exception) -> DataError:
    """What is wrong, without a word of the data itself where that is confidential."""
    kind = type(error).__name__
    reason = kind if planned.confidential else f"{kind}: {one_line(str(error))[:_CHARACTERS]}"
    if planned.files:
        places = ", ".join(map(str, planned.files.values()))
        missing = f" (no column {error.args[0]!r})" if isinstance(error, KeyError) and error.args else ""
        return DataError(
            f"{planned.name}: {places}: not usable for this task{missing or f' ({reason})'}; give a file "
            f"with the columns of {planned.config.get('dataset_path')}"
        )
    source = planned.config.get("dataset_path") or planned.name
    members = [member for member in planned.config.get("task", ()) if isinstance(member, str)]
    if planned.path is None:
        remedy = f"give files to its tasks, asked by name ({', '.join(members)}): --data TASK=FILE"
    else:
        remedy = f"give a file: --data {planned.name}=FILE"
    return DataError(
        f"{planned.name}: its questions ({source} on the Hugging Face hub) cannot be had ({reason}); check "
        "the network, log in with 'hf auth login' for a gated set, or "
        f"{remedy}"
    )


def _refuse_unusable(name: str, task: Any) -> None:
    from lm_eval.api.registry import metric_registry

    if getattr(task, "UNSAFE_CODE", False):
        raise ConfigError(f"--tasks {name}: runs what the model writes; ask it with lm_eval in a sandbox")
    if getattr(task, "MULTIMODAL", False):
        raise ConfigError(f"--tasks {name}: shows pictures or plays sounds; demask asks in text alone")
    config = task.config
    for metric in (config.metric_list or []) if config.process_results is None else []:
        known = not isinstance(metric["metric"], str) or metric["metric"] in metric_registry
        if metric.get("hf_evaluate") or not known:
            raise ConfigError(
                f"--tasks {name}: its metric {metric['metric']!r} is a program of the hub, which demask does "
                "not run; ask it with lm_eval"
            )
    if "ifeval" in name:
        _require_sentences(name)


def _require_sentences(name: str) -> None:
    import nltk

    with suppress(LookupError):
        nltk.data.find("tokenizers/punkt_tab")
        return
    raise RunError(
        f"{name}: nltk's data 'punkt_tab', which counts sentences, is not here and cannot be fetched; run "
        "'python -m nltk.downloader punkt_tab' where there is a network, and set NLTK_DATA to its folder"
    )
