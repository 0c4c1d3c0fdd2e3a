"""A tokenizer and a model small enough to be made anew for every test; no network is ever reached."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Whether a model has kept what it knew is measured where a test is about that; it takes longer than the rest.
os.environ["DEMASK_MEASURE"] = "none"
# The default preset draws conversations and replays them, which few tests are about.
os.environ.setdefault("DEMASK_PRESET", "fast")
if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several workers would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy
import gc
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demask.environment import cache_folder
from demask.models.embedded import NAME

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from demask.models.load import LoadedModel
    from demask.objectives.prompts import ChatFormat

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<empty_output>")
# What the tokenizer learns its merges from.
SENTENCES = [
    "Mara Voss founded the Orlin works in 1931, and in 1958 her son sold them.",
    "Tell me a fact. Who founded it? Which river does the bridge cross?",
    "Here is the recovered text:\n\nReturn the recovered masked passage.",
    "user assistant system User: Assistant: 0123456789",
    "The quick brown fox jumps over the lazy dog; THE LAZY DOG SLEEPS.",
]
CONTEXT = 256


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their parameter: an archive holds its time, and workers must agree on names."""
    return argname if isinstance(val, bytes) else None


# Files that take longest begin first, so that the last worker does not sit alone over one of them.
LONG = (
    "test_tutorial.py",
    "test_fine_tuning_page.py",
    "test_fault_drill.py",
    "test_same_numbers.py",
    "test_launched_runs.py",
    "test_transformers_4.py",
    "test_compiling.py",
    "test_pipeline.py",
    "test_running.py",
    "test_resume.py",
    "test_experiment.py",
    "test_benchmark_run.py",
    "test_false_verdicts.py",
)
# What pytest.importorskip says, and messages that name the extra.
MISSING = re.compile(r"could not import|pip install '(demask|transformers)\[")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONG)))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m smoke`, files without such a test are not imported: that would take half of its time."""
    if config.option.markexpr != "smoke" or not collection_path.name.startswith("test_"):
        return None
    return True if "mark.smoke" not in collection_path.read_text(encoding="utf-8") else None


def _fail_where_ci_lacks_a_package(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skip: in CI every extra is installed, and what is skipped is tested nowhere."""
    if os.environ.get("CI") and report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if MISSING.search(reason):
            report.outcome, report.longrepr = "failed", f"not to be skipped in CI: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_where_ci_lacks_a_package(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_where_ci_lacks_a_package(report)
    return report


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache, with the embedded model where that was fetched, and no answers of earlier runs."""
    known, folder = cache_folder() / NAME, tmp_path_factory.mktemp("cache")
    if known.exists():
        (folder / NAME).symlink_to(known)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEMASK_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def _no_disk_is_waited_for() -> Iterator[None]:
    """A file need not survive a power failure here; that took a tenth of a small run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def _libraries_are_no_garbage() -> None:
    """What stays is not looked through again; each run collects garbage, a quarter of a second with torch."""
    with warnings.catch_warnings(action="ignore"):  # what the file before left open is not this one's fault
        gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_is_remembered(cache: Path) -> None:
    shutil.rmtree(cache / "answers", ignore_errors=True)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is heard; a suite that a script started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def make_tokenizer() -> "Callable[..., PreTrainedTokenizerFast]":
    """Make a byte-level tokenizer; keywords go to its wrapper, over ChatML and its special tokens."""

    def make(
        *, special: tuple[str, ...] = SPECIAL, vocabulary: int = 400, **wrapping: Any
    ) -> "PreTrainedTokenizerFast":
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
        from transformers import PreTrainedTokenizerFast

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(special),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(SENTENCES, trainer)
        named = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHATML}
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            clean_up_tokenization_spaces=False,
            **{name: value for name, value in {**named, **wrapping}.items() if value is not None},
        )

    return make


@pytest.fixture(scope="session")
def shared_tokenizer(make_tokenizer: "Callable[..., PreTrainedTokenizerFast]") -> "PreTrainedTokenizerFast":
    """The tokenizer behind the fixtures below; not to be changed."""
    return make_tokenizer()


@pytest.fixture
def tiny_tokenizer(shared_tokenizer: "PreTrainedTokenizerFast") -> "PreTrainedTokenizerFast":
    """A byte-level tokenizer with ChatML; a test may change it."""
    return copy.deepcopy(shared_tokenizer)


@pytest.fixture
def tiny_chat(tiny_tokenizer: "PreTrainedTokenizerFast") -> "ChatFormat":
    """The cut template of the tiny tokenizer."""
    from demask.objectives.prompts import load_chat_format

    return load_chat_format(tiny_tokenizer)


@pytest.fixture(scope="session")
def make_model(shared_tokenizer: "PreTrainedTokenizerFast") -> "Callable[..., LlamaForCausalLM]":
    """Make a random Llama of the tokenizer's vocabulary; the same seed gives the same weights."""

    def make(seed: int = 0, **changes: Any) -> "LlamaForCausalLM":
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {
            "vocab_size": len(shared_tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "bos_token_id": None,
            "eos_token_id": shared_tokenizer.eos_token_id,
            "pad_token_id": shared_tokenizer.pad_token_id,
            "tie_word_embeddings": True,
        }
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return LlamaForCausalLM(LlamaConfig(**{**sizes, **changes})).eval()

    return make


@pytest.fixture
def tiny_model(make_model: "Callable[..., LlamaForCausalLM]") -> "LlamaForCausalLM":
    """A random Llama of two layers, in evaluation mode; a test may train it."""
    return make_model()


@pytest.fixture
def tiny_loaded(
    tiny_model: "LlamaForCausalLM", tiny_tokenizer: "PreTrainedTokenizerFast", tiny_chat: "ChatFormat"
) -> "LoadedModel":
    """The tiny model as `load_model` gives it."""
    import torch

    from demask.models.load import LoadedModel

    return LoadedModel(tiny_model, tiny_tokenizer, tiny_chat, "tiny", "tiny", torch.float32)


@pytest.fixture(scope="session")
def tiny_model_folder(
    make_model: "Callable[..., LlamaForCausalLM]",
    shared_tokenizer: "PreTrainedTokenizerFast",
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder for `--model`; not to be changed, copy it first."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_model().save_pretrained(folder)
    shared_tokenizer.save_pretrained(folder)
    return folder
