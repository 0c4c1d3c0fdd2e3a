"""Every error a user can cause is one line on standard error, with the right exit code and no traceback."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from demask import __version__, cli
from demask.commands.app import BEGIN_ANEW
from demask.storage.locks import holding

FACT = "The Orlin works were founded by Mara Voss in 1931."
PAIR = {"id": "q1", "document_id": "a", "question": "Who founded Orlin?", "answers": ["Mara Voss"]}
CONFIG, DATA, MACHINE, THRESHOLD = 2, 3, 4, 5


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    error: str  # the line that says what went wrong


@pytest.fixture
def demask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Finished]:
    """Run a command in an empty folder with one document, as its user would; expects it to end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEMASK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "a.txt").write_text(FACT)

    def run(*words: str | Path) -> Finished:
        monkeypatch.setattr(sys, "argv", ["demask", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("demask: ")]
        assert "Traceback" not in err
        assert len(lines) == (ended.value.code != 0)
        assert not lines or err.splitlines()[-1] == lines[0], "the error comes last"
        return Finished(int(ended.value.code or 0), out, lines[0] if lines else "")

    return run


def inject(
    demask: Callable[..., Finished], *words: str | Path, model: str | Path = "nowhere/at/all"
) -> Finished:
    """Data and recipe are checked before the model is looked for, so most tests need none."""
    return demask("inject", "--model", model, "--documents", "facts", "--out", "run", *words)


def write_recipe(text: str) -> str:
    Path("recipe.yaml").write_text(text)
    return "recipe.yaml"


QUICK = ("--set", "train.steps=2", "--set", "evaluate.max_new_tokens=2", "--set", "evaluate.ceiling=false")


@pytest.fixture(scope="module")
def finished_run(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one forward question; not to be changed."""
    import demask

    home = tmp_path_factory.mktemp("finished")
    (home / "a.txt").write_text(FACT)
    (home / "qa.jsonl").write_text(json.dumps({**PAIR, "direction": "forward"}))
    demask.inject(
        model=str(tiny_model_folder),
        documents=home / "a.txt",
        qa=home / "qa.jsonl",
        out=home / "run",
        train={"steps": 2},
        evaluate={"max_new_tokens": 2, "ceiling": False},
    )
    return home / "run"


# Documents


def test_missing_documents_are_named(demask: Callable[..., Finished]) -> None:
    done = inject(demask, "--documents", "nofacts.txt")
    assert (done.code, "nofacts.txt: no such file or folder" in done.error) == (DATA, True)


def test_an_empty_folder_says_which_files_are_expected(demask: Callable[..., Finished]) -> None:
    Path("empty").mkdir()
    done = inject(demask, "--documents", "empty")
    assert done.code == DATA
    assert "empty: no documents in this folder, expected files in .txt, .md, .jsonl" in done.error


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("b.txt", b"one\ntwo \x00\n", "b.txt line 2: a NUL byte"),
        ("b.txt", b"one\n\xff\xfe", "b.txt line 2: byte 0xff is not UTF-8"),
        ("b.txt", b" \n", "b.txt: the document is empty"),
        ("b.jsonl", b'{"text": "one"}\n{"text": two}\n', "b.jsonl line 2: not JSON"),
        ("b.jsonl", b'["one"]\n', "b.jsonl line 1: ['one'] is not an object"),
        ("b.jsonl", b'{"text": "one"}\n{"txt": "two"}\n', "b.jsonl line 2: no key 'text'"),
        ("b.jsonl", b'{"text": 7}\n', "b.jsonl line 1: text is 7, expected a string"),
        (
            "b.jsonl",
            b'{"id": "x", "text": "one"}\n{"id": "x", "text": "two"}',
            "b.jsonl line 2: id 'x' is taken",
        ),
        ("b.jsonl", b'{"id": "a", "text": "one"}\n', "b.jsonl line 1: id 'a' is taken by facts/a.txt"),
        ("b.csv", b"id,body\n1,one\n", "b.csv line 1: no column 'text'"),
    ],
)
def test_a_document_that_cannot_be_used_is_named_with_its_line(
    demask: Callable[..., Finished], name: str, content: bytes, said: str
) -> None:
    Path("facts", name).write_bytes(content)
    done = inject(demask)
    assert (done.code, done.error[: len("demask: facts/") + len(said)]) == (DATA, f"demask: facts/{said}")


def test_a_file_of_unknown_kind_is_refused(demask: Callable[..., Finished]) -> None:
    Path("b.xyz").write_bytes(b"PK")
    done = inject(demask, "--documents", "b.xyz")
    assert (done.code, "b.xyz: this kind of file is not known" in done.error) == (DATA, True)


def test_a_character_longer_than_a_passage_may_be_is_shown(
    demask: Callable[..., Finished], tiny_model_folder: Path
) -> None:
    Path("facts", "b.txt").write_text("名", encoding="utf-8")
    done = inject(demask, "--set", "max_tokens=2", model=tiny_model_folder)
    assert done.code == DATA
    assert done.error.startswith("demask: facts/b.txt: the character '名' has 3 tokens, at most 2 fit; raise")


# Questions


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ({**PAIR, "direction": "backwards"}, "direction is 'backwards', expected 'forward' or 'backward'"),
        (
            {**PAIR, "direction": "forward", "document_id": "b"},
            "document_id is 'b', expected the id of one of the 1 documents",
        ),
        ({**PAIR, "direction": "forward", "answers": []}, "answers is [], expected a list of strings"),
        ({**PAIR, "direction": "forward", "answer": "x"}, "answer and answers are both given"),
        (PAIR, "no key 'direction'"),
    ],
)
def test_a_question_that_cannot_be_used_is_named_with_its_line(
    demask: Callable[..., Finished], pair: dict[str, object], said: str
) -> None:
    good = {**PAIR, "id": "q0", "question": "What?", "direction": "forward"}
    Path("qa.jsonl").write_text(f"{json.dumps(good)}\n\n{json.dumps(pair)}\n")
    done = inject(demask, "--qa", "qa.jsonl")
    assert done.code == DATA
    assert done.error.startswith(f"demask: qa.jsonl line 3: {said}")


def test_missing_questions_are_named(demask: Callable[..., Finished]) -> None:
    done = inject(demask, "--qa", "none.jsonl")
    assert (done.code, done.error) == (DATA, "demask: none.jsonl: no such file; check the path")


# Recipe and options


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.epoch=3", "unknown key train.epoch: did you mean 'epochs'?"),
        ("sead=3", "unknown key sead: did you mean 'seed'?"),
        ("optimizer.beta=1", "unknown key optimizer: known are device, documents"),
        ("objective.ratio=1", "unknown key objective.ratio: did you mean 'mask_ratio'?"),
        ("train.steps=many", "train.steps is 'many', expected integer"),
        ("train.steps=-5", "train.steps is -5, expected greater than 0"),
        ("train.steps=1.5", "train.steps is 1.5, expected integer"),
        ("train.steps=true", "train.steps is True, expected integer"),
        ("train.learning_rate=.nan", "train.learning_rate is nan, expected finite number"),
        ("train.learning_rate=1e999", "train.learning_rate is inf, expected finite number"),
        ("train=7", "train is 7, expected"),
        ("objective.mask_ratio=2", "objective.mask_ratio: expected 0 <= low <= high <= 1, got 2.0 and 2.0"),
        ("objective.mask_ratio=[0.1]", "objective.mask_ratio"),
        ("device=tpu", "device is 'tpu', expected 'auto', 'cpu' or 'cuda'"),
        ("documents=[]", "documents is empty; expected files and folders"),
        ("documents=7", "documents is 7, expected"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(
    demask: Callable[..., Finished], setting: str, said: str
) -> None:
    done = inject(demask, "--set", setting)
    assert (done.code, done.error[: len("demask: options: ") + len(said)]) == (
        CONFIG,
        f"demask: options: {said}",
    )


def test_steps_and_epochs_exclude_each_other(demask: Callable[..., Finished]) -> None:
    done = inject(demask, "--set", "train.steps=5", "--set", "train.epochs=2")
    assert (done.code, done.error) == (
        CONFIG,
        "demask: options: train.steps and train.epochs are both given, expected one of them",
    )


def test_an_unknown_objective_names_those_that_are(demask: Callable[..., Finished]) -> None:
    done = inject(demask, "--objective", "demaskin")
    assert (done.code, done.error) == (
        CONFIG,
        "demask: options: objective is 'demaskin', expected one of demasking, diffusion, next-token, reverse",
    )


@pytest.mark.parametrize(
    "setting", ["train.steps", "=5", "train.steps=[1", "model.name=x", ".steps=5", "a.b.c=1"]
)
def test_a_malformed_set_is_shown(demask: Callable[..., Finished], setting: str) -> None:
    done = inject(demask, "--set", setting)
    assert done.code == CONFIG
    assert repr(setting) in done.error or setting.rpartition("=")[0].split(".")[0] in done.error


def test_a_missing_out_says_what_to_give(demask: Callable[..., Finished]) -> None:
    done = demask("inject", "--model", "embedded", "--documents", "facts")
    assert (done.code, done.error) == (
        CONFIG,
        "demask: --out is missing: expected a folder for the run, as --out runs/first",
    )


@pytest.mark.parametrize("missing", ["model", "documents"])
def test_model_and_documents_have_no_default(demask: Callable[..., Finished], missing: str) -> None:
    given = {"model": "embedded", "documents": "facts"}
    del given[missing]
    done = demask("plan", write_recipe(yaml.safe_dump(given)))
    assert done.code == CONFIG
    assert done.error.startswith(f"demask: recipe.yaml: {missing} is missing; expected ")


def test_a_missing_recipe_is_named(demask: Callable[..., Finished]) -> None:
    done = demask("plan", "norecipe.yaml")
    assert (done.code, done.error) == (
        CONFIG,
        "demask: norecipe.yaml: recipe cannot be read (No such file or directory)",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [a\ntrain: b", "recipe.yaml line 2: not YAML"),
        ("model: a\n\tb: c", "recipe.yaml line 2: not YAML"),
        ("just words", "recipe.yaml: expected keys with values"),
        ("", "recipe.yaml: expected keys with values"),
        ("- model", "recipe.yaml: expected keys with values"),
        ("1: 2", "recipe.yaml: expected keys with values"),
        ("model: embedded\nmodel: other\n", "recipe.yaml line 2: not YAML (key 'model' stands twice)"),
        ("model: !!python/object/apply:os.system [true]", "recipe.yaml line 1: not YAML"),
    ],
)
def test_a_recipe_that_is_none_is_named_with_its_line(
    demask: Callable[..., Finished], text: str, said: str
) -> None:
    done = demask("plan", write_recipe(text))
    assert (done.code, done.error[: len("demask: ") + len(said)]) == (CONFIG, f"demask: {said}")


def test_a_recipe_that_is_not_utf_8_is_named(demask: Callable[..., Finished]) -> None:
    Path("recipe.yaml").write_bytes(b"model: \xff")
    done = demask("plan", "recipe.yaml")
    assert (done.code, "recipe.yaml: recipe is not UTF-8 text (byte 7)" in done.error) == (CONFIG, True)


@pytest.mark.parametrize(
    "words",
    [["injekt"], ["inject", "--foo"], ["evaluate"], ["ask", "run"], ["plan", "--set"], ["report", "a", "b"]],
)
def test_wrong_usage_points_to_the_help(demask: Callable[..., Finished], words: list[str]) -> None:
    done = demask(*words)
    assert done.code == CONFIG
    assert done.error.endswith("--help'")


# Models


def test_a_model_folder_without_weights_is_refused(
    demask: Callable[..., Finished], tiny_model_folder: Path
) -> None:
    shutil.copytree(tiny_model_folder, "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    done = inject(demask, model="bare")
    assert (done.code, "bare: no weights there; expected *.safetensors" in done.error) == (MACHINE, True)


def test_a_model_folder_with_broken_weights_is_refused(
    demask: Callable[..., Finished], tiny_model_folder: Path
) -> None:
    shutil.copytree(tiny_model_folder, "broken")
    Path("broken/model.safetensors").write_bytes(b"not weights")
    done = inject(demask, *QUICK, model="broken")
    assert (done.code, done.error[:44]) == (MACHINE, "demask: broken: its model cannot be loaded (")


def test_a_model_folder_without_a_tokenizer_is_refused(
    demask: Callable[..., Finished], tiny_model_folder: Path
) -> None:
    shutil.copytree(tiny_model_folder, "mute", ignore=shutil.ignore_patterns("tokenizer*", "chat_template*"))
    done = inject(demask, model="mute")
    assert (done.code, done.error[:46]) == (MACHINE, "demask: mute: its tokenizer cannot be loaded (")


@pytest.mark.parametrize("name", ["./none", "/none/at/all", "none/at/all"])
def test_a_model_folder_that_does_not_exist_is_named(demask: Callable[..., Finished], name: str) -> None:
    done = inject(demask, model=name)
    assert (done.code, f"{name}: no such folder" in done.error) == (MACHINE, True)


def test_a_folder_that_holds_no_model_is_named(demask: Callable[..., Finished]) -> None:
    done = inject(demask, model="facts")
    assert (done.code, "facts: not a model folder (no config.json)" in done.error) == (MACHINE, True)


@pytest.mark.parametrize("name", ["someone/some-model", "some-model", "not a name!"])
def test_a_hub_name_that_cannot_be_had_points_to_the_embedded_model(
    demask: Callable[..., Finished], name: str
) -> None:
    done = inject(demask, model=name)
    assert done.code == MACHINE
    assert done.error.startswith(
        f"demask: {name}: its configuration cannot be had from the Hugging Face hub ("
    )
    assert done.error.endswith("or use 'model: embedded', which needs no hub")


def test_a_mask_token_outside_the_vocabulary_is_refused(
    demask: Callable[..., Finished], tiny_model_folder: Path
) -> None:
    done = demask(
        "plan", "--model", tiny_model_folder, "--documents", "facts", "--set", "objective.mask_token=<nil>"
    )
    assert done.code == MACHINE
    assert done.error.startswith("demask: objective.mask_token: '<nil>' is not one token")


def test_a_tokenizer_without_a_usable_mask_token_is_refused(
    demask: Callable[..., Finished], make_tokenizer: Callable[..., object], tiny_model_folder: Path
) -> None:
    shutil.copytree(tiny_model_folder, "maskless")
    tokenizer = make_tokenizer(special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    tokenizer.save_pretrained("maskless")  # type: ignore[attr-defined]
    done = demask("data", "preview", "--model", "maskless", "--documents", "facts")
    assert (done.code, done.error[:54]) == (MACHINE, "demask: this tokenizer has no usable mask token (neith")


def test_a_mask_token_is_checked_before_any_question_is_asked(
    demask: Callable[..., Finished], tiny_model_folder: Path
) -> None:
    done = inject(demask, *QUICK, "--set", "objective.mask_token=<nil>", model=tiny_model_folder)
    assert done.code == MACHINE
    assert not Path("run/predictions-before.jsonl").exists()


def test_cuda_is_refused_where_there_is_none(
    demask: Callable[..., Finished], tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for command in (["plan"], ["inject", "--out", "run"]):
        done = demask(*command, "--model", tiny_model_folder, "--documents", "facts", "--set", "device=cuda")
        assert (done.code, done.error[:60]) == (
            MACHINE,
            "demask: device: 'cuda' is asked for and PyTorch sees none; u",
        )


def test_max_tokens_beyond_the_context_are_refused(
    demask: Callable[..., Finished], tiny_model_folder: Path
) -> None:
    done = inject(demask, "--set", "max_tokens=500", model=tiny_model_folder)
    assert done.code == CONFIG
    assert "max_tokens is 500, expected at most 119: the model's context is 256 tokens" in done.error


# Output folders


def test_a_file_in_place_of_the_run_folder_is_refused(demask: Callable[..., Finished]) -> None:
    Path("run").write_text("mine")
    done = inject(demask)
    assert (done.code, "run: a file stands there, expected a folder" in done.error) == (CONFIG, True)


@pytest.mark.parametrize("out", ["facts/a.txt/run", "/proc/run"])
def test_a_run_folder_that_cannot_be_made_is_named(demask: Callable[..., Finished], out: str) -> None:
    done = inject(demask, "--out", out)
    assert done.code == MACHINE
    assert done.error.startswith(f"demask: {out}/config.json: cannot be written (")


def test_a_folder_with_other_files_is_refused_and_left_alone(demask: Callable[..., Finished]) -> None:
    Path("run").mkdir()
    Path("run/mine.txt").write_text("mine")
    done = inject(demask)
    assert (done.code, "run: not empty and not a run folder" in done.error) == (CONFIG, True)
    assert [path.name for path in Path("run").iterdir()] == ["mine.txt"]


def test_the_folder_of_another_recipe_names_the_setting_that_differs(demask: Callable[..., Finished]) -> None:
    assert inject(demask).code == MACHINE  # the folder is claimed, the model is missing
    done = inject(demask, "--set", "train.steps=7")
    assert done.code == CONFIG
    assert "run: holds the run of another recipe (train.steps is None there and 7 here)" in done.error


def test_documents_that_changed_since_the_run_began_are_refused(demask: Callable[..., Finished]) -> None:
    assert inject(demask).code == MACHINE
    Path("facts/a.txt").write_text("Mara Voss never founded anything.")
    done = inject(demask)
    assert (done.code, "run: documents.jsonl has changed since this run began" in done.error) == (
        CONFIG,
        True,
    )


def test_questions_that_changed_since_the_run_began_are_refused(demask: Callable[..., Finished]) -> None:
    Path("qa.jsonl").write_text(json.dumps({**PAIR, "direction": "forward"}))
    assert inject(demask, "--qa", "qa.jsonl").code == MACHINE
    Path("qa.jsonl").write_text(json.dumps({**PAIR, "direction": "backward"}))
    done = inject(demask, "--qa", "qa.jsonl")
    assert (done.code, "run: qa_pairs.jsonl has changed since" in done.error) == (CONFIG, True)


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to let any file grow beyond this, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("size", "every", "said"),
    [
        (20, 1, "documents.jsonl: cannot be written ("),
        (300, 1, "run/config.json: cannot be written ("),
        (20_000, 1, "run/checkpoints: the checkpoint of step 1 cannot be written ("),
    ],
    ids=["documents", "recipe", "checkpoint"],
)
def test_a_run_stopped_by_a_full_disk_says_so_and_goes_on_later(
    demask: Callable[..., Finished], tiny_model_folder: Path, size: int, every: int, said: str
) -> None:
    words = (*QUICK, "--set", f"train.save_every={every}")
    with files_at_most(size):
        done = inject(demask, *words, model=tiny_model_folder)
    assert (done.code, said in done.error) == (MACHINE, True)
    assert "free some space" in done.error
    assert inject(demask, *words, model=tiny_model_folder).code == 0
    assert not list(Path("run").glob(".*")), "nothing half-written is left"


def test_a_model_that_cannot_be_stored_says_so_and_the_same_command_stores_it_later(
    demask: Callable[..., Finished], tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from demask.training import export

    def write_on_full_disk(*arguments: Any) -> None:
        with files_at_most(20_000):
            write(*arguments)

    write = export._write_native
    with monkeypatch.context() as patch:
        patch.setattr(export, "_write_native", write_on_full_disk)
        done = inject(demask, *QUICK, model=tiny_model_folder)
    assert (done.code, done.error[:48]) == (MACHINE, "demask: run/model: the model cannot be written (")
    assert not Path("run/model").exists()
    assert inject(demask, *QUICK, model=tiny_model_folder).code == 0


def test_a_loss_that_is_not_finite_names_the_step_and_what_to_change(
    demask: Callable[..., Finished], tiny_model_folder: Path
) -> None:
    done = inject(
        demask, *QUICK, "--set", "train.steps=4", "--set", "train.learning_rate=1e38", model=tiny_model_folder
    )
    assert done.code == MACHINE
    assert done.error.startswith("demask: step 2: the loss is nan; lower train.learning_rate")


# Commands on runs


@pytest.mark.parametrize("command", [["evaluate"], ["ask"]])
def test_a_run_without_a_model_is_refused(demask: Callable[..., Finished], command: list[str]) -> None:
    Path("qa.jsonl").write_text(json.dumps({**PAIR, "direction": "forward"}))
    inject(demask, "--qa", "qa.jsonl")
    done = demask(*command, "run", *(["Who?"] if command == ["ask"] else []))
    assert done.code == MACHINE
    assert done.error.startswith("demask: run: this run has no trained model yet")


@pytest.mark.parametrize(
    "words", [["ask", "facts", "Who?"], ["report", "facts"], ["compare", "facts", "facts"]]
)
def test_a_folder_that_is_no_run_is_refused(demask: Callable[..., Finished], words: list[str]) -> None:
    done = demask(*words)
    assert (done.code, done.error[:31]) == (MACHINE, "demask: facts: not a run folder")


def test_evaluate_without_questions_asks_for_them(
    demask: Callable[..., Finished], tiny_model_folder: Path
) -> None:
    done = demask("evaluate", tiny_model_folder)
    assert (done.code, "--qa is missing" in done.error) == (CONFIG, True)


def test_compare_names_a_run_that_is_missing(demask: Callable[..., Finished], finished_run: Path) -> None:
    done = demask("compare", finished_run, "second")
    assert (done.code, done.error[:32]) == (MACHINE, "demask: second: not a run folder")


@pytest.mark.parametrize("name", ["page.html", "page.md"])
def test_compare_replaces_nothing_unasked(
    demask: Callable[..., Finished], finished_run: Path, name: str
) -> None:
    Path(name).write_text("mine")
    done = demask("compare", finished_run, finished_run, "--out", "page.html")
    assert (done.code, f"{name}: stands there already" in done.error) == (CONFIG, True)
    assert Path(name).read_text() == "mine"
    assert demask("compare", finished_run, finished_run, "--out", "page.html", "--overwrite").code == 0


def test_compare_refuses_a_page_that_its_markdown_would_overwrite(
    demask: Callable[..., Finished], finished_run: Path
) -> None:
    done = demask("compare", finished_run, "--out", "page.md")
    assert (done.code, "page.md: expected a name in .html" in done.error) == (CONFIG, True)


def test_a_run_without_its_summary_has_no_report(demask: Callable[..., Finished], finished_run: Path) -> None:
    shutil.copytree(finished_run, "run", ignore=shutil.ignore_patterns("summary.json"))
    done = demask("report", "run")
    assert (done.code, "run/summary.json: no such file" in done.error) == (MACHINE, True)
    assert (
        "trained, but not all questions are answered and judged; start the same command again" in done.error
    )


def make_unfinished(finished: Path, *, keep: str) -> None:
    """A run that was killed: before it trained, or on the way."""
    drop = {"summary.json", "scores.jsonl", "predictions-after.jsonl", "training.json", "model"}
    drop |= {"metrics.jsonl"} if keep == "asked" else set()
    drop |= {"predictions-before.jsonl", "metrics.jsonl"} if keep == "read" else set()
    shutil.copytree(finished, "run", ignore=shutil.ignore_patterns(*drop))


@pytest.mark.parametrize(
    "words", [["report", "run"], ["evaluate", "run"], ["ask", "run", "Who?"], ["compare", "run", "run"]]
)
@pytest.mark.parametrize(
    ("keep", "far"),
    [
        ("trained", "training, step 2 of 2"),
        ("asked", "questions asked before training, nothing trained"),
        ("read", "documents read, nothing asked or trained"),
    ],
)
def test_an_unfinished_run_says_what_it_is_how_far_it_came_and_how_to_go_on(
    demask: Callable[..., Finished], finished_run: Path, words: list[str], keep: str, far: str
) -> None:
    make_unfinished(finished_run, keep=keep)
    done = demask(*words)
    model = json.loads((finished_run / "config.json").read_text())["model"]
    said = f"'demask inject' of demasking on {model} came as far as this: {far}; start the same command again"
    assert (done.code, said in done.error) == (MACHINE, True), done.error


def test_an_unfinished_run_without_its_questions_is_unfinished_all_the_same(
    demask: Callable[..., Finished], finished_run: Path
) -> None:
    make_unfinished(finished_run, keep="read")
    Path("run/qa_pairs.jsonl").unlink()
    done = demask("evaluate", "run")
    assert (done.code, "came as far as this: documents read" in done.error) == (MACHINE, True)


def test_a_run_that_is_still_running_says_who_runs_it(
    demask: Callable[..., Finished], finished_run: Path
) -> None:
    make_unfinished(finished_run, keep="trained")
    with holding(Path("run")):
        done = demask("report", "run")
    assert f"is still running (process {os.getpid()} on " in done.error
    assert "training, step 2 of 2; wait until it has ended" in done.error


def test_a_finished_run_whose_model_was_removed_says_so(
    demask: Callable[..., Finished], finished_run: Path
) -> None:
    shutil.copytree(finished_run, "run", ignore=shutil.ignore_patterns("model"))
    done = demask("ask", "run", "Who?")
    assert (done.code, "this run is finished, and its model/ was removed" in done.error) == (MACHINE, True)


def test_an_unfinished_run_of_fine_tuning_is_told_apart(demask: Callable[..., Finished]) -> None:
    Path("run").mkdir()
    config = {"model": "embedded", "data": ["a.jsonl"], "objective": {"name": "masked-sft"}}
    Path("run/config.json").write_text(json.dumps(config))
    Path("run/data.json").write_text("{}")
    done = demask("evaluate", "run", "--qa", "qa.jsonl")
    assert "'demask sft' of masked-sft on embedded came as far as this: data read" in done.error
    done = demask("report", "run")
    assert "run: a run of 'demask sft', expected one of 'demask inject'" in done.error


def test_a_damaged_file_of_a_run_is_named_with_its_line(
    demask: Callable[..., Finished], finished_run: Path
) -> None:
    shutil.copytree(finished_run, "run")
    Path("run/scores.jsonl").write_text('{"stage": "before"}\n{"sta')
    done = demask("report", "run")
    assert (done.code, "run/scores.jsonl line 2: not JSON" in done.error) == (MACHINE, True)


# Thresholds


@pytest.mark.parametrize(
    "text",
    [
        "forward",
        "forward=",
        "forward=2",
        "forward=nan",
        "sideways=0.5",
        "forward.rouge=0.5",
        "",
        "forward=0,,",
    ],
)
def test_a_malformed_threshold_is_shown(demask: Callable[..., Finished], text: str) -> None:
    done = inject(demask, "--qa", "none.jsonl", "--require", text)
    assert done.code == CONFIG
    assert done.error.startswith("demask: --require '")


def test_a_threshold_given_twice_is_refused(demask: Callable[..., Finished]) -> None:
    done = inject(demask, "--require", "forward=0.5,forward.contains=0.6")
    assert (done.code, "forward contains stands twice" in done.error) == (CONFIG, True)


def test_a_threshold_without_questions_is_refused_before_training(demask: Callable[..., Finished]) -> None:
    done = inject(demask, "--qa", "no", "--require", "forward=0.5")
    assert (done.code, done.error) == (CONFIG, "demask: --require needs questions; leave out --qa no")


def test_a_threshold_for_a_direction_that_is_never_asked_is_refused_before_training(
    demask: Callable[..., Finished],
) -> None:
    Path("qa.jsonl").write_text(json.dumps({**PAIR, "direction": "forward"}))
    done = inject(demask, "--qa", "qa.jsonl", "--require", "backward=0.5")
    assert done.code == CONFIG
    assert "--require backward: there are no backward questions" in done.error


def test_a_threshold_that_is_missed_exits_with_5_after_the_result(
    demask: Callable[..., Finished], finished_run: Path
) -> None:
    done = demask("evaluate", finished_run, "--json", "--require", "forward=0.5")
    assert (done.code, done.error) == (THRESHOLD, "demask: forward contains is 0.000, required 0.5")
    assert json.loads(done.out)["metrics"]["forward"]["contains"]["value"] == 0


def test_a_threshold_that_is_met_exits_with_0(demask: Callable[..., Finished], finished_run: Path) -> None:
    assert demask("evaluate", finished_run, "--require", "forward=0,forward.f1=0").code == 0


# For programs


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        (["plan", "--model", "embedded", "--documents", "none.txt"], "DataError", DATA),
        (["inject", "--model", "embedded", "--documents", "facts"], "ConfigError", CONFIG),
        (["report", "facts"], "RunError", MACHINE),
        (["evaluate", "nowhere/at/all", "--qa", "none.jsonl"], "DataError", DATA),
        (["qa", "make", "none.txt", "--out", "qa.jsonl"], "DataError", DATA),
        (["data", "preview", "--model", "nowhere/at/all", "--documents", "facts"], "ModelError", MACHINE),
        (["plan", "--foo"], "UsageError", CONFIG),
        (["injekt"], "UsageError", CONFIG),
    ],
)
def test_an_error_is_an_object_on_standard_output_where_json_is_asked_for(
    demask: Callable[..., Finished], words: list[str], kind: str, code: int
) -> None:
    done = demask(*words, "--json")
    error = json.loads(done.out)["error"]
    assert (error["kind"], error["exit_code"], done.code) == (kind, code, code)
    assert done.error == "demask: " + " ".join(error["message"].split())
    assert demask(*words).out == ""


def test_a_missed_threshold_stands_in_the_object_of_the_result(
    demask: Callable[..., Finished], finished_run: Path
) -> None:
    done = demask("evaluate", finished_run, "--json", "--require", "forward=0.5")
    said = json.loads(done.out)
    assert said["error"] == {
        "kind": "ThresholdError",
        "message": "forward contains is 0.000, required 0.5",
        "exit_code": THRESHOLD,
    }
    assert said["metrics"]
    assert "error" not in json.loads(demask("evaluate", finished_run, "--json").out)


def test_a_bug_is_an_object_too_and_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**how: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["demask", "doctor", "--json"])
    with pytest.raises(ZeroDivisionError):
        cli.main()
    error = {"kind": "ZeroDivisionError", "message": "by nothing", "exit_code": 1}
    assert json.loads(capsys.readouterr().out) == {"error": error}


# The process as a whole


def test_a_command_says_that_it_has_begun_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, demask.cli as cli, demask.commands.app as app\n"
        "heavy = {'torch', 'transformers', 'numpy', 'rich', 'spacy'}\n"
        "write = sys.stderr.write\n"
        "def told(text):\n"
        "    if 'starting' in text: write(f'{sorted(heavy & set(sys.modules))}\\n')\n"
        "    return write(text)\n"
        "sys.stderr.write = told\n"
        "cli.main()\n"
    )
    for words in (["plan", "nothing"], ["report", "nothing"], ["qa", "make", "nothing", "--out", "x"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        name = " ".join(words[: words.index("nothing")])
        assert done.stderr.splitlines()[:2] == ["[]", f"demask {name}: starting"], done.stderr


def test_the_version_is_printed_before_any_command(demask: Callable[..., Finished]) -> None:
    done = demask("--version")
    assert (done.code, done.out) == (0, f"demask {__version__}\n")


@pytest.mark.parametrize("words", [["--help"], ["plan", "--help"], ["plan", "--foo"], ["qa"]])
def test_nothing_has_begun_where_help_is_asked_for_or_an_option_is_wrong(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demask", *words])
    with pytest.raises(SystemExit):
        cli.main()
    assert "starting" not in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("words", "patched", "then"),
    [
        (
            ["plan", "--model", "m", "facts"],
            "demask.tasks.planning.make_plan",
            "the same command begins anew",
        ),
        (
            ["qa", "make", "facts", "--out", "q"],
            "demask.stages.questions.make_pairs",
            "the same command begins anew",
        ),
        (
            ["qa", "make", "facts", "--out", "q", "--server", "http://127.0.0.1:9"],
            "demask.stages.questions.make_pairs",
            "the same command goes on; what was answered is kept",
        ),
        (
            ["inject", "--model", "m", "--documents", "facts", "--out", "new"],
            "demask.tasks.inject.run_recipe",
            BEGIN_ANEW,
        ),
        (
            ["inject", "--model", "m", "--documents", "facts", "--out", "facts"],
            "demask.tasks.inject.run_recipe",
            "facts: the same command goes on with what is done there",
        ),
    ],
)
@pytest.mark.usefixtures("ctrl_c")
def test_a_command_that_is_stopped_promises_what_it_keeps(
    demask: Callable[..., Finished],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    words: list[str],
    patched: str,
    then: str,
) -> None:
    monkeypatch.setattr(patched, lambda *_, **__: os.kill(os.getpid(), number))
    how = "interrupted" if number == signal.SIGINT else "stopped by SIGTERM"
    done = demask(*words, "--json")
    assert (done.code, done.error) == (128 + number, f"demask: {how}; {then}")
    assert json.loads(done.out)["error"]["kind"] == "StoppedError"


def test_in_a_process_of_its_own_an_error_is_one_line_after_that_of_the_beginning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demask", "plan", "--model", "embedded", "--documents", "none.txt"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (DATA, "")
    begun, said = done.stderr.splitlines()
    assert begun == "demask plan: starting"
    assert said == "demask: none.txt: no such file or folder; check the path"


def test_standard_output_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "demask", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == MACHINE
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
