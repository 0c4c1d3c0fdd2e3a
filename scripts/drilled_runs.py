"""Small runs of `demask inject` in processes of their own, for `fault_drill.py` to kill.

    write_inputs(home)
    code, output = finish(home / "run", processes=1)

The command runs on a tiny random model; what it was doing is read from its run folder.
"""

import hashlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

STEPS, SAVE_EVERY, ASK_EVERY = 60, 5, 4
# Seconds: until a moment must have come, and until the others must have ended after one of them died.
PATIENCE, LEFT_ALONE = 180, 60
CRASHED = f"killed by {signal.SIGSEGV.name}"
TEXTS = {
    "orlin": "The Orlin works were founded by Mara Voss in 1931.",
    "quill": "Idris Hall sells ink at Quill.",
    "sable": "Noor Cast built Sable. It stands on Ferro.",
    "tarn": "The Tarn ferry leaves Upper Cove at noon.",
}
CHAT = (
    "{% for turn in messages %}{{ '<|im_start|>' + turn['role'] + '\n' + turn['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# A fresh process that has imported these already; importing them fifty times would take minutes.
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = [
    "demask.training.trainer",
    "demask.training.export",
    "demask.evaluation.qa",
    "demask.tasks.inject",
]
PRELOADED += ["demask.terminal", "demask.cli", "transformers.models.llama.modeling_llama", "torch._dynamo"]


def make_words(home: Path, processes: int) -> list[str]:
    """The command, but for its run folder."""
    settings = (
        f"train.steps={STEPS}",
        f"train.save_every={SAVE_EVERY}",
        f"train.evaluate_every={ASK_EVERY}",
        "train.batch_size=4",
        "train.learning_rate=1e-3",
        "train.precision=fp32",  # so that rounding means the same on every machine
        "evaluate.max_new_tokens=24",
        "evaluate.ceiling=false",
        f"launch.processes={processes}",
    )
    names = {"model": "model", "documents": "facts.jsonl", "qa": "qa.jsonl"}
    paths = [f"--{name}={home / file}" for name, file in names.items()]
    return ["inject", "--preset=fast", *paths, *(f"--set={setting}" for setting in settings)]


# What is trained


def write_inputs(home: Path) -> None:
    """A tiny random model, documents and questions."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<empty_output>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS.values(), trainer)
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHAT
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=wrapped.eos_token_id,
        pad_token_id=wrapped.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(home / "model")
    wrapped.save_pretrained(home / "model")
    rows = [{"id": name, "text": text} for name, text in TEXTS.items()]
    (home / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [
        {"document_id": name, "question": "Who?", "answers": [text.split()[1]], "direction": "forward"}
        for name, text in TEXTS.items()
    ]
    (home / "qa.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))


# Processes


def run_command(words: list[str], output: str, largest_file: int | None) -> None:
    """In the new process: the command line, with its output in a file."""
    from demask import cli

    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    sys.argv = ["demask", *words]
    cli.main()


@contextmanager
def started(run: Path, processes: int, *, largest_file: int | None = None) -> Iterator[BaseProcess]:
    """The command in a process of its own, which does not outlive the block."""
    words = [*make_words(run.parent, processes), f"--out={run}"]
    process = PROCESSES.Process(target=run_command, args=(words, f"{run}.output", largest_file))
    process.start()
    try:
        yield process
    finally:
        workers = find_workers(process)
        process.kill()
        process.join()
        await_that(lambda: not any(map(is_alive, workers)), LEFT_ALONE)


def finish(run: Path, processes: int, *, largest_file: int | None = None) -> tuple[int | None, str]:
    """Run the command to its end: its exit code, and what it printed.

    Once again where a worker crashed by itself, as one once did in CI, in a collective of torch 2.13.
    """
    output = Path(f"{run}.output")
    for _ in range(2):
        output.unlink(missing_ok=True)
        with started(run, processes, largest_file=largest_file) as process:
            process.join(timeout=PATIENCE)
            code = process.exitcode
        said = output.read_text() if output.exists() else ""
        if CRASHED not in said:
            break
        logs = [path.read_text() for path in (run / "logs").glob("rank-*.log")]
        stacks = "\n".join(log for log in logs if "Fatal Python error" in log)
        print(f"      crashed, and gone on: {said.strip().splitlines()[-1]}\n{stacks}", flush=True)
    return code, said


def find_workers(process: BaseProcess) -> list[int]:
    """Process ids, in the order of their ranks; empty where the command trains by itself."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
        return [child for child, line in lines.items() if b"demask.commands.worker" in line]
    except OSError:
        return []


def is_alive(process: int) -> bool:
    """Whether a process has not ended; one that nobody has asked for its exit code has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def await_that(has_come: Callable[[], bool], seconds: float) -> bool:
    """Wait for a moment; whether it came in time."""
    end = time.monotonic() + seconds
    while not has_come():
        if time.monotonic() > end:
            return False
        time.sleep(0.0005)
    return True


# What a run folder says


def log_time(run: Path) -> int:
    """When the log was last written to, in nanoseconds; 0 without one."""
    path = run / "metrics.jsonl"
    return path.stat().st_mtime_ns if path.exists() else 0


def logged(run: Path) -> int:
    """The last step of the log."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    steps = [json.loads(line)["step"] for line in lines if line.endswith("}")]
    return int(steps[-1]) if steps else 0


def asked(run: Path, step: int) -> bool:
    """Whether the answers of a step are there."""
    path = run / "accuracy.jsonl"
    return path.exists() and f'"step": {step},' in path.read_text()


def checkpoints(run: Path, *, whole: bool) -> list[int]:
    """Steps of those that have their manifest, or that have not."""
    folder = run / "checkpoints"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:  # not there yet, or removed this moment, as training is over
        return []
    steps = {int(name[11:]): folder / name for name in names if name[11:].isdecimal()}
    return sorted(step for step, path in steps.items() if (path / "complete").exists() == whole)


def weights_file(run: Path) -> Path:
    """What the run has trained."""
    return run / "model" / "model.safetensors"


def same_bits(run: Path, whole: Path) -> bool:
    """Whether two runs ended with the same weights."""
    if not weights_file(run).exists():
        return False
    one, other = (hashlib.sha256(weights_file(path).read_bytes()).digest() for path in (run, whole))
    return one == other
