"""Which questions are asked: tasks of lm-evaluation-harness by name, from the hub or from files here.

    planned = [plan_task(name, given.get(name, {})) for name in ("gsm8k", "arc_easy")]   # reads no data
    ready = load_task(planned[0], seed=None, scratch=folder)                            # reads it

A task with files here is the harness' own YAML included in one of ours that changes where rows come from.
"""

import io
import random
from collections.abc import Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from demask.documents.parsed import one_line
from demask.documents.text_files import did_you_mean
from demask.errors import ConfigError, DataError, RunError
from demask.harness.local_data import EVALUATED, LOCAL, LocalSet, digest, local_files, write_questions
from demask.storage.atomic import write_text

OWN_TASKS = Path(__file__).parent / "tasks"
# What the harness' command uses where no seed is given: for `random`, and for everything else.
SEEDS = (0, 1234)
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")
_CHARACTERS = 200


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
